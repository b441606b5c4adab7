"""What the spools of a folder hold, looked at from outside: whose they are, how old, how much of it is unsent.

Promises  Looks only, and holds nothing: no lock, no descriptor between two spools. What cannot be looked at counts as
          nothing. Space that was allocated and not written does not count.
Limits    A snapshot: living processes go on while one looks.
"""

from __future__ import annotations

import os

from leeward.journal import segment
from leeward.journal.files import OsFiles, read_all
from leeward.journal.owner import owner_of
from leeward.journal.spool import owner_in
from leeward.journal.spool_home import ERRORS, REST
from leeward.journal.spool_writer import segment_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Final

    from leeward.journal.files import Files

__all__ = ["Found", "survey", "unsent_bytes"]

PAGE_BYTES: Final = 4096


class Found:
    """A segment of another spool. Treat it as frozen."""

    __slots__ = ("bytes", "changed_s", "directory", "is_dead", "is_error", "number")

    def __init__(
        self, directory: str, number: int, *, is_error: bool, is_dead: bool, changed_s: float, bytes: int
    ) -> None:
        self.directory = directory
        self.number = number
        self.is_error = is_error
        self.is_dead = is_dead
        self.changed_s = changed_s  # by the wall clock
        self.bytes = bytes


def survey(folder: str, *, own: Collection[str], files: Files | None = None) -> Iterator[list[Found]]:
    """Give the segments of one spool after the other; those in *own* are left out."""
    files = OsFiles() if files is None else files
    try:
        names = files.listdir(folder)
    except OSError:
        return
    for name in names:
        directory = os.path.join(folder, name)
        if owner_in(name) is None or directory in own:
            continue
        owner = owner_of(os.path.join(directory, "lock"))
        is_dead = owner is None or not owner.is_alive()
        yield [found for lane in (ERRORS, REST) for found in _segments(files, directory, lane=lane, is_dead=is_dead)]


def _segments(files: Files, directory: str, *, lane: str, is_dead: bool) -> Iterator[Found]:
    place = os.path.join(directory, lane)
    try:
        names = files.listdir(place)
    except OSError:
        return
    for name in names:
        number = segment_number(name)
        if number is None:
            continue
        path = os.path.join(place, name)
        try:
            changed_s = os.lstat(path).st_mtime
            size = unsent_bytes(files, path)
        except OSError:
            continue  # it was delivered just now, or is not ours to read
        yield Found(directory, number, is_error=lane == ERRORS, is_dead=is_dead, changed_s=changed_s, bytes=size)


def unsent_bytes(files: Files, path: str) -> int:
    """How many bytes of a segment are written and not delivered, without reading them: zeros follow what is written."""
    fd = files.open(path)
    try:
        mark = segment.decode_mark(read_all(files, fd, segment.MARK_BYTES, segment.MARK_AT)) or segment.RECORDS_AT
        low, high = mark, files.size(fd)
        place = max(low, high - PAGE_BYTES)  # as a rule it is full
        while low < high:
            size = min(PAGE_BYTES, high - place)
            written = len(read_all(files, fd, size, place).rstrip(b"\0"))
            if written:
                low = place + written
            if written < size:
                high = max(low, place)
            place = max(low, (low + high - PAGE_BYTES) // 2)
        return max(0, low - mark)
    finally:
        files.close(fd)
