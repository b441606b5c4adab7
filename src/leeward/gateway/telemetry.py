"""Requests as telemetry: one span for the request and one below it for each call, with the attributes of OpenTelemetry's
GenAI conventions. Never what was asked or answered, and no word of a provider's but its reason to finish, from a set.

The hot path pays for a place in a list. Spans are made and handed over together: in a server when `BATCH_COUNT` requests
wait or the first of them is `BATCH_AGE_S` old; in a program at the end of the same turn of the loop, so that what the
caller has got is with its client. Everything in them comes from the configuration, is a number, or was bounded by the
HTTP layer, so no bounds and no scrubber are needed.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from leeward.sender.context import CURRENT
from leeward.wire.native_encode import EVENT, uuid7

if TYPE_CHECKING:
    from leeward.gateway.records import AttemptRecord, RequestRecord
    from leeward.sender.client import Client
    from leeward.sender.context import Context
    from leeward.sender.pipeline import Pipeline

__all__ = ["About", "Span", "Telemetry", "spans_of", "to_client"]

BATCH_COUNT: Final = 32  # requests; as spans they hold the loop for less than half a millisecond
BATCH_AGE_S: Final = 1.0
WAITING_MAX: Final = 20_000  # requests; more than that, and whoever should take them is in trouble
NAME_CHARS_MAX: Final = 200
SERVICE: Final = "leeward-gateway"
_ENCODE = msgspec.json.Encoder().encode
_GOOD: Final = frozenset({"ok", "degraded"})
_FINISHES: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
OTHER_FINISH: Final = "other"


class About(msgspec.Struct, omit_defaults=True):
    """What is particular about a span of ours, under the names of the conventions."""

    operation: str = msgspec.field(name="gen_ai.operation.name")
    model: str = msgspec.field(name="gen_ai.request.model")
    outcome: str = msgspec.field(name="leeward.outcome")
    provider: str = msgspec.field(default="", name="gen_ai.provider.name")
    attempts: int = msgspec.field(default=0, name="leeward.attempts")  # of a request: how many
    attempt: int = msgspec.field(default=0, name="leeward.attempt")  # of a call: which
    stream: bool | None = msgspec.field(default=None, name="leeward.stream")
    degraded: str = msgspec.field(default="", name="leeward.degraded")
    error: str = msgspec.field(default="", name="error.type")
    status: int = msgspec.field(default=0, name="http.response.status_code")
    finish: tuple[str, ...] = msgspec.field(default=(), name="gen_ai.response.finish_reasons")
    input_tokens: int | None = msgspec.field(default=None, name="gen_ai.usage.input_tokens")
    output_tokens: int | None = msgspec.field(default=None, name="gen_ai.usage.output_tokens")
    first_s: float | None = msgspec.field(default=None, name="gen_ai.client.operation.time_to_first_chunk")
    cost: float | None = msgspec.field(default=None, name="leeward.cost_usd")
    key_id: str = msgspec.field(default="", name="leeward.key_id")
    origin: str = msgspec.field(default="", name="leeward.origin")


class Span(msgspec.Struct, omit_defaults=True):
    """One span, in the native wire's names. Times are milliseconds; `timestamp` is its beginning, since 1970."""

    event_type: str
    id: str
    timestamp: int
    trace_id: str
    span_id: str
    duration_ms: float
    status: str
    data: About
    kind: str = ""
    parent_span_id: str = ""
    provider: str = ""
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    correlation_id: str = ""
    distinct_id: str = ""
    session_id: str = ""
    device_id: str = ""
    service: str = ""


Give = Callable[[Sequence[tuple[int, Span]]], None]


