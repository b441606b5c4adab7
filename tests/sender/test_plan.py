"""What the worker decides, without any network or time of its own."""

import pytest
from hypothesis import given, strategies as st

from leeward.resilience.retry import RETRY_AFTER_MAX_S, Retry
from leeward.sender import plan
from leeward.sender.plan import Answer, Pace, judge, rest_s

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


def rest(now_s=10.0, *, waiting=1, since_s=10.0, hurry=False, stopped=False, pace=None):
    return rest_s(now_s, waiting=waiting, waiting_since_s=since_s, hurry=hurry, stopped=stopped, pace=pace or Pace())


def test_the_worker_sleeps_without_a_timer_while_nothing_waits():
    assert rest(waiting=0) is None
    assert rest(waiting=0, hurry=True) is None


def test_a_batch_leaves_when_it_is_old_enough_full_or_waited_for():
    assert rest() == pytest.approx(plan.BATCH_AGE_S)
    assert rest(10.0 + plan.BATCH_AGE_S) == 0.0
    assert rest(waiting=plan.BATCH_EVENTS_MAX) == 0.0
    assert rest(hurry=True) == 0.0


def test_c6_nothing_leaves_before_the_pace_allows_it():
    pace = Pace(1, 13.0)

    assert rest(pace=pace, hurry=True) == pytest.approx(3.0)
    assert rest(pace=pace, waiting=10_000) == pytest.approx(3.0)
    assert rest(13.5, pace=pace) == 0.0


def test_c4_a_stopped_worker_sends_nothing():
    assert rest(stopped=True, waiting=10_000, hurry=True) is None
