"""uvicorn's HTTP/1.1 protocol over llhttp, with the limits that it does not have itself.

Limits    A head of at most 64 KiB, and all of it within `head_timeout_s` of the connection or of its first byte; at
          most `connections_max` connections, beyond which a new one gets 503 and is closed.
Promises  Whatever cannot be parsed gets one 400 and the connection is closed. Nothing is parsed after that.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["LimitedProtocol", "limited_protocol"]

HEAD_BYTES_MAX: Final = 64 * 1024


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    head_timeout_s = 10.0
    connections_max = 4096

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count the time for the first head."""
        super().connection_made(transport)
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
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
                self._refuse(b"431 Request Header Fields Too Large", b"the head is too large")

    def on_message_begin(self) -> None:
        """A head begins."""
        if self._head_timer is None:
            self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._head_done()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._head_done()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._head_late)

    def _head_done(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        if self._head_bytes:
            self._refuse(b"408 Request Timeout", b"the head did not arrive in time")
        else:
            self.transport.close()

    def _refuse(self, status: bytes, why: bytes) -> None:
        self._head_done()
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, len(why), why)
            )
            self.transport.close()


def limited_protocol(*, head_timeout_s: float, connections_max: int) -> type[Any]:
    """The protocol with these limits, as uvicorn wants it."""
    return type("Protocol", (LimitedProtocol,), {"head_timeout_s": head_timeout_s, "connections_max": connections_max})
