"""Where events wait: disk, memory, and what dead processes left; with a clock in the test's hand."""

import errno
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from faults.disk import FaultyFiles
from leeward.errors import Unavailable
from leeward.journal.files import OsFiles
from leeward.journal.spool import SpoolHome, orphans
from leeward.journal.spool_writer import SpoolWriter
from leeward.sender import limits, spool as spools
from leeward.sender.lanes import MEMORY_EVENT_BYTES
from leeward.sender.results import Counts
from leeward.sender.spool import Spool
from sender_helpers import HandClock


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def made(tmp_path, clock):
    """A function that makes spools on one folder; all are closed at the end."""
    spools_made = []

    def make(**settings):
        defaults = {"counts": Counts(), "clock": clock, "about": {}}
        spool = Spool(str(tmp_path / "destination"), **(defaults | settings))
        spools_made.append(spool)
        return spool

    yield make
    for spool in spools_made:
        spool.close()


def keep(spool, event, *, is_error=False, record_type=1):
    return spool.append(event, record_type, is_error=is_error)


def taken(spool, count=1000):
    batches = [lane.take(count, 1 << 20) for lane in spool.lanes()]
    return [event for batch in batches if batch for event in batch.events]


def settle_all(spool):
    got = []
    for lane in spool.lanes():
        while lane.pending():
            if batch := lane.take(1000, 1 << 20):
                lane.settle(len(batch.events))
                got += batch.events
    return got


def adopted_lanes(spool):
    """What comes after our own lanes: two on disk if there is a spool, two in memory."""
    return spool.lanes()[2 * (1 + len(spool._own)) :]


def lane_of(spool, *, is_error=False):
    return spool._own[0].errors if is_error else spool._own[0].rest


def small(**options):
    """Makes spools of small segments."""
    sizes = {"first_bytes": 8192, "segment_bytes": 8192}
    return lambda folder, **settings: SpoolHome.create(folder, **settings, **(sizes | options))


def with_writer(kind):
    """Makes spools with another kind of writer."""

    def create(folder, **settings):
        home = SpoolHome.create(folder, **settings)
        for lane in home.lanes:
            lane.__class__ = kind
        return home

    return create


def test_an_event_waits_on_disk_until_it_is_settled(made, tmp_path):
    spool = made()

    assert all(keep(spool, b'{"n":%d}' % number) for number in range(5))

    lane = lane_of(spool)
    assert lane.pending() == 5
    assert lane.take(2, 1 << 20).events == lane.take(2, 1 << 20).events == [b'{"n":0}', b'{"n":1}']
    lane.settle(1)
    assert lane.pending() == 4
    assert lane.take(9, 1 << 20).events[0] == b'{"n":1}'
    assert spool.volatile() == 0
    assert stat.S_IMODE((tmp_path / "destination").stat().st_mode) == 0o700


def test_all_events_of_a_process_are_numbered_by_one_counter_whatever_lane_they_go_to(made):
    spool = made(create=small(), bytes_max=16384)
    for number in range(1, 61):
        keep(spool, b"x" * 1000, is_error=number % 5 == 0, record_type=1 + number % 2)
    numbers = []
    for lane in spool.lanes():
        while batch := lane.take(1, 1 << 20):
            assert batch.process == spool.process
            assert batch.first == batch.last
            assert batch.kinds == [1 + batch.first % 2]
            numbers.append(batch.first)
            lane.settle(1)

    assert spool.volatile() == 0
    assert len(numbers) == len(set(numbers)) == 60 - spool._counts.dropped["spool_full"]
    assert max(numbers) == 60
    assert len(spool.process) == 32


def test_errors_are_sent_first_then_the_rest_and_then_what_was_adopted(made):
    former = made()
    keep(former, b"left")
    keep(former, b"left error", is_error=True)
    former.close()
    spool = made()
    for event in (b"rest", b"error"):
        keep(spool, event, is_error=event == b"error")
        spool._remember(event + b" in memory", 1, 7, is_error=event == b"error")
    spool.tend(eager=True)

    assert taken(spool) == [b"error", b"error in memory", b"rest", b"rest in memory", b"left error", b"left"]


