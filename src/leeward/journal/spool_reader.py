"""Reads a lane of a spool: this process's own while its writer appends, or one that a dead process left.

Of our own active segment it copies what a batch needs out of the mapping, and believes it: we wrote those bytes, and
one step wrote each record. Files are read in pieces, each of which lets go of the interpreter, and checked; only where
a record does not check out, the rest of the segment is searched (`segment.walk`).

Promises  The reader gives each undamaged record in the order it came into the files, and steps over damage.
          A file from a newer version is left alone. What the disk does not give just now is waited for: nothing behind
          it is delivered, and nothing is removed that was not read to its end.
Limits    A record that was delivered but not yet acknowledged when its process died is delivered again.
"""

from __future__ import annotations

import os

from leeward.errors import ConfigError
from leeward.journal import frame, segment
from leeward.journal.files import read_all, write_all
from leeward.journal.spool_run import Run
from leeward.journal.spool_writer import Segment, segment_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final, Protocol

    from leeward.journal.files import Files

    class Lane(Protocol):
        """The segments of a lane."""

        directory: str

        def ordered(self) -> list[Segment]:
            """All that may hold records, oldest first."""
            ...

        def unlink(self, gone: Segment) -> bool:
            """Forget a segment and remove its file. False if the file stays."""
            ...


__all__ = ["LeftLane", "SpoolReader"]

PIECE_BYTES: Final = 64 * 1024
_SEQUENCES: Final = range(1 << 40)  # a million a second for twelve days
_FRUITLESS_MAX: Final = 64


class _Share:
    """What a run has of one segment: the records from `first` to before `last`."""

    __slots__ = ("first", "is_over", "last", "segment")

    def __init__(self, segment: Segment, first: int) -> None:
        self.segment = segment
        self.first = first
        self.last = first
        self.is_over = False  # nothing is behind them, and nothing can be added


