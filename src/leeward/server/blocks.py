"""From log records to blocks: which rows are loaded together, and the record types that say so in the log.

A row position is `sequence << 16 | index`: unique in a log, ordered, and known before the row is loaded.
Pure: the writer reads, loads and waits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from leeward.journal.frame import Record
from leeward.server.record import KIND_OF_CODE, BatchHead, Head
from leeward.store.retention import DAY_MS

if TYPE_CHECKING:
    from leeward.store.events import BatchPlaces, EventKey

__all__ = [
    "DEAD",
    "SEAL",
    "SPLIT",
    "Chunk",
    "Range",
    "Seals",
    "batch_rows",
    "dead_record",
    "may_be_counted",
    "new_rows",
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

    def key(self, index: int) -> EventKey:
        """What makes the event of the row at *index* of this chunk the same event."""
        return self.head.project, self.kind(index), self.id(index)

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
        """The batch that this chunk completes, if it does; its row stands at the chunk's last position."""
        complete = self.offset + len(self.rows) >= len(self.head.ids)
        return self.head.batch if complete else None

    @property
    def batch_key(self) -> tuple[int, str]:
        """Project and id of the batch that this chunk completes."""
        batch = self.batch
        assert batch is not None
        return self.head.project, batch.batch_id

    def lines(self, instance: str, indices: Iterable[int]) -> list[bytes]:
        """The rows at *indices* with their place in the log, as the store loads them."""
        prefix = b'{"wal_instance":"%b","wal_segment":%d,"wal_position":' % (instance.encode(), self.segment)
        first, rows = self.first, self.rows
        return [b"%b%d,%b" % (prefix, first + index, rows[index][1:]) for index in indices]


def new_rows(chunk: Chunk, suspected: set[str], known: set[EventKey], in_block: set[EventKey]) -> Sequence[int]:
    """Which rows of the chunk are no repeats.

    Args:
        chunk: the rows.
        suspected: all ids, of whatever project and kind, that may be known.
        known: the events among them that the store has already.
        in_block: the suspected events of earlier chunks of the block; those of this one are added.
    """
    if suspected.isdisjoint(chunk.head.ids):
        return range(len(chunk.rows))
    ids = chunk.head.ids[chunk.offset :]
    new: list[int] = []
    for index in range(len(chunk.rows)):
        if ids[index] in suspected:
            key = chunk.key(index)
            if key in known or key in in_block:
                continue
            in_block.add(key)
        new.append(index)
    return new


def may_be_counted(chunk: Chunk, repeats: int, *, half: bool) -> bool:
    """Whether the store must be asked for the batch that this chunk completes, before its sender's losses are counted.

    So it is when the store may have it already: some of its events are repeats, so it may have come before and the door
    has forgotten it; or it is in the *half* of a block that was refused only after its batches were stored.
    """
    client, batch = chunk.head.client, chunk.head.batch
    if client is None or batch is None:
        return False
    return half or bool((client.lost or batch.refusals) and (repeats or batch.duplicates))


def batch_rows(
    completing: Iterable[tuple[Chunk, int]], instance: str, places: BatchPlaces, *, half: bool
) -> list[bytes]:
    """The rows of completed batches, in which what a client said counts once.

    Args:
        completing: the chunks that complete a batch, each with how many of its rows the store has already.
        instance: the log.
        places: where the batches stand that are stored, of those that may be.
        half: the block is the half of one that the store refused.
    """
    seen = {key: set(of_batch) for key, of_batch in places.items()}
    rows: list[bytes] = []
    for chunk, repeats in completing:
        own = (instance, chunk.last)
        before = seen.setdefault(chunk.batch_key, set())
        if half and own in before:
            continue
        rows.append(_batch_row(chunk, instance, repeats, again=bool(before - {own})))
        before.add(own)
    return rows


def _batch_row(chunk: Chunk, instance: str, repeats: int, *, again: bool) -> bytes:
    head, batch = chunk.head, chunk.batch
    assert batch is not None
    answer = {
        "event_count": batch.total,
        "accepted": batch.total - len(batch.refusals),
        "events": batch.keys,
        "errors": [{"index": index, "code": code, "error": error} for index, code, error in batch.refusals],
    }
    row: dict[str, Any] = {
        "project": head.project,
        "batch_id": batch.batch_id,
        "received_at": batch.received_at,
        "answer": _ENCODE(answer).decode(),
        "wal_instance": instance,
        "wal_position": chunk.last,
    }
    client = head.client
    if client is not None:
        new = head.rows_before + len(head.ids) - repeats
        row["client_process"] = client.process
        row["client_highest"] = client.highest
        row["client_received"] = new if again else new + len(batch.refusals)  # a refused event has arrived, too
        row["client_lost"] = {} if again else client.lost
    return _ENCODE(row)


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
        self._halves: set[Range] = set()

    def learn(self, type_: int, payload: bytes) -> None:
        """Take in a SEAL, SPLIT or DEAD record."""
        if type_ == SEAL:
            block = Range(*_PAIR.unpack(payload))
            self._blocks[block.first] = block
        elif type_ == SPLIT:
            first, middle, last = _TRIPLE.unpack(payload)
            self._blocks[first] = Range(first, middle)
            self._blocks[middle + 1] = Range(middle + 1, last)
            self._halves |= {Range(first, middle), Range(middle + 1, last)}
        elif type_ == DEAD:
            self._dead.add(Range(*_PAIR.unpack(payload)))

    def blocks(self, after: int) -> list[Range]:
        """The blocks with rows behind sequence *after*, in order, dead ones included."""
        floor = (after + 1) << INDEX_BITS
        return sorted(block for block in self._blocks.values() if block.last >= floor)

    def forget(self, up_to: int) -> None:
        """The blocks up to sequence *up_to* are loaded and behind the checkpoint."""
        kept = self.blocks(up_to)
        self._dead.intersection_update(kept)
        self._halves.intersection_update(kept)
        self._blocks = {block.first: block for block in kept}

    def is_dead(self, block: Range) -> bool:
        """Whether the block waits in the dead-letter list."""
        return block in self._dead

    def is_half(self, block: Range) -> bool:
        """Whether the block was once a part of a larger one, which the store refused."""
        return block in self._halves
