"""One request and its answer, as the caller sees them. The bytes come from a `Connection`, which holds the timer.

Promises  an exchange ends in exactly one way: whole, with a `TransportError`, or by `cancel`, after which it says
          nothing more. It never holds more than `bytes_max` of a body.
No reference cycles are left behind: an ended exchange knows no connection, and an error is made where it is raised.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from leeward.gateway.connection import Connection

    Kind = Literal[
        "connect_refused",
        "connect_timeout",
        "dns",
        "tls",
        "reset",
        "head_timeout",
        "stall",
        "deadline",
        "truncated",
        "protocol",
        "too_large",
        "forbidden_address",
        "pool_full",
    ]

__all__ = ["DRAIN_S", "Exchange", "TransportError"]

DRAIN_S: Final = 1.0  # how long the rest of an answer that nobody reads may take before its connection is closed


class TransportError(Exception):
    """A provider could not be reached, or its answer is none. `sent`: some of the request may have left.

    `detail` is for logs: it holds no key, no header and no byte of the answer.
    """

    def __init__(self, kind: Kind, *, sent: bool, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.sent = sent
        self.detail = detail


class Exchange:
    """An answer whose head is there. Read it with `read`, or have it pushed with `forward`; else `cancel` or `drain`.

    The upper half is the caller's; the attributes below `status` and `headers` belong to the connection.
    """

    __slots__ = ("bytes_left", "connection", "detail", "encoded", "ended", "headers", "kind", "limit_s", "on_data",
                 "on_end", "pieces", "stall_s", "started", "status", "waiter")  # fmt: skip

    def __init__(self, *, bytes_max: int, limit_s: float, stall_s: float) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.bytes_left = bytes_max
        self.limit_s = limit_s  # the deadline, as the clock counts
        self.stall_s = stall_s
        self.started = False  # a byte of the answer has come
        self.encoded = False  # the body is compressed though that was not asked for: it is dropped
        self.ended = False
        self.kind: Kind | None = None
        self.detail = ""
        self.pieces: list[bytes] = []
        self.connection: Connection | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.on_data: Callable[[bytes], None] | None = None
        self.on_end: Callable[[TransportError | None], None] | None = None

    def header(self, name: bytes) -> bytes:
        """The first header of this lower-case name; empty if there is none."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""

    async def read(self) -> bytes:
        """The whole body; a `TransportError` if it does not come. A caller who is cancelled cancels the exchange."""
        if not self.ended:
            self.waiter = asyncio.get_running_loop().create_future()
            try:
                await self.waiter
            except asyncio.CancelledError:
                self.cancel()
                raise
        if self.kind is not None:
            raise self.error(self.kind)
        if len(self.pieces) > 1:
            self.pieces = [b"".join(self.pieces)]
        return self.pieces[0] if self.pieces else b""

    def forward(self, on_data: Callable[[bytes], None], on_end: Callable[[TransportError | None], None]) -> None:
        """Push the body: `on_data` once for each read of the network, `on_end` once. What is there comes at once.

        Neither may raise. They may call `cancel`, `pause`, `resume` and the setters.
        """
        self.on_data, self.on_end = on_data, on_end
        pieces, self.pieces = self.pieces, []
        if pieces:
            on_data(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self.ended:
            self.end()

    def pause(self) -> None:
        """Stop reading: whoever is given the bytes cannot take more. Only the deadline goes on."""
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        if self.connection is not None:
            self.connection.resume()

    def set_stall(self, seconds: float | None) -> None:
        """Let so much pass between two reads from now on; None: any time within the deadline."""
        self.stall_s = math.inf if seconds is None else seconds
        if self.connection is not None:
            self.connection.measure()

    def set_content_by(self, at_s: float | None) -> None:
        """Fail as `head_timeout` at this moment of the clock, whatever comes by then; None lifts it."""
        if self.connection is not None:
            self.connection.set_content_by(math.inf if at_s is None else at_s)

    def cancel(self) -> None:
        """Close the connection now, so that the other side stops its work. Nothing is called any more."""
        self.on_data = self.on_end = None
        if self.connection is not None:
            self.connection.abandon()

    def hurry(self, seconds: float, bytes_max: int) -> None:
        """All that is left has to come within so many seconds and bytes: it is not what was asked for."""
        self.bytes_left = min(self.bytes_left, bytes_max)
        if self.connection is not None:
            self.connection.end_within(seconds)

    def drain(self) -> None:
        """Nobody wants the rest, and it should be short: keep the connection if it comes within `DRAIN_S`."""
        self.pieces.clear()
        self.on_data, self.on_end = _ignored, _ignored
        if self.connection is not None:
            self.connection.resume()
            self.connection.end_within(DRAIN_S)

    def wake(self) -> None:
        """Go on, whoever waits."""
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def end(self) -> None:
        """It has ended: say so."""
        self.wake()
        on_end = self.on_end
        if on_end is not None:
            self.on_data = self.on_end = None
            on_end(None if self.kind is None else self.error(self.kind))

    def error(self, kind: Kind) -> TransportError:
        """Why it failed. Made anew, since a raised exception that someone keeps is a cycle."""
        return TransportError(kind, sent=True, detail=self.detail)


def _ignored(_: object) -> None:
    """Takes what nobody wants."""
