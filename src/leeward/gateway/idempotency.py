"""`Idempotency-Key`: a request that comes again under the key of an earlier one gets that one's answer.

    held = await idempotency.claim(key_id, key, request_digest(path, body), wait_s=deadline_s)
    if isinstance(held, Replay): send it
    else: with held: ask the providers, then held.finish(...)

Promises  Of all requests with one key and one body, one asks the providers at a time; the others wait and get its
          answer, and so do later ones, for `kept_s`. A failure that may pass (429, 5xx) is kept for nobody: whoever
          comes next tries again, and of those who wait the first. Who leaves without an answer leaves it to the next.
          The same key with another body is refused. What is kept, and what is being recorded, stays within `bytes_max`
          and `answers_max`; what was kept first goes first, never what is still under way.
Limits    In memory: a restart forgets. An answer of more than 1 MiB is not kept; while a stream that large goes on, who
          asks for it again is told to come later, and afterwards it is asked anew. Bodies are the same byte for byte.
Belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

import msgspec

from leeward.errors import Unavailable
from leeward.gateway.failures import GatewayError
from leeward.wire.chat import RequestInvalid

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.gateway.sinks import Headers, Sink

__all__ = ["Claim", "Idempotency", "IdempotencyStatistics", "Recording", "Replay", "StillRunning", "request_digest"]

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = (b"x-leeward-idempotent", b"replayed")
KEY_LENGTH_MAX: Final = 255
ANSWER_BYTES_MAX: Final = 1 << 20
ANSWERS_MAX: Final = 10_000
OVERHEAD_BYTES: Final = 1024  # of an answer, beside its body: its headers and its place here
RETRY_AFTER_S: Final = 5.0
SERVER_ERRORS_FROM: Final = 500
TOO_MANY_REQUESTS: Final = 429

_Name = tuple[str, str]  # whose key, and the key


class StillRunning(GatewayError, Unavailable):
    """The first request with this key has not ended, and its answer cannot be waited for."""

    code = "idempotency_in_progress"
    status = 409


class Replay(msgspec.Struct, frozen=True):
    """The answer that another request with the same key got. `headers` say that it is."""

    status: int
    headers: Headers
    body: bytes  # of a stream, all that was sent
    is_stream: bool = False


class IdempotencyStatistics(msgspec.Struct, frozen=True):
    """What is held now, and what has happened since the start."""

    running: int
    waiting: int  # requests that wait for one of these
    kept: int
    bytes: int
    replayed: int
    conflicts: int


class _Entry:
    """A key in use. Running until it has an `answer` or is taken out."""

    __slots__ = ("answer", "bytes", "digest", "ends_s", "too_large", "waiting")

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.answer: Replay | None = None
        self.ends_s = 0.0
        self.bytes = 0  # counted for it
        self.too_large = False
        self.waiting: dict[asyncio.Future[Replay | None], None] = {}  # in the order in which they came

    def wake(self, answer: Replay | None) -> None:
        """Give all that wait the answer, or let them try for themselves."""
        waiting, self.waiting = self.waiting, {}
        for each in waiting:
            if not each.done():
                each.set_result(answer)


class Idempotency:
    """The keys in use, and the answers kept under them."""

    __slots__ = (
        "_bytes",
        "_clock",
        "_conflicts",
        "_kept",
        "_replayed",
        "_running",
        "answers_max",
        "bytes_max",
        "kept_s",
    )

    def __init__(self, kept_s: float, bytes_max: int, *, clock: Clock, answers_max: int = ANSWERS_MAX) -> None:
        self.kept_s = kept_s
        self.bytes_max = bytes_max
        self.answers_max = answers_max
        self._clock = clock
        self._running: dict[_Name, _Entry] = {}
        self._kept: OrderedDict[_Name, _Entry] = OrderedDict()  # what was kept first ends first
        self._bytes = 0
        self._replayed = self._conflicts = 0

    async def claim(self, scope_key: str, key: str, digest: bytes, *, wait_s: float) -> Claim | Replay:
        """Become the one who asks the providers, or get the answer of the one who did.

        Args:
            scope_key: whose key it is; the same key of somebody else is another one.
            key: as the header has it.
            digest: of the request, see `request_digest`.
            wait_s: how long to wait for one that is under way.

        Raises:
            RequestInvalid: the key is not one (400), or belongs to another request (409).
            StillRunning: the answer is not there in time, or too large to be kept (409).
        """
        _check(key)
        name = (scope_key, key)
        until_s = asyncio.get_running_loop().time() + wait_s
        while True:
            self._expire()
            entry = self._running.get(name) or self._kept.get(name)
            if entry is None:
                entry = self._running[name] = _Entry(digest)
                return Claim(self, name, entry)
            if entry.digest != digest:
                self._conflicts += 1
                raise _conflict()
            answer = entry.answer
            if answer is None:
                answer = await _wait(entry, until_s)
            if answer is not None:
                self._replayed += 1
                return answer

    def statistics(self) -> IdempotencyStatistics:
        """How it is used."""
        waiting = sum(len(entry.waiting) for entry in self._running.values())
        return IdempotencyStatistics(
            len(self._running), waiting, len(self._kept), self._bytes, self._replayed, self._conflicts
        )

    # For claims

    def reserve(self, entry: _Entry, size: int) -> bool:
        """Count bytes that are being recorded. False, and none are counted, when that is too much for this answer."""
        if entry.bytes + size <= ANSWER_BYTES_MAX:
            entry.bytes += size
            self._bytes += size
            self._make_room()
            if self._bytes <= self.bytes_max:
                return True
        self._release(entry)
        return False

    def give_up(self, entry: _Entry) -> None:
        """Tell who waits that there will be nothing to get."""
        entry.too_large = True
        entry.wake(None)

    def settle(self, name: _Name, entry: _Entry, answer: Replay | None) -> None:
        """End a claim: with an answer to keep and to give to who waits, or with none."""
        del self._running[name]
        self._release(entry)
        if answer is not None and self.reserve(entry, len(answer.body) + OVERHEAD_BYTES):
            entry.answer = answer
            entry.ends_s = self._clock.monotonic_s() + self.kept_s
            self._kept[name] = entry
            self._make_room()
        entry.wake(answer)

    def _make_room(self) -> None:
        while self._kept and (self._bytes > self.bytes_max or len(self._kept) > self.answers_max):
            self._release(self._kept.popitem(last=False)[1])

    def _expire(self) -> None:
        now_s = self._clock.monotonic_s()
        while self._kept and next(iter(self._kept.values())).ends_s <= now_s:
            self._release(self._kept.popitem(last=False)[1])

    def _release(self, entry: _Entry) -> None:
        self._bytes -= entry.bytes
        entry.bytes = 0


class Claim:
    """The right, and the duty, to answer. As a context manager it is abandoned when it was not finished."""

    __slots__ = ("_book", "_entry", "_name", "_open")

    def __init__(self, book: Idempotency, name: _Name, entry: _Entry) -> None:
        self._book = book
        self._name = name
        self._entry = entry
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def finish(self, status: int, headers: Headers, body: bytes, *, is_stream: bool = False) -> None:
        """Say what was answered. *headers*: those that belong to the answer, not to this one request."""
        if _may_pass(status):
            self.abandon()
        else:
            self._settle(Replay(status, [*headers, REPLAYED], body, is_stream))

    def abandon(self) -> None:
        """Leave it to the next; nothing happens when it is finished."""
        self._settle(None)

    def recording(self, sink: Sink) -> Recording:
        """A way to *sink* that keeps what goes through, for `Recording.finish`."""
        return Recording(self, sink)

    def record(self, size: int) -> bool:
        """Count bytes that a recording keeps. False: it must let go of them all."""
        if self._book.reserve(self._entry, size):
            return True
        self._book.give_up(self._entry)
        return False

    def _settle(self, answer: Replay | None) -> None:
        if self._open:
            self._open = False
            self._book.settle(self._name, self._entry, answer)


class Recording:
    """A sink that passes everything on at once and keeps a copy, as long as it is not too much."""

    __slots__ = ("_claim", "_headers", "_pieces", "_sink", "_status")

    def __init__(self, claim: Claim, sink: Sink) -> None:
        self._claim = claim
        self._sink = sink
        self._status = 0
        self._headers: Headers = []
        self._pieces: list[bytes] | None = []

    @property
    def on_room(self) -> Callable[[], None]:
        """What is called when the reader behind has room again."""
        return self._sink.on_room

    @on_room.setter
    def on_room(self, call: Callable[[], None]) -> None:
        self._sink.on_room = call

    def head(self, status: int, headers: Headers) -> None:
        """Begin."""
        self._status, self._headers = status, headers
        self._sink.head(status, headers)

    def data(self, data: bytes) -> bool:
        """Send on."""
        if self._pieces is not None:
            if self._claim.record(len(data)):
                self._pieces.append(data)
            else:
                self._pieces = None
        return self._sink.data(data)

    def end(self) -> None:
        """Nothing comes any more."""
        self._sink.end()

    def finish(self) -> None:
        """What was sent is a whole answer. One that was cut is abandoned instead, with the claim."""
        if self._pieces is None or not self._status:
            self._claim.abandon()
        else:
            self._claim.finish(self._status, self._headers, b"".join(self._pieces), is_stream=True)


def request_digest(path: str, body: bytes) -> bytes:
    """What tells one request from another under the same key."""
    return hashlib.sha256(path.encode() + b"\n" + body).digest()


def _may_pass(status: int) -> bool:
    """Whether the same request may be answered otherwise a moment later."""
    return status >= SERVER_ERRORS_FROM or status == TOO_MANY_REQUESTS


async def _wait(entry: _Entry, until_s: float) -> Replay | None:
    """Wait for what becomes of the one that is under way. A future for each: a task that is cancelled takes its own."""
    if entry.too_large:
        raise _still_running()
    waiting: asyncio.Future[Replay | None] = asyncio.get_running_loop().create_future()
    entry.waiting[waiting] = None
    try:
        async with asyncio.timeout_at(until_s):
            return await waiting
    except TimeoutError:
        raise _still_running() from None
    finally:
        entry.waiting.pop(waiting, None)


def _check(key: str) -> None:
    if not 0 < len(key) <= KEY_LENGTH_MAX or not all("!" <= each <= "~" for each in key):
        raise RequestInvalid(
            f"{HEADER} must be 1 to {KEY_LENGTH_MAX} visible ASCII characters, such as a UUID.",
            code="idempotency_key_invalid",
            param=HEADER,
        )


def _conflict() -> RequestInvalid:
    return RequestInvalid(
        f"This {HEADER} was used for another request. Use a new key for each request, and the same one to repeat it.",
        code="idempotency_conflict",
        param=HEADER,
        status=409,
    )


def _still_running() -> StillRunning:
    return StillRunning(
        f"The first request with this {HEADER} is still being answered. Ask again later.",
        param=HEADER,
        retry_after_s=RETRY_AFTER_S,
    )
