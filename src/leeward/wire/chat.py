"""What a conversation with a model is, in the one form that all dialects meet in: requests, answers, steps of a stream.

A request keeps the caller's own bytes, field by field, so that what a provider of the same dialect gets is what the
caller wrote. What the gateway must know of it stands beside them (`Needs`). Its fields are those of Chat Completions;
other dialects are translated to and from them. An answer is whole (`Answer`) or comes in steps (`Delta`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from leeward.errors import ProtocolError

__all__ = [
    "Answer",
    "BadAnswer",
    "ChatRequest",
    "Delta",
    "EmptyAnswer",
    "Needs",
    "Operation",
    "ProviderError",
    "RequestInvalid",
    "ToolCallDelta",
    "Usage",
    "tokens",
]

Operation = Literal["chat", "embeddings"]
TOKENS_MAX = 2**40


class RequestInvalid(ProtocolError):
    """A caller's request cannot be served as it is; `param` names the field, "" if none."""

    def __init__(self, message: str, *, code: str = "invalid_request", param: str = "", status: int = 400) -> None:
        super().__init__(message, code=code, status=status)
        self.param = param


class BadAnswer(Exception):
    """What a provider sent is no answer: not JSON, no choice, no content, no finish. Says why, for logs."""


class EmptyAnswer(BadAnswer):
    """An answer in every way, but that nothing is said in it: perhaps the provider's failure, perhaps what was asked for."""


class Needs(msgspec.Struct, frozen=True, gc=False):
    """What a request asks of whoever answers it."""

    tools: bool = False
    images: bool = False
    json_schema: bool = False
    choices: int = 1
    output_tokens: int | None = None  # as asked for
    prompt_bytes: int = 0  # of the messages, as JSON
    stream_usage: bool = False  # the caller wants the usage at the stream's end


class ChatRequest(msgspec.Struct, frozen=True):
    """One request: `fields` are all of the caller's, in order, as raw JSON; `model` is the name the caller used."""

    model: str
    fields: dict[str, msgspec.Raw]
    needs: Needs
    stream: bool = False
    operation: Operation = "chat"


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens, as the provider counted them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0  # of the input, read from the provider's cache
    reasoning_tokens: int = 0  # of the output


def tokens(count: int | None) -> int:
    """A provider's count, within reason: it stands in sums, metrics and a key's limits."""
    return min(max(count or 0, 0), TOKENS_MAX)


class Answer(msgspec.Struct, frozen=True):
    """A whole answer that is one: `body` is JSON in the form of Chat Completions (or of Embeddings)."""

    body: bytes
    finish: str = ""
    usage: Usage | None = None
    model: str = ""  # as the provider names it
    id: str = ""


class ToolCallDelta(msgspec.Struct, frozen=True):
    """A piece of a tool call."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Delta(msgspec.Struct, frozen=True):
    """One step of a streamed answer."""

    index: int = 0
    content: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish: str = ""
    usage: Usage | None = None


class ProviderError(msgspec.Struct, frozen=True):
    """An error as a provider told it. `message` is the provider's text: for scrubbed logs, never for a caller."""

    status: int = 0  # of HTTP; 0 in a stream
    code: str = ""
    type: str = ""
    param: str = ""
    message: str = ""
