"""An answer pushed out piece by piece: what arrives from a provider is written in the same turn of the loop.

ASGI's `send` is a coroutine, but uvicorn's only waits while the connection's buffer is full. So it is run to its end on
the spot, and while the buffer is full pieces are kept here instead. A reader that takes nothing for `reader_timeout_s`
loses its connection: what is kept for it must not wait for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leeward.server.http import Headers, Request
    from leeward.server.protocol import LimitedProtocol

__all__ = ["PushSink"]


class PushSink:
    """One streamed answer. Its head goes out with its first data, in one segment."""

    def __init__(self, request: Request, further: Headers, *, reader_timeout_s: float) -> None:
        self.on_room: Callable[[], None] = _nothing
        self.status = 0
        self._send = request.send
        self._connection: LimitedProtocol = request.scope["leeward.connection"]
        self._further = further
        self._reader_timeout_s = reader_timeout_s
        self._reader_timer: asyncio.TimerHandle | None = None
        self._kept: list[bytes] = []
        self._start: dict[str, Any] | None = None  # the head, until it goes out with the first data
        self._ended = False
        self._all_written: asyncio.Future[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether the head is on its way: an error can only be told within the answer now."""
        return self.status != 0

    def head(self, status: int, headers: Headers) -> None:
        """Begin."""
        self.status = status
        self._start = {"type": "http.response.start", "status": status, "headers": [*headers, *self._further]}

    def data(self, data: bytes) -> bool:
        """Write, or keep while the buffer is full."""
        if self._kept or not self._has_room():
            self._keep(data)
            return False
        if data:
            self._push({"type": "http.response.body", "body": data, "more_body": True})
        if self._has_room():
            return True
        self._keep(b"")  # this very piece filled it: ask to be told when there is room
        return False

    def end(self) -> None:
        """End the answer, once all of it is written."""
        self._ended = True
        if not self._kept:
            if self._connection.flow.write_paused:
                self._keep(b"")
            else:
                self._push({"type": "http.response.body", "body": b"", "more_body": False})

    def close(self) -> None:
        """Whatever happened: nothing is called any more."""
        self._stop_timer()
        self._connection.on_room = None

    async def flushed(self) -> None:
        """Return when everything has been written. Who has left cancels the task that waits here."""
        if self._kept:
            self._all_written = asyncio.get_running_loop().create_future()
            await self._all_written

    def _has_room(self) -> bool:
        return not self._connection.flow.write_paused

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        if self._reader_timer is None:
            self._connection.on_room = self._room
            loop = asyncio.get_running_loop()
            self._reader_timer = loop.call_later(self._reader_timeout_s, self._connection.transport.abort)

    def _room(self) -> None:
        """The reader has taken what was written."""
        self._stop_timer()
        kept, self._kept = b"".join(self._kept), []
        if kept:
            self._push({"type": "http.response.body", "body": kept, "more_body": True})
        if self._ended:
            self.end()
            if not self._kept and self._all_written is not None and not self._all_written.done():
                self._all_written.set_result(None)
        elif not self._connection.flow.write_paused:
            self.on_room()

    def _stop_timer(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _push(self, message: dict[str, Any]) -> None:
        if self._start is not None:
            start, self._start = self._start, None
            self._send_now(start)
        self._send_now(message)

    def _send_now(self, message: dict[str, Any]) -> None:
        sending = self._send(message)
        try:
            sending.send(None)  # type: ignore[attr-defined]  # a coroutine, as every server's
        except StopIteration:
            return
        raise AssertionError("the connection was full, though it said that it was not")


def _nothing() -> None:
    """There is nobody to tell."""
