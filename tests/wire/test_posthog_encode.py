"""The client's PostHog events, as PostHog's own server and dashboards read them."""

import datetime
import json
import uuid

import pytest
from hypothesis import given, settings, strategies as st

import posthog_recorder
from leeward.scrub.values import bounded
from leeward.version import VERSION
from leeward.wire import posthog_encode

ID = "01900000-0000-7000-8000-000000000000"
NOW_MS = 1_795_322_741_463
OURS = {"correlation_id", "unit"}  # and names with a dollar sign: there the caller's win
FRAME = {
    "filename": "s.py",
    "abs_path": "/x/s.py",
    "function": "<module>",
    "module": "__main__",
    "lineno": 6,
    "in_app": True,
    "context_line": "1/0",
}
ERROR = {
    "type": "RuntimeError",
    "message": "no answer",
    "stack": "Traceback (most recent call last): …",
    "handled": False,
    "exceptions": [
        {
            "type": "RuntimeError",
            "value": "no answer",
            "module": None,
            "exception_id": 0,
            "parent_id": None,
            "source": "",
            "frames": [FRAME, {**FRAME, "lineno": 9}],
        },
        {
            "type": "ZeroDivisionError",
            "value": "division by zero",
            "module": "app.maths",
            "exception_id": 1,
            "parent_id": 0,
            "source": "cause",
            "frames": [],
        },
    ],
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def event(kind="event", name="signup", properties=None, *, id=ID, timestamp_ms=NOW_MS, **fields):
    """The event as strict eyes see it."""
    record_type, line = posthog_encode.encode(kind, name, properties or {}, id=id, timestamp_ms=timestamp_ms, **fields)
    assert record_type == 1
    assert b"\n" not in line
    decoded = json.loads(line.decode("utf-8"))
    posthog_recorder.check(decoded)
    return decoded


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["event", "exception", "span", "log", "metric"]),
    name=st.text(min_size=1),
    properties=st.dictionaries(st.text(), json_values, max_size=6),
    id=st.uuids().map(str) | st.text(min_size=1, max_size=128),
    timestamp_ms=st.integers(-(2**63), 2**63 - 1) | st.text(max_size=64),
    texts=st.dictionaries(
        st.sampled_from(["distinct_id", "session_id", "device_id", "correlation_id", "trace_id", "span_id", "unit"]),
        st.text(max_size=200),
    ),
)
def test_whatever_is_given_is_a_valid_event_and_none_of_it_is_lost(kind, name, properties, id, timestamp_ms, texts):
    properties = bounded({key: value for key, value in properties.items() if key[:1] != "$" and key not in OURS})
    sent = event(kind, name, properties, id=id, timestamp_ms=timestamp_ms, **texts)

    assert {key: sent["properties"][key] for key in properties} == properties
    everything = [sent["event"], sent["distinct_id"], sent["uuid"], *sent["properties"].values()]
    assert all(text in everything for text in texts.values() if text)
    assert id in everything or uuid.UUID(id) == uuid.UUID(sent["uuid"])
    assert kind not in {"event", "span", "metric"} or name in everything


def test_an_event_has_the_form_that_posthogs_own_clients_send():
    sent = event(
        properties={"plan": "pro", "$groups": {"company": "acme"}},
        distinct_id="u1",
        session_id="s1",
        device_id="d1",
        correlation_id="c1",
        level="WARN",
        duration_ms=12.5,
    )

    assert sent == {
        "event": "signup",
        "distinct_id": "u1",
        "uuid": ID,
        "timestamp": "2026-11-22T04:45:41.463+00:00",
        "properties": {
            "$lib": "leeward",
            "$lib_version": VERSION,
            "$geoip_disable": True,
            "$session_id": "s1",
            "$device_id": "d1",
            "correlation_id": "c1",
            "level": "WARN",
            "duration_ms": 12.5,
            "plan": "pro",
            "$groups": {"company": "acme"},
        },
    }


def test_the_callers_properties_win_over_all_of_ours():
    mine = {"$lib": "mine", "$session_id": 1, "level": "loud", "$process_person_profile": True, "$leeward_id": 2}

    sent = event("event", properties=mine, id="order-17", session_id="s1", level="WARN")

    assert {key: sent["properties"][key] for key in mine} == mine


@pytest.mark.parametrize(
    ("given_ids", "distinct_id", "makes_a_person"),
    [
        ({"distinct_id": "u1", "device_id": "d1"}, "u1", True),
        ({"device_id": "d1"}, "d1", True),
        ({}, ID, False),
    ],
)
def test_an_event_of_nobody_makes_no_person(given_ids, distinct_id, makes_a_person):
    sent = event(**given_ids)

    assert sent["distinct_id"] == distinct_id
    assert sent["properties"].get("$process_person_profile", True) is makes_a_person


def test_a_foreign_id_becomes_the_same_uuid_each_time_and_stands_beside_it():
    first, again, other = (event(id=given_id) for given_id in ("order-17", "order-17", "order-18"))

    assert first["uuid"] == again["uuid"] == str(uuid.uuid5(uuid.NAMESPACE_URL, "leeward:order-17"))
    assert other["uuid"] != first["uuid"]
    assert first["properties"]["$leeward_id"] == "order-17"


