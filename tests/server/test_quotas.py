"""Quotas: what a key may bring in a minute and a day, across restarts, crashes and clocks that jump."""

from __future__ import annotations

import asyncio
import errno
import json

import pytest
from hypothesis import given, strategies as st

from control_helpers import HeldClock
from leeward.errors import QuotaExceeded, RateLimited
from leeward.journal.files import OsFiles
from leeward.server.quotas import UNLIMITED, Quota, Quotas
from leeward.server.windows import DAY_MS, KEYS_MAX, MINUTE_MS

MIDNIGHT = 20_000 * DAY_MS  # some day's first moment


class Reports(list):
    def __call__(self, event, fields):
        self.append((event, fields))


class FailingFiles(OsFiles):
    """A disk that fails at one kind of operation, as often as it is told."""

    def __init__(self, operation, times=1):
        self.operation = operation
        self.times = times

    def _may(self, operation):
        if operation == self.operation and self.times:
            self.times -= 1
            raise OSError(errno.ENOSPC, "No space left on device")

    def open(self, path, *, write=False, create=False):
        self._may("create" if create else "open")
        return super().open(path, write=write, create=create)

    def pwrite(self, fd, data, offset):
        self._may("pwrite")
        return super().pwrite(fd, data, offset)

    def fsync(self, fd):
        self._may("fsync")
        super().fsync(fd)

    def rename(self, source, target):
        self._may("rename")
        super().rename(source, target)

    def fsync_dir(self, path):
        self._may("fsync_dir")
        super().fsync_dir(path)


@pytest.fixture
def clock():
    clock = HeldClock()
    clock.now_ms = MIDNIGHT
    return clock


@pytest.fixture
def reports():
    return Reports()


@pytest.fixture
def quotas(tmp_path, clock, reports):
    return Quotas(tmp_path / "quotas.json", clock=clock, report=reports)


def started(tmp_path, clock, reports, **named):
    quotas = Quotas(tmp_path / "quotas.json", clock=clock, report=reports, **named)
    quotas.load()
    return quotas


def seconds_to_wait(quotas, quota, now_ms, key_id="k"):
    """None when the key may bring events."""
    try:
        quotas.check(key_id, quota, now_ms)
    except QuotaExceeded as refused:
        return refused.retry_after_s
    return None


# Counting


@pytest.mark.parametrize(
    ("quota", "events", "now_ms", "wait_s"),
    [
        (None, 10**9, MIDNIGHT, None),
        (UNLIMITED, 10**9, MIDNIGHT, None),
        (Quota(per_minute=5), 4, MIDNIGHT, None),
        (Quota(per_minute=5), 5, MIDNIGHT, 60.0),
        (Quota(per_minute=5), 9, MIDNIGHT + 12_500, 47.5),
        (Quota(per_day=5), 4, MIDNIGHT, None),
        (Quota(per_day=5), 5, MIDNIGHT, 60.0),
        (Quota(per_day=5), 5, MIDNIGHT + DAY_MS - 1, 0.001),
        (Quota(per_minute=5, per_day=5), 5, MIDNIGHT + DAY_MS - 90_000, 60.0),
    ],
)
def test_a_key_that_has_used_a_window_up_waits_until_it_ends_but_asks_again_within_a_minute(
    quotas, quota, events, now_ms, wait_s
):
    quotas.count("k", events, now_ms)

    assert seconds_to_wait(quotas, quota, now_ms) == wait_s


def test_a_new_window_begins_at_nothing(quotas):
    quotas.count("k", 5, MIDNIGHT)

    assert quotas.used("k", MIDNIGHT + MINUTE_MS - 1) == (5, 5)
    assert quotas.used("k", MIDNIGHT + MINUTE_MS) == (0, 5)
    assert quotas.used("k", MIDNIGHT + DAY_MS) == (0, 0)


def test_the_refusal_is_a_429_that_says_which_window_and_how_to_widen_it(quotas):
    quotas.count("k_7", 1000, MIDNIGHT)

    with pytest.raises(QuotaExceeded, match=r"1,000 events of this day \(UTC\)") as refused:
        quotas.check("k_7", Quota(per_day=1000), MIDNIGHT)

    assert isinstance(refused.value, RateLimited)
    assert (refused.value.code, refused.value.fix) == ("quota_exceeded", "leeward keys set-quota k_7 --per-day N")


