"""Queues of encoded events, oldest first: one in memory, and one over a lane of a spool on disk.

An event is a record: its type (the wires give the types their meaning), its number in its process, its bytes.
"""

from __future__ import annotations

from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from leeward.journal.spool_reader import SpoolReader
    from leeward.journal.spool_writer import SpoolWriter
    from leeward.sender.results import Counts

__all__ = ["MEMORY_EVENT_BYTES", "MemoryLane", "ReaderLane", "Taken"]

MEMORY_EVENT_BYTES: Final = 160  # what the interpreter adds to each event: two objects and a place in a queue


class Taken:
    """Events of one process that were taken together, each with its record type. Treat it as frozen."""

    __slots__ = ("events", "first", "kinds", "last", "process")

    def __init__(self, kinds: list[int], events: list[bytes], process: str, first: int, last: int) -> None:
        self.kinds = kinds
        self.events = events
        self.process = process
        self.first = first  # the lowest sequence of them
        self.last = last  # the highest

    def by_kind(self) -> dict[int, list[bytes]]:
        """The events by their record types, each in order."""
        found: dict[int, list[bytes]] = {}
        for kind, event in zip(self.kinds, self.events, strict=True):
            found.setdefault(kind, []).append(event)
        return found


class MemoryLane:
    """Events in memory, bounded by bytes and perhaps by count.

    Any thread appends; the worker alone takes, settles and moves.
    """

    __slots__ = ("_bytes_in", "_bytes_max", "_bytes_out", "_count_max", "_events", "_process", "_taken")

    def __init__(self, process: str, bytes_max: int, count_max: int | None = None) -> None:
        from collections import deque  # 7 modules that nearly every program has, and this import need not bring

        self._events: deque[tuple[int, int, bytes]] = deque()
        self._process = process
        self._bytes_in = 0  # counted by the callers, see `Counts` for why that is whole
        self._bytes_out = 0  # counted by the worker
        self._bytes_max = bytes_max
        self._count_max = count_max
        self._taken = 0  # so many of the oldest are in the batch in flight

    def append(self, event: bytes, record_type: int, sequence: int) -> bool:
        """Keep an event; false if there is no room."""
        size = len(event) + MEMORY_EVENT_BYTES
        if self._bytes_in - self._bytes_out + size > self._bytes_max:
            return False
        if self._count_max is not None and len(self._events) >= self._count_max:
            return False
        self._bytes_in += size
        self._events.append((record_type, sequence, event))
        return True

    def pending(self) -> int:
        """How many wait."""
        return len(self._events)

    def take(self, events_max: int, bytes_max: int) -> Taken | None:
        """The oldest events, at least one if there is one. The same again until they are settled."""
        waiting = list(islice(self._events, events_max))  # one step: nobody can append in the middle of it
        if not waiting:
            return None
        total = 0
        for index, (_, _, event) in enumerate(waiting):
            total += len(event)
            if index and total > bytes_max:
                del waiting[index:]
                break
        self._taken = len(waiting)
        kinds, sequences, events = (list(column) for column in zip(*waiting, strict=True))
        return Taken(kinds, events, self._process, min(sequences), max(sequences))

    def settle(self, count: int) -> None:
        """The oldest `count` events are done with."""
        self._taken = max(0, self._taken - count)
        for _ in range(count):
            self._bytes_out += len(self._events.popleft()[2]) + MEMORY_EVENT_BYTES

    def move(self, keep: Callable[[bytes, int, int], bool], *, taken: bool) -> int:
        """Hand the events to `keep`, oldest first, until it refuses one; how many went. What is `taken` stays, or not."""
        if taken:
            self._taken = 0
        moved, events = 0, self._events
        for _ in range(len(events) - self._taken):
            record_type, sequence, event = events[self._taken]
            if not keep(event, record_type, sequence):
                break
            del events[self._taken]  # only now: whoever looks at what waits must not miss it
            self._bytes_out += len(event) + MEMORY_EVENT_BYTES
            moved += 1
        return moved

    def clear(self) -> int:
        """Forget all that wait; how many they were."""
        count = len(self._events)
        self.settle(count)
        return count


class ReaderLane:
    """A lane on disk: our own (`writer`), or one that a dead process left. The worker alone takes and settles.

    `is_stuck` says that the last take gave nothing because the disk did not: the events wait, and are taken later.
    """

    __slots__ = ("_counts", "_left", "_lost", "_writer", "is_stuck", "reader")

    def __init__(self, reader: SpoolReader, counts: Counts, *, writer: SpoolWriter | None = None) -> None:
        self.reader = reader
        self.is_stuck = False
        self._counts = counts
        self._writer = writer
        self._left = 0 if writer is not None else reader.pending()[0]
        self._lost = 0

    def pending(self) -> int:
        """How many wait. Any thread may ask: it is counted here, and nothing is read."""
        return self._left if self._writer is None else self._writer.pending()

    def take(self, events_max: int, bytes_max: int) -> Taken | None:
        """The oldest events of one process, at least one if there is one and the disk gives it.

        The same again until they are settled.
        """
        run = self.reader.take(bytes_max=bytes_max, count_max=events_max)
        self.is_stuck = not run.payloads and self.reader.unread
        self._count_lost()
        if not run.payloads:
            return None
        return Taken(run.kinds, run.payloads, run.instance.hex(), min(run.sequences), max(run.sequences))

    def settle(self, count: int) -> None:
        """The oldest `count` events are done with."""
        self.reader.acknowledge(count)
        self._left = max(0, self._left - count)
        self._count_lost()

    def drop(self, number: int) -> int:
        """Remove a segment that a dead process left, with what waits in it; how many events went."""
        for part in self.reader.segments():
            if part.number == number:
                count = self.reader.drop(part) or 0
                self._left = max(0, self._left - count)
                return count
        return 0

    def _count_lost(self) -> None:
        """Report what the reader could not find any more."""
        lost = self.reader.lost - self._lost
        if lost > 0:
            self._lost += lost
            self._left = max(0, self._left - lost)
            self._counts.lose("spool_damaged", lost)
