"""A whole answer: Anthropic Messages → Chat Completions.

Text blocks are joined, calls of tools keep their order, thinking becomes `reasoning_content`, as other providers call
it; signatures of thinking and blocks of Anthropic's own tools, which are never asked for, are left out.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from leeward.wire.anthropic.reading import UNREADABLE
from leeward.wire.chat import Answer, BadAnswer, EmptyAnswer, Usage, tokens

__all__ = ["FINISHES", "Content", "StopDetails", "Tokens", "finish_of", "read_answer", "read_models", "usage_document"]

FINISHES: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # not the whole answer; only Anthropic's own tools pause
    "refusal": "content_filter",
}
WITHOUT_CONTENT: Final = frozenset({"length", "content_filter"})


class OutputDetails(msgspec.Struct, frozen=True):
    """What the output's tokens were spent on."""

    thinking_tokens: int | None = None


class Tokens(msgspec.Struct, frozen=True):
    """Tokens in Anthropic's count: `input_tokens` are those that touched no cache."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None

    def updated(self, later: Tokens) -> Tokens:
        """These, with what a later count of the same answer says."""
        return Tokens(*(b if b is not None else a for a, b in zip(self._values(), later._values(), strict=True)))

    def usage(self) -> Usage:
        """The same in OpenAI's count: the input with all that was read from or written to a cache."""
        cached = tokens(self.cache_read_input_tokens)
        details = self.output_tokens_details
        thinking = None if details is None else details.thinking_tokens
        return Usage(
            input_tokens=tokens(self.input_tokens) + tokens(self.cache_creation_input_tokens) + cached,
            output_tokens=tokens(self.output_tokens),
            cached_tokens=cached,
            reasoning_tokens=tokens(thinking),
        )

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field) for field in self.__struct_fields__)


class Content(msgspec.Struct, frozen=True):
    """One block of an answer, of whatever type."""

    type: str
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")


class StopDetails(msgspec.Struct, frozen=True):
    """Why the model declined."""

    explanation: str | None = None


class Message(msgspec.Struct, frozen=True):
    """A whole answer as Anthropic gives it."""

    id: str
    content: list[Content]
    usage: Tokens
    model: str = ""
    stop_reason: str | None = None
    stop_details: StopDetails | None = None


class Model(msgspec.Struct, frozen=True):
    """One model in the list."""

    id: str


class Models(msgspec.Struct, frozen=True):
    """The list of models."""

    data: list[Model]


ANSWER: Final = msgspec.json.Decoder(Message)
MODELS: Final = msgspec.json.Decoder(Models)


def read_answer(body: bytes, created_s: int) -> Answer:
    """A whole answer in the form of Chat Completions.

    Raises:
        BadAnswer: it is none.
    """
    try:
        message = ANSWER.decode(body)
        calls = [tool_call(block) for block in message.content if block.type == "tool_use"]
    except UNREADABLE as error:
        raise BadAnswer(f"no answer of Anthropic Messages: {error}") from error
    finish = finish_of(message.stop_reason)
    text = "".join(block.text for block in message.content if block.type == "text")
    thought = "".join(block.thinking for block in message.content if block.type == "thinking")
    refusal = message.stop_details.explanation if message.stop_details else None
    if not finish:
        raise BadAnswer("no stop_reason")
    if not (text or calls or refusal or finish in WITHOUT_CONTENT):
        raise EmptyAnswer("no content")
    said: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": refusal}
    if thought:
        said["reasoning_content"] = thought
    if calls:
        said["tool_calls"] = calls
    usage = message.usage.usage()
    document = {
        "id": message.id,
        "object": "chat.completion",
        "created": created_s,
        "model": message.model,
        "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": finish}],
        "usage": usage_document(usage),
    }
    return Answer(msgspec.json.encode(document), finish, usage, message.model, message.id)


def finish_of(stop_reason: str | None) -> str:
    """Why the answer ended; a reason that is new to us counts as an ordinary end, none as none."""
    return FINISHES.get(stop_reason, "stop") if stop_reason else ""


def tool_call(block: Content) -> dict[str, Any]:
    """A call of a tool."""
    return {
        "id": block.id,
        "type": "function",
        "function": {"name": block.name, "arguments": bytes(block.input).decode()},
    }


def usage_document(usage: Usage) -> dict[str, Any]:
    """Tokens as Chat Completions tell them."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def read_models(body: bytes) -> list[str]:
    """The names in the list of models.

    Raises:
        BadAnswer: it is no such list.
    """
    try:
        return [model.id for model in MODELS.decode(body).data]
    except UNREADABLE as error:
        raise BadAnswer(f"no list of models: {error}") from error