class Telemetry:
    """An observer that makes spans. `give` takes a batch, pairs of project and span; it returns soon and never raises.

    Args:
        give: where they go.
        age_s: how long the first waits for company; 0: to the end of this turn of the loop.
    """

    def __init__(self, give: Give, *, age_s: float = BATCH_AGE_S) -> None:
        self._give = give
        self._age_s = age_s
        self._waiting: list[tuple[RequestRecord, Context]] = []
        self._timer: asyncio.Handle | None = None
        self.lost = 0  # spans without a place

    def attempted(self, request: RequestRecord, attempt: AttemptRecord, why: str) -> None:
        """Nothing: its request will tell."""

    def ended(self, request: RequestRecord) -> None:
        """A request has ended."""
        waiting = self._waiting
        if len(waiting) >= WAITING_MAX:
            self.lost += 1 + len(request.attempts)
            return
        waiting.append((request, CURRENT.get()))
        if len(waiting) == BATCH_COUNT:
            self.flush()
        elif self._timer is None:
            self._timer = self._later()

    def changed(self, provider: str, model: str, what: str, state: str, why: str) -> None:
        """Nothing: metrics and log tell."""

    def flush(self) -> None:
        """Hand over what waits."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._give([(one.caller.project, span) for one, context in waiting for span in spans_of(one, context)])

    def _later(self) -> asyncio.Handle:
        loop = asyncio.get_running_loop()
        nobody = contextvars.Context()  # else all that wait would be taken for the first one's
        if self._age_s:
            return loop.call_later(self._age_s, self.flush, context=nobody)
        return loop.call_soon(self.flush, context=nobody)


def spans_of(request: RequestRecord, context: Context | None = None) -> list[Span]:
    """A request's span, then those of its calls. `context`: the caller's in this process, if it has one."""
    caller = request.caller
    attempts = request.attempts
    random = os.urandom(16 + 18 * (len(attempts) + 1))
    trace_id, above_id, who, session = caller.trace_id, caller.parent_span_id, "", ""
    if context is not None:
        who, session = context.distinct_id, context.session_id
        if not trace_id:
            trace_id, above_id = context.trace_id, context.span_id
    trace_id = trace_id or random[:16].hex()
    parent_id = random[16:24].hex()
    cost = request.cost
    first_s = request.first_token_s
    parent = Span(
        f"gateway {request.operation}",
        uuid7(request.started_ms, random[24:34]),
        request.started_ms,
        trace_id,
        parent_id,
        round(request.duration_s * 1000, 3),
        "ok" if request.outcome in _GOOD else "error",
        About(
            request.operation,
            request.route,
            request.outcome,
            "",
            len(attempts),
            0,
            request.stream,
            request.degraded,
            request.code,
            first_s=None if first_s is None else round(first_s, 6),
            cost=cost,
            key_id=caller.key_id,
        ),
        "span",
        above_id,
        request.provider,
        request.route,
        None,
        None,
        caller.request_id,
        who,
        session,
        "",
        SERVICE,
    )
    spans = [parent]
    place = 34
    for number, attempt in enumerate(attempts, 1):
        spans.append(_of_call(request.operation, attempt, number, parent, random[place : place + 18]))
        place += 18
    return spans


def _of_call(operation: str, attempt: AttemptRecord, number: int, parent: Span, random: bytes) -> Span:
    usage = attempt.usage
    first_s, finish = attempt.first_token_s, attempt.finish
    is_good = attempt.outcome == "ok"
    tokens_in, tokens_out = (None, None) if usage is None else (usage.input_tokens, usage.output_tokens)
    return Span(
        f"{operation} {attempt.model}"[:NAME_CHARS_MAX],
        uuid7(attempt.started_ms, random[8:]),
        attempt.started_ms,
        parent.trace_id,
        random[:8].hex(),
        round(attempt.duration_s * 1000, 3),
        "ok" if is_good else "error",
        About(
            operation,
            attempt.model,
            attempt.outcome,
            attempt.provider,
            0,
            number,
            None,
            "",
            "" if is_good else attempt.detail or attempt.outcome,
            attempt.status,
            ((finish if finish in _FINISHES else OTHER_FINISH),) if finish else (),
            tokens_in,
            tokens_out,
            None if first_s is None else round(first_s, 6),
            attempt.cost,
        ),
        "span",
        parent.span_id,
        attempt.provider,
        attempt.model,
        tokens_in,
        tokens_out,
        parent.correlation_id,
        parent.distinct_id,
        parent.session_id,
        "",
        SERVICE,
    )


def to_client(client: Client) -> Give:
    """Give spans to a telemetry client, in whatever wire it speaks. One that is off takes none.

    A client's own rules hold: its sampling keeps or leaves a request as a whole, and `before_send` sees each span.
    """

    def give(batch: Sequence[tuple[int, Span]]) -> None:
        try:
            pipeline = client._begin()  # noqa: SLF001 - bytes that are ready need none of what `capture` does
            if pipeline is None:
                return
            config = pipeline.config
            if config.wire != "native" or config.before_send is not None or not _keeps_all(pipeline):
                for _, span in batch:
                    _record(pipeline, span)
                return
            device_id = pipeline.device_id()
            for _, span in batch:
                span.device_id = device_id
                pipeline.keep(EVENT, _ENCODE(span))
        except Exception as error:  # boundary: as of every call of the client
            client._swallow(error)  # noqa: SLF001 - see above

    return give


def _keeps_all(pipeline: Pipeline) -> bool:
    return pipeline.config.sample_rate == 1.0 and not pipeline.config.sample_rules


def _record(pipeline: Pipeline, span: Span) -> None:
    """In another wire than our own, or past the client's rules: by the long way."""
    properties: dict[str, Any] = msgspec.to_builtins(span.data)
    properties |= {"provider": span.provider, "model": span.model, "leeward.component": span.service}
    if span.input_tokens is not None:
        properties |= {"input_tokens": span.input_tokens, "output_tokens": span.output_tokens}
    if span.data.attempt:
        properties["span.kind"] = "client"
    pipeline.record(
        "span",
        span.event_type,
        properties,
        uuid=span.id,
        timestamp=span.timestamp,
        distinct_id=span.distinct_id,
        session_id=span.session_id,
        correlation_id=span.correlation_id,
        sampled=pipeline.samples(GATEWAY_SPAN, {}, span.distinct_id, span.trace_id),
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        duration_ms=span.duration_ms,
        status=span.status,
    )


GATEWAY_SPAN: Final = "gateway"  # the name that sampling rules may have for these spans
