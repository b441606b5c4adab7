"""PostHog's events as the wide event: what each property fills, and what stays as it was sent."""

from __future__ import annotations

import json
import math

import msgspec
import pytest

from fuzz_targets_posthog import RECEIVED_AT, UUID, events_of, items_of, seed_batch, seed_event
from leeward.model import Dropped, Event
from leeward.wire.posthog.columns import ERROR_BYTES_MAX, EVENT_BYTES_MAX, Received, as_uuid, to_events
from leeward.wire.posthog.events import decode

KEY = "phc_k"  # of `seed_batch`


def mapped(name="a", properties=None, /, **fields):
    (event,) = events_of(seed_batch(seed_event(name, {} if properties is None else properties, **fields)))
    return event


def refused(*events):
    """The last of them, which is the one that cannot be taken."""
    *others, last = items_of(seed_batch(*events))
    assert all(isinstance(other, Event) for other in others)
    assert isinstance(last, Dropped)
    return last


# As posthog-python 7.91.1 sends it.
SEEN = (
    b'{"batch":[{"properties":{"a":1,"$lib":"posthog-python","$lib_version":"7.91.1","$is_server":true,'
    b'"$geoip_disable":true},"timestamp":"2026-11-22T04:45:41.463126+00:00","distinct_id":"u1","event":"message_sent",'
    b'"uuid":"8deedea6-6f4b-41f8-89c1-502e28b53433"},{"timestamp":"2026-11-22T04:45:41.463126+00:00","distinct_id":"u1",'
    b'"$set":{"plan":"x"},"event":"$set","properties":{},"uuid":"9deedea6-6f4b-41f8-89c1-502e28b53433"}],'
    b'"sent_at":"2026-11-22T04:45:41.5+00:00","api_key":"phc_test"}'
)


def test_a_batch_as_pythons_sdk_sends_it():
    message, person = events_of(SEEN)

    assert (message.kind, message.name, message.id, message.distinct_id) == ("event", "message_sent", UUID, "u1")
    assert message.timestamp == RECEIVED_AT - 37  # it was kept for 37 ms
    assert message.data.encode() in SEEN, "the payload comes back byte for byte"
    assert (person.name, person.data, person.attributes) == ("$set", "{}", '{"$set":{"plan":"x"}}')


def test_properties_fill_columns_and_stay_in_the_data():
    properties = {
        "$session_id": "s",
        "$device_id": "d",
        "$trace_id": "t",
        "$span_id": "p",
        "$parent_span_id": "q",
        "correlation_id": "c",
        "service": "api",
        "level": "warning",
        "status": 503,
        "provider": "openai",
        "model": "gpt",
        "latency_ms": 412,
        "value": 2.5,
        "unit": "s",
        "input_tokens": 7,
        "output_tokens": 9,
    }

    event = mapped("a", properties)

    assert (event.session_id, event.device_id, event.correlation_id) == ("s", "d", "c")
    assert (event.trace_id, event.span_id, event.parent_span_id) == ("t", "p", "q")
    assert (event.service, event.level, event.status) == ("api", "WARN", "503")
    assert (event.provider, event.model, event.duration_ms) == ("openai", "gpt", 412.0)
    assert (event.value, event.unit, event.input_tokens, event.output_tokens) == (2.5, "s", 7, 9)
    assert json.loads(event.data) == properties


def test_the_duration_is_preferred_to_the_latency():
    assert mapped("a", {"latency_ms": 1, "duration_ms": 2}).duration_ms == 2.0


def test_properties_of_other_types_stay_in_the_data_and_spoil_no_other():
    odd = {"status": {"a": 1}, "value": "high", "duration_ms": "1", "input_tokens": -1, "output_tokens": 2**64}
    odd |= {"level": 5, "$session_id": 12, "$device_id": [1], "model": "m" * 300, "provider": None, "service": True}

    event = mapped("a", odd)

    assert (event.status, event.value, event.duration_ms) == ("", None, None)
    assert (event.input_tokens, event.output_tokens, event.level) == (None, None, "")
    assert (event.session_id, event.device_id, event.provider, event.service) == ("12", "", "", "true")
    assert event.model == "m" * 200
    assert json.loads(event.data) == odd


def test_numbers_beyond_a_float_stay_in_the_data():
    (event,) = events_of(b'{"api_key":"k","event":"a","distinct_id":"u","properties":{"value":1e999,"level":{}}}')

    assert (event.value, event.data) == (None, '{"value":1e999,"level":{}}')


