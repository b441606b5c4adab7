"""Whole answers and streams, turned into each other."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings, strategies as st

from chat_streams import CALLS, DONE, ERRORS, STREAM_ERRORS, STREAMS, TEXT, USAGE, chunk, completion, event
from leeward.wire.chat import BadAnswer
from leeward.wire.openai_answers import read_answer
from leeward.wire.openai_stream import StreamReader
from leeward.wire.openai_whole import as_stream, assemble, static_answer, with_x_leeward

TEXTS = st.text(min_size=1, max_size=20)
MAYBE_TEXT = st.none() | TEXTS
ARGUMENTS = st.dictionaries(st.text(max_size=4), st.integers(), max_size=2).map(json.dumps)
TOOL_CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.uuids().map(str),
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": TEXTS, "arguments": ARGUMENTS}),
        },
        optional={"extra_content": st.just({"google": {"thought_signature": "s"}})},
    ),
    min_size=1,
    max_size=3,
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": MAYBE_TEXT, "refusal": MAYBE_TEXT},
    optional={
        "reasoning": TEXTS,
        "reasoning_content": TEXTS,
        "tool_calls": TOOL_CALLS,
        "function_call": st.fixed_dictionaries({"name": TEXTS, "arguments": ARGUMENTS}),
        "annotations": st.lists(st.just({"type": "url_citation"}), min_size=1, max_size=2),
        "audio": st.just({"id": "a", "data": "AAAA", "transcript": "t"}),
    },
)
LOGPROBS = st.none() | st.fixed_dictionaries(
    {
        "content": st.lists(st.just({"token": "a", "logprob": -0.5, "top_logprobs": []}), max_size=2),
        "refusal": st.none(),
    }
)
CHOICES = st.lists(
    st.tuples(MESSAGES, st.sampled_from(["stop", "length", "tool_calls"]), LOGPROBS), min_size=1, max_size=3
).map(
    lambda choices: [
        {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}
        for index, (message, finish, logprobs) in enumerate(choices)
    ]
)
ANSWERS = st.fixed_dictionaries(
    {
        "id": TEXTS,
        "object": st.just("chat.completion"),
        "created": st.integers(0, 2**40),
        "model": TEXTS,
        "choices": CHOICES,
        "usage": st.just(USAGE),
    },
    optional={"system_fingerprint": TEXTS, "service_tier": TEXTS, "citations": st.just(["https://example.com"])},
)


def known(value):
    """A value without what is null, and without logprobs that say nothing."""
    if isinstance(value, dict):
        return {name: known(item) for name, item in value.items() if item is not None and known(item) != {}}
    return [known(item) for item in value] if isinstance(value, list) else value


@settings(deadline=None, max_examples=60)
@given(ANSWERS)
def test_an_answer_that_was_streamed_and_assembled_says_what_it_said(answer):
    stream = as_stream(json.dumps(answer).encode(), with_usage=True)

    assert known(json.loads(assemble(stream))) == known(answer)


@settings(deadline=None, max_examples=60)
@given(ANSWERS)
def test_an_answer_that_was_streamed_is_a_good_stream_for_every_reader(answer):
    reader = StreamReader(collect=True)

    stream = as_stream(json.dumps(answer).encode())

    assert reader.feed(stream) == stream
    assert reader.usage is None
    assert reader.error is None
    for choice in answer["choices"]:
        deltas = [delta for delta in reader.deltas if delta.index == choice["index"]]
        assert "".join(delta.content for delta in deltas) == (choice["message"]["content"] or "")
        assert [delta.finish for delta in deltas] == ["", choice["finish_reason"]]


@pytest.mark.parametrize("provider", STREAMS)
def test_every_provider_s_stream_makes_a_good_answer(provider):
    answer = json.loads(assemble(STREAMS[provider]))

    assert read_answer(json.dumps(answer).encode(), "chat").finish == "stop"
    assert (answer["id"], answer["object"], answer["model"]) == ("chatcmpl-1", "chat.completion", "m")
    message = answer["choices"][0]["message"]
    assert message["role"] == "assistant"
    if provider == "magistral":
        assert message["content"] == [
            {"type": "thinking", "thinking": [{"type": "text", "text": "A greeting."}]},
            {"type": "text", "text": "Good mörning 🌅"},
        ]
    else:
        assert message["content"] == "Good mörning 🌅"
    if provider in {"deepseek", "vllm"}:
        assert (message.get("reasoning_content") or message.get("reasoning")) == "A greeting."


def test_half_a_surrogate_pair_is_replaced_and_a_nul_is_not():
    stream = event({"choices": [{"delta": {"content": "a\\0 @"}}]}).replace(b"@", b"\\ud83c")

    assert json.loads(assemble(stream))["choices"][0]["message"]["content"] == "a\\0 \ufffd"


@pytest.mark.parametrize("provider", CALLS)
def test_calls_are_put_together_by_their_numbers_or_without_them_by_their_ids(provider):
    choice = json.loads(assemble(CALLS[provider]))["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Köln"}'}},
        {"id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]


def test_a_call_as_it_was_once_is_put_together_too():
    stream = chunk({"function_call": {"name": "f", "arguments": ""}}) + chunk({"function_call": {"arguments": "{}"}})

    message = json.loads(assemble(stream))["choices"][0]["message"]

    assert message["function_call"] == {"name": "f", "arguments": "{}"}


def test_choices_and_their_tokens_are_put_together_each_for_itself():
    def tokens(*texts):
        return {"content": [{"token": text} for text in texts], "refusal": None}

    def piece(index, text):
        return event({"choices": [{"index": index, "delta": {"content": text}, "logprobs": tokens(text)}]})

    answer = json.loads(assemble(piece(1, "a") + piece(0, "b") + piece(1, "c")))

    assert [choice["message"]["content"] for choice in answer["choices"]] == ["b", "ac"]
    assert [choice["logprobs"] for choice in answer["choices"]] == [
        {"content": [{"token": "b"}]},
        {"content": [{"token": "a"}, {"token": "c"}]},
    ]


def test_what_was_cut_has_no_reason_to_end_so_nobody_takes_it_for_an_answer():
    whole = assemble(chunk({"content": "Good"}) + DONE)

    with pytest.raises(BadAnswer, match="finish_reason"):
        read_answer(whole, "chat")


@pytest.mark.parametrize(
    "stream",
    [
        TEXT + b"data: {",
        TEXT + b"data: 7\n\n",
        TEXT + b"data: [7]\n\n",
        TEXT + b'data: {"choices":7}\n\n',
        TEXT + b'data: {"choices":[7]}\n\n',
        TEXT + b'data: {"choices":[{"index":"a"}]}\n\n',
        TEXT + b'data: {"choices":[{"delta":7}]}\n\n',
        TEXT + b'data: {"choices":[{"delta":{"tool_calls":7}}]}\n\n',
        TEXT + b'data: {"choices":[{"delta":{"tool_calls":[{"function":7}]}}]}\n\n',
        TEXT + b'data: {"choices":[{"logprobs":7}]}\n\n',
        TEXT + STREAM_ERRORS["openai"][0],
        b"data: " + ERRORS["a page"][1] + b"\n\n",
    ],
)
def test_a_stream_that_is_none_is_not_put_together(stream):
    with pytest.raises(BadAnswer):
        assemble(stream)


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"choices":7}', b'{"choices":[7]}', b"[" * 100_000])
def test_what_is_no_answer_cannot_be_streamed(answer):
    with pytest.raises(BadAnswer):
        as_stream(answer)


def test_g10_depth_is_an_error_and_nothing_breaks():
    for depth in range(700, 1_100):
        for make in (as_stream, lambda answer: assemble(b"data: " + answer + b"\n\n")):
            with contextlib.suppress(BadAnswer):
                make(b'{"choices":[{}],"x":' + b"[" * depth + b"7" + b"]" * depth + b"}")


@pytest.mark.parametrize(
    ("message", "delta"),
    [
        (None, {}),
        ({"content": "a"}, {"content": "a"}),
        ({"tool_calls": [{"id": "c"}, 7]}, {"tool_calls": [{"index": 0, "id": "c"}, 7]}),
        ({"tool_calls": 7}, {"tool_calls": 7}),
    ],
)
def test_a_message_is_said_in_one_step(message, delta):
    stream = as_stream(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode())

    first = json.loads(stream.split(b"\n\n")[0].removeprefix(b"data: "))
    assert first["choices"][0]["delta"] == delta


def test_our_words_about_an_answer_go_with_the_first_event_and_the_usage_only_where_it_is_asked_for():
    answer = completion({"content": "Good"})

    first, last, rest = as_stream(answer, {"x_leeward": {"degraded": "cache"}}).split(b"\n\n")

    assert json.loads(first.removeprefix(b"data: "))["x_leeward"] == {"degraded": "cache"}
    assert b"x_leeward" not in last
    assert rest == b""
    usage = json.loads(as_stream(answer, with_usage=True).split(b"\n\n")[2].removeprefix(b"data: "))
    assert (usage["choices"], usage["usage"]) == ([], USAGE)


def test_an_answer_of_our_own_is_a_good_one_and_says_what_it_is():
    body = static_answer("Nobody can answer just now.", "chat", "chatcmpl-7", 7, x_leeward={"degraded": "static"})

    answer = read_answer(body, "chat")

    assert (answer.finish, answer.model, answer.id) == ("stop", "chat", "chatcmpl-7")
    assert json.loads(body)["choices"][0]["message"]["content"] == "Nobody can answer just now."
    assert json.loads(body)["x_leeward"] == {"degraded": "static"}
    assert b"x_leeward" not in static_answer("Sorry.", "chat", "chatcmpl-7", 7)


def test_what_leeward_says_of_an_answer_stands_beside_it_and_in_the_place_of_what_another_said():
    body = with_x_leeward(b'{"a": [1,  2] ,"x_leeward":{"provider":"x"}}', {"provider": "y"})

    assert body == b'{"a":[1,  2],"x_leeward":{"provider":"y"}}'
    for broken in (b"", b"[]", b"[" * 100_000):
        with pytest.raises(BadAnswer):
            with_x_leeward(broken, {})