def test_keys_do_not_use_up_each_others_quota(quotas):
    quotas.count("k_1", 5, MIDNIGHT)

    assert seconds_to_wait(quotas, Quota(per_day=5), MIDNIGHT, "k_1") is not None
    assert seconds_to_wait(quotas, Quota(per_day=5), MIDNIGHT, "k_2") is None


def test_a_quota_that_is_set_at_noon_counts_the_morning(quotas):
    quotas.count("k", 500, MIDNIGHT)
    quotas.check("k", None, MIDNIGHT)

    assert seconds_to_wait(quotas, Quota(per_day=500), MIDNIGHT + DAY_MS // 2) == 60.0


def test_more_keys_than_are_counted_push_out_the_one_that_was_still_for_longest(quotas):
    for number in range(KEYS_MAX):
        quotas.count(f"k_{number}", 1, MIDNIGHT)
    quotas.count("k_0", 1, MIDNIGHT)

    quotas.count("k_new", 1, MIDNIGHT)

    assert quotas.used("k_1", MIDNIGHT) == (0, 0)
    assert [quotas.used(key_id, MIDNIGHT)[1] for key_id in ("k_0", "k_2", "k_new")] == [2, 1, 1]


# Clocks


def test_w16_a_clock_that_is_set_back_gives_no_day_anew_and_locks_nobody_out_for_a_year(quotas):
    later = MIDNIGHT + 365 * DAY_MS
    quotas.count("k", 5, later)

    assert quotas.used("k", MIDNIGHT + 100) == (5, 5)
    assert seconds_to_wait(quotas, Quota(per_day=5), MIDNIGHT + 100) <= 60
    assert quotas.used("k", MIDNIGHT + DAY_MS) == (0, 0)


@given(
    course=st.lists(
        st.tuples(st.integers(-3 * DAY_MS, 3 * DAY_MS) | st.integers(-2000, 2000), st.integers(0, 4)), max_size=60
    )
)
def test_w16_however_the_clock_jumps_counts_fall_only_where_it_went_on_and_waits_end(tmp_path_factory, course):
    quotas = Quotas(tmp_path_factory.getbasetemp() / "none.json", clock=HeldClock(), report=Reports())
    now_ms, before = MIDNIGHT, (0, 0)
    for step_ms, events in course:
        earlier_ms, now_ms = now_ms, max(0, now_ms + step_ms)
        in_minute, in_day = quotas.used("k", now_ms)
        if now_ms // MINUTE_MS <= earlier_ms // MINUTE_MS:
            assert in_minute == before[0]
        if now_ms // DAY_MS <= earlier_ms // DAY_MS:
            assert in_day == before[1]
        assert in_minute in {0, before[0]}
        assert in_day in {0, before[1]}
        assert 0 < (seconds_to_wait(quotas, Quota(per_minute=1, per_day=1), now_ms) or 1) <= DAY_MS / 1000
        quotas.count("k", events, now_ms)
        before = quotas.used("k", now_ms)
        assert before == (in_minute + events, in_day + events)


# The file


def test_a_restart_gives_no_day_anew_and_the_next_day_begins_at_nothing(tmp_path, clock, reports, quotas):
    quotas.count("k", 7, clock.now_ms)
    quotas.stop()

    again = started(tmp_path, clock, reports)

    assert again.used("k", MIDNIGHT + 5000) == (0, 7)
    assert again.used("k", MIDNIGHT + DAY_MS) == (0, 0)
    assert (tmp_path / "quotas.json").stat().st_mode & 0o777 == 0o600
    assert reports == []


def test_a_restart_on_a_clock_that_was_set_back_gives_no_day_anew(tmp_path, clock, reports, quotas):
    quotas.count("k", 7, clock.now_ms)
    quotas.stop()

    assert started(tmp_path, clock, reports).used("k", MIDNIGHT - 5 * DAY_MS) == (0, 7)


def test_only_the_counts_of_the_day_are_kept(tmp_path, clock, quotas):
    quotas.count("k_old", 7, clock.now_ms)
    clock.now_ms += DAY_MS
    quotas.count("k", 8, clock.now_ms)
    quotas.stop()

    assert json.loads((tmp_path / "quotas.json").read_bytes())["used"] == [["k", [20_001, 8]]]


def test_where_nothing_was_counted_no_file_is_written(tmp_path, quotas):
    quotas.load()
    quotas.stop()

    assert list(tmp_path.iterdir()) == []


def damaged_files():
    whole = b'{"format":1,"used":[["k",[20000,7]]]}'
    yield from (whole[:cut] for cut in range(len(whole)))
    yield from (b"\0" * 37, whole + b"x", whole.replace(b"1", b"2", 1), whole.replace(b"7", b"-7"), b"[" * 5000)
    yield from (whole.replace(b"7", b"7.5"), whole.replace(b"7", str(2**64).encode()), b'{"format":1}', b"\xff\xfe")


def test_a_torn_or_foreign_file_is_set_aside_and_said_and_the_counts_begin_anew(tmp_path, clock, reports):
    for content in damaged_files():
        (tmp_path / "quotas.json").write_bytes(content)

        quotas = started(tmp_path, clock, reports)

        assert quotas.used("k", MIDNIGHT) == (0, 0)
        assert (tmp_path / "quotas.json.damaged").read_bytes() == content
        assert not (tmp_path / "quotas.json").exists()
        assert [event for event, _ in reports] == ["quotas_set_aside"]
        assert reports.pop()[1]["file"] == str(tmp_path / "quotas.json.damaged")


@pytest.mark.parametrize("operation", ["open", "rename"])
def test_a_file_that_the_disk_does_not_give_is_said_and_the_server_starts(tmp_path, clock, reports, operation):
    (tmp_path / "quotas.json").write_bytes(b"damaged")

    quotas = started(tmp_path, clock, reports, files=FailingFiles(operation))

    assert quotas.used("k", MIDNIGHT) == (0, 0)
    assert reports == [("quotas_unreadable", {"reason": "No space left on device"})]


@pytest.mark.parametrize("operation", ["create", "pwrite", "fsync", "rename", "fsync_dir"])
def test_w4_a_disk_that_does_not_take_the_file_leaves_the_old_one_and_the_next_time_does_it(
    tmp_path, clock, reports, quotas, operation
):
    quotas.count("k", 1, MIDNIGHT)
    quotas.stop()
    failing = started(tmp_path, clock, reports, files=FailingFiles(operation))
    failing.count("k", 1, MIDNIGHT)

    failing.stop()

    assert reports == [("quotas_not_saved", {"reason": "No space left on device"})]
    assert started(tmp_path, clock, reports).used("k", MIDNIGHT)[1] in ({1, 2} if operation == "fsync_dir" else {1})
    failing.stop()
    assert started(tmp_path, clock, reports).used("k", MIDNIGHT) == (0, 2)


def test_what_was_counted_is_saved_while_the_server_runs_and_at_its_end(tmp_path, clock, reports):
    async def scenario():
        saved = asyncio.Event()
        loop = asyncio.get_running_loop()

        class Files(OsFiles):
            def fsync_dir(self, path):
                super().fsync_dir(path)
                loop.call_soon_threadsafe(saved.set)

        quotas = started(tmp_path, clock, reports, files=Files(), save_every_s=0.001)
        quotas.start()
        for expected in (1, 2, 3):
            quotas.count("k", 1, MIDNIGHT)
            await asyncio.wait_for(saved.wait(), 30)
            saved.clear()
            assert started(tmp_path, clock, reports).used("k", MIDNIGHT) == (0, expected)
        await asyncio.to_thread(quotas.stop)
        quotas.count("k", 1, MIDNIGHT)
        quotas._save_in_thread()  # the timer that was set before
        assert started(tmp_path, clock, reports).used("k", MIDNIGHT) == (0, 3)
        assert quotas._changed
        await asyncio.to_thread(quotas.stop)

    asyncio.run(scenario())

    assert started(tmp_path, clock, reports).used("k", MIDNIGHT) == (0, 4)
    assert reports == []


def test_an_older_snapshot_does_not_replace_a_newer_one(tmp_path, clock, reports, quotas):
    quotas.count("k", 1, MIDNIGHT)
    older = quotas._snapshot()
    quotas.count("k", 1, MIDNIGHT)
    quotas._save(*quotas._snapshot())

    quotas._save(*older)  # as a slow thread does at the end

    assert started(tmp_path, clock, reports).used("k", MIDNIGHT) == (0, 2)
