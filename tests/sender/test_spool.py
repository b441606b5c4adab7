"""Where events wait: disk, memory, and what dead processes left; with a clock in the test's hand."""

import errno
import stat

import pytest
from hypothesis import given, strategies as st

from leeward.errors import Unavailable
from leeward.journal.files import OsFiles
from leeward.journal.spool import SpoolWriter, orphans
from leeward.resilience.retry import Retry
from leeward.sender import spool as spools
from leeward.sender.notes import Notes
from leeward.sender.plan import BATCH_AGE_S
from leeward.sender.results import Counts
from leeward.sender.spool import MemoryLane, Spool
from leeward.sender.worker import Worker
from sender_helpers import HandClock, ScriptedTransport


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def made(tmp_path, clock):
    """A function that makes spools on one folder; all are closed at the end."""
    spools_made = []

    def make(**settings):
        spool = Spool(str(tmp_path / "destination"), **{"counts": Counts(), "clock": clock, **settings})
        spools_made.append(spool)
        return spool

    yield make
    for spool in spools_made:
        spool.close()


def taken(spool, count=1000):
    return [event for lane in spool.lanes() for event in lane.take(count, 1 << 20)]


def settle_all(spool):
    for lane in spool.lanes():
        while lane.pending():
            if batch := lane.take(1000, 1 << 20):
                lane.settle(len(batch))


def test_an_event_waits_on_disk_until_it_is_settled(made, tmp_path):
    spool = made()

    assert all(spool.append(b'{"n":%d}' % number) for number in range(5))

    lane = spool.lanes()[0]
    assert lane.pending() == 5
    assert lane.take(2, 1 << 20) == lane.take(2, 1 << 20) == [b'{"n":0}', b'{"n":1}']
    lane.settle(1)
    assert lane.take(9, 1 << 20)[0] == b'{"n":1}'
    assert spool.volatile() == 0
    assert stat.S_IMODE((tmp_path / "destination").stat().st_mode) == 0o700


def test_nothing_exists_before_the_first_event(made, tmp_path):
    made()

    assert list(tmp_path.iterdir()) == []


def test_c17_a_disk_that_does_not_let_us_is_replaced_by_memory_and_tried_again_later(made, clock):
    working = [False]

    def create(folder):
        if not working[0]:
            raise Unavailable("no", code="spool")
        return SpoolWriter.create(folder)

    spool = made(create=create)
    counts = spool._counts
    assert spool.append(b"a")
    assert spool.append(b"b")
    assert (spool.volatile(), counts.volatile, counts.last_error) == (2, 2, "spool")

    clock.now_s += spools.MEND_EVERY_S
    spool.tend(eager=False)  # still broken
    working[0] = True
    clock.now_s += spools.MEND_EVERY_S
    spool.tend(eager=False)
    assert spool.append(b"c")

    assert counts.volatile == 2
    assert taken(spool) == [b"c", b"a", b"b"]


def test_c17_a_disk_that_stalls_is_paid_for_once(made, clock):
    stalls = []

    class Slow(SpoolWriter):
        def append(self, payload):
            clock.now_s += spools.STALL_S + 1
            stalls.append(payload)
            return super().append(payload)

    spool = made(create=Slow.create)

    assert all(spool.append(event) for event in (b"a", b"b", b"c"))
    assert stalls == [b"a"]
    assert (spool.volatile(), spool._counts.volatile) == (2, 2)

    clock.now_s += spools.MEND_EVERY_S
    spool.tend(eager=False)
    assert spool.append(b"d")
    assert stalls == [b"a", b"d"]


def test_c17_making_the_spool_may_be_what_stalls(made, clock):
    def create(folder):
        clock.now_s += spools.STALL_S + 1
        return SpoolWriter.create(folder)

    spool = made(create=create)

    assert spool.append(b"a")
    assert spool.append(b"b")
    assert (spool.lanes()[0].pending(), spool.volatile()) == (1, 1)


def test_c12_whoever_comes_while_the_spool_is_being_made_makes_one_of_his_own(made):
    """As a signal handler would that interrupts the first capture."""

    def create(folder):
        if not interrupted:
            interrupted.append(True)
            assert spool.append(b"from the handler")
        return SpoolWriter.create(folder)

    interrupted = []
    spool = made(create=create)

    assert spool.append(b"interrupted")

    assert sorted(taken(spool)) == [b"from the handler", b"interrupted"]
    assert spool.volatile() == 0


def test_c12_an_event_that_meets_a_closing_spool_is_not_lost(made):
    """Another thread closes the spool between the look at it and the append."""

    class Closing(SpoolWriter):
        def append(self, payload):
            if not spool.closed:
                spool.close()
            return super().append(payload)

    spool = made(create=Closing.create)

    assert spool.append(b"caught in between")
    assert taken(spool) == [b"caught in between"]


