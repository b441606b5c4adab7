"""What a program writes as a `with` block: a pair of events, a span, a moment in which to send or not.

Promises  entering and leaving never raises, and an exception of the block goes on as it was.
"""

from __future__ import annotations

import os
from time import perf_counter, time_ns

from leeward.scrub.values import bounded, bounded_text
from leeward.sender.context import CURRENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, Self

    from leeward.sender.client import Client
    from leeward.sender.context import Context

__all__ = ["Moment", "Span", "Timed", "parse_traceparent"]


def _duration_ms(began_s: float) -> float:
    return round((perf_counter() - began_s) * 1000, 3)


class Timed:
    """See `Client.timed`."""

    __slots__ = ("_began_s", "_client", "_end", "_keywords", "_pair_id", "_properties", "_sampled", "_start", "added")

    def __init__(
        self, client: Client, start: str, end: str, properties: Mapping[str, Any] | None, keywords: Mapping[str, Any]
    ) -> None:
        self._client = client
        self._start = start
        self._end = end
        self._properties = properties
        self._keywords = keywords
        self._began_s = 0.0
        self._pair_id = ""
        self._sampled: bool | None = None
        self.added: dict[str, Any] = {}

    def __enter__(self) -> dict[str, Any]:
        self._pair_id = os.urandom(8).hex()
        self.added = {}
        self._sampled = self._client._samples(self._start, self._properties, self._keywords, self._pair_id)
        self._record(self._start, {})
        self._began_s = perf_counter()  # last: the first event of a program pays for imports
        return self.added

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        duration = {"duration_ms": _duration_ms(self._began_s)}
        if error is None:
            self._record(self._end, {**self.added, **duration}, **duration)
        elif isinstance(error, Exception):
            self._client._record_once(
                error,
                self._all({**self.added, **duration, "event": self._start}),
                {"handled": False, "level": "ERROR", **self._keywords},  # it goes on; who handles it, nobody knows
            )
        else:  # the program, or its task, is being ended: no error of its own
            self._record(self._end, {**self.added, **duration, "interrupted": True}, **duration)

    def _record(self, name: str, added: dict[str, Any], **fields: Any) -> None:
        self._client._record("event", name, self._all(added), {**fields, "sampled": self._sampled}, self._keywords)

    def _all(self, added: dict[str, Any]) -> dict[str, Any]:
        properties = bounded({} if self._properties is None else self._properties)
        return {
            **(properties if type(properties) is dict else {"value": properties}),
            **added,
            "pair_id": self._pair_id,
        }


class Span:
    """See `Client.span`. `trace_id` and `span_id` are hex, empty before the block begins."""

    __slots__ = (
        "_began_ms",
        "_began_s",
        "_client",
        "_has_ended",
        "_keywords",
        "_name",
        "_outside",
        "_parent_id",
        "_properties",
        "_sampled",
        "_seen",
        "span_id",
        "trace_id",
    )

    def __init__(
        self, client: Client, name: str, properties: Mapping[str, Any] | None, keywords: Mapping[str, Any]
    ) -> None:
        self._client = client
        self._name = name
        given = bounded({} if properties is None else properties)
        self._properties: dict[str, Any] = given if type(given) is dict else {"value": given}
        self._keywords = dict(keywords)
        self._has_ended = False
        self._outside: Context | None = None
        self._began_s = 0.0
        self._began_ms = 0
        self._parent_id = ""
        self._sampled: bool | None = None
        self._seen: BaseException | None = None
        self.trace_id = ""
        self.span_id = ""

    @property
    def traceparent(self) -> str:
        """What a request to another service carries, so that its spans become children of this one (W3C)."""
        return f"00-{self.trace_id}-{self.span_id}-{'00' if self._sampled is False else '01'}"

    def set(self, key: str, value: Any) -> None:
        """Add a property."""
        self._properties[bounded_text(key)] = bounded(value)

    def __enter__(self) -> Self:
        outside = self._outside = CURRENT.get()
        trace_id, parent_id = parse_traceparent(self._keywords.pop("traceparent", None))
        trace_id = _hex(self._keywords.pop("trace_id", None), 32) or trace_id or outside.trace_id
        self.trace_id = trace_id or os.urandom(16).hex()
        inherited = outside.span_id if outside.trace_id == self.trace_id else ""
        self._parent_id = _hex(self._keywords.pop("parent_span_id", None), 16) or parent_id or inherited
        self.span_id = os.urandom(8).hex()
        if inherited and outside.sampled is not None:
            self._sampled = outside.sampled
        else:
            self._sampled = self._client._samples(self._name, self._properties, self._keywords, self.trace_id)
        inside = outside.replaced(trace_id=self.trace_id, span_id=self.span_id, sampled=self._sampled, span=self)
        CURRENT.set(inside)
        self._began_s = perf_counter()  # last: the first event of a program pays for imports
        self._began_ms = time_ns() // 1_000_000
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._has_ended = True
        self._leave()
        fields: dict[str, Any] = {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_span_id": self._parent_id,
            "duration_ms": _duration_ms(self._began_s),
            "status": "ok",
            "sampled": self._sampled,
        }
        if isinstance(error, Exception):
            if self._sampled is False:  # the span is not kept; exceptions always are
                self._client._record_once(error, {"span": self._name}, {"handled": False, "level": "ERROR"})
            fields["status"] = "error"
            fields["error"] = self._client._described(error)
        elif error is not None:
            self._properties.setdefault("interrupted", True)
        self._client._record(
            "span", self._name, self._properties, fields, {"timestamp": self._began_ms, **self._keywords}
        )

    def _leave(self) -> None:
        """Go back to what is open around us. Blocks of generators and tasks may end in any order: those are passed by."""
        now = outside = CURRENT.get()
        while outside.span is not None and outside.span._has_ended and outside.span._outside is not None:
            outside = outside.span._outside
        if outside is not now:
            kept = {name: getattr(outside, name) for name in ("trace_id", "span_id", "sampled", "span")}
            CURRENT.set(now.replaced(**kept))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class Moment:
    """See `Client.busy` and `Client.idle`. May be entered again, also by several threads or tasks."""

    __slots__ = ("_client", "_kind", "_tokens")

    def __init__(self, client: Client, kind: str) -> None:
        self._client = client
        self._kind = kind
        self._tokens: list[object] = []

    def __enter__(self) -> Self:
        token = object()
        self._tokens.append(token)
        self._client._moments(self._kind)[token] = None
        self._client._nudge()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tokens:
            self._client._moments(self._kind).pop(self._tokens.pop(), None)
            self._client._nudge()


def parse_traceparent(header: object) -> tuple[str, str]:
    """Trace and parent id of a W3C `traceparent`; empty texts for what is none."""
    parts = header.split("-") if type(header) is str and len(header) <= 200 else []
    if len(parts) < 4 or len(parts[0]) != 2 or parts[0] == "ff":
        return "", ""
    trace_id, parent_id = _hex(parts[1], 32), _hex(parts[2], 16)
    return (trace_id, parent_id) if trace_id and parent_id else ("", "")


def _hex(value: object, digits: int) -> str:
    """`value` as that many lower-case hex digits, not all zero; else empty."""
    text = value.lower() if type(value) is str and len(value) == digits else ""
    return text if text.strip("0") and not text.strip("0123456789abcdef") else ""
