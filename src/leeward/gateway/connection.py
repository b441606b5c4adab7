"""One connection to a provider: requests go out, llhttp takes the answers apart, one timer watches.

Promises  an answer is taken only if it can be read in one way: HTTP/1.0 or 1.1, one length, one answer, no upgrade, no
          folded header, nothing behind its end. Its head is bounded by `HEAD_BYTES_MAX`, its body by the exchange.
          A connection is handed back only after a whole answer to a wholly sent request.
          It has one timer at most, which is moved by noting a time: it is set anew when it fires, or to fire earlier.
Limits    bytes behind the end of an answer spoil it only if they come in one read with it; later they close the
          connection. A connection is closed without TLS's farewell, which would wait for the other side's.
Speed     this is the hot path. The parser's callbacks only note; all decisions fall once for each read.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from typing import TYPE_CHECKING, Final

import httptools

if TYPE_CHECKING:
    from typing import Protocol

    from leeward.clock import Clock
    from leeward.gateway.exchange import Exchange, Kind

    class Owner(Protocol):
        """Whoever keeps connections."""

        def made(self, connection: Connection) -> None:
            """It has a socket."""
            ...

        def free(self, connection: Connection) -> None:
            """It can take the next request."""
            ...

        def useless(self, connection: Connection) -> None:
            """It takes no more requests. Told once."""
            ...

        def gone(self, connection: Connection) -> None:
            """Its socket is closed. Told once, after `useless`."""
            ...


__all__ = ["HEAD_BYTES_MAX", "IDLE_S", "Connection"]

HEAD_BYTES_MAX: Final = 64 * 1024  # of status line and headers, of interim answers, of trailers
IDLE_S: Final = 30.0
JOIN_BYTES_MAX: Final = 64 * 1024  # a larger body is written on its own: another segment is cheaper than its copy

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"content-encoding"})


class Connection(asyncio.Protocol):
    """Lives on one event loop. `send` begins an exchange; the owner hears when the next may begin."""

    __slots__ = ("_clock", "_complete", "_content_by_s", "_due_s", "_exchange", "_head_by_s", "_head_bytes",
                 "_headers", "_interim", "_keep", "_limit_s", "_loop", "_owner", "_parser", "_paused", "_pieces",
                 "_problem", "_socket", "_speaks_http1", "_timer", "_timer_s", "_to_eof", "key", "over")  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, owner: Owner) -> None:
        self.key: object = None  # the owner's
        self.over = False  # it takes no more requests
        self._loop = loop
        self._clock = clock
        self._owner = owner
        self._socket: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._speaks_http1 = False
        self._exchange: Exchange | None = None
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf  # when it fires
        self._due_s = math.inf  # when it should

    # -- what the owner and the exchange call

    def send(self, exchange: Exchange, head: bytes, body: bytes, head_timeout_s: float) -> None:
        """Write a request. The answer, or why there is none, goes to `exchange`, whose waiter is woken."""
        self._exchange = exchange
        exchange.connection = self
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._problem: tuple[Kind, str] | None = None
        self._interim = self._complete = self._keep = self._to_eof = False
        self._head_bytes = 0
        self._content_by_s = math.inf
        self._limit_s = exchange.limit_s
        self._head_by_s = self._clock.monotonic_s() + head_timeout_s
        self._fire_by(min(self._head_by_s, self._limit_s))
        socket = self._socket
        if socket is None:
            self._fail("reset", "closed before the request was written")
        elif len(body) <= JOIN_BYTES_MAX:
            socket.write(head + body)
        else:
            socket.write(head)
            socket.write(body)

    def is_usable(self) -> bool:
        """Whether an idle connection may take a request: its socket has not begun to close."""
        return self._socket is not None and not self._socket.is_closing()

    def pause(self) -> None:
        """Read nothing more until `resume`; stalling is not measured."""
        if not self._paused and self._socket is not None and not self._socket.is_closing():
            self._paused = True
            self._socket.pause_reading()
            self.measure()

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            if self._socket is not None and not self._socket.is_closing():
                self._socket.resume_reading()
            self.measure()

    def set_content_by(self, at_s: float) -> None:
        """Fail at this moment, whatever has come."""
        self._content_by_s = at_s
        self.measure()

    def end_within(self, seconds: float) -> None:
        """Bring the deadline forward."""
        if self._exchange is not None:
            self._exchange.limit_s = min(self._exchange.limit_s, self._clock.monotonic_s() + seconds)
            self.measure()

    def measure(self) -> None:
        """Work out anew when the exchange has taken too long."""
        exchange = self._exchange
        if exchange is None:
            return
        self._limit_s = min(exchange.limit_s, self._content_by_s)
        if not exchange.status:
            self._fire_by(min(self._head_by_s, self._limit_s))
        elif self._paused:
            self._fire_by(self._limit_s)
        else:
            self._fire_by(min(self._clock.monotonic_s() + exchange.stall_s, self._limit_s))

    def abandon(self) -> None:
        """The caller wants no answer any more."""
        self._fail("reset", "cancelled")

    def close(self) -> None:
        """Take no more requests and close the socket at once."""
        if not self.over:
            self.over = True
            self._owner.useless(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._socket.abort()

    # -- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there, and TLS is agreed upon."""
        self._socket = transport  # type: ignore[assignment]  # create_connection gives nothing else
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        """One read: the parser notes what it holds, then it is decided what follows."""
        exchange, parser = self._exchange, self._parser
        if exchange is None or parser is None:
            self.close()  # nobody asked for anything
            return
        exchange.started = True
        had_head = exchange.status
        self._head_bytes += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._problem = ("protocol", "the answer switches protocols")
        except httptools.HttpParserError as error:
            self._problem = self._problem or ("protocol", str(error))
        pieces = self._pieces
        if pieces:
            self._pieces = []
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            exchange.bytes_left -= len(body)
            if exchange.bytes_left < 0:
                self._problem = self._problem or ("too_large", "the body is larger than allowed")
                body = b""
            self._head_bytes = 0  # counts what brings no body
        else:
            body = b""
            if self._head_bytes > HEAD_BYTES_MAX:
                self._problem = self._problem or ("too_large", "the head is larger than allowed")
        if self._complete and self._problem is None:
            self._detach(exchange, keep=self._keep)
        elif had_head:
            self._due_s = min(self._clock.monotonic_s() + exchange.stall_s, self._limit_s)
        elif exchange.status:
            self.measure()
        if body and not exchange.encoded:
            if exchange.on_data is None:
                exchange.pieces.append(body)
            else:
                exchange.on_data(body)
        if exchange.ended:
            exchange.end()
        elif self._problem is not None:
            self._fail(*self._problem)
        elif exchange.status and not had_head:
            exchange.wake()

    def eof_received(self) -> None:
        """The other side sends nothing more; the loop closes the socket."""
        exchange = self._exchange
        if exchange is None:
            self.close()
        elif self._to_eof:
            self._detach(exchange, keep=False)
            exchange.end()
        elif exchange.started:
            self._fail("truncated", "the connection was closed before the end of the answer")
        else:
            self._fail("reset", "the connection was closed without an answer")

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed, by whomever."""
        self._socket = None
        if self._exchange is None:
            self.close()
        else:
            self._fail(*_loss(exc))
        self._parser = None  # it refers back to us
        self._owner.gone(self)

    # -- what the parser calls

    def on_message_begin(self) -> None:
        """A first byte that may begin an answer."""
        if self._complete:
            self._problem = ("protocol", "there are bytes behind the end of the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; behind the head, a trailer, which is forgotten."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """A head is whole: an interim one, or the answer's."""
        parser, exchange = self._parser, self._exchange
        if parser is None or exchange is None or self._problem is not None:
            return
        headers, self._headers = self._headers, []
        status = parser.get_status_code()
        if 100 <= status < 200:
            self._interim = True
            if status == 101:
                self._problem = ("protocol", "the answer switches protocols")
            return
        if not self._speaks_http1:
            self._speaks_http1 = parser.get_http_version() in {"1.1", "1.0"}
        if not self._speaks_http1 or not 200 <= status < 600:
            self._problem = ("protocol", "the answer has another version or no status of HTTP/1")
            return
        self._to_eof = status not in {204, 304}
        for name, value in headers:
            if name in _FRAMING:
                self._frame(exchange, status, name, value.strip().lower())
        if self._head_bytes > HEAD_BYTES_MAX and sum(len(n) + len(v) for n, v in headers) > HEAD_BYTES_MAX:
            self._problem = ("too_large", "the head is larger than allowed")
        if self._problem is None:
            exchange.status, exchange.headers = status, headers

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self._complete and self._problem is None:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """The end of an interim answer, or of the answer."""
        if self._interim:
            self._interim = False
        elif self._parser is not None:
            self._complete = True
            self._keep = self._parser.should_keep_alive()  # asked later, llhttp has forgotten and says no

    # -- the rest

    def _frame(self, exchange: Exchange, status: int, name: bytes, value: bytes) -> None:
        """A header that says where the body ends, or what was done to it."""
        if name == b"content-length":
            self._to_eof = False
            if int(value) > exchange.bytes_left:  # llhttp has seen to it that it is a number
                self._problem = ("too_large", "the body is larger than allowed")
        elif name == b"transfer-encoding":
            self._to_eof = False
            if value != b"chunked":
                self._problem = ("protocol", "the answer has a transfer coding other than chunked")
        elif value not in {b"", b"identity"}:
            # Of a refusal the status is enough. An answer would have to be unpacked, and nobody asked for a packed one.
            exchange.encoded = True
            if status < 400:
                self._problem = ("protocol", "the answer is compressed, though that was not asked for")

    def _detach(self, exchange: Exchange, *, keep: bool) -> None:
        """The answer is whole."""
        exchange.ended = True
        exchange.connection = None
        self._exchange = None
        socket = self._socket
        if keep and socket is not None and not socket.is_closing() and not socket.get_write_buffer_size():
            if self._paused:
                self._paused = False
                socket.resume_reading()
            self._fire_by(self._clock.monotonic_s() + IDLE_S)
            self._owner.free(self)
        else:
            self.close()

    def _fail(self, kind: Kind, detail: str) -> None:
        exchange = self._exchange
        self._exchange = None
        self.close()
        if exchange is not None:
            exchange.kind, exchange.detail = kind, detail
            exchange.ended = True
            exchange.connection = None
            exchange.end()

    def _fire_by(self, due_s: float) -> None:
        self._due_s = due_s
        if due_s < self._timer_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_s = due_s
            self._timer = self._loop.call_later(max(0.0, due_s - self._clock.monotonic_s()), self._fired)

    def _fired(self) -> None:
        self._timer, self._timer_s = None, math.inf
        now_s = self._clock.monotonic_s()
        exchange = self._exchange
        if now_s < self._due_s:
            self._fire_by(self._due_s)
        elif exchange is None:
            self.close()
        elif now_s >= exchange.limit_s:
            self._fail("deadline", "the time for the whole request is over")
        elif not exchange.status:
            self._fail("head_timeout", "no answer began in time")
        elif now_s >= self._content_by_s:
            self._fail("head_timeout", "no content came in time")
        else:
            self._fail("stall", "the answer stopped")


def _loss(error: Exception | None) -> tuple[Kind, str]:
    """Why a connection that was in use is lost."""
    if isinstance(error, ssl.SSLError):
        return "tls", type(error).__name__
    return "reset", "the connection was lost" if error is None else type(error).__name__
