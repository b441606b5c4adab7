"""Where a client's events wait: this process's spool, memory when the disk fails, and what dead processes left behind.

    <spool root>/<destination>/             0700; one folder for each wire, host, key and user
        <pid>-<start>-<random>/             a process's spool (journal/spool)
        set-aside.jsonl                     what the server refused as a whole (quarantine)

Promises  `append` takes no lock, waits for nobody, never raises OSError. A thread or signal handler that comes while
          the first spool is being made does not wait for it: it makes one of its own, and all of them are sent.
          A write that stalls is paid once: then events go to memory, until the worker has found the disk healthy.
Limits    `MEMORY_BYTES_MAX` in memory; what comes when that is full is dropped (the newest) and counted. The spool's
          own limit is 64 MiB of unsent records a process; when it is full, events go the same way: memory, then dropped.
          One dead process's spool is adopted at a time, so that a crowd of them costs one descriptor.
"""

from __future__ import annotations

from itertools import islice

from leeward.errors import Unavailable
from leeward.journal.spool import SpoolReader, SpoolWriter, orphans
from leeward.sender import quarantine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Final

    from leeward.clock import Clock
    from leeward.sender.results import Counts
    from leeward.sender.worker import Lane

__all__ = ["MEMORY_BYTES_MAX", "MemoryLane", "ReaderLane", "Spool"]

MEMORY_BYTES_MAX: Final = 4 * 1024 * 1024
MEMORY_EVENT_BYTES: Final = 64  # what the interpreter adds to each event
STALL_S: Final = 0.25
MEND_EVERY_S: Final = 30.0
ADOPT_EVERY_S: Final = 30.0


class MemoryLane:
    """Events in memory, bounded by bytes. Any thread appends; the worker alone takes and settles."""

    __slots__ = ("_bytes_in", "_bytes_max", "_bytes_out", "_events")

    def __init__(self, bytes_max: int = MEMORY_BYTES_MAX) -> None:
        from collections import deque  # 7 modules that nearly every program has, and this import need not bring

        self._events: deque[bytes] = deque()
        self._bytes_in = 0  # counted by the callers, see `Counts` for why that is whole
        self._bytes_out = 0  # counted by the worker
        self._bytes_max = bytes_max

    def append(self, event: bytes) -> bool:
        """Keep an event; false if there is no room."""
        size = len(event) + MEMORY_EVENT_BYTES
        if self._bytes_in - self._bytes_out + size > self._bytes_max:
            return False
        self._bytes_in += size
        self._events.append(event)
        return True

    def pending(self) -> int:
        """How many wait."""
        return len(self._events)

    def take(self, events_max: int, bytes_max: int) -> list[bytes]:
        """The oldest events, at least one if there is one."""
        events = list(islice(self._events, events_max))  # one step: nobody can append in the middle of it
        total = 0
        for index, event in enumerate(events):
            total += len(event)
            if total > bytes_max and index:
                return events[:index]
        return events

    def settle(self, count: int) -> None:
        """The oldest `count` events are done with."""
        for _ in range(count):
            self._bytes_out += len(self._events.popleft()) + MEMORY_EVENT_BYTES


class ReaderLane:
    """A spool on disk. Any thread counts what it appended; the worker alone takes and settles.

    `is_stuck` says that the last take gave nothing because the disk did not: the events wait, and are taken later.
    """

    __slots__ = ("_counts", "_early", "_sequences", "_settled", "appended", "is_stuck", "reader")

    def __init__(self, reader: SpoolReader, counts: Counts, *, appended: int = 0) -> None:
        self.reader = reader
        self.appended = appended
        self._counts = counts
        self._settled = 0  # of the appended: never more
        self._early = 0  # settled before the thread that appended them came to counting them
        self._sequences: list[int] = []
        self.is_stuck = False

    def pending(self) -> int:
        """How many wait. Counted here: the reader would have to read them."""
        return max(0, self.appended - self._settled)  # another thread may settle between the two looks

    def take(self, events_max: int, bytes_max: int) -> list[bytes]:
        """The oldest events, at least one if there is one and the disk gives it."""
        counted = self.appended  # looked at first: what was counted by now can be read
        records = self.reader.take(bytes_max=bytes_max, count_max=events_max)
        self.is_stuck = not records and self.reader.unread
        if not records and not self.is_stuck and counted > self._settled:
            self._nothing_is_left(counted)
        self._sequences = [sequence for sequence, _ in records]
        return [payload for _, payload in records]

    def settle(self, count: int) -> None:
        """The oldest `count` events are done with."""
        self.reader.acknowledge(self._sequences[count - 1])
        del self._sequences[:count]
        in_time = min(count, self.appended - self._settled)
        self._settled += in_time
        self._early += count - in_time

    def _nothing_is_left(self, counted: int) -> None:
        """What was counted and is not there was settled before it was counted, or else damaged."""
        missing = counted - self._settled
        early = min(missing, self._early)
        self._early -= early
        self._settled = counted
        if missing > early:
            self._counts.drop("spool_damaged", missing - early)


