"""uvicorn's HTTP/1.1 protocol over llhttp, with the limits that it does not have itself.

Limits    A head of at most 64 KiB, and all of it within `head_timeout_s` of the connection or of its first byte; the
          rest of a body whose answer was given early within `body_timeout_s` of that answer; at most `connections_max`
          connections, beyond which a new one gets 503 and is closed.
Promises  Whatever cannot be parsed, or could be read in two ways (two hosts, a transfer coding but `chunked`), gets one
          refusal and the connection is closed. Nothing is parsed after that. A refusal is never sent in the place of
          an earlier request's answer. Fields behind a body are not headers. While a connection owes us bytes and we
          owe it no answer, a timer runs that ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NoReturn

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["LimitedProtocol", "limited_protocol"]

HEAD_BYTES_MAX: Final = 64 * 1024
_FIELD_BYTES: Final = 4  # colon, space and line end

_FINAL_STATUS: Final = tuple(b"HTTP/1.1 %d" % hundreds for hundreds in (2, 3, 4, 5))  # not 100 Continue
_BAD_REQUEST: Final = b"400 Bad Request"
_HEAD_TOO_LARGE: Final = b"431 Request Header Fields Too Large"


class _Refused(Exception):
    """Ends the parser's work; the answer was given."""


class _HeadWithBody:
    """A transport that keeps an answer's head back until its body comes: one system call and one segment, not two.

    Everything that this server answers has a body, if an empty one.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        if self._head is not None:
            self._transport.write(self._head + data)
            self._head = None
        elif data.startswith(_FINAL_STATUS):
            self._head = data
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._head is not None:
            self._transport.write(self._head)
            self._head = None
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    head_timeout_s = 10.0
    body_timeout_s = 10.0  # of a body that nobody reads any more; one that is read has its reader's time-out
    reader_timeout_s = 30.0  # without a byte read of an answer that is written
    connections_max = 4096
    on_gone: Callable[[], object] | None = None  # of the request that runs: its client has left
    on_room: Callable[[], None] | None = None  # of the answer that is pushed: the buffer has room again

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count the time for the first head."""
        super().connection_made(transport)
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._drain_timer: asyncio.TimerHandle | None = None
        self._unread = 0  # bytes in the write buffer when they were looked at last
        self._in_message = False
        self._in_head = False
        self._fields_bytes = 0
        if len(self.connections) > self.connections_max:
            self._refuse(b"503 Service Unavailable", b"too many connections")
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Parse, and count what belongs to a head that is not whole yet."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(_HEAD_TOO_LARGE, b"the head is too large")
        elif self._is_untimed():
            # These bytes ended uvicorn's idle timer, but began no head: line ends between requests, or a body's last.
            self._await_head()

    def on_message_begin(self) -> None:
        """A head begins."""
        if self._head_timer is None:
            self._await_head()
        self._in_message = self._in_head = True
        self._fields_bytes = 0
        super().on_message_begin()
        self.scope["leeward.connection"] = self  # type: ignore[typeddict-unknown-key]

    def on_url(self, url: bytes) -> None:
        """A part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a field behind the body, which must not be taken for one: the head was judged by then."""
        if self._in_head:
            self._count(len(name) + len(value) + _FIELD_BYTES)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._head_done()
        self._check_head()
        super().on_headers_complete()
        if self.scope["method"] != "HEAD":
            self.cycle.transport = _HeadWithBody(self.transport)  # type: ignore[assignment]  # what a cycle uses of it

    def on_message_complete(self) -> None:
        """All of the request is there."""
        self._in_message = False
        self._body_done()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is sent; what is left of its request's body has its time from now."""
        super().on_response_complete()
        if self._drain_timer is None and self.transport.get_write_buffer_size():
            self._unread = self.transport.get_write_buffer_size()
            self._drain_timer = self.loop.call_later(self.reader_timeout_s, self._look_at_reader)
        if self._in_message and self.cycle.response_complete and not self.transport.is_closing():
            self._body_timer = self.loop.call_later(self.body_timeout_s, self.transport.close)

    def _look_at_reader(self) -> None:
        """What is written must get less: a client that reads nothing holds its answer in our memory."""
        self._drain_timer = None
        unread = self.transport.get_write_buffer_size()
        if unread >= self._unread > 0:
            self.transport.abort()
        elif unread:
            self._unread = unread
            self._drain_timer = self.loop.call_later(self.reader_timeout_s, self._look_at_reader)

    def send_400_response(self, msg: str) -> None:
        """The parser gave up."""
        self._refuse(_BAD_REQUEST, msg.encode())

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._head_done()
        self._body_done()
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        super().connection_lost(exc)
        if self.on_gone is not None:
            self.on_gone()
        self.on_gone = self.on_room = None

    def body_is_here(self) -> bool:
        """Whether the newest request has come whole; then so has every one before it."""
        return self.cycle is not None and not self.cycle.more_body

    def resume_writing(self) -> None:
        """The buffer has room again."""
        super().resume_writing()
        if self.on_room is not None:
            self.on_room()

    def _count(self, size: int) -> None:
        self._fields_bytes += size
        if self._fields_bytes > HEAD_BYTES_MAX:
            self._give_up(_HEAD_TOO_LARGE, b"the head is too large")

    def _check_head(self) -> None:
        """What llhttp lets pass although a proxy before us may have read it in another way."""
        version = self.parser.get_http_version()
        if version not in {"1.0", "1.1"}:
            self._give_up(b"505 HTTP Version Not Supported", b"only HTTP/1.0 and HTTP/1.1 are spoken here")
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            self._give_up(_BAD_REQUEST, b"one Host header is needed")
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (codings != [b"chunked"] or version == "1.0"):
            self._give_up(b"501 Not Implemented", b"the only transfer coding is chunked")

    def _give_up(self, status: bytes, why: bytes) -> NoReturn:
        self._refuse(status, why)
        raise _Refused

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._head_late)

    def _head_done(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _body_done(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _is_untimed(self) -> bool:
        """Whether the next byte is the client's to send, and nothing would end the wait for it."""
        return (
            not self.transport.is_closing()  # refused: there may never have been a request
            and self.cycle.response_complete
            and self._body_timer is None
            and self.timeout_keep_alive_task is None
        )

    def _head_late(self) -> None:
        self._head_timer = None
        if self._head_bytes:
            self._refuse(b"408 Request Timeout", b"the head did not arrive in time")
        else:
            self.transport.close()

    def _refuse(self, status: bytes, why: bytes) -> None:
        self._head_done()
        if self.transport.is_closing():
            return
        if not self._owes_an_answer():
            self.transport.write(
                b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, len(why), why)
            )
        self.transport.close()

    def _owes_an_answer(self) -> bool:
        """Whether a request that came whole before is still being worked on: ours would be taken for its answer."""
        if self.pipeline:
            return True
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body


def limited_protocol(*, head_timeout_s: float, connections_max: int, body_timeout_s: float = 10.0) -> type[Any]:
    """The protocol with these limits, as uvicorn wants it."""
    limits = {"head_timeout_s": head_timeout_s, "body_timeout_s": body_timeout_s, "connections_max": connections_max}
    return type("Protocol", (LimitedProtocol,), limits)
