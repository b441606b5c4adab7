import json

import pytest

from anthropic_provider import SHORT, message
from anthropic_requests import chat
from leeward.wire.anthropic.answers import FINISHES
from leeward.wire.anthropic.dialect import ANTHROPIC, AnthropicMessages
from leeward.wire.chat import BadAnswer, Usage

TEXT = {"type": "text", "text": "echo"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome", "days": 2}}


class Noon:
    def wall_ms(self):
        return 1_795_322_741_463

    def monotonic_s(self):
        return 0.0


def read(*content, **more):
    """An answer as the gateway reads it."""
    return AnthropicMessages(Noon()).read_answer(json.dumps(message([*content], **more)).encode(), "chat", chat())


def said(*content, **more):
    """The one choice of an answer."""
    return json.loads(read(*content, **more).body)["choices"][0]


def test_an_answer_has_the_form_of_chat_completions():
    answer = read(TEXT)
    assert (answer.finish, answer.model, answer.id) == ("stop", SHORT, "msg_01XFDUDYJgAACzvnptvVoYEL")
    assert answer.usage == Usage(input_tokens=36, output_tokens=7, cached_tokens=20, reasoning_tokens=3)
    assert json.loads(answer.body) == {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "object": "chat.completion",
        "created": 1_795_322_741,
        "model": SHORT,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "echo", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 36,
            "completion_tokens": 7,
            "total_tokens": 43,
            "prompt_tokens_details": {"cached_tokens": 20},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    }


def test_calls_of_tools_carry_their_arguments_as_json_text():
    choice = said(TEXT, CALL, {**CALL, "id": "toolu_2", "input": {}}, stop_reason="tool_use")
    first, second = choice["message"]["tool_calls"]
    assert (first["id"], first["type"], first["function"]["name"]) == ("toolu_1", "function", "weather")
    assert json.loads(first["function"]["arguments"]) == CALL["input"]
    assert second["function"]["arguments"] == "{}"
    assert (choice["message"]["content"], choice["finish_reason"]) == ("echo", "tool_calls")
    assert said(CALL, stop_reason="tool_use")["message"]["content"] is None


def test_thinking_is_told_beside_the_answer_and_what_was_not_asked_for_is_left_out():
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    searched = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    told = said(thought, hidden, TEXT, searched, TEXT)["message"]
    assert told == {"role": "assistant", "content": "echoecho", "refusal": None, "reasoning_content": "hm"}


@pytest.mark.parametrize(("reason", "finish"), [*FINISHES.items(), ("something_new", "stop")])
def test_every_reason_of_an_end_has_its_word(reason, finish):
    assert said(TEXT, stop_reason=reason)["finish_reason"] == read(TEXT, stop_reason=reason).finish == finish


def test_a_refusal_is_an_answer_and_says_why():
    details = {"type": "refusal", "category": None, "explanation": "Against the policy."}
    choice = said(stop_reason="refusal", stop_details=details)
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": "Against the policy."}
    assert said(stop_reason="refusal")["message"]["refusal"] is None


def test_an_answer_cut_by_its_limit_may_be_empty_and_another_one_may_not():
    assert said(stop_reason="max_tokens")["finish_reason"] == "length"
    for content in ([], [{"type": "text", "text": ""}], [{"type": "thinking", "thinking": "hm"}]):
        with pytest.raises(BadAnswer):
            read(*content)


def test_usage_without_caches_is_just_the_input():
    usage = read(TEXT, usage={"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": None}).usage
    assert usage == Usage(input_tokens=3, output_tokens=4)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"<html>", b"{}", b"[]", b"null", b"\xff", b'{"type":"error","error":{"type":"api_error"}}'),
        *(b'{"choices":[]}', json.dumps(message([TEXT], stop_reason=None)).encode(), b'{"id":"a","content":'),
        *(json.dumps(message("echo")).encode(), json.dumps(message([{"text": "x"}])).encode()),
    ],
)
def test_what_is_no_answer_is_a_bad_one(body):
    with pytest.raises(BadAnswer):
        ANTHROPIC.read_answer(body, "chat", chat())


BOMB = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("body", [BOMB, b'{"content":%b}' % BOMB, b'{"data":%b}' % BOMB])
def test_g10_a_bomb_of_brackets_is_a_bad_answer_and_nothing_worse(body):
    for read_it in (lambda: ANTHROPIC.read_answer(body, "chat", chat()), lambda: ANTHROPIC.read_models(body)):
        with pytest.raises(BadAnswer):
            read_it()


def test_bytes_that_are_no_text_in_the_arguments_of_a_call_are_a_bad_answer():
    body = json.dumps(message([CALL], stop_reason="tool_use")).encode().replace(b"Rome", b"R\xffme")
    with pytest.raises(BadAnswer):
        ANTHROPIC.read_answer(body, "chat", chat())


def test_there_are_no_embeddings_to_be_read():
    with pytest.raises(BadAnswer):
        ANTHROPIC.read_answer(json.dumps(message([TEXT])).encode(), "embeddings", chat())


def test_the_list_of_models_is_read_and_another_body_is_none():
    listed = {"data": [{"type": "model", "id": "a"}, {"type": "model", "id": "b"}], "has_more": False}
    assert ANTHROPIC.read_models(json.dumps(listed).encode()) == ["a", "b"]
    for body in (b"", b"[]", b'{"data":[{}]}', b"\xff"):
        with pytest.raises(BadAnswer):
            ANTHROPIC.read_models(body)
