"""Between the decoder and the door: bounds, secrets, category, size; and each change is told in the event."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, strategies as st

from leeward.model import Dropped, Event
from leeward.server.stages import bounded, settled

NOW = 1_795_322_741_463


def an_event(**fields) -> Event:
    return Event(
        **{"project": 1, "kind": "event", "id": "e1", "name": "n", "received_at": NOW, "timestamp": NOW, **fields}
    )


def passed(event, *, repaired=False, scrub=True) -> Event | Dropped:
    within = bounded(event, repaired=repaired)
    return within if isinstance(within, Dropped) else settled(*within, scrub=scrub)


def test_what_needs_no_change_comes_out_as_the_same_object():
    event = an_event(data='{"a":1}', attributes='{"resource":{"service.name":"chat"}}', distinct_id="u1")

    assert passed(event) is event


def test_i3_i5_each_payload_is_held_to_the_limits_and_what_was_cut_is_told():
    long = "x" * 70_000
    cut = passed(an_event(data=json.dumps({"a": long}), attributes=json.dumps({"b": long})))

    assert len(json.loads(cut.data)["a"]) <= 65_536
    told = json.loads(cut.attributes)
    assert len(told["b"]) <= 65_536
    assert told["leeward.changed"] == ["a string of 70000 bytes was cut to 65536"] * 2

    for field in ("data", "attributes", "error_rest"):
        deep = passed(an_event(**{field: '{"a":' * 70 + "1" + "}" * 70}))
        assert isinstance(deep, Dropped)
        assert deep.code == "too_deep"


@pytest.mark.parametrize("fields", [{"model": "gpt-4o"}, {"name": "$ai_generation"}])
def test_an_event_of_a_language_model_may_hold_long_texts(fields):
    prompt = "word " * 100_000

    kept = passed(an_event(data=json.dumps({"prompt": prompt}), **fields))

    assert json.loads(kept.data)["prompt"] == prompt
    assert isinstance(passed(an_event(data=json.dumps(["w" * 900_000] * 10), **fields)), Dropped)


def test_i5_an_event_beyond_a_mebibyte_is_refused_alone():
    many = json.dumps({f"k{number}": "x" * 60_000 for number in range(20)})

    refused = passed(an_event(data=many))

    assert isinstance(refused, Dropped)
    assert refused.code == "event_too_large"
    assert isinstance(passed(an_event(data=many, model="m")), Event)


def test_a12_secrets_go_wherever_they_stand_and_the_event_says_where():
    secret = "sk-proj-abcdefghijklmnop1234567890"
    found = passed(
        an_event(
            kind="exception",
            data=json.dumps({"user": {"password": "hunter22"}, "note": f"my key is {secret}"}),
            attributes=json.dumps({"resource": {"api_key": "0123456789"}}),
            error_rest=json.dumps({"headers": {"Authorization": "Bearer abcdefghij0123456789"}}),
            error_message=f"401 for {secret}",
            error_stack=f"call({secret!r})",
            distinct_id=secret,
        )
    )

    everything = msgspec.json.encode(found).decode()
    for planted in (secret, "hunter22", "0123456789"):
        assert planted not in everything
    told = json.loads(found.attributes)["leeward.removed"]
    assert {"data.user.password", "data.note", "attributes.resource.api_key", "error_message", "distinct_id"} <= set(
        told
    )


def test_whoever_switches_the_scrubber_off_gets_events_as_they_came():
    event = an_event(data='{"password":"hunter22"}')

    assert passed(event, scrub=False) is event


def test_i4_that_broken_text_was_replaced_is_told_of_the_event_that_had_it():
    assert "U+FFFD" in passed(an_event(data='{"a":"\ufffd"}'), repaired=True).attributes
    assert not passed(an_event(data='{"a":"b"}'), repaired=True).attributes
    assert not passed(an_event(data='{"a":"\ufffd"}'), repaired=False).attributes


def test_an_exception_gets_a_category_unless_its_sender_gave_one():
    def category(**fields):
        return passed(an_event(kind="exception", **fields)).error_category

    assert category(error_type="httpx.ConnectTimeout") == "network"
    assert category(error_type="httpx.ConnectTimeout", error_category="channel") == "channel"
    assert category(error_type="ValueError") == "other"
    assert not passed(an_event(error_type="httpx.ConnectTimeout")).error_category, "it is no exception"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=5))
def test_any_payload_comes_out_as_json_of_the_same_shape_or_is_refused_with_a_code(payload):
    done = passed(an_event(data=json.dumps(payload), attributes=json.dumps({"a": payload})))

    if isinstance(done, Dropped):
        assert done.code
    else:
        assert json.loads(done.data).keys() == payload.keys()
        json.loads(done.attributes)


@pytest.mark.parametrize(
    "column",
    [
        "name",
        "session_id",
        "trace_id",
        "service",
        "provider",
        "model",
        "unit",
        "status",
        "error_type",
        "error_fingerprint",
    ],
)
def test_a12_no_column_that_a_sender_fills_keeps_a_secret(column):
    secret = "postgres://user:hunter2secret@db/x"

    found = passed(an_event(kind="exception", **{column: secret}))

    assert "hunter2secret" not in msgspec.json.encode(found).decode()
    assert column in json.loads(found.attributes)["leeward.removed"]


def test_what_a_resource_hides_is_found_in_every_event_of_the_request_and_forgotten_with_it():
    from leeward.server.stages import _clean_attributes

    attributes = json.dumps({"resource": {"process.command_line": "run --token=abcdefghij1234567890"}})
    seen = {}

    first, second = (settled(an_event(id=name, attributes=attributes), [], seen=seen) for name in ("a", "b"))

    for event in (first, second):
        assert "abcdefghij1234567890" not in event.attributes
        assert json.loads(event.attributes)["leeward.removed"] == ["attributes.resource.process.command_line"]
    assert attributes not in _clean_attributes
