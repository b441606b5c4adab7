"""Every decoder of Anthropic's dialect, for fuzzing: each lets pass what is documented, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec

from anthropic_provider import error, event, events_of, message
from leeward.wire.anthropic.dialect import ANTHROPIC
from leeward.wire.anthropic.stream import StreamReader
from leeward.wire.chat import Answer, BadAnswer, ChatRequest, Needs, RequestInvalid

MODELS = ("claude-haiku-4-5", "claude-opus-5-5", "another")
FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
CHAT = ChatRequest("m", {}, Needs())
FINISHES = {"stop", "length", "tool_calls", "content_filter"}


def encode_request(data: bytes) -> None:
    """A caller's fields, as the gateway hands them on: JSON in UTF-8, bounded in depth."""
    try:
        data.decode()
        fields = FIELDS.decode(data)
        json.loads(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return
    for model in MODELS:
        try:
            body = ANTHROPIC.encode(ChatRequest("m", fields, Needs(), stream=True), model)
        except RequestInvalid:
            continue
        told = json.loads(body)
        assert told["model"] == model
        assert told["messages"]
        assert told["max_tokens"] >= 1
        assert told["stream"] is True


def check_answer(answer: Answer) -> None:
    document = json.loads(answer.body)
    (choice,) = document["choices"]
    assert choice["finish_reason"] == answer.finish
    assert answer.finish in FINISHES
    for call in choice["message"].get("tool_calls", ()):
        assert isinstance(call["function"]["arguments"], str)


def read_answer(data: bytes) -> None:
    try:
        answer = ANTHROPIC.read_answer(data, "chat", CHAT)
    except BadAnswer:
        return
    check_answer(answer)


def read_models(data: bytes) -> None:
    try:
        names = ANTHROPIC.read_models(data)
    except BadAnswer:
        return
    assert all(isinstance(name, str) for name in names)


def read_error(data: bytes) -> None:
    told = ANTHROPIC.read_error(500, data)
    assert told.status == 500
    assert isinstance(told.message, str)


def read_stream(data: bytes) -> None:
    """At once and in pieces: the same chunks, each of them JSON."""
    once = StreamReader(1, usage_wanted=True, collect=True)
    out = once.feed(data)
    cut = StreamReader(1, usage_wanted=True, collect=True)
    pieces = [cut.feed(data[at : at + 7]) for at in range(0, len(data), 7)]
    assert b"".join(pieces) == out
    assert (cut.end(), cut.deltas, cut.events) == (once.end(), once.deltas, once.events)
    for chunk in out.split(b"\n\n")[:-1]:
        told = json.loads(chunk.removeprefix(b"data: "))
        assert told["object"] == "chat.completion.chunk"
        assert "usage" in told or len(told["choices"]) == 1
    if once.end() == "":
        assert once.done
        assert once.finish in FINISHES


CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "x"}
TEXT = {"type": "text", "text": "It is sunny — 20 °C."}
WHOLE = message([THOUGHT, TEXT, CALL], stop_reason="tool_use")
REFUSAL = message([], stop_reason="refusal", stop_details={"type": "refusal", "explanation": "No."})
PARTS = [
    {"type": "text", "text": "see", "cache_control": {"type": "ephemeral"}},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
]
CALLED = {"id": "a.1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": PARTS},
    {"role": "assistant", "content": None, "tool_calls": [CALLED]},
    {"role": "tool", "tool_call_id": "a.1", "content": "sunny", "is_error": False},
    {"role": "user", "content": "thanks"},
]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}, "strict": True}}
REQUEST_SEEDS = [
    json.dumps({"messages": TALK, "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}).encode(),
    json.dumps({"messages": TALK[-1:], "max_tokens": 9, "temperature": 1.5, "top_p": 0.5, "stop": ["END"]}).encode(),
    json.dumps({"messages": TALK[:2], "user": "u", "reasoning_effort": "none", "n": 1, "logit_bias": {}}).encode(),
    json.dumps(
        {
            "messages": TALK[-1:],
            "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
        }
    ).encode(),
]
ANSWER_SEEDS = [json.dumps(WHOLE).encode(), json.dumps(REFUSAL, ensure_ascii=False).encode()]
BROKEN = [*list(events_of(WHOLE))[:6], event("error", error={"type": "overloaded_error", "message": "Overloaded"})]
STREAM_SEEDS = [b"".join(events_of(WHOLE)), b"".join(events_of(REFUSAL)).replace(b"\n", b"\r\n"), b"".join(BROKEN)]
MODELS_SEEDS = [b'{"data":[{"type":"model","id":"claude-haiku-5-5"}],"has_more":false}']
ERROR_SEEDS = [json.dumps(error("rate_limit_error", "tools.0: too many")).encode(), b"<html>502</html>"]

TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "anthropic_request": (encode_request, REQUEST_SEEDS),
    "anthropic_answer": (read_answer, ANSWER_SEEDS),
    "anthropic_stream": (read_stream, STREAM_SEEDS),
    "anthropic_models": (read_models, MODELS_SEEDS),
    "anthropic_error": (read_error, ERROR_SEEDS),
}
