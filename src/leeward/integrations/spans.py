"""A span whose owner says when it is recorded, under which name, and how it ended: for integrations.

`Client.span` records what its block was called when it began, at the moment in which the block ends. A web request gets
its name (the route) while it runs, and is over when its answer is out, although work of the same task may go on.

Promises  nothing here raises; see `Client`.
"""

from __future__ import annotations

import os
from time import perf_counter, time_ns

from leeward.sender.blocks import parse_traceparent
from leeward.sender.context import CURRENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from leeward.sender.client import Client

__all__ = ["OpenSpan", "type_name"]


class OpenSpan:
    """Begins when it is made: what its task captures from here on carries its ids. `leave` ends that.

    Args:
        client: Who records it.
        traceparent: The parent's, if that is elsewhere; else the open span of this task is the parent.
        correlation_id: Of the span and of all that is captured in it; else the task's.
    """

    __slots__ = (
        "_began_ms",
        "_began_s",
        "_client",
        "_outside",
        "_parent_id",
        "inherits",
        "sampled",
        "span_id",
        "trace_id",
    )

    def __init__(self, client: Client, *, traceparent: str | None = None, correlation_id: str = "") -> None:
        self._client = client
        self._began_s = perf_counter()
        self._began_ms = time_ns() // 1_000_000
        outside = self._outside = CURRENT.get()
        trace_id, parent_id = parse_traceparent(traceparent)
        digits = os.urandom(24).hex()
        self.trace_id = trace_id or outside.trace_id or digits[16:]
        self.span_id = digits[:16]
        self.inherits = not parent_id and bool(outside.span_id)
        self._parent_id = parent_id or outside.span_id
        self.sampled = outside.sampled if self.inherits else None
        CURRENT.set(
            outside.replaced(
                correlation_id=correlation_id or outside.correlation_id,
                trace_id=self.trace_id,
                span_id=self.span_id,
                sampled=self.sampled,
            )
        )

    @property
    def traceparent(self) -> str:
        """What says to others that their spans belong to this one (W3C)."""
        return f"00-{self.trace_id}-{self.span_id}-{'00' if self.sampled is False else '01'}"

    def sample(self, name: str, properties: Mapping[str, Any]) -> None:
        """Decide now whether this trace is kept, unless the parent's decision stands."""
        if self.sampled is None:
            self.sampled = self._client._samples(name, properties, {}, self.trace_id)
            CURRENT.set(CURRENT.get().replaced(sampled=self.sampled))

    def elapsed_ms(self) -> float:
        """Since the span began."""
        return round((perf_counter() - self._began_s) * 1000, 3)

    def record(
        self,
        name: str,
        properties: Mapping[str, Any],
        *,
        duration_ms: float,
        failed: bool,
        error: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        """Record it as ended."""
        fields: dict[str, Any] = {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_span_id": self._parent_id,
            "duration_ms": duration_ms,
            "status": "error" if failed else "ok",
            "sampled": self.sampled,
            "sampled_by": self.trace_id,
        }
        if error:
            fields["error"] = error
        self._client._record("span", name, properties, fields, {"timestamp": self._began_ms, **keywords})

    def leave(self, *, forget: bool = False) -> None:
        """Give the task its former context back; one that left in another task than it came keeps it.

        Args:
            forget: Also what `set_context` said meanwhile.
        """
        now, outside = CURRENT.get(), self._outside
        if now.span_id != self.span_id:
            return
        if not forget:
            outside = now.replaced(trace_id=outside.trace_id, span_id=outside.span_id, sampled=outside.sampled)
        CURRENT.set(outside)


def type_name(error: BaseException) -> str:
    """The exception's type as a traceback prints it."""
    kind = type(error)
    return (
        kind.__qualname__ if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}.{kind.__qualname__}"
    )
