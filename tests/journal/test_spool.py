"""The client's spool: append without waiting, deliver each record, adopt what the dead left."""

from __future__ import annotations

import errno
import operator
import os
import random
import shutil
import stat
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from faults.disk import FaultyFiles
from leeward.errors import Unavailable
from leeward.journal import frame, segment
from leeward.journal.files import OsFiles
from leeward.journal.spool import SpoolHome, orphans
from leeward.journal.spool_home import Quota
from leeward.journal.spool_reader import LeftLane, SpoolReader
from spool_helpers import ALL, SMALL, adopted, drain, left_behind, put, rest_of, take


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "spool")


@pytest.fixture
def home(root):
    home = SpoolHome.create(root, **SMALL)
    yield home
    home.close()


def names(directory: str | Path) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


def segments(directory: str | Path) -> list[str]:
    return sorted(path.name for path in Path(directory).glob("*.seg"))


def sizes(directory: str) -> list[int]:
    return [path.stat().st_size for path in sorted(Path(directory).glob("*.seg"))]


def mode(path: str | Path) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


# Appending and delivering.


def test_records_come_out_in_the_order_they_went_in(home):
    payloads = [b"%d" % n * 100 for n in range(300)]
    for payload in payloads:
        assert put(home, payload)
    reader = rest_of(home)

    assert reader.pending() == (300, sum(map(len, payloads)))
    assert take(reader) == payloads
    assert drain(reader) == payloads
    assert reader.pending() == (0, 0)


def test_taking_repeats_what_is_not_acknowledged(home):
    for n in range(5):
        put(home, b"%d" % n)
    reader = rest_of(home)
    take(reader, 3)

    assert take(reader, 3) == [b"0", b"1", b"2"]
    reader.acknowledge(2)
    assert take(reader, 3) == [b"2", b"3", b"4"]
    reader.acknowledge(1)
    reader.acknowledge(2)
    with pytest.raises(ValueError, match="were not taken"):
        reader.acknowledge(1)
    with pytest.raises(ValueError, match="were not taken"):
        reader.acknowledge(0)


def test_a_take_stops_at_its_bytes_but_gives_one_record_of_any_size(home):
    for payload in (b"a" * 600, b"b" * 600, b"c" * 50):
        put(home, payload)
    reader = rest_of(home)

    def sizes_taken(bytes_max):
        return [len(payload) for payload in reader.take(bytes_max=bytes_max, count_max=9).payloads]

    assert sizes_taken(700) == [600]
    assert sizes_taken(1) == [600]
    assert sizes_taken(1200) == [600, 600]


def test_a_take_gives_records_with_their_types_and_sequences(home):
    for sequence, kind in ((1, 2), (2, 2), (5, 3), (4, 2)):
        home.rest.append(b"%d" % sequence, kind, sequence)
    reader = rest_of(home)

    run = reader.take(**ALL)

    assert (run.kinds, run.sequences, run.payloads) == ([2, 2, 3, 2], [1, 2, 5, 4], [b"1", b"2", b"5", b"4"])


def test_errors_have_a_lane_of_their_own_and_both_share_the_lock_and_the_instance(root):
    home = SpoolHome.create(root, instance=b"the same process", **SMALL)
    assert names(home.directory) == ["errors", "lock", "rest"]
    assert segments(home.errors.directory) == []
    put(home, b"rest")
    put(home, b"error", is_error=True)

    runs = [reader.take(**ALL) for reader in home.readers]

    assert [(run.payloads, run.instance) for run in runs] == [
        ([b"error"], b"the same process"),
        ([b"rest"], b"the same process"),
    ]
    assert sizes(home.errors.directory) == [8192]
    home.close()


def test_segments_grow_from_small_to_their_limit_and_go_once_delivered(home):
    for n in range(100):
        put(home, b"%03d" % n * 200)
    assert sizes(home.rest.directory)[:3] == [8192, 16384, 16384]

    drain(rest_of(home))

    assert len(segments(home.rest.directory)) == 1


def test_what_is_remembered_of_segments_that_are_gone_is_bounded(home):
    for n in range(200):
        put(home, b"%03d" % n * 5000)
        drain(rest_of(home))

    assert len(home.rest.segments) == 1
    assert len(home.rest._successors) < 70


def test_a_record_larger_than_a_segment_gets_one_that_fits(home):
    large = os.urandom(100_000)
    put(home, b"before")
    put(home, large)
    put(home, b"after")

    assert take(rest_of(home)) == [b"before", large, b"after"]


