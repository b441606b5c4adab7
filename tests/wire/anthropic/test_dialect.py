"""The dialect against a provider that is as strict as the real one, over HTTP."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from anthropic_provider import SHORT, anthropic_provider
from anthropic_requests import HI, IMAGE, TOOL, call, chat
from leeward.wire.anthropic.dialect import ANTHROPIC

HEADERS = {"x-api-key": "sk-ant-1", "anthropic-version": "2023-06-01", "content-type": "application/json"}


@pytest.fixture(scope="module")
def base_url():
    with anthropic_provider() as (url, _):
        yield url


def ask(base_url, body, headers=HEADERS, method="POST", path=None):
    """One call: status and body."""
    url = urlsplit(base_url)
    connection = http.client.HTTPConnection(url.hostname, url.port)
    try:
        connection.request(method, url.path + (path or ANTHROPIC.path("chat")), body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def answered(base_url, request, model=SHORT):
    """The answer to a request, in the form of Chat Completions."""
    status, body = ask(base_url, ANTHROPIC.encode(request, model))
    assert status == 200, body
    return json.loads(ANTHROPIC.read_answer(body, "chat", request).body)["choices"][0]


def streamed(base_url, request, model=SHORT):
    """A reader that has read a stream to its end, and what it gave out."""
    status, body = ask(base_url, ANTHROPIC.encode(request, model))
    assert status == 200, body
    reader = ANTHROPIC.reader(request)
    return reader, reader.feed(body)


def test_a_request_with_everything_is_taken_and_answered(base_url):
    request = chat(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": IMAGE}]},
            {"role": "assistant", "tool_calls": [call("a.1")]},
            {"role": "tool", "tool_call_id": "a.1", "content": "sunny"},
        ],
        tools=[TOOL],
        temperature=0.2,
        stop=["END"],
        user="u-1",
        parallel_tool_calls=False,
        reasoning_effort="low",
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    )
    assert answered(base_url, request)["message"]["content"] == "echo of sunny"


def test_a_forced_call_of_a_tool_comes_back_as_one(base_url):
    choice = answered(base_url, chat(tools=[TOOL], tool_choice="required"))
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"of": "hi"}'}


def test_thinking_comes_back_beside_the_answer(base_url):
    assert answered(base_url, chat(), "thinks")["message"]["reasoning_content"] == "An echo it is."


def test_a_stream_brings_the_same_answer(base_url):
    reader, out = streamed(base_url, chat(stream=True, stream_usage=True))
    assert (reader.end(), reader.finish) == ("", "stop")
    assert out.count(b'"content":"') == 4  # the role's, and three pieces
    assert out.endswith(b"}}}\n\n")


@pytest.mark.parametrize(("model", "ends"), [("cut", "no_finish"), ("error-mid", "error"), ("refuses", "")])
def test_a_stream_that_fails_in_its_middle_is_told_from_one_that_does_not(base_url, model, ends):
    reader, _ = streamed(base_url, chat(stream=True), model)
    assert reader.end() == ends


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [("gone", 404, "model_not_found"), ("overloaded", 529, "overloaded"), ("limited", 429, "rate_limit_exceeded")],
)
def test_refusals_are_understood(base_url, model, status, code):
    told, body = ask(base_url, ANTHROPIC.encode(chat(), model))
    assert (told, ANTHROPIC.read_error(told, body).code) == (status, code)


def test_the_models_are_listed(base_url):
    status, body = ask(base_url, None, method="GET", path="/models?limit=1000")
    assert (status, ANTHROPIC.read_models(body)) == (200, [SHORT])


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({"model": SHORT, "max_tokens": 1, "messages": HI, "seed": 1}, HEADERS, 400),
        ({"model": SHORT, "messages": HI}, HEADERS, 400),
        ({"model": SHORT, "max_tokens": 1, "messages": HI, "temperature": 0.5}, HEADERS, 400),
        ({"model": SHORT, "max_tokens": 1, "messages": HI}, {"x-api-key": "k"}, 400),
        ({"model": SHORT, "max_tokens": 1, "messages": HI}, {"anthropic-version": "2023-06-01"}, 401),
    ],
)
def test_the_provider_of_these_tests_is_strict(base_url, body, headers, status):
    assert ask(base_url, json.dumps(body), headers)[0] == status
