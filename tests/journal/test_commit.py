"""Group commit: who shares a sync with whom, and who is told what."""

from __future__ import annotations

import threading

import pytest

from leeward.errors import Unavailable
from leeward.journal.commit import GroupCommit
from leeward.journal.frame import Record
from leeward.journal.log import Log


class Clock:
    now_s = 100.0

    def monotonic_s(self):
        return self.now_s

    def wall_ms(self):
        return 0


class Disk:
    """A log that remembers what it was asked, and refuses when told to."""

    def __init__(self):
        self.groups = []
        self.syncs = 0
        self.refusal = None
        self.refusal_at = "append"

    def append(self, records, *, urgent=False):
        if self.refusal and self.refusal_at == "append" and not urgent:
            raise self.refusal
        self.groups.append([record.payload for record in records])
        return sum(len(group) for group in self.groups[:-1]) + 1

    def sync(self):
        if self.refusal and self.refusal_at == "sync":
            raise self.refusal
        self.syncs += 1


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def answers():
    return []


@pytest.fixture
def commit(disk, clock, answers):
    return GroupCommit(disk, on_group=answers.append, group_bytes_max=1000, clock=clock)


def test_nothing_waiting_means_nothing_done(commit, disk):
    assert commit.run_once() is False
    assert disk.syncs == 0


def test_what_arrived_meanwhile_shares_one_write_and_one_sync(commit, disk, answers):
    commit.submit(Record(1, b"a"), "first")
    commit.submit([Record(1, b"b"), Record(1, b"c")], "second")
    commit.submit(Record(1, b"d"), "third")

    assert commit.run_once() is True

    assert disk.groups == [[b"a", b"b", b"c", b"d"]]
    assert disk.syncs == 1
    assert answers == [[("first", 1, None), ("second", 2, None), ("third", 4, None)]]
    assert commit.run_once() is False


def test_a_group_stops_at_its_limit_but_holds_one_submission_of_any_size(commit, disk):
    for size in (600, 600, 5000, 10, 10):
        commit.submit(Record(1, bytes(size)), size)

    while commit.run_once():
        pass

    assert [[len(payload) for payload in group] for group in disk.groups] == [[600], [600], [5000], [10, 10]]


@pytest.mark.parametrize("at", ["append", "sync"])
def test_w4_when_the_disk_refuses_every_submitter_of_the_group_is_told(commit, disk, answers, at):
    disk.refusal, disk.refusal_at = Unavailable("full"), at
    commit.submit(Record(1, b"a"), "a")
    commit.submit(Record(1, b"b"), "b")
    commit.run_once()

    assert answers == [[("a", None, disk.refusal), ("b", None, disk.refusal)]]
    assert commit.waiting_bytes == 0


def test_w4_urgent_records_are_not_refused_with_the_others(commit, disk, answers):
    disk.refusal = Unavailable("full")
    commit.submit(Record(1, b"a"), "a")
    commit.submit(Record(2, b"seal"), "seal", urgent=True)
    commit.submit(Record(1, b"b"), "b")
    while commit.run_once():
        pass

    assert [answer[0][1] for answer in answers] == [None, 1, None]


def test_what_waits_can_be_seen_until_it_is_answered(commit, disk, clock):
    assert (commit.waiting_bytes, commit.oldest_wait_s) == (0, 0.0)
    commit.submit(Record(1, bytes(64)), "a")
    clock.now_s += 2
    commit.submit(Record(1, bytes(64)), "b")
    clock.now_s += 1
    assert (commit.waiting_bytes, commit.oldest_wait_s) == (200, 3.0)

    seen = []
    disk.sync = lambda: seen.append((commit.waiting_bytes, commit.oldest_wait_s))
    commit.run_once()

    assert seen == [(200, 3.0)]
    assert (commit.waiting_bytes, commit.oldest_wait_s) == (0, 0.0)


def test_a_caller_that_fails_does_not_stop_the_others(disk, caplog):
    told = []

    def on_group(answers):
        told.append(answers)
        if len(told) == 1:
            raise RuntimeError("bug")

    commit = GroupCommit(disk, on_group=on_group)
    for token in "ab":
        commit.submit(Record(1, b"x"), token)
        commit.run_once()

    assert len(told) == 2
    assert "on_group failed for a group of 1" in caplog.text


@pytest.mark.parametrize("at", ["append", "sync"])
def test_i11_a_fault_that_nobody_foresaw_is_answered_to_its_group_and_the_thread_goes_on(disk, answers, caplog, at):
    disk.refusal, disk.refusal_at = MemoryError(), at
    first_answered = threading.Event()

    def on_group(group):
        answers.append(group)
        disk.refusal = None
        first_answered.set()

    commit = GroupCommit(disk, on_group=on_group)
    commit.submit(Record(1, b"a"), "a")
    commit.submit(Record(1, b"b"), "b")
    commit.start()
    assert first_answered.wait(30)
    commit.submit(Record(1, b"c"), "c")
    commit.close(30)

    (a, b), (c,) = answers
    assert [(token, sequence) for token, sequence, _ in (a, b)] == [("a", None), ("b", None)]
    assert isinstance(a[2], Unavailable)
    assert str(a[2]) == "the log could not be written: MemoryError"
    assert b[2] is a[2]
    assert c[0] == "c"
    assert c[2] is None
    assert commit.waiting_bytes == 0
    assert "a group of 2 could not be committed" in caplog.text


def test_closing_commits_what_waits_and_refuses_what_comes_later(commit, answers):
    commit.submit(Record(1, b"a"), "a")
    commit.close()

    assert answers == [[("a", 1, None)]]
    with pytest.raises(Unavailable, match="closing"):
        commit.submit(Record(1, b"b"), "b")


def test_with_its_thread_and_a_real_log_everybody_is_answered_once_and_in_order(tmp_path):
    log = Log.open(tmp_path)
    answers = []
    commit = GroupCommit(log, on_group=answers.extend)
    commit.start()

    def submit(name):
        for n in range(100):
            commit.submit(Record(1, b"%s %d" % (name, n)), (name, n))

    threads = [threading.Thread(target=submit, args=(name,)) for name in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    commit.close()

    assert sorted(token for token, _, _ in answers) == [(name, n) for name in (b"a", b"b", b"c") for n in range(100)]
    assert [sequence for _, sequence, _ in answers] == list(range(1, 301))
    assert [entry.payload for entry in log.read(0)] == [b"%s %d" % token for token, _, _ in answers]
    log.close()
