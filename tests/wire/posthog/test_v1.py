"""PostHog's newer protocol: what a request must be, and what each event is answered."""

from __future__ import annotations

import json

import msgspec
import pytest

from fuzz_targets_posthog import RECEIVED_AT, UUID, V1_EVENT
from leeward.errors import ProtocolError
from leeward.model import Dropped, Event
from leeward.wire.posthog.columns import Received
from leeward.wire.posthog.events import EVENTS_MAX
from leeward.wire.posthog.v1 import decode, results, to_events

OTHER = "22ed0000-6f4b-41f8-89c1-502e28b53433"
PLAIN = {"event": "a", "uuid": UUID, "distinct_id": "u1", "timestamp": "2026-11-22T04:45:41.463Z", "properties": {}}


def mapped(*events, sdk_info="posthog-python/7.91.1", sent_at=None, **fields):
    batch = decode(json.dumps({"batch": events, **fields}).encode())
    received = Received(1, RECEIVED_AT, b"phc_k", sent_at, batch.historical, zone_needed=True)
    return to_events(batch, received, sdk_info=sdk_info)


def taken(**fields):
    (event,) = mapped({**PLAIN, **fields})
    assert isinstance(event, Event), event
    return event


def dropped(**fields):
    (event,) = mapped({**PLAIN, **fields})
    assert isinstance(event, Dropped)
    return event.code


def refused(body):
    with pytest.raises(ProtocolError) as error:
        decode(body if isinstance(body, bytes) else json.dumps(body).encode())
    return error.value.code


def test_typed_fields_become_the_properties_that_they_were():
    (event,) = mapped(V1_EVENT)

    assert json.loads(event.data) == {
        "a": 1,
        "$lib": "posthog-python",
        "$lib_version": "7.91.1",
        "$session_id": "s",
        "$window_id": "w",
        "$process_person_profile": True,
        "$cookieless_mode": False,
        "$product_tour_id": "p",
    }
    assert (event.id, event.name, event.session_id) == (UUID, "a", "s")


@pytest.mark.parametrize("properties", [{}, None, {"$lib": "mine", "$session_id": "mine", "b": 1}])
def test_they_win_over_properties_of_the_same_name(properties):
    event = taken(properties=properties, session_id="s")

    wanted = {**(properties or {}), "$lib": "posthog-python", "$lib_version": "7.91.1", "$session_id": "s"}
    assert json.loads(event.data) == wanted
    assert event.data.count("$session_id") == 1


def test_blanks_around_properties_do_no_harm():
    batch = decode(json.dumps({"batch": [PLAIN]}).replace('"properties": {}', '"properties": {  \n }').encode())

    (event,) = to_events(batch, Received(1, RECEIVED_AT, b"k", zone_needed=True), sdk_info="x")

    assert json.loads(event.data) == {"$lib": "x"}


def test_an_sdk_that_does_not_say_its_name_adds_nothing():
    (event,) = mapped(PLAIN, sdk_info="")

    assert event.data == "{}"


@pytest.mark.parametrize(
    ("value", "stored"),
    [(True, True), ("true", True), ("1", True), (1, True), (False, False), ("0", False), ([1], None), (None, None)],
)
def test_an_option_may_be_spelled_in_many_ways(value, stored):
    data = json.loads(taken(options={"process_person_profile": value, "unknown": True}).data)

    assert data.get("$process_person_profile") is stored
    assert "unknown" not in data


@pytest.mark.parametrize("options", [{}, None])
def test_there_may_be_no_options(options):
    assert taken(options=options).name == "a"


def test_the_senders_clock_is_put_right_by_the_requests_time():
    late = {**PLAIN, "timestamp": "2026-11-22T03:45:31.463Z"}
    sent_at = RECEIVED_AT - 3_600_000

    (corrected,) = mapped(late, sent_at=sent_at)
    (as_it_is,) = mapped({**late, "options": {"disable_skew_correction": True}}, sent_at=sent_at)
    (old,) = mapped(late, sent_at=sent_at, historical_migration=True)

    assert corrected.timestamp == RECEIVED_AT - 10_000
    assert as_it_is.timestamp == old.timestamp == RECEIVED_AT - 3_610_000


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"event": ""}, "missing_event_name"),
        ({"distinct_id": ""}, "missing_distinct_id"),
        ({"event": "x" * 201}, "invalid_field"),
        ({"distinct_id": "x" * 201}, "invalid_field"),
        ({"timestamp": "2026-11-22T04:45:41"}, "invalid_timestamp"),
        ({"timestamp": "1795322741463"}, "invalid_timestamp"),
        ({"timestamp": ""}, "invalid_timestamp"),
        ({"properties": [1]}, "invalid_field"),
        ({"properties": "x"}, "invalid_field"),
    ],
)
def test_an_event_that_cannot_be_is_dropped_alone(fields, code):
    assert dropped(**fields) == code
    (_, fine) = mapped({**PLAIN, **fields}, {**PLAIN, "uuid": OTHER})
    assert isinstance(fine, Event)


