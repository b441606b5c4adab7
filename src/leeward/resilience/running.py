"""Runs a plan of calls and waits: on this thread, or in this task. What to do next is the plan's; how is decided here.

A plan is a generator. It yields `Call`s and `Wait`s, is sent what a call returned, and has thrown into it what a call
raised. Cancellation and interrupts close it, so that whatever it holds is given back, and go on.
Limit     A function that raises StopIteration is seen as one that raises RuntimeError, as everywhere in generators.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, TypeVar, cast

__all__ = ["Call", "Plan", "Sleep", "Wait", "refuse_generators", "run", "run_sync"]

R = TypeVar("R")
Sleep = Callable[[float], Any]


class Call(NamedTuple):
    """Call this."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Wait(NamedTuple):
    """Wait so long."""

    seconds: float


Plan = Generator[Call | Wait, Any, R]


def run_sync(plan: Plan[R], sleep: Sleep | None = None) -> R:
    """Run it on this thread."""
    act = _Act(sleep or time.sleep)
    try:
        step = next(plan)
        while True:
            try:
                told = act(step)
                if inspect.isawaitable(told):
                    _discard(told)
                    raise TypeError(f"{_name(step)} is async: await `call`, in the place of `call_sync`")  # noqa: TRY301 - the plan must hear of it
            except Exception as error:
                step = plan.throw(error)
            else:
                step = plan.send(told)
    except StopIteration as end:
        return cast("R", end.value)  # kept in no name: a degraded result holds tracebacks, and those this frame
    finally:
        plan.close()


async def run(plan: Plan[R], sleep: Sleep | None = None) -> R:
    """Run it in this task. Functions may be sync, too; a slow one then holds up the event loop."""
    act = _Act(sleep or asyncio.sleep)
    try:
        step = next(plan)
        while True:
            try:
                told = act(step)
                if inspect.isawaitable(told):
                    told = await told
            except Exception as error:
                step = plan.throw(error)
            else:
                step = plan.send(told)
    except StopIteration as end:
        return cast("R", end.value)  # kept in no name: a degraded result holds tracebacks, and those this frame
    finally:
        plan.close()


def refuse_generators(function: object) -> None:
    """A generator fails when it is read, long after its call "succeeded": nothing here would see that.

    Raises:
        TypeError: it is one, or cannot be called at all.
    """
    if not callable(function):
        raise TypeError(f"{function!r} is not a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{getattr(function, '__name__', function)} is a generator, whose failures come when it is read; "
            "put `with breaker.guard():` around the reading"
        )


class _Act:
    __slots__ = ("_sleep",)

    def __init__(self, sleep: Sleep) -> None:
        self._sleep = sleep

    def __call__(self, step: Call | Wait) -> Any:
        if isinstance(step, Wait):
            return self._sleep(step.seconds)
        return step.function(*step.args, **step.kwargs)


def _name(step: Call | Wait) -> str:
    return "sleep" if isinstance(step, Wait) else getattr(step.function, "__name__", repr(step.function))


def _discard(awaitable: Any) -> None:
    """A coroutine that is never awaited warns; one that is closed does not."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()
