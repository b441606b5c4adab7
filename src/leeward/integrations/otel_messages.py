"""OpenTelemetry's finished spans, log records and metrics → OTLP export requests, ready to be spooled and sent.

Promises  pure but for what `otel_protobuf` remembers. What a program gave as attribute, name, body or message is
          bounded and cleaned of secrets; ids, times and numbers are as they were. The SDK's objects stay as they are:
          other processors see what they saw.
Limits    texts of 65,536 characters, 131,072 in one set of attributes. A span's events and links beyond half a
          megabyte are left out, and counted in the message as dropped.
"""

from __future__ import annotations

from struct import Struct

from opentelemetry.sdk.metrics.export import ExponentialHistogram, Gauge, Histogram, Sum

from leeward.integrations.otel_protobuf import (
    any_value,
    bounded_attributes,
    double,
    field,
    fixed64,
    key_values,
    request,
    text,
    varint,
)
from leeward.scrub.values import bounded, bounded_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Final

    from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
    from opentelemetry.sdk.metrics.export import Metric, MetricsData
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import Link, SpanContext

__all__ = ["log_request", "metric_requests", "span_request"]

NAME_CHARS_MAX: Final = 1_024
MESSAGE_CHARS_MAX: Final = 65_536
EXTRAS_BYTES_MAX: Final = 512 * 1024  # of one span: its events, and its links
POINTS_MAX: Final = 200  # of one metric in one message
METRICS_BYTES_MAX: Final = 512 * 1024  # of one request, but for one metric that is larger
ITEM: Final = b"\x12"  # a scope's items, in all three signals
REMOTENESS_KNOWN: Final = 0x100
REMOTE: Final = 0x200

_fixed32 = Struct("<I").pack
_fixed64 = Struct("<Q").pack
_sfixed64 = Struct("<q").pack


def _count(tag: bytes, value: int) -> bytes:
    return tag + varint(value) if value else b""


# --- spans ------------------------------------------------------------------------------------------------------------


def span_request(span: ReadableSpan) -> bytes:
    """An ExportTraceServiceRequest with one span."""
    context, parent = span.get_span_context(), span.parent
    assert context is not None  # of a span that has ended
    message = b"".join(
        (
            b"\x0a\x10" + context.trace_id.to_bytes(16, "big"),
            b"\x12\x08" + context.span_id.to_bytes(8, "big"),
            _trace_state(b"\x1a", context),
            b"\x22\x08" + parent.span_id.to_bytes(8, "big") if parent else b"",
            text(b"\x2a", bounded_text(span.name, NAME_CHARS_MAX)),
            b"\x30" + varint(span.kind.value + 1),
            fixed64(b"\x39", span.start_time),
            fixed64(b"\x41", span.end_time),
            key_values(b"\x4a", bounded_attributes(span.attributes)),
            _count(b"\x50", span.dropped_attributes),
            _extras(b"\x5a", span.events, _event, b"\x60", span.dropped_events),
            _extras(b"\x6a", span.links, _link, b"\x70", span.dropped_links),
            _status(span),
            b"\x85\x01" + _flags(parent),
        )
    )
    return request(span.resource, span.instrumentation_scope, field(ITEM, message))


def _extras(tag: bytes, extras: Sequence[Any], encode: Callable[[Any], bytes], count_tag: bytes, dropped: int) -> bytes:
    """Events or links, as many as there is room for, and how many were dropped."""
    if not extras and not dropped:
        return b""
    parts: list[bytes] = []
    room = EXTRAS_BYTES_MAX
    for index, extra in enumerate(extras):
        encoded = encode(extra)
        room -= len(encoded)
        if room < 0:
            dropped += len(extras) - index
            break
        parts.append(field(tag, encoded))
    return b"".join(parts) + _count(count_tag, dropped)


def _event(event: Event) -> bytes:
    return (
        fixed64(b"\x09", event.timestamp)
        + text(b"\x12", bounded_text(event.name, NAME_CHARS_MAX))
        + key_values(b"\x1a", bounded_attributes(event.attributes))
        + _count(b"\x20", event.dropped_attributes)
    )


