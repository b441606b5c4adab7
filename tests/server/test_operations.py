"""How the parts are: everybody is told in fixed sentences, whoever signed in is told why."""

from __future__ import annotations

import asyncio
import json

import pytest

from leeward.server.counters import Counters
from leeward.server.http import Request
from leeward.server.operations import Operations, PartState, event_metrics, public, request_metrics, worst_state

CAUSE = "no answer from unix:/var/lib/leeward/store.sock"
PARTS = {
    "log": PartState("healthy", "", {"bytes": 5.0}),
    "store": PartState("degraded", "the store is not ready: events wait in the log", {"restarts": 2.0}, cause=CAUSE),
}


def operations_of(*, parts=dict, counters=None):
    counted = counters or Counters()
    return Operations(
        parts=parts,
        ready=lambda: True,
        collectors=(lambda: event_metrics(counted), lambda: request_metrics(counted)),
        provider=lambda name: PartState("healthy"),
    )


def asked(handler, parts):
    operations = operations_of(parts=lambda: parts)
    answer = asyncio.run(
        getattr(operations, handler)(Request({"method": "GET", "path": "/", "query_string": b""}, None, "1"))
    )
    return answer.status, answer.body.decode()


def test_a15_everybody_is_told_the_state_a_sentence_and_figures_and_no_cause():
    assert public(PARTS) == {
        "log": {"status": "healthy", "bytes": 5.0},
        "store": {
            "status": "degraded",
            "detail": "the store is not ready: events wait in the log",
            "restarts": 2.0,
        },
    }


def test_a15_a_sentence_that_is_not_one_of_the_fixed_ones_is_not_told():
    shown = public({"store": PartState("degraded", CAUSE)})  # type: ignore[arg-type]

    assert shown == {"store": {"status": "degraded", "detail": "see the server's log"}}


@pytest.mark.parametrize("handler", ["health", "metrics"])
def test_a15_no_place_of_this_machine_is_in_an_answer(handler):
    status, body = asked(handler, PARTS)

    assert status == 200
    assert "store" in body
    assert "/var/lib" not in body


def test_what_clients_lost_is_counted_by_reason_and_invented_reasons_become_one():
    counters = Counters()
    counters.count_client_lost({"spool_full": 2, "too_old": 1})
    counters.count_client_lost({"spool_full": 3})
    counters.client_fields_ignored = 4
    for number in range(100):
        counters.count_client_lost({f"invented_{number:03}": 10})
    operations = operations_of(counters=counters)

    lines = asyncio.run(operations.metrics(None)).body.decode().splitlines()

    lost = [line for line in lines if line.startswith("leeward_client_events_lost_total{")]
    assert 'leeward_client_events_lost_total{reason="spool_full"} 5.0' in lost
    assert 'leeward_client_events_lost_total{reason="other"} 700.0' in lost
    assert len(lost) == 33
    assert "leeward_client_fields_ignored_total 4.0" in lines


def test_health_is_that_of_the_worst_part_and_503_when_it_is_unhealthy():
    assert worst_state(PARTS) == "degraded"
    status, body = asked(
        "health", {**PARTS, "log": PartState("unhealthy", "the log cannot be written: new events get 503")}
    )

    assert (status, json.loads(body)["status"]) == (503, "unhealthy")
    assert json.loads(body)["parts"]["log"]["detail"] == "the log cannot be written: new events get 503"
