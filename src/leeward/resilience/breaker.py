"""Leave a service alone while it fails: the breaker as a value with its transitions.

States    closed: calls pass and are counted. open: calls are refused for a while, which doubles from one time to the
          next and has jitter. half-open: a few probes pass; they decide. docs/explanation/breaker.md draws it.
Rules     It opens by failures in a row, by the share of failed or of slow calls in a window with enough of them, or by
          force. A good call never opens it. Each opening and each closing begins an era; a verdict of an earlier one is ignored.
          A probe is lent a place for `lease_s`: one that hangs or gets lost cannot keep the others out for ever. What it
          says counts until its place is given to another.
          The last service there is may be probed while the breaker is open (`force_probe`), and that is counted.
Limits    The window moves in tenths, so it reaches back for nine to ten tenths of `window_s`.
A `Breaker` is an immutable tuple: time and chance are arguments, and each transition returns the next one. A closed
one costs a microsecond a call. `CircuitBreaker` holds one for calls of functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal, NamedTuple

__all__ = ["Breaker", "BreakerRules", "Permit", "Phase", "Why"]

Phase = Literal["closed", "open", "half-open"]
Why = Literal["", "consecutive_failures", "failure_rate", "slow_rate", "probe_failed", "probe_slow", "forced"]

BUCKETS: Final = 10
JITTER: Final = 0.2  # of the time that it stays open, both ways
PROBES_AN_OPEN: Final = 5  # how often, in `open_s`, the last service there is may be probed
_new = tuple.__new__  # a named tuple's own constructor costs twice as much


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When a breaker opens, and for how long. Rates are shares from 0 to 1; a rate or a count cannot be switched off."""

    consecutive_failures: int = 3
    failure_rate: float = 0.5
    slow_rate: float = 0.8
    window_s: float = 30.0
    min_calls: int = 10
    open_s: float = 5.0
    open_max_s: float = 300.0
    probes: int = 1
    lease_s: float = 60.0
    buckets_per_s: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if min(self.consecutive_failures, self.min_calls, self.probes) < 1:
            raise ValueError("consecutive_failures, min_calls and probes are counts of calls: at least 1 each")
        if not (0 < self.failure_rate <= 1 and 0 < self.slow_rate <= 1):
            raise ValueError("failure_rate and slow_rate are shares of calls: more than 0, at most 1")
        if not (self.window_s > 0 and self.open_s > 0 and self.lease_s > 0):
            raise ValueError("window_s, open_s and lease_s are seconds: more than 0 each")
        if not self.open_s <= self.open_max_s:
            raise ValueError(
                f"open_s is {self.open_s} and open_max_s is {self.open_max_s}: the first is the shorter one"
            )
        object.__setattr__(self, "buckets_per_s", BUCKETS / self.window_s)

    def break_s(self, breaks: int, random: Callable[[], float]) -> float:
        """How long it stays open after so many breaks close before this one: doubled for each, with jitter."""
        mean_s = min(self.open_s * 2.0**breaks, self.open_max_s / (1 + JITTER))
        return mean_s * (1 + JITTER * (2 * random() - 1))


class Permit(NamedTuple):
    """Leave to make one call. It is handed back with the verdict."""

    era: int
    lease: int = 0  # a probe's number; 0: an ordinary call


class Lease(NamedTuple):
    """A probe's place, and how long it is kept."""

    number: int
    ends_s: float


class Bucket(NamedTuple):
    """A tenth of the window that has passed."""

    number: int
    calls: int
    failed: int
    slow: int


class Window(NamedTuple):
    """What a closed breaker has counted: the tenth that is running, and those before it."""

    in_row: int = 0
    number: int = -1
    calls: int = 0
    failed: int = 0
    slow: int = 0
    past: tuple[Bucket, ...] = ()

    def moved(self, number: int) -> Window:
        """The same at a later tenth: what is too old is forgotten. Time that goes back stands still."""
        if number <= self.number:
            return self
        past = (*self.past, Bucket(self.number, self.calls, self.failed, self.slow)) if self.calls else self.past
        return Window(self.in_row, number, past=tuple(kept for kept in past if kept.number > number - BUCKETS))

    def sums(self) -> tuple[int, int, int]:
        """Calls, failed and slow ones in the whole window."""
        calls, failed, slow = self.calls, self.failed, self.slow
        for bucket in self.past:
            calls += bucket.calls
            failed += bucket.failed
            slow += bucket.slow
        return calls, failed, slow


