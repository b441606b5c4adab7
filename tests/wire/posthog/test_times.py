"""Which time an event gets when the sender's clock is wrong, was never set, or said nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from leeward.wire.posthog.times import AHEAD_MS_MAX, milliseconds, sent_at_of_query, when

NOW = 1_795_322_741_463  # 2026-11-22
SECOND, HOUR, DAY = 1000, 3_600_000, 86_400_000
YEAR = 365 * DAY


def time_of(timestamp, *, sent_at=None, offset=None, historical=False):
    happened, believed = when(timestamp, received_at=NOW, sent_at=sent_at, offset=offset, historical=historical)
    assert believed or happened == NOW
    return happened - NOW


@pytest.mark.parametrize("error", [0, 5 * HOUR, -3 * YEAR, 40 * YEAR, -56 * YEAR])
def test_a_senders_clock_that_is_wrong_is_put_right(error):
    assert time_of(NOW + error - 10 * SECOND, sent_at=NOW + error - SECOND) == -9 * SECOND


def test_a_phone_whose_clock_was_set_between_event_and_sending_does_no_harm():
    in_1970 = 60 * SECOND

    assert time_of(in_1970, sent_at=NOW) == 0, "an event of 1970 happened when it was received"
    assert time_of(NOW - HOUR, sent_at=in_1970) == -HOUR, "and one of today is not moved to 2082"


@pytest.mark.parametrize("unset", [0, 315_532_800_000, 946_684_800_000, 978_307_200_000])
def test_a_clock_that_was_never_set_is_not_believed(unset):
    assert time_of(unset + HOUR) == 0


def test_an_event_kept_for_months_keeps_its_distance():
    assert time_of(NOW - 300 * DAY, sent_at=NOW) == -300 * DAY


def test_old_events_sent_on_purpose_keep_their_time():
    assert time_of(NOW - 3 * YEAR, sent_at=NOW + HOUR) == -3 * YEAR
    assert time_of(NOW - 40 * YEAR, sent_at=NOW + HOUR, historical=True) == -40 * YEAR
    assert time_of(NOW - 10 * SECOND, sent_at=NOW + HOUR, historical=True) == -10 * SECOND


def test_an_offset_is_taken_where_there_are_no_two_times():
    assert time_of(None, offset=5000) == -5000
    assert time_of(NOW - DAY, offset=5000) == -5000
    assert time_of(NOW - DAY, sent_at=NOW - DAY + SECOND, offset=5000) == -SECOND


def test_no_time_at_all_is_the_time_of_receipt():
    assert time_of(None, sent_at=NOW) == 0


def test_the_future_is_believed_for_twenty_three_hours():
    assert time_of(NOW + AHEAD_MS_MAX) == 23 * HOUR
    assert time_of(NOW + AHEAD_MS_MAX + 1) == 0
    assert time_of(NOW + 40 * YEAR, historical=True) == 0


moments = st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(NOW - YEAR, NOW + YEAR)


@given(moments, moments, st.none() | st.integers(0, 2**63 - 1), st.booleans())
def test_every_time_is_one_that_the_store_can_hold(timestamp, sent_at, offset, historical):
    happened, _ = when(timestamp, received_at=NOW, sent_at=sent_at, offset=offset, historical=historical)

    assert -(2**63) <= happened <= NOW + AHEAD_MS_MAX


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T04:45:41.463126+00:00", NOW),
        ("2026-11-22T04:45:41.463Z", NOW),
        ("2026-11-22T05:45:41.463+01:00", NOW),
        ("2026-11-22 04:45:41.463", NOW),
        ("2026-11-22T04:45:41.463126789Z", NOW),
        ("1795322741463", NOW),
        ("1795322741.463", NOW),
        ("1795322741", NOW - 463),
        ("1712010112345", 1_712_010_112_345),
    ],
)
def test_times_are_read_as_senders_write_them(text, expected):
    assert milliseconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "now", "2026-13-01T00:00:00Z", "2026-", "-1", "1e12", "١٢٣٤٥٦٧٨٩", "9" * 30, "12.5.6", "12.x"]
)
def test_what_is_no_time_is_none(text):
    assert milliseconds(text) is None


def test_where_a_zone_is_needed_nothing_without_one_is_a_time():
    assert milliseconds("2026-11-22T04:45:41.463Z", zone_needed=True) == NOW
    assert milliseconds("2026-11-22T04:45:41.463", zone_needed=True) is None
    assert milliseconds("1795322741463", zone_needed=True) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1795322741463", NOW),
        (b"1609459200000", 1_609_459_200_000),
        (b"1609459199999", None),
        (b"1795322741", None),
        (b"60000", None),
        (b"-1", None),
        (b"", None),
        (b"9" * 21, None),
        (b"soon", None),
    ],
)
def test_the_query_says_when_it_was_sent_from_2021_on(text, expected):
    assert sent_at_of_query(text) == expected


@pytest.mark.parametrize("text", ["1.0e999", "1.e400", "999999999999999.9e9", "1.5e300"])
def test_i2_a_number_beyond_all_times_is_none(text):
    assert milliseconds(text) is None
