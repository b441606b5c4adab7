"""Requests as spans: one for each and one below it for each call; by any wire of the client, and never the prompt."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

import otlp_recorder
import posthog_recorder
import recorder
from gateways import rig, settled
from http_recorder import KEY
from leeward.gateway import telemetry
from leeward.gateway.records import AttemptRecord, Caller, RequestRecord
from leeward.gateway.telemetry import BATCH_COUNT, Telemetry, spans_of, to_client
from leeward.sender.client import Client
from leeward.sender.context import update
from leeward.wire.chat import Usage

PROMPT = "my patient Zebraquokka"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def call(outcome="ok", **fields):
    return AttemptRecord("a", "a-large", 1_000, 0.25, outcome, **fields)


def record(*attempts, outcome="ok", trace_id="", parent_span_id="", number=7, **fields):
    caller = Caller(f"req_{number}", project=3, key_id="k_1", trace_id=trace_id, parent_span_id=parent_span_id)
    return RequestRecord(
        caller, "chat", "chat", True, 900, 0.5, outcome, attempts=list(attempts), provider="a", **fields
    )


def told(span):
    """A span as it leaves: without what is absent."""
    return json.loads(msgspec.json.encode(span))


def test_a_request_is_a_span_and_each_call_one_below_it_in_one_trace():
    bad = call("server_error", status=503, detail="status_503")
    good = call(usage=Usage(10, 20), finish="stop", first_token_s=0.1, status=200, cost=0.25)
    parent, first, second = (told(span) for span in spans_of(record(bad, good, first_token_s=0.35)))

    assert {span["trace_id"] for span in (parent, first, second)} == {parent["trace_id"]}
    assert first["parent_span_id"] == second["parent_span_id"] == parent["span_id"]
    assert "parent_span_id" not in parent
    assert len({span["id"] for span in (parent, first, second)}) == 3
    assert (parent["event_type"], parent["timestamp"], parent["duration_ms"]) == ("gateway chat", 900, 500.0)
    assert parent["data"] == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "chat",
        "leeward.outcome": "ok",
        "leeward.attempts": 2,
        "leeward.stream": True,
        "gen_ai.client.operation.time_to_first_chunk": 0.35,
        "leeward.cost_usd": 0.25,
        "leeward.key_id": "k_1",
    }
    assert first["status"] == "error"
    assert first["data"] == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "a-large",
        "gen_ai.provider.name": "a",
        "leeward.outcome": "server_error",
        "leeward.attempt": 1,
        "error.type": "status_503",
        "http.response.status_code": 503,
    }
    assert (second["input_tokens"], second["output_tokens"], second["status"]) == (10, 20, "ok")
    assert second["data"]["gen_ai.response.finish_reasons"] == ["stop"]
    assert second["data"]["gen_ai.usage.output_tokens"] == 20
    assert second["timestamp"] == 1_000


def test_the_callers_trace_goes_on():
    parent, child = spans_of(record(call(), trace_id=TRACE, parent_span_id=SPAN))

    assert (parent.trace_id, parent.parent_span_id) == (TRACE, SPAN)
    assert (child.trace_id, child.parent_span_id) == (TRACE, parent.span_id)


def test_a_degraded_answer_says_so_and_a_failure_has_its_code():
    [degraded] = spans_of(record(outcome="degraded", degraded="static"))
    [failed] = spans_of(record(outcome="failed", code="all_providers_failed"))

    assert (degraded.status, degraded.data.degraded) == ("ok", "static")
    assert (failed.status, failed.data.error) == ("error", "all_providers_failed")


@pytest.mark.parametrize(("finish", "shown"), [("stop", ("stop",)), (PROMPT, ("other",)), ("", ())])
def test_g14_a_reason_to_finish_is_one_of_a_few_whatever_a_provider_says(finish, shown):
    assert spans_of(record(call(finish=finish)))[1].data.finish == shown


def test_a_name_that_is_too_long_is_cut():
    attempt = call()
    attempt.model = "m" * 200
    assert len(spans_of(record(attempt))[1].event_type) == 200


def given():
    batches = []
    return batches, batches.append


def test_a_server_gathers_for_a_while_and_a_full_batch_goes_at_once():
    batches, give = given()

    async def main():
        spans = Telemetry(give)
        for number in range(BATCH_COUNT - 1):
            spans.ended(record(number=number))
        assert batches == []
        spans.ended(record(number=BATCH_COUNT))
        assert [len(batch) for batch in batches] == [BATCH_COUNT]
        spans.ended(record())
        spans.flush()
        assert [len(batch) for batch in batches] == [BATCH_COUNT, 1]
        assert batches[1][0][0] == 3  # the project
        spans.flush()
        assert len(batches) == 2

    asyncio.run(main())


def test_a_batch_that_does_not_fill_goes_when_it_is_old():
    batches, give = given()

    async def main():
        spans = Telemetry(give, age_s=0.001)
        spans.ended(record())
        await settled(lambda: batches)

    asyncio.run(main())


def test_in_a_program_they_go_at_the_end_of_the_same_turn_of_the_loop():
    batches, give = given()

    async def main():
        spans = Telemetry(give, age_s=0.0)
        spans.ended(record(number=1))
        spans.ended(record(number=2))
        assert batches == []

    asyncio.run(main())  # nobody waited for anything
    assert [len(batch) for batch in batches] == [2]


def test_what_finds_no_place_is_counted(monkeypatch):
    monkeypatch.setattr(telemetry, "WAITING_MAX", 0)
    spans = Telemetry(lambda batch: None)
    spans.ended(record(call(), call()))

    assert spans.lost == 3


# Through the client of a program


async def chatted(client, *, faults=(), trace=True):
    async with rig("a", "b") as gateway:
        spans = Telemetry(to_client(client), age_s=0.0)
        gateway.core.observer = spans
        for name, fault in dict(faults).items():
            gateway[name].fault = fault
        if trace:
            update({"distinct_id": "person-1", "session_id": "s-1"})
            with client.span("my request"):
                await gateway.ask(text=PROMPT)
        else:
            await gateway.ask(text=PROMPT)
        await asyncio.sleep(0)


def stored(server):
    assert server.broken == []
    return list(server.events.values())


def client_of(server, tmp_path, **options):
    return Client(KEY, server.host, spool_dir=str(tmp_path), **options)


def test_on_our_own_wire_spans_carry_provider_model_tokens_and_the_programs_own_trace(tmp_path):
    with recorder.Recorder() as server:
        client = client_of(server, tmp_path)
        asyncio.run(chatted(client, faults={"a": "500"}))
        client.shutdown(10)
        events = {event["event_type"]: event for event in stored(server)}

    own, parent = events["my request"], events["gateway chat"]
    first, second = events["chat a-large"], events["chat b-large"]
    assert parent["trace_id"] == own["trace_id"]
    assert parent["parent_span_id"] == own["span_id"]
    assert {first["parent_span_id"], second["parent_span_id"]} == {parent["span_id"]}
    assert (parent["distinct_id"], parent["session_id"], second["distinct_id"]) == ("person-1", "s-1", "person-1")
    assert parent["device_id"] == own["device_id"]
    assert (first["status"], first["data"]["error.type"]) == ("error", "status_500")
    assert (second["provider"], second["model"], second["status"]) == ("b", "b-large", "ok")
    assert second["output_tokens"] > 0
    assert second["duration_ms"] > 0
    assert "ebraquokka" not in json.dumps(list(events.values()))


def test_two_people_in_one_turn_of_the_loop_keep_their_own_spans(tmp_path):
    async def main(client):
        spans = Telemetry(to_client(client), age_s=0.0)

        async def one(person):
            if person:
                update({"distinct_id": person})
            spans.ended(record(call()))

        await asyncio.gather(one("anna"), one("ben"), one(""))
        await asyncio.sleep(0)

    for wire in ({}, {"before_send": lambda event: event}):
        with recorder.Recorder() as server:
            client = client_of(server, tmp_path / str(len(wire)), **wire)
            asyncio.run(main(client))
            client.shutdown(10)
            people = sorted(event.get("distinct_id", "") for event in stored(server))
            assert people == ["", "", "anna", "anna", "ben", "ben"]


def test_on_posthogs_wire_they_are_spans_of_its_kind(tmp_path):
    with posthog_recorder.Recorder() as server:
        client = client_of(server, tmp_path, wire="posthog")
        asyncio.run(chatted(client))
        client.shutdown(10)
        found = {event["properties"]["$span_name"]: event["properties"] for event in stored(server)}

    own, parent, child = found["my request"], found["gateway chat"], found["chat a-large"]
    assert parent["$trace_id"] == own["$trace_id"]
    assert child["$parent_span_id"] == parent["$span_id"]
    assert (child["provider"], child["model"], child["gen_ai.provider.name"]) == ("a", "a-large", "a")
    assert child["output_tokens"] > 0
    assert "ebraquokka" not in json.dumps(list(found.values()))


def test_on_opentelemetrys_wire_they_are_spans_with_the_names_of_its_conventions(tmp_path):
    with otlp_recorder.Recorder() as server:
        client = client_of(server, tmp_path, wire="otlp")
        asyncio.run(chatted(client))
        client.shutdown(10)
        found = {span.name: span for span in stored(server)}

    own, parent, child = found["my request"], found["gateway chat"], found["chat a-large"]
    attributes = otlp_recorder.attributes(child.attributes)
    assert parent.trace_id == own.trace_id
    assert parent.parent_span_id == own.span_id
    assert child.parent_span_id == parent.span_id
    assert attributes["gen_ai.provider.name"] == "a"
    assert attributes["gen_ai.usage.output_tokens"] > 0
    assert child.end_time_unix_nano > child.start_time_unix_nano
    assert "ebraquokka" not in str(list(found.values()))


def test_a_client_that_is_off_takes_nothing_and_makes_no_file(tmp_path):
    with recorder.Recorder() as server:
        client = client_of(server, tmp_path / "spool", disabled=True)
        asyncio.run(chatted(client, trace=False))
        client.shutdown(1)
        assert server.requests == []
    assert not (tmp_path / "spool").exists()


def test_a_person_who_opts_out_later_is_heard(tmp_path):
    with recorder.Recorder() as server:
        client = client_of(server, tmp_path)
        client.disabled = True
        asyncio.run(chatted(client, trace=False))
        client.disabled = False
        client.shutdown(10)
        assert stored(server) == []


def test_the_clients_own_rules_hold_its_hook_sees_each_span_and_sampling_keeps_requests_whole(tmp_path):
    seen = []

    def hook(event):
        seen.append(event["event"] if "event" in event else event["name"])
        return None if "a-large" in str(event) else event

    with recorder.Recorder() as server:
        client = client_of(server, tmp_path / "1", before_send=hook)
        asyncio.run(chatted(client, trace=False))
        client.shutdown(10)
        assert [event["event_type"] for event in stored(server)] == ["gateway chat"]
    assert sorted(seen) == ["chat a-large", "gateway chat"]

    with recorder.Recorder() as server:
        client = client_of(server, tmp_path / "2", sample_rules={"gateway": 0.5})
        give = to_client(client)
        for number in range(40):
            give([(1, span) for span in spans_of(record(call(), number=number))])
        client.shutdown(10)
        spans = stored(server)
    by_trace = [sum(span["trace_id"] == trace for span in spans) for trace in {span["trace_id"] for span in spans}]
    assert 0 < len(by_trace) < 40
    assert set(by_trace) == {2}


def test_a_client_that_fails_hinders_nobody(tmp_path):
    class Failing(Client):
        def _begin(self):
            raise ZeroDivisionError

    client = Failing(KEY, "http://127.0.0.1:9", spool_dir=str(tmp_path))
    to_client(client)([])

    assert client._counts.last_error == "internal: ZeroDivisionError"
