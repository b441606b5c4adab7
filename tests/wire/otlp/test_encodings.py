"""The rules of the two encodings: what each sender may write, what is no request, and real bytes of OpenTelemetry's SDK."""

from __future__ import annotations

import base64
import json
import struct

import pytest
from hypothesis import given, settings, strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fuzz_targets_otlp import LOGS, METRICS, TRACES
from leeward.errors import ProtocolError
from leeward.model import Dropped, Event
from leeward.wire.otlp import decode
from otlp_exports import (
    NOW_NS,
    PROJECT,
    RECEIVED_AT,
    SPAN_ID,
    TRACE_ID,
    attributes_of,
    data_of,
    decoded,
    decoded_one,
    inside,
    log,
    logs,
    pairs,
    span,
    traces,
)

SPAN = {
    "traceId": TRACE_ID.hex(),
    "spanId": SPAN_ID.hex(),
    "name": "work",
    "kind": 3,
    "startTimeUnixNano": str(NOW_NS),
    "endTimeUnixNano": str(NOW_NS),
}
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def read(body, *, is_json=True, signal=decode.traces):
    return signal(body, is_json=is_json, project=PROJECT, received_at=RECEIVED_AT)


def of_span(**fields):
    """The one item of a JSON request for a span with these fields."""
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [{**SPAN, **fields}]}]}]}
    (item,) = read(json.dumps(body).encode()).items
    return item


def refused(body, **about):
    with pytest.raises(ProtocolError) as raised:
        read(body, **about)
    assert raised.value.status == 400
    return raised.value


# -- both ------------------------------------------------------------------------------------------------------------


def test_requests_with_everything_in_them_mean_the_same_in_both_encodings():
    assert [len(decoded(one)) for one in (TRACES, LOGS, METRICS)] == [4, 4, 6]


@given(st.dictionaries(st.text(), PLAIN, max_size=5))
def test_attributes_of_any_shape_mean_the_same_in_both_encodings(attributes):
    event = decoded_one(traces(span(attributes)))

    assert data_of(event) == as_kept(attributes)


def as_kept(value):
    if isinstance(value, list):
        return [as_kept(one) for one in value]
    if isinstance(value, dict):
        return {as_kept(key): as_kept(one) for key, one in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    return (
        {float("inf"): "Infinity", float("-inf"): "-Infinity"}.get(value, value) if isinstance(value, float) else value
    )


@pytest.mark.parametrize(
    ("value", "kept"), [(float("nan"), "NaN"), (float("inf"), "Infinity"), (-float("inf"), "-Infinity")]
)
def test_i2_doubles_that_json_has_no_number_for_are_texts(value, kept):
    assert data_of(decoded_one(traces(span({"a": value})))) == {"a": kept}


def test_an_attribute_given_twice_counts_as_it_was_given_last():
    message = traces(span({"a": 1}))
    message.resource_spans[0].scope_spans[0].spans[0].attributes.extend(pairs({"a": 2}))

    assert data_of(decoded_one(message)) == {"a": 2}


# -- JSON ------------------------------------------------------------------------------------------------------------


def test_i7_ids_in_json_are_hex_in_either_case_and_never_base64():
    upper = of_span(traceId=TRACE_ID.hex().upper(), spanId=SPAN_ID.hex().upper())
    assert (upper.trace_id, upper.span_id) == (TRACE_ID.hex(), SPAN_ID.hex())

    assert of_span(traceId=base64.b64encode(TRACE_ID).decode()).code == "invalid_id"
    assert of_span(traceId="g" * 32).code == "invalid_id"
    assert of_span(traceId=None).code == "invalid_id"


@pytest.mark.parametrize("start", [str(NOW_NS), NOW_NS, float(NOW_NS)])
def test_a_64_bit_integer_is_a_text_or_a_number(start):
    assert of_span(startTimeUnixNano=start).timestamp == NOW_NS // 1_000_000


@pytest.mark.parametrize("start", ["", "x", "1_0", " 1", "١", "9" * 5000, 1.5, -(2**63) - 1, 2**64, 10**400, "1" * 21])
def test_i2_an_integer_that_is_none_or_too_large_refuses_its_item_alone(start):
    dropped = of_span(startTimeUnixNano=start)

    assert dropped.code == "invalid_field"
    assert len(dropped.error) < 700


@pytest.mark.parametrize(
    ("sent", "kept"), [(1.5, 1.5), (2, 2.0), ("1.5e3", 1500.0), ("NaN", "NaN"), ("-Infinity", "-Infinity")]
)
def test_a_double_is_a_number_or_a_name(sent, kept):
    event = of_span(attributes=[{"key": "a", "value": {"doubleValue": sent}}])

    assert data_of(event) == {"a": kept}


@pytest.mark.parametrize("sent", ["inf", "nan", "1_0", "0x1", "", "1" * 500, 10**400])
def test_i2_a_double_that_is_none_refuses_its_item_alone(sent):
    assert of_span(attributes=[{"key": "a", "value": {"doubleValue": sent}}]).code == "invalid_field"


@pytest.mark.parametrize("fields", [{"kind": "SPAN_KIND_CLIENT"}, {"status": {"code": "STATUS_CODE_ERROR"}}])
def test_i7_the_name_of_an_enumeration_is_refused(fields):
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{**SPAN, **fields}]}]}]}).encode()

    assert refused(body).code == "not_otlp"


