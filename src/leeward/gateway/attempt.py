"""One call to one provider: bytes out, an outcome back. Knows how to ask and to read, not whom or how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from leeward.gateway.outcomes import NO_CONTENT, UNTRANSLATABLE, Outcome, of_status, of_transport
from leeward.gateway.stream import Stream
from leeward.gateway.transport import TransportError
from leeward.resilience.retry import parse_retry_after
from leeward.wire.chat import BadAnswer, EmptyAnswer, ProviderError, RequestInvalid, Usage

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.gateway.plan import Send
    from leeward.gateway.records import AttemptRecord
    from leeward.gateway.sinks import Headers, Sink
    from leeward.gateway.targets import Provider
    from leeward.gateway.transport import Endpoint, Exchange, Transport
    from leeward.wire.chat import ChatRequest

__all__ = ["Attempt"]

ERROR_BYTES_MAX: Final = 64 << 10
ERROR_READ_S: Final = 0.25
BYTES_PER_TOKEN: Final = 4  # of a prompt, on average
STREAM_TYPE: Final = b"text/event-stream"


class Attempt:
    """The calls of one request. `sink` takes a streamed answer; without one the answer is whole."""

    __slots__ = (
        "_clock",
        "_deadline_s",
        "_endpoint_of",
        "_idempotency_key",
        "_keep_bytes_max",
        "_limits",
        "_request",
        "_sink",
        "_transport",
        "stream",
    )

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        request: ChatRequest,
        *,
        idempotency_key: str,
        endpoint_of: Callable[[Provider], Endpoint],
        deadline_s: float,
        answer_bytes_max: int,
        retry_after_max_s: float,
        sink: Sink | None = None,
        keep_bytes_max: int = 0,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._request = request
        self._endpoint_of = endpoint_of
        self._idempotency_key = f"idempotency-key: {idempotency_key}\r\n".encode()  # of every repeat, too
        self._deadline_s = deadline_s
        self._limits = (answer_bytes_max, retry_after_max_s)
        self._sink = sink
        self._keep_bytes_max = keep_bytes_max
        self.stream: Stream | None = None  # of the last call

    async def call(self, send: Send, record: AttemptRecord, head: Callable[[], Headers]) -> Outcome:
        """Ask once. Never raises but when it is cancelled; the connection is closed then."""
        target = send.target
        provider = target.provider
        request = self._request
        streamed = request.stream and self._sink is not None
        try:
            body = provider.dialect.encode(
                request,
                target.model,
                add_usage=streamed and provider.kind.stream_usage,
                drop=provider.kind.drop,
                rename=provider.kind.rename,
            )
        except RequestInvalid as error:
            told = ProviderError(status=error.status, code=error.code, param=error.param)
            return Outcome(kind="refused", at_s=self._now(), status=error.status, detail=UNTRANSLATABLE, error=told)
        began_s = self._now()
        record.estimate = Usage(request.needs.prompt_bytes // BYTES_PER_TOKEN)
        try:
            exchange = await self._transport.begin(
                self._endpoint_of(provider),
                target.paths[request.operation],
                provider.headers + self._idempotency_key,
                body,
                connect_timeout_s=min(provider.connect_timeout_s, max(0.001, send.end_by_s - began_s)),
                head_timeout_s=max(0.001, send.first_by_s - began_s),
                stall_timeout_s=provider.stall_timeout_s,
                deadline_s=self._deadline_s if streamed else send.end_by_s,
                bytes_max=self._limits[0],
                repeatable=provider.repeatable,
            )
        except TransportError as error:
            return of_transport(error, self._now())
        record.status = exchange.status
        if not 200 <= exchange.status < 300:
            return await self._failed(exchange, send)
        if streamed:
            return await self._streamed(exchange, send, record, head, began_s)
        return await self._whole(exchange, send, record, began_s)

    async def _whole(self, exchange: Exchange, send: Send, record: AttemptRecord, began_s: float) -> Outcome:
        dialect = send.target.provider.dialect
        try:
            body = await exchange.read()
            answer = dialect.read_answer(body, self._request.operation, self._request)
        except TransportError as error:
            return of_transport(error, self._now(), status=exchange.status)
        except BadAnswer as error:
            told = ProviderError(message=str(error))
            detail = NO_CONTENT if isinstance(error, EmptyAnswer) else "no_answer"
            return Outcome(kind="bad_answer", at_s=self._now(), status=exchange.status, detail=detail, error=told)
        finally:
            exchange.cancel()  # only what has not ended
        record.usage, record.finish = answer.usage, answer.finish
        record.answered_model, record.answer_id = answer.model, answer.id
        record.estimate = Usage(self._request.needs.prompt_bytes // BYTES_PER_TOKEN, len(body) // BYTES_PER_TOKEN)
        now_s = self._now()
        return Outcome(kind="ok", at_s=now_s, answer=answer, status=exchange.status, first_s=now_s - began_s)

    async def _streamed(
        self,
        exchange: Exchange,
        send: Send,
        record: AttemptRecord,
        head: Callable[[], Headers],
        began_s: float,
    ) -> Outcome:
        assert self._sink is not None
        if not exchange.header(b"content-type").lower().startswith(STREAM_TYPE):
            exchange.cancel()
            return Outcome(kind="bad_answer", at_s=self._now(), status=exchange.status, detail="not_a_stream")
        reader = send.target.provider.dialect.reader(self._request, withhold_usage=not self._request.needs.stream_usage)
        stream = self.stream = Stream(
            exchange,
            reader,
            self._sink,
            head,
            clock_s=self._clock.monotonic_s,
            keep_bytes_max=self._keep_bytes_max,
            began_s=began_s,
        )
        try:
            stream.start(send.first_by_s)
            outcome = await stream.ended
        except BaseException:  # the caller is gone, or the fault is ours
            stream.abandon()
            raise
        finally:
            record.usage, record.finish = reader.usage, reader.finish
            record.estimate = Usage(self._request.needs.prompt_bytes // BYTES_PER_TOKEN, reader.events)
            record.answered_model, record.answer_id = reader.model, reader.id
            if stream.first_content_s is not None:
                record.first_token_s = stream.first_content_s - began_s
        return outcome

    async def _failed(self, exchange: Exchange, send: Send) -> Outcome:
        """Read what the provider has to say for itself; the status alone decides when it says nothing readable."""
        exchange.hurry(ERROR_READ_S, ERROR_BYTES_MAX)  # the status says enough: another provider is waiting
        body = b""
        try:
            body = await exchange.read()
        except TransportError:
            pass  # what else it would have said is not worth a failure of its own
        finally:
            exchange.cancel()
        error = send.target.provider.dialect.read_error(exchange.status, body)
        retry_after_s = parse_retry_after(
            _text(exchange.header(b"retry-after")),
            self._clock.wall_ms() / 1000,
            header_ms=_text(exchange.header(b"retry-after-ms")),
            max_s=self._limits[1],
        )
        return of_status(exchange.status, error, retry_after_s, self._now())

    def _now(self) -> float:
        return self._clock.monotonic_s()


def _text(header: bytes) -> str | None:
    return header.decode("latin-1") if header else None
