"""Events of Sentry's SDKs: an exception or a message, whatever form its parts have."""

from __future__ import annotations

import json
import re

import pytest

from leeward.model import Dropped
from leeward.wire.exceptions import EXCEPTIONS_MAX
from sentry_envelopes import EVENT_ID, RECORDED, SPAN_ID, TRACE_ID, envelope, mapped, only

FRAMES = [
    {"filename": "a.py", "function": "outer", "lineno": 1},
    {"filename": "b.py", "function": "inner", "lineno": 2},
]
STACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in outer\n  File "b.py", line 2, in inner'


def error(**payload):
    event = only("event", payload)
    assert (event.kind, event.name, event.project) == ("exception", "$exception", 7)
    return event


def test_a_real_exception_fills_the_columns():
    [event] = mapped(RECORDED["an_error"]).events

    assert (event.error_type, event.error_message, event.level) == ("ValueError", "cannot pay 12", "ERROR")
    assert (event.distinct_id, event.correlation_id, event.service) == ("u1", "req-7", "shop")
    assert (len(event.trace_id), len(event.span_id), event.parent_span_id) == (32, 16, "")
    lines = event.error_stack.splitlines()
    assert lines.index("KeyError: 'card'") < lines.index("ValueError: cannot pay 12")
    assert lines[-1] == "ValueError: cannot pay 12"
    assert json.loads(event.error_rest)["handled"] is True
    assert [one["type"] for one in json.loads(event.error_rest)["exceptions"]] == ["ValueError", "KeyError"]


def test_a_real_message_has_no_type_but_the_stack_of_its_thread():
    [event] = mapped(RECORDED["a_message"]).events

    assert (event.error_type, event.error_message, event.level) == ("", "disk nearly full", "WARN")
    assert event.error_stack.endswith('    sentry_sdk.capture_message("disk nearly full", level="warning")')


def test_a_real_exception_of_node_is_the_raised_one_with_its_cause_above():
    [event] = mapped(RECORDED["node_static_error"]).events

    assert (event.error_type, event.error_message) == ("TypeError", "cannot pay")
    assert event.error_stack.endswith("TypeError: cannot pay")
    assert [one["type"] for one in json.loads(event.error_rest)["exceptions"]] == ["TypeError", "SyntaxError"]
    assert (event.distinct_id, event.service) == ("u1", "shop")


def test_a_real_message_of_node_comes_as_an_exception_without_a_type():
    [event] = mapped(RECORDED["node_static_message"]).events

    assert (event.error_type, event.error_message, event.level) == ("", "disk nearly full", "WARN")
    assert event.error_stack.splitlines()[-1] == '  File "/srv/shop/record.mjs", line 51, in ?'


def test_the_payload_comes_back_as_it_was_sent():
    payload = b'{"message" : "m", "extra":{"number":1.10, "big":9007199254740993},\n"user":{"id":"u"}}'

    assert only("event", payload).data == payload.decode()


@pytest.mark.parametrize("form", [lambda values: {"values": values}, lambda values: values])
def test_the_raised_exception_is_the_last_of_the_list_in_either_form(form):
    values = [None, {"type": "Cause", "value": "first"}, {"type": "Raised", "value": "last"}, None]

    event = error(exception=form(values))

    assert (event.error_type, event.error_message) == ("Raised", "last")
    assert [one["type"] for one in json.loads(event.error_rest)["exceptions"]] == ["Raised", "Cause"]


def test_one_exception_may_stand_alone():
    assert error(exception={"type": "E", "value": "v"}).error_type == "E"
    assert error(exception={"values": {"type": "E", "value": "v"}}).error_type == "E"


def test_nulls_are_allowed_everywhere():
    values = [{"type": "E", "value": None, "module": None, "mechanism": None, "stacktrace": None}]
    event = error(
        exception={"values": values},
        threads=None,
        tags=None,
        user=None,
        contexts={"trace": None},
        fingerprint=None,
        message=None,
        logentry=None,
        level=None,
        timestamp=None,
        breadcrumbs={"values": None},
    )

    assert (event.error_type, event.error_message, event.level) == ("E", "", "ERROR")


