"""How many repeats are affordable."""

import os
import threading

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from leeward.resilience.budget import RetryBudget

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"


def test_g5_in_an_outage_one_request_in_ten_is_repeated_and_a_few_more():
    budget = RetryBudget()
    repeats = 0
    for number in range(10_000):  # a hundred seconds in which everything fails, and everybody would ask twice more
        budget.request()
        repeats += budget.take(number / 100) + budget.take(number / 100)

    assert 1_000 <= repeats <= 1_000 + 3 + 10
    assert budget.statistics()[1:] == (10_000, repeats, 20_000 - repeats)


def test_a_quiet_program_has_its_few_repeats_and_gets_them_back_by_time():
    budget = RetryBudget()

    assert [budget.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [budget.take(105.0), budget.take(110.0), budget.take(111.0)] == [False, True, False]
    assert [budget.take(10_000.0) for _ in range(4)] == [True, True, True, False]


def test_g5_a_long_calm_saves_up_no_more_than_the_limit():
    budget = RetryBudget(tokens_max=20)
    for _ in range(100_000):
        budget.request()

    assert sum(budget.take(0.0) for _ in range(100)) == 20


def test_without_a_ratio_and_a_floor_nothing_is_repeated():
    budget = RetryBudget(0.0, floor=0.0)
    for _ in range(100):
        budget.request()

    assert not budget.take(1e9)


def test_a_repeat_that_was_not_made_is_given_back():
    budget = RetryBudget(floor=1.0, floor_per_s=0.0)
    assert budget.take(0.0)
    budget.give_back()

    assert budget.take(0.0)
    assert budget.statistics().taken == 1


def test_time_that_goes_back_brings_nothing():
    budget = RetryBudget(1.0, floor=1.0, floor_per_s=1.0)
    budget.request()
    budget.request()
    assert [budget.take(now_s) for now_s in (100.0, 50.0, 50.0)] == [True, True, True]

    assert not budget.take(100.0)
    assert not budget.take(100.5)
    assert budget.take(101.0)


@pytest.mark.parametrize("wrong", [{"ratio": -0.1}, {"ratio": 1.1}, {"floor": -1}, {"floor_per_s": -1}])
def test_a_budget_without_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"share of the requests|0 or more"):
        RetryBudget(**wrong)


def test_threads_that_share_a_budget_take_no_more_than_there_is():
    budget = RetryBudget(floor=500.0, floor_per_s=0.0)
    taken = []
    threads = [
        threading.Thread(target=lambda: taken.append(sum(budget.take(0.0) for _ in range(200)))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(taken) == 500


class BudgetMachine(RuleBasedStateMachine):
    """Against the promise itself: all that was taken since any moment is covered by what that time brought."""

    RATIO, FLOOR, FLOOR_PER_S, MAX = 0.25, 2.0, 0.125, 6.0  # exact in binary

    def __init__(self):
        super().__init__()
        self.budget = RetryBudget(self.RATIO, floor=self.FLOOR, floor_per_s=self.FLOOR_PER_S, tokens_max=self.MAX)
        self.now_s = 0.0
        self.started = False
        self.tokens = self.FLOOR
        self.log = [(0.0, 0, 0)]  # time, requests, taken
        self.requests = self.taken = self.refused = 0

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.0, 64.0, 0.5]))
    def wait(self, seconds):
        self.now_s += seconds
        if self.started:  # by then time alone has brought it, however often anybody asks
            self.tokens = max(self.tokens, min(self.FLOOR, self.tokens + seconds * self.FLOOR_PER_S))

    @rule(times=st.integers(1, 30))
    def request(self, times):
        self.budget.take(self.now_s) and self.budget.give_back()  # brings the budget's own clock up to now
        self.refused += self.tokens < 1
        self.started = True
        for _ in range(times):
            self.budget.request()
            self.tokens = min(self.MAX, self.tokens + self.RATIO)
        self.requests += times

    @rule()
    def take(self):
        took = self.budget.take(self.now_s)
        self.started = True
        assert took == (self.tokens >= 1)
        self.tokens -= took
        self.taken += took
        self.refused += not took
        self.log.append((self.now_s, self.requests, self.taken))

    @invariant()
    def they_agree(self):
        assert self.budget.statistics()[1:] == (self.requests, self.taken, self.refused)

    @invariant()
    def the_promise_holds_from_every_moment_on(self):
        for at_s, requests, taken in self.log:
            brought = self.RATIO * (self.requests - requests) + self.FLOOR_PER_S * (self.now_s - at_s)
            assert self.taken - taken <= self.MAX + brought


TestBudgetMachine = BudgetMachine.TestCase
TestBudgetMachine.settings = settings(max_examples=300 if HEAVY else 40, stateful_step_count=40, deadline=None)