def test_a_record_over_the_limit_of_records_is_not_stored(home):
    assert not put(home, bytes(frame.PAYLOAD_BYTES_MAX + 1))
    assert put(home, b"next")


def test_the_next_segment_is_laid_out_ahead_and_then_used(root):
    files = FaultyFiles(OsFiles())
    home = SpoolHome.create(root, files=files, **SMALL)
    for _ in range(5):
        put(home, bytes(600))
    assert home.prepare()
    assert home.prepare()
    assert len(segments(home.rest.directory)) == 2
    calls = files.calls

    for n in range(10):
        assert put(home, b"%d" % n * 600)

    assert files.calls == calls
    assert len(take(rest_of(home))) == 15
    home.close()


def test_a_spare_that_is_too_small_for_the_record_is_replaced(home):
    for _ in range(5):
        put(home, bytes(600))
    home.prepare()
    put(home, b"x" * 50_000)

    assert len(take(rest_of(home))) == 6
    assert segments(home.rest.directory) == ["00000001.seg", "00000003.seg"]


def test_everything_is_private_to_the_user(root):
    home = SpoolHome.create(root)
    put(home, b"a")

    for path in (Path(root), Path(home.directory), *Path(home.directory).rglob("*")):
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path
    home.close()


@pytest.mark.parametrize("is_error", [False, True])
@pytest.mark.parametrize("delivered", [False, True])
def test_finishing_removes_a_spool_that_is_delivered_and_keeps_one_that_is_not(root, delivered, is_error):
    home = SpoolHome.create(root, **SMALL)
    put(home, b"a", is_error=is_error)
    if delivered:
        drain(home.readers[not is_error])

    assert home.finish() is delivered

    assert Path(home.directory).exists() is not delivered
    assert not put(home, b"late")
    assert adopted(root) == ([] if delivered else [b"a"])
    assert names(root) == []


def test_what_was_allocated_and_not_used_is_given_back_at_the_end(root):
    directory = left_behind(root, [b"x" * 100], first_bytes=1 << 20)

    assert sizes(directory) == [segment.RECORDS_AT + frame.HEADER_BYTES + 100]
    assert adopted(root) == [b"x" * 100]


def test_space_that_cannot_be_given_back_harms_nobody(root):
    class Files(OsFiles):
        def truncate(self, fd, length):
            raise OSError(errno.EIO, "Input/output error")

    home = SpoolHome.create(root, files=Files(), **SMALL)
    put(home, b"a")
    home.close()

    assert home.rest.failures == 1
    assert adopted(root) == [b"a"]


def test_closing_an_adopted_spool_leaves_it_for_the_next_one(root):
    left_behind(root, [b"a"])
    next(orphans(root)).close()

    assert adopted(root) == [b"a"]


def test_a_closed_spool_takes_nothing(home):
    home.prepare()
    home.close()

    assert not put(home, b"a")
    assert not home.prepare()


def test_a_closed_spool_that_is_cleared_says_how_many_records_went(root):
    home = SpoolHome.create(root, **SMALL)
    for n in range(30):
        put(home, b"%03d" % n * 200, is_error=n % 3 == 0)
    reader = rest_of(home)
    take(reader, 5)
    reader.acknowledge(5)

    assert home.clear() == 25
    assert names(root) == []
    assert not put(home, b"late")


# C14, C15, C16: forks, several processes, adoption.


def test_c14_a_forked_child_never_writes_into_its_parents_spool(home, root):
    put(home, b"parent")
    reader = rest_of(home)
    child = os.fork()
    if child == 0:
        verdict = False
        try:
            verdict = (
                not put(home, b"child")
                and not home.prepare()
                and take(reader) == []
                and not home.finish()
                and not home.clear()
            )
            home.close()
            own = SpoolHome.create(root, **SMALL)
            put(own, b"child's own")
        finally:
            os._exit(0 if verdict else 1)
    assert os.waitpid(child, 0)[1] == 0

    assert put(home, b"still the parent")
    assert take(reader) == [b"parent", b"still the parent"]
    assert adopted(root) == [b"child's own"]


def test_c16_a_living_owner_is_never_adopted_even_if_it_lost_its_lock(home, root):
    put(home, b"mine")
    assert list(orphans(root)) == []

    os.close(home.lock._fd)  # as a host does that closes all descriptors

    assert list(orphans(root)) == []


