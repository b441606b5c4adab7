"""Two file layers in place of the real one: a disk that forgets at a power cut, and a wrapper that fails on demand.

`ForgetfulDisk` lives in memory and keeps "written" and "synced" apart. At a power cut it keeps any subset of the
unsynced sectors and directory changes, as its seed says. A failed sync forgets for ever what was pending: a later one
does not bring it back, though reads still show it. `FaultyFiles` goes around any file layer and acts at the n-th call
that changes something.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import random
from collections.abc import Callable
from dataclasses import dataclass, field

CHANGING = ("open", "pwrite", "fdatasync", "fsync", "fsync_dir", "preallocate", "truncate", "rename", "unlink")
SYNCS = ("fdatasync", "fsync", "fsync_dir")


class Killed(BaseException):
    """The process is gone: nothing after this line runs, no `except OSError` helps."""


@dataclass
class _Inode:
    cached: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # (offset, bytes) or (length, None)


def _apply(content: bytearray, change: tuple[int, bytes | None]) -> None:
    offset, data = change
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    if not data:
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


class _NoLock:
    def release(self) -> None:
        pass


class ForgetfulDisk:
    """A file layer in memory, with a power switch."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._sector = self._random.choice((512, 4096))
        self._cached: dict[str, _Inode] = {}
        self._durable: dict[str, _Inode] = {}
        self._moves: list[tuple[str, str | None, str | None, _Inode]] = []  # directory, from, to
        self._directories: set[str] = set()
        self._fds: dict[int, _Inode] = {}
        self._next_fd = 1000

    # What a person does to it.

    def kill(self) -> None:
        """The process dies; the system lives on, and the page cache with it."""
        self._fds.clear()

    def cut_power(self) -> None:
        """Keep what was synced, and any part of the rest."""
        self._fds.clear()
        keep = self._random.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        for _, source, target, inode in self._moves:
            if self._random.random() < keep:
                self._move(self._durable, source, target, inode)
        self._moves.clear()
        for inode in {id(inode): inode for inode in (*self._durable.values(), *self._cached.values())}.values():
            self._keep_some(inode, keep)
            inode.cached = bytearray(inode.durable)
        self._cached = dict(self._durable)

    def doom(self, fd: int) -> None:
        """What a failed sync does: pages count as clean, some were written, the others never will be."""
        self._keep_some(self._fds[fd], self._random.choice((0.0, 0.5)))

    def content(self, path: str) -> bytes:
        return bytes(self._cached[path].cached)

    def overwrite(self, path: str, data: bytes) -> None:
        self._cached[path].cached = bytearray(data)

    # What the journal asks of it.

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        if create:
            if path in self._cached:
                raise FileExistsError(errno.EEXIST, "exists", path)
            inode = self._cached[path] = _Inode()
            self._moves.append((posixpath.dirname(path), None, path, inode))
        elif path not in self._cached:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        self._next_fd += 1
        self._fds[self._next_fd] = self._cached[path]
        return self._next_fd

    def close(self, fd: int) -> None:
        del self._fds[fd]

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self._change(self._fds[fd], (offset, bytes(data)))
        return len(data)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return bytes(self._fds[fd].cached[offset : offset + length])

    def fdatasync(self, fd: int) -> None:
        inode = self._fds[fd]
        for change in inode.pending:
            _apply(inode.durable, change)
        inode.pending.clear()

    fsync = fdatasync

    def fsync_dir(self, path: str) -> None:
        for directory, source, target, inode in self._moves:
            if directory == path:
                self._move(self._durable, source, target, inode)
        self._moves = [move for move in self._moves if move[0] != path]

    def preallocate(self, fd: int, length: int) -> None:
        self._change(self._fds[fd], (length, None))

    def truncate(self, fd: int, length: int) -> None:
        self._change(self._fds[fd], (length, None))

    def size(self, fd: int) -> int:
        return len(self._fds[fd].cached)

    def rename(self, source: str, target: str) -> None:
        inode = self._cached[source]
        self._move(self._cached, source, target, inode)
        self._moves.append((posixpath.dirname(target), source, target, inode))

    def unlink(self, path: str) -> None:
        if path not in self._cached:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        inode = self._cached.pop(path)
        self._moves.append((posixpath.dirname(path), path, None, inode))

    def listdir(self, path: str) -> list[str]:
        return [posixpath.basename(name) for name in self._cached if posixpath.dirname(name) == path]

    def mkdir(self, path: str) -> None:
        self._directories.add(path)

    def rmdir(self, path: str) -> None:
        self._directories.discard(path)

    def lock(self, path: str) -> _NoLock:
        return _NoLock()

    def _change(self, inode: _Inode, change: tuple[int, bytes | None]) -> None:
        _apply(inode.cached, change)
        inode.pending.append(change)

    def _keep_some(self, inode: _Inode, keep: float) -> None:
        for offset, data in inode.pending:
            if data is None:
                if self._random.random() < keep:
                    _apply(inode.durable, (offset, None))
                continue
            start = 0
            while start < len(data):
                end = min(len(data), start + self._sector - (offset + start) % self._sector)
                if self._random.random() < keep:
                    _apply(inode.durable, (offset + start, data[start:end]))
                start = end
        inode.pending.clear()

    @staticmethod
    def _move(names: dict[str, _Inode], source: str | None, target: str | None, inode: _Inode) -> None:
        if source is not None and names.get(source) is inode:
            del names[source]
        if target is not None:
            names[target] = inode


