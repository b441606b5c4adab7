"""Where a client's events wait: this process's spool, memory when the disk fails, and what dead processes left behind.

    <spool root>/<destination>/             0700; one folder for each wire, host, key and user
        about.json                          wire, host and, if it is only one, application in words, for who looks here
        <pid>-<start>-<random>/             a process's spool: errors and the rest (journal/spool_home)
        set-aside.jsonl                     what the server refused as a whole (quarantine)

Promises  `append` takes no lock, waits for nobody, never raises OSError. A thread or signal handler that comes while
          the first spool is being made does not wait for it: it makes one of its own, and all of them are sent.
          A disk that stalls is paid for once: then events go to memory, until the worker has found it healthy, which it
          tries after 1 s, and after twice as long each time it stalls again. What then waits in memory goes to the disk.
          Only what asks the file system is timed: a plain append that takes long was held up with its whole process.
          A spool that was deleted, or whose files are not ours any more, is replaced; what was not sent is.
          All events of a process are numbered by one counter, whatever lane they go to.
Limits    Unsent on disk: 64 MiB a user and destination, over all processes, as far as the worker saw the others at
          its last look. Over it, the oldest whole segments of the rest go, of this process and of dead ones; then, if
          an error needs the room, the oldest of the errors; else the newest goes to memory and is dropped when that is
          full. 7 days: own events by the monotonic clock, those of dead processes by their files' time.
          One dead process's spool is adopted at a time, so that a crowd of them costs one descriptor.
"""

from __future__ import annotations

import os
from itertools import count

from leeward.errors import Unavailable
from leeward.journal.mounts import is_on_network
from leeward.journal.spool import SpoolHome, orphans
from leeward.journal.spool_home import SPOOL_BYTES_MAX, Quota
from leeward.sender import quarantine
from leeward.sender.lanes import MemoryLane, ReaderLane
from leeward.sender.limits import LOOK_EVERY_S, Limits
from leeward.wire.json_text import json_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Final, Protocol

    from leeward.clock import Clock
    from leeward.journal.spool import LeftSpool
    from leeward.sender.results import Counts
    from leeward.sender.worker import Lane

    class Create(Protocol):
        """What makes this process's spool in a folder; `SpoolHome.create`."""

        def __call__(self, folder: str, *, instance: bytes, quota: Quota) -> SpoolHome:
            """Make it, or raise `Unavailable`."""
            ...


__all__ = ["MEMORY_BYTES_MAX", "Spool"]

MEMORY_BYTES_MAX: Final = 4 * 1024 * 1024
MEMORY_ERROR_BYTES_MAX: Final = 1024 * 1024
STALL_S: Final = 0.25
STALL_REST_S: Final = 1.0  # after the first stall: it may have been the process that stood still, and not the disk
MEND_EVERY_S: Final = 30.0
ADOPT_EVERY_S: Final = 30.0
ABOUT_NAME: Final = "about.json"
ABOUT_BYTES_MAX: Final = 64 * 1024


class _Own:
    """A spool of this process, and its lanes."""

    __slots__ = ("errors", "home", "rest")

    def __init__(self, home: SpoolHome, counts: Counts) -> None:
        self.home = home
        errors, rest = home.readers
        self.errors = ReaderLane(errors, counts, writer=home.errors)
        self.rest = ReaderLane(rest, counts, writer=home.rest)


class _Adopted:
    """A dead process's spool, and its lanes."""

    __slots__ = ("lanes", "left")

    def __init__(self, left: LeftSpool, counts: Counts) -> None:
        self.left = left
        self.lanes = [ReaderLane(reader, counts) for reader in left.readers]

    def sendable(self) -> list[ReaderLane]:
        """Those of which something can be sent now."""
        return [lane for lane in self.lanes if lane.pending() and not lane.is_stuck]