def test_nothing_exists_before_the_first_event(made, tmp_path):
    made()

    assert list(tmp_path.iterdir()) == []


def test_c17_a_disk_that_does_not_let_us_is_replaced_by_memory_and_tried_again_later(made, clock):
    working, tries = [False], []

    def create(folder, **settings):
        tries.append(clock.now_s)
        if not working[0]:
            raise Unavailable("no", code="spool")
        return SpoolHome.create(folder, **settings)

    spool = made(create=create)
    counts = spool._counts
    assert keep(spool, b"a")
    assert keep(spool, b"b")
    assert (spool.volatile(), counts.volatile, counts.last_error) == (2, 2, "spool")

    for tried in (1, 2):  # still broken
        clock.now_s += spools.MEND_EVERY_S - 1
        spool.tend(eager=False)
        assert len(tries) == tried
        clock.now_s += 1
        working[0] = tried == 2
        spool.tend(eager=False)
    assert keep(spool, b"c")

    assert counts.volatile == 0
    assert taken(spool) == [b"a", b"b", b"c"]


class Stalling(OsFiles):
    """A disk that takes its time for each new segment while `stall_s` is set."""

    def __init__(self, clock):
        self.clock = clock
        self.stall_s = 0.0
        self.stalls = 0

    def preallocate(self, fd, length):
        self.clock.now_s += self.stall_s
        self.stalls += bool(self.stall_s)
        super().preallocate(fd, length)


@pytest.fixture
def stalling(clock):
    return Stalling(clock)


def on(files, **options):
    """Makes spools on another disk."""
    return lambda folder, **settings: SpoolHome.create(folder, files=files, **settings, **options)


def test_c17_a_disk_that_stalls_is_paid_for_once(made, clock, stalling):
    spool = made(create=on(stalling))
    stalling.stall_s = spools.STALL_S + 1

    assert all(keep(spool, event) for event in (b"a", b"b", b"c"))
    assert stalling.stalls == 1
    assert (spool.volatile(), spool._counts.volatile) == (2, 2)

    stalling.stall_s = 0.0
    clock.now_s += spools.STALL_REST_S
    spool.tend(eager=False)
    assert keep(spool, b"d")
    assert (spool.volatile(), spool._counts.volatile) == (0, 0)
    assert taken(spool) == [b"a", b"b", b"c", b"d"]


def test_c17_a_disk_that_goes_on_stalling_is_tried_ever_more_seldom_and_by_the_worker_alone(made, clock, stalling):
    spool = made(create=on(stalling))
    stalling.stall_s = spools.STALL_S + 0.25
    keep(spool, b"a")

    lane = spool._own[0].home.rest
    tried_after_s = []
    for _ in range(8):
        stalls, rest_s = stalling.stalls, 0.0
        while stalling.stalls == stalls:
            assert keep(spool, b"in memory")
            clock.now_s += 0.5
            rest_s += 0.5
            spool.tend(eager=False)
        tried_after_s.append(rest_s)
        while lane._spare:  # with one in hand, there is nothing that the next try would ask the disk for
            lane._discard(lane._spare.pop())

    assert tried_after_s == [1.0, 1.5, 3.5, 7.5, 15.5, 29.5, 29.5, 29.5]  # half a second of each was the stall itself


def test_c28_a_pause_of_the_process_is_not_taken_for_one_of_the_disk(made, clock):
    """A stopped, throttled or starved process finds much time gone in an append that asked the file system nothing."""

    class Paused(SpoolWriter):
        def append(self, *record):
            clock.now_s += spools.STALL_S + 1 if self.changes else 0.0
            return super().append(*record)

    spool = made(create=with_writer(Paused))

    assert all(keep(spool, event) for event in (b"a", b"b", b"c"))
    assert spool.volatile() == 0


