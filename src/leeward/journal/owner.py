"""Who owns a directory: a lock file that says which process, and knows the dead from the living.

Promises  One owner at a time, over processes and containers (`flock`). The file names the owner's process id and start
          time: a number that was given to a new process is not taken for the old one. A lock whose owner died is free.
          After a fork the child holds nothing of it, so a living child never keeps a dead owner "alive".
Limits    A child that was forked without Python's knowledge (in C) keeps the lock held until it ends or executes
          another program. Systems without `flock` have no locks: taking one is an `OSError` there.
"""

from __future__ import annotations

import errno
import os

if os.name == "posix":
    import fcntl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

START_UNKNOWN: Final = 0
_ENDED: Final = (b"Z", b"X")  # a zombie has let go of everything; nobody has asked for its exit code yet


class Owner:
    """A process: its id, and when it started in clock ticks since boot (0 where the system does not say)."""

    __slots__ = ("pid", "start")

    def __init__(self, pid: int, start: int) -> None:
        self.pid = pid
        self.start = start

    @classmethod
    def this_process(cls) -> Owner:
        """Give the calling process."""
        pid = os.getpid()
        return cls(pid, start_of(pid) or START_UNKNOWN)

    @classmethod
    def parse(cls, text: bytes) -> Owner | None:
        """Read what `text` wrote, or None."""
        words = text.split()
        if len(words) != 2 or not (words[0].isdigit() and words[1].isdigit()):
            return None
        return cls(int(words[0]), int(words[1]))

    def text(self) -> bytes:
        """Give what the lock file holds."""
        return f"{self.pid} {self.start}\n".encode()

    def is_alive(self) -> bool:
        """Say whether this very process still runs. A process of another container does not look alive."""
        if self.start != START_UNKNOWN:
            return start_of(self.pid) == self.start
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def start_of(pid: int) -> int | None:
    """Give when process *pid* started, in clock ticks since boot, or None if it is gone or the system does not say."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        stat = os.read(fd, 4096)
    except ProcessLookupError:
        return None  # it ended between the two calls
    finally:
        os.close(fd)
    # The second field is the program's name in brackets and may hold anything, brackets and spaces too.
    fields = stat[stat.rfind(b")") + 1 :].split()
    if len(fields) <= 19 or fields[0] in _ENDED:
        return None
    return int(fields[19])


def is_held_here(path: str) -> bool:
    """Say whether this process took the lock at *path*; one that only an earlier program of its id took is not."""
    try:
        inode = _inode_at(path)
    except OSError:
        return False
    return any(lock.is_of(inode) for lock in tuple(_HELD.values()))


class OwnerLock:
    """A lock that this process holds."""

    __slots__ = ("_fd", "_inode", "_pid")

    def __init__(self, fd: int, inode: tuple[int, int], pid: int) -> None:
        self._fd = fd
        self._inode = inode
        self._pid = pid
        _HELD[fd] = self

    def is_of(self, inode: tuple[int, int] | None) -> bool:
        """Say whether the lock file is this one."""
        return self._inode == inode

    def release(self) -> None:
        """Let go of the lock. In a forked child: close the copy, leave the parent's lock alone."""
        if _HELD.get(self._fd) is not self:
            return
        del _HELD[self._fd]
        # The host may have closed all descriptors; this number may be somebody else's file by now.
        if _inode_of(self._fd) != self._inode:
            return
        if os.getpid() == self._pid:
            os.ftruncate(self._fd, 0)
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)


_HELD: dict[int, OwnerLock] = {}


def take_lock(path: str) -> OwnerLock | None:
    """Make this process the owner, or give None if another living one is. `owner_of` says who."""
    if os.name != "posix":
        raise OSError(errno.ENOTSUP, "this system has no file locks", path)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            inode = _inode_of(fd)
            # Its last owner may have removed the file between our two calls: then the lock is on nothing.
            if inode is not None and inode == _inode_at(path):
                os.ftruncate(fd, 0)
                os.pwrite(fd, Owner.this_process().text(), 0)
                return OwnerLock(fd, inode, os.getpid())
        except BlockingIOError:
            os.close(fd)
            return None
        except OSError:
            os.close(fd)
            raise
        os.close(fd)


def owner_of(path: str) -> Owner | None:
    """Give the owner that a lock file names, alive or dead; None if it was let go, or nobody ever was."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return Owner.parse(os.read(fd, 64))
    finally:
        os.close(fd)


def _inode_of(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _inode_at(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _close_in_child() -> None:
    """Close the child's copies: a lock rides on the open file, and every copy of it must be gone for it to be free."""
    for lock in list(_HELD.values()):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
