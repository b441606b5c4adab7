"""A process's spool: a directory with a lock, and a lane for errors beside one for the rest.

    <pid>-<start>-<random>/
        lock                    held while the process lives (`owner`)
        errors/00000001.seg …   exceptions and other errors (`spool_writer`)
        rest/00000001.seg …     everything else

Promises  Others see a spool only once it is locked. It is made where the user's own directory is, and nowhere else.
          What is kept stays within the quota; over it, the oldest closed segments of the rest go first, those of the
          errors only if no rest is left and an error needs the room. A segment that is being sent never goes.
Limits    A segment counts whole while anything in it is unsent.
"""

from __future__ import annotations

import errno
import os
import stat

from leeward.errors import Unavailable
from leeward.journal.files import OsFiles
from leeward.journal.owner import Owner
from leeward.journal.spool_reader import SpoolReader
from leeward.journal.spool_writer import FIRST_BYTES, SEGMENT_BYTES, SpoolWriter, segment_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Final

    from leeward.journal.files import Files, Lock

__all__ = ["ERRORS", "FORMING", "REST", "SPOOL_BYTES_MAX", "Quota", "SpoolHome", "remove", "remove_all"]

SPOOL_BYTES_MAX: Final = 64 * 1024 * 1024
RESERVE_SHARE: Final = 8
FORMING: Final = ".new-"
ERRORS: Final = "errors"
REST: Final = "rest"


class Quota:
    """How much unsent there may be on disk: in this process's lanes, and in all other processes' (`others_bytes`).

    Any thread asks; nobody waits. `on_dropped` is told how many records went. However much the others have, a process
    has an eighth for its own, until what is oldest of all has made way (`is_short` says that it should).
    """

    __slots__ = ("_lanes", "_on_dropped", "bytes_max", "is_short", "others_bytes")

    def __init__(self, bytes_max: int = SPOOL_BYTES_MAX, on_dropped: Callable[[int], None] = lambda _: None) -> None:
        self.bytes_max = bytes_max
        self.is_short = False
        self.others_bytes = 0
        self._on_dropped = on_dropped
        self._lanes: list[SpoolWriter] = []

    def add(self, lane: SpoolWriter) -> None:
        """Count a lane."""
        self._lanes.append(lane)

    def remove(self, lane: SpoolWriter) -> None:
        """Count a lane no longer."""
        self._lanes[:] = [other for other in self._lanes if other is not lane]

    def own_bytes(self) -> int:
        """What this process's lanes take."""
        return sum([lane.bytes_used() for lane in self._lanes.copy()])

    def room(self) -> int:
        """How many bytes are free; less than none if all together have too many."""
        return self.bytes_max - self.others_bytes - self.own_bytes()

    def room_here(self) -> int:
        """How many bytes this process may still take."""
        return max(self.room(), self.reserve_bytes() - self.own_bytes())

    def reserve_bytes(self) -> int:
        """What a process may take however much the others have."""
        return self.bytes_max // RESERVE_SHARE

    def make_room(self, needed: int, *, is_error: bool) -> int:
        """Drop what must go so that *needed* bytes are free; give how many are free then."""
        self.is_short = self.is_short or (self.room() < needed and self.own_bytes() < self.reserve_bytes())
        room = self.room_here()
        if room >= needed:
            return room
        for dropping_errors in (False, True) if is_error else (False,):
            for lane in self._lanes.copy():
                if lane.is_error is not dropping_errors:
                    continue
                for segment in lane.droppable():
                    count = lane.drop(segment)
                    if count is None:
                        continue
                    if count:
                        self._on_dropped(count)
                    room = self.room_here()
                    if room >= needed:
                        return room
        return room


