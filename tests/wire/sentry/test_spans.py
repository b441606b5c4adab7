"""Transactions and spans of Sentry's SDKs, in both of their forms."""

from __future__ import annotations

import json

import pytest

from leeward.errors import ProtocolError
from leeward.model import Dropped
from sentry_envelopes import EVENT_ID, RECORDED, SPAN_ID, TRACE_ID, envelope, mapped, only

START = 1795353485.5
TRACE = {"trace_id": TRACE_ID, "span_id": SPAN_ID, "op": "http.server", "status": "ok"}
OLD = {
    "trace_id": TRACE_ID,
    "span_id": "aaaaaaaaaaaaaaaa",
    "parent_span_id": SPAN_ID,
    "op": "db",
    "description": "SELECT 1",
    "origin": "manual",
    "start_timestamp": START,
    "timestamp": START + 0.25,
    "data": {"db.system": "sqlite"},
}
NEW = {
    "trace_id": TRACE_ID,
    "span_id": "aaaaaaaaaaaaaaaa",
    "parent_span_id": SPAN_ID,
    "name": "SELECT 1",
    "status": "ok",
    "is_segment": False,
    "start_timestamp": START,
    "end_timestamp": START + 0.25,
    "attributes": {
        "db.system": {"type": "string", "value": "sqlite"},
        "sentry.op": {"type": "string", "value": "db"},
    },
}


def transaction(*, spans=(), **fields):
    payload = {
        "transaction": "GET /cart",
        "start_timestamp": START,
        "timestamp": START + 1,
        "contexts": {"trace": TRACE},
        "spans": list(spans),
        **fields,
    }
    return mapped(envelope(("transaction", payload), event_id=EVENT_ID)).events


def test_a_real_transaction_is_its_root_and_its_spans():
    root, query, call, chat = mapped(RECORDED["a_transaction"]).events

    assert [span.name for span in (root, query, call, chat)] == ["GET /cart", "SELECT 1", "GET /stock", "chat gpt-5"]
    assert {span.kind for span in (root, query, call, chat)} == {"span"}
    assert {span.trace_id for span in (root, query, call, chat)} == {root.trace_id}
    assert {span.parent_span_id for span in (query, call, chat)} == {root.span_id}
    assert [span.status for span in (root, query, call, chat)] == ["", "", "error", "ok"]
    assert [span.level for span in (root, query, call, chat)] == ["", "", "ERROR", ""]
    assert (chat.provider, chat.model, chat.input_tokens, chat.output_tokens) == ("openai", "gpt-5", 11, 7)
    assert 0 < query.duration_ms < root.duration_ms


def test_real_streamed_spans_are_spans():
    query, root = mapped(RECORDED["streamed_spans"]).events

    assert (root.name, query.name) == ("GET /cart", "SELECT 1")
    assert query.parent_span_id == root.span_id
    assert json.loads(root.data)["sentry.op"] == "http.server"
    assert json.loads(root.data)["sentry.release"] == "shop@1.2.3"


@pytest.mark.parametrize(("name", "order"), [("node_static_transaction", 1), ("node_stream_span", -1)])
def test_real_spans_of_node_are_spans_in_both_forms(name, order):
    root, query = mapped(RECORDED[name]).events[::order]

    assert (root.name, root.status, query.name, query.status) == ("GET /cart", "ok", "SELECT 1", "error")
    assert query.parent_span_id == root.span_id
    assert json.loads(query.data)["sentry.op"] == "db"


def test_the_root_keeps_the_payload_without_the_spans():
    [root, _] = transaction(
        spans=[OLD], measurements={"lcp": {"value": 1.10}}, tags={"service": "shop"}, user={"id": 7}
    )

    data = json.loads(root.data)
    assert data["measurements"] == {"lcp": {"value": 1.1}}
    assert "spans" not in data
    assert (root.service, root.distinct_id) == ("shop", "7")
    assert (root.timestamp, root.duration_ms, root.status) == (1_795_353_485_500, 1000.0, "ok")


def test_root_and_spans_name_the_transaction_that_they_came_in():
    assert [json.loads(event.attributes) for event in transaction(spans=[OLD])] == [{"sentry.event_id": EVENT_ID}] * 2


def test_the_spans_are_the_persons_and_the_services_of_their_root():
    _, span = transaction(spans=[OLD], tags={"service": "shop", "correlation_id": "c"}, user={"id": "u"})

    assert (span.service, span.distinct_id, span.correlation_id) == ("shop", "u", "")


def test_a_spans_own_attributes_win_over_its_roots():
    _, span = transaction(spans=[{**OLD, "data": {"user.id": "own"}}], tags={"service": "shop"}, user={"id": "u"})

    assert (span.distinct_id, span.service) == ("own", "shop")


def test_both_forms_of_a_span_are_one_span():
    """An SDK that sends some spans inside the transaction and some beside it must not have them twice."""
    _, old = transaction(spans=[OLD])
    new = only("span", {"items": [NEW]})

    assert (old.id, old.name, old.duration_ms, old.timestamp) == (new.id, new.name, new.duration_ms, new.timestamp)
    assert old.id == f"{TRACE_ID}:aaaaaaaaaaaaaaaa:1795353485500000000"
    assert json.loads(old.data) == {"db.system": "sqlite", "sentry.op": "db", "sentry.origin": "manual"}
    assert json.loads(new.data) == {"db.system": "sqlite", "sentry.op": "db", "is_segment": False}


