"""What answers when the first cannot: functions, sync or async, asked in order with the same arguments.

Promise   The result says which step answered and what the others raised: an answer that is not the best one can be
          shown as such. When all fail, the first step's exception comes out, with a note for each of the others.
Limit     Only an `Exception` leads on. Cancellation, interrupts and exits end it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from leeward.resilience.running import Call, Plan, refuse_generators, run, run_sync

__all__ = ["Fallback", "Result", "asked"]

T = TypeVar("T")


class Result(NamedTuple, Generic[T]):
    """An answer, and where it comes from: step 0 is the first that was asked. `errors` are those of the steps before."""

    value: T
    step: int = 0
    errors: tuple[Exception, ...] = ()

    @property
    def degraded(self) -> bool:
        """Whether another than the first answered."""
        return self.step > 0


class Fallback:
    """Steps to ask in order. Alone, the first of them is the usual one; in a `policy`, all stand behind its function.

    Args:
        steps: Functions that take the same arguments.
        when: Which exceptions of the first lead on to the others; none said: all.
    """

    __slots__ = ("steps", "when")

    def __init__(self, *steps: Callable[..., Any], when: Callable[[Exception], bool] | None = None) -> None:
        if not steps:
            raise TypeError("a Fallback needs at least one step")
        for step in steps:
            refuse_generators(step)
        self.steps = steps
        self.when = when

    async def call(self, *args: Any, **kwargs: Any) -> Result[Any]:
        """Ask in order, in this task."""
        return await run(self._alone(args, kwargs))

    def call_sync(self, *args: Any, **kwargs: Any) -> Result[Any]:
        """Ask in order, on this thread."""
        return run_sync(self._alone(args, kwargs))

    def plan(
        self,
        first: Callable[[], Plan[Result[Any]]],
        steps: tuple[Callable[..., Any], ...],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Plan[Result[Any]]:
        """Ask `first`, then the steps."""
        errors: list[Exception] = []
        try:
            try:
                return (yield from first())
            except Exception as error:
                if self.when is not None and not self.when(error):
                    raise
                errors.append(error)
            for number, step in enumerate(steps, start=1):
                try:
                    value = yield Call(step, args, kwargs)
                except Exception as error:
                    errors.append(error)
                    name = getattr(step, "__name__", repr(step))
                    errors[0].add_note(f"fallback step {number}, {name}, failed too: {type(error).__name__}: {error}")
                else:
                    return Result(value, number, tuple(errors))
            raise errors[0]
        finally:
            del errors  # each holds its traceback, and that this frame: a cycle

    def _alone(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Plan[Result[Any]]:
        return self.plan(lambda: asked(self.steps[0], args, kwargs), self.steps[1:], args, kwargs)


def asked(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Plan[Result[Any]]:
    """The innermost plan: one call."""
    value = yield Call(function, args, kwargs)
    return Result(value)
