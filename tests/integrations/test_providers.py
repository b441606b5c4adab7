"""A provider call as telemetry: one span and metrics with OpenTelemetry's names, never a word of the talk."""

from __future__ import annotations

import asyncio
import json

import pytest

import recorder
from leeward.integrations.providers import provider_call
from leeward.sender.client import Client
from leeward.sender.context import CURRENT
from leeward.testing import capture_events
from leeward.wire import native, native_encode

LABELS = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "provider": "openai",
    "model": "gpt-4o-mini",
}


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def events(client):
    with capture_events(client) as events:
        yield events


def call(client, **keywords):
    return provider_call("openai", "gpt-4o-mini", client=client, **keywords)


def metrics(events):
    return {
        (event["event"], event["properties"].get("gen_ai.token.type")): event
        for event in events
        if event["kind"] == "metric"
    }


def test_a_call_is_a_span_with_usage_and_latency(client, events):
    with call(client, properties={"gen_ai.request.temperature": 0.2}) as running:
        running.usage(input_tokens=12)
        running.usage(output_tokens=30)
        running.usage(output_tokens=34)
        running.set("gen_ai.response.model", "gpt-4o-mini-2024")

    span = events[0]
    assert (span["event"], span["kind"], span["status"], span["error"]) == ("chat gpt-4o-mini", "span", "ok", None)
    assert span["properties"] == {
        **LABELS,
        "span.kind": "client",
        "latency_ms": span["duration_ms"],
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 34,
        "input_tokens": 12,
        "output_tokens": 34,
        "gen_ai.request.temperature": 0.2,
        "gen_ai.response.model": "gpt-4o-mini-2024",
    }


def test_duration_and_usage_are_metrics_by_provider_and_model(client, events):
    with call(client) as running:
        running.usage(input_tokens=12, output_tokens=34)

    found = metrics(events)
    duration = found["gen_ai.client.operation.duration", None]
    assert (duration["value"], duration["unit"]) == (events[0]["duration_ms"] / 1000, "s")
    assert duration["properties"] == LABELS
    for kind, count in (("input", 12), ("output", 34)):
        usage = found["gen_ai.client.token.usage", kind]
        assert (usage["value"], usage["unit"]) == (count, "{token}")
        assert usage["properties"] == {**LABELS, "gen_ai.token.type": kind}
    assert len(found) == 3
    assert {event["span_id"] for event in events} == {events[0]["span_id"]}


def test_an_exception_goes_on_and_is_told_with_type_category_and_provider(client, events):
    class RateLimitError(Exception):
        status_code = 429

    RateLimitError.__module__, RateLimitError.__qualname__ = "openai", "RateLimitError"
    error = RateLimitError("slow down")

    with pytest.raises(RateLimitError) as caught, call(client):
        raise error

    assert caught.value is error
    span, duration = events
    assert span["status"] == "error"
    assert span["error"]["type"] == span["properties"]["error.type"] == "openai.RateLimitError"
    assert (span["error"]["category"], span["error"]["provider"]) == ("provider", "openai")
    assert duration["properties"] == {**LABELS, "error.type": "openai.RateLimitError"}


@pytest.mark.parametrize(
    ("status", "category"), [(429, "provider"), (401, "authentication"), ("overloaded", "provider")]
)
def test_a_refusal_without_an_exception_is_an_error_by_its_status_or_word(client, events, status, category):
    with call(client) as running:
        running.failed(status)

    span, duration = events
    assert (span["status"], span["error"]["category"]) == ("error", category)
    assert span["error"]["type"] == duration["properties"]["error.type"] == str(status)
    assert span["properties"].get("http.response.status_code") == (status if status != "overloaded" else None)


def test_who_is_cancelled_is_no_error_of_the_provider(client, events):
    async def main():
        async with call(client):
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())

    assert (events[0]["status"], events[0]["properties"]["interrupted"]) == ("ok", True)
    assert "error.type" not in events[1]["properties"]