def test_i7_unknown_keys_and_those_in_snake_case_are_passed_over():
    event = of_span(future={"a": [1]}, start_time_unix_nano="1", status={"code": 2, "details": []}, trace_id="no")

    assert (event.status, event.timestamp) == ("error", NOW_NS // 1_000_000)


def test_null_is_what_is_absent():
    event = of_span(
        parentSpanId=None, attributes=None, events=None, links=None, status=None, traceState=None, flags=None
    )
    assert isinstance(event, Event)
    assert data_of(
        of_span(attributes=[{"key": "a", "value": None}, {"key": None, "value": {"stringValue": None}}])
    ) == {
        "a": None,
        "": None,
    }
    for body in (b'{"resourceSpans":null}', b'{"resourceSpans":[{"scopeSpans":null,"resource":null}]}', b"{}"):
        assert read(body).items == []
    body = {"resourceSpans": [{"resource": None, "schemaUrl": None, "scopeSpans": [{"scope": None, "spans": [SPAN]}]}]}
    assert isinstance(read(json.dumps(body).encode()).items[0], Event)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"resourceSpans":{}}',
        b'{"resourceSpans":[1]}',
        b'{"resourceSpans":[{"scopeSpans":1}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[null]}]}]}',
        b'{"resourceSpans":[]} x',
        b"\xef\xbb\xbf{}",
    ],
)
def test_i1_what_is_no_request_in_json_is_refused(body):
    assert refused(body).code in {"invalid_json", "invalid_field", "not_otlp"}


def test_i4_broken_text_in_json_is_replaced_and_said():
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{**SPAN, "name": "A"}]}]}]}).encode()
    found = read(body.replace(b'"A"', b'"\\ud800\\u0000\xff"'))

    assert found.items[0].name == "\ufffd\ufffd\ufffd"
    assert found.repaired


def test_bytes_are_kept_as_base64():
    event = of_span(attributes=[{"key": "a", "value": {"bytesValue": "/w=="}}])

    assert data_of(event) == {"a": "/w=="}


# -- protobuf --------------------------------------------------------------------------------------------------------


def in_request(*spans: bytes) -> bytes:
    return inside(1, inside(2, *(inside(2, one) for one in spans)))


GOOD = span({"a": "b"}).SerializeToString()


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (b"k", b"\xff\xfe", {"k": "\ufffd\ufffd"}),
        (b"k", b"a\0b", {"k": "a\ufffdb"}),
        (b"k\xc3", b"v", {"k\ufffd": "v"}),
        (b"\0", b"v", {"\ufffd": "v"}),
        (b"k", b"\xed\xa0\x80", {"k": "\ufffd\ufffd\ufffd"}),
        (b"k", b"v" * 200 + b"\xff", {"k": "v" * 200 + "\ufffd"}),
    ],
)
def test_i4_text_that_is_no_utf8_does_not_cost_its_request(key, value, expected):
    found = read(in_request(GOOD + inside(9, inside(1, key), inside(2, inside(1, value)))), is_json=False)

    assert data_of(found.items[0]) == {"a": "b", **expected}
    assert found.repaired


def test_i4_text_that_is_as_it_should_be_is_not_said_to_be_replaced():
    assert not read(in_request(GOOD), is_json=False).repaired