class FaultyFiles:
    """Goes around a file layer and acts at its n-th changing call (from 1), or at each one that *only* picks.

    act   `kill_before` `kill_after` `torn` (half of a write, then death), an error's name such as `ENOSPC`,
          `short:K` (K bytes of a write), `EINTR`
    """

    def __init__(
        self,
        files: object,
        *,
        at: int | None = None,
        act: str = "kill_before",
        sticky: bool = False,
        only: Callable[[str], bool] | None = None,
    ) -> None:
        self.files = files
        self.calls = 0
        self.log: list[str] = []
        self.at = at
        self.act = act
        self.sticky = sticky
        self.only = only
        self.dead = False

    def __getattr__(self, name: str):
        method = getattr(self.files, name)
        if name not in CHANGING:
            return self._unless_dead(method)

        def call(*arguments, **options):
            if self.dead:
                raise Killed
            if name == "open" and not options.get("create"):
                return method(*arguments, **options)
            if self.only is not None and not self.only(name):
                return method(*arguments, **options)
            self.calls += 1
            self.log.append(name)
            hit = self.at is not None and (self.calls == self.at or (self.sticky and self.calls > self.at))
            return self._act(name, method, arguments, options) if hit else method(*arguments, **options)

        return call

    def _unless_dead(self, method):
        def call(*arguments, **options):
            if self.dead:
                raise Killed
            return method(*arguments, **options)

        return call

    def _act(self, name, method, arguments, options):
        if self.act.startswith("short:"):
            if name != "pwrite":
                return method(*arguments, **options)
            fd, data, offset = arguments
            return method(fd, data[: int(self.act[6:])], offset)
        if self.act in {"kill_before", "kill_after", "torn"}:
            if self.act == "kill_after":
                with contextlib.suppress(OSError):
                    method(*arguments, **options)
            elif self.act == "torn" and name == "pwrite":
                fd, data, offset = arguments
                method(fd, data[: len(data) // 2], offset)
            self.dead = True
            raise Killed
        number = getattr(errno, self.act)
        if name in {"fdatasync", "fsync"} and hasattr(self.files, "doom"):
            self.files.doom(arguments[0])
        if name == "pwrite" and self.act == "ENOSPC":
            fd, data, offset = arguments
            method(fd, data[: len(data) // 2], offset)  # a full disk takes what still fits
        raise OSError(number, os.strerror(number))