def test_c15_of_many_threads_one_adopts(root):
    for n in range(20):
        left_behind(root, [b"%d" % n])
    got = []
    threads = [threading.Thread(target=lambda: got.extend(adopted(root))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(got) == sorted(b"%d" % n for n in range(20))
    assert names(root) == []


def test_an_adopters_progress_survives_the_adopter(root):
    left_behind(root, [b"%d" % n for n in range(50)])
    left = next(orphans(root))
    take(rest_of(left), 20)
    rest_of(left).acknowledge(20)
    left.close()

    assert adopted(root) == [b"%d" % n for n in range(20, 50)]


def test_a_left_spool_that_is_cleared_says_how_many_records_went(root):
    left_behind(root, [b"%d" % n for n in range(50)])
    left = next(orphans(root))
    take(rest_of(left), 20)
    rest_of(left).acknowledge(20)

    assert left.clear() == 30
    assert names(root) == []


def test_a_batch_never_mixes_processes(root):
    first, second = left_behind(root, [b"first"]), left_behind(root, [b"second"])
    (second / "00000001.seg").rename(first / "00000002.seg")
    reader = reading(first)

    runs = [reader.take(**ALL)]
    reader.acknowledge(1)
    runs.append(reader.take(**ALL))

    assert [run.payloads for run in runs] == [[b"first"], [b"second"]]
    assert runs[0].instance != runs[1].instance


def test_what_died_while_it_was_made_is_cleared_away(root):
    child = os.fork()
    if child == 0:

        class Files(OsFiles):
            def rename(self, source, target):
                os.kill(os.getpid(), 9)

        SpoolHome.create(root, files=Files())
    os.waitpid(child, 0)
    (Path(root) / "notes.txt").write_text("not ours")
    (Path(root) / f".new-{os.getpid()}-0-x").mkdir()
    assert len(names(root)) == 3

    assert list(orphans(root)) == []

    assert names(root) == sorted(["notes.txt", f".new-{os.getpid()}-0-x"])


def test_orphans_of_a_directory_that_is_not_there_are_none(tmp_path):
    assert list(orphans(str(tmp_path / "nowhere"))) == []


def test_a_spool_that_may_not_be_locked_is_passed_over(root):
    class Files(OsFiles):
        def lock(self, path):
            raise PermissionError(errno.EACCES, "Permission denied")

    left_behind(root, [b"a"])
    assert list(orphans(root, files=Files())) == []


# C12, C26: what comes in between.


class Interrupting(dict):
    """Runs something at one of its steps, as another thread may."""

    def __init__(self, step, act):
        super().__init__()
        self.step, self.act = step, act

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self._interrupt("enter")

    def setdefault(self, key, value):
        found = super().setdefault(key, value)
        self._interrupt("publish")
        return found

    def _interrupt(self, step):
        if step == self.step:
            self.step = ""
            self.act()


@pytest.mark.parametrize("another_stores", [True, False])
@pytest.mark.parametrize("ending", ["finish", "close", "seal"])
@pytest.mark.parametrize("step", ["lay out", "enter", "publish"])
def test_c12_a_spool_that_ends_while_a_thread_begins_a_segment_loses_nothing_that_was_stored(
    root, step, ending, another_stores
):
    verdicts = {}

    class Files(OsFiles):
        def preallocate(self, fd, length):
            super().preallocate(fd, length)
            if step == "lay out" and home.rest.segments and not verdicts:
                interrupt()

    def interrupt():
        verdicts[b"just before"] = False
        verdicts[b"just before"] = another_stores and put(home, b"just before")
        getattr(home, ending)()
        if ending != "seal":
            got.extend(adopted(root))  # by a process that was waiting for it
        verdicts[b"just after"] = put(home, b"just after")

    got = []
    home = SpoolHome.create(root, files=Files(), **SMALL)
    reader = rest_of(home)
    put(home, b"x" * 4000)
    drain(reader)
    home.rest.segments = Interrupting(step, interrupt)
    home.rest._successors = Interrupting(step, interrupt)
    home.rest.segments.update({1: home.rest._active})

    verdicts[b"y" * 4000] = put(home, b"y" * 4000)
    if ending == "seal":
        got += drain(reader)
        home.close()

    assert not verdicts[b"just after"]
    assert sorted(got + adopted(root)) == sorted(payload for payload, stored in verdicts.items() if stored)


def mapped_descriptors(root: str) -> list[int]:
    """The descriptors that mappings of segments hold: one each, none from Python 3.13 on."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            if str(link.readlink()).startswith(f"{root}/"):
                found.append(int(link.name))
        except FileNotFoundError:
            pass  # the one that listed the directory
    return found


@pytest.mark.parametrize("is_reused", [True, False])
def test_c26_a_descriptor_that_the_host_closed_and_used_for_a_file_of_its_own_is_left_alone(root, tmp_path, is_reused):
    home = SpoolHome.create(root, **SMALL)
    put(home, b"before")
    numbers = mapped_descriptors(home.rest.directory)
    assert len(numbers) == (sys.version_info < (3, 13))
    (tmp_path / "host").write_text("the host's")
    host = os.open(tmp_path / "host", os.O_RDWR)
    for number in numbers:
        os.dup2(host, number) if is_reused else os.close(number)

    stored = [b"%03d" % n * 200 for n in range(40)]
    assert all(put(home, payload) for payload in stored)

    assert drain(rest_of(home)) == [b"before", *stored]
    home.close()
    for number in numbers if is_reused else ():
        assert os.read(number, 99) == b"the host's"
        os.close(number)
    os.close(host)


# C17: the disk.


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EROFS", "EMFILE", "EIO"])
def test_c17_a_spool_that_cannot_be_made_is_unavailable(root, error):
    files = FaultyFiles(OsFiles())
    home = SpoolHome.create(root, files=files)
    created = files.calls
    home.finish()
    for at in range(1, created + 1):
        with pytest.raises(Unavailable, match="cannot make a spool"):
            SpoolHome.create(root, files=FaultyFiles(OsFiles(), at=at, act=error))
    assert names(root) == []  # nothing is left of the tries


def test_c17_a_full_disk_costs_one_try_and_is_tried_again_by_the_worker(root):
    files = FaultyFiles(OsFiles(), at=10**6, act="ENOSPC", sticky=True, only=lambda name: name == "preallocate")
    home = SpoolHome.create(root, files=files, **SMALL)
    put(home, b"x" * 100)
    stored = 1
    files.at = files.calls + 1
    while stored < 1000 and put(home, b"x" * 100):
        stored += 1
    tries = files.calls

    for _ in range(100):
        assert not put(home, b"x")
    assert files.calls == tries
    assert not home.prepare()
    assert home.rest.failures == 2
    assert home.is_intact()

    files.at = None
    assert home.prepare()
    assert put(home, b"again")
    assert take(rest_of(home)) == [b"x" * 100] * stored + [b"again"]
    home.close()


class Tight(OsFiles):
    """A disk with room for so many bytes in segments of any size."""

    def __init__(self, bytes_free: int, error: int = errno.ENOSPC) -> None:
        self.bytes_free = bytes_free
        self.error = error

    def preallocate(self, fd, length):
        if length > self.bytes_free:
            raise OSError(self.error, os.strerror(self.error))
        self.bytes_free -= length
        super().preallocate(fd, length)


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EFBIG"])
def test_c17_a_nearly_full_disk_is_filled_with_small_segments(root, error):
    home = SpoolHome.create(root, files=Tight(4 * 8192, getattr(errno, error)), first_bytes=8192, segment_bytes=32768)
    payloads = [b"%03d" % number * 100 for number in range(100)]
    stored = [payload for payload in payloads if put(home, payload)]

    assert sizes(home.rest.directory) == [8192] * 4
    assert take(rest_of(home)) == stored == payloads[: len(stored)]
    home.close()


def test_c17_a_nearly_full_disk_gets_a_small_spare(root):
    home = SpoolHome.create(root, files=Tight(2 * 8192), first_bytes=8192, segment_bytes=32768)
    for _ in range(5):
        put(home, bytes(600))

    assert home.prepare()

    assert sizes(home.rest.directory) == [8192] * 2
    assert home.rest.failures == 0
    home.close()


def test_c17_a_small_segment_that_has_no_room_is_not_tried_twice(root):
    files = FaultyFiles(OsFiles(), at=1, act="ENOSPC", sticky=True, only=lambda name: name == "preallocate")
    home = SpoolHome.create(root, files=files, **SMALL)

    assert not put(home, b"x")

    assert files.calls == 1
    home.close()


def test_c17_any_other_failure_is_not_tried_again_with_a_small_segment(root):
    files = FaultyFiles(OsFiles(), at=2, act="EIO", sticky=True, only=lambda name: name == "preallocate")
    home = SpoolHome.create(root, files=files, first_bytes=8192, segment_bytes=32768)
    while put(home, bytes(600)):
        pass

    assert files.calls == 2
    home.close()


def test_c17_a_segment_that_cannot_be_laid_out_ahead_is_made_when_it_is_needed(root):
    files = FaultyFiles(OsFiles(), at=10**6, act="ENOSPC", sticky=True, only=lambda name: name == "preallocate")
    home = SpoolHome.create(root, files=files, **SMALL)
    for _ in range(5):
        put(home, bytes(600))
    files.at = files.calls + 1
    assert home.prepare()
    assert home.rest.failures == 1
    files.at = None

    assert all(put(home, bytes(600)) for _ in range(5))
    home.close()


def test_c17_a_spare_that_is_gone_is_replaced(home):
    for _ in range(5):
        put(home, bytes(600))
    home.prepare()
    (Path(home.rest.directory) / "00000002.seg").unlink()

    assert all(put(home, bytes(600)) for _ in range(5))
    assert segments(home.rest.directory) == ["00000001.seg", "00000003.seg"]


def test_c20_a_full_spool_takes_no_more_while_all_of_it_is_being_sent(root):
    dropped = []
    home = SpoolHome.create(root, quota=Quota(8192, dropped.append), **SMALL)
    reader = rest_of(home)
    for n in range(6):
        assert put(home, b"%05d" % n * 100)
    assert len(take(reader)) == 6  # on their way
    while put(home, b"more" * 100):
        pass
    assert not home.prepare()

    assert sizes(home.rest.directory) == [8192]
    assert dropped == []
    reader.acknowledge(6)
    drain(reader)
    assert home.prepare()
    assert put(home, b"again")
    assert drain(reader) == [b"again"]
    home.close()


@pytest.mark.parametrize("level", ["directory", "rest.directory"])
@pytest.mark.parametrize("is_used", [True, False])
def test_c17_a_directory_removed_while_running_is_noticed(home, level, is_used):
    if is_used:
        put(home, b"a")
    assert home.is_intact()
    shutil.rmtree(operator.attrgetter(level)(home))

    assert not home.is_intact()


def test_c17_what_was_appended_to_a_deleted_spool_is_delivered_through_the_mapping(home):
    put(home, b"a")
    reader = rest_of(home)
    shutil.rmtree(home.directory)
    assert put(home, b"b")
    in_a_threads_hands = home.rest._active
    home.seal()

    assert not put(home, b"c")
    with pytest.raises(ValueError, match="range"):
        in_a_threads_hands.map.write(b"d")
    assert not home.is_drained()
    assert drain(reader, 1) == [b"a", b"b"]
    assert home.is_drained()
    assert reader.lost == 0


def test_c17_a_file_put_in_the_place_of_the_spools_is_noticed(home):
    put(home, b"a")
    path = Path(home.rest.directory) / segments(home.rest.directory)[0]
    path.rename(path.with_suffix(".moved"))
    path.write_bytes(b"somebody else's")

    assert not home.is_intact()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_c17_a_spool_directory_that_is_no_directory_of_ours_is_refused(tmp_path, kind):
    place = tmp_path / "spool"
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to("elsewhere") if kind == "link" else place.write_text("")

    with pytest.raises(Unavailable):
        SpoolHome.create(str(place))

    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_c17_a_segment_that_cannot_be_read_just_now_is_not_lost(root):
    left_behind(root, [b"a"])

    class Files(OsFiles):
        refuses = True

        def pread(self, fd, length, offset):
            if self.refuses:
                raise OSError(errno.EIO, "Input/output error")
            return super().pread(fd, length, offset)

    files = Files()
    left = next(orphans(root, files=files))
    reader = rest_of(left)
    assert take(reader) == []
    assert reader.failures == 1
    (part,) = reader.lane.ordered()
    assert part.token  # nobody has it in hand
    assert not left.finish()
    files.refuses = False

    assert adopted(root) == [b"a"]


def test_c17_a_read_that_fails_in_the_middle_gives_what_came_before_it_once(root):
    payloads = [b"%03d" % n * 200 for n in range(200)]
    left_behind(root, payloads, first_bytes=1 << 20)

    class Files(OsFiles):
        fails_at = 3

        def pread(self, fd, length, offset):
            self.fails_at -= 1
            if not self.fails_at:
                raise OSError(errno.EIO, "Input/output error")
            return super().pread(fd, length, offset)

    left = next(orphans(root, files=Files()))
    reader = rest_of(left)
    first = take(reader)
    assert reader.unread
    assert 0 < len(first) < 200
    reader.acknowledge(len(first))

    assert first + drain(reader, 50) == payloads
    assert left.finish()


def test_c17_marks_and_removals_that_fail_are_counted_and_delivery_goes_on(root):
    payloads = [b"%02d" % n * 200 for n in range(60)]
    left_behind(root, payloads)

    class Files(OsFiles):
        def pwrite(self, fd, data, offset):
            raise OSError(errno.EROFS, "Read-only file system")

        def unlink(self, path):
            raise OSError(errno.EROFS, "Read-only file system")

    left = next(orphans(root, files=Files()))
    reader = rest_of(left)

    assert drain(reader, 50) == payloads
    assert reader.pending() == (0, 0)
    assert reader.failures >= 2
    assert not left.finish()
    assert adopted(root) == payloads  # once more, since nothing could be noted


def test_c17_a_segment_of_our_own_that_cannot_be_removed_is_not_sent_again(root):
    class Files(OsFiles):
        def unlink(self, path):
            raise OSError(errno.EROFS, "Read-only file system")

    home = SpoolHome.create(root, files=Files(), **SMALL)
    payloads = [b"%03d" % n * 200 for n in range(40)]
    for payload in payloads:
        put(home, payload)

    assert drain(rest_of(home)) == payloads
    assert take(rest_of(home)) == []
    assert home.rest.pending() == 0
    home.close()


# C27: no descriptors, or a disk that gives nothing, for a moment.


class Unreadable(OsFiles):
    """Refuses what the test picks, as a process without descriptors or a bad disk does."""

    def __init__(self):
        self.refuses = lambda call, path: False

    def open(self, path, **options):
        self._check("open", path)
        return super().open(path, **options)

    def listdir(self, path):
        self._check("listdir", path)
        return super().listdir(path)

    def _check(self, call, path):
        if self.refuses(call, path):
            raise OSError(errno.EMFILE, "Too many open files", path)


def test_c27_segments_that_could_not_be_read_for_a_moment_are_delivered_first_and_never_deleted(root):
    files = Unreadable()
    home = SpoolHome.create(root, files=files, **SMALL)
    payloads = [b"%03d" % n * 200 for n in range(20)]
    for payload in payloads:
        assert put(home, payload)
    assert len(segments(home.rest.directory)) > 1
    reader = rest_of(home)

    files.refuses = lambda call, path: call == "open"
    assert take(reader) == []
    assert reader.unread
    assert reader.failures == 1
    files.refuses = lambda call, path: False

    assert drain(reader) == payloads
    assert not reader.unread
    home.close()


def test_c27_a_take_gives_what_lies_before_an_unreadable_segment_and_nothing_behind_it(root):
    payloads = [b"%03d" % n * 200 for n in range(50)]
    directory = left_behind(root, payloads)
    second = segments(directory)[1]
    files = Unreadable()
    left = next(orphans(root, files=files))
    reader = rest_of(left)

    files.refuses = lambda call, path: path.endswith(second)
    in_first = len(take(reader))
    assert 0 < in_first < 50
    assert take(reader) == payloads[:in_first]
    assert reader.pending() == (in_first, sum(map(len, payloads[:in_first])))
    assert reader.unread
    reader.acknowledge(in_first)
    assert take(reader) == []
    assert reader.pending() == (0, 0)
    assert reader.unread
    files.refuses = lambda call, path: False

    assert reader.pending()[0] == 50 - in_first
    assert not reader.unread
    assert drain(reader) == payloads[in_first:]
    assert left.finish()


def test_c27_what_a_take_did_not_see_is_not_deleted_when_the_rest_is_delivered(root):
    """A file may come after the listing: what was not read is not delivered."""
    payloads = [b"%03d" % n * 200 for n in range(20)]
    directory = left_behind(root, payloads)
    hidden = directory.parent.parent / "00000001.seg"
    (directory / "00000001.seg").rename(hidden)
    left = next(orphans(root))
    behind = drain(rest_of(left))
    hidden.rename(directory / "00000001.seg")

    assert not left.finish()
    assert 0 < len(behind) < 20
    assert adopted(root) == payloads[: 20 - len(behind)]


@pytest.mark.parametrize("refused", ["open", "listdir"])
@pytest.mark.parametrize("is_adopted", [True, False])
def test_c27_a_spool_that_cannot_be_read_is_never_taken_for_an_empty_one(root, refused, is_adopted):
    files = Unreadable()
    spool = SpoolHome.create(root, files=files, **SMALL)
    for n in range(30):
        put(spool, b"%03d" % n * 200)
    if is_adopted:
        spool.close()
        spool = next(orphans(root, files=files))
    elif refused == "listdir":
        return  # our own segments are known without a listing
    reader = rest_of(spool)

    files.refuses = lambda call, path: call == refused
    assert reader.pending() == (0, 0)
    assert reader.unread
    # Removing needs no descriptor: only the reader's own doubt holds it back.
    once = iter([True])
    files.refuses = lambda call, path: (
        call == refused and (next(once, call == "open") or path.endswith(("errors", "rest")))
    )
    assert not spool.finish()
    files.refuses = lambda call, path: False

    assert len(adopted(root)) == 30


# C18: damage.


def reading(directory: Path) -> SpoolReader:
    """A reader of a lane that a dead process left."""
    return SpoolReader(LeftLane(str(directory), files=OsFiles()), files=OsFiles())


class InMemory(OsFiles):
    """One segment, held in memory: written once instead of thousands of times."""

    content = b""

    def listdir(self, path):
        return ["00000001.seg"]

    def open(self, path, **options):
        return 99

    def pread(self, fd, length, offset):
        return self.content[offset : offset + length]

    def close(self, fd):
        pass

    def unlink(self, path):
        pass


def test_c18_cut_anywhere_or_flipped_anywhere_every_other_record_is_delivered(root):
    payloads = [os.urandom(size) for size in (0, 50, 300, 1, 120)]
    directory = left_behind(root, payloads)
    whole = (directory / "00000001.seg").read_bytes()
    spans, end = [], segment.RECORDS_AT
    for payload in payloads:
        spans.append(range(end, end + frame.HEADER_BYTES + len(payload)))
        end = spans[-1].stop

    def delivered(data):
        files = InMemory()
        files.content = data
        return take(SpoolReader(LeftLane("", files=files), files=files))

    for position in range(segment.RECORDS_AT, end):
        expected = [p for p, span in zip(payloads, spans, strict=True) if span.stop <= position]
        assert delivered(whole[:position]) == expected, position
        zeroed = whole[:position] + bytes(9000)
        expected = [p for p, span in zip(payloads, spans, strict=True) if zeroed[: span.stop] == whole[: span.stop]]
        assert delivered(zeroed) == expected, position
        damaged = bytearray(whole)
        damaged[position] ^= 1 << random.Random(position).randrange(8)
        expected = [p for p, span in zip(payloads, spans, strict=True) if position not in span]
        assert delivered(bytes(damaged)) == expected, position
    for position in (*range(segment.HEADER_BYTES), *range(segment.MARK_AT, segment.MARK_AT + segment.MARK_BYTES)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        assert delivered(bytes(damaged)) == payloads, position


def test_c18_damage_in_the_middle_of_many_pieces_costs_only_what_it_hit(root):
    payloads = [b"%04d" % n * 150 for n in range(500)]
    directory = left_behind(root, payloads, first_bytes=1 << 20)
    path = directory / "00000001.seg"
    size = frame.HEADER_BYTES + 600
    data = bytearray(path.read_bytes())
    for n in (3, 200, 201):
        data[segment.RECORDS_AT + n * size + 50] ^= 1
    zeroed = segment.RECORDS_AT + 300 * size
    data[zeroed : zeroed + 4096] = bytes(4096)  # a page that came back empty
    path.write_bytes(data)
    reader = reading(directory)

    got = drain(reader, 50)

    hit = {3, 200, 201, *range(300, 300 + -(-4096 // size))}
    assert got == [payload for n, payload in enumerate(payloads) if n not in hit]
    assert (reader.damaged_spans, reader.torn_tails) == (3, 0)


def test_c18_damage_is_counted_once(root):
    directory = left_behind(root, [b"a" * 100, b"b" * 100, b"c" * 100])
    path = directory / "00000001.seg"
    data = bytearray(path.read_bytes())
    data[segment.RECORDS_AT + 150] ^= 1
    path.write_bytes(data)
    left = next(orphans(root))
    reader = rest_of(left)

    for _ in range(3):
        assert take(reader) == [b"a" * 100, b"c" * 100]
    assert (reader.damaged_spans, reader.torn_tails, reader.damaged_bytes) == (1, 0, 136)
    assert drain(reader) == [b"a" * 100, b"c" * 100]
    assert left.finish()


def test_c18_what_was_appended_and_cannot_be_found_any_more_is_counted(home):
    payloads = [b"%03d" % n * 200 for n in range(40)]
    for payload in payloads:
        put(home, payload)
    first, second, *_ = sorted(Path(home.rest.directory).iterdir())
    first.write_bytes(bytes(first.stat().st_size))
    second.unlink()
    reader = rest_of(home)

    got = drain(reader)

    assert payloads[-len(got) :] == got
    assert reader.lost == 40 - len(got) > 12
    assert home.rest.pending() == 0


def test_c18_a_record_cut_by_a_kill_is_no_damage_but_counted_too(root):
    directory = left_behind(root, [b"a" * 100, b"b" * 100])
    path = directory / "00000001.seg"
    path.write_bytes(path.read_bytes()[: segment.RECORDS_AT + 200])
    left = next(orphans(root))
    reader = rest_of(left)

    assert drain(reader) == [b"a" * 100]
    assert (reader.damaged_spans, reader.torn_tails, reader.damaged_bytes) == (0, 1, 64)
    assert left.finish()


def test_c18_garbage_is_counted_and_cleared_away_a_newer_format_is_left_alone(root):
    directory = left_behind(root, [b"a"])
    (directory / "00000002.seg").write_bytes(b"garbage" * 900)
    (directory / "00000003.seg").write_bytes(b"")
    newer = bytearray((directory / "00000001.seg").read_bytes())
    newer[8] = 9
    newer[60:64] = segment.crc32(newer[:60]).to_bytes(4, "little")
    (directory / "00000004.seg").write_bytes(newer)
    left = next(orphans(root))
    reader = rest_of(left)

    assert drain(reader) == [b"a"]
    assert not left.finish()

    assert reader.files_refused == 3
    assert segments(directory) == ["00000004.seg"]
    assert (directory / "00000004.seg").read_bytes() == newer


def test_c18_a_heap_of_old_files_does_not_hold_up_the_first_records(root):
    directory = left_behind(root, [b"a"])
    for n in range(2, 1000):
        (directory / f"{n:08d}.seg").touch()
    opened = []

    class Files(OsFiles):
        def open(self, path, **options):
            opened.append(path)
            return super().open(path, **options)

    left = next(orphans(root, files=Files()))
    reader = rest_of(left)

    assert take(reader) == [b"a"]
    assert len(opened) < 100
    assert drain(reader) == [b"a"]
    assert left.finish()


class LookOnly(OsFiles):
    def unlink(self, path):
        raise PermissionError(errno.EPERM, "this one only looks")


class SpoolModel(RuleBasedStateMachine):
    """Append, take, acknowledge, prepare, rotate, die and be adopted, against a list; what is dropped is counted."""

    def __init__(self):
        super().__init__()
        import tempfile

        self.root = tempfile.mkdtemp()
        self.number = 0
        self.left: list[bytes] = []
        self.begin()

    def begin(self):
        self.home = SpoolHome.create(self.root, quota=Quota(60_000, self.dropped), **SMALL)
        self.reader = rest_of(self.home)
        self.in_flight = self.gone = 0

    def dropped(self, count):
        self.gone += count

    def look(self):
        """What a later process would find; some that wait may have been dropped, none that is on its way."""
        found = take(SpoolReader(LeftLane(self.home.rest.directory, files=LookOnly()), files=LookOnly()))
        kept = iter(self.left)
        assert all(payload in kept for payload in found), "in order"
        assert len(found) == len(self.left) - self.gone
        assert found[: self.in_flight] == self.left[: self.in_flight]
        self.left, self.gone = found, 0

    @rule(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=8))
    def append(self, sizes):
        for size in sizes:
            self.number += 1
            payload = b"%d:" % self.number + bytes(size)
            if put(self.home, payload):
                self.left.append(payload)
        self.look()

    @rule()
    def prepare(self):
        self.home.prepare()
        self.look()

    @rule()
    def rotate(self):
        self.home.rest.rotate()
        self.look()

    @rule(count=st.integers(1, 9), acknowledged=st.integers(0, 9))
    def deliver(self, count, acknowledged):
        taken = take(self.reader, count)
        assert taken == self.left[:count]
        self.in_flight = len(taken)
        if done := min(acknowledged, len(taken)):
            self.reader.acknowledge(done)
            del self.left[:done]
            self.in_flight -= done

    @rule()
    def die_and_be_adopted(self):
        self.home.close()
        assert adopted(self.root) == self.left
        self.left = []
        self.begin()

    @invariant()
    def pending_is_what_is_left(self):
        assert self.home.rest.pending() == len(self.left)
        assert self.reader.pending() == (len(self.left), sum(map(len, self.left)))

    def teardown(self):
        self.home.close()
        shutil.rmtree(self.root)


SpoolModel.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSpoolModel = SpoolModel.TestCase
