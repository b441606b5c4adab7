"""Export requests in protobuf → records, one after the other, each with the source that stands above it.

Promises  items are counted before the first of them is built. Bytes that are no such message raise `ProtocolError`; one
          item that cannot be taken comes out as `Dropped`, in its place, and costs nobody else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from leeward.errors import ProtocolError
from leeward.model import Dropped
from leeward.wire.otlp.protobuf import (
    Broken,
    Reader,
    field,
    fields,
    number_at,
    signed_32,
    varint,
)
from leeward.wire.otlp.protobuf_points import BUILDERS, find_points
from leeward.wire.otlp.records import (
    ITEM_BYTES_MAX,
    ITEMS_MAX,
    PARTS_MAX,
    Link,
    LogRecord,
    Metric,
    Point,
    Source,
    Span,
    SpanEvent,
    Unusable,
    too_large,
    too_many_items,
    too_many_parts,
)

__all__ = ["ProtobufExport"]

Range = tuple[int, int]
Made = TypeVar("Made")


class Group(msgspec.Struct, gc=False):
    """Where the parts of one ScopeX message stand, and of the ResourceX message above it."""

    resource: Range
    resource_schema_url: Range
    scope: Range
    scope_schema_url: Range
    items: list[Range]


class ProtobufExport:
    """One export request, of whatever signal it is asked for."""

    def __init__(self, body: bytes) -> None:
        self._reader = Reader(body)

    @property
    def repaired(self) -> bool:
        """Whether broken text was replaced in what was read up to now."""
        return self._reader.repaired

    def spans(self) -> Iterator[tuple[Source, Span] | Dropped]:
        """The spans of an ExportTraceServiceRequest."""
        return _guarded(_items(self._reader, _span))

    def log_records(self) -> Iterator[tuple[Source, LogRecord] | Dropped]:
        """The records of an ExportLogsServiceRequest."""
        return _guarded(_items(self._reader, _log_record))

    def points(self) -> Iterator[tuple[Source, Point] | Dropped]:
        """The data points of all metrics of an ExportMetricsServiceRequest."""
        return _guarded(_points(self._reader))


def _guarded(items: Iterator[Made]) -> Iterator[Made]:
    try:
        yield from items
    except (Broken, IndexError, struct.error):
        raise ProtocolError(
            "The body is not the protobuf message that its path and its Content-Type name", code="invalid_protobuf"
        ) from None


def _groups(reader: Reader) -> list[Group]:
    """Find all items, without a look into one."""
    raw = reader.raw
    groups: list[Group] = []
    containers = items = 0
    for tag, start, stop in fields(raw, 0, len(raw)):
        if tag != 0x0A:
            continue
        containers = _counted(containers + 1, "resources and scopes")
        resource = resource_schema_url = (0, 0)
        first = len(groups)
        for inner_tag, inner, inner_stop in fields(raw, start, stop):
            if inner_tag == 0x0A:
                resource = (inner, inner_stop)
            elif inner_tag == 0x1A:
                resource_schema_url = (inner, inner_stop)
            elif inner_tag == 0x12:
                containers = _counted(containers + 1, "resources and scopes")
                group = Group((0, 0), (0, 0), (0, 0), (0, 0), [])
                items = _gather(raw, inner, inner_stop, group, items)
                groups.append(group)
        for group in groups[first:]:
            group.resource = resource
            group.resource_schema_url = resource_schema_url
    return groups


def _gather(raw: bytes, pos: int, end: int, group: Group, items: int) -> int:
    while pos < end:
        if raw[pos] == 0x12:  # an item, the usual field: without a call
            size = raw[pos + 1]
            pos += 2
            if size >= 0x80:
                size, pos = varint(raw, pos)
            group.items.append((pos, pos + size))
            pos += size
            items = _counted(items + 1, "items") if items >= ITEMS_MAX else items + 1
            continue
        (tag, start, stop), pos = field(raw, pos)
        if tag == 0x0A:
            group.scope = (start, stop)
        elif tag == 0x1A:
            group.scope_schema_url = (start, stop)
    if pos != end:
        raise Broken
    return items


def _counted(count: int, what: str) -> int:
    if count > ITEMS_MAX:
        raise too_many_items(what)
    return count


def _items(reader: Reader, build: Callable[[Reader, int, int], Made]) -> Iterator[tuple[Source, Made] | Dropped]:
    for group in _groups(reader):
        yield from _built(reader, _source(reader, group), group.items, build)


def _built(
    reader: Reader, source: Source | Dropped, items: list[Range], build: Callable[[Reader, int, int], Made]
) -> Iterator[tuple[Source, Made] | Dropped]:
    for start, stop in items:
        if isinstance(source, Dropped):
            yield source
            continue
        try:
            if stop - start > ITEM_BYTES_MAX:
                raise too_large(stop - start)
            item = build(reader, start, stop)
        except Unusable as error:
            yield Dropped(error.code, error.sentence)
        else:
            yield source, item


def _source(reader: Reader, group: Group) -> Source | Dropped:
    name = version = ""
    try:
        resource, _ = reader.record(*group.resource, 0x0A)
        attributes, rest = reader.record(*group.scope, 0x1A)
    except Unusable as error:
        return Dropped(error.code, error.sentence)
    for tag, start, stop in rest:
        if tag == 0x0A:
            name = reader.text(start, stop)
        elif tag == 0x12:
            version = reader.text(start, stop)
    return Source(
        resource,
        reader.text(*group.resource_schema_url),
        name,
        version,
        attributes,
        reader.text(*group.scope_schema_url),
    )


def _span(reader: Reader, pos: int, end: int) -> Span:
    """One span, by the one loop that is written out: most of a request is spans, most of a span is attributes."""
    raw = reader.raw
    known = reader.memo.get
    pair = reader.pair
    attributes: dict[str, Any] = {}
    span = Span("", "", "", "", 0, "", 0, 0, 0, attributes, [], [], 0, "", {})
    while pos < end:
        tag = raw[pos]
        if tag == 0x4A and raw[pos + 1] < 0x80:
            start = pos + 2
            pos = start + raw[pos + 1]
            one = raw[start:pos]
            key, value = known(one) or pair(one)
            attributes[key] = value
        elif tag & 0x87 == 2:  # bytes, with a number that fits a byte
            size = raw[pos + 1]
            pos += 2
            if size >= 0x80:
                size, pos = varint(raw, pos)
            start = pos
            pos += size
            if tag == 0x4A:
                key, value = pair(raw[start:pos])
                attributes[key] = value
            elif tag == 0x2A:
                span.name = reader.text(start, pos)
            elif tag == 0x0A:
                span.trace_id = raw[start:pos].hex()
            elif tag == 0x12:
                span.span_id = raw[start:pos].hex()
            elif tag == 0x22:
                span.parent_span_id = raw[start:pos].hex()
            elif tag == 0x7A and size == 2 and raw[start] == 0x18 and raw[start + 1] < 0x80:
                span.status_code = raw[start + 1]
            elif pos <= end and (size or tag != 0x7A):  # an empty status is what most senders write for none
                _set_rare(reader, span, tag, start, pos)
        elif tag == 0x39:
            span.start_ns = _U64(raw, pos + 1)[0]
            pos += 9
        elif tag == 0x41:
            span.end_ns = _U64(raw, pos + 1)[0]
            pos += 9
        elif tag == 0x30 and raw[pos + 1] < 0x80:
            span.kind = raw[pos + 1]
            pos += 2
        else:
            (tag, start, stop), pos = field(raw, pos)
            _set_rare(reader, span, tag, start, stop)
    if pos != end:
        raise Broken
    return span


_U64 = struct.Struct("<Q").unpack_from


def _set_rare(reader: Reader, span: Span, tag: int, start: int, stop: int) -> None:
    if tag == 0x30:
        span.kind = start
    elif tag == 0x7A:
        span.status_code, span.status_message = _status(reader, start, stop)
    elif tag == 0x85:
        span.flags = number_at(reader.raw, start, stop)
    elif tag == 0x1A:
        span.trace_state = reader.text(start, stop)
    elif tag == 0x5A:
        if len(span.events) == PARTS_MAX:
            raise too_many_parts()
        span.events.append(_span_event(reader, start, stop))
    elif tag == 0x6A:
        if len(span.links) == PARTS_MAX:
            raise too_many_parts()
        span.links.append(_link(reader, start, stop))
    elif tag in _DROPPED and start:
        span.dropped[_DROPPED[tag]] = start
    elif tag < 8:  # no field has the number 0
        raise Broken


_DROPPED: Final = {0x50: "attributes", 0x60: "events", 0x70: "links"}


def _status(reader: Reader, start: int, stop: int) -> tuple[int, str]:
    code = 0
    message = ""
    for tag, inner, inner_stop in fields(reader.raw, start, stop):
        if tag == 0x18:
            code = signed_32(inner)
        elif tag == 0x12:
            message = reader.text(inner, inner_stop)
    return code, message


def _span_event(reader: Reader, pos: int, end: int) -> SpanEvent:
    attributes, rest = reader.record(pos, end, 0x1A)
    event = SpanEvent("", 0, attributes)
    for tag, start, stop in rest:
        if tag == 0x09:
            event.time_ns = number_at(reader.raw, start, stop)
        elif tag == 0x12:
            event.name = reader.text(start, stop)
    return event


def _link(reader: Reader, pos: int, end: int) -> Link:
    raw = reader.raw
    attributes, rest = reader.record(pos, end, 0x22)
    link = Link("", "", "", 0, attributes)
    for tag, start, stop in rest:
        if tag == 0x0A:
            link.trace_id = raw[start:stop].hex()
        elif tag == 0x12:
            link.span_id = raw[start:stop].hex()
        elif tag == 0x1A:
            link.trace_state = reader.text(start, stop)
        elif tag == 0x35:
            link.flags = number_at(raw, start, stop)
    return link


def _log_record(reader: Reader, pos: int, end: int) -> LogRecord:
    raw = reader.raw
    attributes, rest = reader.record(pos, end, 0x32)
    record = LogRecord(0, 0, 0, "", None, attributes, 0, 0, "", "", "")
    for tag, start, stop in rest:
        if tag == 0x09:
            record.time_ns = number_at(raw, start, stop)
        elif tag == 0x59:
            record.observed_ns = number_at(raw, start, stop)
        elif tag == 0x10:
            record.severity = signed_32(start)
        elif tag == 0x1A:
            record.severity_text = reader.text(start, stop)
        elif tag == 0x2A:
            record.body = reader.value(start, stop)
        elif tag == 0x38:
            record.dropped_attributes = start
        elif tag == 0x45:
            record.flags = number_at(raw, start, stop)
        elif tag == 0x4A:
            record.trace_id = raw[start:stop].hex()
        elif tag == 0x52:
            record.span_id = raw[start:stop].hex()
        elif tag == 0x62:
            record.event_name = reader.text(start, stop)
    return record


def _points(reader: Reader) -> Iterator[tuple[Source, Point] | Dropped]:
    groups = _groups(reader)
    metrics: list[list[tuple[Metric, list[Range]]]] = []
    count = 0
    for group in groups:  # all points are counted before the first is built
        metrics.append([])
        for start, stop in group.items:
            metric, points = find_points(reader, start, stop, count)
            count += len(points)
            metrics[-1].append((metric, points))
    for group, found in zip(groups, metrics, strict=True):
        source = _source(reader, group)
        for metric, points in found:
            yield from _built(reader, source, points, partial(BUILDERS[metric.type], metric))
