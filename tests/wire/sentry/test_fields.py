"""Times, ids and levels of Sentry's items."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from leeward.wire.sentry.fields import Request, clean_id, level_of, moment_us, scalar, span_key
from sentry_envelopes import RECEIVED, RECEIVED_AT, SPAN_ID, TRACE_ID, only

DAY_MS = 86_400_000


def time_of(own_ms: int, sent_at=None) -> int:
    """When an event is said to have happened, in milliseconds before its receipt."""
    request = Request(b"", project=1, received_at=RECEIVED_AT, sent_at=sent_at)
    return RECEIVED_AT - request.time_ms(own_ms * 1000)


@pytest.mark.parametrize(
    ("value", "us"),
    [
        ("2026-11-22T04:45:41.845614Z", 1_795_322_741_845_614),
        ("2026-11-22T04:45:41.845614+00:00", 1_795_322_741_845_614),
        ("2026-11-22T05:45:41.845614123+01:00", 1_795_322_741_845_614),
        ("2026-11-22T04:45:41.845614", 1_795_322_741_845_614),
        (1795322741.845614, 1_795_322_741_845_614),
        (1795322741, 1_795_322_741_000_000),
        (0, 0),
        (None, None),
        ("soon", None),
        ("", None),
        ("2026-11-22T04:45:60Z", None),
        ("0001-01-01T00:00:00+23:00", -62_135_679_600_000_000),
        (1e300, None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_a_time_is_seconds_or_rfc_3339(value, us):
    assert moment_us(value) == us


@given(st.floats() | st.integers() | st.text())
def test_i2_no_number_and_no_text_is_too_odd_for_a_time(value):
    us = moment_us(value)
    assert us is None or abs(us) < 10**18


def test_seconds_and_text_of_one_moment_are_one_time():
    """So a span has the same id, whichever form its SDK uses."""
    assert moment_us(1795353485.928359) == moment_us("2026-11-22T13:18:05.928359Z")


def test_a_right_clock_is_left_alone_however_long_the_way_was():
    assert time_of(RECEIVED_AT - 5_000, RECEIVED_AT / 1000 - 59) == 5_000


@pytest.mark.parametrize("off_ms", [-3_600_000, 3_600_000, -400 * DAY_MS, RECEIVED_AT - 600_000])
def test_a_wrong_clock_is_corrected_by_when_it_says_that_it_sent(off_ms):
    sent_at = (RECEIVED_AT - off_ms) / 1000

    assert time_of(RECEIVED_AT - off_ms - 5_000, sent_at) == 5_000


def test_a_clock_that_was_set_right_in_between_is_not_corrected_into_the_future():
    assert time_of(RECEIVED_AT - 5_000, 600.0) == 5_000, "the phone sent in 1970, but knew the time of the event"


def test_a_correction_into_the_far_past_is_none():
    assert time_of(RECEIVED_AT - 10 * DAY_MS, (RECEIVED_AT + 30 * DAY_MS) / 1000) == 10 * DAY_MS


def test_old_events_keep_their_time():
    assert time_of(RECEIVED_AT - 400 * DAY_MS) == 400 * DAY_MS
    assert time_of(RECEIVED_AT - 400 * DAY_MS, RECEIVED_AT / 1000) == 400 * DAY_MS


def test_what_lies_ahead_happened_when_it_came():
    assert time_of(RECEIVED_AT + 59_000) == -59_000
    assert time_of(RECEIVED_AT + 61_000) == 0


def test_what_has_no_time_happened_when_it_came():
    assert only("event", {"message": "m"}).timestamp == RECEIVED_AT
    assert only("event", {"message": "m", "timestamp": "odd"}, sent_at=RECEIVED).timestamp == RECEIVED_AT


@given(st.integers(-(10**13), 10**13), st.none() | st.floats(allow_nan=True))
def test_no_time_lies_more_than_a_minute_ahead(own_ms, sent_at):
    assert time_of(own_ms, sent_at) >= -60_000


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("80FF1E33-5F4A-4921-A4B5-CD54D09ECEE6", "80ff1e335f4a4921a4b5cd54d09ecee6"),
        ("not-hex", "not-hex"),
        ("", ""),
        (None, ""),
        ("x" * 128, "x" * 128),
    ],
)
def test_an_id_is_hex_without_dashes_or_as_it_came(text, cleaned):
    assert clean_id(text) == cleaned


def test_an_id_that_is_too_long_is_a_hash():
    assert len(clean_id("x" * 129)) == 34
    assert clean_id("x" * 129) != clean_id("x" * 130)


def test_a_span_is_known_by_trace_span_and_start():
    assert span_key(TRACE_ID, SPAN_ID, 1_500_000) == f"{TRACE_ID}:{SPAN_ID}:1500000000"
    assert span_key("", SPAN_ID, 1) == span_key(TRACE_ID, "", 1) == span_key(TRACE_ID, SPAN_ID, None) == ""
    assert span_key("x" * 200, SPAN_ID, 1).startswith("h:")


@pytest.mark.parametrize(
    ("word", "severity", "level"),
    [
        ("trace", None, "DEBUG"),
        ("warn", 17, "WARN"),
        ("odd", 17, "ERROR"),
        (None, 1, "DEBUG"),
        (None, 8, "DEBUG"),
        (None, 9, "INFO"),
        (None, 13, "WARN"),
        (None, 24, "FATAL"),
        (None, 0, ""),
        (None, 25, ""),
        (None, float("nan"), ""),
        (None, None, ""),
    ],
)
def test_a_level_is_a_word_or_a_number(word, severity, level):
    assert level_of(word, severity) == level


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), (7, "7"), (1.5, "1.5"), (True, ""), (None, ""), ([], ""), ("x" * 300, "x" * 200)]
)
def test_a_column_takes_texts_and_numbers(value, text):
    assert scalar(value) == text
