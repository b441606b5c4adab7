"""A whole envelope: which item becomes what, how large it may be, what is counted and not kept; and the older address."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
import zlib

import pytest

from leeward.errors import ProtocolError
from leeward.model import Dropped, Event
from leeward.wire.sentry.items import EVENT_BYTES_MAX, map_store
from sentry_envelopes import EVENT_ID, RECEIVED_AT, RECORDED, as_bytes, envelope, mapped, only


def store(body: bytes):
    return map_store(body, project=7, received_at=RECEIVED_AT)


def padded(kind: str, size: int) -> bytes:
    """A payload of exactly so many bytes."""
    frame = {"event": b'{"message":"%b"}', "transaction": b'{"transaction":"%b"}'}[kind]
    return frame % (b"x" * (size - len(frame) + 2))


def test_events_keep_the_senders_order():
    body = envelope(
        ("log", {"items": [{"body": "a"}, {"body": "b"}]}),
        ("event", {"message": "c"}),
        ("trace_metric", {"name": "d", "value": 1}),
    )

    assert [event.kind for event in mapped(body).events] == ["log", "log", "exception", "metric"]


def test_i7_types_that_are_not_kept_are_counted_and_never_decoded():
    unused = [
        "session",
        "sessions",
        "attachment",
        "replay_event",
        "profile",
        "check_in",
        "user_report",
        "brand_new",
        "",
    ]
    body = envelope(*((kind, b"\x00 no JSON { \n") for kind in unused))

    found = mapped(body)

    assert found.events == []
    assert found.unused == {**dict.fromkeys(unused[:-2], 1), "unknown_item": 2}


def test_a_real_session_is_counted():
    assert mapped(RECORDED["a_session"]).unused == {"session": 1}


@pytest.mark.parametrize("kind", ["event", "transaction"])
def test_i5_an_item_over_its_limit_is_refused_by_itself(kind):
    body = envelope((kind, padded(kind, EVENT_BYTES_MAX + 1)), ("event", {"message": "small"}))

    refused, taken = mapped(body).events

    assert isinstance(refused, Dropped)
    assert (refused.code, str(EVENT_BYTES_MAX) in refused.error) == ("event_too_large", True)
    assert taken.error_message == "small"
    assert isinstance(only(kind, padded(kind, EVENT_BYTES_MAX)), Event)


@pytest.mark.parametrize(
    ("kind", "size"), [("log", EVENT_BYTES_MAX), ("span", EVENT_BYTES_MAX), ("trace_metric", 2048)]
)
def test_i5_a_record_over_its_limit_is_refused_by_itself(kind, size):
    large = {"name": "n", "value": 1, "body": "x" * size}
    small = {"name": "n", "value": 1}

    events = mapped(envelope((kind, {"items": [small, large, small]}))).events

    assert [isinstance(event, Dropped) for event in events] == [False, True, False]
    assert events[1].code == "event_too_large"


def test_a_list_may_be_larger_than_each_of_its_records():
    items = [{"body": "x" * 500_000, "timestamp": number} for number in range(5)]

    assert len(mapped(envelope(("log", {"items": items}))).events) == 5


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "invalid_json"),
        (b'{"items":[1', "invalid_json"),
        (b'{"items":{}}', "invalid_event"),
        (b"[]", "invalid_event"),
        (b'{"items":' + b"[" * 100_000, "too_deep"),
    ],
)
def test_i1_i3_a_list_that_is_none_is_one_refusal(payload, code):
    assert only("log", payload).code == code


@pytest.mark.parametrize("kind", ["log", "span", "trace_metric"])
def test_i5_more_than_ten_thousand_records_are_413_before_they_are_built(kind):
    full = {"items": [{}] * 6000}

    with pytest.raises(ProtocolError) as refused:
        mapped(envelope((kind, b'{"items":[' + b"{}," * 10_000 + b"{}]}")))
    assert (refused.value.status, refused.value.code) == (413, "payload_too_large")
    with pytest.raises(ProtocolError):
        mapped(envelope((kind, full), (kind, full)))


def test_i5_spans_of_all_transactions_count_together():
    transaction = {"spans": [{}] * 6000}

    with pytest.raises(ProtocolError):
        mapped(envelope(("transaction", transaction), ("transaction", transaction)))


def test_what_a_client_lost_is_counted_by_reason_and_category():
    report = {
        "timestamp": "2026-11-22T13:18:05Z",
        "discarded_events": [
            {"reason": "network_error", "category": "error", "quantity": 2},
            None,
            {"reason": "network_error", "category": "error", "quantity": 3},
            {"reason": "sample_rate", "category": "brand_new", "quantity": 1},
            {"reason": "made up by whoever may write", "category": "span", "quantity": 1},
            {"reason": "queue_overflow", "category": "error", "quantity": 0},
        ],
    }

    found = mapped(envelope(("client_report", report)))

    assert found.events == []
    assert found.lost == {("network_error", "error"): 5, ("sample_rate", "other"): 1, ("other", "span"): 1}


@pytest.mark.parametrize(
    "report",
    [b"{", b"[]", {}, {"discarded_events": None}, {"discarded_events": [7]}, {"discarded_events": [{"quantity": -1}]}],
)
def test_i1_a_report_that_cannot_be_read_says_nothing(report):
    found = mapped(envelope(("client_report", report)))

    assert (found.events, found.lost, found.unused) == ([], {}, {"client_report": 1})


def test_one_entry_of_a_report_that_cannot_be_read_costs_itself_alone():
    entries = [
        {"reason": "ratelimit_backoff", "category": "error", "quantity": 3},
        {"reason": "x"},
        7,
        {"quantity": "y"},
    ]

    found = mapped(envelope(("client_report", {"discarded_events": entries})))

    assert found.lost == {("ratelimit_backoff", "error"): 3}


def test_the_ids_of_a_span_have_one_spelling():
    span = {
        "trace_id": "A" * 32,
        "span_id": "B" * 16,
        "parent_span_id": "C" * 16,
        "start_timestamp": 1,
        "end_timestamp": 2,
    }

    [event] = mapped(envelope(("span", {"items": [span]}))).events

    assert (event.trace_id, event.span_id, event.parent_span_id) == ("a" * 32, "b" * 16, "c" * 16)


def test_i5_a_report_over_its_limit_is_refused():
    assert only("client_report", {"discarded_events": [], "x": "x" * 4096}).code == "event_too_large"


def test_types_that_the_caller_leaves_out_are_counted_and_never_decoded():
    found = mapped(
        envelope(("transaction", b"no JSON"), ("span", b"no JSON"), ("event", {"message": "m"})),
        shed={"transaction", "span"},
    )

    assert found.shed == {"transaction": 1, "span": 1}
    assert [event.kind for event in found.events] == ["exception"]


def test_i4_only_what_was_repaired_says_so():
    assert not mapped(envelope(("event", {"message": "é"}))).repaired
    assert mapped(envelope(("log", b'{"body":"\\udc00"}'))).repaired
    assert not mapped(envelope(("attachment", b"\xff"))).repaired


# -- the older address -----------------------------------------------------------------------------------------------

STORED = {"event_id": EVENT_ID, "message": "boom"}


@pytest.mark.parametrize(
    "pack",
    [
        bytes,
        lambda body: b"\n " + body + b"\n",
        lambda body: base64.b64encode(zlib.compress(body)),
        lambda body: base64.b64encode(gzip.compress(body)) + b"\n",
    ],
)
def test_a_store_body_is_json_or_base64_of_deflated_json(pack):
    found = store(pack(as_bytes(STORED)))

    assert found.event_id == EVENT_ID
    assert [(event.id, event.error_message) for event in found.events] == [(EVENT_ID, "boom")]


def test_a_store_body_may_be_a_transaction():
    [event] = store(as_bytes({"type": "transaction", "transaction": "t", "event_id": EVENT_ID})).events

    assert (event.kind, event.name) == ("span", "t")


def test_w9_a_store_event_without_an_id_is_known_by_its_bytes():
    [first], [second] = store(b'{"message":"a"}').events, store(b'{"message":"a"}').events

    assert first.id == second.id
    assert first.id != store(b'{"message":"b"}').events[0].id


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "deflated bytes are cut"),
        (b"not base64!", "base64"),
        (base64.b64encode(b"not deflated"), "base64"),
        (base64.b64encode(zlib.compress(as_bytes(STORED))[:-6]), "cut"),
        (base64.b64encode(zlib.compress(b"[]")), "must be a JSON object"),
        (b"{", "not valid JSON"),
        (b'{"a":' + b"[" * 100_000, "too deeply"),
        (b'{"a":1} {"b":2}', "not valid JSON"),
    ],
)
def test_i1_a_store_body_that_is_neither_is_400(body, cause):
    with pytest.raises(ProtocolError) as refused:
        store(body)

    assert refused.value.status == 400
    assert cause in refused.value.details[0]


@pytest.mark.parametrize(
    "body",
    [
        padded("event", EVENT_BYTES_MAX + 1),
        base64.b64encode(zlib.compress(padded("event", EVENT_BYTES_MAX + 1))),
        base64.b64encode(zlib.compress(b" " * (50 << 20))),
        b"A" * (2 << 20),
    ],
)
def test_i5_i6_a_store_body_over_the_limit_is_413_packed_or_not(body):
    with pytest.raises(ProtocolError) as refused:
        store(body)

    assert (refused.value.status, refused.value.code) == (413, "event_too_large")


def test_i6_a_store_bomb_costs_its_limit_and_not_its_size():
    bomb = base64.b64encode(zlib.compress(b" " * (50 << 20)))

    tracemalloc.start()
    with pytest.raises(ProtocolError):
        store(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4 * EVENT_BYTES_MAX


def test_a_store_event_comes_back_as_it_was_sent():
    raw = b'{"message":"m", "extra":{"n":1.10}}'

    assert store(raw).events[0].data == raw.decode()
    assert json.loads(store(raw).events[0].data)["extra"] == {"n": 1.1}
