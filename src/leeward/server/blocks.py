"""From log records to blocks: which rows are loaded together, and the record types that say so in the log.

A row position is `sequence << 16 | index`: unique in a log, ordered, and known before the row is loaded.
Pure: the writer reads, loads and waits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

import msgspec

from leeward.journal.frame import Record
from leeward.server.record import KIND_OF_CODE, BatchHead, Head
from leeward.store.retention import DAY_MS

__all__ = [
    "DEAD",
    "SEAL",
    "SPLIT",
    "Chunk",
    "Range",
    "Seals",
    "batch_row",
    "dead_record",
    "seal_record",
    "split_record",
]

SEAL: Final = 2
SPLIT: Final = 3
DEAD: Final = 4
INDEX_BITS: Final = 16
_PAIR: Final = struct.Struct("<QQ")
_TRIPLE: Final = struct.Struct("<QQQ")
_ENCODE = msgspec.json.Encoder().encode


class Range(msgspec.Struct, frozen=True, order=True):
    """Row positions, both ends included."""

    first: int
    last: int


class Chunk(msgspec.Struct):
    """A record's rows, or what is left of them: `offset` is the index of the first in its record."""

    sequence: int
    segment: int
    head: Head
    rows: list[bytes]
    payload_bytes: int  # of the record; counted with its last rows
    offset: int = 0

    @property
    def first(self) -> int:
        """Position of the first row."""
        return self.sequence << INDEX_BITS | self.offset

    @property
    def last(self) -> int:
        """Position of the last row; of the record itself where it has none."""
        return self.first + max(len(self.rows) - 1, 0)

    @property
    def day(self) -> int:
        """The UTC day of receipt: blocks never cross it."""
        return self.head.received_at // DAY_MS

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return sum(map(len, self.rows))

    def kind(self, index: int) -> str:
        """The kind of the row at *index* of this chunk."""
        return KIND_OF_CODE[self.head.kinds[self.offset + index].lower()]

    def id(self, index: int) -> str:
        """The id of the row at *index* of this chunk."""
        return self.head.ids[self.offset + index]

    def split_after(self, position: int) -> tuple[Chunk, Chunk | None]:
        """The part up to *position*, and the rest if there is any."""
        count = position - self.first + 1
        if count >= len(self.rows):
            return self, None
        front = Chunk(self.sequence, self.segment, self.head, self.rows[:count], 0, self.offset)
        rest = Chunk(self.sequence, self.segment, self.head, self.rows[count:], self.payload_bytes, self.offset + count)
        return front, rest

    @property
    def batch(self) -> BatchHead | None:
        """The batch that this chunk completes, if it does."""
        complete = self.offset + len(self.rows) >= len(self.head.ids)
        return self.head.batch if complete else None

    def lines(self, instance: str, indices: Iterable[int]) -> list[bytes]:
        """The rows at *indices* with their place in the log, as the store loads them."""
        prefix = b'{"wal_instance":"%b","wal_segment":%d,"wal_position":' % (instance.encode(), self.segment)
        first, rows = self.first, self.rows
        return [b"%b%d,%b" % (prefix, first + index, rows[index][1:]) for index in indices]


def batch_row(chunk: Chunk, batch: BatchHead, instance: str) -> bytes:
    """The row of a completed batch."""
    answer = {
        "event_count": batch.total,
        "accepted": batch.total - len(batch.refusals),
        "events": batch.keys,
        "errors": [{"index": index, "code": code, "error": error} for index, code, error in batch.refusals],
    }
    return _ENCODE(
        {
            "project": chunk.head.project,
            "batch_id": batch.batch_id,
            "received_at": batch.received_at,
            "answer": _ENCODE(answer).decode(),
            "wal_instance": instance,
            "wal_position": chunk.last,
        }
    )


def seal_record(block: Range) -> Record:
    """These rows are a block now."""
    return Record(SEAL, _PAIR.pack(block.first, block.last))


def split_record(block: Range, middle: int) -> Record:
    """The block ends at *middle* now; what follows is another."""
    return Record(SPLIT, _TRIPLE.pack(block.first, middle, block.last))


def dead_record(block: Range) -> Record:
    """These rows wait in the dead-letter list."""
    return Record(DEAD, _PAIR.pack(block.first, block.last))


class Seals:
    """What the log says of blocks that may not be loaded yet, in the log's order: for recovery."""

    def __init__(self) -> None:
        self._blocks: dict[int, Range] = {}
        self._dead: set[Range] = set()

    def learn(self, type_: int, payload: bytes) -> None:
        """Take in a SEAL, SPLIT or DEAD record."""
        if type_ == SEAL:
            block = Range(*_PAIR.unpack(payload))
            self._blocks[block.first] = block
        elif type_ == SPLIT:
            first, middle, last = _TRIPLE.unpack(payload)
            self._blocks[first] = Range(first, middle)
            self._blocks[middle + 1] = Range(middle + 1, last)
        elif type_ == DEAD:
            self._dead.add(Range(*_PAIR.unpack(payload)))

    def blocks(self, after: int) -> list[Range]:
        """The blocks with rows behind sequence *after*, in order, dead ones included."""
        floor = (after + 1) << INDEX_BITS
        return sorted(block for block in self._blocks.values() if block.last >= floor)

    def forget(self, up_to: int) -> None:
        """The blocks up to sequence *up_to* are loaded and behind the checkpoint."""
        kept = self.blocks(up_to)
        self._dead = {block for block in self._dead if block in kept}
        self._blocks = {block.first: block for block in kept}

    def is_dead(self, block: Range) -> bool:
        """Whether the block waits in the dead-letter list."""
        return block in self._dead
