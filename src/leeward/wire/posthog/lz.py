"""lz-string, as older browser SDKs pack their bodies: `compressToBase64` and `compressToUTF16` undone, within limits.

Limits    `PACKED_CHARS_MAX` characters in: it is Python, at about 2 MiB of packed text a second. The result never has
          more than the bytes that the caller allows, also while unpacking; the dictionary takes as much again.
"""

from __future__ import annotations

import re
from typing import Final

from leeward.errors import ProtocolError

__all__ = ["PACKED_CHARS_MAX", "lz_unpack"]

PACKED_CHARS_MAX: Final = 1 << 20
BITS_OF_BASE64: Final = 6
BITS_OF_UTF16: Final = 15
_UTF16_OFFSET: Final = 32  # keeps the packed text clear of control characters
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]+={0,3}")  # a last group of one symbol is filled up as well
_BASE64_VALUES: Final = {
    symbol: format(value, "06b")
    for value, symbol in enumerate(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
# What a code below 3 means.
_CHAR_OF_8_BITS: Final = 0
_CHAR_OF_16_BITS: Final = 1
_END: Final = 2


def lz_unpack(packed: bytes, bytes_max: int) -> bytes:
    """Undo lz-string.

    Args:
        packed: the body as UTF-8: base64, or the form that stores 15 bits in each character.
        bytes_max: of the result.

    Raises:
        ProtocolError: 413 `payload_too_large`, 400 `invalid_json` for bytes that are no lz-string.
    """
    if len(packed) > PACKED_CHARS_MAX:
        raise ProtocolError(
            f"An lz64 body has at most {PACKED_CHARS_MAX} bytes; use gzip for larger ones",
            code="payload_too_large",
            status=413,
        )
    text = _expand(_bits(packed), bytes_max)
    unpacked = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
    if len(unpacked) > bytes_max:
        raise _too_large(bytes_max)
    return unpacked


def _bits(packed: bytes) -> str:
    """The packed bits in their order, as text: cutting out a code is then one slice."""
    if _BASE64.fullmatch(packed):
        return "".join([_BASE64_VALUES[symbol] for symbol in packed.rstrip(b"=")])
    try:
        values = [ord(character) - _UTF16_OFFSET for character in packed.decode()]
    except UnicodeDecodeError:
        raise _broken() from None
    if not values or min(values) < 0 or max(values) >= 1 << BITS_OF_UTF16:
        raise _broken()
    return "".join([format(value, "015b") for value in values])


def _expand(bits: str, chars_max: int) -> str:
    """LZW whose codes grow: 0 and 1 bring a new character of 8 or 16 bits, 2 ends, the others are known phrases."""
    phrases = ["", "", ""]  # the first phrase has the number 3
    parts: list[str] = []
    room = chars_max
    place, width, until_wider = 0, 2, 1
    previous = ""
    while place < len(bits):
        code = _number(bits, place, width)
        place += width
        if code == _END:
            return "".join(parts)
        if code < _END:
            char_bits = 8 if code == _CHAR_OF_8_BITS else 16
            phrases.append(chr(_number(bits, place, char_bits)))
            place += char_bits
            code = len(phrases) - 1
            until_wider -= 1
            if until_wider == 0:
                until_wider = 1 << width
                width += 1
        if code < len(phrases):
            phrase = phrases[code]
        elif code == len(phrases) and previous:
            phrase = previous + previous[0]
        else:
            raise _broken()
        room -= len(phrase)
        if room < 0:
            raise _too_large(chars_max)
        parts.append(phrase)
        if previous:
            phrases.append(previous + phrase[0])
            until_wider -= 1
            if until_wider == 0:
                until_wider = 1 << width
                width += 1
        previous = phrase
    raise _broken()


def _number(bits: str, place: int, width: int) -> int:
    """Codes are written with their lowest bit first."""
    digits = bits[place : place + width]
    if len(digits) < width:
        raise _broken()
    return int(digits[::-1], 2)


def _too_large(bytes_max: int) -> ProtocolError:
    return ProtocolError(
        f"The body is larger than {bytes_max} bytes when unpacked", code="payload_too_large", status=413
    )


def _broken() -> ProtocolError:
    return ProtocolError("Invalid JSON", code="invalid_json", details=("the body is not valid lz64",))
