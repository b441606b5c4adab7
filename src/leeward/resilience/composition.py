"""Fault tolerance as an expression: `policy(Fallback(…), Retry(…), CircuitBreaker(…))`, the outermost part first.

Promise   Sync and async calls take the same way. Cancellation and interrupts pass through at once: they are no failures,
          are not tried again, and give back what was held.
Retries   What the network raises and what carries a status of `Retry.statuses` is tried again; an exception that was
          raised from a network error counts as that error, which covers the usual HTTP libraries. `Retry-After` is taken
          from the exception's `retry_after_s`, or its headers or its response's.
Limits    `Retry.deadline_s` starts no further try; it does not interrupt a running one: give the call itself a time-out.
          Parts may be shared by policies; a budget counts the requests of all policies that it is given to.
"""

from __future__ import annotations

import inspect
import random as chance
from collections.abc import Awaitable, Callable, Mapping
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast, overload

from leeward.clock import SystemClock
from leeward.resilience.circuit_breaker import CircuitBreaker
from leeward.resilience.fallback import Fallback, Result, asked
from leeward.resilience.retry import Retry, may_retry, parse_retry_after, status_of
from leeward.resilience.running import Plan, Sleep, Wait, refuse_generators, run, run_sync

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.resilience.budget import RetryBudget

__all__ = ["Policy", "is_transient", "policy", "retry_after_s_of"]

P = ParamSpec("P")
R = TypeVar("R")
Part = Fallback | Retry | CircuitBreaker
CAUSES_MAX: Final = 8
FILE_ERRORS: Final = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)


class Policy:
    """Parts around a function, the outermost first. See `policy`."""

    __slots__ = ("_budget", "_clock", "_parts", "_random", "_sleep")

    def __init__(
        self,
        *parts: Part,
        budget: RetryBudget | None = None,
        clock: Clock | None = None,
        sleep: Sleep | None = None,
        random: Callable[[], float] = chance.random,
    ) -> None:
        for part in parts:
            if not isinstance(part, Part):
                raise TypeError(f"{part!r} is no part of a policy; Fallback, Retry and CircuitBreaker are")
        self._parts = parts
        self._budget = budget
        self._clock: Clock = SystemClock() if clock is None else clock
        self._sleep = sleep
        self._random = random

    @overload
    async def call(self, function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What the function, or a step of the fallback, returns."""
        return (await run(self._plan(function, args, kwargs), self._sleep)).value

    def call_sync(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The same on this thread."""
        return cast("R", run_sync(self._plan(function, args, kwargs), self._sleep).value)

    async def result(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Result[Any]:
        """The value, and which step it is from; step 0 is the function itself."""
        return await run(self._plan(function, args, kwargs), self._sleep)

    def result_sync(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Result[Any]:
        """The same on this thread."""
        return run_sync(self._plan(function, args, kwargs), self._sleep)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """As a decorator of a sync or async function."""
        refuse_generators(function)
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def kept_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await self.call(function, *args, **kwargs)

            return cast("Callable[P, R]", kept_async)  # what it returns is awaited, as that of the function itself

        @wraps(function)
        def kept(*args: P.args, **kwargs: P.kwargs) -> R:
            return self.call_sync(function, *args, **kwargs)

        return kept

    def _plan(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Plan[Result[Any]]:
        if self._budget is not None:
            self._budget.request()
        plan: Callable[[], Plan[Result[Any]]] = partial(asked, function, args, kwargs)
        for part in reversed(self._parts):
            if isinstance(part, Fallback):
                plan = partial(part.plan, plan, part.steps, args, kwargs)
            elif isinstance(part, Retry):
                plan = partial(self._retried, part, plan)
            else:
                plan = partial(_guarded, part, plan)
        return plan()

    def _retried(self, retry: Retry, inner: Callable[[], Plan[Result[Any]]]) -> Plan[Result[Any]]:
        began_s = self._clock.monotonic_s()
        attempts = 0
        while True:
            attempts += 1
            try:
                return (yield from inner())
            except Exception as error:
                delay_s = self._delay_s(retry, attempts, began_s, error)
                if delay_s is None:
                    raise
            yield Wait(delay_s)

    def _delay_s(self, retry: Retry, attempts: int, began_s: float, error: Exception) -> float | None:
        """How long to wait before the next try; None: there is none. A try that is decided on is paid."""
        if not retry.again(attempts) or not is_transient(error, retry.statuses):
            return None
        now_s = self._clock.monotonic_s()
        wish_s = retry_after_s_of(error, self._clock.wall_ms() / 1000, retry.retry_after_max_s)
        delay_s = retry.delay_s(attempts, wish_s, self._random)
        if not retry.within(now_s - began_s, delay_s):
            return None
        return delay_s if self._budget is None or self._budget.take(now_s) else None


def policy(
    *parts: Part,
    budget: RetryBudget | None = None,
    clock: Clock | None = None,
    sleep: Sleep | None = None,
    random: Callable[[], float] = chance.random,
) -> Policy:
    """Compose parts, the outermost first.

    Args:
        parts: `Fallback`, `Retry`, `CircuitBreaker`; each as often as wanted.
        budget: Pays the repeats of its `Retry` parts.
        clock: In the place of the machine's.
        sleep: In the place of `asyncio.sleep` and `time.sleep`; a test gives one that returns at once.
        random: Numbers in [0, 1) for the jitter.
    """
    return Policy(*parts, budget=budget, clock=clock, sleep=sleep, random=random)


def is_transient(error: Exception, statuses: frozenset[int]) -> bool:
    """Whether an exception says "later". Its status decides if it has one; else what it was raised from, too."""
    status = status_of(error)
    if status is not None:
        return status in statuses
    cause: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if cause is None or isinstance(cause, FILE_ERRORS):
            return False
        if may_retry(cause):
            return True
        cause = cause.__cause__
    return False


def retry_after_s_of(error: Exception, now_s: float, max_s: float) -> float | None:
    """How long the other side wants us to wait, as an exception tells it; `now_s` is wall time."""
    told_s = getattr(error, "retry_after_s", None)
    if isinstance(told_s, int | float):
        return float(told_s)
    for holder in (error, getattr(error, "response", None)):
        headers = getattr(holder, "headers", None)
        if headers is not None and hasattr(headers, "items"):
            held = {str(name).lower(): str(value) for name, value in headers.items()}
            return parse_retry_after(held.get("retry-after"), now_s, header_ms=held.get("retry-after-ms"), max_s=max_s)
    return None


def _guarded(breaker: CircuitBreaker, inner: Callable[[], Plan[Result[Any]]]) -> Plan[Result[Any]]:
    with breaker.guard():
        return (yield from inner())
