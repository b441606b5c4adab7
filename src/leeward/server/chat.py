"""The gateway's doors for OpenAI's SDKs: chat completions, embeddings, models. Errors have the shape that they expect.

A client that leaves cancels its request, which closes the provider's connection. An answer that streams is pushed.
A request with an Idempotency-Key is made once; who repeats it gets the same answer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final

from leeward.errors import LeewardError, ProtocolError, RateLimited, RetryableError, Unavailable
from leeward.gateway.core import no_route
from leeward.gateway.failures import GatewayError
from leeward.gateway.idempotency import Replay, request_digest
from leeward.gateway.records import Caller
from leeward.gateway.run import answer_headers
from leeward.gateway.sentences import language_of, sentence
from leeward.sender.blocks import parse_traceparent
from leeward.server.http import BodyLimits, ClientGone, Lease, Response, failure, read_body
from leeward.server.push import PushSink
from leeward.wire.chat import RequestInvalid
from leeward.wire.openai import model_object, models_list
from leeward.wire.openai_errors import error_body, error_event, error_type
from leeward.wire.openai_requests import RequestLimits, decode_request

if TYPE_CHECKING:
    from leeward.gateway.core import Core
    from leeward.gateway.idempotency import Claim, Idempotency
    from leeward.gateway.sinks import Sink
    from leeward.server.access import Identity
    from leeward.server.http import ByteBudget, Headers, Request
    from leeward.server.spend import Spend
    from leeward.wire.chat import ChatRequest, Operation

__all__ = ["Chat", "refusal"]

JSON: Final = (b"content-type", b"application/json")
DO_NOT_REPEAT: Final = (b"x-should-retry", b"false")  # OpenAI's SDKs repeat 409 and 5xx of their own accord
REPEATED_HERE: Final = frozenset({502, 504})  # the gateway has made the repeats that were worth it
NOSNIFF: Final = (b"x-content-type-options", b"nosniff")


class Chat:
    """The handlers."""

    def __init__(
        self, core: Core, *, budget: ByteBudget, body_timeout_s: float, spend: Spend, idempotency: Idempotency
    ) -> None:
        self._core = core
        self._budget = budget
        self._body_timeout_s = body_timeout_s
        self._spend = spend
        self._idempotency = idempotency
        self._started_s = core.clock.wall_ms() // 1000

    async def completions(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        return await self._answer(request, "chat")

    async def embeddings(self, request: Request) -> Response:
        """POST /v1/embeddings."""
        return await self._answer(request, "embeddings")

    async def models(self, request: Request) -> Response:  # noqa: ARG002 - every handler is given its request
        """GET /v1/models: the names that callers may use."""
        return Response(200, models_list(tuple(self._core.routes.by_model), self._started_s), [JSON])

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{id}."""
        name = request.path_parameter
        if name not in self._core.routes.by_model:
            return _gateway_refusal(no_route(name, tuple(self._core.routes.by_model), request.request_id))
        return Response(200, model_object(name, self._started_s), [JSON])

    async def _answer(self, request: Request, operation: Operation) -> Response:
        identity = request.identity
        assert identity is not None
        settings = self._core.routes.settings
        size = settings.request_bytes_max
        with Lease(self._budget) as lease:
            body = await read_body(request, BodyLimits(size, size, self._body_timeout_s), lease)
            limits = RequestLimits(settings.choices_max, settings.output_tokens_max, size)
            asked = decode_request(body, operation, limits)
            work = self._served(request, asked, identity, body)
            return await _while_there(request, work)

    async def _served(self, request: Request, asked: ChatRequest, identity: Identity, body: bytes) -> Response:
        caller = _caller(request, identity, self._core.routes.settings.language)
        key = request.header(b"idempotency-key")
        try:
            if not key:
                return await self._asked(request, asked, identity, caller, None)
            held = await self._idempotency.claim(
                identity.key_id,
                key.decode("latin-1"),
                request_digest(request.path, body),
                wait_s=self._core.routes.settings.deadline_s,
            )
            if isinstance(held, Replay):
                return Response(held.status, held.body, list(held.headers))
            with held:
                return await self._asked(request, asked, identity, caller, held)
        except GatewayError as error:
            return _gateway_refusal(error)

    async def _asked(
        self, request: Request, asked: ChatRequest, identity: Identity, caller: Caller, held: Claim | None
    ) -> Response:
        self._spend.admit(identity.key_id, identity.quota)
        if asked.stream:
            return await self._streamed(request, asked, caller, held)
        answered = await self._core.respond(asked, caller)
        headers = [JSON, *answered.headers()]
        if held is not None:
            held.finish(200, headers, answered.body)
        return Response(200, answered.body, headers)

    async def _streamed(self, request: Request, asked: ChatRequest, caller: Caller, held: Claim | None) -> Response:
        further: Headers = [(b"x-request-id", request.request_id.encode()), NOSNIFF]
        push = PushSink(request, further, reader_timeout_s=self._core.routes.settings.stall_timeout_s)
        recording = None if held is None else held.recording(push)
        sink: Sink = push if recording is None else recording
        try:
            record = await self._core.respond_stream(asked, caller, sink)
            if recording is not None and record.outcome in {"ok", "degraded"}:
                recording.finish()
            await push.flushed()
        except asyncio.CancelledError:
            if not push.begun:
                raise
            push.data(_interrupted(caller))  # the server stops; a client that has left does not hear it
            push.end()
        finally:
            push.close()
        return Response(push.status, sent=True)


