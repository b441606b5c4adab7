"""The client's OTLP/JSON objects, as OpenTelemetry's own message classes read them."""

import json

import pytest
from hypothesis import given, settings, strategies as st

import otlp_recorder
from leeward.scrub.values import bounded
from leeward.wire import otlp_encode
from leeward.wire.otlp_encode import LOG, METRIC, SPAN
from otlp_recorder import attributes, value_of

ID = "01900000-0000-7000-8000-000000000000"
TRACE = "5b8efff798038103d269b633813fc60c"
SPAN_ID = "eee19b7ec3c1b174"
PARENT = "1111111111111111"
NOW_MS = 1_795_322_741_463
NOW_NS = 1_795_322_741_463_000_000
ERROR = {
    "type": "ZeroDivisionError",
    "message": "division by zero",
    "stack": "Traceback (most recent call last): …",
    "handled": False,
    "exceptions": [],
}
OURS = {"<empty>", "level", "duration_ms", "value", "unit", "status"}  # and names with dots: there the caller's win
WRAPPED = {
    SPAN: ("/v1/traces", "resourceSpans", "scopeSpans", "spans"),
    LOG: ("/v1/logs", "resourceLogs", "scopeLogs", "logRecords"),
    METRIC: ("/v1/metrics", "resourceMetrics", "scopeMetrics", "metrics"),
}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def encode(kind="event", name="signup", properties=None, *, id=ID, timestamp_ms=NOW_MS, **fields):
    """The record type, and the span, log record or metric as a message, read by strict eyes."""
    record_type, line = otlp_encode.encode(kind, name, properties or {}, id=id, timestamp_ms=timestamp_ms, **fields)
    assert b"\n" not in line
    path, resources, scopes, items = WRAPPED[record_type]
    body = b'{"%s":[{"%s":[{"%s":[%s]}]}]}' % (resources.encode(), scopes.encode(), items.encode(), line)
    message = otlp_recorder.decode(path, body, is_json=True)
    _, resources, scopes, items = otlp_recorder.REQUESTS[path]
    (item,) = getattr(getattr(getattr(message, resources)[0], scopes)[0], items)
    otlp_recorder.CHECKS[items](item)
    return record_type, item


def found(item):
    """All attributes of an item, wherever they stand."""
    if hasattr(item, "gauge"):
        (point,) = item.gauge.data_points
        return attributes(point.exemplars[0].filtered_attributes) | attributes(point.attributes)
    return attributes(item.attributes)


def as_sent(value):
    """What is left of a bounded value: integers beyond 64 bits are text."""
    if isinstance(value, list):
        return [as_sent(one) for one in value]
    if isinstance(value, dict):
        return {key: as_sent(one) for key, one in value.items()}
    return str(value) if type(value) is int and value >= 2**63 else value


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["event", "exception", "span", "log", "metric"]),
    name=st.text(min_size=1),
    properties=st.dictionaries(st.text(), json_values, max_size=6),
    id=st.uuids().map(str) | st.text(min_size=1, max_size=128),
    timestamp_ms=st.integers(-(2**63), 2**63 - 1) | st.text(max_size=64),
    texts=st.dictionaries(
        st.sampled_from(
            ["distinct_id", "session_id", "device_id", "correlation_id", "trace_id", "span_id", "parent_span_id"]
        ),
        st.text(max_size=200) | st.sampled_from([TRACE, SPAN_ID, "0" * 32, "0" * 16]),
    ),
    duration_ms=st.none() | st.floats(-1e300, 1e300),
    value=st.none() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False, allow_infinity=False),
    level=st.sampled_from(["", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]),
    status=st.sampled_from(["", "ok", "error"]),
    error=st.none() | st.just(ERROR),
)
def test_whatever_is_given_is_valid_otlp_and_none_of_it_is_lost(
    kind, name, properties, id, timestamp_ms, texts, duration_ms, value, level, status, error
):
    properties = bounded({key: one for key, one in properties.items() if "." not in key and key not in OURS})
    _, item = encode(
        kind,
        name,
        properties,
        id=id,
        timestamp_ms=timestamp_ms,
        duration_ms=duration_ms,
        value=value,
        level=level,
        status=status,
        error=error,
        **texts,
    )

    sent = found(item)
    for key, one in properties.items():
        if kind == "log" and key == "message":
            assert value_of(item.body) == as_sent(one)
        else:
            assert sent[key or "<empty>"] == as_sent(one)
    everything = [*sent.values(), *(one.hex() for one in ids_of(item) if one)]
    assert all(text in everything for text in texts.values() if text)
    assert id in everything
    if error:
        events = getattr(item, "events", ())
        assert ERROR["stack"] in [*everything, *(attributes(one.attributes)["exception.stacktrace"] for one in events)]


