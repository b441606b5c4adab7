"""Whole answers of providers that speak as OpenAI does: is it one, and what the gateway wants to know of it.

An answer has a choice, a reason to end for each, and something to give: text, a refusal, a call, or that it was too long
or filtered. Everything else with status 200 is a failure of the provider.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from leeward.wire.chat import Answer, BadAnswer, EmptyAnswer, Operation, Usage, tokens
from leeward.wire.openai_errors import error_in
from leeward.wire.text import repair

__all__ = ["FAILED_FINISHES", "FINISHES_WITHOUT_CONTENT", "read_answer", "usage_of"]

FINISHES_WITHOUT_CONTENT = frozenset({"length", "content_filter"})
FAILED_FINISHES = frozenset({"error", "insufficient_system_resource"})  # OpenRouter's and DeepSeek's word for a failure


class _Message(Struct, gc=False):
    content: str | list[Raw] | None = None
    refusal: str | None = None
    tool_calls: list[Raw] | None = None
    function_call: Any = None
    audio: Any = None
    images: list[Raw] | None = None

    def says_something(self) -> bool:
        """Whether there is anything for the caller."""
        return bool(self.content or self.tool_calls or self.refusal or self.function_call or self.audio or self.images)


class _Choice(Struct, gc=False):
    message: _Message | None = None
    finish_reason: str | None = None


class _Completion(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Any = None
    model: str | None = None
    id: str | None = None
    error: Any = None


class _Embedding(Struct, gc=False):
    embedding: Raw


class _Embeddings(Struct, gc=False):
    data: list[_Embedding] | None = None
    usage: Any = None
    model: str | None = None
    error: Any = None


class _PromptDetails(Struct, gc=False):
    cached_tokens: int | None = None


class _OutputDetails(Struct, gc=False):
    reasoning_tokens: int | None = None


class _Counts(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek's name


_DECODE_COMPLETION = msgspec.json.Decoder(_Completion).decode
_DECODE_EMBEDDINGS = msgspec.json.Decoder(_Embeddings).decode


def read_answer(body: bytes, operation: Operation) -> Answer:
    """A whole answer.

    Raises:
        BadAnswer: it is none; says why without a word of the provider's text.
    """
    decode = _DECODE_EMBEDDINGS if operation == "embeddings" else _DECODE_COMPLETION
    if not body.isascii():
        _check_text(body)
    try:
        answer = decode(body)
    except RecursionError as error:
        raise BadAnswer("the answer is nested too deeply") from error
    except msgspec.ValidationError as error:
        raise BadAnswer(f"the answer has another form: {error}") from error
    except msgspec.DecodeError as error:
        body, answer = _decoded_again(body, decode, error)
    if answer.error:
        told = error_in({"error": answer.error})
        raise BadAnswer(f"an error in an answer with status 200 (type {told.type!r}, code {told.code!r})")
    usage = usage_of(answer.usage)
    if isinstance(answer, _Embeddings):
        if not answer.data or not all(_is_embedding(row.embedding) for row in answer.data):
            raise BadAnswer("the answer has no embedding")
        return Answer(body, usage=usage, model=answer.model or "")
    return Answer(body, _finish(answer.choices), usage, answer.model or "", answer.id or "")


def _finish(choices: list[_Choice] | None) -> str:
    """Why the first choice ended, of choices that are an answer."""
    if not choices:
        raise BadAnswer("the answer has no choice")
    has_content = False
    for choice in choices:
        finish = choice.finish_reason
        if not finish:
            raise BadAnswer("a choice has no finish_reason")
        if finish in FAILED_FINISHES:
            raise BadAnswer(f"a choice ended with {finish}")
        has_content = has_content or finish in FINISHES_WITHOUT_CONTENT
        has_content = has_content or (choice.message is not None and choice.message.says_something())
    if not has_content:
        raise EmptyAnswer("no choice has any content")
    return choices[0].finish_reason or ""


def _check_text(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise BadAnswer("the answer is no valid UTF-8") from error


def _decoded_again(body: bytes, decode: Any, error: msgspec.DecodeError) -> tuple[bytes, Any]:
    """The answer of a provider that cut an emoji in two: with U+FFFD in its place."""
    body, changed = repair(body)
    if changed:
        try:
            return body, decode(body)
        except (msgspec.DecodeError, RecursionError) as second_error:
            raise BadAnswer(f"the answer is not JSON: {second_error}") from second_error
    raise BadAnswer(f"the answer is not JSON: {error}") from error


def _is_embedding(raw: Raw) -> bool:
    """Whether it is a list of numbers or base64, and not empty; a decoder made sure that it is JSON."""
    text = memoryview(raw)
    return len(text) > len("[]") and text[0] in b'["'


def usage_of(value: Any) -> Usage | None:
    """The counts of tokens in a decoded `usage`, None if there are none that can be read."""
    if not isinstance(value, dict):
        return None
    try:
        counts = msgspec.convert(value, _Counts)
    except msgspec.ValidationError:
        return None
    cached = counts.prompt_tokens_details and counts.prompt_tokens_details.cached_tokens
    details = counts.completion_tokens_details
    reasoning = None if details is None else details.reasoning_tokens
    return Usage(
        tokens(counts.prompt_tokens),
        tokens(counts.completion_tokens),
        tokens(cached or counts.prompt_cache_hit_tokens),
        tokens(reasoning),
    )
