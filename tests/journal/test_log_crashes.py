"""The log against disks that forget, fail, tear and stop: W1, W2, W4, W5, W6."""

from __future__ import annotations

import contextlib
import os
import random

import pytest

from faults.disk import SYNCS, FaultyFiles, ForgetfulDisk
from journal.ledger import Ledger
from leeward.errors import Unavailable

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"
STEPS = 40


def changing_calls(seed: int) -> int:
    files = FaultyFiles(ForgetfulDisk(seed))
    assert Ledger(files, seed).run(STEPS)
    return files.calls


def points(seed: int, sample: int) -> list[int]:
    """Every changing call of the fixed workload when heavy, else a sample of them."""
    everything = range(1, changing_calls(seed) + 1)
    return list(everything) if HEAVY else sorted(random.Random(seed).sample(everything, sample))


@pytest.mark.parametrize("act", ["kill_before", "kill_after", "torn"])
@pytest.mark.parametrize("power", [False, True], ids=["killed", "power cut"])
def test_w1_killed_at_any_call_nothing_acknowledged_is_lost_or_doubled(act, power):
    for at in points(1, 40):
        disk = ForgetfulDisk(at)
        ledger = Ledger(FaultyFiles(disk, at=at, act=act), 1)
        assert not ledger.run(STEPS)

        disk.cut_power() if power else disk.kill()

        ledger.files = disk
        assert ledger.run(10), at


def test_w1_killed_during_recovery_and_during_the_recovery_of_the_recovery():
    for seed in range(2000 if HEAVY else 30):
        disk = ForgetfulDisk(seed)
        chance = random.Random(seed)
        ledger = Ledger(FaultyFiles(disk, at=chance.randint(30, 120), act="torn"), seed)
        ledger.run(STEPS)
        for _ in range(4):
            disk.cut_power() if chance.random() < 0.5 else disk.kill()
            ledger.files = FaultyFiles(disk, at=chance.randint(1, 6), act=chance.choice(("kill_before", "kill_after")))
            ledger.run(2)
        disk.kill()

        ledger.files = disk
        assert ledger.run(5), seed


def test_w2_power_cuts_keep_any_part_of_what_was_not_synced():
    for seed in range(100_000 if HEAVY else 200):
        disk = ForgetfulDisk(seed)
        chance = random.Random(seed)
        ledger = Ledger(disk, seed)
        for _ in range(3):
            ledger.files = FaultyFiles(disk, at=chance.randint(1, 60), act=chance.choice(("kill_before", "torn")))
            ledger.run(12)
            disk.cut_power() if chance.random() < 0.7 else disk.kill()
        ledger.files = disk
        assert ledger.run(4), seed


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EMFILE"])
def test_w4_a_disk_that_refuses_once_loses_nothing_and_the_log_goes_on(error):
    for at in points(2, 25):
        disk = ForgetfulDisk(at)
        files = FaultyFiles(disk, at=at, act=error)
        ledger = Ledger(files, 2)
        try:
            assert ledger.run(STEPS)
        except Unavailable:  # refused at a start: the next one goes well
            disk.kill()
            assert ledger.run(5), at
        disk.cut_power()

        ledger.files = disk
        assert ledger.run(5), at


def test_w5_a_failed_sync_at_any_call_acknowledges_nothing_that_a_power_cut_takes():
    for at in range(1, 60 if HEAVY else 25):
        disk = ForgetfulDisk(at)
        files = FaultyFiles(disk, at=at, act="EIO", only=lambda name: name in SYNCS)
        ledger = Ledger(files, 3)
        with contextlib.suppress(Unavailable):  # at a start
            assert ledger.run(STEPS)
        disk.cut_power()

        ledger.files = disk
        assert ledger.run(5), at


@pytest.mark.parametrize("act", ["short:1", "short:7", "EINTR", "EAGAIN"])
def test_w6_short_and_interrupted_writes_are_gone_on_with(act):
    disk = ForgetfulDisk(6)
    everything = FaultyFiles(disk)
    writes = 0

    def each_third(name):
        nonlocal writes
        writes += name == "pwrite"
        return name == "pwrite" and writes % 3 == 0

    files = FaultyFiles(everything, at=1, act=act, sticky=True, only=each_third)
    ledger = Ledger(files, 6)

    assert ledger.run(STEPS)
    assert not ledger.refused
    assert files.calls > 5
