"""The real file layer, and the loops above any."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from leeward.journal import files as layer
from leeward.journal.files import OsFiles, read_all, read_file, write_all, write_aside


@pytest.fixture
def files():
    return OsFiles()


def test_a_new_file_is_private_and_must_not_exist_yet(files, tmp_path):
    path = str(tmp_path / "a")
    files.close(files.open(path, create=True))

    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        files.open(path, create=True)


@pytest.mark.parametrize("umask", [0o477, 0o777])
def test_a_new_file_can_be_read_again_whatever_the_hosts_umask(files, tmp_path, umask):
    before = os.umask(umask)
    try:
        files.close(files.open(str(tmp_path / "a"), create=True))
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_a_new_file_whose_rights_cannot_be_set_is_an_error_that_costs_no_descriptor(files, tmp_path, monkeypatch):
    def refuse(fd, mode):
        refused.append(fd)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    refused = []
    monkeypatch.setattr(os, "fchmod", refuse)
    before = os.umask(0o477)
    try:
        with pytest.raises(PermissionError):
            files.open(str(tmp_path / "a"), create=True)
    finally:
        os.umask(before)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(refused[0])


def test_c17_a_symbolic_link_is_never_followed(files, tmp_path):
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("nowhere")

    for name in ("link", "dangling"):
        for options in ({}, {"write": True}, {"create": True}):
            with pytest.raises(OSError):
                files.open(str(tmp_path / name), **options)
    assert (tmp_path / "target").read_text() == "kept"
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_is_made_private_and_may_be_there(files, tmp_path):
    path = str(tmp_path / "a/b")
    files.mkdir(path)
    files.mkdir(path)

    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o700
    files.rmdir(path)
    assert not Path(path).exists()


@pytest.mark.parametrize("system", ["with fallocate", "without"])
def test_preallocated_space_is_real_and_reads_as_zeros(files, tmp_path, monkeypatch, system):
    if system == "without":
        monkeypatch.delattr(os, "posix_fallocate")
        monkeypatch.delattr(os, "fdatasync")
    fd = files.open(str(tmp_path / "a"), create=True)
    files.preallocate(fd, 100_001)
    files.fdatasync(fd)

    assert files.size(fd) == 100_001
    assert os.fstat(fd).st_blocks * 512 >= 100_001
    assert read_all(files, fd, 200_000, 0) == bytes(100_001)
    files.close(fd)


class Stubborn:
    """Takes and gives a few bytes at a time, and is interrupted in between."""

    def __init__(self, *, gives_up: bool = False):
        self.content = bytearray(5)
        self.calls = 0
        self.gives_up = gives_up

    def _once(self):
        self.calls += 1
        if self.gives_up:
            return
        if self.calls % 3 == 1:
            raise InterruptedError
        if self.calls % 3 == 2:
            raise BlockingIOError

    def pwrite(self, fd, data, offset):
        self._once()
        if self.gives_up:
            return 0
        self.content[offset : offset + 2] = data[:2]
        return min(2, len(data))

    def pread(self, fd, length, offset):
        self._once()
        if self.gives_up:
            raise BlockingIOError
        return bytes(self.content[offset : offset + min(3, length)])


def test_w6_writes_and_reads_go_on_until_all_is_there():
    files = Stubborn()
    write_all(files, 1, b"0123456789", 5)

    assert read_all(files, 1, 7, 6) == b"1234567"
    assert read_all(files, 1, 100, 5) == b"0123456789"
    assert read_all(files, 1, 0, 0) == b""


def test_w6_a_file_that_never_takes_or_gives_anything_is_an_error_not_a_hang():
    for call in (lambda f: write_all(f, 1, b"x", 0), lambda f: read_all(f, 1, 1, 0)):
        files = Stubborn(gives_up=True)
        with pytest.raises(OSError, match="takes no more bytes") as caught:
            call(files)
        assert caught.value.errno == errno.EIO
        assert files.calls == layer.FRUITLESS_MAX + 1


def test_a_file_written_aside_replaces_the_old_one_and_a_leftover(files, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    (tmp_path / "a.new").write_bytes(b"left over by a crash")

    write_aside(files, str(path), b"new")

    assert path.read_bytes() == b"new"
    assert [found.name for found in tmp_path.iterdir()] == ["a"]
    assert read_file(files, str(path), bytes_max=2) == b"ne"