@pytest.mark.parametrize(
    "wound",
    [
        pytest.param(b"\x0b\x0c", id="a group"),
        pytest.param(b"\x0b" * 100_000, id="groups in groups"),
        pytest.param(b"\x0c", id="the end of a group"),
        pytest.param(b"\x0e", id="wire type 6"),
        pytest.param(b"\x0f", id="wire type 7"),
        pytest.param(b"\x4a\x7f", id="a length beyond the end"),
        pytest.param(b"\x4a\xff\xff\xff\xff\x0f", id="a length of 4 GB"),
        pytest.param(b"\x4a" + b"\xff" * 9 + b"\x7f", id="a length of 70 bits"),
        pytest.param(b"\x80" * 11, id="a number that does not end"),
        pytest.param(b"\x39\1\2", id="a cut fixed64"),
        pytest.param(b"\x85\x01\1", id="a cut fixed32"),
        pytest.param(b"\x4a\x03\x0a\x05k", id="an attribute that lies about its key"),
        pytest.param(b"\x4a\x04\x12\x02\x0a\x09", id="an attribute that lies about its value"),
        pytest.param(b"\x7a\x02\x12\x05", id="a status that lies"),
        pytest.param(b"\x30", id="a tag alone"),
        pytest.param(b"\0\0", id="a number in field 0"),
        pytest.param(b"\x02\0", id="a text in field 0"),
    ],
)
def test_i7_bytes_that_break_the_wire_form_are_refused(wound):
    assert refused(in_request(GOOD + wound), is_json=False).code == "invalid_protobuf"
    assert refused(in_request(GOOD + wound, GOOD), is_json=False).code == "invalid_protobuf"


@pytest.mark.parametrize("signal", [decode.traces, decode.logs, decode.metrics])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(inside(1, b"\x12\x7f") + b"x" * 200, id="a scope beyond its resource"),
        pytest.param(inside(1, inside(2, b"\x12\x7f")) + b"x" * 200, id="an item beyond its scope"),
        pytest.param(
            inside(1, inside(2, b"\x12\x04"), b"\xf8\x3f\x96\x01"), id="an item beyond it that makes sense there"
        ),
        pytest.param(inside(1, inside(2, b"\x0a\x7f")) + b"x" * 200, id="a source beyond its scope"),
        pytest.param(inside(1, inside(1, b"\x0a\x04"), inside(2, inside(2, b""))), id="an attribute beyond it"),
    ],
)
def test_i7_a_length_that_reaches_into_the_neighbour_is_refused(signal, body):
    refused(body, is_json=False, signal=signal)


@pytest.mark.parametrize("signal", [decode.traces, decode.logs, decode.metrics])
@pytest.mark.parametrize(
    "body", [b"{}", b"\0", b"\0\0", b"\x0a\x05", b"\x0a\x02\x12\x05", b"\0\0\0\0\x05\x0a\x03\x12\x01\x0a"]
)
def test_i7_json_and_frames_of_grpc_are_no_protobuf(signal, body):
    refused(body, is_json=False, signal=signal)


@pytest.mark.parametrize("extra", [b"\xfa\x3f\x03abc", b"\xf8\x3f\x96\x01", b"\xfd\x3f1234", b"\xf9\x3f12345678"])
def test_i7_unknown_fields_are_passed_over_wherever_they_stand(extra):
    known = read(in_request(GOOD), is_json=False).items
    known_span = inside(2, GOOD + extra)

    assert read(extra + inside(1, extra, inside(2, extra, known_span, extra)), is_json=False).items == known


def test_i7_fields_in_another_order_and_with_another_wire_type_are_read_as_protobuf_does():
    name_as_number = b"\x28\x05"
    late_name = inside(5, b"late")

    (event,) = read(in_request(name_as_number + GOOD + late_name), is_json=False).items

    assert event.name == "late"  # the last word counts; a name that is a number is an unknown field


def test_packed_and_single_numbers_are_the_same_buckets():
    def point(*buckets):
        return inside(1, inside(2, inside(2, inside(9, inside(1, *buckets)))))

    packed = point(inside(6, struct.pack("<2Q", 1, 2)), inside(7, struct.pack("<d", 0.5)))
    single = point(b"\x31" + struct.pack("<Q", 1), b"\x31" + struct.pack("<Q", 2), b"\x39" + struct.pack("<d", 0.5))

    found = [read(body, is_json=False, signal=decode.metrics).items[0] for body in (packed, single)]

    assert attributes_of(found[0])["metric"]["counts"] == [1, 2]
    assert found[0].attributes == found[1].attributes
    refused(point(inside(6, b"1234567")), is_json=False, signal=decode.metrics)


