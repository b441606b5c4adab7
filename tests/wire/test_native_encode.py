"""The client's half of the native wire: values → bytes."""

import inspect
import json
import subprocess
import sys
import uuid

import pytest
from hypothesis import given, settings, strategies as st

from leeward.scrub.values import bounded
from leeward.wire import native, native_encode, otlp_encode, posthog_encode
from leeward.wire.native_encode import encode

ID = "01900000-0000-7000-8000-000000000000"
ERROR = {
    "type": "ValueError",
    "message": "bad",
    "stack": "Traceback …",
    "handled": False,
    "exceptions": [{"type": "ValueError", "value": "bad", "frames": []}],
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def as_the_server_reads_it(line):
    (read,) = native.decode_events(b"[" + line + b"]")
    data = bytes(read.data) or b"{}"
    return native.to_event(
        read,
        project=1,
        received_at=9,
        event_id=read.id,
        data=data,
        attributes=native.attributes(read),
        batch_id="",
    )


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=6), st.text(min_size=1))
def test_what_goes_in_comes_out_of_any_json_reader(properties, name):
    properties = bounded(properties)
    record_type, line = encode("event", name, properties, id=ID, timestamp_ms=1_795_322_741_463)

    decoded = json.loads(line.decode("utf-8"))

    assert record_type == 1
    assert decoded.pop("data", {}) == properties
    assert decoded == {"event_type": name, "id": ID, "timestamp": 1_795_322_741_463}
    assert b"\n" not in line


def test_every_field_has_its_name_on_the_wire():
    _, line = encode(
        "span",
        "fetch",
        {"a": 1},
        id=ID,
        timestamp_ms="2026-11-22T04:45:41Z",
        level="ERROR",
        distinct_id="u1",
        session_id="s1",
        device_id="d1",
        correlation_id="c1",
        trace_id="t1",
        span_id="p1",
        parent_span_id="p0",
        duration_ms=1.5,
        value=0.0,
        unit="ms",
        status="error",
        error={"type": "ValueError", "message": "bad", "stack": "", "category": "network"},
    )

    assert json.loads(line) == {
        "event_type": "fetch",
        "id": ID,
        "timestamp": "2026-11-22T04:45:41Z",
        "kind": "span",
        "level": "ERROR",
        "distinct_id": "u1",
        "session_id": "s1",
        "device_id": "d1",
        "correlation_id": "c1",
        "trace_id": "t1",
        "span_id": "p1",
        "parent_span_id": "p0",
        "duration_ms": 1.5,
        "value": 0.0,
        "unit": "ms",
        "status": "error",
        "error": {"type": "ValueError", "message": "bad", "stack": "", "category": "network"},
        "data": {"a": 1},
    }


def test_what_is_absent_is_left_out():
    assert encode("event", "a", {}, id=ID, timestamp_ms=5) == (
        1,
        b'{"event_type":"a","id":"01900000-0000-7000-8000-000000000000","timestamp":5}',
    )


@pytest.mark.parametrize("error", [None, ERROR])
@pytest.mark.parametrize("kind", ["event", "exception", "span", "log", "metric"])
def test_the_server_reads_the_kind_that_was_meant_with_and_without_an_error(kind, error):
    _, line = encode(kind, "a", {"message": "m"}, id=ID, timestamp_ms=5, value=1.5, error=error)

    event = as_the_server_reads_it(line)

    assert event.kind == kind
    assert event.error_type == ("ValueError" if error else "")
    assert event.value == 1.5


def test_the_kind_is_not_said_where_the_server_knows_it():
    for kind, error in (("event", None), ("exception", ERROR)):
        assert b'"kind"' not in encode(kind, "a", {}, id=ID, timestamp_ms=5, error=error)[1]


def test_an_exceptions_frames_stand_in_the_data_and_leave_the_errors_own_fields_to_their_columns():
    _, line = encode("exception", "$exception", {"a": 1}, id=ID, timestamp_ms=5, error=ERROR)

    event = as_the_server_reads_it(line)

    assert json.loads(event.data) == {"a": 1, "handled": False, "exceptions": ERROR["exceptions"]}
    assert (event.error_type, event.error_message, event.error_stack) == ("ValueError", "bad", "Traceback …")
    assert event.error_rest == ""


def test_the_callers_own_exceptions_and_handled_win_and_stay_the_callers():
    mine = {"exceptions": 3, "handled": "perhaps"}
    _, line = encode("exception", "$exception", mine, id=ID, timestamp_ms=5, error=ERROR)

    assert json.loads(line)["data"] == mine
    assert mine == {"exceptions": 3, "handled": "perhaps"}


def test_all_wires_are_called_in_the_same_way():
    signatures = {inspect.signature(module.encode) for module in (native_encode, posthog_encode, otlp_encode)}

    assert len(signatures) == 1


def test_a_batch_joins_events_without_touching_them():
    events = [encode("event", name, {"n": name}, id=name, timestamp_ms=5)[1] for name in ("a", "b")]

    plain = native_encode.batch("b-42", events)
    told = native_encode.batch("b-42", events, b'{"process":"p"}')

    assert json.loads(plain) == {"batch_id": "b-42", "events": [json.loads(one) for one in events]}
    assert json.loads(told) == {**json.loads(plain), "client": {"process": "p"}}
    assert all(one in plain for one in events)


def test_c8_the_same_events_have_the_same_batch_id_and_others_another():
    first = native_encode.batch_id([b'{"id":"1"}', b'{"id":"2"}'])

    assert first == native_encode.batch_id([b'{"id":"1"}', b'{"id":"2"}'])
    assert first != native_encode.batch_id([b'{"id":"1"}'])
    assert first != native_encode.batch_id([b'{"id":"2"}', b'{"id":"1"}'])
    assert len(first) == 32
    assert first.isalnum()


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_an_id_is_a_uuid_of_version_7_with_its_time_in_front(now_ms, random_bytes):
    parsed = uuid.UUID(native_encode.uuid7(now_ms, random_bytes))

    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert parsed.int >> 80 == now_ms


def test_ids_of_later_milliseconds_sort_later():
    assert native_encode.uuid7(1, b"\xff" * 10) < native_encode.uuid7(2, b"\x00" * 10)


def test_every_random_bit_of_an_id_comes_from_the_random_bytes():
    none, every = (uuid.UUID(native_encode.uuid7(0, byte * 10)).int for byte in (b"\x00", b"\xff"))

    assert (none ^ every).bit_count() == 74


def test_the_client_s_half_imports_next_to_nothing_until_it_is_used():
    """Each of these would cost every program that reports telemetry its import time."""
    code = (
        "import sys, leeward; before = set(sys.modules)\n"  # what the root brings has a test of its own
        "import leeward.scrub.values, leeward.wire.native_encode, leeward.resilience.retry, leeward.settings.find\n"
        "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('leeward')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) <= {"__future__", "itertools", "binascii"}
