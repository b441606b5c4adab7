"""Our OTLP messages are those of OpenTelemetry's own encoder, but bounded and without secrets."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings, strategies as st
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from leeward.integrations import otel_messages, otel_protobuf
from leeward.integrations.otel_messages import log_request, metric_requests, span_request
from otlp_recorder import REQUESTS, attributes, value_of

# No secret is that short, and no name of one can do without these letters.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="aekswAEKSW"), max_size=7)
SCALARS = st.booleans() | TEXTS | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
SEQUENCES = st.lists(TEXTS, max_size=4) | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4)
NAMES = st.text("abcdefghijk.", min_size=1, max_size=12)
ATTRIBUTES = st.dictionaries(NAMES, SCALARS | SEQUENCES, max_size=6)
NESTED = st.recursive(SCALARS | SEQUENCES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)
TIMES = st.integers(1, 2**62)
SECRET = "sk-proj-" + "Ab1" * 12


class Keeping(SpanProcessor, LogRecordProcessor):
    """Keeps what ends."""

    def __init__(self):
        self.kept = []

    def on_end(self, span):
        self.kept.append(span)

    def on_emit(self, log_record):
        self.kept.append(log_record)

    def shutdown(self):
        return None

    def force_flush(self, timeout_millis=0):
        return True


def decoded(signal, body):
    message = REQUESTS[f"/v1/{signal}"][0]()
    message.ParseFromString(body)
    return message


def span_of(fill=lambda span: None, *, resource=None, scope="app", limits=None, **arguments):
    """A finished span."""
    keeping = Keeping()
    provider = TracerProvider(resource=Resource(resource or {}), shutdown_on_exit=False, span_limits=limits)
    provider.add_span_processor(keeping)
    span = provider.get_tracer(scope, "1.2", "http://schema", {"scope": 1}).start_span(
        arguments.pop("name", "work"), **arguments
    )
    fill(span)
    span.end()
    return keeping.kept[0]


def only_span(body):
    return decoded("traces", body).resource_spans[0].scope_spans[0].spans[0]


def record_of(**fields):
    """An emitted log record."""
    keeping = Keeping()
    provider = LoggerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_log_record_processor(keeping)
    provider.get_logger("app", "1.2").emit(**fields)
    return keeping.kept[0]


def only_record(body):
    return decoded("logs", body).resource_logs[0].scope_logs[0].log_records[0]


@settings(max_examples=150)
@given(
    data=st.fixed_dictionaries(
        {
            "name": TEXTS,
            "attributes": ATTRIBUTES,
            "kind": st.sampled_from(SpanKind),
            "start_time": TIMES,
        }
    ),
    resource=ATTRIBUTES,
    events=st.lists(st.tuples(TEXTS, ATTRIBUTES, TIMES), max_size=3),
    links=st.lists(
        st.tuples(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans(), ATTRIBUTES), max_size=3
    ),
    parent=st.none() | st.booleans(),
    status=st.sampled_from(StatusCode),
)
def test_a_span_is_the_same_message_as_opentelemetrys_own(data, resource, events, links, parent, status):
    def fill(span):
        for name, given_attributes, time in events:
            span.add_event(name, given_attributes, time)
        for trace_id, span_id, is_remote, given_attributes in links:
            state = TraceState([("vendor", "x")])
            span.add_link(SpanContext(trace_id, span_id, is_remote, trace_state=state), given_attributes)
        span.set_status(status, "why" if status is StatusCode.ERROR else None)

    if parent is not None:
        context = SpanContext(
            5, 6, is_remote=parent, trace_flags=TraceFlags(1), trace_state=TraceState([("a", "b"), ("c", "d")])
        )
        data = {**data, "context": set_span_in_context(NonRecordingSpan(context))}
    span = span_of(fill, resource=resource, limits=SpanLimits(max_attributes=4, max_events=2, max_links=2), **data)

    ours = decoded("traces", span_request(span))
    for link in ours.resource_spans[0].scope_spans[0].spans[0].links:
        assert link.trace_state == "vendor=x"
        link.trace_state = ""  # OpenTelemetry's encoder forgets it
    assert ours == encode_spans([span])


@settings(max_examples=150)
@given(
    body=st.none() | NESTED,
    given_attributes=st.dictionaries(NAMES, NESTED, max_size=4),
    timestamp=st.none() | TIMES,
    severity=st.none() | st.sampled_from(SeverityNumber),
    is_traced=st.booleans(),
)
def test_a_log_record_is_the_same_message_as_opentelemetrys_own(body, given_attributes, timestamp, severity, is_traced):
    context = None
    if is_traced:
        context = set_span_in_context(NonRecordingSpan(SpanContext(5, 6, is_remote=False, trace_flags=TraceFlags(1))))
    record = record_of(
        body=body,
        attributes=given_attributes,
        timestamp=timestamp,
        severity_number=severity,
        severity_text="WARN",
        event_name="order",
        context=context,
    )

    assert decoded("logs", log_request(record)) == encode_logs([record])


def metrics_of(fill, **arguments):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], resource=Resource({"service.name": "shop"}), shutdown_on_exit=False, **arguments)
    fill(provider.get_meter("app", "1.2"))
    return reader.get_metrics_data()


NUMBERS = st.integers(0, 2**40) | st.floats(0, 1e12)


@settings(max_examples=60)
@given(points=st.lists(st.tuples(NUMBERS, ATTRIBUTES), min_size=1, max_size=5))
def test_metrics_are_the_same_message_as_opentelemetrys_own(points):
    def fill(meter):
        counter, histogram = meter.create_counter("orders", "1", "how many"), meter.create_histogram("latency", "s")
        gauge, balance = meter.create_gauge("level"), meter.create_up_down_counter("balance")
        exponential = meter.create_histogram("exponential")
        for value, labels in points:
            counter.add(value, labels)
            histogram.record(value, labels)
            gauge.set(-value, labels)
            balance.add(-value, labels)
            exponential.record(value, labels)

    data = metrics_of(
        fill,
        exemplar_filter=AlwaysOnExemplarFilter(),
        views=[View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())],
    )
    (body,) = metric_requests(data)
    ours, theirs = decoded("metrics", body), encode_metrics(data)

    ours_all = [metric for part in ours.resource_metrics for scope in part.scope_metrics for metric in scope.metrics]
    assert ours_all == list(theirs.resource_metrics[0].scope_metrics[0].metrics)
    assert {part.resource.SerializeToString() for part in ours.resource_metrics} == {
        theirs.resource_metrics[0].resource.SerializeToString()
    }


def test_exemplars_name_the_span_they_were_measured_in():
    def fill(meter):
        context = set_span_in_context(NonRecordingSpan(SpanContext(5, 6, is_remote=False, trace_flags=TraceFlags(1))))
        meter.create_counter("orders").add(1, {"shop": "north"}, context)
        meter.create_histogram("latency").record(0.5, context=context)

    data = metrics_of(fill)
    ours = decoded("metrics", metric_requests(data)[0])
    metrics = [metric for part in ours.resource_metrics for metric in part.scope_metrics[0].metrics]

    assert metrics == list(encode_metrics(data).resource_metrics[0].scope_metrics[0].metrics)
    assert metrics[0].sum.data_points[0].exemplars[0].trace_id == (5).to_bytes(16, "big")


def test_many_points_are_split_into_requests_of_bounded_size(monkeypatch):
    monkeypatch.setattr(otel_messages, "METRICS_BYTES_MAX", 20_000)

    def fill(meter):
        counter = meter.create_counter("orders")
        for number in range(900):
            counter.add(1, {"number": number})

    requests = metric_requests(metrics_of(fill))

    assert len(requests) > 1
    assert max(map(len, requests)) < 30_000
    points = [
        point
        for body in requests
        for part in decoded("metrics", body).resource_metrics
        for metric in part.scope_metrics[0].metrics
        for point in metric.sum.data_points
    ]
    assert sorted(attributes(point.attributes)["number"] for point in points) == list(range(900))


def test_no_metrics_are_no_request():
    assert metric_requests(MetricsData(resource_metrics=[])) == []


def test_a_kind_of_metric_that_nobody_knows_is_an_error_not_a_wrong_message():
    with pytest.raises(TypeError, match="is no kind of metric"):
        otel_messages._data(type("Summary", (), {"aggregation_temporality": 1})(), [])


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_secrets_are_taken_out_of_every_part_of_a_span():
    def fill(span):
        span.set_attribute("http.request.header.authorization", ["Bearer abc"])
        span.set_attribute("url.full", "https://x/?token=abcdefgh&page=2")
        span.set_attribute("gen_ai.input.messages", json.dumps([{"role": "user", "content": f"my key is {SECRET}"}]))
        span.add_event("e", {"password": "hunter2"})
        span.add_link(SpanContext(1, 2, is_remote=False), {"api_key": "hunter2"})
        span.set_status(StatusCode.ERROR, f"refused {SECRET}")

    span = span_of(fill, resource={"db.password": "hunter2"}, name=f"GET {SECRET}")
    body = span_request(span)

    for secret in (SECRET.encode(), b"Bearer abc", b"abcdefgh", b"hunter2"):
        assert secret not in body
    found = attributes(only_span(body).attributes)
    assert found["url.full"] == "https://x/?token=<redacted>&page=2"
    assert found["gen_ai.input.messages"] == '[{"role": "user", "content": "my key is <redacted>"}]'
    assert span.name == f"GET {SECRET}"  # other processors see what they saw
    assert span.attributes["http.request.header.authorization"] == ("Bearer abc",)


def test_secrets_are_taken_out_of_log_records_and_metrics():
    record = record_of(body={"password": "hunter2", "text": SECRET}, attributes={"api_key": "hunter2"})
    data = metrics_of(lambda meter: meter.create_counter("c").add(1, {"session_token": "hunter2"}))

    for body in (log_request(record), *metric_requests(data)):
        assert b"hunter2" not in body
        assert SECRET.encode() not in body


def test_what_conversations_are_about_is_left_as_the_program_set_it():
    messages = '[{"role": "user", "parts": [{"type": "text", "content": "What is the capital of France?"}]}]'

    span = span_of(attributes={"gen_ai.input.messages": messages, "gen_ai.usage.input_tokens": 9})

    found = attributes(only_span(span_request(span)).attributes)
    assert found == {"gen_ai.input.messages": messages, "gen_ai.usage.input_tokens": 9}


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_huge_span_becomes_a_bounded_one_that_says_what_is_missing():
    def fill(span):
        for _ in range(100):
            span.add_event("e", {"text": "x " * 50_000})

    span = span_of(fill, attributes={"text": "x " * 1_000_000}, name="n" * 5_000)
    body = span_request(span)
    message = only_span(body)

    assert len(body) < 800_000
    assert len(message.events) + message.dropped_events_count == 100
    assert attributes(message.attributes)["text"].endswith("…<cut 1934464>")
    assert len(message.name) == 1024


def test_values_that_otlp_has_no_place_for_become_texts():
    record = record_of(body=[2**64 - 1, math.inf, math.nan, b"\xff", None, "\ud800"])

    assert value_of(only_record(log_request(record)).body) == [str(2**64 - 1), "Infinity", "NaN", "\ufffd", None, "?"]


def test_measured_numbers_beyond_64_bits_are_doubles():
    data = metrics_of(lambda meter: meter.create_counter("c").add(2**70))

    part = decoded("metrics", metric_requests(data)[0]).resource_metrics[0]
    assert part.scope_metrics[0].metrics[0].sum.data_points[0].as_double == 2.0**70


def test_attributes_that_cannot_be_read_leave_a_mark(monkeypatch):
    monkeypatch.setattr(otel_protobuf, "bounded", lambda _: "<unreadable>")

    assert otel_protobuf.bounded_attributes({"a": 1}) == {"…": "<unreadable>"}


def test_an_item_without_resource_and_scope_is_a_message_too():
    message = decoded("logs", otel_protobuf.request(None, None, b""))

    assert len(message.resource_logs[0].scope_logs) == 1


def test_what_is_remembered_of_names_and_resources_is_bounded(monkeypatch):
    monkeypatch.setattr(otel_protobuf, "KEYS_REMEMBERED_MAX", 3)
    monkeypatch.setattr(otel_protobuf, "HEADS_REMEMBERED_MAX", 3)
    for number in range(20):
        span = span_of(resource={"service.name": str(number)}, attributes={f"a{number}": number})
        message = decoded("traces", span_request(span))
        assert message == encode_spans([span])

    assert len(otel_protobuf._keys) <= 3
    assert len(otel_protobuf._heads) <= 3
