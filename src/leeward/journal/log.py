"""The server's log: append, sync, follow, checkpoint, delete.

    append   one write for the whole group, at the end of the active segment
    sync     one fdatasync; from here on the group may be acknowledged
    read     what is synced, in order, for the one who loads it elsewhere
    checkpoint   all up to here is safe elsewhere: pointer first, whole segments are deleted after

Promises  What `sync` returned for is read again after any crash, and read once. What `append` or `sync` refused is
          never read while this process lives; after a crash it may be (its sender was told to try again, with the
          same batch id). Sequences have no gaps but where bytes were damaged, and none is ever used twice for records
          that could have been read. Damage never stops a start.
Limits    Segment 64 MiB, record 20 MiB. Three open files. Needs a disk whose fdatasync tells the truth.
Threads   One thread appends and syncs; one other reads and sets checkpoints. `_lock` guards what both see: the list of
          segments, where each ends, and the two sequences. It is never held during I/O. `statistics` is for any thread.
Forks     A child must not use its parent's log and is refused.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from leeward.clock import SystemClock
from leeward.errors import LeewardError, Unavailable
from leeward.journal import frame, segment
from leeward.journal.checkpoint import NOTE_BYTES_MAX, NOTE_SUFFIX, Checkpoint, read_checkpoint, write_checkpoint
from leeward.journal.files import OsFiles, write_all
from leeward.journal.follow import Entry, Follower
from leeward.journal.frame import Record
from leeward.journal.owner import owner_of
from leeward.journal.recover import Quarantine, Segment, find_segments, numbers_in, repair_last, segment_path
from leeward.journal.statistics import LogStatistics, bytes_after

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.journal.files import Files, Lock

__all__ = ["Entry", "Log", "LogStatistics", "Record"]

SEGMENT_BYTES: Final = 64 * 1024 * 1024
READ_BYTES_MAX: Final = 8 * 1024 * 1024
RESERVE_BYTES: Final = 256 * 1024
SYNC_FAILURES_MAX: Final = 2


class _Active:
    """The segment that is appended to."""

    __slots__ = ("capacity", "fd", "offset", "segment")

    def __init__(self, fd: int, inside: Segment, capacity: int) -> None:
        self.fd = fd
        self.segment = inside
        self.offset = segment.RECORDS_AT
        self.capacity = capacity


class Log:
    """An append-only log in a directory of its own, held by one process."""

    def __init__(
        self,
        directory: str,
        lock: Lock,
        *,
        files: Files,
        segment_bytes: int,
        clock: Clock,
        random: Callable[[int], bytes],
    ) -> None:
        self.failed: LeewardError | None = None
        self._directory = directory
        self._owner = lock
        self._files = files
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._random = random
        self._reserve_bytes = min(RESERVE_BYTES, segment_bytes // 8)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._quarantine = Quarantine(files, directory)
        self._follower = Follower(files, self._quarantine)
        self._active: _Active | None = None
        self._unsynced: list[Record] = []
        self._sync_failures = 0
        self._truncated_bytes = 0
        self._notes_damaged = 0
        self._given_up = 0
        self._file_errors = 0
        self._sync_seconds_last = 0.0
        self._segments: list[Segment] = []
        self._next_number = 1
        self._last = self._synced = 0
        self._instance, self._checkpoint = self._recover()
        self._delete_passed()
        self._delete_leftovers()

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        files: Files | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        clock: Clock | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> Log:
        """Open the log in *directory*, or make it there; recover from whatever happened.

        Raises:
            Unavailable: Another process holds it (code `log_in_use`), or the disk does not let us.
            ConfigError: A file is in the format of a newer leeward.
        """
        path = os.fspath(directory)
        files = OsFiles() if files is None else files
        lock: Lock | None = None
        try:
            files.mkdir(path)
            lock = files.lock(os.path.join(path, "lock"))
            if lock is None:
                raise _in_use(path)
            return cls(
                path, lock, files=files, segment_bytes=segment_bytes, clock=clock or SystemClock(), random=random
            )
        except OSError as error:
            _release(lock)
            raise Unavailable(f"cannot open the log in {path}: {error}", code="log", where=path) from error
        except LeewardError:
            _release(lock)
            raise

    @property
    def instance(self) -> str:
        """Which log this is, for ever: 32 hexadecimal digits."""
        return self._instance.hex()

    @property
    def last_sequence(self) -> int:
        """The sequence of the last record appended."""
        return self._last

    @property
    def synced_sequence(self) -> int:
        """The sequence of the last record on stable storage."""
        return self._synced

    @property
    def checkpoint_sequence(self) -> int:
        """The sequence up to which nothing is needed any more."""
        return self._checkpoint.sequence

    @property
    def checkpoint_note(self) -> bytes | None:
        """The note of the last checkpoint; None if there is none or it was damaged."""
        return self._checkpoint.note

    def append(self, records: Sequence[Record], *, urgent: bool = False) -> int:
        """Write a group of records. They are not durable before `sync` returns.

        Args:
            records: At least one.
            urgent: They may use the room that each segment keeps back, so that what drains the log can be written
                while a full disk refuses the next segment.

        Returns:
            The first one's sequence; the others' follow.

        Raises:
            Unavailable: The disk refuses. Nothing of the group will be read; try again later.
        """
        self._check_usable()
        size = sum(record.size for record in records)
        try:
            active = self._room_for(size, urgent=urgent)
            first = self._last + 1
            self._write(active, records, first)
            self._unsynced.extend(records)
            self._publish(last=self._last + len(records))
        except OSError as error:
            self._file_errors += 1
            raise Unavailable(f"the log in {self._directory} cannot be written: {error}", code="log") from error
        except Exception:
            self._abandon()
            raise
        return first

    def sync(self) -> None:
        """Put all that was appended on stable storage.

        A file whose fsync failed is never synced again, since the system forgets what it could not write: the group
        goes into a new segment.

        Raises:
            Unavailable: The group is refused and will not be read. If it failed twice running, `failed` is set, and
                every later call raises it.
        """
        self._check_usable()
        if not self._unsynced:
            return
        started_s = self._clock.monotonic_s()
        try:
            if self._active is None or not self._sync_active(self._active):
                self._write_again()
            self._sync_seconds_last = self._clock.monotonic_s() - started_s
        except OSError as error:
            self._refuse_unsynced()
            if self.failed is not None:
                raise self.failed from error
            raise Unavailable(f"the log in {self._directory} cannot be synced: {error}", code="log") from error
        except Exception:
            self._abandon()
            raise
        self._sync_failures = 0
        self._unsynced.clear()
        self._publish(synced=self._last)

    def read(self, after: int, *, bytes_max: int = READ_BYTES_MAX, durable_only: bool = True) -> list[Entry]:
        """Give the records after sequence *after*, in order, up to *bytes_max* of payload but at least one.

        Returns:
            The records; none if there are no more.

        Raises:
            Unavailable: The disk does not give them just now.
        """
        with self._lock:
            segments = list(self._segments)
            ends = [one.end for one in segments]
            limit = self._synced
            active = self._active
            if not durable_only and active is not None and segments and active.segment is segments[-1]:
                limit, ends[-1] = self._last, active.offset
        try:
            return self._follower.read(after, segments, ends, limit, bytes_max)
        except OSError as error:
            raise Unavailable(f"the log in {self._directory} cannot be read: {error}", code="log") from error

    def checkpoint(self, sequence: int, note: bytes = b"") -> None:
        """Say that all up to *sequence* is safe elsewhere; then delete the segments that hold nothing else.

        Raises:
            Unavailable: The disk refuses; the old checkpoint holds.
            ValueError: It is behind the old one, ahead of what is synced, or its note is longer than 64 MiB.
        """
        self._check_usable()
        if not self._checkpoint.sequence <= sequence <= self._synced:
            raise ValueError(f"checkpoint {sequence} is not in {self._checkpoint.sequence} to {self._synced}")
        if len(note) > NOTE_BYTES_MAX:
            raise ValueError(f"a note holds at most {NOTE_BYTES_MAX} bytes, not {len(note)}")
        tag = int.from_bytes(self._random(8), "little")
        try:
            self._checkpoint = write_checkpoint(self._files, self._directory, sequence, self._instance, note, tag)
        except OSError as error:
            self._file_errors += 1
            raise Unavailable(f"the checkpoint in {self._directory} cannot be written: {error}", code="log") from error
        self._delete_passed()
        self._delete_leftovers()

    def statistics(self) -> LogStatistics:
        """Give a snapshot, from any thread."""
        with self._lock:
            segments = list(self._segments)
            last, synced = self._last, self._synced
        sizes = [one.end - segment.RECORDS_AT for one in segments]
        return LogStatistics(
            segments=len(segments),
            bytes_total=sum(sizes),
            bytes_after_checkpoint=bytes_after(self._checkpoint.sequence, segments, sizes, synced),
            last_sequence=last,
            synced_sequence=synced,
            checkpoint_sequence=self._checkpoint.sequence,
            damaged_spans=self._quarantine.spans,
            damaged_bytes=self._quarantine.bytes,
            truncated_bytes=self._truncated_bytes,
            files_set_aside=self._quarantine.files_set_aside,
            notes_damaged=self._notes_damaged,
            segments_given_up=self._given_up,
            file_errors=self._file_errors,
            sync_seconds_last=self._sync_seconds_last,
            failed="" if self.failed is None else str(self.failed),
        )

    def close(self) -> None:
        """Let go of the files and of the directory. What was not synced is refused."""
        if os.getpid() != self._pid:
            return
        if self._active is not None:
            self._retire(self._active)
        self._follower.close()
        self._owner.release()

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise Unavailable("this process was forked from the log's owner and may not write it", code="log")
        if self.failed is not None:
            raise self.failed

    # Appending: one thread.

    def _room_for(self, size: int, *, urgent: bool) -> _Active:
        active = self._active
        if active is not None:
            kept_back = 0 if urgent else self._reserve_bytes
            if active.offset + size <= active.capacity - kept_back:
                return active
            if self._unsynced:
                self.sync()
                return self._room_for(size, urgent=urgent)
        return self._new_segment(size)

    def _new_segment(self, size: int) -> _Active:
        """Make the next segment: allocated, header, file and directory synced; only then is it used.

        While there is no room for it, the old segment stays in use. Once it has a header the old one must not be:
        after a crash the new file may be there, and takes over from the sequence that its header names.
        """
        number = self._next_number
        self._next_number += 1
        path = segment_path(self._directory, number)
        length = max(self._segment_bytes, segment.RECORDS_AT + size + self._reserve_bytes)
        fd = segment.allocate(self._files, path, length)
        if self._active is not None:
            self._retire(self._active)
        header = segment.Header(self._instance, number, self._synced + 1, int.from_bytes(self._random(4), "little"))
        try:
            segment.write_header(self._files, fd, header)
            self._must_sync(lambda: self._files.fsync(fd))
            self._must_sync(lambda: self._files.fsync_dir(self._directory))
        except Exception:
            segment.discard(self._files, fd, path)
            raise
        fresh = _Active(fd, Segment(path, header, segment.RECORDS_AT), length)
        with self._lock:
            self._segments.append(fresh.segment)
        self._active = fresh
        return fresh

    def _write(self, active: _Active, records: Sequence[Record], first: int) -> None:
        parts: list[bytes] = []
        for sequence, record in enumerate(records, first):
            parts += frame.encode_header(record, sequence, active.segment.salt), record.payload
        group = b"".join(parts)
        try:
            write_all(self._files, active.fd, group, active.offset)
        except OSError:
            self._cut_back(active)
            raise
        active.offset += len(group)

    def _cut_back(self, active: _Active) -> None:
        """Remove a part-written group, so that it can never be read."""
        try:
            self._files.truncate(active.fd, active.offset)
        except OSError:
            self._file_errors += 1
            self._retire(active)

    def _sync_active(self, active: _Active) -> bool:
        try:
            self._must_sync(lambda: self._files.fdatasync(active.fd))
        except OSError:
            self._retire(active)
            return False
        return True

    def _write_again(self) -> None:
        """Put the unsynced group into a new segment, which takes over from the last synced sequence."""
        fresh = self._new_segment(sum(record.size for record in self._unsynced))
        self._write(fresh, self._unsynced, self._synced + 1)
        if not self._sync_active(fresh):
            raise OSError(errno.EIO, "fsync failed on a second file as well")

    def _must_sync(self, sync: Callable[[], None]) -> None:
        """Call a sync; count its failures and stop the log when they do not end."""
        try:
            sync()
        except OSError as error:
            self._sync_failures += 1
            if self._sync_failures >= SYNC_FAILURES_MAX:
                self.failed = Unavailable(
                    f"the log in {self._directory} stopped: the disk failed to sync {self._sync_failures} files running"
                    f" ({error}). Nothing more is acknowledged",
                    code="log_failed",
                    where=self._directory,
                    fix="check the disk, then restart the server",
                )
            raise

    def _retire(self, active: _Active) -> None:
        """Close a segment for good, with nothing in it but what is durable. Never syncs it."""
        if active.offset != active.segment.end:
            self._given_up += 1
        self._active = None
        try:
            self._files.truncate(active.fd, active.segment.end)
        except OSError:
            self._file_errors += 1
        try:
            self._files.close(active.fd)
        except OSError:
            self._file_errors += 1

    def _refuse_unsynced(self) -> None:
        self._file_errors += 1
        self._unsynced.clear()
        self._publish(last=self._synced)

    def _abandon(self) -> None:
        """After a fault that nobody foresaw: only what is durable counts, and the next group begins a new segment."""
        self._refuse_unsynced()
        if self._active is not None:
            self._retire(self._active)

    def _publish(self, *, last: int | None = None, synced: int | None = None) -> None:
        """Let the reader see how far the log goes now."""
        with self._lock:
            if last is not None:
                self._last = last
            if synced is not None:
                self._synced = synced
                if self._active is not None:
                    self._active.segment.end = self._active.offset

    # Recovery and deletion: at the start, then the reader's thread.

    def _recover(self) -> tuple[bytes, Checkpoint]:
        point = read_checkpoint(self._files, self._directory)
        names = self._files.listdir(self._directory)
        known = point.instance if point is not None and point.instance else None
        found, self._segments = find_segments(self._files, self._directory, names, known, self._quarantine)
        instance = self._random(16) if found is None else found
        # Also of those that were set aside: a move that a crash undoes must not meet another file of the same name.
        self._next_number = max([0, *(one.number for one in self._segments), *numbers_in(names)]) + 1
        if self._segments:
            newest = self._segments[-1]
            self._last, self._truncated_bytes = repair_last(self._files, newest, self._quarantine)
        # What we read may have been renamed or made by a process that died before its sync.
        self._files.fsync_dir(self._directory)
        if point is not None and point.is_damaged:
            self._notes_damaged += 1
        if point is None or not point.instance:
            oldest = self._segments[0].first_sequence - 1 if self._segments else 0
            point = Checkpoint(oldest, instance, None, "")
        self._last = self._synced = max(self._last, point.sequence)
        return instance, point

    def _delete_passed(self) -> None:
        """Delete whole segments behind the checkpoint, but never the newest: it carries the numbering on."""
        with self._lock:
            pairs = list(pairwise(self._segments))
        for one, following in pairs:
            if following.first_sequence - 1 > self._checkpoint.sequence:
                break
            self._follower.leave(one.number)
            if self._delete(one.path):
                with self._lock:
                    self._segments.remove(one)

    def _delete_leftovers(self) -> None:
        """Delete old notes, and what a crash left half written."""
        for name in self._files.listdir(self._directory):
            is_old_note = name.endswith(NOTE_SUFFIX) and name != self._checkpoint.note_name
            if is_old_note or name.endswith(".new"):
                self._delete(os.path.join(self._directory, name))

    def _delete(self, path: str) -> bool:
        try:
            self._files.unlink(path)
        except FileNotFoundError:
            return True  # somebody cleared it away already
        except OSError:
            self._file_errors += 1
            return False
        return True


def _in_use(directory: str) -> Unavailable:
    owner = owner_of(os.path.join(directory, "lock"))
    who = "another process" if owner is None else f"process {owner.pid}"
    return Unavailable(
        f"{directory} is in use by {who}",
        code="log_in_use",
        where=directory,
        fix="stop that process, or choose another data directory",
    )


def _release(lock: Lock | None) -> None:
    if lock is not None:
        lock.release()
