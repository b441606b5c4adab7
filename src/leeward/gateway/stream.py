"""One provider's stream on its way to the caller.

Nothing goes out before the first content: until then every failure is only this provider's, and another one can be
asked. From then on the stream ends as an answer, or the caller is told that it was cut; it never just stops.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from leeward.gateway.outcomes import SLOW_READER, Outcome, of_broken_stream, of_transport
from leeward.wire.chat import Answer, ProviderError

if TYPE_CHECKING:
    from leeward.gateway.sinks import Headers, Sink
    from leeward.gateway.transport import Exchange, TransportError
    from leeward.wire.dialect import AnswerReader

__all__ = ["Stream"]

STACK_CHARS_MAX: Final = 2_000
GOODBYE_S: Final = 2.0
GOODBYE_BYTES_MAX: Final = 1 << 20


class Stream:
    """Runs from `start` to the outcome in `ended`. Its callbacks come from the connection, on the event loop."""

    __slots__ = (
        "_began_s",
        "_clock_s",
        "_exchange",
        "_fault",
        "_finishing",
        "_head",
        "_held",
        "_is_paused",
        "_kept",
        "_kept_bytes_left",
        "_reader",
        "_sink",
        "ended",
        "first_content_s",
    )

    def __init__(
        self,
        exchange: Exchange,
        reader: AnswerReader,
        sink: Sink,
        head: Callable[[], Headers],
        *,
        clock_s: Callable[[], float],
        began_s: float,
        keep_bytes_max: int = 0,
    ) -> None:
        self._began_s = began_s
        self._exchange = exchange
        self._reader = reader
        self._sink = sink
        self._head = head
        self._clock_s = clock_s
        self._held: list[bytes] = []
        self._kept: list[bytes] = []  # what the caller got, for the cache; as long as it is not too much
        self._kept_bytes_left = keep_bytes_max
        self.ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._finishing = False
        self._is_paused = False
        self._fault: ProviderError | None = None  # of ours, with its stack: for the log
        self.first_content_s: float | None = None  # when, in monotonic seconds

    def start(self, first_by_s: float) -> None:
        """Begin to read. The first content is due at that moment of the clock, whatever comes before it."""
        self._exchange.set_content_by(first_by_s)
        self._exchange.forward(self._on_data, self._on_end)

    def abandon(self) -> None:
        """The caller is gone: close the connection, so that the provider stops."""
        self._exchange.cancel()
        self._forget()

    @property
    def committed(self) -> bool:
        """Whether the caller has been sent something."""
        return self.first_content_s is not None

    @property
    def kept(self) -> bytes:
        """All that the caller was sent, or nothing if that was too much to keep."""
        return b"".join(self._kept) if self._kept_bytes_left > 0 else b""

    def _on_data(self, data: bytes) -> None:
        if self.ended.done():
            return  # the rest behind the end; the connection drains
        try:
            self._take(data)
        except Exception:
            # Boundary: a fault of ours in a callback of the connection would leave the request waiting for ever.
            self._fault = ProviderError(code="internal_error", message=traceback.format_exc()[-STACK_CHARS_MAX:])
            self._break("internal_error")

    def _take(self, data: bytes) -> None:
        reader = self._reader
        ready = reader.feed(data)
        if reader.error is not None:
            if self.committed and ready:
                self._pass_on(ready)
            self._break("error_event")
        elif self.committed:
            if ready:
                self._pass_on(ready)
        elif reader.content:
            self._commit(ready)
        elif ready:
            self._held.append(ready)
        if reader.error is not None:
            return
        if reader.done:
            self._whole()
        elif reader.finish and not self._finishing and reader.end() == "":
            self._finishing = True  # all is said but the usage and the goodbye, which some never send
            self._exchange.hurry(GOODBYE_S, GOODBYE_BYTES_MAX)

    def _commit(self, ready: bytes) -> None:
        self._exchange.set_content_by(None)
        self.first_content_s = self._clock_s()
        self._sink.on_room = self._resume
        self._sink.head(200, self._head())
        held, self._held = self._held, []
        self._pass_on(b"".join((*held, ready)))

    def _pass_on(self, data: bytes) -> None:
        if self._kept_bytes_left > 0:
            self._kept_bytes_left -= len(data)
            self._kept.append(data)
        if not self._sink.data(data):
            self._is_paused = True
            self._exchange.pause()

    def _resume(self) -> None:
        """The reader has taken what there was."""
        self._is_paused = False
        self._exchange.resume()

    def _on_end(self, error: TransportError | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self._whole()
        elif self._reader.end() == "" and self._reader.error is None:
            self._whole()  # the answer is whole; only the goodbye is missing
        elif self._is_paused:  # it is the reader who took too long
            self._settle(of_broken_stream(SLOW_READER, None, self._clock_s(), committed=self.committed))
        else:
            self._settle(of_transport(error, self._clock_s(), status=200, committed=self.committed))

    def _whole(self) -> None:
        """The provider has said all."""
        fault = self._reader.end()
        if fault:
            self._break(fault)
            return
        if not self.committed:  # an answer without content that is one all the same: cut off by its limit, or filtered
            self._commit(b"")
        reader = self._reader
        answer = Answer(b"", reader.finish, reader.usage, reader.model, reader.id)
        self._exchange.drain()
        assert self.first_content_s is not None
        first_s = self.first_content_s - self._began_s
        self._settle(
            Outcome(kind="ok", at_s=self._clock_s(), answer=answer, status=200, streamed=True, first_s=first_s)
        )

    def _break(self, detail: str) -> None:
        self._exchange.cancel()
        self._settle(
            of_broken_stream(detail, self._fault or self._reader.error, self._clock_s(), committed=self.committed)
        )

    def _settle(self, outcome: Outcome) -> None:
        if not self.ended.done():
            self.ended.set_result(outcome)
        self._forget()

    def _forget(self) -> None:
        """Let nothing point in a circle: the exchange knows this stream's methods, and the sink the exchange's."""
        self._sink.on_room = _nothing
        self._head = _no_headers


def _nothing() -> None:
    """There is nobody to tell."""


def _no_headers() -> Headers:
    return []
