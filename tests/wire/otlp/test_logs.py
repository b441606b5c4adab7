"""Log records → events; the same from both encodings, as for traces."""

from __future__ import annotations

import pytest

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
    log,
    logs,
)


def test_a_log_record_is_a_line_with_its_message_and_attributes():
    event = decoded_one(
        logs(log("hello", {"a": 1}, trace_id=TRACE_ID, span_id=SPAN_ID), resource={"service.name": "chat"})
    )

    assert (event.kind, event.name, event.level, event.service) == ("log", "log", "INFO", "chat")
    assert event.timestamp == NOW_NS // 1_000_000
    assert (event.trace_id, event.span_id) == (TRACE_ID.hex(), SPAN_ID.hex())
    assert data_of(event) == {"a": 1, "message": "hello"}
    assert attributes_of(event) == {"resource": {"service.name": "chat"}}


@pytest.mark.parametrize(
    ("number", "text", "level"),
    [
        (1, "", "DEBUG"),
        (5, "", "DEBUG"),
        (9, "INFO", "INFO"),
        (13, "", "WARN"),
        (17, "", "ERROR"),
        (24, "", "FATAL"),
        (0, "warning", "WARN"),
        (0, "Critical", "FATAL"),
        (0, "whatever", ""),
        (0, "", ""),
        (25, "error", "ERROR"),
    ],
)
def test_a_level_is_the_severitys_number_or_else_its_text(number, text, level):
    event = decoded_one(logs(log("x", severity_number=number, severity_text=text)))

    assert event.level == level


def test_what_the_level_does_not_say_of_the_severity_is_kept():
    event = decoded_one(logs(log("x", severity_number=10, severity_text="Information")))

    assert attributes_of(event) == {"severity_number": 10, "severity_text": "Information"}


def test_a_record_with_a_name_is_an_event_of_that_name():
    event = decoded_one(logs(log("signup", {"plan": "pro"}, event_name="signup")))

    assert (event.kind, event.name) == ("event", "signup")
    assert data_of(event) == {"plan": "pro"}  # the body said no more than the name


@pytest.mark.parametrize("fields", [{"event_name": "exception"}, {}])
def test_a_record_of_an_exception_is_one(fields):
    said = {"exception.type": "ValueError", "exception.message": "no", "exception.stacktrace": "Traceback …", "a": 1}

    event = decoded_one(logs(log("it broke", said, severity_number=0, **fields)))

    assert (event.kind, event.name, event.level) == ("exception", "$exception", "ERROR")
    assert (event.error_type, event.error_message, event.error_stack) == ("ValueError", "no", "Traceback …")
    assert data_of(event) == {"a": 1, "message": "it broke"}


@pytest.mark.parametrize(
    ("body", "attributes", "data"),
    [
        ({"k": 1}, {"a": 2}, {"a": 2, "body": {"k": 1}}),
        ({"k": 1}, {"body": 2}, {"body": 2, "message": {"k": 1}}),
        ("text", {"message": "own"}, {"message": "own", "body": "text"}),
        ("text", {"message": 1, "body": 2}, {"message": 1, "body": 2, "log.body": "text"}),
        (
            "text",
            {"message": 1, "body": 2, "log.body": 3},
            {"message": 1, "body": 2, "log.body": 3, "log.message": "text"},
        ),
        ([1, "two"], {}, {"message": [1, "two"]}),
        (5, {}, {"message": 5}),
        ("", {}, {"message": ""}),
        (None, {"a": 1}, {"a": 1}),
    ],
)
def test_a_body_never_takes_an_attributes_place(body, attributes, data):
    assert data_of(decoded_one(logs(log(body, attributes)))) == data


def test_times_within_a_millisecond_and_the_time_of_observation_are_kept():
    event = decoded_one(logs(log("x", time_unix_nano=NOW_NS + 1, observed_time_unix_nano=NOW_NS + 2, flags=0x101)))

    assert attributes_of(event) == {"time": str(NOW_NS + 1), "observed": str(NOW_NS + 2), "flags": 0x101}


def test_a_record_that_was_only_observed_is_as_old_as_that():
    event = decoded_one(logs(log("x", time_unix_nano=0, observed_time_unix_nano=NOW_NS)))

    assert event.timestamp == NOW_NS // 1_000_000


# -- ids -------------------------------------------------------------------------------------------------------------


def test_w9_w11_equal_records_in_two_requests_have_one_id_and_in_one_request_two():
    first, second = decoded(logs(log("x"), log("x")))
    again, _ = decoded(logs(log("x"), log("y")))

    assert first.id == again.id
    assert first.id != second.id
    assert all(one.id.startswith("h:") and len(one.id) == 34 for one in (first, second))


@pytest.mark.parametrize(
    "changed",
    [
        log("y", {"a": 1}),
        log("x", {"a": 2}),
        log("x", {"a": 1}, severity_number=10),
        log("x", {"a": 1}, severity_text="t"),
        log("x", {"a": 1}, time_unix_nano=NOW_NS + 1),
        log("x", {"a": 1}, observed_time_unix_nano=NOW_NS),
        log("x", {"a": 1}, trace_id=TRACE_ID),
        log("x", {"a": 1}, span_id=SPAN_ID),
        log("x", {"a": 1}, event_name="n"),
    ],
)
def test_w9_records_that_differ_in_anything_have_different_ids(changed):
    assert decoded_one(logs(log("x", {"a": 1}))).id != decoded_one(logs(changed)).id


def test_w9_records_of_different_sources_have_different_ids():
    assert decoded_one(logs(log("x"))).id != decoded_one(logs(log("x"), resource={"host.name": "h"})).id


def test_w11_a_record_without_a_time_is_known_by_its_request_and_its_place():
    timeless = log("tick", time_unix_nano=0)
    body = logs(timeless, timeless).SerializeToString()
    other = logs(timeless, timeless, log("z")).SerializeToString()

    def ids(of):
        return [one.id for one in decode.logs(of, is_json=False, project=PROJECT, received_at=RECEIVED_AT).items]

    assert ids(body) == ids(body)
    assert len({*ids(body), *ids(other)}) == 5
    assert decoded_one(logs(timeless)).timestamp == RECEIVED_AT


def test_i7_ids_of_a_trace_that_are_none_are_left_out():
    event = decoded_one(logs(log("x", trace_id=b"\0" * 16, span_id=b"\1\2")))

    assert (event.trace_id, event.span_id) == ("", "")


def test_a_browsers_log_has_its_person_and_session():
    event = decoded_one(logs(log("x", {"posthogDistinctId": "u", "sessionId": "s"})))

    assert (event.distinct_id, event.session_id) == ("u", "s")
