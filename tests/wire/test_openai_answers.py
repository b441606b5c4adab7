"""Whole answers of all providers that speak as OpenAI does: which are one, and what is learnt from them."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings, strategies as st

import json_strategies
from chat_streams import USAGE, completion
from leeward.wire.chat import Answer, BadAnswer, ChatRequest, Needs, Usage
from leeward.wire.openai import OPENAI, model_object, models_list, read_models
from leeward.wire.openai_answers import read_answer, usage_of

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
REQUEST = ChatRequest("m", {}, Needs())

ANSWERS = {
    "openai": completion({"content": "Good mörning", "refusal": None, "annotations": []}),
    "a refusal": completion({"content": None, "refusal": "I cannot."}),
    "calls": completion({"content": None, "tool_calls": [CALL]}, "tool_calls"),
    "a call as it was once": completion({"content": None, "function_call": CALL["function"]}, "function_call"),
    "audio": completion({"content": None, "audio": {"id": "a", "data": "AAAA", "transcript": "Good"}}),
    "images": completion({"content": "", "images": [{"type": "image_url", "image_url": {"url": "data:"}}]}),
    "mistral's parts": completion({"content": [{"type": "text", "text": "Good"}]}),
    "deepseek": completion({"content": "Good", "reasoning_content": "Hm."}),
    "groq": completion({"content": "Good"}, x_groq={"id": "r"}),
    "too long": completion({"content": ""}, "length"),
    "filtered": completion({"content": None}, "content_filter"),
    "azure, filtered without a message": json.dumps(
        {"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "finish_reason": "content_filter"}], "usage": USAGE}
    ).encode(),
    "two choices, one of them empty": completion(
        {},
        choices=[
            {"index": 0, "message": {"content": ""}, "finish_reason": "stop"},
            {"index": 1, "message": {"content": "Good"}, "finish_reason": "stop"},
        ],
    ),
    "an error that is null": completion({"content": "Good"}, error=None),
}
NO_ANSWERS = {
    "nothing": b"",
    "a page": b"<html>502</html>",
    "cut": completion({"content": "Good"})[:-20],
    "two in one": completion({"content": "Good"}) * 2,
    "no object": b'["Good"]',
    "null": b"null",
    "no choices": b'{"id":"x","object":"chat.completion"}',
    "empty choices": completion({}, choices=[]),
    "null choices": completion({}, choices=None),
    "no content": completion({"content": ""}),
    "no message": completion({}, choices=[{"index": 0, "finish_reason": "stop"}]),
    "thoughts alone": completion({"content": None, "reasoning_content": "Hm."}),
    "no finish": completion({"content": "Good"}, None),
    "an empty finish": completion({"content": "Good"}, ""),
    "one finish of two": completion(
        {}, choices=[{"message": {"content": "a"}, "finish_reason": "stop"}, {"message": {"content": "b"}}]
    ),
    "failed": completion({"content": "Good"}, "error"),
    "out of resources": completion({"content": "Good"}, "insufficient_system_resource"),
    "an error": b'{"error":{"message":"secret of the provider","type":"server_error","code":500}}',
    "an error beside choices": completion({"content": "Good"}, error={"message": "secret of the provider"}),
    "wrong types": completion({"content": 7}),
    "no UTF-8": completion({"content": "Good"}).replace(b"Good", b"G\xff"),
    "depth": b'{"x":' + b"[" * 1_000_000,
    "broken text and depth": b'{"id":"\\ud800","x":' + b"[" * 1_000_000,
    "broken text and no answer": b'{"id":"\\ud800","choices":7}',
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_provider_s_answer_is_one_and_stays_as_it_is(kind):
    answer = read_answer(ANSWERS[kind], "chat")

    finish = {"calls": "tool_calls", "a call as it was once": "function_call", "too long": "length"}.get(kind, "stop")
    finish = "content_filter" if "filtered" in kind else finish
    assert answer == Answer(ANSWERS[kind], finish, Usage(12, 5, 8, 2), "m", "chatcmpl-1")


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_g2_g10_what_is_no_answer_is_a_failure_though_its_status_is_200(kind):
    with pytest.raises(BadAnswer) as caught:
        OPENAI.read_answer(NO_ANSWERS[kind], "chat", REQUEST)

    assert str(caught.value)
    assert "secret" not in str(caught.value)


def test_half_a_surrogate_pair_is_replaced_so_that_everybody_can_read_the_answer():
    answer = read_answer(completion({"content": "Good @"}).replace(b"@", b"\\ud83c"), "chat")

    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "Good \ufffd"


@pytest.mark.parametrize("embedding", [[0.1, -2.0], "AACAPw=="])
def test_embeddings_are_numbers_or_base64(embedding):
    body = json.dumps(
        {"data": [{"index": 0, "embedding": embedding}], "model": "m", "usage": {"prompt_tokens": 3}}
    ).encode()

    assert read_answer(body, "embeddings") == Answer(body, usage=Usage(3), model="m")


@pytest.mark.parametrize(
    "data", [None, [], [{}], [{"embedding": None}], [{"embedding": []}], [{"embedding": ""}], [{"embedding": 12345}]]
)
def test_embeddings_without_one_are_no_answer(data):
    with pytest.raises(BadAnswer):
        read_answer(json.dumps({"data": data}).encode(), "embeddings")


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (USAGE, Usage(12, 5, 8, 2)),
        ({"prompt_tokens": 12, "completion_tokens": 5, "prompt_cache_hit_tokens": 4}, Usage(12, 5, 4)),
        ({"prompt_tokens": 12, "completion_tokens": None, "prompt_tokens_details": None}, Usage(12)),
        ({}, Usage()),
        (None, None),
        ("many", None),
        ({"prompt_tokens": "12"}, None),
    ],
)
def test_tokens_are_counted_as_the_provider_did(told, usage):
    assert usage_of(told) == usage


@settings(deadline=None)
@given(json_strategies.values(), st.sampled_from(["chat", "embeddings"]))
def test_whatever_a_provider_sends_is_an_answer_or_none(text, operation):
    for body in (text.encode(), b'{"choices":' + text.encode() + b"}", b'{"data":' + text.encode() + b"}"):
        with contextlib.suppress(BadAnswer):
            assert read_answer(body, operation).body


# --- lists of models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"object":"list","data":[{"id":"a","object":"model","owned_by":"x"},{"id":"b"}]}',
        b'[{"id":"a","type":"chat","context_length":7},{"id":"b"}]',
    ],
)
def test_a_provider_s_models_are_read_with_or_without_the_object_around_them(body):
    assert OPENAI.read_models(body) == ["a", "b"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data":[{}]}', b'[{"id":"\xff"}]', b"[" * 100_000, b"<html>"])
def test_what_is_no_list_of_models_is_none(body):
    with pytest.raises(BadAnswer, match="no list of models"):
        read_models(body)


def test_our_own_list_of_models_is_one_of_openai_s_form():
    body = models_list(["a", "b"], 7)

    assert json.loads(body) == {
        "object": "list",
        "data": [json.loads(model_object("a", 7)), json.loads(model_object("b", 7))],
    }
    assert json.loads(model_object("a", 7)) == {"id": "a", "object": "model", "created": 7, "owned_by": "leeward"}
    assert read_models(body) == ["a", "b"]