def test_c17_what_waits_in_memory_goes_to_the_mended_disk_but_for_the_batch_in_flight(made, clock, stalling):
    spool = made(create=on(stalling))
    counts = spool._counts
    stalling.stall_s = spools.STALL_S + 1
    for event in (b"stalled", b"1", b"2", b"3"):
        keep(spool, event)
    keep(spool, b"error", is_error=True)
    memory = spool._memory
    assert memory.take(1, 1 << 20).events == [b"1"]
    stalling.stall_s = 0.0

    clock.now_s += spools.STALL_REST_S
    spool.tend(eager=False)

    assert memory.take(9, 1 << 20).events == [b"1"]
    assert (spool.volatile(), counts.volatile) == (1, 1)
    assert lane_of(spool).take(9, 1 << 20).events == [b"stalled", b"2", b"3"]
    assert lane_of(spool, is_error=True).take(9, 1 << 20).events == [b"error"]
    memory.settle(1)
    assert memory._bytes_in == memory._bytes_out


def test_c17_what_does_not_fit_the_disk_stays_in_memory_until_it_does(made):
    files = FaultyFiles(OsFiles(), at=10**6, act="ENOSPC", sticky=True, only=lambda name: name == "preallocate")
    spool = made(create=on(files, first_bytes=8192, segment_bytes=8192))
    keep(spool, b"x" * 1000)
    files.at = files.calls + 1
    events = [b"%d" % number * 500 for number in range(10, 40)]
    assert all(keep(spool, event) for event in events)
    in_memory = spool.volatile()

    spool.tend(eager=False)
    assert 0 < spool.volatile() == in_memory == spool._counts.volatile
    files.at = None
    spool.tend(eager=False)

    assert (spool.volatile(), spool._counts.volatile) == (0, 0)
    assert settle_all(spool) == [b"x" * 1000, *events]


def test_c11_what_waits_in_memory_at_the_end_goes_to_a_disk_that_is_well_again_with_what_is_in_flight(
    made, clock, stalling
):
    spool = made(create=on(stalling))
    stalling.stall_s = spools.STALL_S + 1
    for event in (b"stalled", b"1", b"2"):
        keep(spool, event)
    spool._memory.take(1, 1 << 20)
    stalling.stall_s = 0.0

    spool.close()

    assert (spool.volatile(), spool.left, spool._counts.volatile) == (0, 3, 0)
    heir = made()
    heir.tend(eager=True)
    assert taken(heir) == [b"stalled", b"1", b"2"]


def test_c17_making_the_spool_may_be_what_stalls(made, clock):
    def create(folder, **settings):
        clock.now_s += spools.STALL_S + 1
        return SpoolHome.create(folder, **settings)

    spool = made(create=create)

    assert keep(spool, b"a")
    assert keep(spool, b"b")
    assert (lane_of(spool).pending(), spool.volatile()) == (1, 1)


def test_c12_whoever_comes_while_the_spool_is_being_made_makes_one_of_his_own(made):
    """As a signal handler would that interrupts the first capture."""

    def create(folder, **settings):
        if not interrupted:
            interrupted.append(True)
            assert keep(spool, b"from the handler")
        return SpoolHome.create(folder, **settings)

    interrupted = []
    spool = made(create=create)

    assert keep(spool, b"interrupted")

    assert sorted(taken(spool)) == [b"from the handler", b"interrupted"]
    assert spool.volatile() == 0


def test_c12_an_event_that_meets_a_closing_spool_is_not_lost(made):
    """Another thread closes the spool between the look at it and the append."""

    class Closing(SpoolWriter):
        def append(self, *record):
            if not spool.closed:
                spool.close()
            return super().append(*record)

    spool = made(create=with_writer(Closing))

    assert keep(spool, b"caught in between")
    assert taken(spool) == [b"caught in between"]


def test_c20_when_disk_and_memory_are_full_the_newest_are_dropped(made):
    """The disk's room belongs to a living process: nothing may be dropped for ours, and there is no share to speak of."""
    spool = made(create=small(), memory_bytes_max=3 * (1000 + MEMORY_EVENT_BYTES), bytes_max=1000)
    spool._quota.others_bytes = 64 << 20

    kept = [keep(spool, b"x" * 1000) for _ in range(20)]

    assert kept == [True] * 3 + [False] * 17
    assert spool.volatile() == 3
    assert spool._counts.dropped == {}  # our caller counts what we did not take


