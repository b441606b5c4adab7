"""Who is asked next, and for how long. A generator that knows no sockets, threads or clocks.

It yields `Send` and is sent the `Outcome`; it yields `Sleep` and is sent the time. It returns a `Verdict`.

Rules     A provider that fails is left at once for the next one; there is no wait as long as another can be asked.
          Each provider that may be asked is asked once before any is asked twice. A repeat to the same provider costs of
          the budget, waits for its Retry-After or the back-off (not for one beyond the longest back-off), and happens
          only where the first call had no effect or asked for it.
          While others could still be asked, a part of the time is kept for them.
          A provider whose circuit is open, or that asked for fewer calls, is not asked. When all circuits are open, the
          one that is due soonest still gets its probes.
          Every permit is settled once, also when the plan is closed before it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Sequence
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

from leeward.gateway.outcomes import UNTRANSLATABLE, Outcome

if TYPE_CHECKING:
    from leeward.gateway.targets import Target
    from leeward.resilience.retry import Retry
    from leeward.wire.chat import ChatRequest

__all__ = ["Admission", "Doors", "Plan", "Send", "Sleep", "Step", "Verdict", "plan"]


BUSY_WAIT_S: Final = 1.0  # until a connection may be free again


class Admission(msgspec.Struct, frozen=True):
    """Whether a provider may be asked now; if not, why, and in how many seconds it may."""

    permit: object | None = None
    why: Literal["", "open", "limited"] = ""
    wait_s: float = 0.0


class Doors(Protocol):
    """What the plan asks of the providers' circuits. `gateway/circuits` has it."""

    def order(self, targets: Sequence[Target], now_s: float) -> Sequence[Target]:
        """The same targets, the healthier before the others."""
        ...

    def admit(self, target: Target, now_s: float) -> Admission:
        """Leave to ask it, or not."""
        ...

    def wait_s(self, target: Target, now_s: float) -> float:
        """How long it wants no calls, in seconds; 0: it may be called, as far as limits go."""
        ...

    def force(self, targets: Sequence[Target], now_s: float) -> tuple[Target, object] | None:
        """A probe of the one that is due soonest, though all are open; None when one is under way or was just made."""
        ...

    def settle(self, target: Target, permit: object, outcome: Outcome) -> None:
        """What came of a call that was admitted. Each permit is settled once."""
        ...


class Send(msgspec.Struct, frozen=True):
    """Ask this provider. `first_by_s`: its first content is due by then; `end_by_s`: a JSON answer whole by then."""

    target: Target
    permit: object
    first_by_s: float
    end_by_s: float
    repeat: bool = False


class Sleep(msgspec.Struct, frozen=True):
    """Wait so many seconds."""

    seconds: float


class Verdict(msgspec.Struct, frozen=True):
    """How it ended. `last` is the outcome that decided; none when nobody could be asked."""

    kind: Literal["ok", "refused", "cut", "cancelled", "failed", "timeout", "open", "limited", "unsupported"]
    target: Target | None = None
    last: Outcome | None = None
    wait_s: float | None = None
    need: str = ""  # of an unsupported request: what nobody can do


Step = Send | Sleep
Plan = Generator[Step, "Outcome | float", Verdict]


def plan(
    targets: Sequence[Target],
    request: ChatRequest,
    doors: Doors,
    retry: Retry,
    *,
    take_budget: Callable[[float], bool],
    give_back: Callable[[], object],
    random: Callable[[], float],
    now_s: float,
    deadline_s: float,
) -> Plan:
    """Plan one request. `deadline_s` is monotonic, as `now_s`; `take_budget(now_s)` says whether a repeat may be made,
    `give_back()` that it was not.
    """
    able = [target for target in targets if not target.lacks(request)]
    if not able:
        return Verdict("unsupported", need=targets[0].lacks(request))
    outcomes: dict[Target, list[Outcome]] = {}
    waits: list[tuple[str, float]] = []
    order = doors.order(able, now_s)
    for place, target in enumerate(order):
        admission = doors.admit(target, now_s)
        if admission.permit is None:
            waits.append((admission.why, admission.wait_s))
            continue
        outcome = yield from _ask(target, admission.permit, doors, now_s, deadline_s, others=order[place + 1 :])
        outcomes[target] = [outcome]
        now_s = outcome.at_s
        if outcome.is_final or now_s >= deadline_s:
            return _verdict(target, outcomes, waits, now_s, deadline_s)
    if not outcomes:
        return (yield from _last_one_standing(able, doors, waits, now_s, deadline_s))
    last, now_s = yield from _again(
        order,
        outcomes,
        doors,
        retry,
        take_budget=take_budget,
        give_back=give_back,
        random=random,
        now_s=now_s,
        deadline_s=deadline_s,
    )
    return _verdict(last, outcomes, waits, now_s, deadline_s)