# -- ids


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"distinct_id": 12345}, "12345"),
        ({"distinct_id": 0}, "0"),
        ({"distinct_id": 12.5}, "12.5"),
        ({"distinct_id": True}, "true"),
        ({"distinct_id": {"a": 1}}, '{"a":1}'),
        ({"distinct_id": "x" * 300}, "x" * 200),
        ({"distinct_id": None, "$distinct_id": "other"}, "other"),
        ({"distinct_id": "", "properties": {"distinct_id": "inside"}}, "inside"),
        ({"distinct_id": None, "properties": {"distinct_id": 7}}, "7"),
        ({"distinct_id": None, "properties": {"$distinct_id": "inside"}}, "inside"),
        ({"distinct_id": "first", "properties": {"distinct_id": "second"}}, "first"),
    ],
)
def test_a_person_is_found_wherever_a_sender_puts_it(fields, expected):
    (event,) = events_of(seed_batch({**seed_event("a", {}), **fields}))
    assert event.distinct_id == expected


@pytest.mark.parametrize(
    "fields", [{"distinct_id": None}, {"distinct_id": ""}, {"distinct_id": None, "$distinct_id": ""}]
)
def test_an_event_of_nobody_is_refused(fields):
    refusal = refused(seed_event("fine", {}), {**seed_event("a", {}), **fields})

    assert refusal == Dropped("missing_distinct_id", "event 1: it has no distinct_id")


@pytest.mark.parametrize(
    ("uuid", "expected"),
    [
        (UUID, UUID),
        (UUID.upper(), UUID),
        (UUID.replace("-", ""), UUID),
        ("{" + UUID + "}", UUID),
        ("urn:uuid:" + UUID, UUID),
        ("", ""),
        (None, ""),
        ("00000000-0000-0000-0000-000000000000", ""),
    ],
)
def test_a_uuid_has_one_spelling(uuid, expected):
    assert mapped(uuid=uuid).id == expected


@pytest.mark.parametrize(
    "uuid", ["x", UUID[:-1], UUID + "0", UUID.replace("8", "g"), 12, {"a": 1}, "1-2-3-4-5", UUID + "\n"]
)
def test_a_malformed_uuid_is_refused(uuid):
    assert refused(seed_event("a", {}) | {"uuid": uuid}).code == "invalid_uuid"


def test_an_event_without_a_uuid_gets_its_id_later():
    (event,) = events_of(b'{"api_key":"k","event":"a","distinct_id":"u"}')

    assert (event.id, event.data) == ("", "{}")
    assert as_uuid("x") is None


# -- the rest of an event


@pytest.mark.parametrize("name", [None, "", {}])
def test_an_event_without_a_name_is_refused(name):
    event = {**seed_event("a", {}), "event": name} if name != {} else {"distinct_id": "u", "properties": {}}

    assert refused(event) == Dropped("missing_event_name", "event 0: it has no event name")


def test_a_long_name_is_cut():
    assert mapped("n" * 300).name == "n" * 200


@pytest.mark.parametrize("properties", [None, []])
def test_no_properties_are_an_empty_object(properties):
    (event,) = events_of(seed_batch({**seed_event("a", {}), "properties": properties}))

    assert event.data == "{}"


@pytest.mark.parametrize("properties", ["x", 1, [1], True])
def test_properties_that_are_no_object_are_refused(properties):
    assert refused({**seed_event("a", {}), "properties": properties}).code == "invalid_field"


def test_what_is_too_large_is_refused_before_anybody_looks_inside():
    for name, size in (("a", EVENT_BYTES_MAX), ("$exception", ERROR_BYTES_MAX)):
        assert refused(seed_event(name, {"a": "x" * size})).code == "event_too_large"


def test_i3_nesting_that_only_the_mapping_meets_is_refused():
    batch = decode(seed_batch(seed_event("$exception", {})))
    batch.events[0].properties = msgspec.Raw(b'{"$exception_list":' + b"[" * 40_000 + b"]" * 40_000 + b"}")

    (refusal,) = to_events(batch.events, Received(1, RECEIVED_AT, b"k"))

    assert refusal == Dropped("too_deep", "event 0: it is nested too deeply")