class Circuit(NamedTuple):
    """What changes with the state."""

    phase: Phase = "closed"
    permit: Permit = Permit(0)  # its era is the breaker's
    why: Why = ""  # why it opened last
    since_s: float = 0.0
    until_s: float = 0.0  # of an open one
    breaks: int = 0  # close before one another: each doubles the next
    leases: tuple[Lease, ...] = ()
    good: int = 0  # probes that succeeded in this half-open era
    opened: int = 0
    forced_probes: int = 0
    probed_s: float = 0.0  # when an open one was opened or last probed


class Breaker(NamedTuple):
    """The value. Begin with `Breaker(BreakerRules(...))`; each transition returns the next value."""

    rules: BreakerRules
    circuit: Circuit = Circuit()
    window: Window = Window()

    def state(self, now_s: float) -> Phase:
        """closed, open or half-open. An open one is half-open when its time is over, before anybody has asked."""
        circuit = self.circuit
        return "half-open" if circuit.phase == "open" and now_s >= circuit.until_s else circuit.phase

    @property
    def open_until_s(self) -> float:
        """When an open one lets probes pass: infinity if it was forced open without an end, 0 if it is not open."""
        return self.circuit.until_s if self.circuit.phase == "open" else 0.0

    @property
    def why(self) -> Why:
        """Why it is not closed, else empty."""
        return "" if self.circuit.phase == "closed" else self.circuit.why

    def admit(self, now_s: float) -> tuple[Breaker, Permit | None]:
        """Leave for one call, or None. Every permit must come back: `succeeded`, `failed` or `released`."""
        circuit = self.circuit
        if circuit.phase == "closed":
            return self, circuit.permit
        if circuit.phase == "open":
            if now_s < circuit.until_s:
                return self, None
            circuit = circuit._replace(phase="half-open", since_s=now_s)  # a probe under way keeps its place
        leases = tuple(lease for lease in circuit.leases if lease.ends_s > now_s)
        if len(leases) + circuit.good >= self.rules.probes:
            return self, None
        return self._lend(circuit, leases, now_s)

    def force_probe(self, now_s: float) -> tuple[Breaker, Permit | None]:
        """For the last service there is: a probe though it is open, one at a time, five in `open_s` at most.

        One that was forced open without an end is not probed. One that is not open admits as always.
        """
        circuit = self.circuit
        if self.state(now_s) != "open":
            return self.admit(now_s)
        leases = tuple(lease for lease in circuit.leases if lease.ends_s > now_s)
        if leases or circuit.until_s == inf or now_s - circuit.probed_s < self.rules.open_s / PROBES_AN_OPEN:
            return self, None
        probing = circuit._replace(forced_probes=circuit.forced_probes + 1, probed_s=now_s)
        return self._lend(probing, leases, now_s)

    def succeeded(self, permit: Permit, now_s: float, random: Callable[[], float], *, slow: bool = False) -> Breaker:
        """The call was answered; `slow`: later than is good."""
        rules, circuit, window = self
        if permit[0] != circuit.permit[0]:
            return self
        if circuit.phase != "closed":
            return self._probed(permit, now_s, random, slow=slow)
        number = int(now_s * rules.buckets_per_s)
        if number != window.number:
            window = window.moved(number)
        _, number, calls, failed, slow_calls, past = window
        if not slow:
            return _new(Breaker, (rules, circuit, _new(Window, (0, number, calls + 1, failed, slow_calls, past))))
        window = Window(0, number, calls + 1, failed, slow_calls + 1, past)
        all_calls, _, all_slow = window.sums()
        if all_calls >= rules.min_calls and all_slow / all_calls >= rules.slow_rate:
            return self._opened("slow_rate", now_s, random)
        return Breaker(rules, circuit, window)

    def failed(self, permit: Permit, now_s: float, random: Callable[[], float]) -> Breaker:
        """The call failed, and the service is to blame."""
        rules, circuit, window = self
        if permit.era != circuit.permit.era:
            return self
        if circuit.phase == "open":  # the probe of a last service: it was open before, and stays so no longer than that
            return self.released(permit)
        if circuit.phase == "half-open":
            held = any(lease.number == permit.lease for lease in circuit.leases)
            return self._opened("probe_failed", now_s, random) if held else self
        window = window.moved(int(now_s * rules.buckets_per_s))
        window = window._replace(in_row=window.in_row + 1, calls=window.calls + 1, failed=window.failed + 1)
        if window.in_row >= rules.consecutive_failures:
            return self._opened("consecutive_failures", now_s, random)
        calls, failed, _ = window.sums()
        if calls >= rules.min_calls and failed / calls >= rules.failure_rate:
            return self._opened("failure_rate", now_s, random)
        return Breaker(rules, circuit, window)

    def released(self, permit: Permit) -> Breaker:
        """The call was given up, or says nothing about the service: a probe's place is free again."""
        circuit = self.circuit
        if permit.era != circuit.permit.era or not permit.lease:
            return self
        return self._replace(circuit=_returned(circuit, permit))

    def force_open(self, now_s: float, for_s: float | None = None) -> Breaker:
        """Refuse every call for so long; None: until `force_close`. How long it opens by itself next is as before."""
        opened = _era(self.circuit, "open", now_s)
        until_s = inf if for_s is None else now_s + for_s
        circuit = opened._replace(why="forced", until_s=until_s, opened=opened.opened + 1)
        return Breaker(self.rules, circuit)

    def force_close(self, now_s: float) -> Breaker:
        """Closed, and as new but for what it has counted of itself."""
        return Breaker(self.rules, _era(self.circuit, "closed", now_s)._replace(breaks=0))

    def with_rules(self, rules: BreakerRules) -> Breaker:
        """The same state under other rules. A window of another length begins anew."""
        window = self.window if rules.window_s == self.rules.window_s else Window(in_row=self.window.in_row)
        return Breaker(rules, self.circuit, window)

    def _lend(self, circuit: Circuit, leases: tuple[Lease, ...], now_s: float) -> tuple[Breaker, Permit]:
        permit = Permit(circuit.permit.era, circuit.permit.lease + 1)
        leases = (*leases, Lease(permit.lease, now_s + self.rules.lease_s))
        # The last number lent stands in the circuit's own permit; ordinary calls get theirs only in a closed era.
        return self._replace(circuit=circuit._replace(permit=permit, leases=leases)), permit

    def _probed(self, permit: Permit, now_s: float, random: Callable[[], float], *, slow: bool) -> Breaker:
        """A probe was answered. Where slowness opened it, a slow answer shows that nothing is better."""
        circuit = self.circuit
        if all(lease.number != permit.lease for lease in circuit.leases):
            return self
        if slow and circuit.why in {"slow_rate", "probe_slow"}:
            if circuit.phase == "open":
                return self.released(permit)
            return self._opened("probe_slow", now_s, random)
        good = circuit.good + 1
        if good >= self.rules.probes:
            return Breaker(self.rules, _era(circuit, "closed", now_s))
        since_s = now_s if circuit.phase == "open" else circuit.since_s
        circuit = _returned(circuit, permit)._replace(phase="half-open", since_s=since_s, good=good)
        return Breaker(self.rules, circuit)

    def _opened(self, why: Why, now_s: float, random: Callable[[], float]) -> Breaker:
        """Open. Each `window_s` that it was closed before takes one doubling back."""
        rules, circuit = self.rules, self.circuit
        breaks = circuit.breaks
        if circuit.phase == "closed":
            breaks = max(0, breaks - int((now_s - circuit.since_s) / rules.window_s))
        until_s = now_s + rules.break_s(breaks, random)
        opened = _era(circuit, "open", now_s)
        doubles = rules.open_s * 2.0**breaks < rules.open_max_s  # beyond that it would only take longer to be forgiven
        circuit = opened._replace(why=why, until_s=until_s, breaks=breaks + doubles, opened=opened.opened + 1)
        return Breaker(rules, circuit)


def _returned(circuit: Circuit, permit: Permit) -> Circuit:
    """The circuit with a probe's place free again."""
    return circuit._replace(leases=tuple(lease for lease in circuit.leases if lease.number != permit.lease))


def _era(circuit: Circuit, phase: Phase, now_s: float) -> Circuit:
    """The circuit as it opens or closes."""
    permit = Permit(circuit.permit.era + 1)
    return circuit._replace(phase=phase, permit=permit, since_s=now_s, leases=(), good=0, probed_s=now_s)
