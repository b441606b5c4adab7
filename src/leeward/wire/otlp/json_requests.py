"""Export requests in JSON → records: the same as from protobuf, by the protocol's own mapping.

Ids are hex, 64-bit integers text or numbers, enumerations numbers, doubles numbers or their names; null is absent, and so
is every key that the mapping does not know, those in snake case among them.

Promises  items are counted, as bytes, before the first of them is decoded. A body that is no such request raises
          `ProtocolError`; one item that cannot be taken comes out as `Dropped`, in its place, and costs nobody else.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

from leeward.errors import ProtocolError
from leeward.model import Dropped
from leeward.wire.otlp import json_messages as wire
from leeward.wire.otlp.records import (
    BUCKETS_MAX,
    DEPTH_MAX,
    ITEM_BYTES_MAX,
    ITEMS_MAX,
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
    too_deep,
    too_large,
    too_many_buckets,
    too_many_items,
    too_many_parts,
)
from leeward.wire.text import repair

__all__ = ["NOT_OTLP", "JsonExport"]

NOT_OTLP: Final = "not_otlp"  # of an item whose JSON is none of the protocol's

ARRAY_BYTES_FREE: Final = 1 << 20  # up to here an array's items may be counted after they were found
OBJECTS_MAX: Final = 100_000  # of an item, or a source
INT64_MIN: Final = -(2**63)
UINT64_MAX: Final = 2**64 - 1
HEX: Final = re.compile(r"[0-9a-f]*")
DECIMAL: Final = re.compile(r"-?[0-9]{1,20}")
DOUBLE: Final = re.compile(r"-?(?:[0-9]{1,400}(?:\.[0-9]{1,400})?(?:[eE][-+]?[0-9]{1,4})?|Infinity)|NaN")

In = TypeVar("In", bound=msgspec.Struct)
Made = TypeVar("Made")
Above = tuple[Raw, str, Raw, str]  # resource, its schema, scope, its schema
Found = tuple[Above, list[Raw]]

_decoder = functools.cache(msgspec.json.Decoder)
_LIST: Final = msgspec.json.Decoder(list[Raw]).decode


class JsonExport:
    """One export request, of whatever signal it is asked for."""

    def __init__(self, body: bytes) -> None:
        self._body, self.repaired = repair(body)

    def spans(self) -> Iterator[tuple[Source, Span] | Dropped]:
        """The spans of an ExportTraceServiceRequest."""
        resources = _decode_whole(self._body, wire.TracesIn).resource_spans
        groups = _groups(resources, wire.ResourceSpansIn, wire.ScopeSpansIn)
        for above, items in groups:
            yield from _built(_source(above), items, wire.SpanIn, _span)

    def log_records(self) -> Iterator[tuple[Source, LogRecord] | Dropped]:
        """The records of an ExportLogsServiceRequest."""
        resources = _decode_whole(self._body, wire.LogsIn).resource_logs
        groups = _groups(resources, wire.ResourceLogsIn, wire.ScopeLogsIn)
        for above, items in groups:
            yield from _built(_source(above), items, wire.LogRecordIn, _log_record)

    def points(self) -> Iterator[tuple[Source, Point] | Dropped]:
        """The data points of all metrics of an ExportMetricsServiceRequest."""
        resources = _decode_whole(self._body, wire.MetricsIn).resource_metrics
        count = 0
        found: list[tuple[Above, list[tuple[Metric, list[Raw]]]]] = []
        for above, items in _groups(resources, wire.ResourceMetricsIn, wire.ScopeMetricsIn):
            metrics = [_metric(raw) for raw in items]
            count += sum(len(points) for _, points in metrics)
            if count > ITEMS_MAX:  # before the first is built
                raise too_many_items("data points")
            found.append((above, metrics))
        for above, metrics in found:
            source = _source(above)
            for metric, points in metrics:
                yield from _built(source, points, wire.PointIn, functools.partial(_point, metric))


def _groups(resources: Raw, resource_in: type[Any], scope_in: type[Any]) -> list[Found]:
    """Find all items, without a look into one. The fields of both messages are resource or scope, array, schema."""
    groups: list[Found] = []
    containers = count = 0
    for resource_raw in _split(resources):
        resource, scopes, resource_schema_url = msgspec.structs.astuple(_decode_whole(resource_raw, resource_in))
        scopes = _split(scopes)
        containers += 1 + len(scopes)
        if containers > ITEMS_MAX:
            raise too_many_items("resources and scopes")
        for scope_raw in scopes:
            scope, raws, scope_schema_url = msgspec.structs.astuple(_decode_whole(scope_raw, scope_in))
            items = _split(raws)
            count += len(items)
            if count > ITEMS_MAX:
                raise too_many_items("items")
            groups.append(((resource, resource_schema_url or "", scope, scope_schema_url or ""), items))
    return groups


def _split(raw: Raw) -> list[Raw]:
    """The items of an array, in bounded memory: an array with one item too many is not read to its end."""
    if _is_null(raw):
        return []
    try:
        if len(memoryview(raw)) <= ARRAY_BYTES_FREE:
            return _LIST(raw)
        return [item for item in msgspec.structs.astuple(_bounded_array().decode(raw)) if item is not wire.ABSENT]
    except msgspec.ValidationError as error:
        if "at most length" in str(error):
            raise too_many_items("items") from None
        raise _no_request(error) from None


def _is_null(raw: Raw) -> bool:
    text = memoryview(raw)
    return len(text) == len(b"null") and text.tobytes() == b"null"


@functools.cache
def _bounded_array() -> msgspec.json.Decoder[Any]:
    """For arrays of at most so many items: unlike a list's limit, a Struct's stops at the one that is too many."""
    items = [(f"item_{index}", Raw, wire.ABSENT) for index in range(ITEMS_MAX)]
    return msgspec.json.Decoder(msgspec.defstruct("_Items", items, array_like=True, forbid_unknown_fields=True))


def _decode(raw: bytes | Raw, kind: type[In]) -> In:
    try:
        return _decoder(kind).decode(raw)  # type: ignore[no-any-return]  # a decoder of this kind
    except msgspec.ValidationError as error:
        raise _no_request(error) from None
    except RecursionError:
        raise too_deep() from None
    except msgspec.DecodeError as error:
        raise ProtocolError("Invalid JSON", code="invalid_json", details=(str(error),)) from None


def _decode_whole(raw: bytes | Raw, kind: type[In]) -> In:
    """Decode what the whole request depends on."""
    try:
        return _decode(raw, kind)
    except Unusable:
        raise ProtocolError("Invalid JSON", code="invalid_json", details=("nested too deeply",)) from None


def _no_request(error: msgspec.ValidationError) -> ProtocolError:
    return ProtocolError(f"The body is not the OTLP/JSON that its path names: {error}", code="invalid_field")


def _sized(raw: Raw) -> Raw:
    """What is small enough to be decoded."""
    text = memoryview(raw)
    if len(text) > ITEM_BYTES_MAX:
        raise too_large(len(text))
    if bytes(text).count(b"{") > OBJECTS_MAX:
        raise too_many_parts()
    return raw


def _built(
    source: Source | Dropped, items: list[Raw], kind: type[In], build: Callable[[In], Made]
) -> Iterator[tuple[Source, Made] | Dropped]:
    for raw in items:
        if isinstance(source, Dropped):
            yield source
            continue
        try:
            item = build(_decode(_sized(raw), kind))
        except Unusable as error:
            yield Dropped(error.code, error.sentence)
        except ProtocolError as error:  # this one is not what the protocol says; its neighbours may be
            yield Dropped(NOT_OTLP, error.message)
        else:
            yield source, item


def _source(above: Above) -> Source | Dropped:
    resource_raw, resource_schema_url, scope_raw, scope_schema_url = above
    try:
        resource = wire.ResourceIn() if _is_null(resource_raw) else _decode(_sized(resource_raw), wire.ResourceIn)
        scope = wire.ScopeIn() if _is_null(scope_raw) else _decode(_sized(scope_raw), wire.ScopeIn)
        return Source(
            _attributes(resource.attributes),
            resource_schema_url,
            scope.name or "",
            scope.version or "",
            _attributes(scope.attributes),
            scope_schema_url,
        )
    except Unusable as error:
        return Dropped(error.code, error.sentence)


def _span(span: wire.SpanIn) -> Span:
    status = span.status or wire.StatusIn()
    dropped = {
        "attributes": _integer(span.dropped_attributes_count),
        "events": _integer(span.dropped_events_count),
        "links": _integer(span.dropped_links_count),
    }
    return Span(
        _hex(span.trace_id),
        _hex(span.span_id),
        _hex(span.parent_span_id),
        span.trace_state or "",
        _integer(span.flags),
        span.name or "",
        span.kind or 0,
        _integer(span.start_time_unix_nano),
        _integer(span.end_time_unix_nano),
        _attributes(span.attributes),
        [
            SpanEvent(event.name or "", _integer(event.time_unix_nano), _attributes(event.attributes))
            for event in span.events or ()
        ],
        [
            Link(
                _hex(link.trace_id),
                _hex(link.span_id),
                link.trace_state or "",
                _integer(link.flags),
                _attributes(link.attributes),
            )
            for link in span.links or ()
        ],
        status.code or 0,
        status.message or "",
        {name: count for name, count in dropped.items() if count},
    )


def _log_record(record: wire.LogRecordIn) -> LogRecord:
    return LogRecord(
        _integer(record.time_unix_nano),
        _integer(record.observed_time_unix_nano),
        record.severity_number or 0,
        record.severity_text or "",
        _value(record.body, 0),
        _attributes(record.attributes),
        _integer(record.dropped_attributes_count),
        _integer(record.flags),
        _hex(record.trace_id),
        _hex(record.span_id),
        record.event_name or "",
    )


def _metric(raw: Raw) -> tuple[Metric, list[Raw]]:
    """One metric without its points, and these."""
    metric = _decode_whole(raw, wire.MetricIn)
    kind = next((name for name in TYPES if getattr(metric, name) is not None), "gauge")
    data: wire.DataIn = getattr(metric, kind) or wire.DataIn()
    common = Metric(
        metric.name or "",
        metric.description or "",
        metric.unit or "",
        kind,
        data.aggregation_temporality or 0,
        bool(data.is_monotonic),
    )
    return common, _split(data.data_points)


TYPES: Final = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


def _point(metric: Metric, point: wire.PointIn) -> Point:
    value: int | float | None
    if metric.type in {"gauge", "sum"}:
        value, detail = _measured(point.as_double, point.as_int), {}
    else:
        has_sum = point.sum is not None or metric.type == "summary"  # whose sum has no presence: absent is 0
        value, detail = _double(point.sum) if has_sum else None, _detail(metric.type, point)
    return Point(
        metric,
        _attributes(point.attributes),
        _integer(point.start_time_unix_nano),
        _integer(point.time_unix_nano),
        _integer(point.flags),
        value,
        detail,
        [
            Exemplar(
                _integer(one.time_unix_nano),
                _measured(one.as_double, one.as_int),
                _hex(one.trace_id),
                _hex(one.span_id),
                _attributes(one.filtered_attributes),
            )
            for one in point.exemplars or ()
        ],
    )


def _detail(kind: str, point: wire.PointIn) -> dict[str, Any]:
    detail: dict[str, Any] = {"count": _integer(point.count)}
    if kind == "summary":
        if point.quantile_values:
            pairs = [(_double(one.quantile or 0), _double(one.value or 0)) for one in point.quantile_values]
            detail["quantiles"] = [[double(quantile), double(value)] for quantile, value in pairs]
        return detail
    if kind == "exponential_histogram":
        detail["scale"] = point.scale or 0
        detail["zero_count"] = _integer(point.zero_count)
        if threshold := _double(point.zero_threshold):
            detail["zero_threshold"] = double(threshold)
        for name in ("positive", "negative"):
            buckets: wire.BucketsIn | None = getattr(point, name)
            if buckets:
                detail[name] = {"offset": _integer(buckets.offset), "counts": _counts(buckets.bucket_counts)}
    else:
        if point.bucket_counts:
            detail["counts"] = _counts(point.bucket_counts)
        if point.explicit_bounds:
            if len(point.explicit_bounds) > BUCKETS_MAX:
                raise too_many_buckets()
            detail["bounds"] = [double(_double(one)) for one in point.explicit_bounds]
    for name in ("min", "max"):
        value = getattr(point, name)
        if value is not None:
            detail[name] = double(_double(value))
    return detail


def _counts(counts: list[wire.Number] | None) -> list[int]:
    if counts and len(counts) > BUCKETS_MAX:
        raise too_many_buckets()
    return [_integer(one) for one in counts or ()]


def _measured(as_double: wire.Number, as_int: wire.Number) -> int | float | None:
    if as_double is not None:
        return _double(as_double)
    return None if as_int is None else _integer(as_int)


def _attributes(pairs: list[wire.KeyValueIn] | None, depth: int = 0) -> dict[str, Any]:
    return {pair.key or "": _value(pair.value, depth) for pair in pairs or ()}


def _value(value: wire.AnyIn | None, depth: int) -> Any:
    if value is None:
        return None
    if value.string_value is not None:
        return value.string_value
    if value.bool_value is not None:
        return value.bool_value
    if value.int_value is not None:
        return _integer(value.int_value)
    if value.double_value is not None:
        return double(_double(value.double_value))
    if depth >= DEPTH_MAX:
        raise too_deep()
    if value.array_value is not None:
        return [_value(one, depth + 1) for one in value.array_value.values or ()]
    if value.kvlist_value is not None:
        return _attributes(value.kvlist_value.values, depth + 1)
    return value.bytes_value


def _hex(digits: str | None) -> str:
    """An id's digits; "" for what is no hex."""
    lower = (digits or "").lower()
    return lower if HEX.fullmatch(lower) else ""


def _integer(value: wire.Number) -> int:
    if value is None:
        return 0
    if type(value) is str:
        if not DECIMAL.fullmatch(value):
            raise Unusable("invalid_field", f"{value[:40]!r} is not an integer")
        value = int(value)
    if type(value) is float:
        if not value.is_integer():
            raise Unusable("invalid_field", f"{value} is not an integer")
        value = int(value)
    if not INT64_MIN <= value <= UINT64_MAX:  # type: ignore[operator]  # an int now
        raise Unusable("invalid_field", f"{value} does not fit 64 bits")
    return value  # type: ignore[return-value]


def _double(value: wire.Number | None) -> float:
    if value is None:  # as good as absent
        return 0.0
    if type(value) is str and not DOUBLE.fullmatch(value):
        raise Unusable("invalid_field", f"{value[:40]!r} is not a number")
    try:
        return float(value)  # a number, or its text
    except OverflowError:
        raise Unusable("invalid_field", "a number does not fit a double") from None