def ids_of(item):
    if hasattr(item, "gauge"):
        (exemplar,) = item.gauge.data_points[0].exemplars
        return [exemplar.trace_id, exemplar.span_id]
    return [item.trace_id, item.span_id, getattr(item, "parent_span_id", b"")]


def test_a_span_has_its_ids_times_parent_and_attributes():
    record_type, span = encode(
        "span",
        "fetch",
        {"url": "/x", "span.kind": "client"},
        trace_id=TRACE.upper(),
        span_id=SPAN_ID,
        parent_span_id=PARENT,
        duration_ms=1.5,
        distinct_id="u1",
        session_id="s1",
        device_id="d1",
        correlation_id="c1",
        status="ok",
    )

    assert record_type == SPAN
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN_ID, PARENT)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (NOW_NS, NOW_NS + 1_500_000)
    assert (span.name, span.kind, span.status.code) == ("fetch", 3, 1)
    assert found(span) == {
        "leeward.event.id": ID,
        "user.id": "u1",
        "session.id": "s1",
        "device.id": "d1",
        "correlation.id": "c1",
        "url": "/x",
        "span.kind": "client",
    }


def test_a_spans_error_is_an_event_at_its_end_and_its_status():
    _, span = encode("span", "fetch", trace_id=TRACE, span_id=SPAN_ID, duration_ms=2, status="error", error=ERROR)

    (event,) = span.events
    assert (span.status.code, span.status.message) == (2, "division by zero")
    assert (event.name, event.time_unix_nano) == ("exception", span.end_time_unix_nano)
    assert attributes(event.attributes) == {
        "exception.type": "ZeroDivisionError",
        "exception.message": "division by zero",
        "exception.stacktrace": ERROR["stack"],
        "exception.escaped": True,
    }


def test_a_span_that_ended_badly_without_an_error_says_so():
    _, span = encode("span", "fetch", trace_id=TRACE, span_id=SPAN_ID, status="error")

    assert (span.status.code, span.end_time_unix_nano) == (2, NOW_NS)


def test_a_span_without_ids_gets_some_that_are_the_same_after_a_repeat():
    first, again, other = (encode("span", "fetch", id=given_id)[1] for given_id in ("a", "a", "b"))

    assert (first.trace_id, first.span_id) == (again.trace_id, again.span_id)
    assert first.trace_id != other.trace_id


@pytest.mark.parametrize("foreign", ["order-17", "0" * 32, TRACE[:-1], TRACE[:-1] + "g", TRACE[:-2] + "  ", "٣" * 32])
def test_a_foreign_trace_id_joins_what_belongs_together_and_is_kept(foreign):
    _, span = encode("span", "fetch", trace_id=foreign, span_id=SPAN_ID)
    _, log = encode("log", "log", {"message": "m"}, trace_id=foreign)

    assert span.trace_id == log.trace_id
    assert found(span)["leeward.trace_id"] == found(log)["leeward.trace_id"] == foreign


@pytest.mark.parametrize("duration_ms", [-1.0, 1e300])
def test_a_duration_that_no_end_could_show_stays_an_attribute(duration_ms):
    _, span = encode("span", "fetch", trace_id=TRACE, span_id=SPAN_ID, duration_ms=duration_ms)

    assert span.end_time_unix_nano == span.start_time_unix_nano == NOW_NS
    assert found(span)["duration_ms"] == duration_ms


@pytest.mark.parametrize("timestamp", [-1, 2**63 - 1, "2026-02-31"])
@pytest.mark.parametrize("kind", ["event", "span", "metric"])
def test_a_time_that_otlp_cannot_say_stays_an_attribute(kind, timestamp):
    _, item = encode(kind, timestamp_ms=timestamp, duration_ms=3.0, value=1)

    assert found(item)["leeward.timestamp"] == timestamp
    assert found(item)["duration_ms"] == 3.0


def test_an_event_is_a_log_record_with_its_name():
    record_type, record = encode(properties={"plan": "pro"}, trace_id=TRACE, span_id=SPAN_ID, duration_ms=12.5)

    assert record_type == LOG
    assert (record.event_name, value_of(record.body)) == ("signup", "signup")
    assert (record.severity_number, record.severity_text) == (9, "INFO")
    assert record.time_unix_nano == NOW_NS
    assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE, SPAN_ID)
    assert found(record) == {"leeward.event.id": ID, "duration_ms": 12.5, "plan": "pro"}


@pytest.mark.parametrize(("level", "number"), [("DEBUG", 5), ("INFO", 9), ("WARN", 13), ("ERROR", 17), ("FATAL", 21)])
def test_a_log_has_its_message_as_body_and_its_level_as_severity(level, number):
    properties = {"message": "hello", "a": 1}
    _, record = encode("log", "log", properties, level=level)

    assert value_of(record.body) == "hello"
    assert (record.severity_number, record.severity_text, record.event_name) == (number, level, "")
    assert found(record) == {"leeward.event.id": ID, "a": 1}
    assert properties == {"message": "hello", "a": 1}


