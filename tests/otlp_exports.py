"""Export requests made of OpenTelemetry's own message classes, in both encodings, for tests of the server's OTLP wire."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from leeward.model import LEVELS, Dropped, Event
from leeward.wire.otlp import decode

PROJECT = 7
RECEIVED_AT = 1_795_322_999_000
NOW_NS = 1_795_322_741_463_000_000
TRACE_ID = bytes.fromhex("5b8efff798038103d269b633813fc60c")
SPAN_ID = bytes.fromhex("eee19b7ec3c1b174")
IDS = {"traceId", "spanId", "parentSpanId"}
DECODERS = {
    ExportTraceServiceRequest: decode.traces,
    ExportLogsServiceRequest: decode.logs,
    ExportMetricsServiceRequest: decode.metrics,
}
TEXTS = {"name": 200, "distinct_id": 200, "session_id": 200, "device_id": 200, "service": 200, "provider": 200}
TEXTS |= {"model": 200, "unit": 200, "id": 128, "error_type": 200, "error_message": 65_536, "error_stack": 65_536}
TEXTS |= {"trace_id": 200, "span_id": 200, "parent_span_id": 200, "correlation_id": 200, "status": 200}


def any_value(value: Any) -> AnyValue:
    """A Python value as AnyValue; None is the empty one."""
    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[any_value(one) for one in value]))
    return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))


def pairs(values: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in values.items()]


def span(attributes: dict[str, Any] | None = None, **fields: Any) -> Span:
    defaults: dict[str, Any] = {
        "trace_id": TRACE_ID,
        "span_id": SPAN_ID,
        "name": "work",
        "kind": 1,
        "start_time_unix_nano": NOW_NS,
        "end_time_unix_nano": NOW_NS + 1_500_000,
    }
    return Span(attributes=pairs(attributes or {}), **{**defaults, **fields})


def exception_event(**attributes: Any) -> Span.Event:
    said = {f"exception.{name}": value for name, value in attributes.items()}
    return Span.Event(name="exception", time_unix_nano=NOW_NS + 5, attributes=pairs(said))


def traces(*spans: Span, resource: dict[str, Any] | None = None, scope: str = "") -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    above = request.resource_spans.add()
    above.resource.attributes.extend(pairs(resource or {}))
    inner = above.scope_spans.add()
    inner.scope.name = scope
    inner.spans.extend(spans)
    return request


def log(body: Any = None, attributes: dict[str, Any] | None = None, **fields: Any) -> LogRecord:
    defaults: dict[str, Any] = {"time_unix_nano": NOW_NS, "severity_number": 9}
    if body is not None:
        defaults["body"] = any_value(body)
    return LogRecord(attributes=pairs(attributes or {}), **{**defaults, **fields})


def logs(*records: LogRecord, resource: dict[str, Any] | None = None) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    above = request.resource_logs.add()
    above.resource.attributes.extend(pairs(resource or {}))
    above.scope_logs.add().log_records.extend(records)
    return request


def metrics(*found: Metric, resource: dict[str, Any] | None = None) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    above = request.resource_metrics.add()
    above.resource.attributes.extend(pairs(resource or {}))
    above.scope_metrics.add().metrics.extend(found)
    return request


def header(field: int, size: int) -> bytes:
    """What stands before a message of this size in a field of another."""
    digits = bytearray([field << 3 | 2])
    while size >= 0x80:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(digits) + bytes([size])


def inside(field: int, *parts: bytes) -> bytes:
    """A message in a field of another."""
    body = b"".join(parts)
    return header(field, len(body)) + body


def as_json(message: Message) -> bytes:
    """The message in OTLP/JSON: ids in hex, enumerations as numbers."""
    return json.dumps(_with_hex_ids(json_format.MessageToDict(message, use_integers_for_enums=True))).encode()


def _with_hex_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_hex_ids(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64decode(one).hex() if key in IDS and isinstance(one, str) else _with_hex_ids(one)
        for key, one in value.items()
    }


def decoded(message: Message) -> list[Event | Dropped]:
    """What the server makes of the request: the same from protobuf and from JSON, which is looked at here."""
    read = DECODERS[type(message)]
    about = {"project": PROJECT, "received_at": RECEIVED_AT, "digest": b"the body"}
    binary = read(message.SerializeToString(), is_json=False, **about)
    assert read(as_json(message), is_json=True, **about) == binary
    for item in binary.items:
        check(item)
    return binary.items


def decoded_one(message: Message) -> Event:
    """The only event of a request."""
    (event,) = decoded(message)
    assert isinstance(event, Event)
    return event


def data_of(event: Event) -> Any:
    return json.loads(event.data)


def attributes_of(event: Event) -> Any:
    return json.loads(event.attributes)


def check(item: Event | Dropped) -> None:
    """What every item keeps, whatever came in."""
    if isinstance(item, Dropped):
        assert item.code
        assert item.error
        return
    assert item.id
    assert item.name
    assert item.kind in {"span", "log", "event", "exception", "metric"}
    assert item.level in {"", *LEVELS}
    assert isinstance(item.timestamp, int)
    assert -(2**63) <= item.timestamp < 2**63
    for field, chars_max in TEXTS.items():
        assert len(getattr(item, field)) <= chars_max, field
    for number in (item.duration_ms, item.value):
        assert number is None or math.isfinite(number)
    for tokens in (item.input_tokens, item.output_tokens):
        assert tokens is None or 0 <= tokens < 2**63
    for field in item.__struct_fields__:
        value = getattr(item, field)
        if isinstance(value, str):
            value.encode()
            assert "\0" not in value, field
    for text in (item.data, item.attributes or "{}"):
        assert isinstance(json.loads(text), dict)