def _ask(
    target: Target,
    permit: object,
    doors: Doors,
    now_s: float,
    deadline_s: float,
    *,
    others: Sequence[Target] = (),
    repeat: bool = False,
) -> Generator[Step, Outcome | float, Outcome]:
    end_by_s = deadline_s
    if others:  # an even share for each, but never more than they would wait for a first content
        left_s = deadline_s - now_s
        end_by_s -= min(others[0].first_token_s * len(others), left_s * len(others) / (len(others) + 1))
    try:
        outcome = yield Send(target, permit, min(now_s + target.first_token_s, end_by_s), end_by_s, repeat)
    except GeneratorExit:  # the caller is gone
        doors.settle(target, permit, Outcome("cancelled", at_s=now_s))
        raise
    assert isinstance(outcome, Outcome)
    doors.settle(target, permit, outcome)
    return outcome


def _last_one_standing(
    able: Sequence[Target], doors: Doors, waits: list[tuple[str, float]], now_s: float, deadline_s: float
) -> Plan:
    """Nobody may be asked. If not everybody asked for fewer calls, one that failed may have recovered."""
    wait_s = min(wait_s for _, wait_s in waits)
    if all(why == "limited" for why, _ in waits):
        return Verdict("limited", wait_s=wait_s)
    forced = doors.force(able, now_s)
    if forced is None:
        return Verdict("open", wait_s=wait_s)
    target, permit = forced
    outcome = yield from _ask(target, permit, doors, now_s, deadline_s)
    return _verdict(target, {target: [outcome]}, waits, outcome.at_s, deadline_s)


def _again(
    order: Sequence[Target],
    outcomes: dict[Target, list[Outcome]],
    doors: Doors,
    retry: Retry,
    *,
    take_budget: Callable[[float], bool],
    give_back: Callable[[], object],
    random: Callable[[], float],
    now_s: float,
    deadline_s: float,
) -> Generator[Step, Outcome | float, tuple[Target, float]]:
    """Everybody who may be asked has been asked once: wait for the one that may help soonest. Who was last, and when."""
    last = next(reversed(outcomes))
    due: dict[Target, float] = {}  # who may be asked again, and when
    for target, tries in outcomes.items():
        if _may_repeat(target, tries, retry):
            delay_s = retry.delay_s(len(tries), tries[-1].retry_after_s, random)
            due[target] = max(tries[-1].at_s + delay_s, now_s + doors.wait_s(target, now_s))
    paid = False
    try:
        while True:
            found = _first_admitted(order, outcomes, doors, now_s)  # whoever could not be asked before
            repeat = found is None
            if found is None:
                soonest = min(due, key=due.__getitem__, default=None)
                if soonest is None or due[soonest] >= deadline_s:
                    break
                paid = paid or take_budget(now_s)
                if not paid:
                    break
                if due[soonest] > now_s:
                    now = yield Sleep(due[soonest] - now_s)
                    assert isinstance(now, float)
                    now_s = now
                    continue
                del due[soonest]
                found = _first_admitted((soonest,), {}, doors, now_s)
                if found is None:
                    continue
                paid = False  # used up: only a repeat costs
            last, permit = found
            outcome = yield from _ask(last, permit, doors, now_s, deadline_s, repeat=repeat)
            tries = outcomes.setdefault(last, [])
            tries.append(outcome)
            now_s = outcome.at_s
            if outcome.is_final or now_s >= deadline_s:
                break
            if _may_repeat(last, tries, retry):
                delay_s = retry.delay_s(len(tries), outcome.retry_after_s, random)
                due[last] = now_s + max(delay_s, doors.wait_s(last, now_s))
    finally:
        if paid:  # nobody was asked again, or the caller is gone
            give_back()
    return last, now_s


def _first_admitted(
    targets: Sequence[Target], but: Container[Target], doors: Doors, now_s: float
) -> tuple[Target, object] | None:
    for target in targets:
        if target not in but:
            permit = doors.admit(target, now_s).permit
            if permit is not None:
                return target, permit
    return None


def _may_repeat(target: Target, tries: list[Outcome], retry: Retry) -> bool:
    """A wish for more than the longest delay is not waited for: whoever asked can wait better than we."""
    last = tries[-1]
    return (
        last.repeatable
        and (target.repeatable or last.never_left)
        and retry.again(len(tries))
        and (last.retry_after_s or 0.0) <= retry.cap_s
    )


def _verdict(
    target: Target,
    outcomes: dict[Target, list[Outcome]],
    waits: list[tuple[str, float]],
    now_s: float,
    deadline_s: float,
) -> Verdict:
    last = outcomes[target][-1]
    if last.detail == UNTRANSLATABLE:  # who could have been asked in this form says more about how it went
        for other, tries in outcomes.items():
            if tries[-1].detail != UNTRANSLATABLE:
                target, last = other, tries[-1]
    if last.kind in {"ok", "refused", "cut", "cancelled"}:
        return Verdict(last.kind, target, last)
    ends = [tries[-1] for tries in outcomes.values()]
    if all(end.kind == "rate_limited" for end in ends):
        told = [end.retry_after_s for end in ends if end.retry_after_s is not None]
        told += [wait_s for why, wait_s in waits if why == "limited"]  # of those that were not asked
        return Verdict("limited", target, last, wait_s=min(told, default=None))
    if all(end.kind == "busy" for end in ends):
        return Verdict("open", target, last, wait_s=BUSY_WAIT_S)
    if now_s >= deadline_s or all(end.kind == "timeout" for end in ends if end.detail != UNTRANSLATABLE):
        return Verdict("timeout", target, last)
    return Verdict("failed", target, last)
