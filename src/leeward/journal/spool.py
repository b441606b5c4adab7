"""The client's spool as a whole: its appender, the reader that delivers, and the adoption of what the dead left.

Promises  The reader gives each undamaged record in the order it came into the files, and steps over damage.
          A file from a newer version is left alone. What the disk does not give just now is waited for: nothing behind
          it is delivered, and nothing is removed that was not read to its end. Of any number of processes, one adopts a dead one's spool, and
          nobody touches a living one's.
Limits    A record that was delivered but not yet acknowledged when its process died is delivered again.
"""

from __future__ import annotations

import os
import sys

from leeward.errors import ConfigError
from leeward.journal import frame, segment
from leeward.journal.files import OsFiles, read_file, write_all
from leeward.journal.owner import Owner, owner_of
from leeward.journal.spool_writer import FORMING, SpoolWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from leeward.journal.files import Files, Lock

__all__ = ["SpoolReader", "SpoolWriter", "orphans"]

# A thread may hold a sequence while others fill segments; this far from the header's a sequence is believed.
_SEQUENCE_SLACK: Final = 1 << 20
_FRUITLESS_MAX: Final = 64


class SpoolReader:
    """Delivers a spool's records: this process's own while its writer appends, or one adopted from a dead process.

    One thread takes and acknowledges. `take` gives the same records again until they are acknowledged.
    `unread` says that the last `take` or `pending` met something that the disk did not give (no descriptor left, an
    I/O error): it stopped there, and nobody knows how much is behind it. The next call tries again.
    """

    def __init__(self, directory: str, lock: Lock, *, files: Files, writer: SpoolWriter | None = None) -> None:
        self.directory = directory
        self.damaged_spans = 0
        self.torn_tails = 0  # what a kill cut in the middle, as a rule: never promised to anybody
        self.damaged_bytes = 0
        self.files_refused = 0
        self.failures = 0
        self.unread = False
        self._lock = lock
        self._files = files
        self._writer = writer
        self._pid = os.getpid()
        self._marks: dict[int, int] = {}
        self._taken: dict[int, tuple[int, int]] = {}
        self._read: set[int] = set()  # the segments that the last take gave, or skipped, to their end
        self._reported: set[tuple[int, int]] = set()
        self._refused: set[int] = set()
        self._delivered: set[int] = set()
        self._tallies: dict[int, tuple[int, int]] = {}

    @classmethod
    def of(cls, writer: SpoolWriter) -> SpoolReader:
        """Give the reader that delivers while *writer* appends."""
        return cls(writer.directory, writer.lock, files=writer.files, writer=writer)

    def take(self, *, bytes_max: int, count_max: int) -> list[tuple[int, bytes]]:
        """Give the first records that are not acknowledged, with their sequences; at least one if there is any.

        None, or fewer, if `unread`.
        """
        taken: list[tuple[int, bytes]] = []
        self._taken = {}
        self._read = set()
        self.unread = False
        if os.getpid() != self._pid:
            return taken
        try:
            self._fill(taken, bytes_max, count_max)
        except OSError:
            self._stopped_by_the_disk()
        return taken

    def acknowledge(self, sequence: int) -> None:
        """Mark a taken record, and all that came before it, as delivered. Whole segments behind it are removed."""
        if sequence not in self._taken:
            raise ValueError(f"record {sequence} was not taken, or was already acknowledged")
        number, end = self._taken[sequence]
        self._marks[number] = end
        self._tallies.pop(number, None)
        self._taken = {other: place for other, place in self._taken.items() if place > (number, end)}
        self._persist(number, end)
        # Not what a new listing shows: it may know segments that the take never saw.
        for lower in sorted(self._read):
            if lower < number and lower not in self._refused:
                self._read.discard(lower)
                self._remove(lower)

    def pending(self) -> tuple[int, int]:
        """Count the records, and the bytes of their payloads, that are not acknowledged; the first ones if `unread`."""
        records = payload_bytes = 0
        self.unread = False
        try:
            complete_below, numbers = self._numbers()
            for number in numbers:
                tally = self._tallies.get(number)
                if tally is None:
                    sizes = [len(record.payload) for record, _ in self._records(number)]
                    tally = len(sizes), sum(sizes)
                    if number < complete_below:
                        self._tallies[number] = tally
                records += tally[0]
                payload_bytes += tally[1]
        except OSError:
            self._stopped_by_the_disk()
        return records, payload_bytes

    def finish(self) -> bool:
        """Remove the spool if everything in it is delivered; let go of it in any case. Stops the writer, if any.

        Returns:
            Whether it is gone. What is left may be adopted, later or by another process.
        """
        if os.getpid() != self._pid:
            return False
        if self._writer is not None:
            self._writer.stop()
        removed = self.pending() == (0, 0) and not self.unread and not self._refused and self._remove_all()
        self._lock.release()
        return removed

    def close(self) -> None:
        """Let go of an adopted spool as it is."""
        self._lock.release()

    def _fill(self, taken: list[tuple[int, bytes]], bytes_max: int, count_max: int) -> None:
        """Add the first records to *taken*. An OSError leaves there what lies before the place that caused it."""
        room = bytes_max
        complete_below, numbers = self._numbers()
        fruitless = 0
        for number in numbers:
            # A heap of old files must not hold up what was found already.
            if taken and fruitless >= _FRUITLESS_MAX:
                return
            is_empty = True
            for record, end in self._records(number):
                is_empty = False
                if taken and len(record.payload) > room:
                    return
                room -= len(record.payload)
                taken.append((record.sequence, record.payload))
                self._taken[record.sequence] = (number, end)
                if len(taken) >= count_max or room <= 0:
                    return
            self._read.add(number)
            fruitless += is_empty
            if is_empty and number < complete_below and number not in self._refused:
                self._remove(number)

    def _stopped_by_the_disk(self) -> None:
        self.failures += 1
        self.unread = True

    def _numbers(self) -> tuple[int, list[int]]:
        """Give the number below which segments are complete, and all that may hold records, in order."""
        complete_below = sys.maxsize if self._writer is None else self._writer.complete_below()
        try:
            names = self._files.listdir(self.directory)
        except FileNotFoundError:  # removed by somebody, which is certain; any other error tells nothing
            self.failures += 1
            names = []
        stems = (name[:-4] for name in names if name.endswith(".seg"))
        numbers = {int(stem) for stem in stems if stem.isascii() and stem.isdigit()} - self._delivered
        if self._writer is None:
            return complete_below, sorted(numbers)
        # The active one can be read even when somebody removed its file. Higher ones are not in use yet.
        numbers.add(complete_below)
        return complete_below, sorted(number for number in numbers if number <= complete_below)

    def _records(self, number: int) -> Iterator[tuple[frame.Frame, int]]:
        """Give a segment's records behind the mark, and where in the file each ends; count damage once."""
        loaded = self._load(number)
        if loaded is None:
            return
        data, base, salt, sequences = loaded
        for item in segment.walk(data, 0, salt, sequences):
            if isinstance(item, frame.Frame):
                yield item, base + item.end
            elif (number, base + item.start) not in self._reported:
                self._reported.add((number, base + item.start))
                self.torn_tails += item.is_tail
                self.damaged_spans += not item.is_tail
                self.damaged_bytes += item.end - item.start

    def _load(self, number: int) -> tuple[bytes, int, int, range] | None:
        """Give the segment's bytes behind its mark, where they start, its salt, and the sequences to believe."""
        if self._writer is not None:
            start = self._marks.get(number, segment.RECORDS_AT)
            view = self._writer.view(number, start)
            if view is not None:
                return view[0], start, view[1], _believable(view[2])
        try:
            data = read_file(self._files, self._path(number), bytes_max=sys.maxsize)
        except FileNotFoundError:
            return None
        try:
            header = segment.Header.decode(data, self._path(number))
        except ConfigError:
            header = None
            self._refused.add(number)
        if header is None:
            self.files_refused += (number, -1) not in self._reported
            self._reported.add((number, -1))
            return None
        start = (
            self._marks.get(number)
            or segment.decode_mark(data[segment.MARK_AT : segment.MARK_AT + segment.MARK_BYTES])
            or segment.RECORDS_AT
        )
        return data[start:], start, header.salt, _believable(header.first_sequence)

    def _persist(self, number: int, end: int) -> None:
        """Write the mark into the segment's own file. If that fails, a later process delivers once more."""
        try:
            fd = self._files.open(self._path(number), write=True)
            try:
                write_all(self._files, fd, segment.encode_mark(end), segment.MARK_AT)
            finally:
                self._files.close(fd)
        except OSError:
            self.failures += 1

    def _remove(self, number: int) -> None:
        self._delivered.add(number)  # also if its file stays
        try:
            self._files.unlink(self._path(number))
        except FileNotFoundError:
            pass  # somebody cleared it away; it is gone, as it should be
        except OSError:
            self.failures += 1
            return
        self._marks.pop(number, None)
        self._tallies.pop(number, None)
        if self._writer is not None:
            self._writer.forget(number)

    def _remove_all(self) -> bool:
        try:
            for name in sorted(self._files.listdir(self.directory)):  # the lock comes last
                self._files.unlink(self._path_of(name))
            self._files.rmdir(self.directory)
        except OSError:
            self.failures += 1
            return False
        return True

    def _path(self, number: int) -> str:
        return self._path_of(f"{number:08d}.seg")

    def _path_of(self, name: str) -> str:
        return os.path.join(self.directory, name)


