"""How a service is: the table of levels, what looks are worth, and a model that keeps every sign in a list."""

import itertools
import os
import re
import threading
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from leeward.resilience.health import Health

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "breaker.md"
LOOK_S = 15.0


class Hand:
    """A health and a clock, moved by hand."""

    def __init__(self, **rules):
        self.health = Health(**rules)
        self.now_s = 1000.0

    def calls(self, signs, *, every_s=0.1):
        for sign in signs:
            self.health.seen(sign != "-", self.now_s, slow=sign == "s")
            self.now_s += every_s
        return self

    def looks(self, signs):
        for sign in signs:
            self.now_s += LOOK_S
            self.health.probed(sign == "+", self.now_s)
        return self

    def after(self, seconds):
        self.now_s += seconds
        return self

    def state(self):
        return self.health.state(self.now_s)


def _beside(hand, looks, calls):
    for look in looks:
        hand.calls(calls)
        hand.health.probed(look == "+", hand.now_s)


STARTS = {
    "healthy": Hand,
    "degraded": lambda: Hand().calls("+++++++++-"),
    "unhealthy": lambda: Hand().calls("---"),
}
EVENTS = {
    "a call succeeds": lambda hand: hand.calls("+"),
    "2 failures in a row": lambda hand: hand.calls("--"),
    "3 failures in a row": lambda hand: hand.calls("---"),
    "1 of 10 calls failed": lambda hand: hand.calls("+++++++++-"),
    "half of the calls were slow": lambda hand: hand.calls("+++sss"),
    "3 looks in a row failed, without calls": lambda hand: hand.looks("---"),
    "3 looks in a row failed, beside good calls": lambda hand: _beside(hand, "---", "+"),
    "3 good calls, with the failures still in the window": lambda hand: hand.calls("+++"),
    "3 good calls, with the failures out of the window": lambda hand: hand.after(10).calls("+++"),
    "6 good calls, with the failures out of the window": lambda hand: hand.after(10).calls("++++++"),
    "2 good calls": lambda hand: hand.after(10).calls("++"),
    "3 good looks, without calls": lambda hand: hand.looks("+++"),
    "6 good looks, without calls": lambda hand: hand.looks("++++++"),
    "6 good looks, beside failing calls": lambda hand: _beside(hand, "++++++", "-"),
    "6 good looks, then a call fails": lambda hand: hand.looks("++++++").calls("-"),
    "nothing for 60 s": lambda hand: hand.after(60),
    "nothing for 120 s": lambda hand: hand.after(120),
}


def rows():
    part = PAGE.read_text(encoding="utf-8").partition("## Health\n")[2]
    cells = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in re.findall(r"^\|.*\|$", part, re.MULTILINE)
    ]
    return cells[2:]


@pytest.mark.parametrize(("state", "event", "then"), rows())
def test_each_row_of_the_table_of_levels_is_so(state, event, then):
    hand = STARTS[state]()
    assert hand.state() == state

    EVENTS[event](hand)

    assert hand.state() == then


def test_the_table_of_levels_names_every_event_that_there_is():
    assert {event for _, event, _ in rows()} == set(EVENTS)


def test_a_success_between_failures_begins_the_row_anew():
    assert Hand(min_calls=100).calls("--+--").state() == "healthy"


def test_few_calls_have_no_rate():
    assert Hand().calls("+-++").state() == "healthy"
    assert Hand().calls("+-+-").state() == "healthy"
    assert Hand().calls("+-+-+-").state() == "unhealthy"


def test_a_slow_call_is_no_good_sign_and_no_failure():
    assert Hand().calls("---").after(10).calls("++s++").state() == "unhealthy"
    assert Hand(min_calls=100).calls("--s--").state() == "healthy"


def test_a_degraded_service_whose_calls_stay_slow_does_not_rise():
    hand = Hand().calls("+++sss")

    assert hand.calls("+++").state() == "degraded"  # a third is slow: more than half of what brought it down


