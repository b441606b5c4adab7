"""A record ↔ bytes. One format for the server's log and the client's spool.

    length u32 | crc32 u32 | sequence u64 | type u8 | flags u8 | zero u16 | batch 16 bytes | payload

Little endian; `length` counts the payload. The checksum covers everything after itself and starts from the segment's
random salt, so that stale bytes of another file never pass, and nobody who chooses a payload can forge a record in it.

Limits    Payload at most 20 MiB: up to there a CRC-32 is enough. Type 1 to 255; 0 marks bytes never written.
"""

from __future__ import annotations

from struct import Struct
from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

PAYLOAD_BYTES_MAX: Final = 20 * 1024 * 1024
NO_BATCH: Final = bytes(16)

_FRONT = Struct("<II")
_REST = Struct("<QBBH16s")
_HEADER = Struct("<IIQBBH16s")
HEADER_BYTES: Final = _HEADER.size


class Record:
    """One record to be written: what it is, its payload, the batch it belongs to. Treat it as frozen."""

    __slots__ = ("batch", "flags", "payload", "type")

    def __init__(self, type: int, payload: bytes, batch: bytes = NO_BATCH, flags: int = 0) -> None:
        if not 1 <= type <= 255:
            raise ValueError(f"a record's type is 1 to 255, not {type}")
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise ValueError(f"a record holds at most {PAYLOAD_BYTES_MAX} bytes, not {len(payload)}: split it")
        if len(batch) != 16:
            raise ValueError(f"a record's batch id has 16 bytes, not {len(batch)}")
        self.type = type
        self.payload = payload
        self.batch = batch
        self.flags = flags

    @property
    def size(self) -> int:
        """Bytes that the record takes in a file."""
        return HEADER_BYTES + len(self.payload)


class Frame:
    """One record as found in a segment's bytes: where it starts and ends, and its payload. Treat it as frozen."""

    __slots__ = ("batch", "end", "flags", "payload", "sequence", "start", "type")

    def __init__(
        self, sequence: int, type: int, flags: int, batch: bytes, payload: bytes, start: int, end: int
    ) -> None:
        self.sequence = sequence
        self.type = type
        self.flags = flags
        self.batch = batch
        self.payload = payload
        self.start = start
        self.end = end


def encode_header(record: Record, sequence: int, salt: int) -> bytes:
    """Give the 36 bytes that stand before the record's payload."""
    rest = _REST.pack(sequence, record.type, record.flags, 0, record.batch)
    return _FRONT.pack(len(record.payload), crc32(record.payload, crc32(rest, salt))) + rest


def encode_small(type: int, payload: bytes, sequence: int, salt: int) -> bytes:
    """Give a whole record without a batch, as the client writes it on its caller's thread.

    The checksum goes in steps of 4 KiB: `crc32` lets go of the interpreter for longer inputs, and getting it back
    from a busy thread costs the caller 5 ms.
    """
    rest = _REST.pack(sequence, type, 0, 0, NO_BATCH)
    checksum = crc32(rest, salt)
    length = len(payload)
    if length <= 4096:
        checksum = crc32(payload, checksum)
    else:
        view = memoryview(payload)
        for offset in range(0, length, 4096):
            checksum = crc32(view[offset : offset + 4096], checksum)
    return _FRONT.pack(length, checksum) + rest + payload


def decode(data: bytes, start: int, end: int, salt: int) -> Frame | None:
    """Read the record at *start*, or give None if no whole and undamaged record stands between there and *end*."""
    payload_start = start + HEADER_BYTES
    if payload_start > end:
        return None
    length, checksum, sequence, kind, flags, zero, batch = _HEADER.unpack_from(data, start)
    payload_end = payload_start + length
    if payload_end > end or zero or not kind or length > PAYLOAD_BYTES_MAX:
        return None
    payload = data[payload_start:payload_end]
    if crc32(payload, crc32(data[start + 8 : payload_start], salt)) != checksum:
        return None
    return Frame(sequence, kind, flags, batch, payload, start, payload_end)


def length_needed(data: bytes, start: int) -> int | None:
    """Give the bytes that the record at *start* says to take, or None if its header is not all there or not plausible."""
    if start + HEADER_BYTES > len(data):
        return None
    length, _, _, kind, _, zero, _ = _HEADER.unpack_from(data, start)
    if zero or not kind or length > PAYLOAD_BYTES_MAX:
        return None
    return HEADER_BYTES + int(length)
