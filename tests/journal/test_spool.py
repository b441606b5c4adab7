"""The client's spool: append without waiting, deliver each record, adopt what the dead left."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from faults.disk import FaultyFiles
from leeward.errors import Unavailable
from leeward.journal import frame, segment
from leeward.journal.files import OsFiles
from leeward.journal.spool import SpoolReader, SpoolWriter, orphans

SMALL = {"first_bytes": 8192, "segment_bytes": 16384}


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "spool")


@pytest.fixture
def writer(root):
    writer = SpoolWriter.create(root, **SMALL)
    yield writer
    writer.close()


def take(reader: SpoolReader, count: int = 1 << 20) -> list[bytes]:
    return [payload for _, payload in reader.take(bytes_max=1 << 30, count_max=count)]


def drain(reader: SpoolReader, count: int = 7) -> list[bytes]:
    """Take and acknowledge until nothing is left."""
    got = []
    while records := reader.take(bytes_max=1 << 30, count_max=count):
        got += [payload for _, payload in records]
        reader.acknowledge(records[-1][0])
    return got


def adopted(root: str) -> list[bytes]:
    got = []
    for reader in orphans(root):
        got += drain(reader)
        reader.finish()
    return got


def left_behind(root: str, payloads, **options) -> Path:
    """Give the directory of a spool whose writer has let go of it."""
    writer = SpoolWriter.create(root, **(SMALL | options))
    for payload in payloads:
        assert writer.append(payload) is not None
    writer.close()
    return Path(writer.directory)


def names(directory: str | Path) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


def segments(directory: str | Path) -> list[str]:
    return sorted(path.name for path in Path(directory).glob("*.seg"))


def sizes(directory: str) -> list[int]:
    return [path.stat().st_size for path in sorted(Path(directory).glob("*.seg"))]


def mode(path: str | Path) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


# Appending and delivering.


def test_records_come_out_in_the_order_they_went_in(writer):
    payloads = [b"%d" % n * 100 for n in range(300)]
    for payload in payloads:
        assert writer.append(payload) is not None
    reader = SpoolReader.of(writer)

    assert reader.pending() == (300, sum(map(len, payloads)))
    assert take(reader) == payloads
    assert drain(reader) == payloads
    assert reader.pending() == (0, 0)


def test_taking_repeats_what_is_not_acknowledged(writer):
    for n in range(5):
        writer.append(b"%d" % n)
    reader = SpoolReader.of(writer)
    taken = reader.take(bytes_max=100, count_max=3)

    assert take(reader, 3) == [b"0", b"1", b"2"]
    reader.acknowledge(taken[1][0])
    assert take(reader, 3) == [b"2", b"3", b"4"]
    with pytest.raises(ValueError, match="was not taken"):
        reader.acknowledge(taken[0][0])


def test_a_take_stops_at_its_bytes_but_gives_one_record_of_any_size(writer):
    for payload in (b"a" * 600, b"b" * 600, b"c" * 50):
        writer.append(payload)
    reader = SpoolReader.of(writer)

    assert [len(p) for _, p in reader.take(bytes_max=700, count_max=9)] == [600]
    assert [len(p) for _, p in reader.take(bytes_max=1, count_max=9)] == [600]
    assert [len(p) for _, p in reader.take(bytes_max=1200, count_max=9)] == [600, 600]


def test_segments_grow_from_small_to_their_limit_and_go_once_delivered(writer):
    for n in range(100):
        writer.append(b"%03d" % n * 200)
    assert sizes(writer.directory)[:3] == [8192, 16384, 16384]

    drain(SpoolReader.of(writer))

    assert len(segments(writer.directory)) == 1


def test_a_record_larger_than_a_segment_gets_one_that_fits(writer):
    large = os.urandom(100_000)
    writer.append(b"before")
    writer.append(large)
    writer.append(b"after")

    assert take(SpoolReader.of(writer)) == [b"before", large, b"after"]


def test_a_record_over_the_limit_of_records_is_not_stored(writer):
    assert writer.append(bytes(frame.PAYLOAD_BYTES_MAX + 1)) is None
    assert writer.append(b"next") is not None


def test_the_next_segment_is_laid_out_ahead_and_then_used(root):
    files = FaultyFiles(OsFiles())
    writer = SpoolWriter.create(root, files=files, **SMALL)
    for _ in range(5):
        writer.append(bytes(600))
    assert writer.prepare()
    assert writer.prepare()
    assert len(segments(writer.directory)) == 2
    calls = files.calls

    for n in range(10):
        assert writer.append(b"%d" % n * 600)

    assert files.calls == calls
    assert len(take(SpoolReader.of(writer))) == 15
    writer.close()


def test_a_spare_that_is_too_small_for_the_record_is_replaced(writer):
    for _ in range(5):
        writer.append(bytes(600))
    writer.prepare()
    writer.append(b"x" * 50_000)

    assert len(take(SpoolReader.of(writer))) == 6
    assert segments(writer.directory) == ["00000001.seg", "00000003.seg"]


def test_everything_is_private_to_the_user(root):
    writer = SpoolWriter.create(root)

    assert mode(root) == 0o700
    assert mode(writer.directory) == 0o700
    assert {mode(path) for path in Path(writer.directory).iterdir()} == {0o600}
    writer.close()


def test_finishing_removes_a_spool_that_is_delivered_and_keeps_one_that_is_not(root):
    for delivered in (True, False):
        writer = SpoolWriter.create(root, **SMALL)
        writer.append(b"a")
        reader = SpoolReader.of(writer)
        if delivered:
            drain(reader)

        assert reader.finish() is delivered

        assert Path(writer.directory).exists() is not delivered
        assert writer.append(b"late") is None
    assert adopted(root) == [b"a"]
    assert names(root) == []


def test_closing_an_adopted_spool_leaves_it_for_the_next_one(root):
    left_behind(root, [b"a"])
    next(orphans(root)).close()

    assert adopted(root) == [b"a"]


def test_a_closed_writer_takes_nothing_and_is_not_intact(writer):
    writer.prepare()
    writer.close()

    assert writer.append(b"a") is None
    assert not writer.prepare()
    assert not writer.is_intact()


# C14, C15, C16: forks, several processes, adoption.


def test_c14_a_forked_child_never_writes_into_its_parents_spool(writer, root):
    writer.append(b"parent")
    reader = SpoolReader.of(writer)
    child = os.fork()
    if child == 0:
        verdict = False
        try:
            verdict = (
                writer.append(b"child") is None
                and not writer.prepare()
                and reader.take(bytes_max=9, count_max=9) == []
                and not reader.finish()
            )
            writer.close()
            own = SpoolWriter.create(root, **SMALL)
            own.append(b"child's own")
        finally:
            os._exit(0 if verdict else 1)
    assert os.waitpid(child, 0)[1] == 0

    assert writer.append(b"still the parent") is not None
    assert take(reader) == [b"parent", b"still the parent"]
    assert adopted(root) == [b"child's own"]


def test_c16_a_living_owner_is_never_adopted_even_if_it_lost_its_lock(writer, root):
    writer.append(b"mine")
    assert list(orphans(root)) == []

    os.close(writer.lock._fd)  # as a host does that closes all descriptors

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
    reader = next(orphans(root))
    records = reader.take(bytes_max=1000, count_max=20)
    reader.acknowledge(records[-1][0])
    reader.close()

    assert adopted(root) == [b"%d" % n for n in range(20, 50)]


def test_what_died_while_it_was_made_is_cleared_away(root):
    child = os.fork()
    if child == 0:

        class Files(OsFiles):
            def rename(self, source, target):
                os.kill(os.getpid(), 9)

        SpoolWriter.create(root, files=Files())
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


# C17: the disk.


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EROFS", "EMFILE", "EIO"])
def test_c17_a_spool_that_cannot_be_made_is_unavailable(root, error):
    calls = FaultyFiles(OsFiles())
    SpoolWriter.create(root, files=calls).close()
    for at in range(1, calls.calls + 1):
        with pytest.raises(Unavailable, match="cannot make a spool"):
            SpoolWriter.create(root, files=FaultyFiles(OsFiles(), at=at, act=error))


def test_c17_a_full_disk_costs_one_try_and_is_tried_again_by_the_worker(root):
    files = FaultyFiles(OsFiles(), at=10**6, act="ENOSPC", sticky=True, only=lambda name: name == "preallocate")
    writer = SpoolWriter.create(root, files=files, **SMALL)
    stored = 0
    files.at = files.calls + 1
    while stored < 1000 and writer.append(b"x" * 100) is not None:
        stored += 1
    tries = files.calls

    for _ in range(100):
        assert writer.append(b"x") is None
    assert files.calls == tries
    assert not writer.prepare()
    assert writer.failures == 2
    assert not writer.is_intact()

    files.at = None
    assert writer.prepare()
    assert writer.append(b"again") is not None
    assert take(SpoolReader.of(writer)) == [b"x" * 100] * stored + [b"again"]
    writer.close()


def test_c20_a_full_spool_takes_no_more_until_something_is_delivered(root):
    writer = SpoolWriter.create(root, bytes_max=40_000, **SMALL)
    stored = 0
    while stored < 1000 and writer.append(b"%05d" % stored * 100) is not None:
        stored += 1
    assert 30_000 < sum(sizes(writer.directory)) <= 40_000
    assert not writer.prepare()
    reader = SpoolReader.of(writer)

    got = drain(reader)
    assert writer.prepare()
    assert writer.append(b"more") is not None

    assert got == [b"%05d" % n * 100 for n in range(stored)]
    assert drain(reader) == [b"more"]
    writer.close()


def test_c17_a_directory_removed_while_running_is_noticed_and_costs_nothing_that_can_be_read(writer):
    writer.append(b"a")
    reader = SpoolReader.of(writer)
    assert writer.is_intact()
    shutil.rmtree(writer.directory)

    assert not writer.is_intact()
    assert writer.append(b"b") is not None
    assert drain(reader) == [b"a", b"b"]
    assert reader.failures > 0


def test_c17_a_file_put_in_the_place_of_the_spools_is_noticed(writer):
    path = Path(writer.directory) / segments(writer.directory)[0]
    path.rename(path.with_suffix(".moved"))
    path.write_bytes(b"somebody else's")

    assert not writer.is_intact()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_c17_a_spool_directory_that_is_no_directory_of_ours_is_refused(tmp_path, kind):
    place = tmp_path / "spool"
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to("elsewhere") if kind == "link" else place.write_text("")

    with pytest.raises(Unavailable):
        SpoolWriter.create(str(place))

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
    reader = next(orphans(root, files=files))
    assert take(reader) == []
    assert reader.failures == 1

    files.refuses = False
    assert drain(reader) == [b"a"]
    reader.finish()


def test_c17_marks_and_removals_that_fail_are_counted_and_delivery_goes_on(root):
    left_behind(root, [b"%02d" % n * 200 for n in range(60)])

    class Files(OsFiles):
        def pwrite(self, fd, data, offset):
            raise OSError(errno.EROFS, "Read-only file system")

        def unlink(self, path):
            raise OSError(errno.EROFS, "Read-only file system")

    reader = next(orphans(root, files=Files()))

    assert drain(reader, 60) == [b"%02d" % n * 200 for n in range(60)]
    assert reader.failures >= 2
    assert not reader.finish()
    assert len(adopted(root)) == 60  # once more, since nothing could be noted


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


@pytest.mark.parametrize("refused", ["open", "listdir"])
def test_c27_segments_that_could_not_be_read_for_a_moment_are_delivered_first_and_never_deleted(root, refused):
    files = Unreadable()
    writer = SpoolWriter.create(root, files=files, **SMALL)
    payloads = [b"%03d" % n * 200 for n in range(20)]
    for payload in payloads:
        assert writer.append(payload) is not None
    assert len(segments(writer.directory)) > 1
    reader = SpoolReader.of(writer)

    files.refuses = lambda call, path: call == refused
    assert take(reader) == []
    assert reader.unread
    assert reader.failures == 1
    files.refuses = lambda call, path: False

    assert drain(reader) == payloads
    assert not reader.unread
    writer.close()


def test_c27_a_take_gives_what_lies_before_an_unreadable_segment_and_nothing_behind_it(root):
    payloads = [b"%03d" % n * 200 for n in range(50)]
    directory = left_behind(root, payloads)
    first, second, *_ = segments(directory)
    in_first = len(take(reading_only(directory, first)))
    files = Unreadable()
    reader = next(orphans(root, files=files))

    files.refuses = lambda call, path: path.endswith(second)
    records = reader.take(bytes_max=1 << 30, count_max=1 << 20)
    assert [payload for _, payload in records] == payloads[:in_first]
    assert reader.pending() == (in_first, sum(map(len, payloads[:in_first])))
    reader.acknowledge(records[-1][0])
    assert take(reader) == []
    assert reader.pending() == (0, 0)
    assert reader.unread
    files.refuses = lambda call, path: False

    assert reader.pending()[0] == 50 - in_first
    assert not reader.unread
    assert drain(reader) == payloads[in_first:]
    assert reader.finish()


def reading_only(directory: Path, name: str) -> SpoolReader:
    class Files(OsFiles):
        def listdir(self, path):
            return [name]

    return SpoolReader(str(directory), OsFiles().lock(str(directory / "other-lock")), files=Files())


def test_c27_what_a_take_did_not_see_is_not_deleted_when_its_records_are_acknowledged(root):
    """A listing may leave out a name that a later one has: what was not read is not delivered."""
    payloads = [b"%03d" % n * 200 for n in range(20)]
    directory = left_behind(root, payloads)
    first = segments(directory)[0]
    hidden = []

    class Files(OsFiles):
        def listdir(self, path):
            return [name for name in super().listdir(path) if name not in hidden]

    reader = next(orphans(root, files=Files()))
    assert take(reader) == payloads
    hidden.append(first)
    behind = reader.take(bytes_max=1 << 30, count_max=1 << 20)
    hidden.clear()
    reader.acknowledge(behind[-1][0])

    assert first in segments(directory)
    assert drain(reader) == payloads[: 20 - len(behind)]
    assert reader.finish()


@pytest.mark.parametrize("refused", ["open", "listdir"])
@pytest.mark.parametrize("is_adopted", [True, False])
def test_c27_a_spool_that_cannot_be_read_is_never_taken_for_an_empty_one(root, refused, is_adopted):
    files = Unreadable()
    writer = SpoolWriter.create(root, files=files, **SMALL)
    for n in range(30):
        writer.append(b"%03d" % n * 200)
    if is_adopted:
        writer.close()
    reader = next(orphans(root, files=files)) if is_adopted else SpoolReader.of(writer)

    files.refuses = lambda call, path: call == refused
    assert reader.pending() == (0, 0)
    assert reader.unread
    # Removing needs no descriptor: only the reader's own doubt holds it back.
    once = iter([True])
    files.refuses = lambda call, path: call == refused and next(once, call == "open")
    assert not reader.finish()
    files.refuses = lambda call, path: False

    assert len(adopted(root)) == 30


# C18: damage.


def reading(directory: Path) -> SpoolReader:
    return SpoolReader(str(directory), OsFiles().lock(str(directory / "lock")), files=OsFiles())


def test_c18_cut_anywhere_or_flipped_anywhere_every_other_record_is_delivered(root):
    payloads = [os.urandom(size) for size in (0, 50, 300, 1, 120)]
    directory = left_behind(root, payloads)
    path = directory / "00000001.seg"
    whole = path.read_bytes()
    spans, end = [], segment.RECORDS_AT
    for payload in payloads:
        spans.append(range(end, end + frame.HEADER_BYTES + len(payload)))
        end = spans[-1].stop
    reader = reading(directory)

    def delivered(data):
        path.write_bytes(data)
        return take(SpoolReader(str(directory), reader._lock, files=OsFiles()))

    for position in range(segment.RECORDS_AT, end):
        expected = [p for p, span in zip(payloads, spans, strict=True) if span.stop <= position]
        assert delivered(whole[:position]) == expected, position
        damaged = bytearray(whole)
        damaged[position] ^= 1 << random.Random(position).randrange(8)
        expected = [p for p, span in zip(payloads, spans, strict=True) if position not in span]
        assert delivered(bytes(damaged)) == expected, position
    for position in (*range(segment.HEADER_BYTES), *range(segment.MARK_AT, segment.MARK_AT + segment.MARK_BYTES)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        assert delivered(bytes(damaged)) == payloads, position
    reader.close()


def test_c18_damage_is_counted_once(root):
    directory = left_behind(root, [b"a" * 100, b"b" * 100, b"c" * 100])
    path = directory / "00000001.seg"
    data = bytearray(path.read_bytes())
    data[segment.RECORDS_AT + 150] ^= 1
    path.write_bytes(data)
    reader = reading(directory)

    for _ in range(3):
        assert take(reader) == [b"a" * 100, b"c" * 100]
    assert (reader.damaged_spans, reader.torn_tails, reader.damaged_bytes) == (1, 0, 136)
    assert drain(reader) == [b"a" * 100, b"c" * 100]
    assert reader.finish()


def test_c18_a_record_cut_by_a_kill_is_no_damage_but_counted_too(root):
    directory = left_behind(root, [b"a" * 100, b"b" * 100])
    path = directory / "00000001.seg"
    path.write_bytes(path.read_bytes()[: segment.RECORDS_AT + 200])
    reader = reading(directory)

    assert drain(reader) == [b"a" * 100]
    assert (reader.damaged_spans, reader.torn_tails, reader.damaged_bytes) == (0, 1, 64)
    assert reader.finish()


def test_c18_garbage_is_counted_and_cleared_away_a_newer_format_is_left_alone(root):
    directory = left_behind(root, [b"a"])
    (directory / "00000002.seg").write_bytes(b"garbage" * 900)
    (directory / "00000003.seg").write_bytes(b"")
    newer = bytearray((directory / "00000001.seg").read_bytes())
    newer[8] = 9
    newer[60:64] = segment.crc32(newer[:60]).to_bytes(4, "little")
    (directory / "00000004.seg").write_bytes(newer)
    reader = reading(directory)

    assert drain(reader) == [b"a"]
    assert not reader.finish()

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

    lock = OsFiles().lock(str(directory / "lock"))
    reader = SpoolReader(str(directory), lock, files=Files())

    assert take(reader) == [b"a"]
    assert len(opened) < 100
    assert drain(reader) == [b"a"]
    assert reader.finish()


class SpoolModel(RuleBasedStateMachine):
    """Append, take, acknowledge, prepare, die and be adopted, against a list."""

    def __init__(self):
        super().__init__()
        import tempfile

        self.root = tempfile.mkdtemp()
        self.number = 0
        self.left: list[bytes] = []
        self.begin()

    def begin(self):
        self.writer = SpoolWriter.create(self.root, bytes_max=60_000, **SMALL)
        self.reader = SpoolReader.of(self.writer)

    @rule(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=8))
    def append(self, sizes):
        for size in sizes:
            self.number += 1
            payload = b"%d:" % self.number + bytes(size)
            if self.writer.append(payload) is not None:
                self.left.append(payload)

    @rule()
    def prepare(self):
        self.writer.prepare()

    @rule(count=st.integers(1, 9), acknowledged=st.integers(0, 9))
    def deliver(self, count, acknowledged):
        taken = self.reader.take(bytes_max=1 << 30, count_max=count)
        assert [payload for _, payload in taken] == self.left[:count]
        if taken and acknowledged:
            done = min(acknowledged, len(taken))
            self.reader.acknowledge(taken[done - 1][0])
            del self.left[:done]

    @rule()
    def die_and_be_adopted(self):
        self.writer.close()
        heirs = list(orphans(self.root))
        assert len(heirs) == 1
        assert drain(heirs[0]) == self.left
        assert heirs[0].finish()
        self.left = []
        self.begin()

    @invariant()
    def pending_is_what_is_left(self):
        assert self.reader.pending() == (len(self.left), sum(map(len, self.left)))

    def teardown(self):
        self.writer.close()
        shutil.rmtree(self.root)


SpoolModel.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSpoolModel = SpoolModel.TestCase
