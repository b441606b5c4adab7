"""Every decoder of the OTLP wire, for fuzzing: each lets pass what is documented, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

import otlp_exports as exports
from leeward.errors import ProtocolError
from leeward.wire.otlp import decode
from otlp_exports import NOW_NS, SPAN_ID, TRACE_ID, as_json, log, pairs, span

VALUES = {"s": "é\U0001f600", "i": -5, "d": 1.5, "b": True, "n": None, "a": [1, ["x", {}]], "m": {"k": {"v": b"\xff"}}}
GEN_AI = {"gen_ai.provider.name": "openai", "gen_ai.response.model": "m", "gen_ai.usage.input_tokens": 12}
OWN = {"leeward.event.id": "e1", "user.id": "u", "level": "WARN", "duration_ms": 2.5, "leeward.timestamp": -5}

TRACES = exports.traces(
    span(VALUES, trace_state="a=b", flags=0x101, status={"code": 2, "message": "boom"}),
    span(
        GEN_AI,
        parent_span_id=SPAN_ID,
        events=[exports.exception_event(type="E", message="m", stacktrace="s", escaped=True), Span.Event(name="tick")],
        links=[Span.Link(trace_id=TRACE_ID, span_id=SPAN_ID, attributes=pairs(VALUES), flags=1)],
        dropped_attributes_count=3,
    ),
    span({**OWN, "langfuse.observation.usage_details": '{"input":1}'}, trace_id=b"\0" * 16),
    resource={"service.name": "chat", **VALUES},
    scope="lib",
)
LOGS = exports.logs(
    log("hello", VALUES, observed_time_unix_nano=NOW_NS + 1, severity_text="Info", trace_id=TRACE_ID, flags=1),
    log(VALUES, OWN, event_name="signup", dropped_attributes_count=2),
    log("E: m", {"exception.type": "E", "exception.message": "m"}, event_name="exception", severity_number=21),
    log("no time", time_unix_nano=0),
)
NUMBER = {
    "as_int": 5,
    "time_unix_nano": NOW_NS,
    "start_time_unix_nano": NOW_NS - 9,
    "attributes": pairs(VALUES),
    "exemplars": [{"as_double": 1.5, "filtered_attributes": pairs(OWN), "trace_id": TRACE_ID, "span_id": SPAN_ID}],
}
MIDST = {"time_unix_nano": NOW_NS, "count": 3, "sum": 4.5, "attributes": pairs({"a": "b"})}
METRICS = exports.metrics(
    Metric(name="g", unit="s", description="d", gauge={"data_points": [NUMBER, {"as_double": float("nan")}]}),
    Metric(name="s", sum={"data_points": [NUMBER], "aggregation_temporality": 2, "is_monotonic": True}),
    Metric(
        name="h",
        histogram={
            "data_points": [{**MIDST, "bucket_counts": [1, 2, 0], "explicit_bounds": [0.5, 9.0], "min": 0.1, "max": 4}],
            "aggregation_temporality": 1,
        },
    ),
    Metric(
        name="e",
        exponential_histogram={
            "data_points": [
                {**MIDST, "scale": -2, "zero_count": 1, "positive": {"offset": -3, "bucket_counts": [1, 300]}}
            ]
        },
    ),
    Metric(name="q", summary={"data_points": [{**MIDST, "quantile_values": [{"quantile": 0.5, "value": 1.5}]}]}),
)


def _target(read: Callable[..., decode.Decoded], *, is_json: bool) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        try:
            found = read(data, is_json=is_json, project=exports.PROJECT, received_at=exports.RECEIVED_AT)
        except ProtocolError:
            return
        for item in found.items:
            exports.check(item)

    return target


def decode_all(data: bytes) -> None:
    """Give the same bytes to every decoder."""
    for target, _ in TARGETS.values():
        target(data)


SEEDS = {
    decode.traces: [TRACES, exports.traces(span({"deep": None}))],
    decode.logs: [LOGS, exports.logs(log(), log(body=None, event_name="e"))],
    decode.metrics: [METRICS],
}
TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {}
for _read, _messages in SEEDS.items():
    _binary = [message.SerializeToString() for message in _messages]
    _text = [as_json(message) for message in _messages]
    TARGETS[f"otlp_{_read.__name__}_protobuf"] = (_target(_read, is_json=False), [b"", *_binary])
    TARGETS[f"otlp_{_read.__name__}_json"] = (_target(_read, is_json=True), [b"{}", *_text])
