"""Reads a log in order while it grows. Keeps its place, so that following costs no search.

Promises  Each undamaged record once, in the order of sequences, whatever happened to the file; never a damaged one.
          Nothing beyond the given limit is looked at: those bytes may still change.
Limits    One thread. One open file. Reads 1 MiB at a time, more only for a longer record; all the rest of a segment
          where that is damaged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from leeward.journal import frame, segment
from leeward.journal.files import read_all
from leeward.journal.recover import Quarantine, Segment

if TYPE_CHECKING:
    from leeward.journal.files import Files

CHUNK_BYTES: Final = 1024 * 1024


class Entry:
    """One record as read from a log. Treat it as frozen."""

    __slots__ = ("batch", "payload", "segment", "sequence", "type")

    def __init__(self, sequence: int, segment: int, type: int, batch: bytes, payload: bytes) -> None:
        self.sequence = sequence
        self.segment = segment
        self.type = type
        self.batch = batch
        self.payload = payload

    def __repr__(self) -> str:
        return f"Entry(sequence={self.sequence}, segment={self.segment}, type={self.type}, bytes={len(self.payload)})"


class Follower:
    """A place in a log."""

    def __init__(self, files: Files, quarantine: Quarantine) -> None:
        self._files = files
        self._quarantine = quarantine
        self._place: _Place | None = None

    def read(
        self, after: int, segments: Sequence[Segment], ends: Sequence[int], limit: int, bytes_max: int
    ) -> list[Entry]:
        """Give the records with *after* < sequence ≤ *limit*, up to *bytes_max* of payload, but at least one.

        Args:
            after: The last sequence that the caller has.
            segments: The log's segments, in order.
            ends: Where each one's bytes end, for *limit*.
            limit: The last sequence that may be looked at.
            bytes_max: How much to give.
        """
        entries: list[Entry] = []
        room = bytes_max
        while after < limit:
            index = _holding(segments, after + 1)
            if index is None:
                break
            stop = limit
            if index + 1 < len(segments):
                stop = min(limit, segments[index + 1].first_sequence - 1)
            place = self._go_to(segments[index], after)
            if place is None:
                after = max(after, stop)
                continue
            for found in place.records(ends[index], stop):
                if found.sequence > after:
                    entries.append(Entry(found.sequence, place.number, found.type, found.batch, found.payload))
                    room -= len(found.payload)
                    after = found.sequence
                if room <= 0:
                    return entries
            after = max(after, stop)
        return entries

    def close(self) -> None:
        """Give the descriptor back."""
        if self._place is not None:
            self._place.close()
            self._place = None

    def leave(self, number: int) -> None:
        """Let go of a segment that is about to be removed."""
        if self._place is not None and self._place.number == number:
            self.close()

    def _go_to(self, wanted: Segment, after: int) -> _Place | None:
        """Stand in *wanted*, at or before the record that follows *after*; None if its file is gone."""
        if self._place is not None and self._place.number == wanted.number and self._place.yielded <= after:
            return self._place
        self.close()
        try:
            self._place = _Place(self._files, self._quarantine, wanted)
        except FileNotFoundError:
            return None  # somebody removed it; what follows is still good
        return self._place


class _Place:
    """Where the follower stands in one segment."""

    def __init__(self, files: Files, quarantine: Quarantine, inside: Segment) -> None:
        self._files = files
        self._quarantine = quarantine
        self._segment = inside
        self._fd = files.open(inside.path)
        self._buffer = b""
        self._buffer_at = segment.RECORDS_AT
        self._position = segment.RECORDS_AT
        self._index: deque[frame.Frame] = deque()
        self.number = inside.number
        # Up to `given` nothing more is to be had; `yielded` is the last that was. Damage sets them apart.
        self.given = self.yielded = inside.first_sequence - 1

    def close(self) -> None:
        self._files.close(self._fd)

    def records(self, end: int, stop: int) -> Iterator[frame.Frame]:
        """Give the records that follow, up to sequence *stop*, of the bytes before *end*."""
        while self.given < stop:
            found = self._index.popleft() if self._index else self._next(end, stop)
            self.given = stop if found is None else found.sequence
            if found is not None:
                self.yielded = found.sequence
                yield found

    def _next(self, end: int, stop: int) -> frame.Frame | None:
        """Give the record at our position; None if the segment ends there."""
        if self._position >= end:
            return None
        offset = self._position - self._buffer_at
        needed = frame.length_needed(self._buffer, offset)
        if needed is None or offset + needed > len(self._buffer):
            offset, needed = 0, max(CHUNK_BYTES, needed or 0)
            self._buffer_at = self._position
            self._buffer = self._read(end, needed)
            needed = frame.length_needed(self._buffer, offset) or 0
            if needed > len(self._buffer):
                self._buffer = self._read(end, needed)
        found = frame.decode(self._buffer, offset, len(self._buffer), self._segment.salt)
        if found is None or found.sequence != self.given + 1:
            self._survey(end, stop)
            return self._index.popleft() if self._index else None
        self._position += found.end - found.start
        return found

    def _read(self, end: int, length: int) -> bytes:
        return read_all(self._files, self._fd, min(length, end - self._position), self._position)

    def _survey(self, end: int, stop: int) -> None:
        """Index all that is good between here and *end*, set aside what is not, and stand at *end*."""
        data = self._read(end, end)
        good: dict[int, frame.Frame] = {}
        tail: segment.Damage | None = None
        for item in segment.walk(data, 0, self._segment.salt, self._segment.sequences()):
            if isinstance(item, frame.Frame):
                if self.given < item.sequence <= stop:
                    good.setdefault(item.sequence, item)
            elif item.is_tail:
                tail = item
            else:
                self._keep(data, item)
        # If all that may be asked for was found, the tail is a write that was never acknowledged.
        if tail is not None and len(good) < stop - self.given:
            self._keep(data, tail)
        self._index = deque(good[sequence] for sequence in sorted(good))
        self._position = end

    def _keep(self, data: bytes, damage: segment.Damage) -> None:
        self._quarantine.keep_span(self.number, self._position + damage.start, data[damage.start : damage.end])


def _holding(segments: Sequence[Segment], sequence: int) -> int | None:
    """Give the index of the segment that *sequence* belongs to; the oldest one, if it is older than all."""
    for index in range(len(segments) - 1, -1, -1):
        if segments[index].first_sequence <= sequence:
            return index
    return 0 if segments else None