def test_a12_the_key_of_the_request_is_not_stored():
    sent = {"token": KEY, "api_key": KEY, "a": 1, "said": f"my key is {KEY}"}

    assert json.loads(mapped("a", sent).data) == {"a": 1, "said": f"my key is {KEY}"}
    assert json.loads(mapped("a", {"token": "of a bus ticket"}).data) == {"token": "of a bus ticket"}
    assert mapped("a", {"b": KEY}).data == f'{{"b":"{KEY}"}}'


def test_what_stands_beside_the_properties_is_kept():
    event = mapped("a", {}, **{"$set_once": {"first": 1}, "$groups": {"team": "x"}, "$set": None, "odd": [1]})

    assert json.loads(event.attributes) == {"$set_once": {"first": 1}, "$groups": {"team": "x"}, "odd": [1]}


def test_what_older_senders_put_beside_it_is_not():
    event = mapped("a", {}, type="capture", library="posthog-php", library_version="1", messageId="x", token=KEY)

    assert event.attributes == ""


# -- times (their rules are `times`')


def test_a_time_is_put_right_unless_the_event_says_no():
    sent = {"sent_at": "2026-11-22T04:00:00Z"}
    now, early = "2026-11-22T04:00:00Z", RECEIVED_AT
    corrected = seed_event("a", {}, timestamp=now)
    as_it_is = seed_event("a", {"$ignore_sent_at": True}, timestamp="2026-11-22T03:00:00Z")

    first, second = events_of(seed_batch(corrected, as_it_is, **sent))

    assert first.timestamp == early
    assert second.timestamp == 1_795_316_400_000


def test_a_time_that_is_not_believed_is_kept_beside_the_data():
    future = mapped(timestamp="2030-01-01T00:00:00Z")
    never = mapped(timestamp="around noon")

    assert (future.timestamp, future.attributes) == (RECEIVED_AT, '{"timestamp":"2030-01-01T00:00:00Z"}')
    assert (never.timestamp, never.attributes) == (RECEIVED_AT, '{"timestamp":"around noon"}')


def test_an_offset_says_how_long_ago_it_was():
    assert mapped(offset=5000).timestamp == RECEIVED_AT - 5000
    assert mapped(offset="5000").timestamp == RECEIVED_AT


def test_a_historical_migration_keeps_its_times():
    sent = seed_batch(seed_event("a", {}, timestamp="1999-01-01T00:00:00Z"), historical_migration=True)

    (event,) = events_of(sent)

    assert (event.timestamp, event.attributes) == (915_148_800_000, "")


def test_a_lone_surrogate_and_nul_become_the_replacement():
    (event,) = events_of(b'{"api_key":"k","event":"a\\ud800","distinct_id":"u\\u0000","properties":{"a":"\\udc00"}}')

    assert (event.name, event.distinct_id, json.loads(event.data)) == ("a\ufffd", "u\ufffd", {"a": "\ufffd"})


# -- language models


def test_a_generation_fills_the_columns_of_models():
    event = mapped(
        "$ai_generation",
        {
            "$ai_trace_id": "t",
            "$ai_span_id": "s",
            "$ai_parent_id": "p",
            "$ai_session_id": "conversation",
            "$session_id": "browser",
            "$ai_provider": "anthropic",
            "$ai_model": "claude",
            "$ai_input_tokens": 10,
            "$ai_output_tokens": 20,
            "$ai_latency": 1.25,
            "$ai_http_status": 200,
            "$ai_input": [{"role": "user", "content": "hi"}],
        },
    )

    assert (event.kind, event.name) == ("event", "$ai_generation")
    assert (event.trace_id, event.span_id, event.parent_span_id) == ("t", "s", "p")
    assert (event.session_id, event.provider, event.model) == ("conversation", "anthropic", "claude")
    assert (event.input_tokens, event.output_tokens, event.duration_ms, event.status) == (10, 20, 1250.0, "200")
    assert (event.level, event.error_type, event.error_message) == ("", "", "")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"$ai_error": "rate limited", "$ai_error_type": "RateLimitError"}, ("RateLimitError", "rate limited")),
        ({"$ai_error": {"type": "overloaded", "message": "busy"}}, ("overloaded", "busy")),
        ({"$ai_error": {"name": "TypeError", "code": 3}}, ("TypeError", '{"name":"TypeError","code":3}')),
        ({}, ("", "")),
    ],
)
def test_a_call_that_failed_is_an_event_with_an_error(said, expected):
    event = mapped("$ai_generation", {"$ai_is_error": True, **said})

    assert (event.kind, event.level) == ("event", "ERROR")
    assert (event.error_type, event.error_message) == expected