def orphans(directory: str, *, files: Files | None = None) -> Iterator[SpoolReader]:
    """Adopt dead processes' spools in *directory*, one at a time as the caller asks for the next.

    Each is given to exactly one caller in exactly one process, which ends it with `finish` or `close`.
    """
    files = OsFiles() if files is None else files
    try:
        names = sorted(files.listdir(directory))
    except OSError:
        return
    for name in names:
        owner = _owner_in(name.removeprefix(FORMING))
        if owner is None:
            continue
        own = os.path.join(directory, name)
        if name.startswith(FORMING):
            if not owner.is_alive():
                _remove_forming(files, own)
            continue
        reader = _adopt(files, own)
        if reader is not None:
            yield reader


def _adopt(files: Files, directory: str) -> SpoolReader | None:
    path = os.path.join(directory, "lock")
    # A host that closed all its descriptors lost its lock, not its spool.
    owner = owner_of(path)
    if owner is not None and owner.is_alive():
        return None
    try:
        lock = files.lock(path)
    except OSError:
        return None  # not ours to read, or just removed by the one who finished it
    return None if lock is None else SpoolReader(directory, lock, files=files)


def _remove_forming(files: Files, directory: str) -> None:
    """Clear away a spool whose process died while making it: it never held a record."""
    try:
        for name in files.listdir(directory):
            files.unlink(os.path.join(directory, name))
        files.rmdir(directory)
    except OSError:
        return


def _owner_in(name: str) -> Owner | None:
    pid, _, rest = name.partition("-")
    return Owner.parse(f"{pid} {rest.partition('-')[0]}".encode())


def _believable(first_sequence: int) -> range:
    return range(max(0, first_sequence - _SEQUENCE_SLACK), first_sequence + _SEQUENCE_SLACK)
