"""How much may wait and for how long, over all processes of a destination."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from leeward.journal.spool import SpoolHome, orphans
from leeward.journal.spool_home import Quota
from leeward.journal.spool_survey import survey
from leeward.sender.lanes import ReaderLane
from leeward.sender.limits import AGE_MAX_S, ROTATE_S, SPOOLS_AT_ONCE, Limits
from leeward.sender.results import Counts
from sender_helpers import HandClock
from spool_helpers import SMALL, adopted, drain, left_behind, put, rest_of, take

PAYLOADS = [b"%03d" % n * 200 for n in range(40)]  # three segments: 6, 19 and 15


class Process:
    """A process with a spool, its limits and its counts; the test holds both of its clocks."""

    def __init__(self, root: str, *, bytes_max: int = 64 << 20) -> None:
        self.counts = Counts()
        self.clock = HandClock()
        self.wall_s = None
        self.clock.wall_ms = lambda: int((self.wall_s or time.time()) * 1000)
        self.quota = Quota(bytes_max, lambda count: self.counts.lose("spool_full", count))
        self.home = SpoolHome.create(root, quota=self.quota, **SMALL)
        self.adopted: list[ReaderLane] = []
        self.limits = Limits(root, quota=self.quota, counts=self.counts, clock=self.clock)

    def look(self) -> None:
        while self.limits.look([self.home], self.adopted):
            pass


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "spool")


@pytest.fixture
def process(root):
    process = Process(root)
    yield process
    process.home.close()


def made_old(directory: Path, *ages_s: float) -> None:
    """Let a lane's segments have been written so long ago."""
    for path, age_s in zip(sorted(directory.iterdir()), ages_s, strict=False):
        os.utime(path, (time.time() - age_s, time.time() - age_s))


def dead(root: str, payloads=PAYLOADS, *, is_error: bool = False, **options) -> Path:
    home = SpoolHome.create(root, **(SMALL | options))
    for payload in payloads:
        put(home, payload, is_error=is_error)
    home.close()
    return Path((home.errors if is_error else home.rest).directory)


# Age.


def test_c19_segments_of_our_own_are_dropped_and_counted_after_seven_days(process):
    for payload in PAYLOADS:
        put(process.home, payload)
    process.look()
    process.clock.now_s += AGE_MAX_S - 1
    process.look()
    assert process.counts.dropped == {}

    process.clock.now_s += 1
    process.look()

    left = drain(rest_of(process.home))
    assert left == PAYLOADS[-len(left) :]
    assert process.counts.dropped == process.counts.unreported == {"expired": 40 - len(left)}
    assert 0 < len(left) < 40  # the active segment was rotated, and is as old as that now


def test_c19_the_active_segment_is_ended_so_that_it_can_grow_old_too(process):
    put(process.home, b"old", is_error=True)
    process.look()
    process.clock.now_s += ROTATE_S
    process.look()
    put(process.home, b"new", is_error=True)
    process.look()

    process.clock.now_s += AGE_MAX_S - 1
    process.look()
    process.clock.now_s += 2
    process.look()
    assert process.counts.dropped == {"expired": 1}
    assert take(process.home.readers[0]) == [b"new"]


def test_c19_an_expired_segment_that_is_on_its_way_is_let_arrive(process):
    for payload in PAYLOADS:
        put(process.home, payload)
    process.look()
    assert take(rest_of(process.home)) == PAYLOADS
    process.clock.now_s += AGE_MAX_S
    process.look()

    rest_of(process.home).acknowledge(40)
    assert process.counts.dropped == {}


@pytest.mark.parametrize("jump_s", [-3600.0, 10 * 365 * 86_400.0])
def test_c21_a_jump_of_the_wall_clock_makes_none_of_our_own_events_expire(process, jump_s):
    for payload in PAYLOADS:
        put(process.home, payload)
    process.look()
    process.wall_s = time.time() + jump_s
    process.clock.now_s += 3600
    process.look()

    assert process.counts.dropped == {}
    assert take(rest_of(process.home)) == PAYLOADS


def test_c19_what_a_dead_process_left_expires_by_the_time_of_its_files(root, process):
    directory = dead(root)
    made_old(directory, AGE_MAX_S + 60, AGE_MAX_S + 60, AGE_MAX_S - 60, 0)
    former = SpoolHome.create(root, **SMALL)  # alive: its old files are its own to drop
    put(former, b"theirs")
    made_old(Path(former.rest.directory), AGE_MAX_S + 60)

    process.look()

    assert not (directory / "00000001.seg").exists()
    assert take(rest_of(former)) == [b"theirs"]
    left = adopted(root)
    assert left == PAYLOADS[-len(left) :]
    assert process.counts.dropped == {"expired": 40 - len(left)}
    former.close()


def test_c19_a_spool_in_which_all_is_expired_is_gone(root, process):
    directory = dead(root)
    made_old(directory, *[AGE_MAX_S + 60] * 9)

    process.look()

    assert not directory.parent.exists()
    assert process.counts.dropped == {"expired": 40}


def test_c19_an_adopted_lane_expires_too(root, process):
    directory = dead(root)
    left = next(orphans(root))
    process.adopted = [ReaderLane(reader, process.counts) for reader in left.readers]
    assert process.adopted[1].pending() == 40
    made_old(directory, AGE_MAX_S + 60, AGE_MAX_S + 60)

    process.look()

    (dropped,) = process.counts.dropped.values()
    assert process.adopted[1].pending() == 40 - dropped
    assert take(left.readers[1]) == PAYLOADS[dropped:]
    left.close()


