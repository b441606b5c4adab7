"""A call to an AI provider as telemetry: who was asked, how long it took, what it used, how it failed.

    from leeward.integrations.providers import provider_call

    with provider_call("openai", "gpt-4o-mini") as call:        # or: async with
        reply = client.chat.completions.create(...)
        call.usage(input_tokens=reply.usage.prompt_tokens, output_tokens=reply.usage.completion_tokens)

Records   at the end a span "chat gpt-4o-mini" and metrics, with OpenTelemetry's names (`gen_ai.…`): request rate and
          latency percentiles come from `gen_ai.client.operation.duration`, error rates from its `error.type`, usage
          from `gen_ai.client.token.usage`, all by provider and model. Sampling keeps or leaves a call as a whole.
          Never a prompt, an answer, or a word of them.
Promises  nothing here raises; an exception of the block goes on as it was, and is told by the span. From the first
          token of a streaming answer to its end, nothing is sent.
"""

from __future__ import annotations

from leeward.integrations.spans import OpenSpan, type_name
from leeward.sender import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, Final, Self

    from leeward.sender.blocks import Moment
    from leeward.sender.client import Client

__all__ = ["ProviderCall", "provider_call"]

DURATION: Final = "gen_ai.client.operation.duration"
FIRST_PART: Final = "gen_ai.client.operation.time_to_first_chunk"
TOKENS: Final = "gen_ai.client.token.usage"
NOT_ALLOWED: Final = frozenset({401, 403})


def provider_call(
    provider: str,
    model: str,
    *,
    operation: str = "chat",
    properties: Mapping[str, Any] | None = None,
    client: Client | None = None,
) -> ProviderCall:
    """A `with` (or `async with`) block around one call.

    Args:
        provider: Who is asked; OpenTelemetry's names are openai, anthropic, mistral_ai, aws.bedrock, ….
        model: The model as the request names it.
        operation: chat, text_completion, embeddings, generate_content, ….
        properties: More about the span; `ProviderCall.set` adds what is known later.
        client: Who records; else `leeward.client`.
    """
    return ProviderCall(client or api.client, provider, model, operation, properties)


class ProviderCall:
    """See `provider_call`. May be entered once."""

    __slots__ = (
        "_busy",
        "_client",
        "_error",
        "_first_token_ms",
        "_labels",
        "_name",
        "_provider",
        "_span",
        "_tokens",
        "properties",
    )

    def __init__(
        self, client: Client, provider: str, model: str, operation: str, properties: Mapping[str, Any] | None
    ) -> None:
        self._client = client
        self._name = f"{operation} {model}"
        self._provider = provider
        self._labels = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "provider": provider,  # the words of the native wire, which the server has columns for
            "model": model,
        }
        self.properties: dict[str, Any] = dict(properties or {})
        self._error: dict[str, Any] | None = None
        self._first_token_ms: float | None = None
        self._tokens: dict[str, int] = {}
        self._span: OpenSpan | None = None
        self._busy: Moment | None = None

    def usage(self, *, input_tokens: int | None = None, output_tokens: int | None = None) -> None:
        """What the provider counted; the last word counts, for streams that count up."""
        for kind, count in (("input", input_tokens), ("output", output_tokens)):
            if type(count) is int and count >= 0:
                self._tokens[kind] = count

    def first_token(self) -> None:
        """The first part of a streaming answer is here. Every later call does nothing, so call it for each part."""
        if self._first_token_ms is None and self._span is not None:
            self._first_token_ms = self._span.elapsed_ms()
            self._busy = self._client.busy()
            self._busy.__enter__()

    def failed(self, error: str | int) -> None:
        """The provider said no without an exception: an HTTP status such as 429, or a word for what went wrong."""
        self._error = {
            "type": str(error),
            "message": "",
            "stack": "",
            "handled": True,
            "category": "authentication" if error in NOT_ALLOWED else "provider",
            "exceptions": [],
        }
        if type(error) is int:
            self._error["status"] = error
            self.properties["http.response.status_code"] = error

    def set(self, key: str, value: Any) -> None:
        """Add a property of the span, as "gen_ai.response.model"."""
        self.properties[key] = value

    def __enter__(self) -> Self:
        try:
            self._span = OpenSpan(self._client)
            self._span.sample(self._name, self.properties)
        except Exception as error:
            # Boundary: whatever fails in here, the call is made.
            self._client._swallow(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._span is not None:
                self._end(self._span, error)
        except Exception as own:
            # Boundary: as in `__enter__`.
            self._client._swallow(own)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _end(self, span: OpenSpan, error: BaseException | None) -> None:
        duration_ms = span.elapsed_ms()
        try:
            labels = self._judged(error)
            span.record(
                self._name,
                self._described(labels, duration_ms),
                duration_ms=duration_ms,
                failed="error.type" in labels,
                error=self._error,
            )
            self._measure(span, labels, duration_ms)
        finally:
            span.leave()
            if self._busy is not None:
                self._busy.__exit__(None, None, None)

    def _judged(self, error: BaseException | None) -> dict[str, Any]:
        """The labels of span and metrics, with the type of what went wrong, if anything did."""
        labels = dict(self._labels)
        if isinstance(error, Exception):
            self._error = self._client._described(error)
            labels["error.type"] = type_name(error)
        elif error is not None:  # the program, or its task, is being ended: no error of the provider's
            self.properties["interrupted"] = True
        elif self._error:
            labels["error.type"] = self._error["type"]
        if self._error:
            self._error["provider"] = self._provider
        return labels

    def _described(self, labels: dict[str, Any], duration_ms: float) -> dict[str, Any]:
        described = {"span.kind": "client", **labels, "latency_ms": duration_ms}
        if self._first_token_ms is not None:
            described["time_to_first_token_ms"] = self._first_token_ms
        for kind, count in self._tokens.items():
            described[f"gen_ai.usage.{kind}_tokens"] = described[f"{kind}_tokens"] = count
        return {**described, **self.properties}

    def _measure(self, span: OpenSpan, labels: dict[str, Any], duration_ms: float) -> None:
        self._metric(span, DURATION, duration_ms / 1000, "s", labels)
        if self._first_token_ms is not None:
            self._metric(span, FIRST_PART, self._first_token_ms / 1000, "s", labels)
        for kind, count in self._tokens.items():
            self._metric(span, TOKENS, count, "{token}", {**labels, "gen_ai.token.type": kind})

    def _metric(self, span: OpenSpan, name: str, value: float, unit: str, labels: dict[str, Any]) -> None:
        fields = {"value": value, "unit": unit, "sampled": span.sampled}
        self._client._record("metric", name, labels, fields, {})