def test_a_span_may_be_an_item_of_its_own():
    assert only("span", OLD).id == only("span", {"items": [OLD]}).id


def test_what_a_span_has_beside_its_attributes_is_kept_and_does_not_hide_them():
    span = only("span", {**OLD, "status": "not_found", "tags": {"a": "b"}, "data": {"op": 1, "sentry.op": "mine"}})

    data = json.loads(span.data)
    assert data == {
        "op": 1,
        "sentry.op": "mine",
        "sentry.origin": "manual",
        "sentry.status": "not_found",
        "tags": {"a": "b"},
    }


@pytest.mark.parametrize(
    ("status", "column", "level"),
    [
        ("ok", "ok", ""),
        ("error", "error", "ERROR"),
        ("internal_error", "error", "ERROR"),
        ("cancelled", "error", "ERROR"),
        ("unknown", "", ""),
        ("", "", ""),
        (None, "", ""),
        (500, "", ""),
    ],
)
def test_a_span_went_well_or_not(status, column, level):
    span = only("span", {**OLD, "status": status})

    assert (span.status, span.level) == (column, level)


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ({"description": "d", "op": "o"}, "d"),
        ({"name": "n", "description": "d"}, "n"),
        ({"description": None, "op": "o"}, "o"),
        ({"description": ["odd"]}, "<unnamed>"),
        ({"description": "x" * 300}, "x" * 200),
    ],
)
def test_a_span_has_a_name_whatever_it_says(names, name):
    assert only("span", {"trace_id": TRACE_ID, "span_id": SPAN_ID, **names}).name == name


def test_a_transaction_without_a_name_has_that_of_its_operation():
    assert transaction(transaction=None)[0].name == "http.server"
    assert transaction(transaction=None, contexts=None)[0].name == "<unnamed>"


def test_w9_a_transaction_without_a_trace_is_known_by_its_own_id():
    [root] = transaction(contexts=None)
    assert root.id == EVENT_ID

    body = envelope(("transaction", {"transaction": "t"}))
    [first], [second] = mapped(body).events, mapped(body).events
    assert first.id == second.id
    assert first.id.startswith("h:")
    assert first.attributes == ""


def test_w9_a_span_without_ids_is_known_by_all_that_it_says():
    span = {"name": "s", "start_timestamp": START}
    body = envelope(("span", {"items": [span, span, {**span, "name": "t"}]}))

    ids = [event.id for event in mapped(body).events]

    assert len(set(ids)) == 3
    assert [event.id for event in mapped(body + b"\n").events] == ids, "whatever else the request holds"


def test_w11_a_span_without_a_time_is_known_by_its_place_in_the_request():
    body = envelope(("span", {"items": [{"name": "s"}, {"name": "s"}]}))

    ids = [event.id for event in mapped(body).events]

    assert len(set(ids)) == 2
    assert not set(ids) & {event.id for event in mapped(body + b"\n").events}


def test_the_models_columns_come_from_the_roots_own_attributes_too():
    trace = {
        **TRACE,
        "data": {"gen_ai.request.model": "asked", "gen_ai.response.model": "answered", "gen_ai.system": "p"},
    }

    [root] = transaction(contexts={"trace": trace}, user={"id": "u"})

    assert (root.provider, root.model, root.distinct_id) == ("p", "answered", "u")


@pytest.mark.parametrize("end", [START - 1, None, "odd", float("1e300")])
def test_a_duration_that_cannot_be_is_none(end):
    assert only("span", {**OLD, "timestamp": end}).duration_ms is None


def test_a_span_without_a_start_happened_at_its_end():
    assert only("span", {"span_id": SPAN_ID, "timestamp": START}).timestamp == 1_795_353_485_500


def test_attributes_of_another_form_stay_as_they_are():
    span = only("span", {**NEW, "attributes": {"plain": 1, "none": None, "typed": {"value": 1.10, "type": "double"}}})

    assert json.loads(span.data) == {"plain": 1, "none": None, "typed": 1.1, "is_segment": False}
    assert '"typed":1.1' in span.data
    assert json.loads(only("span", {**NEW, "attributes": [1]}).data) == {"is_segment": False}


def test_i2_numbers_of_attributes_keep_their_spelling():
    raw = b'{"attributes":{"a":{"value":1.10},"b":{"value":9007199254740993},"c":{"value":1e999}}}'

    assert only("span", raw).data == '{"a":1.10,"b":9007199254740993,"c":1e999}'


def test_spans_that_are_null_are_none_and_others_are_refused_by_themselves():
    root, refused, span = transaction(spans=[None, 7, OLD])

    assert isinstance(refused, Dropped)
    assert (root.name, span.name) == ("GET /cart", "SELECT 1")


def test_spans_of_another_type_cost_only_themselves():
    root, refused = mapped(envelope(("transaction", {"transaction": "GET /cart", "spans": {"odd": 1}}))).events

    assert root.name == "GET /cart"
    assert refused.error == "spans: it must be a JSON array"


def test_i1_a_transaction_that_is_no_object_is_refused():
    assert only("transaction", b"[]").code == "invalid_event"


def test_i5_a_transaction_of_too_many_spans_is_413():
    with pytest.raises(ProtocolError) as refused:
        only("transaction", b'{"spans":[' + b"{}," * 10_000 + b"{}]}")

    assert refused.value.status == 413