def test_it_does_not_flutter_at_the_edge():
    hand = Hand()
    changes = []
    for number in range(2000):  # one call in ten fails, for ever
        hand.calls("-" if number % 10 == 9 else "+")
        changes.append(hand.state())

    assert changes[10:] == ["degraded"] * 1990


def test_a_service_with_one_failure_in_thirty_is_healthy():
    hand = Hand()
    for number in range(300):
        hand.calls("-" if number % 30 == 29 else "+")

    assert hand.state() == "healthy"


def test_g18_a_look_that_says_well_does_not_count_beside_calls_that_fail():
    hand = Hand(min_calls=1000)
    for _ in range(3):
        hand.calls("-", every_s=1.0)
        hand.health.probed(True, hand.now_s)

    assert hand.state() == "unhealthy"


def test_g18_each_lie_of_a_look_doubles_the_looks_that_the_next_rise_needs():
    hand = Hand().calls("---")
    needed = []
    for _ in range(8):
        looks = 0
        while hand.state() == "unhealthy":
            hand.looks("+")
            looks += 1
        needed.append(looks)
        hand.calls("-").after(10.0)

    assert needed == [3, 6, 12, 24, 48, 96, 96, 96]


def test_g18_good_calls_restore_the_trust_in_looks():
    hand = Hand().calls("---").looks("+++").calls("-").looks("++++++").calls("+++").after(10).calls("---")

    assert hand.looks("+++").state() == "degraded"


def test_g18_a_health_check_that_lies_for_a_day_costs_a_few_calls():
    """Green every 15 s, and every call fails. One is made whenever it stands better than unhealthy."""
    for seed in range(100 if HEAVY else 10):
        random = Random(seed)
        hand = Hand().calls("---")
        failed = looks = 0
        end_s = hand.now_s + 86_400
        while hand.now_s < end_s:
            hand.after(1.0)
            if hand.health.is_due(hand.now_s, LOOK_S, random.random):
                looks += 1
                hand.health.probed(True, hand.now_s)
            if hand.state() != "unhealthy":
                failed += 1
                hand.calls("-", every_s=0.0)

        assert failed <= 75, seed  # 3, 6, 12, 24, 48 looks, then one call in 96 of them: 24 minutes
        assert looks <= 86_400 / LOOK_S * 1.1, seed


def test_g18_looks_are_jittered_and_one_at_a_time_and_only_without_traffic():
    health, random = Health(), Random(5)
    due = [second for second in range(2000) if any(health.is_due(second, LOOK_S, random.random) for _ in range(3))]
    gaps = {later - sooner for sooner, later in itertools.pairwise(due)}

    assert due[0] <= LOOK_S
    assert gaps <= set(range(12, 20))
    assert len(gaps) >= 5
    for second in range(2000, 2100):
        health.seen(True, second)
        assert not health.is_due(second, LOOK_S, random.random)


def test_looks_of_many_services_do_not_begin_together():
    random = Random(7)
    services = [Health() for _ in range(100)]
    firsts = [
        next(second for second in range(20) if service.is_due(second, LOOK_S, random.random)) for service in services
    ]

    assert max(firsts.count(second) for second in range(20)) <= 15


def test_a_failed_look_is_a_sign_and_so_nothing_is_forgotten():
    hand = Hand().calls("---")

    assert hand.looks("-" * 20).state() == "unhealthy"


@pytest.mark.parametrize(
    "wrong",
    [
        {"down": 0},
        {"up": 0},
        {"min_calls": 0},
        {"degraded_rate": 0.6},
        {"slow_rate": 0},
        {"window_s": 0},
        {"forget_s": 0},
    ],
)
def test_a_health_without_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"at least 1|are needed|more than 0"):
        Health(**wrong)