def test_c20_errors_have_a_place_of_their_own_in_memory_and_then_the_others(made):
    spool = Spool(
        "",
        counts=Counts(),
        clock=HandClock(),
        about={},
        memory_bytes_max=2 * (10 + MEMORY_EVENT_BYTES),
        memory_error_bytes_max=10 + MEMORY_EVENT_BYTES,
    )
    assert [keep(spool, b"x" * 10) for _ in range(3)] == [True, True, False]
    assert keep(spool, b"y" * 10, is_error=True)
    assert not keep(spool, b"z" * 10, is_error=True)
    settle_all(spool)
    assert [keep(spool, b"y" * 10, is_error=True) for _ in range(4)] == [True, True, True, False]


def test_c20_in_plain_mode_memory_is_one_queue_of_so_many_events(made):
    spool = Spool("", counts=Counts(), clock=HandClock(), about={}, memory_count_max=256)
    kept = [keep(spool, b"%d" % number, is_error=number % 2 == 0) for number in range(300)]

    assert kept == [True] * 256 + [False] * 44
    assert taken(spool) == [b"%d" % number for number in range(256)]


def test_c20_room_that_was_freed_is_used_again(made):
    spool = made(create=small(), bytes_max=24576, memory_bytes_max=0)
    for _ in range(5):
        for _ in range(10):
            assert keep(spool, b"x" * 500)
        settle_all(spool)
        spool.tend(eager=False)
    assert spool._counts.dropped == {}


def test_c19_over_the_limit_the_oldest_whole_segments_go_and_are_counted(made):
    spool = made(create=small(), bytes_max=5 * 8192)
    events = [b"%04d" % number * 100 for number in range(200)]
    assert all(keep(spool, event) for event in events)

    got = settle_all(spool)

    assert got == events[-len(got) :]
    assert spool._counts.dropped == {"spool_full": 200 - len(got)}
    assert spool._counts.unreported == {"spool_full": 200 - len(got)}
    assert 4 * 8192 < len(got) * 436 + 5 * 4160 <= 5 * 8192


def test_c19_what_is_on_its_way_is_never_dropped(made):
    spool = made(create=small(), bytes_max=5 * 8192)
    events = [b"%04d" % number * 100 for number in range(200)]
    for event in events[:40]:
        keep(spool, event)
    lane = lane_of(spool)
    first = lane.take(12, 1 << 20).events  # more than the first segment has
    for event in events[40:]:
        keep(spool, event)
    lane.settle(12)
    got = settle_all(spool)

    assert first == events[:12]
    assert [event for event in events[12:] if event in got] == got
    assert got[0] == events[12]  # the segment was being sent, with all that was in it
    assert len(first) + len(got) + spool._counts.dropped["spool_full"] == 200


def test_c19_errors_outlive_the_rest(made):
    spool = made(create=small(), bytes_max=5 * 8192)
    for number in range(100):
        keep(spool, b"rest%04d" % number * 50)
    errors = [b"%04d" % number * 100 for number in range(60)]
    for event in errors:
        assert keep(spool, event, is_error=True)

    kept = settle_all(spool)

    kept_errors = [event for event in kept if not event.startswith(b"rest")]
    assert kept_errors == errors[-len(kept_errors) :]
    assert len(kept_errors) > 30  # all that fits
    assert len(kept) - len(kept_errors) <= 9  # the active segment of the rest
    assert spool._counts.dropped == {"spool_full": 160 - len(kept)}


def test_c19_when_no_rest_is_left_the_oldest_errors_go(made):
    spool = made(create=small(), bytes_max=5 * 8192)
    errors = [b"%04d" % number * 100 for number in range(200)]
    assert all(keep(spool, event, is_error=True) for event in errors)

    kept = settle_all(spool)

    assert kept == errors[-len(kept) :]
    assert spool._counts.dropped == {"spool_full": 200 - len(kept)}


def test_c19_the_rest_never_pushes_out_errors(made):
    spool = made(create=small(), bytes_max=3 * 8192)
    errors = [b"%04d" % number * 100 for number in range(16)]
    for event in errors:
        keep(spool, event, is_error=True)
    for number in range(100):
        keep(spool, b"rest%04d" % number * 50)

    assert settle_all(spool)[:16] == errors


