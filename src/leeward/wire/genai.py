"""Attributes of a call to a provider of generative AI → the columns that such a call has, for every wire.

Promises  whatever an attribute holds, nothing raises: a value that a column cannot take is left to the next name, and in
          the data. Today's names win over older ones, what answered (response) over what was asked for (request).
Knows     OpenTelemetry's conventions of today and before (`gen_ai.*`), OpenInference and Traceloop (`llm.*`), Vercel's AI
          SDK and Sentry (`ai.*`), Langfuse (`langfuse.observation.*`, whose usage is a JSON text).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FIELD_CHARS_MAX", "Generation", "generation", "token_count"]

FIELD_CHARS_MAX: Final = 200
INT64_MAX: Final = 2**63 - 1
DOUBLE_MAX: Final = 2.0**63

PROVIDER: Final = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider")
MODEL: Final = (
    "gen_ai.response.model",
    "gen_ai.request.model",
    "llm.response.model",
    "llm.model_name",
    "llm.request.model",
    "ai.response.model",
    "ai.model.id",
    "ai.model_id",
    "langfuse.observation.model.name",
)
INPUT_TOKENS: Final = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    "llm.usage.prompt_tokens",
    "ai.usage.inputTokens",
    "ai.usage.promptTokens",
    "ai.prompt_tokens.used",
)
OUTPUT_TOKENS: Final = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    "llm.usage.completion_tokens",
    "ai.usage.outputTokens",
    "ai.usage.completionTokens",
    "ai.completion_tokens.used",
)
CONVERSATION: Final = ("gen_ai.conversation.id",)
USAGE_TEXT: Final = "langfuse.observation.usage_details"
INPUT_USAGE: Final = ("input", "input_tokens", "prompt_tokens", "promptTokens")
OUTPUT_USAGE: Final = ("output", "output_tokens", "completion_tokens", "completionTokens")
NAMES: Final = frozenset((*PROVIDER, *MODEL, *INPUT_TOKENS, *OUTPUT_TOKENS, *CONVERSATION, USAGE_TEXT))

_DECODE = msgspec.json.Decoder(dict[str, Any]).decode


class Generation(NamedTuple):
    """What the columns of a call take. Empty, or None for a number, means that no attribute says so."""

    provider: str = ""
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    session_id: str = ""


def generation(attributes: Mapping[str, Any]) -> Generation | None:
    """The columns that *attributes* fill, or None if none of them is about generative AI."""
    if NAMES.isdisjoint(attributes):
        return None
    input_tokens = _count(attributes, INPUT_TOKENS)
    output_tokens = _count(attributes, OUTPUT_TOKENS)
    if USAGE_TEXT in attributes:
        usage = _usage(attributes[USAGE_TEXT])
        input_tokens = _count(usage, INPUT_USAGE) if input_tokens is None else input_tokens
        output_tokens = _count(usage, OUTPUT_USAGE) if output_tokens is None else output_tokens
    return Generation(
        _text(attributes, PROVIDER),
        _text(attributes, MODEL),
        input_tokens,
        output_tokens,
        _text(attributes, CONVERSATION),
    )


def token_count(value: Any) -> int | None:
    """A count that a column takes: 0 to 2^63-1. Some senders know only doubles."""
    kind = type(value)
    if kind is int:
        return value if 0 <= value <= INT64_MAX else None
    if kind is float and 0 <= value < DOUBLE_MAX and value.is_integer():
        return int(value)
    return None


def _count(attributes: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        if name in attributes:
            count = token_count(attributes[name])
            if count is not None:
                return count
    return None


def _text(attributes: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        if name in attributes:
            value = attributes[name]
            if value and type(value) is str:
                return value[:FIELD_CHARS_MAX]
    return ""


def _usage(value: Any) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    try:
        return _DECODE(value)
    except (TypeError, ValueError, RecursionError):  # not a text, no JSON or no object, a bomb: it stays in the data
        return {}
