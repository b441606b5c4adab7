"""What a key may spend in the gateway: requests a minute, tokens and US dollars a day, across restarts and clocks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from control_helpers import HeldClock
from leeward.errors import QuotaExceeded, RateLimited
from leeward.server.quotas import UNLIMITED, Quota
from leeward.server.spend import COUNT_MAX, Spend, Spent
from leeward.server.windows import DAY_MS, MINUTE_MS

MIDNIGHT = 20_000 * DAY_MS


class Reports(list):
    def __call__(self, event, fields):
        self.append((event, fields))


@pytest.fixture
def clock():
    clock = HeldClock()
    clock.now_ms = MIDNIGHT
    return clock


@pytest.fixture
def reports():
    return Reports()


@pytest.fixture
def spend(tmp_path, clock, reports):
    return Spend(tmp_path / "spend.json", clock=clock, report=reports)


def refused(spend, quota, key_id="k"):
    """The refusal, or None when the request was admitted."""
    try:
        spend.admit(key_id, quota)
    except QuotaExceeded as error:
        return error
    return None


# Requests


def test_g22_a_tight_loop_with_one_key_gets_its_requests_of_a_minute_and_no_more(spend, clock):
    quota = Quota(requests_per_minute=60)

    admitted = sum(refused(spend, quota) is None for _ in range(1000))

    assert admitted == 60
    clock.now_ms += MINUTE_MS - 1
    assert refused(spend, quota).retry_after_s == 0.001
    clock.now_ms += 1
    assert refused(spend, quota) is None


def test_the_refusal_of_requests_is_a_429_that_says_which_limit_and_how_to_raise_it(spend, clock):
    quota = Quota(requests_per_minute=1000)
    for _ in range(1000):
        spend.admit("k_7", quota)
    clock.now_ms += 12_500

    error = refused(spend, quota, "k_7")

    assert isinstance(error, RateLimited)
    assert error.message == "This key has used its 1,000 requests of this minute"
    assert (error.code, error.retry_after_s) == ("rate_limit_exceeded", 47.5)
    assert error.fix == "leeward keys set-quota k_7 --requests-per-minute N"


def test_a_request_that_is_refused_is_not_counted(spend):
    spend.count("k", 5, None)

    assert refused(spend, Quota(requests_per_minute=1, tokens_per_day=5)) is not None
    assert refused(spend, Quota(requests_per_minute=1)) is None


@pytest.mark.parametrize("quota", [None, UNLIMITED, Quota(per_minute=1, per_day=1)])
def test_a_key_without_such_a_limit_is_always_admitted(spend, quota):
    spend.count("k", 10**12, 10**6)

    assert [refused(spend, quota) for _ in range(3)] == [None] * 3


# Tokens and dollars


@pytest.mark.parametrize(
    ("quota", "tokens", "usd", "is_refused"),
    [
        (Quota(tokens_per_day=1000), 999, None, False),
        (Quota(tokens_per_day=1000), 1000, None, True),
        (Quota(usd_per_day=2.5), 10**9, 2.49, False),
        (Quota(usd_per_day=2.5), 0, 2.5, True),
        (Quota(usd_per_day=2.5), 10**9, None, False),
        (Quota(usd_per_day=0.0), 0, None, True),
    ],
)
def test_g22_a_key_that_has_used_up_its_day_is_refused_until_it_ends(spend, clock, quota, tokens, usd, is_refused):
    spend.count("k", tokens, usd)

    error = refused(spend, quota)

    assert (error is not None) == is_refused
    if error is not None:
        assert (error.code, error.retry_after_s) == ("spend_limit_reached", 60.0)
        clock.now_ms += DAY_MS - 500
        assert refused(spend, quota).retry_after_s == 0.5
        clock.now_ms += 500
        assert (refused(spend, quota) is None) == (quota.usd_per_day != 0)


@pytest.mark.parametrize(
    ("quota", "message", "option"),
    [
        (Quota(tokens_per_day=1000), "This key has used its 1,000 tokens of this day (UTC)", "tokens-per-day"),
        (Quota(usd_per_day=1.5), "This key has used its 1.50 US dollars of this day (UTC)", "usd-per-day"),
    ],
)
def test_the_refusal_of_a_days_limit_says_which_it_is_and_how_to_raise_it(
    spend, clock, reports, quota, message, option
):
    spend.count("k_7", 1000, 1.5)
    error = refused(spend, quota, "k_7")
    assert (error.message, error.fix) == (message, f"leeward keys set-quota k_7 --{option} N")

    without_database = Spend(None, clock=clock, report=reports)
    without_database.count("app", 1000, 1.5)
    fix = refused(without_database, quota, "app").fix
    assert fix == f"raise {option.replace('-', '_')} of the key under [[server.keys]]"


def test_many_small_sums_are_counted_exactly(spend):
    for _ in range(10_000):
        spend.count("k", 1, 0.000_000_15)  # one token of a cheap model

    assert spend.spent("k") == Spent(0, 10_000, 0.0015)


@pytest.mark.parametrize("usd", [float("nan"), float("inf"), -5.0, 1e300])
def test_whatever_a_provider_says_the_counts_only_grow_and_can_be_kept(tmp_path, clock, reports, spend, usd):
    spend.count("k", 7, 1.0)
    spend.count("k", -5, usd)
    assert spend.spent("k").tokens == 7
    spend.count("k", 10**30, usd)
    spend.stop()

    again = Spend(tmp_path / "spend.json", clock=clock, report=reports)
    again.load()

    assert reports == []
    assert again.spent("k").tokens == COUNT_MAX
    assert again.spent("k").usd >= 1.0


def test_keys_do_not_use_up_each_others_limits(spend):
    quota = Quota(requests_per_minute=1, tokens_per_day=5)
    spend.admit("k_1", quota)
    spend.count("k_1", 5, None)

    assert refused(spend, quota, "k_1") is not None
    assert refused(spend, quota, "k_2") is None


def test_a_limit_that_is_set_at_noon_counts_the_morning(spend, clock):
    spend.admit("k", None)
    spend.count("k", 500, 1.0)
    clock.now_ms += DAY_MS // 2

    assert refused(spend, Quota(tokens_per_day=500)) is not None


# Restarts and clocks


def test_a_restart_gives_no_day_anew(tmp_path, clock, reports, spend):
    spend.admit("k", Quota(requests_per_minute=5))
    spend.count("k", 7, 0.25)
    spend.stop()

    again = Spend(tmp_path / "spend.json", clock=clock, report=reports)
    again.load()

    assert again.spent("k") == Spent(0, 7, 0.25)
    assert json.loads((tmp_path / "spend.json").read_bytes()) == {
        "format": 1,
        "used": [["k", [20_000, 7, 250_000_000]]],
    }
    clock.now_ms += DAY_MS
    assert again.spent("k") == Spent()
    assert reports == []


def test_without_a_data_directory_all_is_counted_in_memory_alone(tmp_path, clock, reports, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spend = Spend(None, clock=clock, report=reports)
    spend.load()
    spend.start()  # needs no event loop: there is nothing to save
    spend.count("k", 7, 0.25)
    assert spend.spent("k") == Spent(0, 7, 0.25)

    spend.stop()

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_counts_something_else_is_set_aside(tmp_path, clock, reports):
    for used in ([["k", [20_000, 7]]], [["k", [20_000, 7, 7, 7]]], [["k", [20_000]]], [["k", []]]):
        (tmp_path / "spend.json").write_text(json.dumps({"format": 1, "used": used}))

        spend = Spend(tmp_path / "spend.json", clock=clock, report=reports)
        spend.load()

        assert spend.spent("k") == Spent()
        assert [event for event, _ in reports] == ["spend_set_aside"]
        reports.clear()


@given(
    course=st.lists(
        st.tuples(st.integers(-3 * DAY_MS, 3 * DAY_MS) | st.integers(-2000, 2000), st.integers(0, 4)), max_size=60
    )
)
def test_w16_however_the_clock_jumps_what_was_spent_falls_only_where_it_went_on(course):
    clock = HeldClock()
    clock.now_ms = MIDNIGHT
    spend = Spend(None, clock=clock, report=Reports())
    before = Spent()
    for step_ms, tokens in course:
        earlier_ms, clock.now_ms = clock.now_ms, max(0, clock.now_ms + step_ms)
        now = spend.spent("k")
        if clock.now_ms // DAY_MS <= earlier_ms // DAY_MS:
            assert (now.tokens, now.usd) == (before.tokens, before.usd)
        if clock.now_ms // MINUTE_MS <= earlier_ms // MINUTE_MS:
            assert now.requests == before.requests
        spend.admit("k", Quota(requests_per_minute=1000))
        spend.count("k", tokens, tokens / 8)
        before = spend.spent("k")
        assert before == Spent(now.requests + 1, now.tokens + tokens, now.usd + tokens / 8)