def test_c20_when_disk_and_memory_are_full_the_newest_are_dropped(made):
    spool = made(
        create=lambda folder: SpoolWriter.create(folder, segment_bytes=8192, first_bytes=8192, bytes_max=8192),
        memory_bytes_max=3 * (1000 + spools.MEMORY_EVENT_BYTES),
    )

    kept = [spool.append(b"x" * 1000) for _ in range(20)]

    assert kept == [True] * kept.count(True) + [False] * kept.count(False)
    assert spool.volatile() == 3
    assert spool.lanes()[0].pending() == kept.count(True) - 3 > 0


def test_c20_room_that_was_freed_is_used_again(made):
    spool = made(
        create=lambda folder: SpoolWriter.create(folder, segment_bytes=8192, first_bytes=8192, bytes_max=16384),
        memory_bytes_max=0,
    )
    for _ in range(5):
        while spool.append(b"x" * 1000):
            pass
        settle_all(spool)
        spool.tend(eager=False)
        assert spool.append(b"y")


def test_c9_what_a_dead_process_left_is_adopted_once(made, clock):
    former = made()
    former.append(b"left")
    former.close()
    heir, sibling = made(), made()

    heir.tend(eager=False)
    sibling.tend(eager=False)

    assert taken(heir) == [b"left"]
    assert heir.adopting
    assert taken(sibling) == []
    settle_all(heir)
    clock.now_s += spools.ADOPT_EVERY_S
    heir.tend(eager=False)
    assert not heir.adopting
    assert heir.lanes()[1:] == []


def test_c15_a_living_process_keeps_its_own(made):
    living, other = made(), made()
    living.append(b"mine")

    other.tend(eager=True)

    assert taken(other) == []


def test_dead_spools_are_adopted_one_at_a_time(made):
    for number in range(3):
        former = made()
        former.append(b"%d" % number)
        former.close()
    heir = made()
    found = []

    heir.tend(eager=True)
    while heir.adopting:
        assert len(heir.lanes()) == 2
        found += taken(heir)
        settle_all(heir)
        heir.tend(eager=True)

    assert sorted(found) == [b"0", b"1", b"2"]


def test_adoption_is_looked_for_seldom_and_sooner_when_somebody_waits(made, clock):
    heir = made()
    heir.tend(eager=False)
    former = made()
    former.append(b"left")
    former.close()

    clock.now_s += spools.ADOPT_EVERY_S - 1
    heir.tend(eager=False)
    assert taken(heir) == []
    heir.tend(eager=True)
    assert taken(heir) == [b"left"]


def test_c18_a_spool_of_a_newer_version_is_left_alone_and_not_opened_again_and_again(made, clock, tmp_path):
    former = made()
    former.append(b"left")
    former.close()
    (segment,) = (tmp_path / "destination").glob("*/*.seg")
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
        spool.append(b"x" * 1000)  # more than the first segment holds
    first = min((tmp_path / "destination").glob("*/*.seg"))
    first.write_bytes(bytes(first.stat().st_size))
    lane = spool.lanes()[0]

    settle_all(spool)

    assert lane.pending() == 0
    assert 0 < spool._counts.dropped["spool_damaged"] < 200


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
    assert all(spool.append(event) for event in events)
    return events


def test_c27_what_could_not_be_read_for_a_moment_is_not_counted_as_damaged_and_comes_later(made):
    files = Unreadable()
    spool = made(create=lambda folder: SpoolWriter.create(folder, files=files))
    events = appended(spool, 200)
    lane = spool.lanes()[0]

    files.refuses = True
    assert lane.take(500, 1 << 20) == []
    assert lane.pending() == 200
    files.refuses = False
    assert lane.take(500, 1 << 20) == events
    lane.settle(200)

    assert spool._counts.dropped == {}
    assert lane.pending() == 0
    appended(spool, 90)
    assert lane.pending() == 90


def test_c27_a_dead_processs_spool_that_cannot_be_read_is_left_and_adopted_once_it_can(made, monkeypatch, tmp_path):
    files = Unreadable()
    former = made()
    events = appended(former, 200)
    former.close()
    monkeypatch.setattr(spools, "orphans", lambda folder: orphans(folder, files=files))
    heir = made()

    files.refuses = True
    heir.tend(eager=True)
    assert heir.lanes()[1:] == []
    assert not heir.adopting
    files.refuses = False
    heir.tend(eager=True)

    assert taken(heir) == events
    settle_all(heir)
    heir.tend(eager=True)
    assert list((tmp_path / "destination").iterdir()) == []


