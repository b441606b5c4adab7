"""Who owns a directory."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

import pytest

from leeward.journal import owner
from leeward.journal.owner import Owner, owner_of, take_lock


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "lock")


def ended_child() -> Owner:
    """Give an owner that has lived and died."""
    child = os.fork()
    if child == 0:
        signal.pause()
    dead = Owner(child, owner.start_of(child))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return dead


def test_a_lock_is_held_once_and_names_its_owner(path):
    lock = take_lock(path)

    assert take_lock(path) is None
    assert owner_of(path).pid == os.getpid()
    assert owner_of(path).is_alive()
    lock.release()
    lock.release()
    assert owner_of(path) is None
    again = take_lock(path)
    assert again is not None
    again.release()


def test_c16_a_living_child_does_not_keep_a_dead_owner_alive(path):
    """The lock rides on the open file, which a child inherits: the child must close its copy."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            take_lock(path)
            if os.fork() == 0:
                os.write(writing, b"%d" % os.getpid())
            signal.pause()
        finally:
            os._exit(1)
    grandchild = int(os.read(reading, 20))
    try:
        held = take_lock(path)
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)

        lock = take_lock(path)
    finally:
        os.kill(grandchild, signal.SIGKILL)
        os.close(reading)
        os.close(writing)

    assert held is None
    assert lock is not None
    lock.release()


def test_c16_closing_another_descriptor_of_the_file_does_not_drop_the_lock(path):
    lock = take_lock(path)
    os.close(os.open(path, os.O_RDWR))

    assert take_lock(path) is None
    lock.release()


def test_c16_a_process_id_that_was_given_again_is_not_the_old_owner():
    me = Owner.this_process()

    assert me.is_alive()
    assert not Owner(me.pid, me.start + 1).is_alive()
    assert not ended_child().is_alive()


def test_where_the_system_tells_no_start_time_the_process_id_decides(monkeypatch):
    dead = ended_child()

    assert Owner(os.getpid(), owner.START_UNKNOWN).is_alive()
    assert not Owner(dead.pid, owner.START_UNKNOWN).is_alive()

    def refused(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    assert Owner(1, owner.START_UNKNOWN).is_alive()


def test_a_process_that_ends_while_it_is_looked_at_has_no_start_time(monkeypatch):
    def gone(fd, length):
        raise ProcessLookupError

    monkeypatch.setattr(os, "read", gone)
    assert owner.start_of(os.getpid()) is None


@pytest.mark.parametrize("text", [b"", b"12", b"a b", b"1 2 3", b"-1 5"])
def test_text_that_names_no_owner_is_none(text):
    assert Owner.parse(text) is None


def test_c26_a_descriptor_number_that_is_somebody_elses_by_now_is_left_alone(path, tmp_path):
    lock = take_lock(path)
    number = lock._fd
    os.close(number)
    lock.release()  # closed by the host: nothing to do

    lock = take_lock(path)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.write(other, b"theirs")
    os.dup2(other, lock._fd)
    lock.release()

    assert (tmp_path / "other").read_bytes() == b"theirs"
    os.close(lock._fd)  # it was left open, so this does not raise
    os.close(other)


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_taken_again(path, monkeypatch):
    real = fcntl.flock
    removed = []

    def flock(fd, flags):
        real(fd, flags)
        if not removed:
            removed.append(path)
            Path(path).unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = take_lock(path)

    assert owner_of(path).pid == os.getpid()
    monkeypatch.undo()
    lock.release()


def test_a_lock_that_the_system_refuses_is_an_error(path, monkeypatch):
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))

    with pytest.raises(OSError, match="No space"):
        take_lock(path)

    monkeypatch.undo()
    monkeypatch.setattr(owner.os, "name", "nt")
    with pytest.raises(OSError, match="no file locks"):
        take_lock(path)


def test_c16_a_zombie_owns_nothing():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # ended, and nobody has asked how
    try:
        assert owner.start_of(child) is None
    finally:
        os.waitpid(child, 0)
