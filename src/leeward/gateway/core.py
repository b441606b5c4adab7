"""What every request goes through: route → plan and calls → answer, or the steps that stand in for one, or an error.

The state of the providers (circuits, budget, kept answers) lives here and outlives a reload; what is configured
(`Routes`) is exchanged whole. Used by `Gateway` in process and by the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from leeward.gateway.cache import AnswerCache
from leeward.gateway.circuits import Circuits
from leeward.gateway.degrade import degraded_answer
from leeward.gateway.failures import GatewayError, ModelNotFound
from leeward.gateway.home import Homes
from leeward.gateway.records import OTHER_MODEL, Caller, RequestRecord
from leeward.gateway.run import Run, answer_headers
from leeward.gateway.targets import routes_of
from leeward.gateway.verdicts import OUTCOMES, error_of
from leeward.resilience.budget import RetryBudget
from leeward.wire.openai_errors import DONE, error_event, error_type
from leeward.wire.openai_whole import as_stream

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.gateway.circuits import ProviderStatus
    from leeward.gateway.degrade import Substitute
    from leeward.gateway.home import Home
    from leeward.gateway.plan import Verdict
    from leeward.gateway.records import Degraded, Observer, RequestOutcome
    from leeward.gateway.sinks import Headers, Sink
    from leeward.gateway.targets import Route, Target
    from leeward.settings.gateway import Gateway as Settings
    from leeward.wire.chat import ChatRequest, Usage

__all__ = ["Answered", "Core", "no_route"]


_NOTHING_MORE = {"index": 0, "delta": {}, "finish_reason": None}  # a list without choices breaks careless readers


class Answered(msgspec.Struct, frozen=True):
    """A whole answer: JSON, and what is said of it in headers."""

    body: bytes
    provider: str  # "none" when nobody answered
    attempts: int
    degraded: Degraded = ""
    age_s: float | None = None  # of an answer that was kept
    usage: Usage | None = None

    def headers(self) -> Headers:
        """What every answer says of itself."""
        return answer_headers(self.provider, self.attempts, self.degraded)


class Core:
    """One gateway's state. Belongs to event loops; see `Homes`."""

    def __init__(self, settings: Settings, *, observer: Observer, clock: Clock, random: Callable[[], float]) -> None:
        self.clock = clock
        self.random = random
        self.observer = observer
        self.homes = Homes(clock, random, on_change=self._chaos_changed)
        self.routes = routes_of(settings, self.homes.placeholders(settings))
        self.circuits = Circuits(settings, clock=clock, random=random, on_change=observer.changed)
        self.circuits.know(self.routes)
        self.budget = RetryBudget(settings.retry.budget)
        cache = settings.cache
        self.cache = AnswerCache(cache.ttl_s, cache.stale_s, cache.bytes_max)

    async def reload(self, settings: Settings) -> None:
        """Go over to another configuration. Running requests keep the one they began with.

        Raises:
            ConfigError: it cannot be used; the old one stays, whole.
        """
        routes_of(settings, self.homes.placeholders(settings))  # before anything is started for one that is refused
        addresses = await self.homes.addresses(settings)
        self.routes = routes_of(settings, addresses, self.routes)
        self.circuits.know(self.routes)
        self.budget.ratio = settings.retry.budget
        cache = settings.cache
        self.cache.ttl_s, self.cache.stale_s, self.cache.bytes_max = cache.ttl_s, cache.stale_s, cache.bytes_max
        await self.homes.know(settings)

    async def start(self) -> None:
        """Begin to serve on the running loop: simulated providers, looks at the health of idle ones."""
        await self.homes.here(self)

    async def respond(self, request: ChatRequest, caller: Caller) -> Answered:
        """Answer whole.

        Raises:
            GatewayError: there is no answer.
        """
        home = self.homes.running() or await self.homes.here(self)
        record, route = self._begin(request, caller)
        run = self._run(home, record, route)
        try:
            verdict = await self.ask(run, route.targets, request, keep=route.keeps_answers)
            answer = None if verdict.last is None else verdict.last.answer
            substitute = None
            if answer is None:
                substitute = await degraded_answer(self, run, route, request, caller, verdict)
        except BaseException as error:
            self._ended(record, _broken_off(error))
            raise
        if answer is not None:
            if route.keeps_answers:
                self._keep(caller, request, answer.body)
            self._end(record, verdict)
            return Answered(answer.body, record.provider, len(record.attempts), usage=answer.usage)
        if substitute is None or substitute.body is None:
            raise self._failure(record, verdict, caller)
        self._end(record, verdict, substitute)
        return Answered(
            substitute.body,
            substitute.provider,
            len(record.attempts),
            substitute.step,
            substitute.age_s,
            record.usage,
        )

    async def respond_stream(self, request: ChatRequest, caller: Caller, sink: Sink) -> RequestRecord:
        """Answer in pieces. An error after the first piece is told in the stream, one before it is raised.

        Raises:
            GatewayError: there is no answer; nothing was sent.
        """
        home = self.homes.running() or await self.homes.here(self)
        record, route = self._begin(request, caller)
        run = self._run(home, record, route, sink)
        try:
            verdict = await self.ask(run, route.targets, request, keep=route.keeps_answers)
            substitute = None
            if verdict.kind != "ok":
                substitute = await degraded_answer(self, run, route, request, caller, verdict)
        except BaseException as error:
            self._ended(record, _broken_off(error))
            raise
        if verdict.kind == "ok":
            if run.stream_bytes:
                self._keep(caller, request, run.stream_bytes)
            self._end(record, verdict)
            sink.data(DONE)
            sink.end()
        elif verdict.kind == "cut":
            self._cut(record, verdict, caller, sink)
        elif substitute is None:
            raise self._failure(record, verdict, caller)
        elif substitute.verdict is not None and substitute.verdict.kind == "cut":
            self._cut(record, substitute.verdict, caller, sink)
        else:
            self._end(record, verdict, substitute)
            _send_substitute(substitute, len(record.attempts), sink, with_usage=request.needs.stream_usage)
        return record

    def providers(self) -> list[ProviderStatus]:
        """How each provider is."""
        return self.circuits.status(self.routes)

    async def close(self) -> None:
        """Close the connections of the running loop."""
        await self.homes.close()

    # inside

    def _chaos_changed(self, provider: str, model: str, what: str, fields: dict[str, Any]) -> None:
        self.observer.changed(provider, model, what, str(fields.get("fault") or "over"), "switched by hand")

    def _begin(self, request: ChatRequest, caller: Caller) -> tuple[RequestRecord, Route]:
        route = self.routes.by_model.get(request.model)
        record = RequestRecord(
            caller=caller,
            operation=request.operation,
            route=OTHER_MODEL if route is None else route.model,
            stream=request.stream,
            started_ms=self.clock.wall_ms(),
            attempts=[],
        )
        record.duration_s = -self.clock.monotonic_s()  # completed at the end
        if route is None or not route.targets:
            failure = no_route(request.model, tuple(self.routes.by_model), caller.request_id)
            record.code = failure.code
            self._ended(record, "refused")
            raise failure
        self.budget.request()
        return record, route

    def _run(self, home: Home, record: RequestRecord, route: Route, sink: Sink | None = None) -> Run:
        return Run(
            record,
            self.routes,
            home.transport,
            clock=self.clock,
            observer=self.observer,
            random=self.random,
            deadline_s=self.clock.monotonic_s() + route.deadline_s,
            endpoint_of=self.homes.endpoint_of,
            sink=sink,
        )

    async def ask(
        self,
        run: Run,
        targets: tuple[Target, ...],
        request: ChatRequest,
        *,
        keep: bool = False,
        degraded: Degraded = "",
    ) -> Verdict:
        """Plan and call; for the first try and for the steps that stand in for it."""
        return await run.go(
            targets,
            request,
            circuits=self.circuits,
            budget=self.budget,
            keep=keep,
            degraded=degraded,
        )

    def _keep(self, caller: Caller, request: ChatRequest, body: bytes) -> None:
        self.cache.put(self.cache.key(caller.tenant, request), body, self.clock.monotonic_s())

    def _failure(self, record: RequestRecord, verdict: Verdict, caller: Caller) -> GatewayError:
        error = error_of(
            verdict,
            request_id=caller.request_id,
            attempts=len(record.attempts),
            language=caller.language or self.routes.settings.language,
        )
        record.code = error.code
        self._ended(record, OUTCOMES[verdict.kind])
        return error

    def _cut(self, record: RequestRecord, verdict: Verdict, caller: Caller, sink: Sink) -> None:
        """Say that the answer is not whole; never the end that a whole one has."""
        error = self._failure(record, verdict, caller)
        sink.data(
            error_event(error.message, type=error_type(error.status), code=error.code, request_id=caller.request_id)
        )
        sink.end()

    def _end(self, record: RequestRecord, verdict: Verdict, substitute: Substitute | None = None) -> None:
        if record.attempts:
            last = record.attempts[-1]
            if last.outcome == "ok":
                record.provider, record.usage = last.provider, last.usage
                if last.first_token_s is not None:  # from the request's beginning, with all that failed before
                    record.first_token_s = last.offset_s + last.first_token_s
        if substitute is None:
            self._ended(record, OUTCOMES[verdict.kind])
        else:
            record.degraded = substitute.step
            record.provider = substitute.provider
            self._ended(record, "degraded")

    def _ended(self, record: RequestRecord, outcome: RequestOutcome) -> None:
        record.outcome = outcome
        record.duration_s += self.clock.monotonic_s()
        self.observer.ended(record)


