"""Spans → events. Every request is read from protobuf and from JSON, and must give the same (`otlp_exports.decoded`)."""

from __future__ import annotations

import json

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from leeward.model import Dropped, Event
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
    exception_event,
    pairs,
    span,
    traces,
)


def test_a_span_is_an_event_with_its_ids_times_and_attributes():
    event = decoded_one(
        traces(
            span({"http.route": "/", "n": 5}, name="GET /", kind=2, parent_span_id=b"\1" * 8),
            resource={"service.name": "chat", "host.name": "h"},
            scope="lib",
        )
    )

    assert (event.project, event.kind, event.name, event.received_at) == (PROJECT, "span", "GET /", RECEIVED_AT)
    assert event.id == f"{TRACE_ID.hex()}:{SPAN_ID.hex()}:{NOW_NS}"
    assert (event.timestamp, event.duration_ms) == (NOW_NS // 1_000_000, 1.5)
    assert (event.trace_id, event.span_id, event.parent_span_id) == (TRACE_ID.hex(), SPAN_ID.hex(), "01" * 8)
    assert (event.service, event.level, event.status) == ("chat", "", "")
    assert data_of(event) == {"http.route": "/", "n": 5}
    assert attributes_of(event) == {
        "resource": {"service.name": "chat", "host.name": "h"},
        "scope": {"name": "lib"},
        "span_kind": "server",
    }


@pytest.mark.parametrize(("code", "status", "level"), [(0, "", ""), (1, "ok", ""), (2, "error", "ERROR")])
def test_a_spans_status_is_its_events_and_an_error_is_at_that_level(code, status, level):
    event = decoded_one(traces(span(status={"code": code, "message": "why"})))

    assert (event.status, event.level) == (status, level)
    assert attributes_of(event)["status_message"] == "why"


def test_what_a_span_has_beside_its_attributes_is_in_the_attributes_column():
    event = decoded_one(
        traces(
            span(
                {"a": 1},
                trace_state="v=1",
                flags=0x401,
                events=[Span.Event(name="retry", time_unix_nano=NOW_NS + 1, attributes=pairs({"n": 2}))],
                links=[Span.Link(trace_id=TRACE_ID, span_id=SPAN_ID, trace_state="s", attributes=pairs({"l": True}))],
                dropped_attributes_count=1,
                dropped_events_count=2,
                dropped_links_count=3,
            )
        )
    )

    assert attributes_of(event) == {
        "span_kind": "internal",
        "trace_state": "v=1",
        "flags": 0x401,
        "events": [{"name": "retry", "time": str(NOW_NS + 1), "attributes": {"n": 2}}],
        "links": [
            {"trace_id": TRACE_ID.hex(), "span_id": SPAN_ID.hex(), "trace_state": "s", "attributes": {"l": True}}
        ],
        "dropped": {"attributes": 1, "events": 2, "links": 3},
    }


def test_two_sources_of_a_request_are_told_apart():
    request = traces(span({"a": 1}), resource={"service.name": "one"})
    request.MergeFrom(traces(span({"a": 1}, span_id=b"\2" * 8, kind=9), resource={"service.name": "two"}))

    first, second = decoded(request)

    assert (first.service, second.service) == ("one", "two")
    assert attributes_of(second) == {"resource": {"service.name": "two"}, "span_kind": "9"}


def test_a_kind_that_nobody_knows_is_kept_as_its_number():
    assert attributes_of(decoded_one(traces(span(kind=300)))) == {"span_kind": "300"}
    assert attributes_of(decoded_one(traces(span(kind=0)))) == {}


def test_schema_urls_and_attributes_of_a_scope_are_kept():
    request = traces(span(), scope="lib")
    above = request.resource_spans[0]
    above.schema_url = "https://r"
    above.scope_spans[0].schema_url = "https://s"
    above.scope_spans[0].scope.version = "1.2"
    above.scope_spans[0].scope.attributes.extend(pairs({"short": True}))

    assert attributes_of(decoded_one(request)) == {
        "resource_schema_url": "https://r",
        "scope": {"name": "lib", "version": "1.2", "attributes": {"short": True}, "schema_url": "https://s"},
        "span_kind": "internal",
    }


@pytest.mark.parametrize(
    ("attributes", "resource", "columns"),
    [
        ({"user.id": "u", "session.id": "s", "device.id": "d", "correlation.id": "c"}, {}, ("u", "s", "d", "c")),
        ({"enduser.id": "u", "correlation_id": "c"}, {"device.id": "d"}, ("u", "", "d", "c")),
        ({"user.id": 17, "enduser.id": "other"}, {}, ("17", "", "", "")),
        ({"user.id": "u"}, {"user.id": "of all", "session.id": "s"}, ("u", "s", "", "")),
        ({"langfuse.user.id": "u", "langfuse.session.id": "s"}, {}, ("u", "s", "", "")),
        ({"gen_ai.conversation.id": "talk"}, {}, ("", "talk", "", "")),
        ({"user.id": "u" * 300, "session.id": ["no"]}, {}, ("u" * 200, "", "", "")),
    ],
)
def test_whose_a_span_is_stands_in_its_attributes_or_its_resources(attributes, resource, columns):
    event = decoded_one(traces(span(attributes), resource=resource))

    assert (event.distinct_id, event.session_id, event.device_id, event.correlation_id) == columns
    assert data_of(event) == attributes  # and stays there


def test_a_call_to_a_model_fills_its_columns():
    event = decoded_one(
        traces(
            span(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": "gpt-4o",
                    "gen_ai.response.model": "gpt-4o-2024",
                    "gen_ai.usage.input_tokens": 12,
                    "gen_ai.usage.output_tokens": 34,
                }
            )
        )
    )

    assert (event.provider, event.model, event.input_tokens, event.output_tokens) == ("openai", "gpt-4o-2024", 12, 34)


