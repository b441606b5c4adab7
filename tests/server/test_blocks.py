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
    batch_rows,
    dead_record,
    may_be_counted,
    new_rows,
    seal_record,
    split_record,
)
from leeward.server.record import BatchHead, Head
from leeward.wire.client import ClientReport

BATCH = BatchHead("b-1", b"digest", 5, 4, 1, ["k1", "k2", "k3"], [(3, "invalid_field", "why")])


def a_chunk(sequence=2, count=3, batch=None, received_at=5, client=None, rows_before=0):
    kinds, ids = "eSx"[:count].ljust(count, "e"), [f"id-{n}" for n in range(count)]
    head = Head(7, received_at, kinds, ids, batch, client, rows_before)
    return Chunk(sequence, 9, head, [b'{"project":7,"n":%d}' % n for n in range(count)], payload_bytes=1000)


def row_of(chunk, repeats=0, places=(), half=False):
    """The row of the batch that the chunk completes."""
    [row] = batch_rows([(chunk, repeats)], "cafe", {(7, "b-1"): set(places)}, half=half)
    return msgspec.json.decode(row)


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

    stored = row_of(chunk)

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


CLIENT = ClientReport("p-1", 90, {"spool_full": 2})


def client_of(row):
    return {name.removeprefix("client_"): value for name, value in row.items() if name.startswith("client_")}


def test_a_batch_row_says_what_its_client_said_and_how_many_of_its_events_are_new():
    chunk = a_chunk(batch=BATCH, client=CLIENT)

    assert client_of(row_of(chunk)) == {
        "process": "p-1", "highest": 90, "received": 3 + 1, "lost": {"spool_full": 2},
    }  # fmt: skip
    assert client_of(row_of(chunk, repeats=2))["received"] == 1 + 1, "a refused event has arrived as well"
    assert client_of(row_of(a_chunk(batch=BATCH, client=CLIENT, rows_before=500)))["received"] == 500 + 3 + 1
    assert client_of(row_of(a_chunk(batch=BATCH))) == {}


def test_a_batch_that_was_stored_before_counts_its_new_events_and_nothing_else_again():
    chunk = a_chunk(batch=BATCH, client=CLIENT)
    elsewhere, own = ("other log", chunk.last), ("cafe", chunk.last)

    for places in ([elsewhere], [elsewhere, own]):
        assert client_of(row_of(chunk, 2, places)) == {"process": "p-1", "highest": 90, "received": 1, "lost": {}}
    assert client_of(row_of(chunk, 2, [own]))["lost"] == CLIENT.lost, "it is its own first time, begun again"


def test_of_two_repeats_in_one_block_the_first_counts():
    first, second = (a_chunk(sequence, batch=BATCH, client=CLIENT) for sequence in (2, 3))

    rows = batch_rows([(first, 0), (second, 3)], "cafe", {}, half=False)

    assert [client_of(msgspec.json.decode(row))["lost"] for row in rows] == [CLIENT.lost, {}]


def test_w13_a_batch_that_was_stored_before_its_block_was_refused_is_not_stored_again_with_the_half():
    chunk = a_chunk(batch=BATCH, client=CLIENT)

    assert batch_rows([(chunk, 0)], "cafe", {(7, "b-1"): {("cafe", chunk.last)}}, half=True) == []
    assert len(batch_rows([(chunk, 0)], "cafe", {}, half=True)) == 1


def test_the_store_is_asked_for_a_batch_only_where_its_losses_might_count_twice():
    new = msgspec.structs.replace(BATCH, duplicates=0, refusals=[])
    repeated = msgspec.structs.replace(BATCH, refusals=[])
    silent = ClientReport("p-1", 90, {})

    def asked(batch, client, repeats=0, half=False):
        return may_be_counted(a_chunk(batch=batch, client=client), repeats, half=half)

    assert not asked(new, CLIENT)
    assert not asked(new, None, 3, half=True)
    assert not asked(None, CLIENT, 3, half=True)
    assert not asked(repeated, silent, 3)
    assert asked(repeated, CLIENT)
    assert asked(new, CLIENT, 1)
    assert asked(BATCH, silent)
    assert asked(new, silent, half=True)


def test_rows_are_new_unless_the_store_or_an_earlier_chunk_of_the_block_has_their_event():
    chunk = a_chunk(count=4)
    in_block = {(7, "exception", "id-2")}

    assert new_rows(chunk, {"id-9"}, set(), in_block) == range(4)
    assert new_rows(chunk, {"id-0", "id-1", "id-2"}, {(7, "event", "id-0"), (7, "event", "id-1")}, in_block) == [1, 3]
    assert in_block == {(7, "exception", "id-2"), (7, "span", "id-1")}


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


def test_w13_halves_are_known_as_such_until_they_are_behind_the_checkpoint():
    whole, other = Range(at(1), at(1, 7)), Range(at(2), at(2))

    seals = learned(seal_record(whole), seal_record(other), split_record(whole, at(1, 3)))

    assert [seals.is_half(block) for block in seals.blocks(0)] == [True, True, False]
    seals.forget(1)
    assert not seals.is_half(Range(at(1), at(1, 3)))


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