def _send_substitute(substitute: Substitute, attempts: int, sink: Sink, *, with_usage: bool) -> None:
    """A kept or static answer as a stream; of one that streamed by itself, only its end is missing."""
    note = {"x_leeward": substitute.note(attempts)}
    if substitute.body is not None:
        sink.head(
            200,
            [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                *answer_headers(substitute.provider, attempts, substitute.step),
            ],
        )
        sink.data(as_stream(substitute.body, with_usage=with_usage))
    else:
        sink.data(
            b"data: "
            + msgspec.json.encode({"object": "chat.completion.chunk", "choices": [_NOTHING_MORE], **note})
            + b"\n\n"
        )
    sink.data(DONE)
    sink.end()


def _broken_off(error: BaseException) -> RequestOutcome:
    """The caller is gone, or there is a fault of our own: whoever counts requests hears of both."""
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"


def no_route(model: str, known: tuple[str, ...], request_id: str) -> ModelNotFound:
    """The refusal of a model that nobody has, with the nearest that somebody has."""
    import difflib  # noqa: PLC0415 - only for mistakes

    shown = model[:100]
    if not known:
        message = "This gateway has no providers yet. Add one: [[gateway.providers]] in leeward.toml."
    else:
        near = difflib.get_close_matches(shown, known, 1, 0.6)
        some = ", ".join(sorted(known)[:20])
        message = f'No route for model "{shown}". Known here: {some}.' + (f" Closest: {near[0]}." if near else "")
    return ModelNotFound(message, param="model", request_id=request_id)
