"""What leeward's client writes as OTLP comes out as the event that it was given, as it does on the native wire."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from hypothesis import given, strategies as st

from leeward.wire import otlp_encode
from leeward.wire.otlp import decode
from leeward.wire.otlp_encode import LOG, METRIC, SPAN
from otlp_exports import PROJECT, RECEIVED_AT, data_of

ID = "01900000-0000-7000-8000-000000000000"
NOW_MS = 1_795_322_741_463
BODIES = {
    SPAN: (b"resourceSpans", b"scopeSpans", b"spans", decode.traces),
    LOG: (b"resourceLogs", b"scopeLogs", b"logRecords", decode.logs),
    METRIC: (b"resourceMetrics", b"scopeMetrics", b"metrics", decode.metrics),
}
RESOURCE = b'"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"app"}}]}'
LEVELS = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL"]
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
KEYS = TEXT.map(lambda text: f"p_{text}")  # ours have other names: there the caller's would win
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
IDS = TEXT.filter(bool) | st.integers(1, 2**128 - 1).map(lambda number: f"{number:032x}")
SOMETIMES = {
    "distinct_id": TEXT,
    "session_id": TEXT,
    "device_id": TEXT,
    "correlation_id": TEXT,
    "trace_id": st.just("") | IDS,
    "span_id": st.just("") | IDS | st.integers(1, 2**64 - 1).map(lambda number: f"{number:016x}"),
    "parent_span_id": st.just("") | IDS,
    "duration_ms": st.none() | st.floats(0, 1e9) | st.floats(-1e6, -1.0),
    "status": st.sampled_from(["", "ok", "error", "timeout", "429"]),
}
ERRORS = st.fixed_dictionaries({"type": TEXT.filter(bool), "message": TEXT, "stack": TEXT, "handled": st.booleans()})


def round_trip(kind, name, properties, **fields):
    """The event that the server makes of what the client writes."""
    record_type, line = otlp_encode.encode(kind, name, properties, id=ID, service="app", **fields)
    resources, scopes, items, read = BODIES[record_type]
    body = b'{"%b":[{%b,"%b":[{"%b":[%b]}]}]}' % (resources, RESOURCE, scopes, items, line)
    found = read(body, is_json=True, project=PROJECT, received_at=RECEIVED_AT).items
    assert len(found) == 1
    return found[0]


@given(
    kind=st.sampled_from(["event", "log", "exception", "span", "metric"]),
    name=TEXT.filter(bool),
    properties=st.dictionaries(KEYS, VALUES, max_size=4),
    timestamp_ms=st.integers(1, 2**63 // 1_000_000) | st.integers(-(2**40), 0),
    fields=st.fixed_dictionaries({}, optional=SOMETIMES),
    level=st.sampled_from(["", *LEVELS]),
    value=st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False),
    unit=TEXT,
    error=ERRORS,
)
def test_an_event_of_our_client_is_the_same_event_here(
    kind, name, properties, timestamp_ms, fields, level, value, unit, error
):
    given_data = dict(properties)
    if kind == "log":
        properties = {**properties, "message": "said"}
        given_data["message"] = "said"
    if kind == "metric":
        fields = {**fields, "value": value, "unit": unit}
    if kind == "exception" or (kind == "span" and fields.get("status") == "error"):
        fields = {**fields, "error": error}
        given_data["handled"] = error["handled"]

    event = round_trip(kind, name, properties, timestamp_ms=timestamp_ms, level=level, **fields)

    assert (event.kind, event.id, event.timestamp) == (kind, ID, timestamp_ms)
    assert event.name == {"log": "log", "exception": "$exception"}.get(kind, name)
    assert data_of(event) == given_data
    assert event.level == (level or {"exception": "ERROR", "event": "INFO", "log": "INFO"}.get(kind, ""))
    assert event.service == "app"
    for field in ("distinct_id", "session_id", "device_id", "correlation_id", "status"):
        assert getattr(event, field) == fields.get(field, ""), field
    for field in ("trace_id", "span_id", "parent_span_id"):
        assert getattr(event, field) == fields.get(field, ""), field
    if fields.get("duration_ms") is None:
        assert event.duration_ms == (0 if kind == "span" and timestamp_ms > 0 else None)  # it ends where it starts
    else:
        assert event.duration_ms == pytest.approx(fields["duration_ms"], rel=1e-9, abs=1e-6)
    if kind == "metric":
        assert (event.value, event.unit) == (value, unit)
    if "error" in fields:
        assert (event.error_type, event.error_message, event.error_stack) == (
            error["type"],
            error["message"],
            error["stack"],
        )


def test_an_error_of_our_span_stands_in_the_span_as_on_the_native_wire():
    error = {"type": "ValueError", "message": "no", "stack": "Traceback …", "handled": True}

    event = round_trip("span", "work", {"a": 1}, timestamp_ms=NOW_MS, status="error", error=error)

    assert (event.kind, event.error_type, event.error_message) == ("span", "ValueError", "no")
    assert data_of(event) == {"a": 1, "handled": True}


def test_a_text_that_the_spans_error_columns_do_not_hold_is_in_its_data():
    error = {"type": "T" * 201, "message": "no", "stack": "", "handled": True}

    event = round_trip("span", "work", {}, timestamp_ms=NOW_MS, status="error", error=error)

    assert event.error_type == "T" * 200
    assert data_of(event) == {"exception.type": "T" * 201, "handled": True}


@pytest.mark.parametrize(
    ("given_time", "timestamp"),
    [
        ("1960-01-01T00:00:00Z", -315_619_200_000),
        ("1960-01-01T00:00:00", -315_619_200_000),
        (-5, -5),
        ("soon", RECEIVED_AT),
    ],
)
def test_a_time_that_the_protocol_has_no_place_for_comes_back(given_time, timestamp):
    event = round_trip("event", "e", {}, timestamp_ms=given_time)

    assert event.timestamp == timestamp
    assert data_of(event) == ({"leeward.timestamp": "soon"} if given_time == "soon" else {})


def test_an_id_that_was_only_made_for_the_protocol_is_none():
    event = round_trip("span", "work", {}, timestamp_ms=NOW_MS)

    assert (event.trace_id, event.span_id) == ("", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [("level", "loud"), ("status", 5), ("duration_ms", "long"), ("user.id", "u" * 201), ("leeward.timestamp", 2.5)],
)
def test_what_does_not_fit_its_column_stays_with_the_properties(name, value):
    event = round_trip("event", "e", {name: value}, timestamp_ms=NOW_MS)

    assert data_of(event)[name] == value


@pytest.mark.parametrize("event_id", ["", 5, "x" * 129])
def test_a_record_whose_mark_is_none_is_anybodys(event_id):
    line = {"timeUnixNano": "5", "attributes": [{"key": "leeward.event.id", "value": any_of(event_id)}]}
    line["attributes"].append({"key": "level", "value": {"stringValue": "WARN"}})
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [line]}]}]}).encode()
    (event,) = decode.logs(body, is_json=True, project=PROJECT, received_at=RECEIVED_AT).items

    assert event.id.startswith("h:")
    assert data_of(event)["level"] == "WARN"


def any_of(value):
    return {"intValue": value} if isinstance(value, int) else {"stringValue": value}


def test_ids_that_only_look_made_are_compared_with_the_events_own():
    made = sha256(b"another").hexdigest()

    event = round_trip("event", "e", {}, timestamp_ms=NOW_MS, trace_id=made[:32], span_id=made[:16])

    assert (event.trace_id, event.span_id) == (made[:32], made[:16])