def test_c9_what_a_dead_process_left_is_adopted_once(made, clock):
    former = made()
    keep(former, b"left")
    former.close()
    heir, sibling = made(), made()

    heir.tend(eager=False)
    sibling.tend(eager=False)

    assert taken(heir) == [b"left"]
    assert heir.lanes()[-1].take(1, 1).process == former.process
    assert heir.adopting
    assert taken(sibling) == []
    settle_all(heir)
    clock.now_s += spools.ADOPT_EVERY_S
    heir.tend(eager=False)
    assert not heir.adopting
    assert adopted_lanes(heir) == []


def test_c15_a_living_process_keeps_its_own(made):
    living, other = made(), made()
    keep(living, b"mine")

    other.tend(eager=True)

    assert taken(other) == []


def test_dead_spools_are_adopted_one_at_a_time(made):
    for number in range(3):
        former = made()
        keep(former, b"%d" % number)
        former.close()
    heir = made()
    found = []

    heir.tend(eager=True)
    while heir.adopting:
        assert len(adopted_lanes(heir)) == 1
        found += taken(heir)
        settle_all(heir)
        heir.tend(eager=True)

    assert sorted(found) == [b"0", b"1", b"2"]


def test_adoption_is_looked_for_seldom_and_sooner_when_somebody_waits(made, clock):
    heir = made()
    heir.tend(eager=False)
    former = made()
    keep(former, b"left")
    former.close()

    clock.now_s += spools.ADOPT_EVERY_S - 1
    heir.tend(eager=False)
    assert taken(heir) == []
    heir.tend(eager=True)
    assert taken(heir) == [b"left"]


def test_c18_a_spool_of_a_newer_version_is_left_alone_and_not_opened_again_and_again(made, clock, tmp_path):
    former = made()
    keep(former, b"left")
    former.close()
    (segment,) = (tmp_path / "destination").glob("*/*/*.seg")
    data = bytearray(segment.read_bytes())
    from leeward.journal import segment as segments

    header = bytearray(data[: segments.HEADER_BYTES - 4])
    header[8:10] = (segments.VERSION + 1).to_bytes(2, "little")
    from zlib import crc32

    data[: segments.HEADER_BYTES] = header + crc32(header).to_bytes(4, "little")
    segment.write_bytes(data)
    heir = made()

    for _ in range(3):
        heir.tend(eager=True)
        clock.now_s += spools.ADOPT_EVERY_S

    assert taken(heir) == []
    assert segment.exists()
    assert len(heir._hopeless) == 1


def test_c18_events_that_were_damaged_on_disk_are_counted_and_the_rest_goes_on(made, tmp_path):
    spool = made()
    for _ in range(200):
        keep(spool, b"x" * 1000)  # more than the first segment holds
    first = min((tmp_path / "destination").glob("*/*/*.seg"))
    first.write_bytes(bytes(first.stat().st_size))
    lane = lane_of(spool)

    settle_all(spool)

    assert lane.pending() == 0
    assert 0 < spool._counts.unreported["spool_damaged"] < 200


class Unreadable(OsFiles):
    """Lists no spool and opens none of its segments while `refuses` is set, as a process without descriptors.

    With `only`, it is a bad disk: just what has that name is refused.
    """

    refuses = False
    only = ""

    def open(self, path, **options):
        self._check(path)
        return super().open(path, **options)

    def listdir(self, path):
        self._check(path)
        return super().listdir(path)

    def _check(self, path):
        if self.refuses and path.endswith(self.only) and not path.endswith("destination"):
            raise OSError(errno.EMFILE, "Too many open files")


def appended(spool, count):
    """Numbered events; 200 are more than the first segment holds."""
    events = [b'{"n":%d,"x":"%s"}' % (number, b"x" * 600) for number in range(count)]
    assert all(keep(spool, event) for event in events)
    return events


def test_c27_what_could_not_be_read_for_a_moment_is_not_counted_as_damaged_and_comes_later(made):
    files = Unreadable()
    spool = made(create=lambda folder, **settings: SpoolHome.create(folder, files=files, **settings))
    events = appended(spool, 200)
    lane = lane_of(spool)

    files.refuses = True
    assert lane.take(500, 1 << 20) is None
    assert lane.is_stuck
    assert lane.pending() == 200
    files.refuses = False
    assert lane.take(500, 1 << 20).events == events
    lane.settle(200)

    assert spool._counts.dropped == {}
    assert lane.pending() == 0
    appended(spool, 90)
    assert lane.pending() == 90