class SpoolReader:
    """Delivers a lane's records. One thread takes and acknowledges.

    `unread` says that the last `take` or `pending` met something that the disk did not give (no descriptor left, an
    I/O error): it stopped there, and nobody knows how much is behind it. The next call tries again.
    `lost` counts what was appended or counted here and cannot be found any more.
    """

    def __init__(self, lane: Lane, *, files: Files) -> None:
        self.damaged_spans = 0
        self.torn_tails = 0  # what a kill cut in the middle, as a rule: never promised to anybody
        self.damaged_bytes = 0
        self.files_refused = 0
        self.failures = 0
        self.lost = 0
        self.unread = False
        self.lane = lane
        self._files = files
        self._pid = os.getpid()
        self._run = Run(bytes_max=0, count_max=0)
        self._shares: list[_Share] = []
        self._acknowledged = 0
        self._reported: set[tuple[int, int]] = set()
        self._passed: set[int] = set()  # segments not to be read again: delivered, though their files would not go
        self._newer: set[int] = set()  # segments of a newer version

    def take(self, *, bytes_max: int, count_max: int) -> Run:
        """Give the first records that are not acknowledged; at least one if there is any.

        None, or fewer, if `unread`.
        """
        self._give_back()
        run = self._run = Run(bytes_max=bytes_max, count_max=count_max)
        self.unread = False
        if os.getpid() == self._pid:
            try:
                self._fill(run)
            except OSError:
                self._stopped_by_the_disk()
            if not run.payloads:
                self._give_back()
        return run

    def acknowledge(self, count: int) -> None:
        """Mark the first *count* taken records that were not yet acknowledged as delivered; remove what is over."""
        before, upto = self._acknowledged, self._acknowledged + count
        if not before < upto <= len(self._run.payloads):
            raise ValueError(f"{count} records were not taken, or were already acknowledged")
        self._acknowledged = upto
        for share in self._shares:
            last = min(upto, share.last)
            if last <= max(before, share.first):
                continue
            share.segment.delivered += last - max(before, share.first)
            share.segment.mark = self._run.end_of(last - 1)
            if share.is_over and last == share.last:
                self._remove(share.segment)
            else:
                self._persist(share.segment)
        if upto == len(self._run.payloads):
            self._give_back()

    def pending(self) -> tuple[int, int]:
        """Count the records, and the bytes of their payloads, that are not acknowledged; the first ones if `unread`.

        Reads them all.
        """
        records = payload_bytes = 0
        self.unread = False
        try:
            for part in self._parts():
                found = self._count(part)
                records, payload_bytes = records + found[0], payload_bytes + found[1]
        except OSError:
            self._stopped_by_the_disk()
        return records, payload_bytes

    def segments(self) -> list[Segment]:
        """Give all segments, oldest first; none if the disk does not list them."""
        try:
            return self.lane.ordered()
        except OSError:
            self._stopped_by_the_disk()
            return []

    def drop(self, part: Segment) -> int | None:
        """Remove a segment with what is in it; how many records went. None if it is being sent, or cannot be removed."""
        try:
            part.token.pop()
        except IndexError:
            return None
        try:
            records = self._count(part)[0]
        except OSError:
            self._stopped_by_the_disk()
            records = -1
        if records < 0 or part.number in self._newer or not self.lane.unlink(part):
            part.token.append(None)
            return None
        return records

    def clear_away(self) -> None:
        """Remove the files of segments in which nothing waits any more. What we do not know of stays."""
        for part in self.lane.ordered():
            if part.number not in self._newer:
                self.lane.unlink(part)

    @property
    def is_refused(self) -> bool:
        """Whether there is something here that a newer version wrote."""
        return bool(self._newer)

    def _parts(self) -> Iterator[Segment]:
        for part in self.lane.ordered():
            if part.number not in self._passed and part.number not in self._newer:
                yield part

    def _fill(self, run: Run) -> None:
        """Add the first records to *run*. An OSError leaves there what lies before the place that caused it."""
        fruitless = 0
        for part in self._parts():
            # A heap of old files must not hold up what was found already.
            if run.is_full or (run.payloads and fruitless >= _FRUITLESS_MAX):
                return
            try:
                part.token.pop()
            except IndexError:
                continue  # somebody is dropping it
            share = _Share(part, len(run.payloads))
            self._shares.append(share)
            can_grow = not (part.is_closed or part.is_sealed)  # looked at first
            counted = part.records
            try:
                is_over = self._gather(part, run)
            finally:
                share.last = len(run.payloads)
            share.is_over = is_over and not can_grow
            if is_over and share.first == share.last:
                self._nothing_is_left(part, counted)
                fruitless += 1
                if share.is_over and part.number not in self._newer:
                    self._remove(part)

    def _give_back(self) -> None:
        """Let others drop what was read."""
        for share in self._shares:
            share.segment.token.append(None)
        self._shares = []
        self._acknowledged = 0
        self._run = Run(bytes_max=0, count_max=0)

    def _gather(self, part: Segment, run: Run, start: int | None = None) -> bool:
        """Add the records of a segment from *start* on, or from where it was delivered to; whether these are all."""
        first = len(run.payloads)
        mapped = part.map
        if mapped is not None and not part.is_closed:
            if self._is_of_another(part, run):
                return False
            try:
                # Nothing before `tell` is half copied. Each look is one step, and so is each copy.
                return self._gather_pieces(
                    part, run, start, lambda at, size: mapped[at : min(at + size, mapped.tell())], None
                )
            except ValueError:
                pass  # it was closed since
        try:
            fd = self._files.open(part.path)
        except FileNotFoundError:
            return True
        try:
            if part.instance is None and not self._introduce(part, fd):
                return True
            if self._is_of_another(part, run):
                return False
            if len(run.payloads) > first:
                start = run.position
            return self._gather_pieces(
                part, run, start, lambda at, size: read_all(self._files, fd, size, at), part.salt
            )
        finally:
            self._files.close(fd)

    def _is_of_another(self, part: Segment, run: Run) -> bool:
        """Whether the segment was written by another process than the run; a run begins with any."""
        if not run.payloads:
            run.instance = part.instance or b""
        run.is_full = run.is_full or run.instance != part.instance
        return run.is_full

    def _introduce(self, part: Segment, fd: int) -> bool:
        """Read what a segment says about itself; false if it says nothing, or nothing that we understand."""
        front = read_all(self._files, fd, segment.RECORDS_AT, 0)
        try:
            header = segment.Header.decode(front, part.path)
        except ConfigError:
            header = None
            self._newer.add(part.number)
        if header is None:
            self.files_refused += 1
            return False
        part.instance = header.instance
        part.salt = header.salt
        mark = front[segment.MARK_AT : segment.MARK_AT + segment.MARK_BYTES]
        part.mark = segment.decode_mark(mark) or segment.RECORDS_AT
        return True

    def _gather_pieces(
        self, part: Segment, run: Run, start: int | None, read: Callable[[int, int], bytes], salt: int | None
    ) -> bool:
        """Add records piece by piece; whether all that there are were added."""
        position = part.mark if start is None else start
        size = PIECE_BYTES
        while not part.blank_from or position < part.blank_from:
            data = read(position, size)
            added = run.add(data, position, salt)
            position += added
            if run.is_full:
                return False
            left = len(data) - added
            is_last = len(data) < size
            if is_last and not left:
                return True
            needed = frame.length_needed(data, added) or 0
            if not is_last and (left < frame.HEADER_BYTES or needed > left):
                size = max(PIECE_BYTES, needed)
            elif _is_blank(read, position):
                part.blank_from = position
                return True
            else:
                return self._search(part, run, position, _everything(read, position))
        return True

    def _search(self, part: Segment, run: Run, base: int, data: bytes) -> bool:
        """Add what can be found in *data*, which begins with damage; count the damage once."""
        for item in segment.walk(data, 0, part.salt, _SEQUENCES):
            if isinstance(item, frame.Frame):
                run.add(data[item.start : item.end], base + item.start, None)
                if run.is_full:
                    return False
            elif (part.number, base + item.start) not in self._reported:
                self._reported.add((part.number, base + item.start))
                self.torn_tails += item.is_tail
                self.damaged_spans += not item.is_tail
                self.damaged_bytes += item.end - item.start
        return True

    def _count(self, part: Segment) -> tuple[int, int]:
        """Count a segment's records, and the bytes of their payloads, that are not acknowledged."""
        records = payload_bytes = 0
        start = None
        while True:
            run = Run(bytes_max=1 << 20, count_max=1000)
            is_all = self._gather(part, run, start)
            records += len(run.payloads)
            payload_bytes += sum(map(len, run.payloads))
            if is_all or not run.payloads:
                part.records = max(part.records, part.delivered + records)
                return records, payload_bytes
            start = run.position

    def _nothing_is_left(self, part: Segment, counted: int) -> None:
        """What was counted before we looked, and is not there, is lost."""
        missing = counted - part.delivered
        if missing > 0:
            self.lost += missing
            part.delivered += missing

    def _stopped_by_the_disk(self) -> None:
        self.failures += 1
        self.unread = True

    def _persist(self, part: Segment) -> None:
        """Write the mark into the segment's own file. If that fails, a later process delivers once more."""
        mark = segment.encode_mark(part.mark)
        mapped = part.map
        if mapped is not None and not part.is_closed:
            try:
                mapped[segment.MARK_AT : segment.MARK_AT + segment.MARK_BYTES] = mark
            except ValueError:
                pass  # it was closed since
            else:
                return
        try:
            fd = self._files.open(part.path, write=True)
            try:
                write_all(self._files, fd, mark, segment.MARK_AT)
            finally:
                self._files.close(fd)
        except OSError:
            self.failures += 1

    def _remove(self, part: Segment) -> None:
        self._nothing_is_left(part, part.records)
        if not self.lane.unlink(part):
            self.failures += 1
            self._passed.add(part.number)


