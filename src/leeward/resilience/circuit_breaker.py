"""A circuit breaker around calls of any function, sync or async: as a decorator, as a `with` block, or by hand.

It holds a `Breaker`, a clock and a lock, and decides what an exception says about the service. It may be used by several
threads and tasks at a time; the lock is held for a transition, never during a call.
"""

from __future__ import annotations

import inspect
import random as chance
import threading
from collections.abc import Callable
from functools import wraps
from math import inf
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, ParamSpec, TypeVar, cast

from leeward.clock import SystemClock
from leeward.errors import CircuitOpen, PermanentError, RateLimited
from leeward.resilience.breaker import Breaker, BreakerRules, Permit, Phase, Why
from leeward.resilience.retry import status_of
from leeward.resilience.running import refuse_generators

if TYPE_CHECKING:
    from types import TracebackType

    from leeward.clock import Clock

__all__ = ["BreakerStatistics", "CircuitBreaker", "Guard", "verdict_of"]

Verdict = Literal["succeeded", "failed", "released"]
P = ParamSpec("P")
R = TypeVar("R")


class BreakerStatistics(NamedTuple):
    """How a `CircuitBreaker` is, and its counts since the beginning."""

    state: Phase
    why: Why
    open_s: float  # so long until probes pass; infinity: until it is closed by force
    succeeded: int
    slow: int
    failed: int
    released: int
    refused: int
    opened: int
    forced_probes: int


class CircuitBreaker:
    """Around calls: `@breaker`, `with breaker.guard():`, or `allow` and a verdict by hand.

    An exception is a failure unless it says that the service works: an answer with a status from 400 to 499, `Refused`
    and its kind. 429 and 408, a cancelled call and an interrupted one say nothing, and count as neither.

    Args:
        rules: When it opens, and for how long: `BreakerRules`; or its fields by name, such as `open_s=10`.
        slow_s: Seconds from which a call is slow; None: none is.
        name: What the service is called, in the sentence of `CircuitOpen`.
        when: Says of an exception whether it is a failure, in the place of the rule above.
        on_change: Told of each change, in the thread that made it: state before, state after, why. It must not raise.
    """

    def __init__(
        self,
        rules: BreakerRules | None = None,
        *,
        slow_s: float | None = None,
        name: str = "service",
        when: Callable[[Exception], bool] | None = None,
        on_change: Callable[[Phase, Phase, Why], object] | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = chance.random,
        **fields: Any,
    ) -> None:
        if rules is not None and fields:
            raise TypeError(f"give either rules or {', '.join(fields)}")
        self.name = name
        self.slow_s = inf if slow_s is None else slow_s
        self._when = when
        self._on_change = on_change
        self._clock: Clock = SystemClock() if clock is None else clock
        self._random = random
        self._lock = threading.Lock()
        self._breaker = Breaker(BreakerRules(**fields) if rules is None else rules)
        self._succeeded = self._slow = self._failed = self._released = self._refused = 0

    @property
    def value(self) -> Breaker:
        """The breaker as it is now."""
        return self._breaker

    def allow(self, *, last: bool = False) -> Permit | None:
        """Leave for one call, or None. `last`: there is no other service to ask, so a probe may pass an open one.

        Every permit must come back: `succeeded`, `failed` or `released`.
        """
        now_s = self._clock.monotonic_s()
        with self._lock:
            before = self._breaker
            self._breaker, permit = before.force_probe(now_s) if last else before.admit(now_s)
            self._refused += permit is None
        self._tell(before)
        return permit

    def succeeded(self, permit: Permit, *, slow: bool = False) -> None:
        """The call was answered."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            before = self._breaker
            self._breaker = before.succeeded(permit, now_s, self._random, slow=slow)
            self._succeeded += 1
            self._slow += slow
        self._tell(before)

    def failed(self, permit: Permit) -> None:
        """The call failed, and the service is to blame."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            before = self._breaker
            self._breaker = before.failed(permit, now_s, self._random)
            self._failed += 1
        self._tell(before)

    def released(self, permit: Permit) -> None:
        """The call was given up, or says nothing about the service."""
        with self._lock:
            self._breaker = self._breaker.released(permit)
            self._released += 1

    def force_open(self, for_s: float | None = None) -> None:
        """Refuse every call for so long; None: until `force_close`."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            before = self._breaker
            self._breaker = before.force_open(now_s, for_s)
        self._tell(before)

    def force_close(self) -> None:
        """Let calls pass, and forget what failed."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            before = self._breaker
            self._breaker = before.force_close(now_s)
        self._tell(before)

    def guard(self, *, last: bool = False) -> Guard:
        """A `with` block for one call, sync or async.

        Raises:
            CircuitOpen: at its beginning, when no call may be made.
        """
        return Guard(self, last=last)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """As a decorator of a sync or async function."""
        refuse_generators(function)
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def guarded_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self.guard():
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", guarded_async)  # what it returns is awaited, as that of the function itself

        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.guard():
                return function(*args, **kwargs)

        return guarded

    def statistics(self) -> BreakerStatistics:
        """How it is, and its counts."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            breaker = self._breaker
            return BreakerStatistics(
                state=breaker.state(now_s),
                why=breaker.why,
                open_s=max(0.0, breaker.open_until_s - now_s),
                succeeded=self._succeeded,
                slow=self._slow,
                failed=self._failed,
                released=self._released,
                refused=self._refused,
                opened=breaker.circuit.opened,
                forced_probes=breaker.circuit.forced_probes,
            )

    def now_s(self) -> float:
        """The time by its clock."""
        return self._clock.monotonic_s()

    def verdict(self, error: BaseException) -> Verdict:
        """What an exception says about the service."""
        if not isinstance(error, Exception):
            return "released"
        if self._when is None:
            return verdict_of(error)
        return "failed" if self._when(error) else "succeeded"

    def _tell(self, before: Breaker) -> None:
        after = self._breaker
        if self._on_change is not None and before.circuit.phase != after.circuit.phase:
            self._on_change(before.circuit.phase, after.circuit.phase, after.circuit.why)


class Guard:
    """One call under a breaker. Enter it once."""

    __slots__ = ("_began_s", "_breaker", "_last", "_permit")

    def __init__(self, breaker: CircuitBreaker, *, last: bool) -> None:
        self._breaker = breaker
        self._last = last
        self._permit: Permit | None = None
        self._began_s = 0.0

    def __enter__(self) -> None:
        breaker = self._breaker
        self._permit = breaker.allow(last=self._last)
        if self._permit is None:
            statistics = breaker.statistics()
            wait = "until it is closed by force" if statistics.open_s == inf else f"for {statistics.open_s:.1f} s"
            raise CircuitOpen(f"{breaker.name} is left alone {wait} ({statistics.why})")
        self._began_s = breaker.now_s()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        permit, breaker = self._permit, self._breaker
        assert permit is not None
        verdict: Verdict = "succeeded" if error is None else breaker.verdict(error)
        if verdict == "failed":
            breaker.failed(permit)
        elif verdict == "released":
            breaker.released(permit)
        else:
            breaker.succeeded(permit, slow=breaker.now_s() - self._began_s >= breaker.slow_s)


def verdict_of(error: Exception) -> Verdict:
    """What an exception says about the service: an answer with 4xx shows that it works, 408 and 429 show nothing."""
    status = status_of(error)
    if status in {408, 429} or isinstance(error, RateLimited):
        return "released"
    if isinstance(error, PermanentError) or (status is not None and 400 <= status <= 499):
        return "succeeded"
    return "failed"