def test_a_parent_that_only_a_span_has_a_field_for_is_an_attribute_elsewhere():
    _, record = encode(trace_id=TRACE, span_id=SPAN_ID, parent_span_id=PARENT)

    assert found(record)["leeward.parent_span_id"] == PARENT


@pytest.mark.parametrize(("level", "number"), [("", 17), ("WARN", 13), ("FATAL", 21)])
def test_an_exception_is_a_log_record_of_that_name_and_an_error_unless_its_level_says_otherwise(level, number):
    _, record = encode("exception", "$exception", {"order": 17}, level=level, error=ERROR)

    assert (record.event_name, record.severity_number) == ("exception", number)
    assert value_of(record.body) == "ZeroDivisionError: division by zero"
    assert found(record) == {
        "leeward.event.id": ID,
        "exception.type": "ZeroDivisionError",
        "exception.message": "division by zero",
        "exception.stacktrace": ERROR["stack"],
        "exception.escaped": True,
        "order": 17,
    }


@pytest.mark.parametrize("kind", ["event", "exception", "span", "log"])
def test_the_callers_attributes_win_over_ours(kind):
    mine = {"user.id": "mine", "leeward.event.id": 1, "exception.message": None}
    _, record = encode(kind, properties=mine, distinct_id="u1", error=ERROR)

    assert found(record) | mine == found(record)


@pytest.mark.parametrize(
    ("value", "field", "sent"),
    [
        (3, "as_int", 3),
        (-(2**63), "as_int", -(2**63)),
        (2**64, "as_double", 2.0**64),
        (2.5, "as_double", 2.5),
        (0, "as_int", 0),
        (True, "as_int", 1),
    ],
)
def test_a_metric_is_a_gauge_of_one_point(value, field, sent):
    record_type, metric = encode("metric", "queue.length", {"shard": 3}, value=value, unit="{item}")

    (point,) = metric.gauge.data_points
    assert record_type == METRIC
    assert (metric.name, metric.unit, point.time_unix_nano) == ("queue.length", "{item}", NOW_NS)
    assert (point.WhichOneof("value"), getattr(point, field)) == (field, sent)
    assert attributes(point.attributes) == {"shard": 3}


def test_whose_a_metric_is_makes_no_series_of_its_own():
    _, metric = encode("metric", "latency", value=1.5, distinct_id="u1", trace_id=TRACE, span_id=SPAN_ID)

    (point,) = metric.gauge.data_points
    (exemplar,) = point.exemplars
    assert attributes(point.attributes) == {}
    assert attributes(exemplar.filtered_attributes) == {"leeward.event.id": ID, "user.id": "u1"}
    assert (exemplar.trace_id.hex(), exemplar.span_id.hex(), exemplar.as_double) == (TRACE, SPAN_ID, 1.5)


def test_a_metric_without_a_value_is_a_log_record_because_a_point_must_have_one():
    record_type, record = encode("metric", "queue", unit="ms")

    assert (record_type, record.event_name) == (LOG, "queue")
    assert found(record)["unit"] == "ms"


def test_what_is_nested_deeper_than_readers_follow_is_json_text():
    deep = innermost = {}
    for level in range(30):
        innermost["inner"] = {} if level % 2 else [{}]
        innermost = innermost["inner"] if level % 2 else innermost["inner"][0]
    _, record = encode(properties={"deep": bounded(deep)})

    value, depth = found(record)["deep"], 0
    while not isinstance(value, str):
        value = value["inner"] if isinstance(value, dict) else value[0]
        depth += 1
    assert depth == 8
    assert json.loads(value)
    assert max_depth(record.SerializeToString()) < 60  # readers of protobuf stop at 100


def max_depth(data: bytes) -> int:
    """How many messages the deepest AnyValue stands in: each level is a value, its list, and the pair in it."""
    record = otlp_recorder.logs_service_pb2.ExportLogsServiceRequest().resource_logs.add().scope_logs.add()
    log = record.log_records.add()
    log.ParseFromString(data)

    def depth(value) -> int:
        kind = value.WhichOneof("value")
        if kind == "array_value":
            return 2 + max(map(depth, value.array_value.values), default=0)
        if kind == "kvlist_value":
            return 3 + max((depth(pair.value) for pair in value.kvlist_value.values), default=0)
        return 1

    return 5 + max(depth(pair.value) for pair in log.attributes)


def test_c22_a_lone_surrogate_does_not_break_the_line():
    _, record = encode("log", "log", {"message": "x\ud800y", "k\udfff": "\ud83d\ude80"}, trace_id="\ud800")

    assert value_of(record.body) == "x\ufffdy"
    assert found(record)["k\ufffd"] == "🚀"
    assert found(record)["leeward.trace_id"] == "\ufffd"
