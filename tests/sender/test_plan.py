"""What the worker decides, without any network or time of its own."""

import pytest
from hypothesis import given, strategies as st

from leeward.resilience.retry import RETRY_AFTER_MAX_S, Retry
from leeward.sender import plan
from leeward.sender.plan import Answer, Pace, judge

RETRY = Retry(attempts_max=None, base_s=0.2, cap_s=30.0)


@pytest.mark.parametrize(
    ("status", "decision"),
    [
        (0, plan.RETRY),  # no answer
        (200, plan.RETRY),  # an answer, but not our server's
        (204, plan.RETRY),
        (301, plan.RETRY),
        (400, plan.SET_ASIDE),
        (401, plan.STOP),
        (403, plan.STOP),
        (404, plan.SET_ASIDE),
        (408, plan.RETRY),
        (409, plan.RENAME),
        (413, plan.HALVE),
        (415, plan.SET_ASIDE),
        (422, plan.SET_ASIDE),
        (425, plan.RETRY),
        (429, plan.RETRY),
        (500, plan.RETRY),
        (502, plan.RETRY),
        (503, plan.RETRY),
        (504, plan.RETRY),
        (999, plan.RETRY),
    ],
)
def test_c4_each_answer_means_one_thing(status, decision):
    assert judge(Answer(status, "x"), events=2, renamed=False) == decision


def test_c7_only_an_acknowledgement_delivers():
    assert judge(Answer(200, "", acknowledged=True), events=2, renamed=False) == plan.DELIVERED
    assert judge(Answer(200, "not_ours"), events=2, renamed=False) == plan.RETRY


def test_c5_a_single_event_that_is_too_large_is_set_aside():
    assert judge(Answer(413, "http_413"), events=1, renamed=False) == plan.SET_ASIDE


def test_a_batch_gets_a_fresh_name_once_and_is_then_set_aside():
    assert judge(Answer(409, "http_409"), events=2, renamed=True) == plan.SET_ASIDE


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 1e12)), min_size=1, max_size=80), st.floats(0, 0.999), st.floats(0, 1e6)
)
def test_c6_a_wait_is_never_shorter_than_asked_nor_longer_than_the_limits(asked, chance, now_s):
    pace = Pace()

    for retry_after_s in asked:
        pace = pace.failed(now_s, RETRY, retry_after_s, lambda: chance)
        wait_s = pace.not_before_s - now_s

        assert min(retry_after_s or 0.0, RETRY_AFTER_MAX_S) <= wait_s + 1e-6
        assert wait_s <= RETRY_AFTER_MAX_S + RETRY.cap_s + 1e-6
    assert pace.failures == len(asked)


def test_a_pace_is_frozen():
    with pytest.raises(AttributeError, match="frozen"):
        Pace().failures = 1


@pytest.mark.parametrize("status", [500, 501, 505])
def test_a_batch_that_makes_the_server_fail_is_halved_and_only_one_event_that_does_so_for_long_is_set_aside(status):
    answer = Answer(status, f"http_{status}")
    often = plan.SERVER_ERRORS_MAX

    assert judge(answer, events=2, renamed=False, tries=often - 1, waited_s=1e6) == plan.RETRY
    assert judge(answer, events=2, renamed=False, tries=often) == plan.HALVE
    assert judge(answer, events=1, renamed=False, tries=often, waited_s=plan.SERVER_ERROR_S - 1) == plan.RETRY
    assert judge(answer, events=1, renamed=False, tries=often, waited_s=plan.SERVER_ERROR_S) == plan.SET_ASIDE


@pytest.mark.parametrize("status", [0, 200, 302, 429, 502, 503, 504])
def test_an_outage_is_no_fault_of_the_batch_however_long_it_lasts(status):
    assert judge(Answer(status, "x"), events=2, renamed=False, tries=100_000) == plan.RETRY


@pytest.mark.parametrize("status", [0, 500, 503])
def test_a_client_that_tries_twice_drops_after_the_second(status):
    answer = Answer(status, "x")

    assert judge(answer, events=2, renamed=False, tries=1, tries_max=2) == plan.RETRY
    assert judge(answer, events=2, renamed=False, tries=2, tries_max=2) == plan.DROP


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 409, 413, 429])
def test_a_client_that_tries_twice_drops_at_once_what_no_second_try_mends(status):
    assert judge(Answer(status, "x"), events=2, renamed=False, tries=1, tries_max=2) == plan.DROP


def test_c6_nothing_leaves_before_the_pace_allows_it():
    pace = Pace(1, 13.0)

    assert pace.rest_s(10.0, 10.0, hurry=True) == pytest.approx(3.0)
    assert pace.rest_s(13.5, 10.0, hurry=False) == 0.0
    assert pace.rest_s(13.5, 14.0, hurry=False) == pytest.approx(0.5)


def test_after_an_outage_what_waited_leaves_at_a_walk_until_it_is_caught_up():
    pace = Pace(plan.OUTAGE_FAILURES, 5.0)

    walking = pace.succeeded(10.0, plan.BATCH_EVENTS_MAX, lambda: 0.5)
    walking_on = walking.succeeded(11.0, plan.BATCH_EVENTS_MAX, lambda: 0.5)
    caught_up = walking_on.succeeded(12.0, plan.BATCH_EVENTS_MAX - 1, lambda: 0.5)

    assert walking.rest_s(10.0, 10.0, hurry=False) == pytest.approx(plan.OUTAGE_PACE_S / 2)
    assert walking.rest_s(10.0, 10.0, hurry=True) == 0.0  # somebody waits
    assert walking_on.rest_s(11.0, 11.0, hurry=False) == pytest.approx(plan.OUTAGE_PACE_S / 2)
    assert caught_up.rest_s(12.0, 12.0, hurry=False) == 0.0


def test_a_single_failure_is_no_outage():
    assert Pace(1, 5.0).succeeded(10.0, 100_000, lambda: 0.9).rest_s(10.0, 10.0, hurry=False) == 0.0