@pytest.mark.parametrize("missing", ["event", "uuid", "distinct_id", "timestamp"])
def test_a_request_with_an_event_that_lacks_a_field_is_refused(missing):
    event = {name: value for name, value in PLAIN.items() if name != missing}

    assert refused({"batch": [event]}) == "invalid_event"
    assert refused({"batch": [{**PLAIN, missing: 5}]}) == "invalid_event"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"[]", "invalid_event"),
        (b"{}", "invalid_event"),
        (b'{"batch":null}', "invalid_event"),
        (b'{"batch":[]}', "empty_batch"),
        (b'{"batch":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}", "too_deep"),
        ({"batch": [{**PLAIN, "uuid": "x"}]}, "invalid_uuid"),
        ({"batch": [{**PLAIN, "uuid": ""}]}, "invalid_uuid"),
        ({"batch": [{**PLAIN, "uuid": "00000000-0000-0000-0000-000000000000"}]}, "invalid_uuid"),
        ({"batch": [PLAIN, {**PLAIN, "uuid": OTHER}, PLAIN]}, "duplicate_event_uuid"),
        ({"batch": [PLAIN, {**PLAIN, "uuid": UUID.upper()}]}, "duplicate_event_uuid"),
    ],
)
def test_i7_what_is_no_request_is_refused(body, code):
    assert refused(body) == code


def test_i7_events_are_counted_before_they_are_built():
    assert refused(b'{"batch":[' + b"{}," * EVENTS_MAX + b"{}]}") == "payload_too_large"
    assert refused(b'{"batch":[' + b"1," * EVENTS_MAX + b"1]}") == "invalid_event"


def test_few_events_with_many_objects_inside_are_not_too_many():
    assert taken(properties={"list": [{}] * EVENTS_MAX}).id == UUID


def test_nesting_that_only_the_mapping_meets_is_refused():
    depth = 40_000
    nested = b"[" * depth + b"]" * depth
    event = msgspec.json.decode(json.dumps({"batch": [PLAIN]}).encode())["batch"][0]
    batch = decode(json.dumps({"batch": [event]}).encode())
    batch.events[0].event = "$exception"
    batch.events[0].properties = msgspec.Raw(b'{"$exception_list":' + nested + b"}")

    with pytest.raises(ProtocolError, match="nested too deeply"):
        to_events(batch, Received(1, RECEIVED_AT, b"k", zone_needed=True), sdk_info="x")


def test_each_event_is_answered_by_its_uuid_as_it_was_sent():
    batch = decode(json.dumps({"batch": [{**PLAIN, "uuid": UUID.upper()}, {**PLAIN, "uuid": OTHER}]}).encode())

    answer, comes_again = results(batch.events, [(1, "invalid_timestamp", "no zone")])

    assert answer == {
        "results": {UUID.upper(): {"result": "ok"}, OTHER: {"result": "drop", "details": "invalid_timestamp"}}
    }
    assert not comes_again


@pytest.mark.parametrize(
    ("code", "result", "details", "again"),
    [
        ("unavailable", "retry", "not_persisted", True),
        ("shed", "retry", "shed", True),
        ("quota_exceeded", "drop", "billing_limit_exceeded", False),
        ("event_too_large", "drop", "event_too_large", False),
    ],
)
def test_only_what_may_succeed_later_is_asked_for_again(code, result, details, again):
    batch = decode(json.dumps({"batch": [PLAIN]}).encode())

    answer, comes_again = results(batch.events, [(0, code, "why")])

    assert answer == {"results": {UUID: {"result": result, "details": details}}}
    assert comes_again is again