class SpoolHome:
    """See the module. A lane takes no space on the disk before its first record."""

    def __init__(
        self,
        directory: str,
        lock: Lock,
        *,
        instance: bytes,
        quota: Quota,
        files: Files,
        random: Callable[[int], bytes],
        segment_bytes: int,
        first_bytes: int,
    ) -> None:
        self.directory = directory
        self.lock = lock
        self.files = files
        self.is_sealed = False
        self._pid = os.getpid()
        self._quota = quota

        def lane(name: str) -> SpoolWriter:
            made = SpoolWriter(
                os.path.join(directory, name),
                is_error=name == ERRORS,
                instance=instance,
                quota=quota,
                files=files,
                random=random,
                segment_bytes=segment_bytes,
                first_bytes=first_bytes,
            )
            quota.add(made)
            return made

        self.errors = lane(ERRORS)
        self.rest = lane(REST)
        self.readers = SpoolReader(self.errors, files=files), SpoolReader(self.rest, files=files)

    @classmethod
    def create(
        cls,
        folder: str,
        *,
        instance: bytes | None = None,
        quota: Quota | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        first_bytes: int = FIRST_BYTES,
        files: Files | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> SpoolHome:
        """Make this process's own spool inside *folder*, which must be the user's own and no symbolic link.

        Raises:
            Unavailable: The disk does not let us; the caller keeps its records in memory.
        """
        files = OsFiles() if files is None else files
        owner = Owner.this_process()
        name = f"{owner.pid}-{owner.start}-{random(4).hex()}"
        own, forming = os.path.join(folder, name), os.path.join(folder, FORMING + name)
        lock = None
        try:
            _make_private(files, folder)
            # Others see the spool only once it is locked: an unlocked one looks like a dead process's.
            files.mkdir(forming)
            files.mkdir(os.path.join(forming, ERRORS))
            files.mkdir(os.path.join(forming, REST))
            lock = files.lock(os.path.join(forming, "lock"))
            if lock is None:
                raise FileExistsError(forming)
            files.rename(forming, own)
        except (OSError, ValueError) as error:  # ValueError: a path that no system can have
            if isinstance(error, OSError):
                remove_all(files, forming)
            if lock is not None:
                lock.release()
            raise Unavailable(f"cannot make a spool in {folder}: {error}", code="spool") from error
        return cls(
            own,
            lock,
            instance=random(16) if instance is None else instance,
            quota=Quota() if quota is None else quota,
            files=files,
            random=random,
            segment_bytes=segment_bytes,
            first_bytes=first_bytes,
        )

    @property
    def lanes(self) -> tuple[SpoolWriter, SpoolWriter]:
        """The errors, and the rest."""
        return self.errors, self.rest

    def prepare(self, *, first: bool = False) -> bool:
        """Lay out what will be needed, or try again after a failure; whether all can be stored. For the worker's thread.

        With `first`, the disk is touched in any case.
        """
        errors = self.errors.prepare()
        return self.rest.prepare(first=first) and errors

    def is_intact(self) -> bool:
        """Say whether a later process would find here what is appended now."""
        try:
            os.lstat(os.path.join(self.directory, "lock"))
        except OSError:
            return False
        return all(lane.is_intact() for lane in self.lanes)

    def seal(self) -> None:
        """Append no more. What was not delivered can still be read, even if the files are gone."""
        self.is_sealed = True
        for lane in self.lanes:
            lane.seal()

    def is_drained(self) -> bool:
        """Say whether everything that was appended is delivered. Reads what is not."""
        return all(reader.pending() == (0, 0) and not reader.unread for reader in self.readers)

    def finish(self) -> bool:
        """Append no more; remove the spool if everything in it is delivered; let go of it in any case.

        Returns:
            Whether it is gone. What is left may be adopted, later or by another process.
        """
        if os.getpid() != self._pid:
            return False
        self.is_sealed = True
        for lane in self.lanes:
            lane.stop()
            self._quota.remove(lane)
        removed = self.is_drained() and remove(self.files, self.directory, self.readers)
        self.lock.release()
        return removed

    def clear(self) -> int:
        """Append no more, and delete everything; how many records went that were not delivered."""
        if os.getpid() != self._pid:
            return 0
        self.is_sealed = True
        for lane in self.lanes:
            lane.stop()
            self._quota.remove(lane)
        records = sum([reader.pending()[0] for reader in self.readers])
        remove_all(self.files, self.directory)
        self.lock.release()
        return records

    def close(self) -> None:
        """Append no more and let go of the lock: what is left may be adopted. In a forked child the parent keeps it."""
        for lane in self.lanes:
            lane.stop()
            self._quota.remove(lane)
        self.lock.release()


def remove(files: Files, directory: str, readers: Iterable[SpoolReader]) -> bool:
    """Remove a spool in which nothing waits; false if something stays, as a segment does that the readers do not know."""
    for reader in readers:
        reader.clear_away()
    return remove_all(files, directory, keep=lambda name: segment_number(name) is not None)


def remove_all(files: Files, directory: str, keep: Callable[[str], bool] = lambda _: False) -> bool:
    """Remove a spool with all that is in it, the lock last; false if something stays."""
    try:
        for name in sorted(files.listdir(directory), key="lock".__eq__):
            path = os.path.join(directory, name)
            if name in (ERRORS, REST):
                for inner in files.listdir(path):
                    if not keep(inner):
                        files.unlink(os.path.join(path, inner))
                files.rmdir(path)
            else:
                files.unlink(path)
        files.rmdir(directory)
    except OSError:
        return False
    return True


def _make_private(files: Files, directory: str) -> None:
    """Make the directory, 0700; refuse one that is somebody else's, or a way to another place."""
    files.mkdir(directory)
    status = os.lstat(directory)
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
        raise PermissionError(errno.EPERM, "it is not a directory of the user's own", directory)
