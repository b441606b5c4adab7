"""What an export request says, as plain values: the same whether it came as protobuf or as JSON.

Times are nanoseconds since 1970, 0 for none; ids are lower-case hex, empty for none; attributes are plain JSON values
(bytes are base64 text, doubles that JSON has no number for are the texts NaN, Infinity and -Infinity).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from leeward.errors import ProtocolError

__all__ = [
    "BUCKETS_MAX",
    "DEPTH_MAX",
    "ITEMS_MAX",
    "ITEM_BYTES_MAX",
    "PARTS_MAX",
    "Exemplar",
    "Link",
    "LogRecord",
    "Metric",
    "Point",
    "Source",
    "Span",
    "SpanEvent",
    "Unusable",
    "double",
    "too_deep",
    "too_large",
    "too_many_buckets",
    "too_many_items",
    "too_many_parts",
]

ITEMS_MAX: Final = 10_000  # spans, log records or points of a request; also resources, scopes, and metrics
ITEM_BYTES_MAX: Final = 8 << 20  # of one of them, as it came
DEPTH_MAX: Final = 64  # of values inside an attribute
PARTS_MAX: Final = 10_000  # of an item: events, links, exemplars; SDKs send 128
BUCKETS_MAX: Final = 10_000  # of a histogram's point; SDKs send 20, at most 320

Attributes = dict[str, Any]


class Unusable(Exception):
    """One item cannot be taken; the others of its request can."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


def too_deep() -> Unusable:
    """An attribute has too many values inside each other."""
    return Unusable("too_deep", f"an attribute is nested deeper than {DEPTH_MAX} levels")


def too_large(size: int) -> Unusable:
    """One item is too large to be looked at."""
    return Unusable("event_too_large", f"the item has {size} bytes; at most {ITEM_BYTES_MAX} are taken")


def too_many_items(what: str, items_max: int = ITEMS_MAX) -> ProtocolError:
    """The request has more than anybody sends at once."""
    return ProtocolError(
        f"The request has more than {items_max} {what}; send it in smaller parts",
        code="payload_too_large",
        status=413,
    )


def too_many_parts() -> Unusable:
    """One item has more events, links or exemplars than any real one."""
    return Unusable("too_many_parts", f"the item has more than {PARTS_MAX} parts")


def too_many_buckets() -> Unusable:
    """One histogram has more buckets than any real one."""
    return Unusable("too_many_buckets", f"a histogram's point has more than {BUCKETS_MAX} buckets")


class Source(msgspec.Struct, gc=False):
    """Where records come from: the resource and the scope that stand above them."""

    resource: Attributes
    resource_schema_url: str
    scope_name: str
    scope_version: str
    scope_attributes: Attributes
    scope_schema_url: str


class SpanEvent(msgspec.Struct, gc=False):
    """Something that happened during a span."""

    name: str
    time_ns: int
    attributes: Attributes


class Link(msgspec.Struct, gc=False):
    """A span that this one has to do with."""

    trace_id: str
    span_id: str
    trace_state: str
    flags: int
    attributes: Attributes


class Span(msgspec.Struct, gc=False):
    """One span. `kind` and `status_code` are the protocol's numbers; `dropped` what the sender says it left out."""

    trace_id: str
    span_id: str
    parent_span_id: str
    trace_state: str
    flags: int
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Attributes
    events: list[SpanEvent]
    links: list[Link]
    status_code: int
    status_message: str
    dropped: dict[str, int]


class LogRecord(msgspec.Struct, gc=False):
    """One log record. `severity` is the protocol's number, 0 for none."""

    time_ns: int
    observed_ns: int
    severity: int
    severity_text: str
    body: Any
    attributes: Attributes
    dropped_attributes: int
    flags: int
    trace_id: str
    span_id: str
    event_name: str


class Metric(msgspec.Struct, gc=False):
    """What the points of one metric have in common. `temporality` is the protocol's number."""

    name: str
    description: str
    unit: str
    type: str
    temporality: int
    is_monotonic: bool


class Exemplar(msgspec.Struct, gc=False):
    """One measurement behind a point."""

    time_ns: int
    value: int | float | None
    trace_id: str
    span_id: str
    attributes: Attributes


class Point(msgspec.Struct, gc=False):
    """One data point. `value` is the number of a gauge or sum, the sum of others; `detail` is the rest of those, as JSON
    has it.
    """

    metric: Metric
    attributes: Attributes
    start_ns: int
    time_ns: int
    flags: int
    value: int | float | None
    detail: dict[str, Any]
    exemplars: list[Exemplar]


def double(value: float) -> float | str:
    """A double as JSON can hold it."""
    if value - value == 0:  # neither infinite nor no number
        return value
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