@given(st.uuids())
def test_every_uuid_is_kept_in_each_of_its_spellings(value):
    for spelling in (str(value), str(value).upper(), value.hex):
        sent = event(id=spelling)

        assert uuid.UUID(sent["uuid"]) == value
        assert "$leeward_id" not in sent["properties"]


@pytest.mark.parametrize(
    "id",
    [
        "019000000-000-7000-8000-000000000000",  # the dashes stand elsewhere
        "01900000-0000-7000-8000-00000000000g",
        "01900000-0000-7000-8000-0000000000  ",
        "٠1900000-0000-7000-8000-000000000000",
        "-" * 36,
    ],
)
def test_what_only_looks_like_a_uuid_is_a_foreign_id(id):
    assert event(id=id)["properties"]["$leeward_id"] == id


@pytest.mark.parametrize("timestamp", [2**63 - 1, -(2**63), "2026-02-31"])
def test_a_time_that_posthog_could_not_read_is_kept_as_a_property(timestamp):
    sent = event(timestamp_ms=timestamp)

    assert "timestamp" not in sent
    assert sent["properties"]["$leeward_timestamp"] == timestamp


def test_a_callers_time_text_is_sent_in_utc():
    sent = event(timestamp_ms="2026-11-22T06:45:41+02:00")

    assert datetime.datetime.fromisoformat(sent["timestamp"]) == datetime.datetime(
        2026, 11, 22, 4, 45, 41, 0, datetime.UTC
    )


def test_an_exception_has_the_current_list_and_the_flat_keys_of_the_older_form():
    sent = event("exception", "$exception", {"context": {"order": 17}}, distinct_id="u1", error=ERROR)

    assert sent["event"] == "$exception"
    properties = sent["properties"]
    outer, cause = properties["$exception_list"]
    assert (outer["type"], outer["value"], outer["module"]) == ("RuntimeError", "no answer", None)
    assert outer["mechanism"] == {"type": "generic", "handled": False, "synthetic": False, "exception_id": 0}
    assert outer["stacktrace"]["frames"] == [
        {"platform": "python", **FRAME},
        {"platform": "python", **FRAME, "lineno": 9},  # the oldest call first, as they came
    ]
    assert cause["mechanism"] == {
        "type": "chained",
        "handled": False,
        "synthetic": False,
        "exception_id": 1,
        "parent_id": 0,
        "source": "cause",
    }
    assert properties["$exception_type"] == "RuntimeError"
    assert properties["$exception_message"] == "no answer"
    assert properties["$exception_stack_trace"] == ERROR["stack"]
    assert properties["$exception_person"] == "u1"
    assert properties["$exception_level"] == "error"
    assert properties["context"] == {"order": 17}


def test_the_caller_wins_in_an_exception_too():
    mine = {"$exception_fingerprint": "f", "$exception_message": "mine", "$exception_level": "info"}
    sent = event("exception", "$exception", mine, error=ERROR)

    assert {key: sent["properties"][key] for key in mine} == mine


@pytest.mark.parametrize(
    ("level", "posthogs"),
    [("DEBUG", "debug"), ("INFO", "info"), ("WARN", "warning"), ("ERROR", "error"), ("FATAL", "fatal"), ("", "error")],
)
def test_an_exceptions_level_is_in_posthogs_words(level, posthogs):
    sent = event("exception", "$exception", level=level, error=ERROR)

    assert sent["properties"]["$exception_level"] == posthogs


def test_an_error_without_a_chain_is_a_list_of_one():
    sent = event("exception", "$exception", error={"type": "OSError", "message": "full", "stack": ""})

    (only,) = sent["properties"]["$exception_list"]
    assert (only["type"], only["value"], only["stacktrace"]["frames"]) == ("OSError", "full", [])
    assert only["mechanism"]["handled"] is True


def test_spans_logs_and_metrics_are_events_with_names_of_their_own():
    span = event("span", "fetch", trace_id="t" * 32, span_id="p1", parent_span_id="p0", duration_ms=1.5, status="ok")
    log = event("log", "log", {"message": "hello"}, level="INFO")
    metric = event("metric", "queue", {"shard": 3}, value=0.0, unit="items")
    failed = event("span", "fetch", status="error", error=ERROR)

    assert [one["event"] for one in (span, log, metric, failed)] == ["$span", "$log", "$metric", "$span"]
    assert (
        span["properties"]
        | {
            "$span_name": "fetch",
            "$trace_id": "t" * 32,
            "$span_id": "p1",
            "$parent_span_id": "p0",
            "duration_ms": 1.5,
            "status": "ok",
        }
        == span["properties"]
    )
    assert (log["properties"]["message"], log["properties"]["level"]) == ("hello", "INFO")
    assert (
        metric["properties"] | {"$metric_name": "queue", "value": 0.0, "unit": "items", "shard": 3}
        == (metric["properties"])
    )
    assert failed["properties"]["$exception_type"] == "RuntimeError"


def test_c22_a_lone_surrogate_does_not_break_the_line():
    sent = event(properties={"k\udfff": "x\ud800y"}, id="\ud800")

    assert sent["properties"]["k\ufffd"] == "x\ufffdy"
    assert sent["properties"]["$leeward_id"] == "\ufffd"
