"""When to try again."""

import http.client
import socket
import ssl
from email.utils import formatdate

import pytest
from hypothesis import given, settings, strategies as st

from leeward.errors import RateLimited, Refused, Unavailable
from leeward.resilience.retry import RETRY_AFTER_MAX_S, Retry, may_retry, parse_retry_after, status_of

NOW_S = 1_795_322_741.0


def always(part):
    return lambda: part


def test_the_longest_delay_doubles_with_each_try_up_to_the_cap():
    retry = Retry(base_s=0.2, cap_s=3)

    longest = [retry.delay_s(attempts, None, always(1.0)) for attempts in (1, 2, 3, 4, 5, 6, 1_000_000)]

    assert longest == [0.2, 0.4, 0.8, 1.6, 3, 3, 3]


def test_jitter_is_full_from_nothing_to_the_longest_delay():
    retry = Retry(base_s=0.2, cap_s=8)

    assert [retry.delay_s(3, None, always(part)) for part in (0.0, 0.25, 0.5)] == [0.0, 0.2, 0.4]


def test_c6_a_wish_of_the_other_side_is_a_minimum_and_jitter_comes_on_top():
    retry = Retry(base_s=1, cap_s=8)

    assert retry.delay_s(1, 3.0, always(0.0)) == 3.0
    assert retry.delay_s(1, 3.0, always(0.5)) == 3.5


def test_c6_no_wish_holds_longer_than_five_minutes():
    assert Retry().delay_s(1, 1e9, always(0.0)) == RETRY_AFTER_MAX_S


@given(
    st.integers(-5, 10**9),
    st.none() | st.floats(allow_nan=False),
    st.floats(0, 1, exclude_max=True),
)
def test_c6_a_delay_is_never_negative_nor_beyond_its_limits(attempts, retry_after_s, part):
    delay_s = Retry(base_s=0.5, cap_s=30).delay_s(attempts, retry_after_s, always(part))

    assert 0 <= delay_s <= RETRY_AFTER_MAX_S + 30


def test_attempts_are_counted_with_the_first():
    assert [Retry(attempts_max=3).again(attempts) for attempts in (1, 2, 3, 4)] == [True, True, False, False]
    assert Retry(attempts_max=None).again(10**6)


def test_a_policy_is_a_value_that_cannot_be_changed():
    retry = Retry(attempts_max=5)

    with pytest.raises(AttributeError, match="frozen"):
        retry.attempts_max = 6
    with pytest.raises(AttributeError, match="frozen"):
        del retry.base_s
    assert retry == Retry(attempts_max=5)
    assert retry != Retry(attempts_max=6)
    assert retry != 5
    assert len({retry, Retry(attempts_max=5)}) == 1
    assert repr(retry) == "Retry(attempts_max=5, base_s=0.2, cap_s=8.0, deadline_s=None)"


def test_a_wish_holds_no_longer_than_the_policy_says():
    assert Retry(retry_after_max_s=20).delay_s(1, 50.0, always(0.0)) == 20.0
    assert parse_retry_after("50", NOW_S, max_s=20.0) == 20.0
    assert parse_retry_after(None, NOW_S, header_ms="50000", max_s=20.0) == 20.0


def test_no_try_begins_after_the_deadline():
    retry = Retry(deadline_s=10)

    assert [retry.within(8, delay_s) for delay_s in (0, 1.9, 2, 3)] == [True, True, False, False]
    assert Retry().within(1e9, 1e9)


def test_other_statuses_may_say_later():
    assert may_retry(409, frozenset({409}))
    assert not may_retry(503, frozenset({409}))


@pytest.mark.parametrize(
    ("attribute", "value", "status"),
    [
        ("status", 503, 503),
        ("status_code", 429, 429),
        ("code", 404, 404),
        ("code", "timeout", None),
        ("code", 7, None),
        ("other", 503, None),
    ],
)
def test_a_status_is_found_where_the_usual_libraries_keep_it(attribute, value, status):
    error, wrapped = ValueError(), ValueError()
    setattr(error, attribute, value)
    wrapped.response = error

    assert status_of(error) == status
    assert status_of(wrapped) == status


@pytest.mark.parametrize(
    "wrong",
    [{"attempts_max": 0}, {"base_s": -1}, {"base_s": 9, "cap_s": 8}, {"deadline_s": 0}, {"retry_after_max_s": -1}],
)
def test_a_policy_without_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"is needed|at least one"):
        Retry(**wrong)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_these_statuses_say_later(status):
    assert may_retry(status)


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 408, 409, 413, 422, 501, 505])
def test_all_other_statuses_are_answers(status):
    assert not may_retry(status)


@pytest.mark.parametrize(
    ("error", "later"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (socket.gaierror(), True),
        (ssl.SSLEOFError(), True),
        (http.client.RemoteDisconnected(), True),
        (EOFError(), True),
        (Unavailable("down"), True),
        (RateLimited("slow"), True),
        (Refused("no"), False),
        (ValueError(), False),
    ],
)
def test_network_errors_say_later_and_others_do_not(error, later):
    assert may_retry(error) is later


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        (" 3 ", 3.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("1000000000", 300.0),
        ("1e9", 300.0),
        ("inf", 300.0),
        ("-1", None),
        ("-inf", None),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("Wed, 99 Foo 2026 99:99:99 GMT", None),
        ("Wed, 01 Jan 99999999999 00:00:00 GMT", None),
        ("9" * 100, None),
        (None, None),
        (formatdate(NOW_S + 7, usegmt=True), 7.0),
        (formatdate(NOW_S + 100_000, usegmt=True), 300.0),
        (formatdate(NOW_S - 7, usegmt=True), 0.0),
    ],
)
def test_c6_each_form_of_retry_after_is_understood_or_passed_over(header, seconds):
    assert parse_retry_after(header, NOW_S) == seconds


@pytest.mark.parametrize(
    ("header_ms", "seconds"), [("250", 0.25), ("1e12", 300.0), ("-5", 3.0), ("soon", 3.0), ("9" * 100, 3.0)]
)
def test_c6_milliseconds_are_finer_and_go_first_if_they_make_sense(header_ms, seconds):
    assert parse_retry_after("3", NOW_S, header_ms=header_ms) == seconds


@settings(max_examples=300, deadline=None)
@given(
    st.text()
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,12} \d{1,3}:\d{1,3}:\d{1,3} ([A-Z]{3}|[+-]\d{1,6})"),
)
def test_c6_no_header_raises_or_asks_for_more_than_five_minutes(header):
    seconds = parse_retry_after(header, NOW_S)

    assert seconds is None or 0 <= seconds <= RETRY_AFTER_MAX_S