def test_a_latency_that_is_beyond_all_bounds_stays_in_the_data():
    assert mapped("$ai_span", {"$ai_latency": 1e307}).duration_ms is None
    assert math.isfinite(mapped("$ai_span", {"$ai_latency": 1e299}).duration_ms)


# -- exceptions

FRAMES = [
    {"filename": "main.py", "abs_path": "/x/main.py", "function": "main", "lineno": 3, "in_app": True},
    {"filename": "s.py", "abs_path": "/x/s.py", "function": "f", "lineno": 6, "context_line": "    1/0"},
]
LISTED = {
    "$exception_list": [
        {
            "type": "RuntimeError",
            "value": "no answer",
            "module": None,
            "mechanism": {"type": "generic", "handled": False},
            "stacktrace": {"type": "raw", "frames": FRAMES},
        },
        {
            "type": "ConnectError",
            "value": "refused",
            "module": "httpx",
            "mechanism": {"type": "chained", "handled": True, "source": "cause"},
            "stacktrace": None,
        },
    ],
    "$exception_level": "fatal",
    "$exception_fingerprint": "mine",
}


def test_an_exception_is_told_by_its_list():
    event = mapped("$exception", LISTED)

    assert (event.kind, event.name, event.level, event.error_fingerprint) == (
        "exception",
        "$exception",
        "FATAL",
        "mine",
    )
    assert (event.error_type, event.error_message) == ("RuntimeError", "no answer")
    assert event.error_stack.split("\n") == [
        "httpx.ConnectError: refused",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "Traceback (most recent call last):",
        '  File "/x/main.py", line 3, in main',
        '  File "/x/s.py", line 6, in f',
        "    1/0",
        "RuntimeError: no answer",
    ]
    rest = json.loads(event.error_rest)
    assert rest["handled"] is False
    assert [one["type"] for one in rest["exceptions"]] == ["RuntimeError", "ConnectError"]
    assert json.loads(event.data) == LISTED


@pytest.mark.parametrize("as_text", [True, False])
def test_an_exception_of_the_older_form_is_one_of_the_list(as_text):
    newest_first = [{**FRAMES[1], "context_line": ""}, FRAMES[0]]
    event = mapped(
        "$exception",
        {
            "$exception_type": "TypeError",
            "$exception_message": "x is not a function",
            "$exception_stack_trace_raw": json.dumps(newest_first) if as_text else newest_first,
            "$exception_handled": True,
            "$exception_level": "warning",
        },
    )

    assert (event.error_type, event.error_message, event.level) == ("TypeError", "x is not a function", "WARN")
    assert event.error_stack.split("\n")[1:] == [
        '  File "/x/main.py", line 3, in main',
        '  File "/x/s.py", line 6, in f',
        "TypeError: x is not a function",
    ]
    assert json.loads(event.error_rest)["handled"] is True


def test_an_exception_without_frames_says_where_it_was():
    event = mapped(
        "$exception",
        {"$exception_type": "E", "$exception_source": "app.js", "$exception_lineno": 7, "$exception_colno": "x"},
    )

    assert event.error_stack.split("\n")[1] == '  File "app.js", line 7, in ?'
    assert event.level == "ERROR"


def test_the_senders_own_stack_wins_over_its_frames():
    assert mapped("$exception", {**LISTED, "$exception_stack_trace": "as it was"}).error_stack == "as it was"


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"$exception_list": []},
        {"$exception_list": "x", "$exception_stack_trace_raw": "no JSON"},
        {"$exception_list": [None, 1, {"stacktrace": {"frames": 5}}], "$exception_level": "shouting"},
    ],
)
def test_an_exception_that_says_nothing_is_one_all_the_same(properties):
    event = mapped("$exception", properties)

    assert (event.kind, event.level, event.error_type, event.error_stack) == ("exception", "ERROR", "", "")


def test_what_only_posthogs_server_says_of_an_exception_is_not_taken_from_a_client():
    said = {"$exception_types": ["A"], "$exception_issue_id": "1", "$exception_fingerprint": "own", "a": 1}

    kept = json.loads(mapped("$exception", said).data)

    assert kept == {"$exception_fingerprint": "own", "a": 1}
