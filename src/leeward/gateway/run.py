"""Runs a plan: one request through its calls and waits, with a record of each. The only place where the two meet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from leeward.gateway.attempt import Attempt
from leeward.gateway.outcomes import Outcome
from leeward.gateway.plan import Send, Verdict, plan
from leeward.gateway.prices import cost
from leeward.gateway.records import AttemptRecord
from leeward.gateway.redact import redacted

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.gateway.circuits import Circuits
    from leeward.gateway.records import Degraded, Observer, RequestRecord
    from leeward.gateway.sinks import Headers, Sink
    from leeward.gateway.targets import Provider, Routes, Target
    from leeward.gateway.transport import Endpoint, Transport
    from leeward.resilience.budget import RetryBudget
    from leeward.wire.chat import ChatRequest

__all__ = ["Run", "answer_headers"]

CACHED_STREAM_BYTES_MAX = 256 << 10


class Run:
    """One request. `go` may be called again, with other targets or a reduced request: the deadline goes on."""

    __slots__ = (
        "_clock",
        "_endpoint_of",
        "_observer",
        "_random",
        "_transport",
        "deadline_s",
        "record",
        "routes",
        "sink",
        "stream_bytes",
    )

    def __init__(
        self,
        record: RequestRecord,
        routes: Routes,
        transport: Transport,
        *,
        clock: Clock,
        observer: Observer,
        random: Callable[[], float],
        deadline_s: float,
        endpoint_of: Callable[[Provider], Endpoint],
        sink: Sink | None = None,
    ) -> None:
        self._endpoint_of = endpoint_of
        self.record = record
        self.routes = routes  # the configuration that it began with, to its end
        self.deadline_s = deadline_s
        self.sink = sink
        self.stream_bytes = b""  # what a streamed answer consisted of, where it is wanted
        self._transport = transport
        self._clock = clock
        self._observer = observer
        self._random = random

    async def go(
        self,
        targets: Sequence[Target],
        request: ChatRequest,
        *,
        circuits: Circuits,
        budget: RetryBudget,
        keep: bool = False,
        degraded: Degraded = "",
    ) -> Verdict:
        """Ask until there is a verdict. A cancelled task closes the connection and frees the permit."""
        settings = self.routes.settings
        attempt = Attempt(
            self._transport,
            self._clock,
            request,
            idempotency_key=f"{_THIS_RUN}.{self.record.caller.request_id}.{len(self.record.attempts)}",
            endpoint_of=self._endpoint_of,
            deadline_s=self.deadline_s,
            answer_bytes_max=settings.answer_bytes_max,
            retry_after_max_s=settings.retry.retry_after_max_s,
            sink=self.sink,
            keep_bytes_max=CACHED_STREAM_BYTES_MAX if keep else 0,
        )
        steps = plan(
            targets,
            request,
            circuits,
            self.routes.retry,
            take_budget=budget.take,
            give_back=budget.give_back,
            random=self._random,
            now_s=self._clock.monotonic_s(),
            deadline_s=self.deadline_s,
        )
        told: Outcome | float | None = None
        try:
            while True:
                step = steps.send(told)  # type: ignore[arg-type]  # a generator is begun with None
                if isinstance(step, Send):
                    told = await self._call(attempt, step, request, circuits, degraded)
                else:
                    await asyncio.sleep(step.seconds)
                    told = self._clock.monotonic_s()
        except StopIteration as end:
            verdict: Verdict = end.value
        finally:
            steps.close()  # of one that is under way, the permit goes back
        if keep and verdict.kind == "ok" and attempt.stream is not None:
            self.stream_bytes = attempt.stream.kept
        return verdict

    async def _call(
        self, attempt: Attempt, send: Send, asked: ChatRequest, circuits: Circuits, degraded: Degraded
    ) -> Outcome:
        request = self.record
        target = send.target
        record = AttemptRecord(
            provider=target.provider.name, model=target.model, started_ms=self._clock.wall_ms(), repeat=send.repeat
        )
        request.attempts.append(record)
        began_s = self._clock.monotonic_s()
        record.offset_s = began_s + request.duration_s

        def head() -> Headers:
            circuits.heard(target, send.permit)
            return [_STREAM, _NO_CACHE, *answer_headers(target.provider.name, len(request.attempts), degraded)]

        try:
            outcome = await attempt.call(send, record, head)
        except BaseException:  # the caller is gone, or the fault is ours
            self._close(target, record, Outcome(kind="cancelled", at_s=self._clock.monotonic_s()), began_s, asked)
            raise
        self._close(target, record, outcome, began_s, asked)
        return outcome

    def _close(
        self, target: Target, record: AttemptRecord, outcome: Outcome, began_s: float, request: ChatRequest
    ) -> None:
        record.duration_s = outcome.at_s - began_s
        record.outcome = outcome.kind
        record.status = outcome.status or record.status
        record.detail = outcome.detail
        if outcome.never_left:
            record.estimate = None
        record.maybe_billed = not outcome.never_left and outcome.kind in _MAYBE_BILLED
        record.cost = cost(target.input_price, target.output_price, record.billed)
        why = ""
        if outcome.error is not None and outcome.error.message:
            why = redacted(outcome.error.message, request.fields.values(), key=target.provider.api_key)
        self._observer.attempted(self.record, record, why)


_MAYBE_BILLED = frozenset({"bad_answer", "timeout", "network", "cut", "cancelled"})
_THIS_RUN = os.urandom(12).hex()  # processes that share an account must never meet
_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
_NO_CACHE = (b"cache-control", b"no-cache")


def answer_headers(provider: str, attempts: int, degraded: Degraded = "") -> Headers:
    """What every answer of the gateway says of itself."""
    headers = [(b"x-leeward-provider", provider.encode() or b"none"), (b"x-leeward-attempts", b"%d" % attempts)]
    if degraded:
        headers.append((b"x-leeward-degraded", degraded.encode()))
    return headers