def _link(link: Link) -> bytes:
    context = link.context
    return b"".join(
        (
            b"\x0a\x10" + context.trace_id.to_bytes(16, "big"),
            b"\x12\x08" + context.span_id.to_bytes(8, "big"),
            _trace_state(b"\x1a", context),
            key_values(b"\x22", bounded_attributes(link.attributes)),
            _count(b"\x28", link.dropped_attributes),
            b"\x35" + _flags(context),
        )
    )


def _status(span: ReadableSpan) -> bytes:
    status = span.status
    message = text(b"\x12", bounded_text(status.description, MESSAGE_CHARS_MAX))
    code = status.status_code.value
    return field(b"\x7a", message + _count(b"\x18", code))


def _trace_state(tag: bytes, context: SpanContext) -> bytes:
    state = context.trace_state
    return text(tag, ",".join([f"{key}={value}" for key, value in state.items()])) if state else b""


def _flags(other: SpanContext | None) -> bytes:
    """Whether the span's parent, or the linked span, is in another process."""
    return _fixed32(REMOTENESS_KNOWN | REMOTE if other and other.is_remote else REMOTENESS_KNOWN)


# --- log records ------------------------------------------------------------------------------------------------------


def log_request(readable: ReadableLogRecord | ReadWriteLogRecord) -> bytes:
    """An ExportLogsServiceRequest with one log record."""
    record = readable.log_record
    number = record.severity_number
    body = record.body
    flags = int(record.trace_flags or 0)
    message = b"".join(
        (
            fixed64(b"\x09", record.timestamp),
            _count(b"\x10", number.value if number is not None else 0),
            text(b"\x1a", bounded_text(record.severity_text)),
            # Nothing that a program can say has no body at all: None is an empty value.
            field(b"\x2a", any_value(bounded(body))),
            key_values(b"\x32", bounded_attributes(record.attributes)),
            _count(b"\x38", readable.dropped_attributes),
            b"\x45" + _fixed32(flags) if flags else b"",
            b"\x4a\x10" + record.trace_id.to_bytes(16, "big") if record.trace_id else b"",
            b"\x52\x08" + record.span_id.to_bytes(8, "big") if record.span_id else b"",
            fixed64(b"\x59", record.observed_timestamp),
            text(b"\x62", bounded_text(record.event_name)),
        )
    )
    return request(readable.resource, readable.instrumentation_scope, field(ITEM, message))


# --- metrics ----------------------------------------------------------------------------------------------------------


def metric_requests(data: MetricsData) -> list[bytes]:
    """ExportMetricsServiceRequests with all metrics, as few as their size allows."""
    requests: list[bytes] = []
    together: list[bytes] = []
    room = METRICS_BYTES_MAX
    for part in _parts(data):
        room -= len(part)
        if room < 0 and together:
            requests.append(b"".join(together))  # requests one after the other are one request
            together, room = [], METRICS_BYTES_MAX - len(part)
        together.append(part)
    if together:
        requests.append(b"".join(together))
    return requests


def _parts(data: MetricsData) -> Iterator[bytes]:
    for of_resource in data.resource_metrics:
        for of_scope in of_resource.scope_metrics:
            for metric in of_scope.metrics:
                for message in _messages(metric):
                    yield request(of_resource.resource, of_scope.scope, field(ITEM, message))


def _messages(metric: Metric) -> Iterator[bytes]:
    """A metric as messages of so many points."""
    head = (
        text(b"\x0a", bounded_text(metric.name, NAME_CHARS_MAX))
        + text(b"\x12", bounded_text(metric.description, NAME_CHARS_MAX))
        + text(b"\x1a", metric.unit)
    )
    points = metric.data.data_points
    for start in range(0, len(points), POINTS_MAX):
        yield head + _data(metric.data, points[start : start + POINTS_MAX])