def test_c27_a_spool_holds_at_most_three_descriptors(made):
    """The lock, and a mapping for each lane: none from Python 3.13 on. The fourth is the connection's."""
    before = set(Path("/proc/self/fd").iterdir())
    spool = made()
    for number in range(3000):
        keep(spool, b"x" * 600, is_error=number % 3 == 0)
        if number % 500 == 0:
            spool.tend(eager=True)
            taken(spool, 10)
    spool.tend(eager=True)

    assert len(set(Path("/proc/self/fd").iterdir()) - before) <= 3


def test_c27_a_dead_processs_spool_that_cannot_be_read_is_left_and_adopted_once_it_can(made, monkeypatch, tmp_path):
    files = Unreadable()
    former = made()
    events = appended(former, 200)
    former.close()
    monkeypatch.setattr(spools, "orphans", lambda folder: orphans(folder, files=files))
    heir = made()

    files.refuses = True
    heir.tend(eager=True)
    assert adopted_lanes(heir) == []
    assert not heir.adopting
    files.refuses = False
    heir.tend(eager=True)

    assert taken(heir) == events
    settle_all(heir)
    heir.tend(eager=True)
    assert [path.name for path in (tmp_path / "destination").iterdir()] == ["about.json"]


def test_c27_an_adopted_spool_that_can_no_longer_be_read_makes_way_and_is_adopted_again(made, monkeypatch):
    files = Unreadable()
    former = made()
    events = appended(former, 200)
    former.close()
    monkeypatch.setattr(spools, "orphans", lambda folder: orphans(folder, files=files))
    heir = made()
    heir.tend(eager=True)
    (lane,) = adopted_lanes(heir)

    files.refuses = True
    assert lane.take(500, 1 << 20) is None
    assert adopted_lanes(heir) == []  # nobody waits for it
    heir.tend(eager=True)
    assert not heir.adopting
    files.refuses = False
    heir.tend(eager=True)

    assert taken(heir) == events
    assert heir._counts.dropped == {}


def test_c27_what_can_be_read_again_when_an_adopted_spool_is_let_go_is_adopted_once_more(made, monkeypatch):
    files = Unreadable()
    former = made()
    events = appended(former, 200)
    former.close()
    monkeypatch.setattr(spools, "orphans", lambda folder: orphans(folder, files=files))
    heir = made()

    files.refuses, files.only = True, "00000002.seg"
    heir.tend(eager=True)
    before = taken(heir)
    settle_all(heir)
    files.refuses = False
    heir.tend(eager=True)  # all that was known of is sent: it is let go, and not removed
    heir.tend(eager=True)

    assert 0 < len(before) < 200
    assert before + taken(heir) == events


def test_c17_an_event_that_is_settled_before_its_thread_has_counted_it_is_neither_damage_nor_holds_up_others(made):
    """The worker may be faster than the caller, who appends first and counts then."""
    spool = made()
    keep(spool, b"a")
    keep(spool, b"b")
    lane = lane_of(spool)
    (segment,) = spool._active.rest.ordered()
    segment.records -= 1  # by a thread that has not come to counting it
    assert lane.take(9, 1 << 20).events == [b"a", b"b"]
    lane.settle(2)
    assert lane.pending() == 0
    segment.records += 1  # now it counts

    keep(spool, b"c")
    assert lane.pending() == 1
    assert settle_all(spool) == [b"c"]
    assert spool._counts.dropped == {}

    segment.records += 1  # one that is counted and not there
    settle_all(spool)
    assert spool._counts.dropped == {"spool_damaged": 1}
    assert lane.pending() == 0


def test_a_closed_spool_leaves_nothing_behind_when_all_is_settled(made, tmp_path):
    spool = made()
    keep(spool, b"a")
    settle_all(spool)

    spool.close()

    assert [path.name for path in (tmp_path / "destination").iterdir()] == ["about.json"]


def test_what_comes_after_the_end_waits_on_disk_for_the_next_process(made):
    spool = made()
    keep(spool, b"a")
    settle_all(spool)
    spool.close()

    assert keep(spool, b"late")
    spool.tend(eager=True)
    assert taken(spool) == [b"late"]


