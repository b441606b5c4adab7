"""What spools hold, as seen from outside."""

from __future__ import annotations

import errno
from pathlib import Path

from hypothesis import given, settings, strategies as st

from leeward.journal import frame, segment
from leeward.journal.files import OsFiles
from leeward.journal.spool import SpoolHome
from leeward.journal.spool_survey import survey, unsent_bytes
from spool_helpers import SMALL, left_behind, put, rest_of, take


class OneFile(OsFiles):
    """A file's bytes; counts what was read of them."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.read = 0

    def open(self, path, **options):
        return 99

    def close(self, fd):
        pass

    def size(self, fd):
        return len(self.content)

    def pread(self, fd, length, offset):
        self.read += len(self.content[offset : offset + length])
        return self.content[offset : offset + length]


def file_of(written: int, length: int, mark: int = 0) -> bytes:
    content = bytearray(length)
    content[segment.RECORDS_AT : segment.RECORDS_AT + written] = b"x" * written
    if mark:
        content[segment.MARK_AT : segment.MARK_AT + segment.MARK_BYTES] = segment.encode_mark(segment.RECORDS_AT + mark)
    return bytes(content)


@settings(deadline=None)
@given(st.data(), st.sampled_from([0, 1, 4095, 4096, 4097, 60_000, 500_000]))
def test_what_is_written_and_not_delivered_is_found_without_reading_it(data, room):
    written = data.draw(st.integers(0, room))
    mark = data.draw(st.integers(0, written))
    files = OneFile(file_of(written, segment.RECORDS_AT + room, mark))

    assert unsent_bytes(files, "") == written - mark
    assert files.read <= 17 * 4096


def test_a_segment_that_was_cut_short_holds_nothing():
    assert unsent_bytes(OneFile(b""), "") == 0
    assert unsent_bytes(OneFile(bytes(100)), "") == 0


def test_spools_of_the_living_and_the_dead_are_told_apart_and_our_own_is_left_out(tmp_path):
    root = str(tmp_path / "spool")
    dead = left_behind(root, [b"x" * 100, b"y" * 100])
    living, own = SpoolHome.create(root, **SMALL), SpoolHome.create(root, **SMALL)
    put(living, b"z" * 50, is_error=True)
    put(own, b"own")
    (Path(root) / "about.json").touch()
    (Path(root) / "1-2-no-directory").touch()
    (dead / "notes.txt").touch()

    found = {part.directory: part for spool in survey(root, own={own.directory}) for part in spool}

    size = frame.HEADER_BYTES
    assert set(found) == {str(dead.parent), living.directory}
    left, theirs = found[str(dead.parent)], found[living.directory]
    assert (left.is_dead, left.is_error, left.number, left.bytes) == (True, False, 1, 2 * (size + 100))
    assert left.changed_s == (dead / "00000001.seg").stat().st_mtime
    assert (theirs.is_dead, theirs.is_error, theirs.bytes) == (False, True, size + 50)
    living.close()
    own.close()


def test_what_was_delivered_does_not_count(tmp_path):
    root = str(tmp_path / "spool")
    home = SpoolHome.create(root, **SMALL)
    for payload in (b"x" * 100, b"y" * 70):
        put(home, payload)
    take(rest_of(home), 1)
    rest_of(home).acknowledge(1)

    ((part,),) = survey(root, own=())

    assert part.bytes == frame.HEADER_BYTES + 70
    home.close()


def test_c17_what_cannot_be_looked_at_counts_as_nothing(tmp_path):
    root = str(tmp_path / "spool")
    left_behind(root, [b"x"])

    class Files(OsFiles):
        def open(self, path, **options):
            raise OSError(errno.EMFILE, "Too many open files")

    assert list(survey(root, own=(), files=Files())) == [[]]
    assert list(survey(str(tmp_path / "nowhere"), own=())) == []