class Spool:
    """All the lanes of one client in one process. `folder` is empty when there is no disk to use (memory mode)."""

    def __init__(
        self,
        folder: str,
        *,
        counts: Counts,
        clock: Clock,
        on_closed: Callable[[], None] = lambda: None,
        create: Callable[[str], SpoolWriter] = SpoolWriter.create,
        memory_bytes_max: int = MEMORY_BYTES_MAX,
    ) -> None:
        self._folder = folder
        self._counts = counts
        self._clock = clock
        self._on_closed = on_closed
        self._create = create
        self._own: list[tuple[SpoolWriter, ReaderLane]] = []
        self._active: tuple[SpoolWriter, ReaderLane] | None = None
        self._memory = MemoryLane(memory_bytes_max)
        self._orphans: Iterator[SpoolReader] | None = None
        self._orphan: ReaderLane | None = None
        self._hopeless: set[str] = (
            set()
        )  # left spools that cannot be finished: of a newer version, or not ours to delete
        self._adopted_at_s: float | None = None
        self._resting_since_s: float | None = None  # the disk stalled then, or did not let us make a spool
        self.closed = False

    # Called by any thread

    def append(self, event: bytes) -> bool:
        """Keep an event until the server has it; false if there is no room anywhere."""
        while self._folder and self._resting_since_s is None:
            active = self._active or self._open()
            if active is None:
                break
            writer, lane = active
            started_s = self._clock.monotonic_s()
            stored = writer.append(event) is not None
            if self._clock.monotonic_s() - started_s > STALL_S:
                self._rest()
            if stored:
                lane.appended += 1
                return True
            if self._active is active:
                break  # full, or the disk failed; else it was closed under us, and there is another
        if self.closed or not self._memory.append(event):
            return False
        self._counts.volatile += bool(self._folder)
        return True

    def volatile(self) -> int:
        """How many events wait in memory."""
        return self._memory.pending()

    def abandon(self) -> None:
        """In a forked child: everything here is the parent's; let go of the copies of its descriptors."""
        for writer, _ in self._own:
            writer.close()
        if self._orphan is not None:
            self._orphan.reader.close()

    # Called by the worker

    def lanes(self) -> Sequence[Lane]:
        """The lanes in the order in which they are sent."""
        lanes: list[Lane] = [lane for _, lane in self._own]
        lanes.append(self._memory)
        if self._orphan is not None and not self._orphan.is_stuck:
            lanes.append(self._orphan)
        return lanes

    @property
    def adopting(self) -> bool:
        """Whether there may be more spools of dead processes than the lanes show."""
        return self._orphans is not None

    def tend(self, *, eager: bool) -> None:
        """Adopt what dead processes left, one spool at a time; lay out the next segment; see whether the disk is well."""
        if not self._folder or self.closed:
            return
        now_s = self._clock.monotonic_s()
        if self._resting_since_s is not None:
            if now_s - self._resting_since_s >= MEND_EVERY_S:
                self._mend(now_s)
        elif self._active is not None:
            self._active[0].prepare()
        self._adopt(now_s, 0.0 if eager else ADOPT_EVERY_S)

    def set_aside(self, events: Sequence[bytes], cause: str) -> bool:
        """Keep refused events in the folder's quarantine; false if that cannot be."""
        return bool(self._folder) and quarantine.set_aside(self._folder, events, cause)

    def close(self) -> None:
        """Let go of everything: what is delivered is removed, the rest may be adopted by any process.

        An event that comes after this gets a spool of its own, which the next process sends.
        """
        self.closed = True
        self._active = None
        for _, lane in self._own:
            lane.reader.finish()
        self._own = []
        if self._orphan is not None:
            self._orphan.reader.close()
        self._orphan = None
        self._orphans = None
        self._on_closed()

    def _open(self) -> tuple[SpoolWriter, ReaderLane] | None:
        started_s = self._clock.monotonic_s()
        try:
            writer = self._create(self._folder)
        except Unavailable as error:
            self._counts.last_error = error.code
            self._rest()
            return None
        opened = (writer, ReaderLane(SpoolReader.of(writer), self._counts))
        self._own.append(opened)
        self._active = opened
        if self._clock.monotonic_s() - started_s > STALL_S:
            self._rest()
        return opened

    def _rest(self) -> None:
        """Stay away from the disk for a while."""
        self._active = None
        self._resting_since_s = self._clock.monotonic_s()

    def _mend(self, now_s: float) -> None:
        """Try the disk again, on the worker's time."""
        self._resting_since_s = None
        if self._own and self._own[-1][0].prepare():
            self._active = self._own[-1]
        elif self._open() is None:
            self._resting_since_s = now_s

    def _adopt(self, now_s: float, every_s: float) -> None:
        if self._orphan is not None:
            if self._orphan.pending() and not self._orphan.is_stuck:
                return
            self._let_go(self._orphan)
            self._orphan = None
        if self._orphans is None:
            if self._adopted_at_s is not None and now_s - self._adopted_at_s < every_s:
                return
            self._adopted_at_s = now_s
            self._orphans = orphans(self._folder)
        for reader in self._orphans:
            if reader.directory in self._hopeless:
                reader.close()
                continue
            lane = ReaderLane(reader, self._counts, appended=reader.pending()[0])
            if lane.pending():
                self._orphan = lane
                return
            self._let_go(lane)
        self._orphans = None

    def _let_go(self, lane: ReaderLane) -> None:
        """Remove an adopted spool, or leave it: for a later try if events wait in it, or if nobody can tell."""
        reader = lane.reader
        if not reader.finish() and reader.pending() == (0, 0) and not reader.unread:
            self._hopeless.add(reader.directory)