def test_a_stream_is_busy_from_its_first_token_to_its_end_and_the_first_token_is_timed(client, events):
    with call(client) as running:
        assert not client._busy
        running.first_token()
        running.first_token()
        assert len(client._busy) == 1

    assert not client._busy
    first = metrics(events)["gen_ai.client.operation.time_to_first_chunk", None]
    assert first["value"] == events[0]["properties"]["time_to_first_token_ms"] / 1000


def test_what_is_captured_within_belongs_to_the_call_and_the_call_to_what_surrounds_it(client, events):
    async def main():
        with client.span("answer") as outer:
            async with call(client):
                client.capture("within")
            assert CURRENT.get().span_id == outer.span_id
        return outer

    outer = asyncio.run(main())

    within, span = events[0], events[1]
    assert within["span_id"] == span["span_id"]
    assert (span["trace_id"], span["parent_span_id"]) == (outer.trace_id, outer.span_id)
    assert CURRENT.get().span_id == ""


@pytest.mark.parametrize("count", [-1, True, "12", 1.5, None])
def test_a_count_that_is_none_is_no_usage(client, events, count):
    with call(client) as running:
        running.usage(input_tokens=count)

    assert "input_tokens" not in events[0]["properties"]
    assert len(metrics(events)) == 1


def test_calls_outside_of_the_block_and_strange_arguments_raise_nothing(client, events):
    call(client).first_token()
    with provider_call(object(), None, operation=b"\xff", client=client, properties={1: object()}) as running:
        running.failed(object())
        running.set(7, object())

    assert events[0]["kind"] == "span"


def test_an_error_of_our_own_does_not_reach_the_call():
    class Broken(Client):
        def _samples(self, *_):
            raise RuntimeError

        def _described(self, error):
            raise RuntimeError

    client = Broken()
    with capture_events(client) as events:
        with pytest.raises(KeyError), call(client):
            raise KeyError
        assert client.stats().dropped == {"internal": 2}
        assert CURRENT.get().span_id == ""

    assert events == []


def test_a_client_that_is_off_costs_the_call_nothing():
    client = Client(recorder.KEY, "http://127.0.0.1:9", disabled=True)

    with call(client) as running:
        running.usage(input_tokens=1)
        running.first_token()

    assert client.stats().captured == 0


def test_sampling_keeps_or_leaves_a_call_as_a_whole():
    with recorder.Recorder() as server:
        client = Client(recorder.KEY, server.host, mode="memory", sample_rate=0.5)
        for _ in range(40):
            with call(client) as running:
                running.usage(input_tokens=1, output_tokens=1)
        client.shutdown()

        traces = {}
        for event in server.events.values():
            traces.setdefault(event["trace_id"], []).append(event["event_type"])
        assert 0 < len(traces) < 40
        assert {len(names) for names in traces.values()} == {4}


def test_the_server_finds_provider_model_tokens_and_latency_in_their_columns(client, events):
    with call(client) as running:
        running.usage(input_tokens=12, output_tokens=34)

    span = dict(events[0])
    fields = {key: span[key] for key in ("id", "level", "duration_ms", "status", "trace_id", "span_id")}
    _, encoded = native_encode.encode(
        span["kind"], span["event"], span["properties"], timestamp_ms=span["timestamp"], **fields
    )
    (native_event,) = native.decode_events(b"[" + encoded + b"]")
    assert json.loads(encoded)["event_type"] == "chat gpt-4o-mini"
    event = native.to_event(
        native_event,
        project=1,
        received_at=0,
        event_id=span["id"],
        data=bytes(native_event.data),
        attributes=b"",
        batch_id="",
    )

    assert (event.provider, event.model, event.input_tokens, event.output_tokens) == ("openai", "gpt-4o-mini", 12, 34)
    assert (event.duration_ms, event.status) == (span["duration_ms"], "ok")
