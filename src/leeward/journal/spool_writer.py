"""One lane of the client's spool: an appender that never waits.

A lane is a folder of segments (`segment`, `frame`: the server's format). `append` is one copy into a mapped file: the
interpreter reserves the room, copies and moves on in a single step that neither a signal handler nor another thread
can come between. A record counts once its checksum agrees: what a kill -9 cut in the middle was never promised. From
the copy on, the page cache outlives the process; nothing is synced.

Why mapped: 600-byte records, `benchmarks/journal_append.py`, median of 5 runs, Python 3.11, 2 cores, microseconds:

    p50 / p99 / p99.9            mapped                 one O_APPEND write per record
    alone                        1.2 / 3.3 / 25         1.4 / 5.0 / 18
    beside a busy thread         1.2 / 2.4 / 54         2.3 / 10 / 5,360 (worst run: p99 5,315)

A write lets go of the interpreter, and a busy thread gives it back only after its 5 ms. The copy never lets go.

Promises  `append` takes no lock, waits for nobody, raises no OSError, and asks the file system only where a segment
          ends. After one failure it stays out of the disk's way until `prepare` succeeds. A forked child never writes
          into its parent's files. Nothing is written into a segment that `stop` has not seen. A segment is read or
          dropped by whoever took its one token, never by both.
          It holds one descriptor, and none from Python 3.13 on. A number that the host has closed and given to a
          file of its own is left alone.
Limits    Record 20 MiB, segments 64 KiB (the first), 256 KiB, 1 MiB, then 2 MiB. Power loss may cost what the kernel
          had not yet written. Sequences may come out of order and with gaps (threads, failures, the other lane).
          Blocks are allocated before they are mapped, or a full disk would be a SIGBUS. A file system that copies on
          write may still need room later; and nobody may shorten the file of a running process.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import sys
from itertools import count

from leeward.journal import frame, segment
from leeward.journal.files import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from leeward.journal.files import Files
    from leeward.journal.spool_home import Quota

__all__ = ["FIRST_BYTES", "SEGMENT_BYTES", "Segment", "SpoolWriter", "segment_number"]

SEGMENT_BYTES: Final = 2 * 1024 * 1024
FIRST_BYTES: Final = 64 * 1024
_GROWTH: Final = 4
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SUCCESSORS_KEPT: Final = 64

_foreign: list[mmap.mmap] = []  # maps whose descriptor's number the host gave to a file of its own


class _Nowhere:
    """Stands for the mapping before a lane's first segment: it is full, and costs nothing."""

    def tell(self) -> int:
        raise ValueError

    def write(self, _: bytes) -> int:
        raise ValueError


