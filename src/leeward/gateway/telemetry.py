"""Requests as telemetry: one span for the request and one below it for each call, with the attributes of OpenTelemetry's
GenAI conventions. Never what was asked or answered.

The hot path pays for a place in a list. A batch is encoded at once, in the native wire's form, when `BATCH_COUNT` spans
wait or the first of them is `BATCH_AGE_S` old; everything in it comes from the configuration or is a number, so that no
bounds and no scrubber are needed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from leeward.wire.native_encode import EVENT, uuid7

if TYPE_CHECKING:
    from leeward.gateway.records import AttemptRecord, RequestRecord
    from leeward.sender.client import Client
    from leeward.sender.pipeline import Pipeline

__all__ = ["Telemetry", "spans_of", "to_client"]

BATCH_COUNT: Final = 200
BATCH_AGE_S: Final = 1.0
WAITING_MAX: Final = 20_000  # requests; more than that, and whoever should take them is in trouble
_ENCODE = msgspec.json.Encoder().encode
_GOOD: Final = frozenset({"ok", "degraded"})
_OPERATIONS: Final = {"chat": "chat", "embeddings": "embeddings"}


class Span(msgspec.Struct, omit_defaults=True):
    """One span, in the native wire's names."""

    event_type: str
    id: str
    timestamp: int  # of its end, as of all of the client's spans
    trace_id: str
    span_id: str
    duration_ms: float
    status: str
    data: dict[str, Any]
    kind: str = ""
    parent_span_id: str = ""
    provider: str = ""
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    correlation_id: str = ""
    service: str = ""


class Telemetry:
    """An observer that makes spans. `give` takes a batch: pairs of project and span; it must not raise."""

    def __init__(self, give: Callable[[Sequence[tuple[int, Span]]], None]) -> None:
        self._give = give
        self._waiting: list[RequestRecord] = []
        self._timer: asyncio.TimerHandle | None = None
        self.lost = 0  # requests without a place

    def attempted(self, request: RequestRecord, attempt: AttemptRecord, why: str) -> None:
        """Nothing: its request will tell."""

    def ended(self, request: RequestRecord) -> None:
        """A request has ended."""
        if len(self._waiting) >= WAITING_MAX:
            self.lost += 1
            return
        self._waiting.append(request)
        if len(self._waiting) >= BATCH_COUNT:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_AGE_S, self.flush)

    def changed(self, provider: str, model: str, what: str, state: str, why: str) -> None:
        """Nothing: metrics and log tell."""

    def flush(self) -> None:
        """Hand over what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._give([(request.caller.project, span) for request in waiting for span in spans_of(request)])


def spans_of(request: RequestRecord) -> list[Span]:
    """A request's span, then those of its calls."""
    caller = request.caller
    random = os.urandom(8 * (len(request.attempts) + 1) + 16)
    trace_id = caller.trace_id or random[-16:].hex()
    parent_id = random[:8].hex()
    operation = _OPERATIONS[request.operation]
    ended_ms = request.started_ms + int(request.duration_s * 1000)
    data: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": request.route,
        "leeward.outcome": request.outcome,
        "leeward.attempts": len(request.attempts),
        "leeward.stream": request.stream,
    }
    if request.degraded:
        data["leeward.degraded"] = request.degraded
    if request.code:
        data["error.type"] = request.code
    if request.first_token_s is not None:
        data["gen_ai.client.operation.time_to_first_chunk"] = round(request.first_token_s, 6)
    if request.cost is not None:
        data["leeward.cost_usd"] = request.cost
    if caller.key_id:
        data["leeward.key_id"] = caller.key_id
    spans = [
        Span(
            event_type=f"gateway {operation}",
            id=uuid7(ended_ms, os.urandom(10)),
            kind="span",
            timestamp=ended_ms,
            trace_id=trace_id,
            span_id=parent_id,
            parent_span_id=caller.parent_span_id,
            duration_ms=round(request.duration_s * 1000, 3),
            status="ok" if request.outcome in _GOOD else "error",
            provider=request.provider,
            model=request.route,
            correlation_id=caller.request_id,
            service="leeward-gateway",
            data=data,
        )
    ]
    for number, attempt in enumerate(request.attempts):
        span_id = random[8 * (number + 1) : 8 * (number + 2)].hex()
        spans.append(_attempt_span(request, attempt, number, trace_id, parent_id, span_id))
    return spans


def _attempt_span(
    request: RequestRecord, attempt: AttemptRecord, number: int, trace_id: str, parent_id: str, span_id: str
) -> Span:
    operation = _OPERATIONS[request.operation]
    ended_ms = attempt.started_ms + int(attempt.duration_s * 1000)
    usage = attempt.usage
    data: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": attempt.provider,
        "gen_ai.request.model": attempt.model,
        "leeward.outcome": attempt.outcome,
        "leeward.attempt": number + 1,
    }
    if attempt.finish:
        data["gen_ai.response.finish_reasons"] = [attempt.finish[:64]]
    if usage is not None:
        data["gen_ai.usage.input_tokens"] = usage.input_tokens
        data["gen_ai.usage.output_tokens"] = usage.output_tokens
    if attempt.status:
        data["http.response.status_code"] = attempt.status
    if attempt.outcome != "ok":
        data["error.type"] = attempt.detail[:64] or attempt.outcome
    if attempt.first_token_s is not None:
        data["gen_ai.client.operation.time_to_first_chunk"] = round(attempt.first_token_s, 6)
    if attempt.cost is not None:
        data["leeward.cost_usd"] = attempt.cost
    return Span(
        event_type=f"{operation} {attempt.model}",
        id=uuid7(ended_ms, os.urandom(10)),
        kind="span",
        timestamp=ended_ms,
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent_id,
        duration_ms=round(attempt.duration_s * 1000, 3),
        status="ok" if attempt.outcome == "ok" else "error",
        provider=attempt.provider,
        model=attempt.model,
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        correlation_id=request.caller.request_id,
        service="leeward-gateway",
        data=data,
    )


def to_client(client: Client) -> Callable[[Sequence[tuple[int, Span]]], None]:
    """Give spans to a telemetry client, in whatever wire it speaks. One that is off takes none."""

    def give(batch: Sequence[tuple[int, Span]]) -> None:
        try:
            pipeline = client._begin()  # noqa: SLF001 - bytes that are ready need none of what `capture` does
            if pipeline is None:
                return
            keep = pipeline.keep if pipeline.config.wire == "native" else None
            for _, span in batch:
                if keep is not None:
                    keep(EVENT, _ENCODE(span))
                else:
                    _record(pipeline, span)
        except Exception as error:  # boundary: as of every call of the client
            client._swallow(error)  # noqa: SLF001 - see above

    return give


def _record(pipeline: Pipeline, span: Span) -> None:
    """In another wire than our own, by the long way."""
    pipeline.record(
        "span",
        span.event_type,
        {**span.data, "provider": span.provider, "model": span.model},
        uuid=span.id,
        correlation_id=span.correlation_id,
        sampled=True,
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        duration_ms=span.duration_ms,
        status=span.status,
    )
