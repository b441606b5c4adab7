"""The client's half of the native wire: values → bytes."""

import json
import subprocess
import sys
import uuid

import pytest
from hypothesis import given, settings, strategies as st

from leeward.scrub.values import bounded
from leeward.wire import native_encode

ID = "01900000-0000-7000-8000-000000000000"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=6), st.text(min_size=1))
def test_what_goes_in_comes_out_of_any_json_reader(properties, name):
    properties = bounded(properties)
    line = native_encode.event(name, properties, id=ID, timestamp_ms=1_795_322_741_463)

    decoded = json.loads(line.decode("utf-8"))

    assert decoded.pop("data", {}) == properties
    assert decoded == {"event_type": name, "id": ID, "timestamp": 1_795_322_741_463}
    assert b"\n" not in line


def test_every_field_has_its_name_on_the_wire_and_what_is_absent_is_left_out():
    line = native_encode.event(
        "$exception",
        {"a": 1},
        id=ID,
        timestamp_ms=5,
        kind="exception",
        level="ERROR",
        distinct_id="u1",
        session_id="s1",
        device_id="d1",
        correlation_id="c1",
        trace_id="t1",
        span_id="p1",
        error={"type": "ValueError", "message": "bad", "stack": ""},
    )

    assert json.loads(line) == {
        "event_type": "$exception",
        "id": ID,
        "timestamp": 5,
        "kind": "exception",
        "level": "ERROR",
        "distinct_id": "u1",
        "session_id": "s1",
        "device_id": "d1",
        "correlation_id": "c1",
        "trace_id": "t1",
        "span_id": "p1",
        "error": {"type": "ValueError", "message": "bad", "stack": ""},
        "data": {"a": 1},
    }
    assert native_encode.event("a", {}, id=ID, timestamp_ms=5) == (
        b'{"event_type":"a","id":"01900000-0000-7000-8000-000000000000","timestamp":5}'
    )


def test_text_travels_as_utf_8_and_not_as_escapes():
    assert '"t":"grüße 🚀"'.encode() in native_encode.event("a", {"t": "grüße 🚀"}, id=ID, timestamp_ms=5)


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(codec=None, categories=["Cs", "Lu", "Cc"])), st.text(st.characters(categories=["Cs", "So"]))
)
def test_c22_lone_surrogates_never_break_the_line(key, text):
    decoded = json.loads(native_encode.event(text, {key: text}, id=ID, timestamp_ms=5).decode("utf-8"))

    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert decoded["event_type"] == whole


def test_c22_a_lone_surrogate_is_replaced_and_a_pair_is_the_character_that_it_means():
    line = native_encode.event("a", {"lone": "x\ud800y", "pair": "\ud83d\ude80", "fine": "ü"}, id=ID, timestamp_ms=5)

    assert json.loads(line)["data"] == {"lone": "x\ufffdy", "pair": "🚀", "fine": "ü"}


@pytest.mark.parametrize("unbounded", [float("nan"), object(), {1, 2}])
def test_values_that_were_not_bounded_are_refused_instead_of_written_wrong(unbounded):
    with pytest.raises((TypeError, ValueError)):
        native_encode.event("a", {"x": unbounded}, id=ID, timestamp_ms=5)


def test_a_batch_joins_events_without_touching_them():
    events = [native_encode.event(name, {"n": name}, id=name, timestamp_ms=5) for name in ("a", "b")]

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


def test_an_interpreter_without_the_accelerator_writes_the_same_bytes(monkeypatch):
    fields = {"t": "ü", "n": [1, 2.5, None], "deep": {"a": True}}
    fast = native_encode.event("a", fields, id=ID, timestamp_ms=5)

    monkeypatch.setattr(native_encode, "_encode", None)
    monkeypatch.setattr("json.encoder.c_make_encoder", None)

    assert native_encode.event("a", fields, id=ID, timestamp_ms=5) == fast


def test_the_client_s_half_imports_next_to_nothing_until_it_is_used():
    """Each of these would cost every program that reports telemetry its import time."""
    code = (
        "import sys, leeward; before = set(sys.modules)\n"  # what the root brings has a test of its own
        "import leeward.scrub.values, leeward.wire.native_encode, leeward.resilience.retry, leeward.settings.find\n"
        "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('leeward')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) <= {"__future__", "itertools"}
