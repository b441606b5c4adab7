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
    double_at,
    field,
    fields,
    number_at,
    signed,
    signed_32,
    varint,
    varints,
    zigzag,
)
from leeward.wire.otlp.records import (
    BUCKETS_MAX,
    ITEM_BYTES_MAX,
    ITEMS_MAX,
    PARTS_MAX,
    Exemplar,
    Link,
    LogRecord,
    Metric,
    Point,
    Source,
    Span,
    SpanEvent,
    Unusable,
    double,
    too_large,
    too_many_buckets,
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
            metric, points = _metric(reader, start, stop, count)
            count += len(points)
            metrics[-1].append((metric, points))
    for group, found in zip(groups, metrics, strict=True):
        source = _source(reader, group)
        for metric, points in found:
            yield from _built(reader, source, points, partial(_BUILDERS[metric.type], metric))


def _metric(reader: Reader, pos: int, end: int, count: int) -> tuple[Metric, list[Range]]:
    """One metric without its points, and where these are; *count* points stand before them."""
    metric = Metric("", "", "", "gauge", 0, False)
    points: list[Range] = []
    for tag, start, stop in fields(reader.raw, pos, end):
        if tag == 0x0A:
            metric.name = reader.text(start, stop)
        elif tag == 0x12:
            metric.description = reader.text(start, stop)
        elif tag == 0x1A:
            metric.unit = reader.text(start, stop)
        elif tag in _TYPES:
            metric.type = _TYPES[tag]
            points = []  # of a choice, the last word counts
            for inner_tag, inner, inner_stop in fields(reader.raw, start, stop):
                if inner_tag == 0x0A:
                    points.append((inner, inner_stop))
                    _counted(count + len(points), "data points")
                elif inner_tag == 0x10:
                    metric.temporality = signed_32(inner)
                elif inner_tag == 0x18:
                    metric.is_monotonic = inner != 0
    return metric, points


_TYPES: Final = {0x2A: "gauge", 0x3A: "sum", 0x4A: "histogram", 0x52: "exponential_histogram", 0x5A: "summary"}


def _number_point(metric: Metric, reader: Reader, pos: int, end: int) -> Point:
    raw = reader.raw
    attributes, rest = reader.record(pos, end, 0x3A)
    point = Point(metric, attributes, 0, 0, 0, None, {}, [])
    for tag, start, stop in rest:
        if tag == 0x11:
            point.start_ns = number_at(raw, start, stop)
        elif tag == 0x19:
            point.time_ns = number_at(raw, start, stop)
        elif tag == 0x21:
            point.value = double_at(raw, start)
        elif tag == 0x31:
            point.value = signed(number_at(raw, start, stop))
        elif tag == 0x2A:
            point.exemplars.append(_exemplar(reader, start, stop))
        elif tag == 0x40:
            point.flags = start
    return point


def _histogram_point(metric: Metric, reader: Reader, pos: int, end: int) -> Point:
    raw = reader.raw
    attributes, rest = reader.record(pos, end, 0x4A)
    detail: dict[str, Any] = {"count": 0}
    point = Point(metric, attributes, 0, 0, 0, None, detail, [])
    for tag, start, stop in rest:
        if tag == 0x11:
            point.start_ns = number_at(raw, start, stop)
        elif tag == 0x19:
            point.time_ns = number_at(raw, start, stop)
        elif tag == 0x21:
            detail["count"] = number_at(raw, start, stop)
        elif tag == 0x29:
            point.value = double_at(raw, start)
        elif tag in {0x31, 0x32}:
            detail.setdefault("counts", []).extend(_eights(raw, start, stop, "Q"))
        elif tag in {0x39, 0x3A}:
            detail.setdefault("bounds", []).extend(map(double, _eights(raw, start, stop, "d")))
        elif tag == 0x42:
            point.exemplars.append(_exemplar(reader, start, stop))
        elif tag == 0x50:
            point.flags = start
        elif tag == 0x59:
            detail["min"] = double(double_at(raw, start))
        elif tag == 0x61:
            detail["max"] = double(double_at(raw, start))
    return point


def _exponential_point(metric: Metric, reader: Reader, pos: int, end: int) -> Point:
    raw = reader.raw
    attributes, rest = reader.record(pos, end, 0x0A)
    detail: dict[str, Any] = {"count": 0, "scale": 0, "zero_count": 0}
    point = Point(metric, attributes, 0, 0, 0, None, detail, [])
    for tag, start, stop in rest:
        if tag == 0x11:
            point.start_ns = number_at(raw, start, stop)
        elif tag == 0x19:
            point.time_ns = number_at(raw, start, stop)
        elif tag == 0x21:
            detail["count"] = number_at(raw, start, stop)
        elif tag == 0x29:
            point.value = double_at(raw, start)
        elif tag == 0x30:
            detail["scale"] = zigzag(start)
        elif tag == 0x39:
            detail["zero_count"] = number_at(raw, start, stop)
        elif tag in {0x42, 0x4A}:
            detail["positive" if tag == 0x42 else "negative"] = _buckets(raw, start, stop)
        elif tag == 0x50:
            point.flags = start
        elif tag == 0x5A:
            point.exemplars.append(_exemplar(reader, start, stop))
        elif tag in _EXPONENTIAL_DOUBLES:
            detail[_EXPONENTIAL_DOUBLES[tag]] = double(double_at(raw, start))
    return point


_EXPONENTIAL_DOUBLES: Final = {0x61: "min", 0x69: "max", 0x71: "zero_threshold"}


def _buckets(raw: bytes, pos: int, end: int) -> dict[str, Any]:
    offset = 0
    counts: list[int] = []
    for tag, start, stop in fields(raw, pos, end):
        if tag == 0x08:
            offset = zigzag(start)
        elif tag == 0x10:
            counts.append(start)
        elif tag == 0x12:
            counts.extend(varints(raw, start, stop))
        if len(counts) > BUCKETS_MAX:
            raise too_many_buckets()
    return {"offset": offset, "counts": counts}


def _summary_point(metric: Metric, reader: Reader, pos: int, end: int) -> Point:
    raw = reader.raw
    attributes, rest = reader.record(pos, end, 0x3A)
    detail: dict[str, Any] = {"count": 0}
    point = Point(metric, attributes, 0, 0, 0, None, detail, [])
    for tag, start, stop in rest:
        if tag == 0x11:
            point.start_ns = number_at(raw, start, stop)
        elif tag == 0x19:
            point.time_ns = number_at(raw, start, stop)
        elif tag == 0x21:
            detail["count"] = number_at(raw, start, stop)
        elif tag == 0x29:
            point.value = double_at(raw, start)
        elif tag == 0x32:
            detail.setdefault("quantiles", []).append(_quantile(raw, start, stop))
        elif tag == 0x40:
            point.flags = start
    return point


def _quantile(raw: bytes, pos: int, end: int) -> list[float | str]:
    pair: list[float | str] = [0.0, 0.0]
    for tag, start, _ in fields(raw, pos, end):
        if tag in {0x09, 0x11}:
            pair[tag == 0x11] = double(double_at(raw, start))
    return pair


def _exemplar(reader: Reader, pos: int, end: int) -> Exemplar:
    raw = reader.raw
    attributes, rest = reader.record(pos, end, 0x3A)
    exemplar = Exemplar(0, None, "", "", attributes)
    for tag, start, stop in rest:
        if tag == 0x11:
            exemplar.time_ns = number_at(raw, start, stop)
        elif tag == 0x19:
            exemplar.value = double_at(raw, start)
        elif tag == 0x31:
            exemplar.value = signed(number_at(raw, start, stop))
        elif tag == 0x22:
            exemplar.span_id = raw[start:stop].hex()
        elif tag == 0x2A:
            exemplar.trace_id = raw[start:stop].hex()
    return exemplar


def _eights(raw: bytes, start: int, stop: int, form: str) -> tuple[Any, ...]:
    """Numbers of eight bytes each, packed or one alone."""
    count, over = divmod(stop - start, 8)
    if over:
        raise Broken
    if count > BUCKETS_MAX:
        raise too_many_buckets()
    return struct.unpack_from(f"<{count}{form}", raw, start)


_BUILDERS: Final = {
    "gauge": _number_point,
    "sum": _number_point,
    "histogram": _histogram_point,
    "exponential_histogram": _exponential_point,
    "summary": _summary_point,
}