def _data(data: Any, points: Sequence[Any]) -> bytes:
    if isinstance(data, Gauge):
        return field(b"\x2a", _points(points, _number))
    temporality = _count(b"\x10", int(data.aggregation_temporality))
    if isinstance(data, Sum):
        monotonic = b"\x18\x01" if data.is_monotonic else b""
        return field(b"\x3a", _points(points, _number) + temporality + monotonic)
    if isinstance(data, Histogram):
        return field(b"\x4a", _points(points, _histogram) + temporality)
    if isinstance(data, ExponentialHistogram):
        return field(b"\x52", _points(points, _exponential) + temporality)
    raise TypeError(f"{type(data).__name__} is no kind of metric that can be sent")


def _points(points: Sequence[Any], encode: Callable[[Any], bytes]) -> bytes:
    return b"".join([field(b"\x0a", encode(point)) for point in points])


def _number(point: Any) -> bytes:
    return b"".join(
        (
            fixed64(b"\x11", point.start_time_unix_nano),
            fixed64(b"\x19", point.time_unix_nano),
            _value(b"\x21", b"\x31", point.value),
            _exemplars(b"\x2a", point),
            key_values(b"\x3a", bounded_attributes(point.attributes)),
        )
    )


def _histogram(point: Any) -> bytes:
    counts = b"".join([_fixed64(count) for count in point.bucket_counts])
    bounds = b"".join([double(b"", bound) for bound in point.explicit_bounds])
    return b"".join(
        (
            fixed64(b"\x11", point.start_time_unix_nano),
            fixed64(b"\x19", point.time_unix_nano),
            fixed64(b"\x21", point.count),
            double(b"\x29", point.sum),
            field(b"\x32", counts),
            field(b"\x3a", bounds),
            _exemplars(b"\x42", point),
            key_values(b"\x4a", bounded_attributes(point.attributes)),
            double(b"\x59", point.min),
            double(b"\x61", point.max),
        )
    )


def _exponential(point: Any) -> bytes:
    return b"".join(
        (
            key_values(b"\x0a", bounded_attributes(point.attributes)),
            fixed64(b"\x11", point.start_time_unix_nano),
            fixed64(b"\x19", point.time_unix_nano),
            fixed64(b"\x21", point.count),
            double(b"\x29", point.sum),
            _count(b"\x30", _zigzag(point.scale)),
            fixed64(b"\x39", point.zero_count),
            _buckets(b"\x42", point.positive),
            _buckets(b"\x4a", point.negative),
            _exemplars(b"\x5a", point),
            double(b"\x61", point.min),
            double(b"\x69", point.max),
        )
    )


def _buckets(tag: bytes, buckets: Any) -> bytes:
    if not buckets.bucket_counts:
        return b""
    counts = b"".join([varint(count) for count in buckets.bucket_counts])
    return field(tag, _count(b"\x08", _zigzag(buckets.offset)) + field(b"\x12", counts))


def _exemplars(tag: bytes, point: Any) -> bytes:
    return b"".join([field(tag, _exemplar(exemplar)) for exemplar in point.exemplars])


def _exemplar(exemplar: Any) -> bytes:
    is_traced = exemplar.span_id is not None and exemplar.trace_id is not None
    return b"".join(
        (
            fixed64(b"\x11", exemplar.time_unix_nano),
            _value(b"\x19", b"\x31", exemplar.value),
            b"\x22\x08" + exemplar.span_id.to_bytes(8, "big") if is_traced else b"",
            b"\x2a\x10" + exemplar.trace_id.to_bytes(16, "big") if is_traced else b"",
            key_values(b"\x3a", bounded_attributes(exemplar.filtered_attributes)),
        )
    )


def _value(double_tag: bytes, int_tag: bytes, value: float) -> bytes:
    """A measured number, exactly; an integer that 64 bits do not hold as a double."""
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return int_tag + _sfixed64(value)
    return double(double_tag, float(value))


def _zigzag(value: int) -> int:
    return (value << 1) ^ (value >> 63)
