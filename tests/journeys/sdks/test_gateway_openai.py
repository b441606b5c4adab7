"""OpenAI's SDK for Python cannot tell a gateway from the provider behind it, except by the headers."""

from __future__ import annotations

import json

import pytest

from gateway_clients import Told, tell_at
from server_process import until

# All that the two may differ in: who was asked how often before, and when.
OWN = {"id": "the answer's", "created": 0}
ALIKE = [
    "json",
    "chunks",
    "chunks_with_usage",
    "several_answers",
    "tool_call",
    "tool_chunks",
    "tools",
    "tools_streamed",
    "awaited",
    "embeddings",
    "embeddings_as_floats",
]


@pytest.fixture(scope="module")
def told(told_by) -> Told:
    return told_by("openai")


@pytest.fixture(scope="module")
def direct(gateways) -> Told:
    return tell_at(gateways.providers["good"].base_url.removesuffix("/v1"))


def without_own(value):
    """An answer, or a list of chunks, without what is its own."""
    if isinstance(value, list):
        return [without_own(each) for each in value]
    if isinstance(value, dict):
        return {**value, **{name: fixed for name, fixed in OWN.items() if name in value}}
    return value


@pytest.mark.parametrize("step", ALIKE)
def test_the_same_program_gets_the_same_objects_from_the_provider_itself(told, direct, step):
    assert without_own(told.value(step)) == without_own(direct.value(step))


def test_chunks_of_one_stream_have_one_id(told):
    assert len({chunk["id"] for chunk in told.value("chunks")}) == 1
    assert not any(chunk["usage"] for chunk in told.value("chunks"))
    assert [bool(chunk["usage"]) for chunk in told.value("chunks_with_usage")][-2:] == [False, True]


def test_a_stream_has_the_headers_of_every_answer(told):
    content_type, provider, attempts, request_id = told.value("stream_headers")

    assert content_type.startswith("text/event-stream")
    assert (provider, attempts) == ("good", "1")
    assert request_id


def test_models_are_listed_and_found(told):
    models = told.value("models")

    assert models[:3] == ["chat", "claude", "failover"]
    assert told.value("model")["id"] == "chat"
    assert told.value("model")["owned_by"] == "leeward"
    error = told.error("no_model")
    assert "NotFoundError" in error["classes"]
    assert (error["status"], error["code"], error["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("step", "path"), [("error_elsewhere", "/v1/responses"), ("error_without_v1", "/chat/completions")]
)
def test_an_address_where_nothing_is_says_so_in_words_that_the_sdk_shows(told, step, path):
    error = told.error(step)

    assert "NotFoundError" in error["classes"]
    assert (error["status"], error["code"]) == (404, "not_found")
    assert error["message"].startswith(
        f"There is nothing at {path} here. An SDK of OpenAI is given an address that ends in"
    )


def test_however_a_stream_ends_in_its_middle_the_sdk_raises(told):
    cuts = told.value("cuts")

    assert set(cuts) == {"cut", "reset-mid", "error-mid", "stall"}
    for endings in cuts.values():
        assert len(endings) == 2  # of the client for threads, and of the one for tasks
        # An end that comes in one piece with what was before it: then nothing has been passed on.
        assert {"stream_interrupted", "all_providers_failed"}.issuperset(endings)
    assert set(cuts["cut"] + cuts["stall"]) == {"stream_interrupted"}


def test_an_error_within_a_stream_has_the_id_of_its_request(told):
    assert told.error("cut")["request_id"]


def test_the_full_server_has_the_same_doors_and_keeps_a_span_of_each_request_and_call(journey):
    key = journey.server.key("chat")
    told = tell_at(journey.host, key)
    hello = json.dumps({"model": "chat", "input": "the last one"}).encode()
    assert journey.server.ask("POST", "/v1/embeddings", hello, key=key).status == 200

    assert told.value("whole")["provider"] == "simulated"
    assert told.value("streamed")["text"] == told.value("whole")["text"]
    assert told.value("tools")["name"] == told.value("tools_streamed")["name"] == "get_weather"
    assert told.value("models") == ["chat"]
    assert told.error("error_key")["status"] == 401
    assert told.error("error_model")["code"] == "model_not_found"
    until(lambda: names(spans_of(journey)).count("gateway embeddings") == 3, "the last request's span is there")
    spans = spans_of(journey)
    assert {"gateway chat", "chat simulated", "embeddings simulated"} <= set(names(spans))
    assert told.value("whole")["request_id"] in {span["correlation_id"] for span in spans}


def spans_of(journey):
    return journey.server.query_all(f"start={journey.began_ms}&order=asc")


def names(events):
    return [event["event_type"] for event in events]