def test_c27_an_adopted_spool_that_can_no_longer_be_read_makes_way_and_is_adopted_again(made, monkeypatch):
    files = Unreadable()
    former = made()
    events = appended(former, 200)
    former.close()
    monkeypatch.setattr(spools, "orphans", lambda folder: orphans(folder, files=files))
    heir = made()
    heir.tend(eager=True)
    (lane,) = heir.lanes()[1:]

    files.refuses = True
    assert lane.take(500, 1 << 20) == []
    assert heir.lanes()[1:] == []  # nobody waits for it
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
    spool.append(b"a")
    writer, lane = spool._active
    writer.append(b"b")  # by a thread that has not come to counting it
    assert lane.take(9, 1 << 20) == [b"a", b"b"]
    lane.settle(2)

    spool.append(b"c")
    assert lane.pending() == 1
    assert lane.take(9, 1 << 20) == [b"c"]
    lane.settle(1)
    lane.appended += 1  # now it counts
    settle_all(spool)
    assert spool._counts.dropped == {}

    lane.appended += 1  # one that is counted and not there
    settle_all(spool)
    assert spool._counts.dropped == {"spool_damaged": 1}
    assert lane.pending() == 0


def test_c27_a_spool_that_cannot_be_read_neither_spins_the_worker_nor_holds_up_what_can(made, clock):
    files = Unreadable()
    spool = made(create=lambda folder: SpoolWriter.create(folder, files=files))
    appended(spool, 200)
    spool._memory.append(b'{"n":"in memory"}')
    transport = ScriptedTransport()
    worker = Worker(
        spool,
        transport,
        counts=spool._counts,
        clock=clock,
        retry=Retry(attempts_max=None, base_s=1.0, cap_s=8.0),
        random=lambda count: bytes(count - 1) + b"\x80",  # one half, as a number
        notes=Notes(clock, debug=False),
    )

    files.refuses = True
    worker.step()
    clock.now_s += BATCH_AGE_S
    worker.step()
    assert transport.sizes == [1]
    worker.step()
    clock.now_s += BATCH_AGE_S
    assert worker.step() == 0.0  # tried
    assert worker.step() > 0.0  # and rests
    assert spool._counts.last_error == "spool"
    files.refuses = False
    clock.now_s += 8.0
    worker.step()

    assert transport.sizes == [1, 200]
    assert worker.waiting() == 0
    assert (spool._counts.delivered, spool._counts.dropped, spool._counts.last_error) == (201, {}, "")


def test_a_closed_spool_leaves_nothing_behind_when_all_is_settled(made, tmp_path):
    spool = made()
    spool.append(b"a")
    settle_all(spool)

    spool.close()

    assert list((tmp_path / "destination").iterdir()) == []


def test_what_comes_after_the_end_waits_on_disk_for_the_next_process(made):
    spool = made()
    spool.append(b"a")
    settle_all(spool)
    spool.close()

    assert spool.append(b"late")
    spool.tend(eager=True)
    assert taken(spool) == [b"late"]


def test_without_a_disk_the_end_is_the_end():
    spool = Spool("", counts=Counts(), clock=HandClock())
    assert spool.append(b"a")
    assert spool.volatile() == 1
    assert spool._counts.volatile == 0  # in memory by choice, not because the disk failed
    spool.tend(eager=True)
    assert not spool.set_aside([b"a"], "http_400")

    spool.close()

    assert not spool.append(b"b")


def test_closing_while_adopting_gives_the_spool_back(made):
    former = made()
    former.append(b"left")
    former.close()
    heir, next_heir = made(), made()
    heir.tend(eager=True)

    heir.close()
    next_heir.tend(eager=True)

    assert taken(next_heir) == [b"left"]


def test_c4_refused_events_are_set_aside_in_the_folder(made, tmp_path):
    spool = made()
    spool.append(b"a")

    assert spool.set_aside([b"{}"], "http_400")
    assert (tmp_path / "destination" / "set-aside.jsonl").read_text() == '{"cause":"http_400","event":{}}\n'


def test_c17_a_folder_that_is_a_symbolic_link_is_refused(made, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "destination").symlink_to(tmp_path / "elsewhere")
    spool = made()

    assert spool.append(b"a")
    assert spool.volatile() == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_c14_a_child_lets_go_of_what_it_inherited(made):
    former = made()
    former.append(b"left")
    former.close()
    spool = made()
    spool.append(b"a")
    spool.tend(eager=True)

    spool.abandon()

    assert not spool.lanes()[0].reader._writer.append(b"b")


@given(st.lists(st.integers(0, 400)), st.integers(1, 5), st.integers(1, 1000))
def test_c20_memory_is_bounded_by_bytes_and_nothing_in_it_is_lost(sizes, events_max, bytes_max):
    lane = MemoryLane(bytes_max=2000)
    kept = [b"x" * size for size in sizes if lane.append(b"x" * size)]

    assert sum(len(event) + spools.MEMORY_EVENT_BYTES for event in kept) <= 2000
    out = []
    while lane.pending():
        batch = lane.take(events_max, bytes_max)
        assert len(batch) == 1 or (len(batch) <= events_max and sum(map(len, batch)) <= bytes_max)
        out += batch
        lane.settle(len(batch))
    assert out == kept
    assert lane._bytes_in == lane._bytes_out
