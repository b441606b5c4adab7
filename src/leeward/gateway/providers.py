"""Who can answer: one row for each kind of provider, with everything in which it differs from the others.

What is not said here is as OpenAI has it. A field in `drop` is taken out on the way, for it changes nothing that an
answer promises and the provider would refuse the whole request for it; a field in `cannot` is one that the answer
depends on: a request with it goes to another provider. Servers that pass over what they do not know need neither, but
for a limit that would silently be lost (`rename`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from leeward.errors import ConfigError
from leeward.gateway.transport import header_lines
from leeward.wire.anthropic.dialect import ANTHROPIC
from leeward.wire.chat import ChatRequest
from leeward.wire.dialect import Dialect
from leeward.wire.openai import OPENAI

__all__ = ["KINDS", "Kind"]

NOTHING: Final = frozenset((b"", b"null", b"false", b"0", b"{}", b"[]"))


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for all providers of one kind."""

    name: str
    base_url: str = ""  # up to the version; empty: it has to be configured
    dialect: Dialect = OPENAI
    auth: Literal["bearer", "x-api-key", "none"] = "bearer"
    needs_key: bool = True
    headers: tuple[tuple[str, str], ...] = ()  # besides that of the key
    models_path: str = "/models"
    stream_usage: bool = True  # understands stream_options.include_usage; else tells the usage unasked, or never
    rename: Mapping[str, str] = {}
    drop: frozenset[str] = frozenset()
    cannot: frozenset[str] = frozenset()
    choices: bool = True  # more than one answer to a request
    embeddings: bool = True
    tools: bool = True
    images: bool = True
    json_schema: bool = True

    def header_block(self, api_key: str) -> bytes:
        """The header lines of every call, made once: content type, key, and what the kind asks for.

        Raises:
            ConfigError: the key could not stand in a header.
        """
        if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise ConfigError(
                f"The api_key of a provider of the kind {self.name} has characters that no key has.",
                fix="Look for a space or a line end that was copied with it.",
            )
        lines = [("content-type", "application/json"), *self.headers]
        if api_key and self.auth == "bearer":
            lines.append(("authorization", f"Bearer {api_key}"))
        elif api_key and self.auth == "x-api-key":
            lines.append(("x-api-key", api_key))
        return header_lines(lines)

    def lacks(self, request: ChatRequest) -> str:
        """The field for which no provider of this kind can serve the request; "" if there is none."""
        if request.operation == "embeddings" and not self.embeddings:
            return "model"
        if request.needs.choices > 1 and not self.choices:
            return "n"
        if not self.cannot:
            return ""
        fields = request.fields
        return next((name for name in fields if name in self.cannot and bytes(fields[name]) not in NOTHING), "")


# Of OpenAI's own house: where to keep it, how to bill it, hints for its caches. No answer is another for them.
HOUSE: Final = frozenset(
    {
        *("store", "metadata", "service_tier", "prediction", "verbosity"),
        *("prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
    }
)
MAX_TOKENS: Final = {"max_completion_tokens": "max_tokens"}
# Of models that speak or search, which only OpenAI has in this form.
SPEECH: Final = frozenset({"audio", "web_search_options"})

ROWS: Final = (
    Kind(name="openai", base_url="https://api.openai.com/v1"),
    Kind(
        name="mistral",  # answers 422 to any field that its schema does not name; the usage comes unasked
        base_url="https://api.mistral.ai/v1",
        stream_usage=False,
        rename={**MAX_TOKENS, "seed": "random_seed"},
        drop=HOUSE | {"user", "stream_options", "modalities"},
        cannot=SPEECH | {"logit_bias"},
    ),
    Kind(
        name="groq",  # answers 400 to what it does not know or has no model for
        base_url="https://api.groq.com/openai/v1",
        drop=HOUSE | {"modalities"},
        cannot=SPEECH | {"logprobs", "top_logprobs", "logit_bias"},
        choices=False,
        embeddings=False,
    ),
    Kind(name="together", base_url="https://api.together.ai/v1", rename=MAX_TOKENS, cannot=SPEECH),
    Kind(
        name="deepseek",  # JSON without a schema, text without images
        base_url="https://api.deepseek.com",
        rename=MAX_TOKENS,
        cannot=SPEECH | {"logit_bias"},
        choices=False,
        embeddings=False,
        images=False,
        json_schema=False,
    ),
    Kind(name="openrouter", base_url="https://openrouter.ai/api/v1", cannot=SPEECH),
    Kind(
        name="gemini",  # answers 400 to a name that it does not know
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        drop=HOUSE | {"user", "frequency_penalty", "presence_penalty"},
        cannot=SPEECH | {"logprobs", "top_logprobs", "logit_bias"},
    ),
    Kind(
        name="ollama",  # passes over what it does not know
        base_url="http://127.0.0.1:11434/v1",
        needs_key=False,
        rename=MAX_TOKENS,
        cannot=SPEECH | {"logit_bias"},
        choices=False,
    ),
    Kind(name="vllm", base_url="http://127.0.0.1:8000/v1", needs_key=False, cannot=SPEECH),
    Kind(name="openai-compatible", needs_key=False, stream_usage=False),  # unknown: it gets what the caller wrote
    Kind(
        name="anthropic",
        base_url="https://api.anthropic.com/v1",
        dialect=ANTHROPIC,
        auth="x-api-key",
        headers=(("anthropic-version", "2023-06-01"),),
        models_path="/models?limit=1000",
        cannot=SPEECH | {"logprobs", "top_logprobs", "logit_bias", "functions", "function_call"},
        choices=False,
        embeddings=False,
    ),
    Kind(name="simulated", auth="none", needs_key=False),  # its address is known when it has started
)
KINDS: Final[Mapping[str, Kind]] = {row.name: row for row in ROWS}
