"""What leeward's own client says over PostHog's wire is what leeward's server understands."""

from __future__ import annotations

import json
import uuid

from hypothesis import given, strategies as st

from fuzz_targets_posthog import RECEIVED_AT, events_of
from leeward.wire import posthog_encode

KINDS = ("event", "exception", "span", "log", "metric")
LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")
# NUL cannot be stored; that it and lone surrogates are replaced is said elsewhere.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)
FRAME = {"filename": "s.py", "abs_path": "/x/s.py", "function": "f", "module": "app", "lineno": 6, "in_app": True}


@st.composite
def errors(draw):
    """An error as `sender.exceptions` describes one."""
    causes = draw(st.integers(0, 2))
    message = draw(TEXTS)
    name = draw(st.sampled_from(["ValueError", "KeyError"]))
    return {
        "type": name,
        "message": message,
        "stack": "Traceback (most recent call last): …",
        "handled": draw(st.booleans()),
        "exceptions": [
            {
                "type": name,
                "value": message,
                "module": None,
                "exception_id": number,
                "parent_id": number - 1 if number else None,
                "source": "cause" if number else "",
                "frames": [{**FRAME, "context_line": "1/0"}],
            }
            for number in range(causes + 1)
        ],
    }


@given(
    kind=st.sampled_from(KINDS),
    name=WORDS,
    id=st.uuids().map(str) | WORDS,
    level=st.sampled_from(LEVELS),
    texts=st.dictionaries(
        st.sampled_from(
            [
                *("distinct_id", "session_id", "device_id", "correlation_id", "trace_id", "span_id", "parent_span_id"),
                *("service", "status", "unit"),
            ]
        ),
        WORDS,
    ),
    duration_ms=st.none() | st.floats(0, 1e9),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    error=st.none() | errors(),
    timestamp_ms=st.integers(RECEIVED_AT - 10_000_000, RECEIVED_AT),
)
def test_every_item_comes_back_as_what_it_was(kind, name, id, level, texts, duration_ms, value, error, timestamp_ms):
    if kind == "event":
        name = "my " + name
    if kind == "exception":
        name, error = "$exception", error or {"type": "E", "message": "m", "stack": "", "handled": True}
    _, line = posthog_encode.encode(
        kind,
        name,
        {"plan": "pro"},
        id=id,
        timestamp_ms=timestamp_ms,
        level=level,
        duration_ms=duration_ms,
        value=value,
        error=error if kind in {"span", "exception"} else None,
        **texts,
    )

    (event,) = events_of(b'{"api_key":"phc_k","batch":[%s]}' % line)

    assert event.kind == kind
    assert event.name == ("log" if kind == "log" else name)
    same = posthog_encode.as_uuid(id)
    assert event.id == (id if same is None else str(uuid.UUID(same)))
    assert (event.timestamp, event.level) == (timestamp_ms, level)
    person = texts.get("distinct_id", "")
    assert event.distinct_id == ("" if person == texts.get("device_id") else person)
    for field, text in texts.items():
        if field != "distinct_id":
            assert getattr(event, field) == text
    assert (event.duration_ms, event.value) == (duration_ms, value)
    assert json.loads(event.data)["plan"] == "pro"
    if kind in {"span", "exception"} and error:
        assert (
            (event.error_type, event.error_message) == (error["type"], error["exceptions"][0]["value"])
            if (error.get("exceptions"))
            else (error["type"], error["message"])
        )
        assert event.error_stack == error["stack"]
        assert json.loads(event.error_rest)["handled"] is error["handled"]
    else:
        assert (event.error_type, event.error_message, event.error_stack, event.error_rest) == ("", "", "", "")


def test_an_id_that_is_too_long_for_its_column_is_its_hash():
    _, line = posthog_encode.encode("event", "a", {}, id="x" * 200, timestamp_ms=RECEIVED_AT)

    (event,) = events_of(b'{"api_key":"phc_k","batch":[%s]}' % line)

    assert event.id.startswith("h:")
    assert len(event.id) == 34
    assert event.distinct_id == ""


def test_an_event_of_another_library_is_never_taken_for_one_of_ours():
    for name in ("$span", "$log", "$metric"):
        (event,) = events_of(
            b'{"api_key":"k","event":"%s","distinct_id":"u","properties":{"$lib":"web","$leeward_id":"x","$span_name":"s"}}'
            % name.encode()
        )
        assert (event.kind, event.name, event.id, event.distinct_id) == ("event", name, "", "u")