class Spool:
    """All the lanes of one client in one process. `folder` is empty when there is no disk to use (memory mode).

    With `memory_count_max`, all events in memory are one queue of that length, errors or not.
    """

    def __init__(
        self,
        folder: str,
        *,
        counts: Counts,
        clock: Clock,
        about: Mapping[str, str],
        on_closed: Callable[[], None] = lambda: None,
        memory_bytes_max: int = MEMORY_BYTES_MAX,
        memory_error_bytes_max: int = MEMORY_ERROR_BYTES_MAX,
        memory_count_max: int | None = None,
        refuse_network: bool = False,
        bytes_max: int = SPOOL_BYTES_MAX,
        create: Create = SpoolHome.create,
    ) -> None:
        self._folder = folder
        self._counts = counts
        self._clock = clock
        self._about = about
        self._on_closed = on_closed
        self._refuse_network = refuse_network
        self._create = create
        self._instance = os.urandom(16)
        self.process = self._instance.hex()
        self._sequences = count(1)
        self._quota = Quota(bytes_max, lambda count: counts.lose("spool_full", count))
        self._own: list[_Own] = []
        self._active: SpoolHome | None = None
        self._memory = MemoryLane(self.process, memory_bytes_max, memory_count_max)
        self._memory_errors = MemoryLane(self.process, 0 if memory_count_max else memory_error_bytes_max)
        self._orphans: Iterator[LeftSpool] | None = None
        self._adopted: _Adopted | None = None
        # Left spools that cannot be finished: of a newer version, or not ours to delete.
        self._hopeless: set[str] = set()
        self._adopted_at_s: float | None = None
        self._limits = Limits(folder, quota=self._quota, counts=counts, clock=clock)
        self._look_at_s = clock.monotonic_s()
        self._resting_since_s: float | None = None  # the disk stalled then, or did not let us make a spool
        self._rest_s = STALL_REST_S
        self.closed = False
        self.left = 0  # on disk at the end; the next process sends it

    # Called by any thread

    def append(self, event: bytes, record_type: int, *, is_error: bool) -> bool:
        """Keep an event until the server has it; false if there is no room anywhere."""
        sequence = next(self._sequences)
        if self._store(event, record_type, sequence, is_error=is_error):
            return True
        if self.closed or not self._remember(event, record_type, sequence, is_error=is_error):
            return False
        if self._folder:
            self._counts.volatile += 1
        return True

    def _store(self, event: bytes, record_type: int, sequence: int, *, is_error: bool) -> bool:
        """Keep an event on disk, if the disk takes it."""
        while self._folder and self._resting_since_s is None:
            home = self._active or self._open()
            if home is None:
                break
            lane = home.errors if is_error else home.rest
            changes, started_s = lane.changes, self._clock.monotonic_s()
            stored = lane.append(event, record_type, sequence)
            if lane.changes != changes and self._clock.monotonic_s() - started_s > STALL_S:
                self._rest()
            if stored:
                return True
            if self._active is home:
                if not home.is_sealed:
                    break  # full, or the disk failed
                self._active = None  # closed while we were making it: make another
        return False

    def volatile(self) -> int:
        """How many events wait in memory."""
        return self._memory_errors.pending() + self._memory.pending()

    def abandon(self) -> None:
        """In a forked child: everything here is the parent's; let go of the copies of its descriptors."""
        for own in self._own:
            own.home.close()
        if self._adopted is not None:
            self._adopted.left.close()

    # Called by the worker, and looked at by all

    def lanes(self) -> Sequence[Lane]:
        """The lanes in the order in which they are sent: errors, the rest, what was adopted."""
        own = self._own.copy()
        lanes: list[Lane] = [mine.errors for mine in own]
        lanes.append(self._memory_errors)
        lanes += [mine.rest for mine in own]
        lanes.append(self._memory)
        adopted = self._adopted
        if adopted is not None:
            lanes += adopted.sendable()
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
        if now_s >= self._look_at_s or self._quota.is_short:
            self._look(now_s)
        if self._resting_since_s is not None:
            if now_s - self._resting_since_s >= self._rest_s:
                self._mend(now_s)
        elif self._active is not None:
            self._active.prepare()
        self._save(taken=False)
        self._adopt(now_s, 0.0 if eager else ADOPT_EVERY_S)

    def set_aside(self, events: Sequence[bytes], cause: str) -> bool:
        """Keep refused events in the folder's quarantine; false if that cannot be."""
        return bool(self._folder) and quarantine.set_aside(self._folder, events, cause)

    def clear(self) -> int:
        """Delete what waits for this destination: our own, what dead processes left, and what was set aside.

        What living processes have is theirs to delete. Returns how many events went.
        """
        deleted = self._memory_errors.clear() + self._memory.clear()
        self._active = None
        own, self._own = self._own, []
        deleted += sum([mine.home.clear() for mine in own])
        if self._adopted is not None:
            deleted += self._adopted.left.clear()
        self._adopted = self._orphans = None
        if self._folder:
            deleted += sum([left.clear() for left in orphans(self._folder)])
            deleted += quarantine.clear(self._folder)
        return deleted

    def close(self) -> None:
        """Let go of everything: what is delivered is removed, the rest may be adopted by any process.

        What waits in memory goes to the disk before, if it can.
        An event that comes after this gets a spool of its own, which the next process sends.
        """
        self.closed = True
        if self._folder and self.volatile():
            if self._resting_since_s is not None:
                self._mend(self._clock.monotonic_s())
            self._save(taken=True)
        self.left += sum(mine.errors.pending() + mine.rest.pending() for mine in self._own)
        own, self._own = self._own, []
        self._active = None
        for mine in own:
            mine.home.finish()
        if self._adopted is not None:
            self._adopted.left.close()
        self._adopted = None
        self._orphans = None
        self._on_closed()

    def _remember(self, event: bytes, record_type: int, sequence: int, *, is_error: bool) -> bool:
        """Keep an event in memory; errors have a place of their own, and then the others'."""
        return (is_error and self._memory_errors.append(event, record_type, sequence)) or self._memory.append(
            event, record_type, sequence
        )

    def _open(self) -> SpoolHome | None:
        started_s = self._clock.monotonic_s()
        if self._refuse_network and is_on_network(self._folder):
            self._counts.last_error = "spool_on_network"
            self._rest(MEND_EVERY_S)
            return None
        try:
            home = self._create(self._folder, instance=self._instance, quota=self._quota)
        except Unavailable as error:
            self._counts.last_error = error.code
            self._rest(MEND_EVERY_S)
            return None
        self._own.append(_Own(home, self._counts))
        self._active = home
        _write_about(self._folder, self._about)
        if self._clock.monotonic_s() - started_s > STALL_S:
            self._rest()
        return home

    def _rest(self, rest_s: float = STALL_REST_S) -> None:
        """Stay away from the disk for a while."""
        self._active = None
        self._rest_s = rest_s
        self._resting_since_s = self._clock.monotonic_s()

    def _mend(self, now_s: float) -> None:
        """Try the disk again, on the worker's time."""
        rest_s = min(2 * self._rest_s, MEND_EVERY_S)
        own = self._own[-1].home if self._own else None
        if own is not None and not own.is_sealed and own.prepare(first=True):
            self._active = own
        else:
            own = self._open()
        is_well = own is not None and self._clock.monotonic_s() - now_s <= STALL_S
        self._active = own if is_well else None
        self._rest_s = rest_s
        self._resting_since_s = None if is_well else now_s

    def _save(self, *, taken: bool) -> None:
        """Bring what waits in memory to the disk, if that is well; what is `taken` may be arriving just now."""
        if self._active is None or not self.volatile():
            return
        moved = self._memory_errors.move(lambda *record: self._store(*record, is_error=True), taken=taken)
        moved += self._memory.move(lambda *record: self._store(*record, is_error=False), taken=taken)
        self._counts.volatile -= moved

    def _look(self, now_s: float) -> None:
        """See whether our spools are still there, and after size and age, also of what others left."""
        for own in self._own.copy():
            if not own.home.is_sealed and not own.home.is_intact():
                own.home.seal()
                if self._active is own.home:
                    self._active = None
            if own.home.is_sealed and own.home.is_drained():
                own.home.finish()
                self._own.remove(own)
        adopted = self._adopted.lanes if self._adopted is not None else ()
        if not self._limits.look([own.home for own in self._own], adopted):
            self._look_at_s = now_s + LOOK_EVERY_S

    def _adopt(self, now_s: float, every_s: float) -> None:
        if self._adopted is not None:
            if self._adopted.sendable():
                return
            self._let_go(self._adopted)
            self._adopted = None
        if self._orphans is None:
            if self._adopted_at_s is not None and now_s - self._adopted_at_s < every_s:
                return
            self._adopted_at_s = now_s
            self._orphans = orphans(self._folder)
        for left in self._orphans:
            if left.directory in self._hopeless:
                left.close()
                continue
            adopted = _Adopted(left, self._counts)
            for lane in adopted.lanes:
                self._limits.expire(lane)
            if adopted.sendable():
                self._adopted = adopted
                return
            self._let_go(adopted)
        self._orphans = None

    def _let_go(self, adopted: _Adopted) -> None:
        """Remove an adopted spool, or leave it: for a later try if events wait in it, or if nobody can tell."""
        left = adopted.left
        if not left.finish() and left.is_drained():
            self._hopeless.add(left.directory)


def _write_about(folder: str, about: Mapping[str, str]) -> None:
    """Say in words whose folder this is: its name is a digest. It never holds a key, nor one of several applications."""
    path = os.path.join(folder, ABOUT_NAME)
    aside = f"{path}.{os.getpid()}"
    text = json_bytes(dict(about)) + b"\n"
    try:
        found = _about_found(path)
        if found is not None:
            shared = json_bytes({name: word for name, word in about.items() if name != "app"}) + b"\n"
            if found in (text, shared):
                return
            text = shared
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, text)
        finally:
            os.close(descriptor)
        os.rename(aside, path)
    except OSError:
        return  # who looks at the folder has to do without it


def _about_found(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        return os.read(descriptor, ABOUT_BYTES_MAX)
    finally:
        os.close(descriptor)
