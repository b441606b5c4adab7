"""Whole answers and streamed ones, turned into each other, and answers of our own making. Off the hot path. Pure.

Promises  `assemble(as_stream(answer))` says what the answer said: texts, refusals, thoughts, tool calls, finish reasons,
          usage, for each choice. What only one of the two forms has (the place of chunks, a logprob's token) may be lost.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from leeward.wire.chat import BadAnswer
from leeward.wire.sse import Events, data_of

__all__ = ["as_stream", "assemble", "static_answer", "with_x_leeward"]

_DECODE = msgspec.json.Decoder().decode
_ENCODE = msgspec.json.Encoder().encode
_DONE: Final = b"[DONE]"
_KEPT: Final = ("id", "created", "model", "system_fingerprint", "service_tier", "provider", "x_leeward")
_TEXTS: Final = ("content", "refusal", "reasoning_content", "reasoning")


def as_stream(answer: bytes, extra: dict[str, Any] | None = None, *, with_usage: bool = False) -> bytes:
    """A whole answer as the events of a stream, without `[DONE]`: one chunk a choice, then its finish.

    Args:
        answer: in the form of Chat Completions.
        extra: fields for the first chunk.
        with_usage: whether a last chunk tells the usage.
    """
    whole = _DECODE(answer)
    about = {name: whole[name] for name in _KEPT if name in whole}
    about["object"] = "chat.completion.chunk"
    chunks: list[dict[str, Any]] = []
    for choice in whole.get("choices") or ():
        index = choice.get("index", 0)
        delta = {name: value for name, value in (choice.get("message") or {}).items() if value is not None}
        delta.setdefault("role", "assistant")
        if "tool_calls" in delta:
            delta["tool_calls"] = [{"index": number, **call} for number, call in enumerate(delta["tool_calls"])]
        said = {"index": index, "delta": delta, "finish_reason": None}
        if choice.get("logprobs") is not None:
            said["logprobs"] = choice["logprobs"]
        chunks.append({**about, "choices": [said]})
        chunks.append(
            {**about, "choices": [{"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}]}
        )
    if with_usage and whole.get("usage") is not None:
        chunks.append({**about, "choices": [], "usage": whole["usage"]})
    if extra and chunks:
        chunks[0] = {**chunks[0], **extra}
    return b"".join(b"data: " + _ENCODE(chunk) + b"\n\n" for chunk in chunks)


def assemble(stream: bytes) -> bytes:
    """The events of a stream, with or without `[DONE]`, as one whole answer.

    Raises:
        BadAnswer: they are no stream of chunks.
    """
    about: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    for event in Events(len(stream) + 1).feed(stream):
        data = data_of(event)
        if data is None or data == _DONE:
            continue
        try:
            chunk = _DECODE(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadAnswer(f"an event is no JSON: {error}") from None
        if not isinstance(chunk, dict):
            raise BadAnswer("an event is no object")
        for name in (*_KEPT, "usage"):
            if chunk.get(name) is not None:
                about.setdefault(name, chunk[name])
        for piece in chunk.get("choices") or ():
            choices.setdefault(piece.get("index", 0), _Choice()).add(piece)
    return _ENCODE(
        {**about, "object": "chat.completion", "choices": [choices[index].whole(index) for index in sorted(choices)]}
    )


class _Choice:
    """One choice as it grows."""

    def __init__(self) -> None:
        self.role = "assistant"
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, dict[str, Any]] = {}
        self.finish: Any = None
        self.logprobs: dict[str, list[Any]] = {}

    def add(self, piece: dict[str, Any]) -> None:
        """One chunk's part."""
        delta = piece.get("delta") or {}
        self.role = delta.get("role") or self.role
        for name in _TEXTS:
            if isinstance(delta.get(name), str):
                self.texts.setdefault(name, []).append(delta[name])
        for number, call in enumerate(delta.get("tool_calls") or ()):
            self._call(call.get("index", number), call)
        if piece.get("finish_reason") is not None:
            self.finish = piece["finish_reason"]
        for name, tokens in (piece.get("logprobs") or {}).items():
            if isinstance(tokens, list):
                self.logprobs.setdefault(name, []).extend(tokens)

    def _call(self, index: int, call: dict[str, Any]) -> None:
        known = self.calls.setdefault(index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        known["id"] = call.get("id") or known["id"]
        known["type"] = call.get("type") or known["type"]
        function = call.get("function") or {}
        known["function"]["name"] += function.get("name") or ""
        known["function"]["arguments"] += function.get("arguments") or ""

    def whole(self, index: int) -> dict[str, Any]:
        """As a choice of a whole answer."""
        message: dict[str, Any] = {"role": self.role, "content": None, "refusal": None}
        for name, parts in self.texts.items():
            text = "".join(parts)
            message[name] = text if text or not self.calls else None
        if self.calls:
            message["tool_calls"] = [self.calls[number] for number in sorted(self.calls)]
        return {
            "index": index,
            "message": message,
            "logprobs": self.logprobs or None,
            "finish_reason": self.finish,
        }


def static_answer(
    text: str, model: str, answer_id: str, created: int, *, x_leeward: dict[str, Any] | None = None
) -> bytes:
    """An answer that no model gave."""
    answer: dict[str, Any] = {
        "id": answer_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
    if x_leeward is not None:
        answer["x_leeward"] = x_leeward
    return _ENCODE(answer)


def with_x_leeward(body: bytes, note: dict[str, Any]) -> bytes:
    """The same answer, which says of itself what it is."""
    return _ENCODE({**_DECODE(body), "x_leeward": note})