async def _while_there(request: Request, work: Awaitable[Response]) -> Response:
    """Wait for the answer as long as there is somebody to get it: a client that leaves cancels the task."""
    connection = request.scope["leeward.connection"]
    task = asyncio.current_task()
    assert task is not None
    connection.on_gone = task.cancel
    try:
        return await work
    except asyncio.CancelledError:
        if connection.transport.is_closing():
            raise ClientGone from None
        raise Unavailable("This server is stopping; please ask again.", code="shutting_down", retry_after_s=1) from None
    finally:
        connection.on_gone = None


def _caller(request: Request, identity: Identity, language: str) -> Caller:
    accept = request.header(b"accept-language")
    trace_id, parent_span_id = parse_traceparent(request.header(b"traceparent").decode("latin-1"))
    return Caller(
        request_id=request.request_id,
        tenant=f"{identity.project}",
        project=identity.project,
        key_id=identity.key_id,
        trace_id=trace_id,
        parent_span_id=parent_span_id,
        language=language_of(accept.decode("latin-1"), language) if accept else language,
    )


def _interrupted(caller: Caller) -> bytes:
    return error_event(
        sentence("stream_interrupted", caller.language),
        type=error_type(502),
        code="stream_interrupted",
        request_id=caller.request_id,
    )


def _gateway_refusal(error: GatewayError) -> Response:
    """An error of the gateway, in OpenAI's shape: their SDKs raise the exception that goes with its status."""
    headers: Headers = [JSON, *answer_headers("none", error.attempts)]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    if error.status in REPEATED_HERE:
        headers.append(DO_NOT_REPEAT)
    body = error_body(
        error.message, type=error_type(error.status), code=error.code, param=error.param, request_id=error.request_id
    )
    return Response(error.status, body, headers)


def refusal(request: Request, error: LeewardError) -> Response:
    """Any other error on these paths, in OpenAI's shape."""
    status, param = 503, ""
    headers: Headers = [JSON]
    if request.method == "POST":  # of those that ask providers; none was asked
        headers += answer_headers("none", 0)
    if error.code in {"spend_limit_reached", "rate_limit_exceeded"}:  # their SDKs would wait a minute, in silence
        headers.append(DO_NOT_REPEAT)
    if isinstance(error, ProtocolError):
        status = error.status
        param = error.param if isinstance(error, RequestInvalid) else ""
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        elif status == 405:
            headers.append((b"allow", ", ".join(error.details).encode()))
            error = ProtocolError(f"This address takes {' and '.join(error.details)}.", code=error.code, status=status)
        elif status == 409:
            headers.append(DO_NOT_REPEAT)
    elif isinstance(error, RetryableError):
        status = 429 if isinstance(error, RateLimited) else 503
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s or 1))))
    else:
        return refusal(request, failure())
    if error.code == "not_found":
        return _nothing_there(request)
    message = " ".join((error.message, *(error.details if isinstance(error, ProtocolError) else ())))
    return Response(
        status,
        error_body(message, type=error_type(status), code=error.code, param=param, request_id=request.request_id),
        headers,
    )


def _nothing_there(request: Request) -> Response:
    """An address that OpenAI has and this server has not, or one without its beginning."""
    said = (
        f"There is nothing at {request.path[:100]} here. An SDK of OpenAI is given an address that ends in /v1; chat "
        "completions, embeddings and models are below it."
    )
    body = error_body(said, type=error_type(404), code="not_found", request_id=request.request_id)
    return Response(404, body, [JSON])
