"""Log records and metrics of Sentry's SDKs."""

from __future__ import annotations

import json

import pytest

from leeward.model import Dropped
from sentry_envelopes import RECORDED, SPAN_ID, TRACE_ID, envelope, mapped, only

AT = 1795353485.5
LOG = {"timestamp": AT, "level": "info", "body": "hello", "trace_id": TRACE_ID, "span_id": SPAN_ID}
POINT = {"timestamp": AT, "name": "orders", "type": "counter", "value": 3, "unit": "order", "trace_id": TRACE_ID}


def typed(**values):
    return {key: {"value": value, "type": "string"} for key, value in values.items()}


def test_real_logs_are_logs():
    first, second = mapped(RECORDED["logs"]).events

    assert [(event.kind, event.name, event.level) for event in (first, second)] == [
        ("log", "log", "WARN"),
        ("log", "log", "ERROR"),
    ]
    data = json.loads(first.data)
    assert data["message"] == "cart of u1 is empty"
    assert data["cart.size"] == 0
    assert len(first.trace_id) == 32


def test_real_metrics_are_metrics():
    count, latency, queue = mapped(RECORDED["points"]).events

    assert {event.kind for event in (count, latency, queue)} == {"metric"}
    assert [(event.name, event.value, event.unit) for event in (count, latency, queue)] == [
        ("orders", 1.0, ""),
        ("latency", 12.5, "millisecond"),
        ("queue", 3.0, ""),
    ]
    assert [json.loads(event.attributes) for event in (count, latency, queue)] == [
        {"metric": {"type": "counter"}},
        {"metric": {"type": "distribution"}},
        {"metric": {"type": "gauge"}},
    ]
    assert json.loads(count.data)["shop"] == "north"


def test_real_records_of_node_are_records():
    [log] = mapped(RECORDED["node_static_log"]).events
    [metric] = mapped(RECORDED["node_static_trace_metric"]).events

    assert (log.level, log.distinct_id, json.loads(log.data)["message"]) == ("WARN", "u1", "cart is empty")
    assert (metric.name, metric.value, json.loads(metric.data)["shop"]) == ("orders", 1.0, "north")


def test_a_log_record_fills_its_columns():
    attributes = typed(**{"user.id": "u", "service.name": "shop", "session.id": "s", "correlation_id": "c"})
    event = only("log", {"items": [{**LOG, "attributes": attributes}], "version": 2})

    assert (event.timestamp, event.level, event.trace_id, event.span_id) == (
        1_795_353_485_500,
        "INFO",
        TRACE_ID,
        SPAN_ID,
    )
    assert (event.distinct_id, event.service, event.session_id, event.correlation_id) == ("u", "shop", "s", "c")


def test_an_attribute_named_message_gives_way_to_the_body_and_is_kept():
    event = only("log", {**LOG, "attributes": typed(message="mine")})

    assert json.loads(event.data) == {"message": "hello", "attributes.message": "mine"}


def test_a_log_without_a_body_has_no_message():
    assert json.loads(only("log", {"attributes": typed(a="b")}).data) == {"a": "b"}


def test_a_body_may_be_of_any_type():
    assert json.loads(only("log", {"body": {"a": [1]}}).data) == {"message": {"a": [1]}}


def test_a_severity_alone_is_a_level():
    assert only("log", {"severity_number": 17}).level == "ERROR"


def test_w9_the_same_records_are_known_again_in_whatever_request_they_come():
    items = [LOG, LOG, {**LOG, "body": "other"}]
    first = envelope(("log", {"items": items}), sent_at="2026-11-22T13:18:05Z")
    second = envelope(("log", {"items": items}), sent_at="2026-11-22T13:18:09Z")

    ids = [event.id for event in mapped(first).events]

    assert len(set(ids)) == 3, "two equal records of one request are two"
    assert [event.id for event in mapped(second).events] == ids


def test_w11_records_without_a_time_are_known_by_their_request():
    body = envelope(("log", {"items": [{"body": "hello"}, {"body": "hello"}]}))
    ids = [event.id for event in mapped(body).events]

    assert len(set(ids)) == 2
    assert [event.id for event in mapped(body).events] == ids
    assert not set(ids) & {event.id for event in mapped(body + b"\n").events}, (
        "a line that is said again is a line more"
    )


@pytest.mark.parametrize("value", [None, "3", True, [1], {}])
def test_a_metric_without_a_number_is_refused(value):
    refused = only("trace_metric", {**POINT, "value": value})

    assert isinstance(refused, Dropped)
    assert refused.error == "value: must be a number"


def test_a_metric_without_a_name_is_refused():
    assert only("trace_metric", {**POINT, "name": None}).error == "name: a metric must have one"


def test_a_metric_fills_its_columns():
    event = only("trace_metric", {**POINT, "type": None, "span_id": SPAN_ID, "attributes": typed(**{"user.id": "u"})})

    assert (event.name, event.value, event.unit, event.trace_id, event.span_id) == (
        "orders",
        3.0,
        "order",
        TRACE_ID,
        SPAN_ID,
    )
    assert (event.distinct_id, event.level, event.attributes) == ("u", "", "")


@pytest.mark.parametrize("kind", ["log", "trace_metric"])
def test_i1_a_record_that_is_no_object_is_refused_by_itself(kind):
    refused, taken = mapped(envelope((kind, {"items": [7, POINT]}))).events

    assert refused.code == "invalid_event"
    assert taken.timestamp == 1_795_353_485_500
