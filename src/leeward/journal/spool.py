"""What dead processes left: adopted under their lock, looked over from outside, or removed.

Promises  Of any number of processes, one adopts a dead one's spool, and nobody touches a living one's.
"""

from __future__ import annotations

import os

from leeward.journal.files import OsFiles
from leeward.journal.owner import Owner, is_held_here, owner_of
from leeward.journal.spool_home import ERRORS, FORMING, REST, SpoolHome, remove, remove_all
from leeward.journal.spool_reader import LeftLane, SpoolReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from leeward.journal.files import Files, Lock

__all__ = ["LeftSpool", "SpoolHome", "SpoolReader", "adopt", "orphans", "owner_in", "readers_of"]


class LeftSpool:
    """A dead process's spool that is ours now. It is ended with `finish` or `close`."""

    def __init__(self, directory: str, lock: Lock, *, files: Files) -> None:
        self.directory = directory
        self.readers = readers_of(directory, files=files)
        self._files = files
        self._lock = lock

    def is_drained(self) -> bool:
        """Say whether everything that we can read is delivered."""
        return all(reader.pending() == (0, 0) and not reader.unread for reader in self.readers)

    def finish(self) -> bool:
        """Remove the spool if everything in it is delivered; let go of it in any case.

        Returns:
            Whether it is gone. What is left may be adopted, later or by another process.
        """
        is_refused = any(reader.is_refused for reader in self.readers)
        removed = self.is_drained() and not is_refused and remove(self._files, self.directory, self.readers)
        self._lock.release()
        return removed

    def clear(self) -> int:
        """Remove the spool with all that is in it; how many records went."""
        records = sum([reader.pending()[0] for reader in self.readers])
        removed = remove_all(self._files, self.directory)
        self._lock.release()
        return records if removed else 0

    def close(self) -> None:
        """Let go of the spool as it is."""
        self._lock.release()


def readers_of(directory: str, *, files: Files | None = None) -> tuple[SpoolReader, SpoolReader]:
    """Give the readers of a spool's lanes, errors first. Who holds no lock may only look at what is `pending`."""
    files = OsFiles() if files is None else files
    errors, rest = (LeftLane(os.path.join(directory, name), files=files) for name in (ERRORS, REST))
    return SpoolReader(errors, files=files), SpoolReader(rest, files=files)


def orphans(folder: str, *, files: Files | None = None) -> Iterator[LeftSpool]:
    """Adopt dead processes' spools in *folder*, one at a time as the caller asks for the next.

    Each is given to exactly one caller in exactly one process, which ends it with `finish` or `close`.
    """
    files = OsFiles() if files is None else files
    try:
        names = files.listdir(folder)
    except OSError:
        return
    for name in names:
        owner = owner_in(name.removeprefix(FORMING))
        if owner is None:
            continue
        own = os.path.join(folder, name)
        if name.startswith(FORMING):
            if not owner.is_alive():
                remove_all(files, own)  # its process died while making it: it never held a record
            continue
        left = adopt(own, files=files)
        if left is not None:
            yield left


def adopt(directory: str, *, files: Files | None = None) -> LeftSpool | None:
    """Make a dead process's spool ours; None if it is alive, or if somebody else was faster."""
    files = OsFiles() if files is None else files
    path = os.path.join(directory, "lock")
    # A host that closed all its descriptors lost its lock, not its spool.
    owner = owner_of(path)
    # By `exec` a program takes another's place, id and start time: what that one left is no longer its own.
    if owner is not None and owner.is_alive() and (owner.pid != os.getpid() or is_held_here(path)):
        return None
    try:
        lock = files.lock(path)
    except OSError:
        return None  # not ours to read, or just removed by the one who finished it
    return None if lock is None else LeftSpool(directory, lock, files=files)


def owner_in(name: str) -> Owner | None:
    """Give the process that a spool is named for; None if that is no spool."""
    pid, _, rest = name.partition("-")
    return Owner.parse(f"{pid} {rest.partition('-')[0]}".encode())