def test_threads_that_share_a_health_do_not_break_it():
    health = Health(window_s=0.05)

    def work(seed):
        random = Random(seed)
        for number in range(2000):
            health.seen(random.random() < 0.5, number / 1000)
            health.probed(True, number / 1000)
            assert health.state(number / 1000) in {"healthy", "degraded", "unhealthy"}

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(30):
        health.seen(True, 100 + number)

    assert health.state(200) == "healthy"


def test_g18_a_look_that_fails_is_not_believed_for_a_minute_after_a_good_call():
    health = Health()
    health.seen(True, 0)
    for now_s in range(11, 60, 2):
        health.probed(False, now_s)
    assert health.state(60) == "healthy"
    for now_s in (61, 62, 63):
        health.probed(False, now_s)
    assert health.state(63) == "unhealthy"


class Model:
    """The rules over a list of all calls."""

    def __init__(self):
        self.level, self.good, self.bad, self.calls = 0, 0, 0, []
        self.sign_s = self.seen_s = self.answered_s = -1e9
        self.raised, self.distrust = False, 1

    def forget(self, now_s):
        while self.level and now_s - self.sign_s >= 60:
            self.sign_s += 60
            self.bad = self.good = 0
            self.level -= 1

    def share(self, kind, now_s):
        kept = [sign for number, sign in self.calls if number > int(now_s / 2) - 5]
        return (kept.count(kind) / len(kept) if kept else 0.0), len(kept)

    def seen(self, sign, now_s):
        self.forget(now_s)
        self.sign_s = self.seen_s = now_s
        if sign != "-":
            self.answered_s = now_s
        self.calls.append((int(now_s / 2), sign))
        failed, many = self.share("-", now_s)
        slow, _ = self.share("s", now_s)
        self.bad = self.bad + 1 if sign == "-" else 0
        if sign == "-" and self.raised:
            self.level, self.raised, self.distrust, self.good = 2, False, min(32, self.distrust * 2), 0
            return
        if sign == "-" and self.bad >= 3:
            self.level = 2
        if sign != "+":
            self.good = 0
            if many >= 5 and failed >= 0.5:
                self.level = 2
            elif many >= 5 and not self.level and (failed >= 0.1 or slow >= 0.5):
                self.level = 1
            return
        if self.level or self.raised:
            self.good += 1
        if self.good < 3:
            return
        self.raised, self.distrust = False, 1
        limits = (0.25, 2.0) if self.level == 2 else (0.05, 0.25)
        if self.level and failed < limits[0] and slow < limits[1]:
            self.level -= 1
            self.good = 0

    def probed(self, ok, now_s):
        if now_s - self.seen_s < 10 or (not ok and now_s - self.answered_s < 60):
            return
        self.forget(now_s)
        self.sign_s = now_s
        self.bad = 0 if ok else self.bad + 1
        if not ok:
            self.good = 0
            self.level = 2 if self.bad >= 3 else self.level
        elif self.level:
            self.good += 1
            if self.good >= 3 * self.distrust:
                self.level, self.good, self.raised = self.level - 1, 0, True


class HealthMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.health, self.model, self.now_s = Health(), Model(), 1000.0

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0, 10.0, 15.0, 60.0]))
    def wait(self, seconds):
        self.now_s += seconds

    @rule(signs=st.text(alphabet="+++-s", min_size=1, max_size=12))
    def seen(self, signs):
        for sign in signs:
            self.health.seen(sign != "-", self.now_s, slow=sign == "s")
            self.model.seen(sign, self.now_s)

    @rule(signs=st.text(alphabet="++-", min_size=1, max_size=8))
    def probed(self, signs):
        for sign in signs:
            self.now_s += 10.0
            self.health.probed(sign == "+", self.now_s)
            self.model.probed(sign == "+", self.now_s)

    @invariant()
    def they_agree(self):
        self.model.forget(self.now_s)
        assert self.health.state(self.now_s) == ("healthy", "degraded", "unhealthy")[self.model.level]


TestHealthMachine = HealthMachine.TestCase
TestHealthMachine.settings = settings(max_examples=500 if HEAVY else 60, stateful_step_count=40, deadline=None)