def test_frames_may_be_null_and_of_any_kind():
    frames = [
        None,
        {"function": "f", "lineno": "3", "vars": {"x": 1}},
        {"filename": ["odd"], "lineno": 4, "colno": None},
    ]

    event = error(exception=[{"type": "E", "value": "v", "stacktrace": {"frames": frames}}])

    assert '  File "["odd"]", line 4, in ?' in event.error_stack


def test_i2_a_number_that_nothing_can_hold_does_not_cost_the_exception():
    frames = b'[{"function":"f","lineno":1e999,"vars":{"x":1e999}},{"function":"g","lineno":7}]'
    payload = b'{"exception":[{"type":"E","value":"v","stacktrace":{"frames":%b}}]}' % frames

    event = only("event", payload)

    assert (event.error_type, event.error_message) == ("E", "v")
    assert "line 7, in g" in event.error_stack
    assert event.data == payload.decode()


def test_an_exceptions_list_of_another_type_leaves_the_message():
    event = error(exception=7, message="m")

    assert (event.error_type, event.error_message) == ("", "m")


def test_i5_of_very_many_exceptions_the_raised_one_and_its_nearest_causes_are_kept():
    values = [{"type": f"E{number}", "value": "v"} for number in range(2000)]

    event = error(exception=values)

    kept = json.loads(event.error_rest)["exceptions"]
    assert (event.error_type, len(kept), kept[-1]["type"]) == ("E1999", EXCEPTIONS_MAX, "E1950")


@pytest.mark.parametrize(
    "threads",
    [
        [{"id": 1}, {"current": True, "stacktrace": {"frames": FRAMES}}, {"stacktrace": {"frames": FRAMES[:1]}}],
        {
            "values": [
                {"current": True, "stacktrace": {"frames": FRAMES[:1]}},
                {"crashed": True, "stacktrace": {"frames": FRAMES}},
            ]
        },
        {"values": [None, {"stacktrace": None}, {"stacktrace": {"frames": FRAMES}}]},
    ],
)
def test_the_stack_is_of_the_thread_that_crashed_or_spoke_or_of_the_first(threads):
    assert error(message="m", threads=threads).error_stack == STACK


def test_an_exception_without_frames_takes_those_of_its_thread():
    threads = [{"crashed": True, "stacktrace": {"frames": FRAMES}}]

    event = error(exception=[{"type": "E", "value": "v"}], threads=threads)

    assert event.error_stack == f"{STACK}\nE: v"


def test_an_exception_with_frames_keeps_its_own():
    own = {"type": "E", "value": "v", "stacktrace": {"frames": FRAMES[:1]}}

    assert "inner" not in error(exception=[own], threads=[{"stacktrace": {"frames": FRAMES}}]).error_stack


@pytest.mark.parametrize(
    "payload",
    [
        {"message": "said"},
        {"message": {"formatted": "said", "message": "%s", "params": ["said"]}},
        {"message": {"message": "said"}},
        {"logentry": {"message": "said"}},
        {"logentry": {"formatted": "said", "message": "%s"}, "message": "no"},
        {"logentry": {}, "message": "said"},
        {"logentry": None, "message": "said"},
    ],
)
def test_each_form_of_a_message_is_read(payload):
    assert error(**payload).error_message == "said"


def test_a_long_message_is_cut_in_its_column_and_whole_in_the_data():
    text = "x" * 100_000
    event = error(message=text)

    assert len(event.error_message) == 65_536
    assert json.loads(event.data)["message"] == text


@pytest.mark.parametrize(
    "tags",
    [
        {"service": "shop", "correlation_id": 7, "session.id": "s", "device.id": "d", "other": [1]},
        [["service", "shop"], None, ["odd"], ["correlation_id", 7], [1, 2], ["session.id", "s"], ["device.id", "d"]],
    ],
)
def test_tags_may_be_an_object_or_pairs(tags):
    event = error(message="m", tags=tags)

    assert (event.service, event.correlation_id, event.session_id, event.device_id) == ("shop", "7", "s", "d")


@pytest.mark.parametrize("tags", ["odd", 7, [7], {}])
def test_tags_of_another_type_are_none(tags):
    assert error(message="m", tags=tags, user={"id": "u"}).distinct_id == "u"


@pytest.mark.parametrize("threads", [[{"id": 1}], "odd", [[]], {"values": [{"stacktrace": {"frames": []}}]}])
def test_threads_without_a_stack_leave_the_message_alone(threads):
    event = error(message="m", threads=threads)

    assert (event.error_message, event.error_stack, event.error_rest) == ("m", "", "")