class LeftLane:
    """The segments of a lane whose process is dead: nobody adds to them, and who holds its lock knows them all."""

    def __init__(self, directory: str, *, files: Files) -> None:
        self.directory = directory
        self._files = files
        self._segments: dict[int, Segment] | None = None

    def ordered(self) -> list[Segment]:
        """All that may hold records, oldest first. They are listed once."""
        if self._segments is None:
            try:
                names = self._files.listdir(self.directory)
            except FileNotFoundError:  # which is certain; any other error tells nothing
                names = []
            numbers = sorted({number for name in names if (number := segment_number(name)) is not None})
            self._segments = {
                number: Segment(number, os.path.join(self.directory, f"{number:08d}.seg")) for number in numbers
            }
        return list(self._segments.values())

    def unlink(self, gone: Segment) -> bool:
        """Forget a segment and remove its file. False if the file stays."""
        try:
            self._files.unlink(gone.path)
        except FileNotFoundError:
            pass  # somebody cleared it away; it is gone, as it should be
        except OSError:
            return False
        if self._segments is not None:
            self._segments.pop(gone.number, None)
        return True


def _is_blank(read: Callable[[int, int], bytes], position: int) -> bool:
    """Whether nothing but zeros follows: what was allocated and never written."""
    while piece := read(position, PIECE_BYTES):
        if piece.strip(b"\0"):
            return False
        position += len(piece)
    return True


def _everything(read: Callable[[int, int], bytes], position: int) -> bytes:
    pieces = []
    while piece := read(position, PIECE_BYTES):
        pieces.append(piece)
        position += len(piece)
    return b"".join(pieces)
