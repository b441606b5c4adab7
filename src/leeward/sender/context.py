"""What every event of a task has in common: who, which session, which request, which span. Follows async tasks.

A `Context` is a frozen value in one context variable: a task, and what `to_thread` runs, see the one that was set where
they were started. Other threads see it through `bound`.
"""

from __future__ import annotations

from contextvars import ContextVar, copy_context

from leeward.scrub.values import bounded, bounded_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ParamSpec, TypeVar

    from leeward.sender.blocks import Span

    P = ParamSpec("P")
    R = TypeVar("R")

__all__ = ["CURRENT", "EMPTY", "Context", "bound", "update"]

IDS = ("distinct_id", "session_id", "correlation_id")


class Context:
    """See the module; treat it as frozen. Absent texts are empty. `sampled` is the open trace's, None without one.

    `span` is the open block of this process that the ids belong to.
    """

    __slots__ = ("correlation_id", "distinct_id", "properties", "sampled", "session_id", "span", "span_id", "trace_id")

    def __init__(
        self,
        distinct_id: str = "",
        session_id: str = "",
        correlation_id: str = "",
        trace_id: str = "",
        span_id: str = "",
        sampled: bool | None = None,
        span: Span | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        self.distinct_id = distinct_id
        self.session_id = session_id
        self.correlation_id = correlation_id
        self.trace_id = trace_id
        self.span_id = span_id
        self.sampled = sampled
        self.span = span
        self.properties: Mapping[str, Any] = properties or {}

    def replaced(self, **fields: Any) -> Context:
        """The same with other fields."""
        return Context(**{name: fields.get(name, getattr(self, name)) for name in self.__slots__})


EMPTY = Context()
CURRENT: ContextVar[Context] = ContextVar("leeward", default=EMPTY)


def update(fields: Mapping[str, Any]) -> None:
    """Set ids and properties of the present context; None takes one away."""
    former = CURRENT.get()
    ids = {name: bounded_text(fields[name]) for name in IDS if name in fields}
    properties = {**former.properties, **{name: value for name, value in fields.items() if name not in IDS}}
    kept = bounded({name: value for name, value in properties.items() if value is not None})
    CURRENT.set(former.replaced(**ids, properties=kept if type(kept) is dict else {}))


def bound(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, run in the context of this moment wherever it is called; also several times at once."""
    context = copy_context()

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return context.copy().run(function, *args, **kwargs)

    return run