def test_the_two_ways_to_write_exponential_buckets_are_the_same():
    def point(*counts):
        return inside(1, inside(2, inside(2, inside(10, inside(1, inside(8, *counts))))))

    for counts in ((inside(2, b"\x01\xac\x02"),), (b"\x10\x01", b"\x10\xac\x02")):
        (event,) = read(point(*counts), is_json=False, signal=decode.metrics).items
        assert attributes_of(event)["metric"]["positive"] == {"offset": 0, "counts": [1, 300]}
    for cut in (b"\x80", b"\x80" * 12):
        refused(point(inside(2, cut)), is_json=False, signal=decode.metrics)
        refused(point(inside(2, cut)) + point(), is_json=False, signal=decode.metrics)


def test_several_requests_one_after_the_other_are_one():
    other = span(span_id=b"\2" * 8).SerializeToString()

    assert read(in_request(GOOD) + in_request(other), is_json=False).items == [
        *read(in_request(GOOD), is_json=False).items,
        *read(in_request(other), is_json=False).items,
    ]


@settings(max_examples=300)
@given(st.dictionaries(st.text(max_size=140), st.text(max_size=140) | st.integers(-200, 70_000), max_size=4))
def test_what_is_remembered_of_an_attribute_is_what_it_says(attributes):
    first, second = decoded(traces(span(attributes), span(attributes, span_id=b"\2" * 8)))

    assert data_of(first) == data_of(second) == as_kept(attributes)


# -- OpenTelemetry's own encoders ------------------------------------------------------------------------------------

RESOURCE = Resource({"service.name": "chat"})


def test_spans_of_opentelemetrys_sdk_are_taken():
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("lib", "1.0")
    with tracer.start_as_current_span("outer", attributes={"n": 1, "list": ["a", "b"]}), pytest.raises(ValueError):  # noqa: SIM117 - its own
        with tracer.start_as_current_span("inner"):
            raise ValueError("no")

    found = decoded(encode_spans(exporter.get_finished_spans()))

    inner, error, outer = found
    assert [one.kind for one in found] == ["span", "exception", "span"]
    assert (inner.name, inner.status, inner.parent_span_id) == ("inner", "error", outer.span_id)
    assert (error.error_type, error.error_message) == ("ValueError", "no")
    assert "Traceback" in error.error_stack
    assert data_of(outer) == {"n": 1, "list": ["a", "b"]}
    assert outer.service == "chat"
    assert attributes_of(outer)["scope"] == {"name": "lib", "version": "1.0"}


def test_logs_of_opentelemetrys_sdk_are_taken():
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(resource=RESOURCE)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = provider.get_logger("lib")
    logger.emit(LogRecord(timestamp=NOW_NS, severity_number=SeverityNumber.WARN, body="careful", attributes={"a": 1}))
    logger.emit(LogRecord(timestamp=NOW_NS, event_name="signup", body={"plan": "pro"}))

    line, event = decoded(encode_logs(exporter.get_finished_logs()))

    assert (line.kind, line.level, data_of(line)) == ("log", "WARN", {"a": 1, "message": "careful"})
    assert (event.kind, event.name, data_of(event)) == ("event", "signup", {"body": {"plan": "pro"}})


def test_metrics_of_opentelemetrys_sdk_are_taken():
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], resource=RESOURCE).get_meter("lib")
    meter.create_counter("count", unit="1").add(3, {"a": "b"})
    meter.create_histogram("time", unit="s").record(0.25)
    meter.create_gauge("level").set(-1.5)

    found = {one.name: one for one in decoded(encode_metrics(reader.get_metrics_data()))}

    assert (found["count"].value, found["count"].unit, data_of(found["count"])) == (3.0, "1", {"a": "b"})
    assert attributes_of(found["count"])["metric"]["temporality"] == "cumulative"
    assert found["time"].value == 0.25
    assert sum(attributes_of(found["time"])["metric"]["counts"]) == 1
    assert found["level"].value == -1.5


def test_a_record_of_no_use_is_dropped_in_its_place():
    items = decoded(traces(span(), span(trace_id=b""), span(span_id=b"\2" * 8)))

    assert [isinstance(one, Dropped) for one in items] == [False, True, False]
    assert len(decoded(logs(log("a"), log("b")))) == 2


def test_i7_one_span_that_is_not_otlp_is_refused_alone():
    good = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "good"}
    for odd in ({**good, "kind": "SPAN_KIND_SERVER"}, {**good, "attributes": [None]}, None):
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [good, odd, good]}]}]}).encode()

        items = decode.traces(body, is_json=True, project=1, received_at=1).items

        assert [getattr(item, "code", item.name if isinstance(item, Event) else "") for item in items] == [
            "good",
            "not_otlp",
            "good",
        ]
