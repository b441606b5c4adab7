"""The file layer: everything that the journal asks of a disk, in one small seam.

`OsFiles` is the real one. Tests put others in its place: one that forgets what was not synced, one that fails, tears
or stops at the n-th operation. The journal changes nothing on a disk past this seam, but for the client's mapping.

Promises  New files are 0600 and never follow a symbolic link. `write_all` and `read_all` go on after short results,
          EINTR and EAGAIN until everything is there (or the file ends).
Limits    One call may be repeated 1,000 times without progress; then it is an I/O error.
"""

from __future__ import annotations

import errno
import os

from leeward.journal import owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Lock(Protocol):
        """A lock that is held."""

        def release(self) -> None:
            """Let go of it."""
            ...

    class Files(Protocol):
        """What the journal needs of a file system. Errors are `OSError`, as from `os`."""

        def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
            """Open an existing file, or create one that must not exist yet."""
            ...

        def close(self, fd: int) -> None:
            """Give the descriptor back."""
            ...

        def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            """Write at *offset*; may be short; returns how many bytes."""
            ...

        def pread(self, fd: int, length: int, offset: int) -> bytes:
            """Read at *offset*; may be short; empty at the file's end."""
            ...

        def fdatasync(self, fd: int) -> None:
            """Put the file's bytes, and its length if they need it, on stable storage."""
            ...

        def fsync(self, fd: int) -> None:
            """Put the file's bytes and all about them on stable storage."""
            ...

        def fsync_dir(self, path: str) -> None:
            """Put a directory's entries on stable storage."""
            ...

        def preallocate(self, fd: int, length: int) -> None:
            """Make the file *length* bytes long, with real blocks behind them; new bytes read as zero."""
            ...

        def truncate(self, fd: int, length: int) -> None:
            """Cut the file to *length* bytes."""
            ...

        def size(self, fd: int) -> int:
            """Give the file's length in bytes."""
            ...

        def rename(self, source: str, target: str) -> None:
            """Give a file another name; replaces what has that name, in one step."""
            ...

        def unlink(self, path: str) -> None:
            """Remove a file's name."""
            ...

        def listdir(self, path: str) -> list[str]:
            """Give the names in a directory, in any order."""
            ...

        def mkdir(self, path: str) -> None:
            """Make a directory, 0700, if it is not there."""
            ...

        def rmdir(self, path: str) -> None:
            """Remove an empty directory."""
            ...

        def lock(self, path: str) -> Lock | None:
            """Become the owner of a lock file, or give None if another living process is."""
            ...


FRUITLESS_MAX = 1_000
_ZEROS = bytes(64 * 1024)


class OsFiles:
    """The operating system's files."""

    __slots__ = ()

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        """Open an existing file, or create one that must not exist yet."""
        flags = (os.O_RDWR if write or create else os.O_RDONLY) | os.O_NOFOLLOW
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        fd = os.open(path, flags, 0o600)
        if create:
            try:
                # The host's umask may have taken the owner's own rights away: nobody could read the file again.
                if os.fstat(fd).st_mode & 0o600 != 0o600:
                    os.fchmod(fd, 0o600)
            except OSError:
                os.close(fd)
                raise
        return fd

    def close(self, fd: int) -> None:
        """Give the descriptor back."""
        os.close(fd)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write at *offset*; may be short; returns how many bytes."""
        return os.pwrite(fd, data, offset)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """Read at *offset*; may be short; empty at the file's end."""
        return os.pread(fd, length, offset)

    def fdatasync(self, fd: int) -> None:
        """Put the file's bytes, and its length if they need it, on stable storage."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(fd)
        else:
            os.fsync(fd)

    def fsync(self, fd: int) -> None:
        """Put the file's bytes and all about them on stable storage."""
        os.fsync(fd)

    def fsync_dir(self, path: str) -> None:
        """Put a directory's entries on stable storage."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def preallocate(self, fd: int, length: int) -> None:
        """Make the file *length* bytes long, with real blocks behind them; new bytes read as zero."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, length)
            return
        # macOS has no such call, and a hole is no promise of space: write the zeros.
        start = os.fstat(fd).st_size
        for offset in range(start, length, len(_ZEROS)):
            write_all(self, fd, _ZEROS[: length - offset], offset)

    def truncate(self, fd: int, length: int) -> None:
        """Cut the file to *length* bytes."""
        os.ftruncate(fd, length)

    def size(self, fd: int) -> int:
        """Give the file's length in bytes."""
        return os.fstat(fd).st_size

    def rename(self, source: str, target: str) -> None:
        """Give a file another name; replaces what has that name, in one step."""
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        """Remove a file's name."""
        os.unlink(path)

    def listdir(self, path: str) -> list[str]:
        """Give the names in a directory, in any order."""
        return os.listdir(path)

    def mkdir(self, path: str) -> None:
        """Make a directory, 0700, if it is not there."""
        if not os.path.isdir(path):
            os.makedirs(path, 0o700, exist_ok=True)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        os.rmdir(path)

    def lock(self, path: str) -> Lock | None:
        """Become the owner of a lock file, or give None if another living process is."""
        return owner.take_lock(path)


def write_all(files: Files, fd: int, data: bytes, offset: int) -> None:
    """Write all of *data* at *offset*: in one call where the system takes it in one."""
    rest = memoryview(data)
    fruitless = 0
    while rest:
        try:
            written = files.pwrite(fd, rest, offset)
        except (InterruptedError, BlockingIOError):
            written = 0
        fruitless = 0 if written else _once_more(fruitless)
        rest = rest[written:]
        offset += written


def read_all(files: Files, fd: int, length: int, offset: int) -> bytes:
    """Read *length* bytes at *offset*, fewer only where the file ends."""
    chunks: list[bytes] = []
    fruitless = 0
    while length > 0:
        try:
            chunk = files.pread(fd, length, offset)
        except (InterruptedError, BlockingIOError):
            fruitless = _once_more(fruitless)
            continue
        if not chunk:
            break
        fruitless = 0
        chunks.append(chunk)
        length -= len(chunk)
        offset += len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def read_file(files: Files, path: str, *, bytes_max: int) -> bytes:
    """Read a whole file, at most its first *bytes_max* bytes."""
    fd = files.open(path)
    try:
        return read_all(files, fd, min(files.size(fd), bytes_max), 0)
    finally:
        files.close(fd)


def write_aside(files: Files, path: str, data: bytes) -> None:
    """Put a new file under *path*, whole and synced or not at all; its directory is not synced yet."""
    aside = path + ".new"
    try:
        files.unlink(aside)
    except FileNotFoundError:
        pass  # the usual case: nobody died between creating and renaming it
    fd = files.open(aside, create=True)
    try:
        write_all(files, fd, data, 0)
        files.fsync(fd)
    finally:
        files.close(fd)
    files.rename(aside, path)


def _once_more(fruitless: int) -> int:
    if fruitless >= FRUITLESS_MAX:
        raise OSError(errno.EIO, "the file takes no more bytes and gives no reason")
    return fruitless + 1