class Segment:
    """One file of a lane, as its owner knows it.

    `token` is not empty while nobody reads or drops the segment: popping it is one step, and who has it decides.
    `records` counts what was appended, `delivered` what was acknowledged, `mark` is where the next batch begins.
    """

    __slots__ = (
        "blank_from",
        "bytes",
        "closed_s",
        "delivered",
        "inode",
        "instance",
        "is_closed",
        "is_sealed",
        "map",
        "mark",
        "number",
        "path",
        "records",
        "salt",
        "token",
        "used_s",
    )

    def __init__(self, number: int, path: str, length: int = 0) -> None:
        self.number = number
        self.path = path
        self.bytes = length
        self.inode = (0, 0)
        self.instance: bytes | None = None  # None: its header was not read yet
        self.salt = 0
        self.map: Any = None  # mmap.mmap
        self.mark = segment.RECORDS_AT
        self.records = 0
        self.delivered = 0
        self.token: list[None] = [None]
        self.is_closed = True  # nothing can be added, and it can be read from its file only
        self.is_sealed = False  # nothing can be added, and it can still be read through the mapping
        self.blank_from = 0  # not 0: nothing but zeros from there on
        self.used_s: float | None = None  # when the worker first saw records in it
        self.closed_s: float | None = None  # when the worker first saw it closed

    def unsent(self) -> int:
        """How many of its records are not acknowledged. One that is not yet counted may be delivered already."""
        return max(0, self.records - self.delivered)

    def is_half_full(self) -> bool:
        """Say whether the next one should be laid out."""
        try:
            return self.map is not None and self.map.tell() * 2 > self.bytes
        except ValueError:
            return False  # closed: the next one is there already

    def open(self, mapped: mmap.mmap) -> None:
        """Let records in."""
        mapped.seek(segment.RECORDS_AT)
        self.map = mapped
        self.is_closed = False

    def seal(self) -> None:
        """Let nothing more in. What is there can still be read through the mapping, whatever becomes of the file."""
        mapped = self.map
        if mapped is not None and not self.is_closed:
            mapped.seek(0, os.SEEK_END)
            self.is_sealed = True  # said when it is so: who reads it to its end removes it

    def close(self) -> None:
        """Let nothing more in, and give the mapping back."""
        mapped = self.map
        if mapped is None or self.is_closed:
            return
        try:
            mapped.seek(0, os.SEEK_END)
            self.is_closed = True  # said when it is so: who reads it to its end removes it
            # Before 3.13 a mapping holds a descriptor of its own, and closes that number whoever has it by now.
            if sys.version_info < (3, 13) and mapped.size() != self.bytes:
                _foreign.append(mapped)
                return
        except (OSError, ValueError):
            pass  # the host closed the number, and nobody has it; or another thread closed the mapping just now
        mapped.close()

    def end(self) -> int:
        """Where the records of a sealed segment end. They lie end to end, and zeros follow."""
        mapped, position = self.map, self.mark
        if mapped is None or self.is_closed:
            return position
        while length := frame.length_needed(mapped[position : position + frame.HEADER_BYTES], 0):
            position += length
        return position


def segment_number(name: str) -> int | None:
    """Give the number of the segment that a file of a lane is; None if it is something else."""
    stem = name.removesuffix(".seg")
    return int(stem) if stem != name and stem.isascii() and stem.isdigit() else None


