"""Calls to AI providers as OpenTelemetry metrics: rate, latency, errors and usage, by provider and model.

    from leeward.integrations.otel_genai import GenAiMetrics

    genai = GenAiMetrics()                                  # or `configure(…).genai`
    with genai.call("openai", "gpt-4o-mini") as call:       # or: async with
        reply = client.chat.completions.create(...)
        call.usage(input_tokens=reply.usage.prompt_tokens, output_tokens=reply.usage.completion_tokens)

Records   `gen_ai.client.operation.duration` (its count is the request rate, its points with `error.type` the error
          rate), `gen_ai.client.operation.time_to_first_chunk` and `gen_ai.client.token.usage`, with the buckets of
          OpenTelemetry's conventions for generative AI. Never a prompt, an answer, or a word of them.
Promises  an exception of the block goes on as it was. Where nobody configured OpenTelemetry, nothing is recorded.
"""

from __future__ import annotations

from time import perf_counter

from opentelemetry import metrics

from leeward.integrations.spans import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, Final, Self

    from opentelemetry.metrics import MeterProvider

__all__ = ["BUCKETS", "GenAiCall", "GenAiMetrics"]

DURATION: Final = "gen_ai.client.operation.duration"
FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
TOKENS: Final = "gen_ai.client.token.usage"
DURATION_BUCKETS_S: Final = tuple(0.01 * 2**n for n in range(14))  # to 81.92
TOKEN_BUCKETS: Final = tuple(float(4**n) for n in range(14))
BUCKETS: Final[Mapping[str, tuple[float, ...]]] = {
    DURATION: DURATION_BUCKETS_S,
    FIRST_CHUNK: DURATION_BUCKETS_S,
    TOKENS: TOKEN_BUCKETS,
}


class GenAiMetrics:
    """See the module. `meter_provider`: whose instruments these are; else the program's."""

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        meter = (meter_provider or metrics.get_meter_provider()).get_meter("leeward")
        self._duration = meter.create_histogram(
            DURATION,
            unit="s",
            description="Duration of a call to a provider of generative AI",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS_S,
        )
        self._first_chunk = meter.create_histogram(
            FIRST_CHUNK,
            unit="s",
            description="Time until the first part of a streamed answer",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS_S,
        )
        self._tokens = meter.create_histogram(
            TOKENS,
            unit="{token}",
            description="Tokens that a call read (input) and wrote (output)",
            explicit_bucket_boundaries_advisory=TOKEN_BUCKETS,
        )

    def call(
        self, provider: str, model: str, *, operation: str = "chat", attributes: Mapping[str, Any] | None = None
    ) -> GenAiCall:
        """A `with` (or `async with`) block around one call.

        Args:
            provider: Who is asked: openai, anthropic, mistral_ai, aws.bedrock, ….
            model: The model as the request names it.
            operation: chat, text_completion, embeddings, generate_content, ….
            attributes: More to tell series apart by, as "server.address"; few values each.
        """
        labels = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            **(attributes or {}),
        }
        return GenAiCall(self, labels)

    def record(
        self,
        labels: Mapping[str, Any],
        duration_s: float,
        *,
        first_chunk_s: float | None = None,
        tokens: Mapping[str, int] | None = None,
    ) -> None:
        """Record one call that was measured elsewhere.

        Args:
            labels: Attributes of all its points: `gen_ai.operation.name`, `gen_ai.provider.name`,
                `gen_ai.request.model`, and `error.type` if it failed.
            duration_s: How long it took.
            first_chunk_s: When the first part of a streamed answer came.
            tokens: {"input": …, "output": …}.
        """
        self._duration.record(duration_s, labels)
        if first_chunk_s is not None:
            self._first_chunk.record(first_chunk_s, labels)
        for kind, count in (tokens or {}).items():
            self._tokens.record(count, {**labels, "gen_ai.token.type": kind})


class GenAiCall:
    """See `GenAiMetrics.call`. May be entered once."""

    def __init__(self, metrics: GenAiMetrics, labels: dict[str, Any]) -> None:
        self._metrics = metrics
        self._labels = labels
        self._began_s = perf_counter()
        self._first_chunk_s: float | None = None
        self._tokens: dict[str, int] = {}

    def usage(self, *, input_tokens: int | None = None, output_tokens: int | None = None) -> None:
        """What the provider counted; the last word counts, for streams that count up."""
        for kind, count in (("input", input_tokens), ("output", output_tokens)):
            if type(count) is int and count >= 0:
                self._tokens[kind] = count

    def first_chunk(self) -> None:
        """The first part of a streamed answer is here. Every later call does nothing, so call it for each part."""
        if self._first_chunk_s is None:
            self._first_chunk_s = perf_counter() - self._began_s

    def failed(self, error: str | int) -> None:
        """The provider said no without an exception: an HTTP status such as 429, or a word for what went wrong."""
        self._labels["error.type"] = str(error)

    def set(self, key: str, value: str | bool | float) -> None:
        """Add an attribute that was not known before, as "gen_ai.response.model"."""
        self._labels[key] = value

    def __enter__(self) -> Self:
        self._began_s = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):  # else the program, or its task, is being ended: no error of the provider's
            self._labels["error.type"] = type_name(error)
        duration_s = perf_counter() - self._began_s
        self._metrics.record(self._labels, duration_s, first_chunk_s=self._first_chunk_s, tokens=self._tokens)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
