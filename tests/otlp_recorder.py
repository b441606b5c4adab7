"""A strict OTLP/HTTP receiver for the client's tests, on OpenTelemetry's own message classes; see `http_recorder`.

JSON is read as the protocol's mapping has it: keys in lowerCamelCase, ids in hex, 64-bit integers as decimal text,
enumerations as numbers, no unknown field, and nothing that a re-encoded message would not say in the same way. On both
encodings ids, times, names and attributes are looked at as the data model asks for.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

import http_recorder
from http_recorder import KEY, Action, Request, hang, larger_than, lost_answer, ok, raw, require, reset, status

__all__ = [
    "KEY",
    "Action",
    "Recorder",
    "Request",
    "attributes",
    "decode",
    "hang",
    "larger_than",
    "lost_answer",
    "ok",
    "partial",
    "raw",
    "reset",
    "status",
    "value_of",
]

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
REQUESTS = {
    "/v1/traces": (trace_service_pb2.ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
    "/v1/logs": (logs_service_pb2.ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
    "/v1/metrics": (metrics_service_pb2.ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics"),
}
RESPONSES = {
    "/v1/traces": (trace_service_pb2.ExportTraceServiceResponse, "rejected_spans"),
    "/v1/logs": (logs_service_pb2.ExportLogsServiceResponse, "rejected_log_records"),
    "/v1/metrics": (metrics_service_pb2.ExportMetricsServiceResponse, "rejected_data_points"),
}
ID_BYTES = {"traceId": 16, "spanId": 8, "parentSpanId": 8}


def partial(rejected: int, message: str = "no") -> Action:
    """Store all but the first so many items, and say so; with 0 it is a warning."""

    def act(recorder: http_recorder.Recorder, request: Request) -> bool:
        recorder.store(request, without=range(rejected))
        response, field = RESPONSES[request.path]
        answer = response()
        setattr(answer.partial_success, field, rejected)
        answer.partial_success.error_message = message
        respond(request, answer)
        return True

    return act


def respond(request: Request, answer: Message) -> None:
    kind = request.headers["content-type"]
    body = answer.SerializeToString() if kind == PROTOBUF else json_format.MessageToJson(answer).encode()
    request.answer(200, body, f"Content-Type: {kind}\r\n")


class Recorder(http_recorder.Recorder):
    """The OTLP wire. An item is a span, a log record or a metric as a message; `signals` counts what was stored."""

    def __init__(self, port: int = 0) -> None:
        self.signals: Counter[str] = Counter()  # spans, log_records, metrics
        self.services: set[str] = set()
        super().__init__(port)

    def read(self, request: Request) -> None:
        require(request.head.startswith("POST "), request.head)
        require(request.headers.get("authorization") == f"Bearer {KEY}", "the key")
        kind = request.headers.get("content-type")
        require(kind in {JSON, PROTOBUF}, f"content type {kind}")
        require(request.headers.get("accept") == kind, "an answer has the type of its request")
        message = decode(request.path, request.unpacked(), is_json=kind == JSON)
        request.items = list(self.checked(request.path, message))

    def checked(self, path: str, message: Message) -> Iterator[tuple[str, Any]]:
        _, resources, scopes, items = REQUESTS[path]
        for resource in getattr(message, resources):
            self.services.add(attributes(resource.resource.attributes)["service.name"])
            for scope in getattr(resource, scopes):
                require(scope.scope.name, "a scope without a name")
                for item in getattr(scope, items):
                    yield CHECKS[items](item), item

    def store(self, request: Request, without: Any = ()) -> None:
        kept = sum(index not in without for index in range(len(request.items)))
        self.signals[REQUESTS[request.path][3]] += kept
        super().store(request, without)

    def acknowledge(self, request: Request) -> None:
        respond(request, RESPONSES[request.path][0]())


def decode(path: str, body: bytes, *, is_json: bool) -> Message:
    """The export request of a body; raises for whatever is not exactly in the protocol's form."""
    message: Message = REQUESTS[path][0]()
    if not is_json:
        message.ParseFromString(body)
        require(len(UnknownFieldSet(message)) == 0, "unknown fields")
        return message
    sent = in_base64(json.loads(body))
    json_format.ParseDict(sent, message)
    again = json_format.MessageToDict(message, use_integers_for_enums=True)
    require(without_empty(sent) == without_empty(again), f"{sent} is read as {again}")
    return message


