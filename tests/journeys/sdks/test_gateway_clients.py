"""SDKs that chat, unmodified, with a gateway between them and their provider: what they see is what they know.

Each client's program goes through all of its steps once; the tests look at what it told.
"""

from __future__ import annotations

import json

import pytest

import sdks
from gateway_clients import CLIENTS
from server_process import until

SIMULATED = "Simulated answer from {}: "
ASKED = "call get_weather for Lee"
STATIC = "I cannot reach my language model right now. Please try again in a minute."

# Each client's own exception for a status; of those that have one for all, that one.
OPENAI = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    429: "RateLimitError",
    502: "InternalServerError",
    504: "InternalServerError",
}
LANGCHAIN = {
    400: "ModelInvalidRequestError",
    401: "ModelAuthenticationError",
    403: "ModelPermissionDeniedError",
    404: "ModelNotFoundError",
    429: "ModelRateLimitError",
    502: "ModelAPIError",
    504: "ModelAPIError",
}
PYDANTIC = {
    400: "ModelRequestRejectedError",
    401: "ModelAuthenticationError",
    403: "ModelAuthenticationError",
    404: "ModelNotFoundError",
    429: "ModelRateLimitError",
    502: "ModelServerError",
    504: "ModelServerError",
}
EXCEPTIONS = {
    "openai": OPENAI,
    "openai-node": OPENAI,
    "langchain": LANGCHAIN,
    "pydantic-ai": PYDANTIC,
    "ai-sdk": dict.fromkeys(OPENAI, "APICallError"),
    "ai-sdk-openai": dict.fromkeys(OPENAI, "APICallError"),
}
CALLS_MAX = 3  # of one request to one provider
TIMED_OUT = {"APITimeoutError", "APIConnectionTimeoutError", "ModelTimeoutError", "DOMException"}
CUT = {"APIError", "ModelServerError", "StreamProviderError"}
ERRORS = {
    "error_too_much": (400, "too_many_tokens"),
    "error_of_provider": (400, "invalid_value"),
    "error_key": (401, "unauthorized"),
    "error_scope": (403, "forbidden"),
    "error_model": (404, "model_not_found"),
    "error_limited": (429, "rate_limited"),
    "error_failing": (502, "all_providers_failed"),
    "error_streamed": (502, "all_providers_failed"),
    "error_slow": (504, "deadline_exceeded"),
}


@pytest.fixture(params=CLIENTS, scope="module")
def told(request, told_by):
    if reason := sdks.missing(CLIENTS[request.param]):
        pytest.skip(reason)
    return told_by(request.param)


def test_an_answer_is_the_providers_and_the_headers_say_whose(told):
    answer = told.value("whole")

    assert answer["text"].startswith(SIMULATED.format("good"))
    assert answer["finish"] == "stop"
    assert answer["tokens"] == [8, 24]
    assert answer.get("provider", "good") == "good"
    assert answer.get("attempts", "1") == "1"
    assert answer.get("request_id", "some")


def test_a_stream_has_the_same_text_finish_and_tokens(told):
    whole, streamed = told.value("whole"), told.value("streamed")

    assert streamed == {name: whole[name] for name in ("text", "finish", "tokens")}
    if told.has("streamed_without_usage"):
        assert told.value("streamed_without_usage") == {**streamed, "tokens": None}


@pytest.mark.parametrize("step", ["tools", "tools_streamed", "tools_of_claude", "tools_streamed_of_claude"])
def test_a_tool_is_called_and_its_result_is_answered(told, step):
    called = told.value(step)
    of_claude = step.endswith("claude")

    if told.client != "pydantic-ai":  # it calls the function and shows what came of it
        arguments = called["arguments"]
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        assert called["name"] == "get_weather"
        assert arguments == {"of": ASKED} if of_claude else set(arguments) == {"city", "unit"}
        assert called["finish"].replace("-", "_") == "tool_calls"
    assert called.get("called", 1) == 1
    assert called.get("deltas", True)
    if "then" in called:
        assert called["then"].startswith("echo of mild, light wind" if of_claude else SIMULATED.format("good"))


def test_an_answer_in_a_given_form_has_it(told):
    assert told.value("structured") == {"city": "simulated", "force": 1}
    if told.has("structured_streamed"):
        assert told.value("structured_streamed") == told.value("structured")


def test_a_provider_of_another_dialect_answers_in_this_one(told):
    expected = {"text": "echo of hello", "finish": "stop", "tokens": [36, 7]}

    assert told.value("of_claude") == expected
    assert told.value("streamed_of_claude") == expected


def test_embeddings_are_vectors(told):
    vectors = told.value("embeddings")
    vectors = [row["embedding"] for row in vectors["data"]] if isinstance(vectors, dict) else vectors

    assert [len(vector) for vector in vectors] == [64, 64]


@pytest.mark.parametrize("step", ERRORS)
def test_each_refusal_is_the_exception_that_the_sdk_has_for_it(told, step):
    error = told.error(step)
    status, code = ERRORS[step]

    assert EXCEPTIONS[told.client][status] in error["classes"]
    assert (error["status"], error["code"]) == (status, code)
    assert error["request_id"]
    assert "Simulated" not in error["message"]  # the provider's own words stay inside
    assert error["message"].endswith((".", "chat", "lw_…"))
    assert (error["param"] or "").endswith({"error_too_much": "tokens", "error_model": "model"}.get(step, ""))
    if step == "error_limited":
        assert 1 <= int(error["retry_after"]) <= 20


def test_who_waits_no_longer_is_told_by_its_sdk_and_the_provider_is_left_alone(told, gateways):
    assert TIMED_OUT.intersection(told.error("error_patience")["classes"])
    until(lambda: gateways.providers["silent"].open == 0, "nobody waits for the silent provider any more")


def test_a_stream_that_is_cut_is_an_error_never_an_end(told):
    error = told.error("cut")

    assert CUT.intersection(error["classes"])
    assert error["code"] == "stream_interrupted"
    assert error["message"] == "The answer was interrupted and is not complete. Please ask again."


def test_when_the_first_provider_is_broken_the_second_answers(told):
    answer = told.value("failover")

    assert answer["text"].startswith(SIMULATED.format("second"))
    assert answer.get("provider", "second") == "second"
    assert told.value("failover_streamed")["text"] == answer["text"]


def test_an_answer_that_stands_in_for_one_says_so(told):
    answer = told.value("degraded")

    assert answer["text"] == STATIC
    assert answer.get("header", "static") == "static"
    assert answer.get("note", {"degraded": "static"})["degraded"] == "static"
    assert told.value("degraded_streamed")["text"] == STATIC
    for note in told.value("degraded_streamed").get("notes", ()):
        assert (note["degraded"], note["provider"]) == ("static", "none")


def test_g8_who_leaves_a_stream_is_soon_missed(told):
    assert told.value("left") > 0
    assert told.left


def test_g20_the_repeats_of_an_sdk_do_not_multiply_those_of_the_gateway(told, gateways):
    counted = f"counted-{told.client}"
    requests, calls = gateways.failed(counted), gateways.providers[counted].calls

    assert told.error("repeats")["classes"]
    if told.client.startswith("ai-sdk"):  # it knows nothing of x-should-retry; the open circuit lets one probe through
        assert requests == 2
        assert calls <= CALLS_MAX + 1
    else:
        assert requests == 1
        assert calls <= CALLS_MAX