def test_langfuses_sdk_fills_them_too():
    event = decoded_one(
        traces(
            span(
                {
                    "langfuse.observation.type": "generation",
                    "langfuse.observation.model.name": "gpt-4o",
                    "langfuse.observation.usage_details": '{"input": 12, "output": 34}',
                    "langfuse.observation.level": "WARNING",
                }
            )
        )
    )

    assert (event.model, event.input_tokens, event.output_tokens, event.level) == ("gpt-4o", 12, 34, "WARN")


# -- exceptions ------------------------------------------------------------------------------------------------------


def test_an_exception_that_a_span_recorded_is_an_event_of_its_own():
    recorded = exception_event(type="ValueError", message="no", stacktrace="Traceback …", escaped=True)
    tick = Span.Event(name="tick")

    whole, error = decoded(traces(span({"user.id": "u", "gen_ai.system": "x"}, events=[tick, recorded]), scope="lib"))

    assert (whole.kind, whole.error_type) == ("span", "")
    assert attributes_of(whole)["events"] == [{"name": "tick"}]
    assert (error.kind, error.name, error.level) == ("exception", "$exception", "ERROR")
    assert (error.error_type, error.error_message, error.error_stack) == ("ValueError", "no", "Traceback …")
    assert error.id == f"{TRACE_ID.hex()}:{SPAN_ID.hex()}:{NOW_NS + 5}:1"
    assert error.timestamp == NOW_NS // 1_000_000
    assert (error.trace_id, error.span_id) == (whole.trace_id, whole.span_id)
    assert (error.distinct_id, error.provider) == ("u", "x")
    assert data_of(error) == {"exception.escaped": True}
    assert attributes_of(error) == {"scope": {"name": "lib"}}


def test_an_exceptions_texts_that_no_column_holds_stay_in_its_data():
    stack = "line\n" * 20_000
    _, error = decoded(traces(span(events=[exception_event(type="T" * 201, message=5, stacktrace=stack)])))

    assert error.error_type == "T" * 200
    assert error.error_message == ""
    assert len(error.error_stack) <= 64 * 1024
    assert data_of(error) == {
        "exception.type": "T" * 201,
        "exception.message": 5,
        "exception.stacktrace": stack,
    }


def test_an_exception_without_a_time_is_at_its_spans_end():
    _, error = decoded(traces(span(events=[Span.Event(name="exception")])))

    assert error.id.endswith(f":{NOW_NS + 1_500_000}:0")
    assert error.timestamp == (NOW_NS + 1_500_000) // 1_000_000


# -- odd spans -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids",
    [
        {"trace_id": b"\0" * 16},
        {"span_id": b"\0" * 8},
        {"trace_id": b""},
        {"span_id": b""},
        {"trace_id": TRACE_ID + b"\1"},
        {"span_id": SPAN_ID[:7]},
    ],
)
def test_i7_a_span_with_wrong_ids_is_refused_and_its_neighbours_are_taken(ids):
    first, second, third = decoded(traces(span(), span(**ids), span(span_id=b"\3" * 8)))

    assert isinstance(first, Event)
    assert isinstance(second, Dropped)
    assert second.code == "invalid_id"
    assert isinstance(third, Event)


@pytest.mark.parametrize("parent", [b"", b"\0" * 8, b"\1\2"])
def test_a_parent_that_is_none_makes_a_root(parent):
    assert decoded_one(traces(span(parent_span_id=parent))).parent_span_id == ""


def test_a_span_without_times_is_at_its_receipt_and_has_no_duration():
    event = decoded_one(traces(span(start_time_unix_nano=0, end_time_unix_nano=0)))

    assert (event.timestamp, event.duration_ms) == (RECEIVED_AT, None)
    assert event.id.endswith(":0")


def test_a_span_that_ends_before_it_starts_keeps_both_times():
    event = decoded_one(traces(span(end_time_unix_nano=NOW_NS - 1)))

    assert event.duration_ms is None
    assert attributes_of(event)["end"] == str(NOW_NS - 1)


def test_a_name_is_cut_and_none_is_made_up_for_a_span_that_has_none():
    assert decoded_one(traces(span(name="x" * 300))).name == "x" * 200
    assert decoded_one(traces(span(name=""))).name == "unnamed"


def test_times_at_the_end_of_64_bits_are_taken():
    event = decoded_one(traces(span(start_time_unix_nano=2**64 - 2, end_time_unix_nano=2**64 - 1)))

    assert event.timestamp == (2**64 - 2) // 1_000_000
    assert event.duration_ms == 1e-06


def test_a_request_without_spans_is_empty():
    assert decoded(traces()) == []


def test_the_type_of_a_failure_stands_in_its_column():
    from leeward.wire.otlp.decode import traces

    def failed(code):
        attributes = [{"key": "error.type", "value": {"stringValue": "RateLimitError"}}]
        span = {
            "traceId": "ab" * 16,
            "spanId": "cd" * 8,
            "name": "n",
            "attributes": attributes,
            "status": {"code": code},
        }
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
        return traces(body, is_json=True, project=1, received_at=1).items[0].error_type

    assert (failed(2), failed(1)) == ("RateLimitError", "")