def in_base64(value: Any) -> Any:
    """With ids as protobuf's generic JSON has them."""
    if isinstance(value, list):
        return [in_base64(one) for one in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, one in value.items():
        if key in ID_BYTES:
            require(len(one) == 2 * ID_BYTES[key] and one == one.lower(), f"{key} {one!r}")
            result[key] = base64.b64encode(bytes.fromhex(one)).decode()
        else:
            result[key] = in_base64(one)
    return result


def without_empty(value: Any) -> Any:
    """Without empty lists and keys: they mean what absence means."""
    if isinstance(value, list):
        return [without_empty(one) for one in value]
    if isinstance(value, dict):
        return {key: without_empty(one) for key, one in value.items() if (key, one) != ("key", "") and one != []}
    return value


def value_of(any_value: Any) -> Any:
    """An AnyValue as Python has it."""
    kind = any_value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [value_of(one) for one in any_value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: value_of(pair.value) for pair in any_value.kvlist_value.values}
    return getattr(any_value, kind)


def attributes(pairs: Any) -> dict[str, Any]:
    keys = [pair.key for pair in pairs]
    require(all(keys) and len(set(keys)) == len(keys), f"attribute keys {keys}")
    return {pair.key: value_of(pair.value) for pair in pairs}


def check_span(span: Any) -> str:
    require(len(span.trace_id) == 16 and any(span.trace_id), f"trace id {span.trace_id!r}")
    require(len(span.span_id) == 8 and any(span.span_id), f"span id {span.span_id!r}")
    require(len(span.parent_span_id) == 0 or (len(span.parent_span_id) == 8 and any(span.parent_span_id)), "parent")
    require(span.name and 1 <= span.kind <= 5, "name and kind")
    found = attributes(span.attributes)
    require(span.start_time_unix_nano or "leeward.timestamp" in found, "no start")
    require(span.start_time_unix_nano <= span.end_time_unix_nano, "ends before it starts")
    require(span.status.code == 2 or not span.status.message, "a message without an error")
    for event in span.events:
        require(event.name, "an event without a name")
        require(event.name != "exception" or EXCEPTION & set(attributes(event.attributes)), "an empty exception")
    return str(found.get("leeward.event.id") or span.span_id.hex())


EXCEPTION = {"exception.type", "exception.message"}


def check_log(record: Any) -> str:
    require(len(record.trace_id) in {0, 16} and len(record.span_id) in {0, 8}, "ids")
    require(not record.trace_id or any(record.trace_id), "trace id")
    require(not record.span_id or any(record.span_id), "span id")
    require(1 <= record.severity_number <= 24, f"severity {record.severity_number}")
    found = attributes(record.attributes)
    require(record.time_unix_nano or record.observed_time_unix_nano or "leeward.timestamp" in found, "no time")
    require(record.HasField("body") or record.event_name, "neither body nor event name")
    return str(found.get("leeward.event.id") or digest(record))


def check_metric(metric: Any) -> str:
    require(metric.name, "a metric without a name")
    kind = metric.WhichOneof("data")
    require(kind is not None, "a metric without data")
    points = getattr(metric, kind).data_points
    require(len(points) > 0, "a metric without points")
    context: dict[str, Any] = {}
    for point in points:
        attributes(point.attributes)
        if kind in {"gauge", "sum"}:
            require(point.WhichOneof("value") is not None, "a point without a value")
        for exemplar in getattr(point, "exemplars", ()):
            require(exemplar.WhichOneof("value") is not None, "an exemplar without a value")
            context = attributes(exemplar.filtered_attributes)
        require(point.time_unix_nano or "leeward.timestamp" in context, "no time")
    return str(context.get("leeward.event.id") or digest(metric))


def digest(message: Message) -> str:
    return "h:" + hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()[:32]


CHECKS = {"spans": check_span, "log_records": check_log, "metrics": check_metric}
