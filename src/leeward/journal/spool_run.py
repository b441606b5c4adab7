"""What one batch is made of: records cut out of pieces of segments, as cheaply as Python can.

    length u32 | crc32 u32 | sequence u64 | type u8 | …      (`frame`; a record of the client has no batch and no flags)

Promises  A run holds records of one type and one process, in the order of their files.
"""

from __future__ import annotations

from struct import Struct
from zlib import crc32

from leeward.journal import frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["Run"]

_HEAD: Final = Struct("<IIQB")


class Run:
    """Consecutive records of one process, as they are gathered; `position` is behind the last in its file."""

    __slots__ = (
        "_breaks",
        "_bytes_left",
        "_count_left",
        "instance",
        "is_full",
        "kinds",
        "payloads",
        "position",
        "sequences",
    )

    def __init__(self, *, bytes_max: int, count_max: int) -> None:
        self.payloads: list[bytes] = []
        self.sequences: list[int] = []
        self.kinds: list[int] = []  # the records' types
        self.instance = b""
        self.is_full = False
        self.position = 0
        self._breaks: list[tuple[int, int]] = []  # from which record on they lie end to end, and where it begins
        self._bytes_left = bytes_max
        self._count_left = count_max

    def add(self, data: bytes, base: int, salt: int | None) -> int:
        """Add the records at the beginning of *data*, which stands at *base* in its file; give how many bytes they take.

        It ends at what does not fit in (`is_full` then), and at what is not a whole record. With *salt*, the checksums
        are looked at. It runs while callers wait for the interpreter, so it does as little as it can.
        """
        payloads, add_payload, add_sequence = self.payloads, self.payloads.append, self.sequences.append
        add_kind, bytes_left, count_left = self.kinds.append, self._bytes_left, self._count_left
        unpack, last, offset, is_full = _HEAD.unpack_from, len(data) - frame.HEADER_BYTES, 0, self.is_full
        if base != self.position or not payloads:
            self._breaks.append((len(payloads), base))
        while offset <= last and not is_full:
            length, checksum, sequence, kind = unpack(data, offset)
            start = offset + frame.HEADER_BYTES
            end = start + length
            payload = data[start:end]
            if len(payload) != length or not kind:
                break
            if salt is not None and crc32(payload, crc32(data[offset + 8 : start], salt)) != checksum:
                break
            if length > bytes_left and payloads:
                is_full = True
                break
            add_kind(kind)
            add_payload(payload)
            add_sequence(sequence)
            bytes_left -= length
            count_left -= 1
            is_full = count_left <= 0 or bytes_left <= 0
            offset = end
        self._bytes_left, self._count_left, self.is_full = bytes_left, count_left, is_full
        self.position = base + offset
        return offset

    def end_of(self, index: int) -> int:
        """Where a record ends in its file."""
        first, begin = next(place for place in reversed(self._breaks) if place[0] <= index)
        between = self.payloads[first : index + 1]
        return begin + len(between) * frame.HEADER_BYTES + sum(map(len, between))