# Size.


def test_c19_other_processes_count_without_the_space_that_they_only_allocated(root, process):
    left_behind(root, [b"x" * 500], first_bytes=1 << 20)
    sibling = SpoolHome.create(root, first_bytes=1 << 20)
    put(sibling, b"x" * 500)

    process.look()

    assert process.quota.others_bytes == 2 * 536
    sibling.close()


def test_c19_over_the_limit_the_oldest_segments_go_whoever_is_dead_left_them(root):
    oldest, newer = dead(root), dead(root)
    process = Process(root, bytes_max=70_000)
    for payload in PAYLOADS:
        put(process.home, payload)
    made_old(oldest, 400, 390, 380)
    made_old(newer, 90, 80, 70)
    made_old(Path(process.home.rest.directory), 200, 190, 180)

    process.look()

    assert not oldest.parent.exists()
    assert take(rest_of(process.home)) == PAYLOADS
    assert [drain(rest_of(left)) for left in orphans(root)] == [PAYLOADS]
    assert process.counts.dropped == {"spool_full": 40}
    process.home.close()


def test_c19_what_a_living_sibling_has_is_its_own_to_drop(root):
    sibling, process = Process(root, bytes_max=60_000), Process(root, bytes_max=60_000)
    for payload in PAYLOADS:
        put(sibling.home, payload)
        put(process.home, payload)
    made_old(Path(sibling.home.rest.directory), 400, 390, 380, 370)

    process.look()
    assert process.counts.dropped == {}  # the sibling's are older
    sibling.look()
    assert sibling.counts.dropped["spool_full"] > 0
    process.look()
    assert process.counts.dropped == {}
    sibling.home.close()
    process.home.close()


def test_c19_our_own_oldest_segments_go_if_they_are_the_oldest_of_all(root):
    newer = dead(root)
    process = Process(root, bytes_max=60_000)
    for payload in PAYLOADS:
        put(process.home, payload)
    made_old(Path(process.home.rest.directory), 200, 190, 180)

    process.look()

    assert take(rest_of(process.home)) == PAYLOADS[6:]
    assert process.counts.dropped == {"spool_full": 6}
    assert len(list(newer.iterdir())) == 3
    process.home.close()


def test_c19_errors_of_the_dead_go_after_all_of_the_rest(root):
    errors, rest = dead(root, is_error=True), dead(root)
    made_old(errors, *[900] * 3)
    process = Process(root, bytes_max=40_000)
    put(process.home, b"x")

    process.look()

    assert len(list(errors.iterdir())) == 3
    assert not rest.exists() or len(list(rest.iterdir())) < 3
    assert process.counts.dropped["spool_full"] > 0
    process.home.close()


def test_c19_an_adopted_lane_is_dropped_from_but_not_what_is_on_its_way(root):
    dead(root)
    left = next(orphans(root))
    process = Process(root, bytes_max=18_000)
    process.adopted = [ReaderLane(reader, process.counts) for reader in left.readers]
    in_flight = process.adopted[1].take(3, 1 << 20).events
    put(process.home, b"x")

    process.look()

    assert process.counts.dropped["spool_full"] > 0
    process.adopted[1].settle(3)
    assert in_flight == PAYLOADS[:3]
    assert take(left.readers[1])[0] == PAYLOADS[3]
    assert process.adopted[1].pending() == 37 - process.counts.dropped["spool_full"]
    left.close()
    process.home.close()


def test_c19_a_segment_that_somebody_else_dropped_meanwhile_is_no_error(root, process):
    directory = dead(root)
    found = next(survey(root, own={process.home.directory}))
    (spool,) = orphans(root)
    spool.clear()

    process.limits._drop_left(found[:1], "spool_full")

    assert process.counts.dropped == {}
    assert not directory.exists()


def test_a_crowd_of_spools_is_looked_at_some_at_a_time(root, process, monkeypatch):
    monkeypatch.setattr("leeward.sender.limits.CANDIDATES_MAX", 10)
    for _ in range(SPOOLS_AT_ONCE + 1):
        dead(root, [b"x" * 500])

    assert process.limits.look([process.home], [])
    assert process.quota.others_bytes == 0
    assert len(process.limits._found) <= 20
    assert not process.limits.look([process.home], [])
    assert process.quota.others_bytes == (SPOOLS_AT_ONCE + 1) * 536


def test_c19_a_process_that_finds_the_disk_full_has_a_share_and_the_oldest_make_way_for_it(root):
    oldest = dead(root)
    process = Process(root, bytes_max=400_000)
    process.quota.others_bytes = 400_000

    kept = [put(process.home, payload) for payload in PAYLOADS[:20]]
    assert all(kept)
    assert process.quota.is_short
    process.quota.others_bytes = 0
    process.quota.bytes_max = 40_000
    process.look()

    assert not process.quota.is_short
    assert not oldest.parent.exists() or len(list(oldest.iterdir())) < 3
    assert process.counts.dropped["spool_full"] > 0
    assert take(rest_of(process.home)) == PAYLOADS[:20]
    process.home.close()
