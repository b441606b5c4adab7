"""What a request's JSON may look like, and which key it brings."""

from __future__ import annotations

import json

import msgspec
import pytest

from leeward.errors import ProtocolError
from leeward.wire.posthog.events import EVENTS_MAX, UnfoldedEvent, decode, items_of, text_of

KEY = "phc_abc"


def event(**fields):
    return {"event": "a", "distinct_id": "u1", "properties": {}, **fields}


def decoded(value, **options):
    return decode(value if isinstance(value, bytes) else json.dumps(value).encode(), **options)


def refused(value):
    with pytest.raises(ProtocolError) as error:
        decoded(value)
    return error.value


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param({"api_key": KEY, "batch": [event(), event()]}, id="batch"),
        pytest.param({"token": KEY, "batch": [event(), event()]}, id="batch with token"),
        pytest.param([event(token=KEY), event(token=KEY)], id="array"),
        pytest.param([event(api_key=KEY), event(**{"$token": KEY})], id="array, each in its own way"),
        pytest.param([event(properties={"token": KEY}), event()], id="array, in one event's properties"),
        pytest.param({"batch": [event(properties={"token": KEY}), event()]}, id="batch, in the properties"),
    ],
)
def test_a_key_is_found_wherever_a_sender_puts_it(shape):
    batch = decoded(shape)

    assert (batch.token, len(batch.events)) == (KEY, 2)


@pytest.mark.parametrize("one", [event(api_key=KEY), event(token=KEY), event(properties={"token": KEY})])
def test_a_single_event_is_a_batch_of_one(one):
    batch = decoded(one)

    assert (batch.token, [event.event for event in batch.events]) == (KEY, ["a"])


def test_the_batchs_own_key_wins():
    assert decoded({"api_key": KEY, "batch": [event(token="phc_other")]}).token == KEY
    assert decoded({"api_key": "", "token": KEY, "batch": [event()]}).token == KEY


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        pytest.param("phx_abc", "personal API key", id="personal"),
        pytest.param("x" * 65, "not valid", id="too long"),
        pytest.param("schlüssel", "not valid", id="not ASCII"),
        pytest.param("a\0b", "not valid", id="NUL"),
        pytest.param("", "no API key", id="empty"),
        pytest.param(None, "no API key", id="null"),
    ],
)
def test_what_cannot_be_a_key_is_refused(token, reason):
    for shape in ({"api_key": token, "batch": [event()]}, event(api_key=token), [event(token=token)]):
        error = refused(shape)
        assert (error.status, error.code) == (401, "unauthorized")
        assert reason in error.message


def test_a_key_of_64_characters_is_one():
    assert decoded(event(api_key="x" * 64)).token == "x" * 64


def test_a1_two_keys_in_one_request_are_refused():
    error = refused([event(token="phc_a"), event(token="phc_b")])

    assert (error.status, error.message) == (401, "The events of one request have different API keys")


def test_a_batch_says_when_it_was_sent_and_wins_over_the_query():
    sent = {"api_key": KEY, "batch": [event()], "sent_at": "2026-11-22T04:45:41.463Z", "historical_migration": True}

    batch = decoded(sent, sent_at=5)

    assert (batch.sent_at, batch.historical) == (1_795_322_741_463, True)


@pytest.mark.parametrize("sent_at", [None, "", "yesterday", [1]])
def test_a_time_of_sending_that_is_none_leaves_it_to_the_query(sent_at):
    batch = decoded({"api_key": KEY, "batch": [event()], "sent_at": sent_at, "historical_migration": "yes"}, sent_at=5)

    assert (batch.sent_at, batch.historical) == (5, False)
    assert decoded([event(token=KEY)], sent_at=5).sent_at == decoded(event(token=KEY), sent_at=5).sent_at == 5


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"", "invalid_json"),
        (b"1", "invalid_json"),
        (b'"text"', "invalid_json"),
        (b'{"api_key":"k","batch":[]} x', "invalid_json"),
        (b"[]", "empty_batch"),
        (b'{"api_key":"k","batch":[]}', "empty_batch"),
        (b'{"api_key":"k","batch":null}', "invalid_event"),
        (b'{"api_key":"k","batch":{"event":"a"}}', "invalid_event"),
        (b'{"api_key":"k","batch":[{"event":"a"},null]}', "invalid_event"),
        (b"[1]", "invalid_event"),
        (b'{"api_key":"k","batch":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
        (b'{"api_key":"k","batch":[{"event":"a"}', "invalid_json"),
    ],
)
def test_i7_what_is_no_request_is_refused(body, code):
    error = refused(body)

    assert (error.code, error.status) == (code, 400)


def test_i7_events_are_counted_before_they_are_built():
    most = b'{"api_key":"k","batch":[' + b"{}," * (EVENTS_MAX - 1) + b"{}]}"
    assert len(decoded(most).events) == EVENTS_MAX

    for item in (b"{}", b"1", b"[]", b'{"a":{}}'):
        error = refused(b'{"api_key":"k","batch":[' + (item + b",") * EVENTS_MAX + item + b"]}")
        assert (error.code, error.status) == ("payload_too_large", 413)


def test_few_events_with_many_objects_inside_are_not_too_many():
    one = {"api_key": KEY, "batch": [event(properties={"list": [{}] * EVENTS_MAX}), event()]}

    assert [event.event for event in decoded(one).events] == ["a", "a"]


def test_fields_that_are_not_known_are_kept():
    (known, odd) = decoded({"api_key": KEY, "batch": [event(), event(odd={"a": 1}, uuid="x")]}).events

    assert not isinstance(known, UnfoldedEvent) or not known.rest
    assert isinstance(odd, UnfoldedEvent)
    assert (odd.uuid, {name: bytes(raw) for name, raw in odd.rest.items()}) == ("x", {"odd": b'{"a": 1}'})


@pytest.mark.parametrize(
    ("spelled", "text"),
    [
        ("5", "5"),
        ("1.50", "1.50"),
        ("true", "true"),
        ('{"a": 1}', '{"a": 1}'),
        ("null", ""),
        ('"é\\n"', "é\n"),
        ('""', ""),
    ],
)
def test_a_value_of_any_type_has_a_text(spelled, text):
    assert text_of(msgspec.Raw(spelled.encode())) == text
    (one,) = decoded(b'{"api_key":"k","event":"a","distinct_id":%s}' % spelled.encode()).events
    assert (one.distinct_id or "") == text


def test_the_items_of_an_array_keep_their_bytes():
    assert items_of(b'[1, {"a": 1} ,null]') == [b"1", b'{"a": 1}', b"null"]