@pytest.mark.parametrize(
    ("user", "distinct_id"),
    [
        ({"id": "u", "email": "e"}, "u"),
        ({"id": 42}, "42"),
        ({"id": None, "email": "e", "username": "n"}, "e"),
        ({"id": "", "username": "n"}, "n"),
        ({"ip_address": "10.0.0.1"}, ""),
        ({"id": ["odd"], "username": "n"}, "n"),
        ("odd", ""),
    ],
)
def test_a_person_is_known_by_id_then_mail_then_name(user, distinct_id):
    assert error(message="m", user=user).distinct_id == distinct_id


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("fatal", "FATAL"),
        ("error", "ERROR"),
        ("WARNING", "WARN"),
        ("info", "INFO"),
        ("log", "INFO"),
        ("debug", "DEBUG"),
        ("odd", "ERROR"),
        (7, "ERROR"),
        (None, "ERROR"),
    ],
)
def test_a_level_that_is_not_known_is_an_error(level, expected):
    assert error(message="m", level=level).level == expected


@pytest.mark.parametrize(
    ("fingerprint", "column"),
    [
        (["mine"], "mine"),
        (["{{ default }}"], ""),
        (["{{default}}", "x"], '["{{ default }}","x"]'),
        (["a", 7], '["a","7"]'),
        ([None, "a"], "a"),
        ([], ""),
        ("mine", "mine"),
        ({"odd": 1}, '{"odd":1}'),
    ],
)
def test_a_callers_fingerprint_is_one_column(fingerprint, column):
    assert error(message="m", fingerprint=fingerprint).error_fingerprint == column


def test_a_long_fingerprint_is_a_hash_that_differs_by_each_part():
    first = error(message="m", fingerprint=["a" * 500]).error_fingerprint
    second = error(message="m", fingerprint=["a" * 499 + "b"]).error_fingerprint

    assert first.startswith("h:")
    assert first != second


def test_the_trace_is_the_contexts_own():
    trace = {"trace_id": TRACE_ID.upper(), "span_id": SPAN_ID, "parent_span_id": "p"}
    event = error(message="m", contexts={"trace": trace, "runtime": {}})

    assert (event.trace_id, event.span_id, event.parent_span_id) == (TRACE_ID, SPAN_ID, "p")
    assert error(message="m", contexts=[1]).trace_id == ""


def test_the_envelopes_id_wins_over_the_payloads():
    [event] = mapped(envelope(("event", {"event_id": "b" * 32}), event_id=EVENT_ID)).events

    assert event.id == EVENT_ID


def test_ids_are_the_same_with_dashes_and_in_capitals():
    dashed = "80FF1E33-5F4A-4921-A4B5-CD54D09ECEE6"

    assert error(event_id=dashed, message="m").id == EVENT_ID


def test_the_envelopes_id_names_one_event_only():
    events = mapped(envelope(("event", {"message": "a"}), ("event", {"message": "b"}), event_id=EVENT_ID)).events

    assert events[0].id == EVENT_ID
    assert re.fullmatch("[0-9a-f]{32}", events[1].id)


def test_w11_an_event_without_an_id_is_known_again_by_the_bytes_that_it_came_in():
    body = envelope(("event", {"message": "m"}), ("event", {"message": "m"}))

    first, second = (event.id for event in mapped(body).events)
    assert first != second, "two equal events of one request are two"
    assert [event.id for event in mapped(body).events] == [first, second]
    assert mapped(body + b"\n").events[0].id != first, "and of two requests as well"


def test_i4_broken_text_is_replaced_and_said():
    found = mapped(envelope(("event", b'{"message":"a\\ud800b\\u0000c\xff"}')))

    assert found.repaired
    assert found.events[0].error_message == "a\ufffdb\ufffdc\ufffd"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "invalid_json"),
        (b'{"message":', "invalid_json"),
        (b"[]", "invalid_event"),
        (b'{"extra":' + b"[" * 100_000, "too_deep"),
        (b'{"message":NaN}', "invalid_json"),
    ],
)
def test_i1_i2_i3_a_payload_that_is_no_object_is_refused_by_itself(payload, code):
    refused = only("event", payload)

    assert isinstance(refused, Dropped)
    assert refused.code == code
