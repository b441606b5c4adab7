"""Content-Encoding undone, within limits that hold while unpacking: a bomb costs its limit, never its size.

Limits    The result has at most `bytes_max` bytes, and beyond 1 MiB at most 200 for each byte that came: a small request
          cannot make the server hold a large one.
"""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING, Any, Final

from leeward.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["unpack", "unpacked_bytes_max"]

GZIP_MEMBERS_MAX: Final = 64
ZSTD_WINDOW_LOG_MAX: Final = 23  # 8 MiB, which RFC 9659 allows a sender of this encoding; held beside the result
RATIO_MAX: Final = 200  # ten times what events of one kind pack to
RATIO_FREE_BYTES: Final = 1 << 20  # up to here any ratio is taken
_STEP: Final = 1 << 20


def unpacked_bytes_max(packed_bytes: int, bytes_max: int) -> int:
    """As how many bytes so many packed ones may come out."""
    return min(bytes_max, max(RATIO_FREE_BYTES, RATIO_MAX * packed_bytes))


class _Overflow(Exception):
    """The limit is reached, and the body goes on."""


def unpack(packed: bytes, encoding: bytes, bytes_max: int) -> bytes:
    """Undo one content encoding.

    Args:
        packed: the body as it came.
        encoding: the header's value: identity, gzip, deflate, zstd or br.
        bytes_max: of the result.

    Raises:
        ProtocolError: 413 `payload_too_large`, 415 `unsupported_encoding`, 400 `invalid_json` for bytes that are not
            what the encoding says.
    """
    unpacker = _UNPACKERS.get(encoding.strip().lower())
    if unpacker is None:
        raise ProtocolError(
            "Content-Encoding must be gzip, deflate, zstd or br", code="unsupported_encoding", status=415
        )
    room = unpacked_bytes_max(len(packed), bytes_max)
    try:
        return unpacker(packed, room)
    except _Overflow:
        raise _too_large(bytes_max, room, len(packed)) from None


def _identity(packed: bytes, bytes_max: int) -> bytes:
    if len(packed) > bytes_max:
        raise _Overflow
    return packed


def _gzip(packed: bytes, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    room = bytes_max
    for _ in range(GZIP_MEMBERS_MAX):
        member = zlib.decompressobj(wbits=31)
        parts.append(_inflate(member, packed, room, "gzip"))
        room -= len(parts[-1])
        packed = member.unused_data
        if not packed:
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise _broken("gzip", "too many members")


def _deflate(packed: bytes, bytes_max: int) -> bytes:
    # RFC 9110 means zlib's wrapping; some senders leave it out. The first byte of the wrapping tells.
    wrapped = len(packed) > 1 and packed[0] & 0x0F == 8 and int.from_bytes(packed[:2], "big") % 31 == 0
    stream = zlib.decompressobj(wbits=15 if wrapped else -15)
    unpacked = _inflate(stream, packed, bytes_max, "deflate")
    if stream.unused_data:
        raise _broken("deflate", "bytes follow its end")
    return unpacked


def _inflate(stream: Any, packed: bytes, room: int, name: str) -> bytes:
    try:
        unpacked: bytes = stream.decompress(packed, room + 1)
    except zlib.error as error:
        raise _broken(name, str(error)) from None
    if len(unpacked) > room:
        raise _Overflow
    if not stream.eof:
        raise _broken(name, "it is cut")
    return unpacked


def _zstd(packed: bytes, bytes_max: int) -> bytes:
    zstd = _zstd_module()
    stream = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG_MAX})
    given = 0
    parts: list[bytes] = []
    room = bytes_max
    while not stream.eof:
        piece = packed[given : given + _STEP] if stream.needs_input else b""
        if stream.needs_input and not piece:
            raise _broken("zstd", "it is cut")
        given += len(piece)
        try:
            parts.append(stream.decompress(piece, max_length=_STEP))
        except zstd.ZstdError as error:
            raise _broken("zstd", str(error)) from None
        room -= len(parts[-1])
        if room < 0:
            raise _Overflow
    if stream.unused_data or given < len(packed):
        raise _broken("zstd", "bytes follow its end")
    del stream  # and its window, before the parts are doubled
    return b"".join(parts)


def _brotli(packed: bytes, bytes_max: int) -> bytes:
    import brotli  # noqa: PLC0415 - few senders use it: loaded by the first that does

    stream = brotli.Decompressor()
    parts: list[bytes] = []
    room = bytes_max
    given = packed
    try:
        while not stream.is_finished():
            if stream.can_accept_more_data() and not given and parts and not parts[-1]:
                raise _broken("br", "it is cut")
            parts.append(stream.process(given, output_buffer_limit=_STEP))
            given = b""
            room -= len(parts[-1])
            if room < 0:
                raise _Overflow
    except brotli.error as error:
        raise _broken("br", str(error)) from None
    return b"".join(parts)


def _zstd_module() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - few senders use it: loaded by the first that does
    else:
        from backports import zstd  # noqa: PLC0415 - see above
    return zstd


def _too_large(bytes_max: int, room: int, packed_bytes: int) -> ProtocolError:
    if room == bytes_max:
        said = f"The body is larger than {bytes_max} bytes when unpacked"
    else:
        said = (
            f"The body is larger than {room} bytes when unpacked, the most that {packed_bytes} packed bytes may become "
            f"({RATIO_MAX} times as many, or {RATIO_FREE_BYTES}); send it in smaller parts"
        )
    return ProtocolError(said, code="payload_too_large", status=413)


def _broken(name: str, why: str) -> ProtocolError:
    return ProtocolError(
        "The body cannot be unpacked", code="invalid_json", details=(f"it is not valid {name}: {why}",)
    )


_UNPACKERS: Final[dict[bytes, Callable[[bytes, int], bytes]]] = {
    b"identity": _identity,
    b"gzip": _gzip,
    b"x-gzip": _gzip,
    b"deflate": _deflate,
    b"zstd": _zstd,
    b"br": _brotli,
}
