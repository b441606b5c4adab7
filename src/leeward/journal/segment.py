"""One file of a log or spool: its header, its space, and what can still be read from it when it was damaged.

    0     header 64 bytes     magic, version, instance, segment number, first sequence, salt, own checksum
    512   mark 16 bytes       client only: how far this segment was delivered; its own sector, so that a torn
                              rewrite cannot touch the header
    4096  header again        one zeroed page must not cost the salt, and with it every record of the file
    4160  records             end to end; zeros after the last one

Promises  `walk` gives every undamaged record and never a damaged one, whatever happened to the bytes.
Limits    Records are found again after damage by their header's plausible bytes and their checksum. Payloads that are
          JSON text hold no zero byte and so cannot even look like a header.
"""

from __future__ import annotations

from struct import Struct
from zlib import crc32

from leeward.errors import ConfigError
from leeward.journal import frame
from leeward.journal.files import read_all, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from leeward.journal.files import Files

MAGIC: Final = b"leewardJ"
VERSION: Final = 1
COPY_AT: Final = 4096
MARK_AT: Final = 512

_HEADER = Struct("<8sHH4x16sQQI8x")
_CHECKSUM = Struct("<I")
_MARK = Struct("<QI4x")
HEADER_BYTES: Final = _HEADER.size + _CHECKSUM.size
MARK_BYTES: Final = _MARK.size
RECORDS_AT: Final = COPY_AT + HEADER_BYTES


class Header:
    """What a segment says about itself. Treat it as frozen."""

    __slots__ = ("first_sequence", "instance", "number", "salt")

    def __init__(self, instance: bytes, number: int, first_sequence: int, salt: int) -> None:
        self.instance = instance
        self.number = number
        self.first_sequence = first_sequence
        self.salt = salt

    def encode(self) -> bytes:
        """Give the header's 64 bytes."""
        head = _HEADER.pack(MAGIC, VERSION, 0, self.instance, self.number, self.first_sequence, self.salt)
        return head + _CHECKSUM.pack(crc32(head))

    @classmethod
    def decode(cls, data: bytes, where: str) -> Header | None:
        """Read the header, or its copy, from a file's first bytes; None if neither is whole.

        Raises:
            ConfigError: The file is of a newer format, and says so with a good checksum.
        """
        for start in (0, COPY_AT):
            head = data[start : start + _HEADER.size]
            checksum = data[start + _HEADER.size : start + HEADER_BYTES]
            if len(checksum) < _CHECKSUM.size or checksum != _CHECKSUM.pack(crc32(head)):
                continue
            magic, version, _, instance, number, first_sequence, salt = _HEADER.unpack(head)
            if magic != MAGIC:
                continue
            if version > VERSION:
                raise newer_format(where, version)
            return cls(instance, number, first_sequence, salt)
        return None


class Damage:
    """Bytes of a segment that are no record; `is_tail` if no whole record follows. Treat it as frozen."""

    __slots__ = ("end", "is_tail", "start")

    def __init__(self, start: int, end: int, *, is_tail: bool) -> None:
        self.start = start
        self.end = end
        self.is_tail = is_tail


def newer_format(where: str, version: int) -> ConfigError:
    """Give the error that says which format was found and which one is understood."""
    return ConfigError(
        f"{where} is in format {version}, written by a newer leeward; this one reads format {VERSION}",
        code="newer_format",
        where=where,
        fix="start the newer version again, or choose another directory",
    )


def allocate(files: Files, path: str, length: int) -> int:
    """Make a file of *length* bytes with real space behind them. Without a header it is not a segment yet.

    Returns:
        The descriptor. If anything fails, the file is removed again.
    """
    fd = files.open(path, create=True)
    try:
        files.preallocate(fd, length)
    except OSError:
        discard(files, fd, path)
        raise
    return fd


def write_header(files: Files, fd: int, header: Header) -> None:
    """Make an allocated file a segment. Nothing is synced yet."""
    encoded = header.encode()
    write_all(files, fd, encoded, 0)
    write_all(files, fd, encoded, COPY_AT)


def discard(files: Files, fd: int, path: str) -> None:
    """Close and remove a file that is of no use. What fails here is cleared away at the next start."""
    try:
        files.close(fd)
    except OSError:
        pass
    try:
        files.unlink(path)
    except OSError:
        pass


def read_header(files: Files, fd: int, where: str) -> Header | None:
    """Read an open segment's header; None if it has none. Raises ConfigError for a newer format."""
    return Header.decode(read_all(files, fd, RECORDS_AT, 0), where)


def encode_mark(end: int) -> bytes:
    """Give the bytes that say: everything before *end* is delivered."""
    return _MARK.pack(end, crc32(MAGIC, end & 0xFFFFFFFF))


def decode_mark(data: bytes) -> int | None:
    """Read a mark: where to go on. The beginning if none was ever written, None if it is damaged."""
    if len(data) < MARK_BYTES or not any(data):
        return RECORDS_AT
    end = int(_MARK.unpack(data[:MARK_BYTES])[0])
    return end if data[:MARK_BYTES] == encode_mark(end) and end >= RECORDS_AT else None


def walk(data: bytes, start: int, salt: int, sequences: range) -> Iterator[frame.Frame | Damage]:
    """Give the records of *data* from *start* on, in the order of the file, and the damage between them.

    A record whose sequence is not one of *sequences* is damage as well. Trailing zeros are neither.
    """
    end = len(data)
    written_end = start + len(data[start:].rstrip(b"\0")) if start else len(data.rstrip(b"\0"))
    position = start
    while position < written_end:
        found = frame.decode(data, position, end, salt)
        if found is not None and found.sequence in sequences:
            yield found
            position = found.end
            continue
        found = _next_record(data, position + 1, written_end, salt, sequences)
        if found is None:
            yield Damage(position, written_end, is_tail=True)
            return
        yield Damage(position, found.start, is_tail=False)
        position = found.start


def _next_record(data: bytes, start: int, written_end: int, salt: int, sequences: range) -> frame.Frame | None:
    """Find the first whole record that begins at or after *start*."""
    import re  # noqa: PLC0415  only damage asks for it, and the client must not pay for it

    # Of a plausible sequence the upper bytes are known; the type is never zero, the two bytes after the flags are.
    low_bytes = next(low for low in range(3, 8) if (sequences.stop - 1 >> 8 * low) - (sequences.start >> 8 * low) < 8)
    uppers = range(sequences.start >> 8 * low_bytes, (sequences.stop - 1 >> 8 * low_bytes) + 1)
    known = b"|".join(re.escape(upper.to_bytes(8 - low_bytes, "little")) for upper in uppers)
    skipped = b"%d" % (8 + low_bytes)
    header = re.compile(b"(?s)(?=.{" + skipped + b"}(?:" + known + rb")[\x01-\xff].\x00\x00)")
    for candidate in header.finditer(data, start):
        if candidate.start() >= written_end:
            break
        found = frame.decode(data, candidate.start(), len(data), salt)
        if found is not None and found.sequence in sequences:
            return found
    return None