class SpoolWriter:
    """Appends to one lane of this process. Threads and signal handlers may append at the same time."""

    def __init__(
        self,
        directory: str,
        *,
        is_error: bool,
        instance: bytes,
        quota: Quota,
        files: Files,
        random: Callable[[int], bytes],
        segment_bytes: int = SEGMENT_BYTES,
        first_bytes: int = FIRST_BYTES,
    ) -> None:
        self.directory = directory
        self.is_error = is_error
        self.files = files
        self.failures = 0
        self.changes = 0  # how often an append or a `prepare` asked the file system for a segment to go on in
        self.segments: dict[int, Segment] = {}
        self._instance = instance
        self._quota = quota
        self._random = random
        self._segment_bytes = segment_bytes
        self._first_bytes = first_bytes
        self._next_bytes = first_bytes
        self._pid = os.getpid()
        self._numbers = count(1)
        self._successors: dict[int, Segment] = {}
        self._spare: list[Segment] = []
        self._stopped = False
        # Before the first segment stands one that is full.
        self._active: Segment | None = Segment(0, "")
        self._active.map = _Nowhere()
        self._failed = self._active  # what no segment could be found for to follow

    def append(self, payload: bytes, kind: int, sequence: int) -> bool:
        """Store a record; from here on a kill -9 does not lose it.

        Returns:
            False if it was not stored: the spool is full or failed, the record is too long, this is a forked child, or
            the lane is closed.
        """
        if os.getpid() != self._pid or len(payload) > frame.PAYLOAD_BYTES_MAX:
            return False
        active = self._active
        while active is not None:
            try:
                active.map.write(frame.encode_small(kind, payload, sequence, active.salt))
            except ValueError:  # it is full, or was closed by whoever found it full
                active = self._after(active, len(payload), sequence)
            else:
                active.records += 1
                return True
        return False

    def prepare(self, *, first: bool = False) -> bool:
        """Lay out the next segment while there is time, or try again after a failure. For the worker's thread.

        With `first`, the lane's first segment is made as well, or the next one in any case: it shows how the disk is.

        Returns:
            Whether the lane can store records.
        """
        if os.getpid() != self._pid or self._stopped:
            return False
        active = self._active
        if active is None or (first and not active.number):
            return self._after(active or self._failed, 0, 0, ahead=True) is not None
        if not self._spare and (first or active.is_half_full()):
            try:
                self._spare.append(self._lay_out(0, 0, ahead=True, is_spare=True))
            except OSError:
                self.failures += 1
        return True

    def rotate(self) -> None:
        """Begin a new segment, so that what is in the old one can grow old and be dropped. For the worker's thread."""
        active = self._active
        if active is not None and active.number:
            self._after(active, 0, 0)

    def drop(self, closed: Segment) -> int | None:
        """Remove a closed segment with what is in it. For any thread.

        Returns:
            How many records went that were not delivered; None if it is being sent, or cannot be removed.
        """
        try:
            closed.token.pop()
        except IndexError:
            return None
        if not self.unlink(closed):
            closed.token.append(None)
            return None
        return closed.unsent()

    def droppable(self) -> list[Segment]:
        """The closed segments, oldest first. Some may be in the hands of the reader."""
        return [
            segment
            for number, segment in sorted(self.segments.copy().items())
            if segment.is_closed or segment.is_sealed
        ]

    def unlink(self, gone: Segment) -> bool:
        """Forget a segment and remove its file. False if the file stays."""
        gone.close()
        try:
            self.files.unlink(gone.path)
        except FileNotFoundError:
            pass  # somebody cleared it away; it is gone, as it should be
        except OSError:
            self.failures += 1
            return False
        self.segments.pop(gone.number, None)
        # Who is in the middle of an append may still ask what follows a segment that is gone; but not for so long.
        self._successors.pop(gone.number - _SUCCESSORS_KEPT, None)
        return True

    def ordered(self) -> list[Segment]:
        """All segments that may hold records, oldest first."""
        segments = self.segments.copy()
        return [segments[number] for number in sorted(segments)]

    def pending(self) -> int:
        """How many records are not acknowledged. For any thread; reads nothing."""
        segments = self.segments
        return sum([segment.unsent() for segment in segments.copy().values()]) if segments else 0

    def bytes_used(self) -> int:
        """What the lane counts for in the quota."""
        return sum([segment.bytes for segment in (*self.segments.copy().values(), *self._spare)])

    def is_intact(self) -> bool:
        """Say whether a later process would find what is appended now: the active file under its name, or its place."""
        active = self._active
        try:
            if active is None or not active.number:
                return stat.S_ISDIR(os.lstat(self.directory).st_mode)
            status = os.lstat(active.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == active.inode

    def seal(self) -> None:
        """Stop appending for good. What is not delivered can still be read, even if the files are gone."""
        self._stopped = True
        # A thread that is about to begin a segment enters it first and looks at `_stopped` then: one of us sees the other.
        for part in self.ordered():
            part.seal()
        self._active = None

    def stop(self) -> None:
        """Stop appending for good, and give the mappings back. What was allocated and not used is given back as well."""
        self.seal()
        for closed in self.ordered():
            end = closed.end()
            was_open = not closed.is_closed
            closed.close()
            if was_open and os.getpid() == self._pid:
                self._trim(closed, end)
        if os.getpid() == self._pid:
            while self._spare:
                self._discard(self._spare.pop())

    def _after(self, full: Segment, payload_bytes: int, sequence: int, *, ahead: bool = False) -> Segment | None:
        """Give the segment that follows *full*; make it if nobody else has. Never raises OSError."""
        successor = self._successors.get(full.number)
        if successor is None:
            self.changes += 1
            try:
                fresh = self._take_spare(full.number, payload_bytes)
                if fresh is None:
                    fresh = self._lay_out(payload_bytes, sequence, ahead=ahead)
            except OSError:
                self._fail(full)
                return None
            self.segments[fresh.number] = fresh  # the reader and `stop` know it before anything is written into it
            # `setdefault` is one step: of a thread and the handler that interrupted it, one wins.
            successor = self._successors.setdefault(full.number, fresh)
            if successor is not fresh:
                self._forget(fresh)
        if not full.is_sealed:
            full.close()
        if self._stopped:
            successor.seal()
            return None
        active = self._active
        if active is None or active.number < successor.number:
            self._active = successor
        return successor

    def _forget(self, unused: Segment) -> None:
        unused.close()
        self.segments.pop(unused.number, None)
        self._discard(unused)

    def _fail(self, full: Segment) -> None:
        """Stay away from the disk until `prepare` succeeds, unless somebody else just went on."""
        self.failures += 1
        if not full.is_sealed:
            full.close()
        if self._active is full:
            self._failed = full
            self._active = None

    def _take_spare(self, above: int, payload_bytes: int) -> Segment | None:
        try:
            spare = self._spare.pop()
        except IndexError:
            return None
        if spare.number > above and segment.RECORDS_AT + frame.HEADER_BYTES + payload_bytes <= spare.bytes:
            try:
                fd = self.files.open(spare.path, write=True)
                try:
                    spare.open(_map(fd, spare.bytes))
                finally:
                    self.files.close(fd)
            except (OSError, ValueError):
                pass  # removed or cut since it was laid out: make another
            else:
                return spare
        self._discard(spare)
        return None

    def _lay_out(self, payload_bytes: int, sequence: int, *, ahead: bool = False, is_spare: bool = False) -> Segment:
        """Make a segment with real blocks under every page, its position behind the header.

        Where there is time for it (*ahead*), zeros are written as well: the first touch of a page that was only
        allocated can wait for the file system's own journal, which made 1 append in 10,000 take 12 ms.
        It is not mapped then if it is a spare: that would cost a descriptor before Python 3.13.
        A disk that has no room for a large one may have it for a small one.
        """
        needed = segment.RECORDS_AT + frame.HEADER_BYTES + payload_bytes
        if self._stopped:
            raise OSError(errno.ESHUTDOWN, "the spool is closed", self.directory)
        # A spare may never be needed: nothing is dropped for it.
        room = self._quota.room_here() if is_spare else self._quota.make_room(needed, is_error=self.is_error)
        if needed > room:
            raise OSError(errno.EDQUOT, "the spool is full", self.directory)
        length = max(needed, min(self._next_bytes, room))
        small = max(needed, min(self._first_bytes, room))
        try:
            fresh = self._make(length, sequence, ahead=ahead, is_spare=is_spare)
        except OSError as error:
            if error.errno not in _NO_ROOM or length <= small:
                raise
            fresh = self._make(small, sequence, ahead=ahead, is_spare=is_spare)
        self._next_bytes = min(self._segment_bytes, self._next_bytes * _GROWTH)
        return fresh

    def _make(self, length: int, sequence: int, *, ahead: bool, is_spare: bool) -> Segment:
        number = next(self._numbers)
        fresh = Segment(number, os.path.join(self.directory, f"{number:08d}.seg"), length)
        fresh.instance = self._instance
        fresh.salt = int.from_bytes(self._random(4), "little")
        fd = segment.allocate(self.files, fresh.path, length)
        try:
            if ahead or number == 1:
                write_all(self.files, fd, bytes(length), 0)
            segment.write_header(self.files, fd, segment.Header(self._instance, number, sequence, fresh.salt))
            status = os.fstat(fd)
            if not is_spare:
                fresh.open(_map(fd, length))
        except OSError:
            segment.discard(self.files, fd, fresh.path)
            raise
        self.files.close(fd)
        fresh.inode = (status.st_dev, status.st_ino)
        return fresh

    def _trim(self, closed: Segment, end: int) -> None:
        """Give back what was allocated ahead. Nothing can be written into a closed segment any more."""
        try:
            fd = self.files.open(closed.path, write=True)
            try:
                self.files.truncate(fd, end)
            finally:
                self.files.close(fd)
        except OSError:
            self.failures += 1

    def _discard(self, unused: Segment) -> None:
        try:
            self.files.unlink(unused.path)
        except OSError:
            pass  # an empty segment harms nobody, and goes with the spool


def _map(fd: int, length: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, length, trackfd=False)  # no second descriptor in the host's table
    return mmap.mmap(fd, length)
