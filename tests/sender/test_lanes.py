"""Queues of events: what a batch is made of, and the limits of memory."""

from __future__ import annotations

import errno

from hypothesis import given, strategies as st

from leeward.journal.files import OsFiles
from leeward.journal.spool import SpoolHome, readers_of
from leeward.sender.lanes import MEMORY_EVENT_BYTES, MemoryLane, ReaderLane
from leeward.sender.results import Counts
from spool_helpers import SMALL, left_behind

EVENTS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 400)))


@given(EVENTS, st.integers(1, 5), st.integers(1, 1000))
def test_c20_memory_is_bounded_by_bytes_and_nothing_in_it_is_lost(events, events_max, bytes_max):
    lane = MemoryLane("process", bytes_max=2000)
    kept = [
        (kind, number, b"x" * size)
        for number, (kind, size) in enumerate(events)
        if lane.append(b"x" * size, kind, number)
    ]

    assert sum(len(event) + MEMORY_EVENT_BYTES for _, _, event in kept) <= 2000
    out = []
    while lane.pending():
        batch = lane.take(events_max, bytes_max)
        again = lane.take(events_max, bytes_max)
        size = sum(map(len, batch.events))
        assert batch.events == again.events
        assert len(batch.events) == 1 or (len(batch.events) <= events_max and size <= bytes_max)
        assert (batch.first, batch.last, batch.process) == (
            kept[len(out)][1],
            kept[len(out) + len(batch.events) - 1][1],
            "process",
        )
        out += list(zip(batch.kinds, batch.events, strict=True))
        lane.settle(len(batch.events))
    assert out == [(kind, event) for kind, _, event in kept]
    assert lane.take(1, 1) is None
    assert lane._bytes_in == lane._bytes_out


def test_c20_memory_may_be_bounded_by_count():
    lane = MemoryLane("process", 1 << 20, count_max=3)

    assert [lane.append(b"x", 1, number) for number in range(5)] == [True] * 3 + [False] * 2
    lane.settle(1)
    assert lane.append(b"x", 1, 6)
    assert lane.clear() == 3
    assert lane.pending() == 0


def test_c17_what_is_not_in_flight_can_be_moved_to_another_place_until_that_is_full():
    lane = MemoryLane("process", 1 << 20)
    for number in range(6):
        lane.append(b"%d" % number, 1, number)
    moved = []

    def keep(event, record_type, sequence):
        if len(moved) == 2:
            return False
        moved.append((event, record_type, sequence))
        return True

    lane.take(2, 99)
    assert lane.move(keep, taken=False) == 2
    assert moved == [(b"2", 1, 2), (b"3", 1, 3)]
    assert lane.take(9, 99).events == [b"0", b"1", b"4", b"5"]
    lane.take(3, 99)
    lane.settle(2)
    moved.clear()
    assert lane.move(keep, taken=False) == 1
    assert lane.take(9, 99).events == [b"4"]
    assert lane.move(keep, taken=True) == 1
    assert lane.pending() == 0
    assert lane._bytes_in == lane._bytes_out


def test_the_sequences_of_a_batch_are_the_lowest_and_the_highest_in_it():
    """Threads may store their events in another order than they numbered them."""
    lane = MemoryLane("process", 1 << 20)
    for number in (3, 1, 2):
        lane.append(b"x", 1, number)

    assert (lane.take(9, 99).first, lane.take(9, 99).last) == (1, 3)


def test_a_lane_of_our_own_gives_events_with_their_types_and_numbers(tmp_path):
    home = SpoolHome.create(str(tmp_path / "spool"), instance=bytes(range(16)), **SMALL)
    for number, kind in ((1, 2), (3, 2), (2, 2), (4, 5)):
        assert home.rest.append(b"%d" % number, kind, number)
    lane = ReaderLane(home.readers[1], Counts(), writer=home.rest)

    first = lane.take(9, 1 << 20)
    assert (first.kinds, first.events, first.first, first.last) == ([2, 2, 2, 5], [b"1", b"3", b"2", b"4"], 1, 4)
    assert first.by_kind() == {2: [b"1", b"3", b"2"], 5: [b"4"]}
    assert first.process == bytes(range(16)).hex()
    lane.settle(3)
    assert lane.pending() == 1
    assert lane.take(9, 1 << 20).kinds == [5]
    home.close()


def test_a_left_lane_counts_what_is_in_it_and_a_segment_that_is_dropped_is_counted_out(tmp_path):
    directory = left_behind(str(tmp_path / "spool"), [b"%03d" % n * 200 for n in range(40)])
    lane = ReaderLane(readers_of(str(directory.parent))[1], Counts())
    assert lane.pending() == 40

    in_flight = len(lane.take(9, 1 << 20).events)
    assert lane.drop(1) == 0  # on its way
    dropped = lane.drop(3)

    assert lane.drop(99) == 0
    assert in_flight == 9
    assert dropped > 9
    assert lane.pending() == 40 - dropped


def test_c17_a_segment_that_cannot_be_read_or_removed_is_not_dropped(tmp_path):
    directory = left_behind(str(tmp_path / "spool"), [b"%03d" % n * 200 for n in range(40)])

    class Files(OsFiles):
        refused = ""

        def _check(self, call):
            if call == self.refused:
                raise OSError(errno.EIO, "Input/output error")

        def open(self, path, **options):
            self._check("open")
            return super().open(path, **options)

        def unlink(self, path):
            self._check("unlink")
            super().unlink(path)

        def listdir(self, path):
            self._check("listdir")
            return super().listdir(path)

    files = Files()
    lane = ReaderLane(readers_of(str(directory.parent), files=files)[1], Counts())
    for files.refused in ("open", "unlink"):
        assert lane.drop(1) == 0
    assert lane.pending() == 40
    files.refused = "listdir"
    assert ReaderLane(readers_of(str(directory.parent), files=files)[1], Counts()).drop(1) == 0
    files.refused = ""
    assert lane.drop(1) > 0
