"""What a start finds in the log's directory, and what becomes of it.

Promises  A damaged, foreign, doubled or renamed file never stops a start: what is readable is used, the rest is moved
          into `damaged/` and counted. Only a newer format is refused. A missing old segment is normal.
          A segment takes over at its first sequence: what an earlier one holds from there on was refused or written
          again, and is void.
Limits    Only the last segment is read here; damage in earlier ones is found when they are read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from leeward.journal import frame, segment
from leeward.journal.files import read_all, write_all

if TYPE_CHECKING:
    from leeward.journal.files import Files

SUFFIX: Final = ".log"
DAMAGED: Final = "damaged"


class Segment:
    """One segment file of a log. `end` is where its good bytes end; it moves while the segment is appended to."""

    __slots__ = ("end", "first_sequence", "number", "path", "salt")

    def __init__(self, path: str, header: segment.Header, end: int) -> None:
        self.path = path
        self.number = header.number
        self.first_sequence = header.first_sequence
        self.salt = header.salt
        self.end = end

    def sequences(self) -> range:
        """Give the sequences that a file of this size can hold."""
        return range(self.first_sequence, self.first_sequence + self.end // frame.HEADER_BYTES + 2)


class Quarantine:
    """The `damaged/` directory: copies of damaged bytes and files that are not ours, for a person to look at."""

    def __init__(self, files: Files, directory: str) -> None:
        self.spans = 0
        self.bytes = 0
        self.files_set_aside = 0
        self._files = files
        self._directory = os.path.join(directory, DAMAGED)
        self._seen: set[tuple[int, int]] = set()

    def keep_span(self, number: int, start: int, data: bytes) -> None:
        """Count a damaged span of a segment and keep a copy, once."""
        if (number, start) in self._seen:
            return
        self._seen.add((number, start))
        self.spans += 1
        self.bytes += len(data)
        try:
            self._files.mkdir(self._directory)
            fd = self._files.open(os.path.join(self._directory, f"{number:012d}-{start}-{len(data)}"), create=True)
            try:
                write_all(self._files, fd, data, 0)
            finally:
                self._files.close(fd)
        except OSError:
            pass  # the copy of an earlier start is there already, or the disk is full; the count stands

    def set_aside(self, path: str) -> None:
        """Move a file that is no segment of this log out of the way."""
        self.files_set_aside += 1
        try:
            self._files.mkdir(self._directory)
            taken = set(self._files.listdir(self._directory))
            name = os.path.basename(path)
            free = next(n for n in (name, *(f"{name}.{i}" for i in range(1, len(taken) + 2))) if n not in taken)
            self._files.rename(path, os.path.join(self._directory, free))
        except OSError:
            pass  # it stays where it is and is passed over again at the next start


def segment_path(directory: str, number: int) -> str:
    """Give the path of a log's segment."""
    return os.path.join(directory, f"{number:012d}{SUFFIX}")


def numbers_in(names: Sequence[str]) -> list[int]:
    """Give the numbers that segment files bear in their names."""
    stems = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
    return [int(stem) for stem in stems if len(stem) == 12 and stem.isascii() and stem.isdecimal()]


def find_segments(
    files: Files, directory: str, names: Sequence[str], instance: bytes | None, quarantine: Quarantine
) -> tuple[bytes | None, list[Segment]]:
    """Sort out a directory's segments: ours, in order; others are set aside.

    Args:
        files: The file layer.
        directory: The log's directory.
        names: What is in it.
        instance: The log's instance if the checkpoint says it; else the one that most segments are of.
        quarantine: Where the others go.

    Returns:
        The instance, None if nothing says it, and the segments by number.
    """
    found: list[tuple[str, segment.Header, int]] = []
    for name in sorted(names):
        if not name.endswith(SUFFIX):
            continue
        path = os.path.join(directory, name)
        header, size, is_blank = _look(files, path)
        if header is not None:
            found.append((path, header, size))
        elif is_blank:
            files.unlink(path)  # its maker died before the header was there: nothing was ever in it
        else:
            quarantine.set_aside(path)
    if instance is None and found:
        votes = Counter(header.instance for _, header, _ in found)
        instance = max(found, key=lambda one: (votes[one[1].instance], one[1].number))[1].instance
    ours: dict[int, Segment] = {}
    # Of two with one number the one that bears the right name is ours: let it come first.
    for path, header, size in sorted(found, key=lambda one: one[0] != segment_path(directory, one[1].number)):
        if header.instance != instance or header.number in ours:
            quarantine.set_aside(path)
        else:
            ours[header.number] = Segment(path, header, size)
    return instance, [ours[number] for number in sorted(ours)]


def _look(files: Files, path: str) -> tuple[segment.Header | None, int, bool]:
    """Give a file's header, its size, and whether it is blank. What cannot be opened is no segment."""
    try:
        fd = files.open(path)
    except OSError:
        return None, 0, False
    try:
        head = read_all(files, fd, segment.RECORDS_AT, 0)
        return segment.Header.decode(head, path), files.size(fd), not any(head)
    except OSError:
        return None, 0, False
    finally:
        files.close(fd)


def repair_last(files: Files, last: Segment, quarantine: Quarantine) -> tuple[int, int]:
    """Read the last segment, cut its torn tail, and make the rest durable: nobody knows whether it is.

    Returns:
        The last sequence that may ever have been given to a record, and how many bytes were cut.
    """
    fd = files.open(last.path, write=True)
    try:
        data = read_all(files, fd, last.end, 0)
        end, highest, cut = segment.RECORDS_AT, last.first_sequence - 1, 0
        for item in segment.walk(data, segment.RECORDS_AT, last.salt, last.sequences()):
            if isinstance(item, frame.Frame):
                end, highest = item.end, max(highest, item.sequence)
            elif item.is_tail:
                cut = item.end - item.start
            else:
                quarantine.keep_span(last.number, item.start, data[item.start : item.end])
        if len(data) != end:
            files.truncate(fd, end)
        files.fdatasync(fd)
    finally:
        files.close(fd)
    last.end = end
    # The tail may have been acknowledged records, damaged later. Their sequences must not come again: the store
    # would take new rows for old ones.
    return highest + (cut // frame.HEADER_BYTES + 1 if cut else 0), cut
