"""Who is asked next: the plan against a small model of its promises, without sockets and with time in the hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, strategies as st

from leeward.gateway.outcomes import UNTRANSLATABLE, Outcome
from leeward.gateway.plan import Admission, Send, Sleep, plan
from leeward.resilience.retry import Retry

NOW_S = 1000.0
FINAL = {"ok", "refused", "cut"}


@dataclass(eq=False)
class Target:
    """As much of a target as the plan looks at."""

    name: str
    first_token_s: float = 30.0
    repeatable: bool = True
    lacking: str = ""

    def lacks(self, request):
        return self.lacking


@dataclass
class Doors:
    """Circuits with a timetable: until when each is shut, and why. Counts permits."""

    shut: dict[Target, tuple[str, float]] = field(default_factory=dict)
    forced: Target | None = None
    out: dict[int, Target] = field(default_factory=dict)
    settled: list[tuple[str, str]] = field(default_factory=list)
    lent: int = 0

    def order(self, targets, now_s):
        return list(targets)

    def wait_s(self, target, now_s):
        return max(0.0, self.shut.get(target, ("", 0.0))[1] - now_s)

    def admit(self, target, now_s):
        wait_s = self.wait_s(target, now_s)
        if wait_s > 0:
            return Admission(None, self.shut[target][0], wait_s)
        return Admission(self.lend(target))

    def force(self, targets, now_s):
        if self.forced is None or self.forced not in targets:
            return None
        return self.forced, self.lend(self.forced)

    def settle(self, target, permit, outcome):
        assert self.out.pop(permit) is target, "each permit is settled once, with its own target"
        self.settled.append((target.name, outcome.kind))
        if outcome.kind == "rate_limited":
            self.shut[target] = ("limited", outcome.at_s + (outcome.retry_after_s or 0.0))

    def lend(self, target):
        self.lent += 1
        self.out[self.lent] = target
        return self.lent


class Run:
    """A plan that is driven by a list of outcomes; keeps what it asked for."""

    def __init__(self, targets, doors, script, *, retry=None, budget=100, deadline_s=60.0, random=lambda: 0.5):
        self.doors = doors
        self.now_s = NOW_S
        self.deadline_s = NOW_S + deadline_s
        self.steps: list[Send | Sleep] = []
        self.asked: list[tuple[str, bool, float]] = []
        self.taken = 0
        self.budget = budget
        self.script = iter(script)
        self.plan = plan(
            targets,
            None,
            doors,
            retry or Retry(attempts_max=3, base_s=0.2, cap_s=8.0),
            take_budget=self.take,
            give_back=self.give_back,
            random=random,
            now_s=self.now_s,
            deadline_s=self.deadline_s,
        )

    def take(self, now_s):
        assert now_s == self.now_s
        if self.taken == self.budget:
            return False
        self.taken += 1
        return True

    def give_back(self):
        self.taken -= 1

    def outcome(self, send):
        kind, took_s, *more = next(self.script, ("ok", 0.01))
        self.now_s = min(self.now_s + took_s, send.end_by_s)
        return Outcome(kind, at_s=self.now_s, **(more[0] if more else {}))

    def go(self):
        told = None
        while True:
            try:
                step = self.plan.send(told)
            except StopIteration as end:
                return end.value
            self.steps.append(step)
            if isinstance(step, Send):
                self.asked.append((step.target.name, step.repeat, self.now_s))
                told = self.outcome(step)
            else:
                self.now_s += step.seconds
                told = self.now_s

    @property
    def names(self):
        return [name for name, _, _ in self.asked]


def verdict_of(targets, script, **options):
    doors = options.pop("doors", Doors())
    run = Run(targets, doors, script, **options)
    verdict = run.go()
    assert doors.out == {}, "every permit is settled"
    return verdict, run


A, B, C = Target("a"), Target("b"), Target("c")
LATER = {"repeatable": True}


# -- who is asked


def test_the_first_that_answers_ends_it():
    verdict, run = verdict_of([A, B], [("ok", 1.0)])
    assert (verdict.kind, verdict.target, run.names) == ("ok", A, ["a"])


@pytest.mark.parametrize("kind", ["server_error", "timeout", "network", "bad_answer", "credentials", "rate_limited",
                                  "unavailable_model", "busy"])  # fmt: skip
def test_a_provider_that_fails_is_left_at_once_for_the_next(kind):
    verdict, run = verdict_of([A, B], [(kind, 0.1), ("ok", 0.1)])
    assert (verdict.kind, verdict.target, run.names) == ("ok", B, ["a", "b"])
    assert not any(isinstance(step, Sleep) for step in run.steps)
    assert run.taken == 0, "the first try elsewhere is free"


@pytest.mark.parametrize("kind", sorted(FINAL))
def test_what_no_other_can_better_is_the_end(kind):
    verdict, run = verdict_of([A, B], [(kind, 0.1)])
    assert (verdict.kind, run.names) == (kind, ["a"])


def test_who_cannot_translate_the_request_is_passed_over_and_has_the_word_only_alone():
    told = {"detail": UNTRANSLATABLE}
    verdict, run = verdict_of([A, B], [("refused", 0.0, told), ("ok", 0.1)])
    assert (verdict.kind, run.names) == ("ok", ["a", "b"])
    verdict, _ = verdict_of([A, B], [("server_error", 0.1), ("refused", 0.0, told)])
    assert (verdict.kind, verdict.target) == ("failed", A)
    verdict, _ = verdict_of([A], [("refused", 0.0, told)])
    assert verdict.kind == "refused"


def test_who_cannot_do_it_is_not_asked():
    blind = Target("blind", lacking="images")
    verdict, run = verdict_of([blind, B], [])
    assert run.names == ["b"]
    verdict, run = verdict_of([blind], [])
    assert (verdict.kind, verdict.need, run.names) == ("unsupported", "images", [])


# -- when nobody may be asked


def test_when_all_are_limited_nobody_is_asked_and_the_shortest_wait_is_told():
    doors = Doors({A: ("limited", NOW_S + 20), B: ("limited", NOW_S + 10)}, forced=A)
    verdict, run = verdict_of([A, B], [], doors=doors)
    assert (verdict.kind, verdict.wait_s, run.steps) == ("limited", 10.0, [])


@pytest.mark.parametrize("why", ["open", "limited"])
def test_when_one_is_open_and_nobody_else_may_be_asked_it_gets_a_probe(why):
    doors = Doors({A: ("open", NOW_S + 20), B: (why, NOW_S + 10)}, forced=A)
    verdict, run = verdict_of([A, B], [("ok", 0.1)], doors=doors)
    assert (verdict.kind, run.asked) == ("ok", [("a", False, NOW_S)])
    assert run.taken == 0, "a probe is no repeat"
    doors = Doors({A: ("open", NOW_S + 20), B: (why, NOW_S + 10)}, forced=A)
    verdict, run = verdict_of([A, B], [("server_error", 0.1, LATER)], doors=doors)
    assert (verdict.kind, run.names) == ("failed", ["a"])


def test_without_a_probe_the_shortest_wait_is_told():
    doors = Doors({A: ("open", NOW_S + 20), B: ("limited", NOW_S + 10)})
    verdict, run = verdict_of([A, B], [], doors=doors)
    assert (verdict.kind, verdict.wait_s, run.steps) == ("open", 10.0, [])


def test_the_smallest_retry_after_is_told_also_of_those_that_were_not_asked():
    doors = Doors({B: ("limited", NOW_S + 3)})
    verdict, _ = verdict_of([A, B], [("rate_limited", 0.1, {"retry_after_s": 20.0})], doors=doors)
    assert verdict.kind == "limited"
    assert verdict.wait_s == pytest.approx(2.9)


# -- repeats


def test_a_repeat_comes_after_everybody_was_asked_and_waits_for_the_shortest():
    script = [("server_error", 0.1, LATER), ("rate_limited", 0.1, {**LATER, "retry_after_s": 3.0}), ("ok", 0.1)]
    verdict, run = verdict_of([A, B], script)
    assert (verdict.kind, run.names) == ("ok", ["a", "b", "a"])
    assert run.taken == 1


def test_a_wait_counts_from_the_answer_that_asked_for_it():
    script = [
        ("rate_limited", 0.0, {**LATER, "retry_after_s": 2.0}),
        ("rate_limited", 0.0, {**LATER, "retry_after_s": 5.0}),
        ("timeout", 4.0),
        ("ok", 0.1),
    ]
    _, run = verdict_of([A, B], script, random=lambda: 0.0)
    assert run.asked[2:] == [("a", True, NOW_S + 2.0), ("b", True, NOW_S + 6.0)]
    assert sum(isinstance(step, Sleep) for step in run.steps) == 1, "the second wait was over by then"


def test_a_retry_after_beyond_the_longest_delay_is_not_waited_for():
    verdict, run = verdict_of([A], [("rate_limited", 0.1, {**LATER, "retry_after_s": 20.0})])
    assert (verdict.kind, verdict.wait_s, run.names) == ("limited", 20.0, ["a"])


def test_without_budget_nobody_is_asked_twice():
    verdict, run = verdict_of([A, B], [("server_error", 0.1, LATER)] * 9, budget=0)
    assert (verdict.kind, run.names) == ("failed", ["a", "b"])


def test_one_whose_circuit_opened_in_the_meantime_leaves_its_repeat_to_another():
    class Opening(Doors):
        def settle(self, target, permit, outcome):
            super().settle(target, permit, outcome)
            if target is A:
                self.shut[A] = ("open", NOW_S + 100)

    script = [("server_error", 0.1, LATER), ("server_error", 0.1, LATER), ("ok", 0.1)]
    verdict, run = verdict_of([A, B], script, doors=Opening())
    assert (verdict.kind, run.names) == ("ok", ["a", "b", "b"])
    assert run.taken == 1, "what was not asked costs nothing"


def test_g7_when_our_own_connections_are_all_in_use_it_is_told_as_that():
    verdict, run = verdict_of([A, B], [("busy", 0.0)] * 2)
    assert (verdict.kind, verdict.wait_s, run.names) == ("open", 1.0, ["a", "b"])


def test_one_that_could_not_be_asked_before_comes_before_any_repeat():
    doors = Doors({B: ("open", NOW_S + 1)})
    script = [("rate_limited", 0.0, {**LATER, "retry_after_s": 2.0}), ("ok", 0.1)]
    verdict, run = verdict_of([A, B], script, doors=doors)
    assert (verdict.kind, run.names) == ("ok", ["a", "b"])
    assert not run.asked[1][1]
    assert run.taken == 0, "what was paid for a repeat that was not made is given back"


def test_one_that_could_not_be_asked_at_first_is_asked_when_its_time_is_over_though_nobody_may_be_repeated():
    doors = Doors({A: ("open", NOW_S + 5)})
    verdict, run = verdict_of([A, B], [("timeout", 30.0), ("ok", 0.1)], doors=doors)
    assert (verdict.kind, run.names) == ("ok", ["b", "a"])


def test_g19_one_that_is_not_repeatable_is_asked_once():
    once = Target("once", repeatable=False)
    _, run = verdict_of([once], [("server_error", 0.1, LATER)] * 3)
    assert run.names == ["once"]
    _, run = verdict_of([A], [("timeout", 0.1)] * 3)
    assert run.names == ["a"]


# -- time


def test_g4_each_that_is_still_to_come_keeps_a_share_of_the_time():
    hasty = [Target(name, first_token_s=30.0) for name in "abc"]
    _, run = verdict_of(hasty, [("timeout", 100.0)] * 3, deadline_s=30.0)
    ends = [step.end_by_s - NOW_S for step in run.steps]
    assert ends == [10.0, 20.0, 30.0]


def test_a_long_deadline_leaves_the_others_what_they_would_wait_and_the_first_the_rest():
    _, run = verdict_of([A, B], [("timeout", 1000.0)], deadline_s=600.0)
    send = run.steps[0]
    assert (send.first_by_s, send.end_by_s) == (NOW_S + 30.0, NOW_S + 570.0)


def test_when_the_time_is_over_nobody_is_asked_any_more():
    verdict, run = verdict_of([A, B, C], [("timeout", 20.0), ("timeout", 20.0), ("timeout", 20.0)], deadline_s=60.0)
    assert (verdict.kind, run.names) == ("timeout", ["a", "b", "c"])
    verdict, run = verdict_of([A], [("server_error", 60.0, LATER)])
    assert verdict.kind == "timeout"


def test_a_repeat_that_would_come_too_late_is_none():
    script = [("rate_limited", 55.0, {**LATER, "retry_after_s": 6.0})]
    verdict, run = verdict_of([A], script)
    assert (verdict.kind, run.names, run.taken) == ("limited", ["a"], 0)


# -- the caller is gone


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_g8_a_plan_that_is_closed_early_gives_its_permit_back(steps):
    doors = Doors()
    run = Run([A, B], doors, [("server_error", 0.1, LATER)] * 9)
    told = None
    for _ in range(steps):
        step = run.plan.send(told)
        told = run.outcome(step) if isinstance(step, Send) else run.now_s
    run.plan.close()
    assert doors.out == {}
    if steps < 3:
        assert doors.settled[-1][1] == "cancelled"


# -- all of it against the model

kinds = st.sampled_from(
    ["ok", "server_error", "rate_limited", "timeout", "network", "bad_answer", "credentials", "refused", "cut"]
)
outcomes = st.tuples(
    kinds,
    st.floats(0, 30),
    st.fixed_dictionaries(
        {"repeatable": st.booleans(), "retry_after_s": st.none() | st.floats(0, 12)},
    ),
) | st.just(("refused", 0.0, {"detail": UNTRANSLATABLE}))
targets = st.lists(
    st.builds(
        Target,
        st.uuids().map(str),
        first_token_s=st.floats(0.1, 60),
        repeatable=st.booleans(),
        lacking=st.sampled_from(["", "", "", "tools"]),
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def situations(draw):
    given_targets = draw(targets)
    whys = st.sampled_from(["open", "limited"])
    shut = {
        target: (draw(whys), NOW_S + draw(st.floats(0.01, 40)))
        for target in given_targets
        if draw(st.integers(0, 2)) == 0
    }
    forced = draw(st.none() | st.sampled_from(given_targets))
    if forced is not None and shut.get(forced, ("",))[0] != "open":
        forced = None
    return given_targets, Doors(shut, forced), draw(st.lists(outcomes, max_size=14))


class Watched(Run):
    """Checks each step as it comes."""

    def __init__(self, targets, doors, script, **options):
        super().__init__(targets, doors, script, **options)
        self.targets = targets
        self.tries: dict[Target, list[Outcome]] = {}
        self.over = False

    def give_back(self):
        self.taken -= 1

    def outcome(self, send):
        target, now_s = send.target, self.now_s
        assert not self.over, "nothing comes after a final outcome"
        assert target.lacking == ""
        assert now_s < self.deadline_s
        assert now_s <= send.first_by_s <= send.end_by_s <= self.deadline_s
        assert send.first_by_s <= now_s + target.first_token_s
        tries = self.tries.setdefault(target, [])
        assert send.repeat == bool(tries)
        others = [each for each in self.targets if not each.lacking and each is not target and each not in self.tries]
        if send.repeat:
            last = tries[-1]
            assert last.repeatable
            assert target.repeatable
            assert len(tries) < 3
            assert now_s >= last.at_s + (last.retry_after_s or 0.0) - 1e-9
            assert all(self.doors.wait_s(other, now_s) > 0 for other in others), "first everybody else"
        elif not self.tries_made():
            waiting = [other for other in others if self.targets.index(other) > self.targets.index(target)]
            if waiting and target is not self.doors.forced:
                assert send.end_by_s < self.deadline_s, "a share stays for the next"
        assert target is self.doors.forced or self.doors.wait_s(target, now_s) == 0
        found = super().outcome(send)
        tries.append(found)
        self.over = found.is_final
        return found

    def tries_made(self):
        return sum(map(len, self.tries.values()))


@given(situations(), st.integers(0, 5), st.floats(0.1, 120), st.floats(0, 0.99))
def test_the_plan_keeps_its_promises(situation, budget, deadline_s, chance):
    given_targets, doors, script = situation
    open_at_first = [target for target in given_targets if not target.lacking and not doors.wait_s(target, NOW_S)]
    run = Watched(given_targets, doors, script, budget=budget, deadline_s=deadline_s, random=lambda: chance)
    verdict = run.go()
    assert doors.out == {}, "every permit is settled, once"
    assert doors.lent == len(run.asked) == len(doors.settled)
    assert run.taken == sum(repeat for _, repeat, _ in run.asked) <= budget
    assert run.now_s <= run.deadline_s + 1e-6
    assert sum(step.seconds for step in run.steps if isinstance(step, Sleep)) <= deadline_s
    ends = [tries[-1] for tries in run.tries.values()]
    finals = [end for end in ends if end.is_final]
    if finals:
        assert verdict.kind == finals[0].kind
    elif not run.asked:
        assert verdict.kind in {"open", "limited", "unsupported"}
    else:
        assert verdict.kind in {"failed", "timeout", "limited", "refused"}
        if run.now_s < run.deadline_s:
            assert {target.name for target in open_at_first} <= set(run.names), "whoever may be asked is asked"


@given(situations(), st.integers(1, 10))
def test_closed_at_any_step_no_permit_is_lost(situation, steps):
    given_targets, doors, script = situation
    run = Run(given_targets, doors, script, deadline_s=60.0)
    told = None
    try:
        for _ in range(steps):
            step = run.plan.send(told)
            if isinstance(step, Send):
                told = run.outcome(step)
            else:
                run.now_s += step.seconds
                told = run.now_s
    except StopIteration:
        pass
    run.plan.close()
    assert doors.out == {}
    assert doors.lent == len(doors.settled)
