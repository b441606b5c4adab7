"""Row positions, chunks of records, and what the log says of blocks."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given, settings, strategies as st

from leeward.server.blocks import (
    DAY_MS,
    Chunk,
    Range,
    Seals,
    batch_row,
    dead_record,
    seal_record,
    split_record,
)
from leeward.server.record import BatchHead, Head

BATCH = BatchHead("b-1", b"digest", 5, 4, 1, ["k1", "k2", "k3"], [(3, "invalid_field", "why")])


def a_chunk(sequence=2, count=3, batch=None, received_at=5):
    head = Head(7, received_at, "eSx"[:count].ljust(count, "e"), [f"id-{n}" for n in range(count)], batch)
    return Chunk(sequence, 9, head, [b'{"project":7,"n":%d}' % n for n in range(count)], payload_bytes=1000)


def test_a_row_position_is_the_sequence_and_the_index():
    chunk = a_chunk(sequence=2, count=3)

    assert (chunk.first, chunk.last) == (2 << 16, (2 << 16) + 2)
    assert a_chunk(sequence=2, count=0).last == 2 << 16
    assert a_chunk(sequence=3).first > a_chunk(sequence=2, count=1000).last


def test_a_chunk_tells_its_day_size_kinds_and_ids():
    chunk = a_chunk(received_at=3 * DAY_MS - 1)

    assert (chunk.day, a_chunk(received_at=3 * DAY_MS).day) == (2, 3)
    assert chunk.size == 3 * len(b'{"project":7,"n":0}')
    assert [chunk.kind(n) for n in range(3)] == ["event", "span", "exception"]
    assert [chunk.id(n) for n in range(3)] == ["id-0", "id-1", "id-2"]


@settings(deadline=None)
@given(st.integers(1, 8), st.lists(st.integers(0, 8), max_size=4))
def test_however_a_chunk_is_split_its_parts_are_the_whole(count, cuts):
    whole = a_chunk(count=count, batch=BATCH)
    parts, rest = [], whole
    for cut in cuts:
        if rest is None:
            break
        front, rest = rest.split_after(rest.first + cut)
        parts.append(front)
    if rest is not None:
        parts.append(rest)

    assert [row for part in parts for row in part.rows] == whole.rows
    assert [part.id(n) for part in parts for n in range(len(part.rows))] == whole.head.ids
    assert [part.kind(n) for part in parts for n in range(len(part.rows))] == [whole.kind(n) for n in range(count)]
    assert [line for part in parts for line in part.lines("i", range(len(part.rows)))] == whole.lines("i", range(count))
    assert [part.batch for part in parts] == [None] * (len(parts) - 1) + [BATCH]
    assert sum(part.payload_bytes for part in parts) == whole.payload_bytes
    assert all(before.last + 1 == after.first for before, after in itertools.pairwise(parts))


def test_a_line_is_the_row_with_its_place_in_front():
    chunk = a_chunk().split_after(a_chunk().first)[1]

    lines = chunk.lines("cafe", [1])

    assert lines == [b'{"wal_instance":"cafe","wal_segment":9,"wal_position":131074,"project":7,"n":2}']


def test_a_batch_row_answers_the_same_batch_again():
    chunk = a_chunk(count=3, batch=BATCH)

    stored = msgspec.json.decode(batch_row(chunk, BATCH, "cafe"))

    assert msgspec.json.decode(stored.pop("answer")) == {
        "event_count": 4,
        "accepted": 3,
        "events": ["k1", "k2", "k3"],
        "errors": [{"index": 3, "code": "invalid_field", "error": "why"}],
    }
    assert stored == {
        "project": 7,
        "batch_id": "b-1",
        "received_at": 5,
        "wal_instance": "cafe",
        "wal_position": chunk.last,
    }


def learned(*records):
    seals = Seals()
    for record in records:
        seals.learn(record.type, record.payload)
    return seals


def at(sequence, index=0):
    return sequence << 16 | index


def test_blocks_behind_the_checkpoint_are_found_in_order():
    first, second = Range(at(1), at(2, 4)), Range(at(2, 5), at(3))

    seals = learned(seal_record(second), seal_record(first))

    assert seals.blocks(0) == [first, second]
    assert seals.blocks(1) == [first, second]
    assert seals.blocks(2) == [second]
    assert seals.blocks(3) == []


def test_w13_a_split_block_is_two_and_may_be_split_again():
    block = Range(at(1), at(1, 7))

    seals = learned(seal_record(block), split_record(block, at(1, 3)), split_record(Range(at(1), at(1, 3)), at(1)))

    assert seals.blocks(0) == [Range(at(1), at(1)), Range(at(1, 1), at(1, 3)), Range(at(1, 4), at(1, 7))]


def test_w13_a_dead_block_is_known_as_such_and_its_neighbours_are_not():
    dead, alive = Range(at(1), at(1)), Range(at(1, 1), at(2))

    seals = learned(seal_record(dead), seal_record(alive), dead_record(dead))

    assert [seals.is_dead(block) for block in seals.blocks(0)] == [True, False]


def test_other_records_say_nothing_of_blocks():
    seals = Seals()

    seals.learn(1, b"data")

    assert seals.blocks(0) == []


@settings(deadline=None)
@given(st.lists(st.integers(1, 10_000), unique=True, max_size=30))
def test_a_block_cut_at_random_places_keeps_every_position_once(cuts):
    whole = Range(at(1), at(1, 10_000))
    seals = learned(seal_record(whole))
    for cut in cuts:
        middle = at(1, cut - 1)
        holder = next(block for block in seals.blocks(0) if block.first <= middle <= block.last)
        if middle < holder.last:
            record = split_record(holder, middle)
            seals.learn(record.type, record.payload)

    blocks = seals.blocks(0)

    assert (blocks[0].first, blocks[-1].last) == (whole.first, whole.last)
    assert all(before.last + 1 == later.first for before, later in itertools.pairwise(blocks))
