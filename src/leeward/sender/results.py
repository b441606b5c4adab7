"""What the client tells about itself: the result of a flush, and a snapshot of its counts. Frozen values."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Counts", "FlushResult", "Stats"]


class _Frozen:
    """A value with named fields; plain slots, since dataclasses would cost the program 38 modules."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, **fields: Any) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, fields.pop(name))
        if fields:
            raise TypeError(f"{type(self).__name__} has no {', '.join(fields)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # a snapshot is compared, never a key

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"


class FlushResult(_Frozen):
    """What came of a flush: events delivered and dropped during the call, and those still spooled after it.

    `dropped` counts what will not arrive, whatever the reason, also what was set aside in a file because the server
    refused it as a whole; `stats()` has the reasons.
    """

    __slots__ = ("delivered", "spooled", "dropped")  # noqa: RUF023 - the order of its repr

    delivered: int
    spooled: int
    dropped: int


class Stats(_Frozen):
    """The client's counts since this process first used it.

    captured     `capture()` and its like returned an id for it
    delivered    acknowledged by the server (also what an earlier process left behind)
    spooled      waiting to be sent: on disk, or in memory
    dropped      reason → count; will never arrive
    sampled_out  not captured, because the sampling said so
    volatile     of the captured: kept in memory while the disk fails, lost on SIGKILL
    quarantined  refused as a whole by the server and set aside in a file
    retries      requests that were sent again
    flushes      rounds in which what waited was sent, and of these
    flushes_ok   those that left nothing behind
    flush_s      seconds that all rounds took together, and
    flush_last_s  the last one
    stopped      the server refused the key; nothing is sent until the client is configured anew
    last_error   what kept the last request, or the client itself, from working; empty if nothing did
    """

    __slots__ = (  # noqa: RUF023 - the order of its repr
        "captured",
        "delivered",
        "spooled",
        "dropped",
        "sampled_out",
        "volatile",
        "quarantined",
        "retries",
        "flushes",
        "flushes_ok",
        "flush_s",
        "flush_last_s",
        "stopped",
        "last_error",
    )

    captured: int
    delivered: int
    spooled: int
    dropped: dict[str, int]
    sampled_out: int
    volatile: int
    quarantined: int
    retries: int
    flushes: int
    flushes_ok: int
    flush_s: float
    flush_last_s: float
    stopped: bool
    last_error: str


class Counts:
    """The running counts behind `Stats`.

    Callers count without a lock: one that a signal handler found held would be a dead-lock. The interpreter switches
    threads and runs handlers at calls and backward jumps only, so `counts.captured += 1` is whole; on a build without
    the interpreter lock a count may miss one, an event never.
    """

    __slots__ = (
        "captured",
        "delivered",
        "dropped",
        "flush_last_s",
        "flush_s",
        "flushes",
        "flushes_ok",
        "last_error",
        "quarantined",
        "retries",
        "sampled_out",
        "unreported",
        "volatile",
    )

    def __init__(self) -> None:
        self.captured = 0
        self.delivered = 0
        self.dropped: dict[str, int] = {}
        self.unreported: dict[str, int] = {}  # of the dropped: what the server cannot know of, and was not told yet
        self.sampled_out = 0
        self.volatile = 0
        self.quarantined = 0
        self.retries = 0
        self.flushes = 0
        self.flushes_ok = 0
        self.flush_s = 0.0
        self.flush_last_s = 0.0
        self.last_error = ""

    def drop(self, reason: str, count: int = 1) -> None:
        """Count events that will never arrive, and of which the server knows."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def lose(self, reason: str, count: int = 1) -> None:
        """Count events that will never arrive, and report them with the next batch."""
        self.drop(reason, count)
        self.unreported[reason] = self.unreported.get(reason, 0) + count

    def take_unreported(self) -> dict[str, int]:
        """Hand over what is to be reported; `unreport` it if the report does not arrive."""
        taken, self.unreported = self.unreported, {}
        return taken

    def unreport(self, losses: dict[str, int]) -> None:
        """Keep losses for the next report: the last one did not arrive."""
        for reason, count in losses.items():
            self.unreported[reason] = self.unreported.get(reason, 0) + count

    def lost(self) -> int:
        """Events that will not arrive, whatever the reason; those that were set aside are among them."""
        return sum(self.dropped.copy().values()) + self.quarantined

    def snapshot(self, *, spooled: int, stopped: bool) -> Stats:
        """The counts as a value that stays as it is."""
        return Stats(
            captured=self.captured,
            delivered=self.delivered,
            spooled=spooled,
            dropped=self.dropped.copy(),
            sampled_out=self.sampled_out,
            volatile=self.volatile,
            quarantined=self.quarantined,
            retries=self.retries,
            flushes=self.flushes,
            flushes_ok=self.flushes_ok,
            flush_s=self.flush_s,
            flush_last_s=self.flush_last_s,
            stopped=stopped,
            last_error=self.last_error,
        )