def test_without_a_disk_the_end_is_the_end():
    spool = Spool("", counts=Counts(), clock=HandClock(), about={})
    assert keep(spool, b"a")
    assert spool.volatile() == 1
    assert spool._counts.volatile == 0  # in memory by choice, not because the disk failed
    spool.tend(eager=True)
    assert not spool.set_aside([b"a"], "http_400")
    assert spool.clear() == 1
    assert taken(spool) == []

    spool.close()

    assert not keep(spool, b"b")


def test_closing_while_adopting_gives_the_spool_back(made):
    former = made()
    keep(former, b"left")
    former.close()
    heir, next_heir = made(), made()
    heir.tend(eager=True)

    heir.close()
    next_heir.tend(eager=True)

    assert taken(next_heir) == [b"left"]


def test_c4_refused_events_are_set_aside_in_the_folder(made, tmp_path):
    spool = made()
    keep(spool, b"a")

    assert spool.set_aside([b"{}"], "http_400")
    assert (tmp_path / "destination" / "set-aside.jsonl").read_text() == '{"cause":"http_400","event":{}}\n'


def test_c17_a_folder_that_is_a_symbolic_link_is_refused(made, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "destination").symlink_to(tmp_path / "elsewhere")
    spool = made()

    assert keep(spool, b"a")
    assert spool.volatile() == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_c14_a_child_lets_go_of_what_it_inherited(made):
    former = made()
    keep(former, b"left")
    former.close()
    spool = made()
    keep(spool, b"a")
    home = spool._active
    spool.tend(eager=True)

    spool.abandon()

    assert not home.rest.append(b"b", 1, 1)


# C17: what becomes of a spool while the process runs.


def test_c17_a_spool_that_was_deleted_is_replaced_and_what_was_in_it_is_sent(made, clock, tmp_path):
    spool = made()
    keep(spool, b"a")
    keep(spool, b"an error", is_error=True)
    shutil.rmtree(spool._active.directory)
    keep(spool, b"b")

    clock.now_s += limits.LOOK_EVERY_S
    spool.tend(eager=False)
    keep(spool, b"c")

    assert len(list((tmp_path / "destination").glob("*/lock"))) == 1
    assert settle_all(spool) == [b"an error", b"a", b"b", b"c"]
    clock.now_s += limits.LOOK_EVERY_S
    spool.tend(eager=False)
    assert len(spool._own) == 1
    assert spool._counts.dropped == {}


def test_c17_a_folder_that_was_replaced_by_a_file_sends_events_to_memory_until_it_is_back(made, clock, tmp_path):
    spool = made()
    keep(spool, b"a")
    folder = tmp_path / "destination"
    shutil.rmtree(folder)
    folder.write_text("somebody else's")

    clock.now_s += limits.LOOK_EVERY_S
    spool.tend(eager=False)
    assert keep(spool, b"b")
    assert spool.volatile() == 1
    folder.unlink()
    clock.now_s += spools.MEND_EVERY_S
    spool.tend(eager=False)
    assert keep(spool, b"c")

    assert spool.volatile() == 0
    assert sorted(settle_all(spool)) == [b"a", b"b", b"c"]


def test_c17_a_disk_that_is_slow_to_mend_is_not_used_yet(made, clock):
    def create(folder, **settings):
        clock.now_s += spools.STALL_S + 1
        return SpoolHome.create(folder, **settings)

    spool = made(create=create)
    keep(spool, b"a")
    (home,) = [own.home for own in spool._own]
    prepare = home.prepare

    def slow(**options):
        clock.now_s += spools.STALL_S + 1
        return prepare(**options)

    home.prepare = slow
    clock.now_s += spools.MEND_EVERY_S
    spool.tend(eager=False)
    keep(spool, b"b")
    assert spool.volatile() == 1
    home.prepare = prepare
    clock.now_s += spools.MEND_EVERY_S
    spool.tend(eager=False)
    keep(spool, b"c")
    assert spool.volatile() == 0


def test_c17_a_network_file_system_is_refused_unless_it_was_asked_for(made, monkeypatch, tmp_path):
    monkeypatch.setattr(spools, "is_on_network", lambda folder: folder == str(tmp_path / "destination"))
    spool = made(refuse_network=True)

    assert keep(spool, b"a")
    assert spool.volatile() == 1
    assert spool._counts.last_error == "spool_on_network"
    assert list(tmp_path.iterdir()) == []
    explicit = made()
    keep(explicit, b"a")
    assert explicit.volatile() == 0


# What stands beside the spools.


def test_the_folder_says_in_words_what_it_is_for(made, tmp_path):
    about = {"wire": "native", "host": "https://telemetry.example", "app": "tool/1.0"}
    keep(made(about=about), b"a")
    keep(made(about=about), b"a")

    path = tmp_path / "destination" / "about.json"
    assert json.loads(path.read_text()) == about
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_folder_names_no_application_if_several_programs_use_it(made, tmp_path):
    shared = {"wire": "native", "host": "https://telemetry.example"}
    path = tmp_path / "destination" / "about.json"
    for app in ("tool/1.0", "other/2.0", "tool/1.0"):
        keep(made(about={**shared, "app": app}), b"a")
    assert json.loads(path.read_text()) == shared
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_c17_words_that_lead_elsewhere_or_to_nobody_are_left_alone(made, tmp_path):
    """A link is not followed, and a pipe that nobody writes is not waited for."""
    folder = tmp_path / "destination"
    folder.mkdir(mode=0o700)
    path = folder / "about.json"
    (tmp_path / "elsewhere").write_text("kept")
    path.symlink_to(tmp_path / "elsewhere")
    keep(made(about={"host": "h"}), b"a")
    assert path.is_symlink()
    path.unlink()
    os.mkfifo(path)

    assert keep(made(about={"host": "h"}), b"a")

    assert (tmp_path / "elsewhere").read_text() == "kept"


def test_c17_a_folder_that_takes_no_words_still_takes_events(made, monkeypatch, tmp_path):
    def refuse(source, target):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "rename", refuse)
    spool = made()

    assert keep(spool, b"a")
    assert spool.volatile() == 0
    assert not (tmp_path / "destination" / "about.json").exists()


def test_c25_clearing_deletes_what_is_ours_and_what_the_dead_left_but_nothing_of_the_living(made, tmp_path):
    for number in range(2):
        former = made()
        keep(former, b"left %d" % number)
        former.close()
    living, spool = made(), made()
    keep(living, b"theirs")
    keep(spool, b"a")
    keep(spool, b"b", is_error=True)
    spool._remember(b"c", 1, 9, is_error=False)
    spool.set_aside([b"{}", b"{}"], "http_400")
    spool.tend(eager=True)
    taken(spool, 1)

    assert spool.clear() == 7

    folder = tmp_path / "destination"
    (own,) = [path for path in folder.iterdir() if path.is_dir()]
    assert str(own) == living._active.directory
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["about.json"]
    assert taken(spool) == []
    assert spool.clear() == 0
    assert keep(spool, b"again")
    assert taken(spool) == [b"again"]
    assert taken(living) == [b"theirs"]


def test_c18_a_start_with_100000_old_files_costs_the_caller_nothing(made, tmp_path):
    """The caller never lists; the worker passes over what is no spool, and looks at a few spools at a time."""
    folder = tmp_path / "destination"
    folder.mkdir(mode=0o700)
    for number in range(50_000 if os.environ.get("LEEWARD_TEST_HEAVY") == "1" else 300):
        (folder / f"{number}.old").touch()
        (folder / f"{4_000_000 + number}-1-abcd").mkdir()
    listed = []

    class Files(type(SpoolHome.create(str(tmp_path / "other")).files)):
        def listdir(self, path):
            listed.append(path)
            return super().listdir(path)

    spool = made(create=lambda folder, **settings: SpoolHome.create(folder, files=Files(), **settings))
    assert keep(spool, b"a")
    assert listed == []
    assert Path(spool._active.directory).exists()
    while spool.adopting or spool._limits._round is not None or spool._adopted_at_s is None:
        spool.tend(eager=False)

    assert settle_all(spool) == [b"a"]
    assert len(list(folder.glob("*-1-abcd"))) == 0
