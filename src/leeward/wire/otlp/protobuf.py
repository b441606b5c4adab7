"""Protobuf's wire form, and attributes in it, read by hand: positions into one body, nothing copied but what is kept.

No library, because of what a library's reader would do with a body of 64 MiB before anybody could count: an empty message
inside another costs two bytes to send and fifty to keep. Here a container costs nothing until its content is wanted.

Promises  what breaks the wire form raises `Broken` (or IndexError or struct.error, at a body's end), wherever it stands;
          unknown fields are passed over, groups are refused: the protocol has none. Text that is no UTF-8 or has a NUL
          gets U+FFFD in its place and does not cost its request. An attribute that stands in many records is decoded
          once: short ones are remembered as long as the request lives, and no longer, as they may be secrets.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any, Final

from leeward.wire.otlp.records import DEPTH_MAX, ITEMS_MAX, PARTS_MAX, double, too_deep, too_many_items, too_many_parts

__all__ = [
    "Broken",
    "Reader",
    "double_at",
    "field",
    "fields",
    "number_at",
    "signed",
    "signed_32",
    "varint",
    "varints",
    "zigzag",
]

VARINT_BITS_MAX: Final = 63
FIELDS_MAX: Final = 10 * ITEMS_MAX  # of one message, empty ones and unknown ones counted
MEMO_ENTRIES_MAX: Final = 4096
MEMO_BYTES_MAX: Final = 96  # of an entry
WORD: Final = 1 << 64

_CONTAINERS: Final = frozenset((list, dict))  # whoever gets one may change it

Field = tuple[int, int, int]

_U64 = struct.Struct("<Q").unpack_from
_U32 = struct.Struct("<I").unpack_from
_DOUBLE = struct.Struct("<d").unpack_from


class Broken(Exception):
    """The bytes are not protobuf."""


def fields(raw: bytes, pos: int, end: int) -> Iterator[Field]:
    """The fields of the message at raw[pos:end]: (tag, value, 0) of a varint, else (tag, start, stop).

    A tag is `number << 3 | wire type`, so that a field with the wrong wire type is an unknown one.
    """
    room = FIELDS_MAX
    while pos < end:
        one, pos = field(raw, pos)
        if pos > end:
            break
        if not room:
            raise too_many_items("fields in a message", FIELDS_MAX)
        room -= 1
        yield one
    if pos != end:
        raise Broken


def field(raw: bytes, pos: int) -> tuple[Field, int]:
    """The field at *pos*, and where it ends; that may lie beyond the message's end."""
    tag = raw[pos]
    pos += 1
    if tag >= 0x80:
        tag, pos = varint(raw, pos)
    form = tag & 7
    if tag < 8:
        raise Broken
    if form == 2:
        size = raw[pos]
        pos += 1
        if size >= 0x80:
            size, pos = varint(raw, pos)
        stop = pos + size
        return (tag, pos, stop), stop
    if form == 0:
        value = raw[pos]
        pos += 1
        if value >= 0x80:
            value, pos = varint(raw, pos)
        return (tag, value, 0), pos
    if form == 1:
        return (tag, pos, pos + 8), pos + 8
    if form == 5:
        return (tag, pos, pos + 4), pos + 4
    raise Broken


def varint(raw: bytes, pos: int) -> tuple[int, int]:
    """The varint whose first byte, of more than one, stands before *pos*; and where it ends."""
    value = raw[pos - 1] & 0x7F
    for shift in range(7, VARINT_BITS_MAX + 1, 7):
        byte = raw[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value % WORD, pos
    raise Broken


def number_at(raw: bytes, start: int, stop: int) -> int:
    """The fixed-size number without a sign at raw[start:stop]."""
    value: int = (_U64 if stop - start == 8 else _U32)(raw, start)[0]
    return value


def double_at(raw: bytes, start: int) -> float:
    """The double there."""
    value: float = _DOUBLE(raw, start)[0]
    return value


def signed(value: int) -> int:
    """The int64 that a varint or a fixed64 means."""
    return value - WORD if value >= WORD >> 1 else value


def signed_32(value: int) -> int:
    """The int32 that a varint means, as an enumeration is one."""
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def zigzag(value: int) -> int:
    """The sint32 that a varint means."""
    value &= 0xFFFF_FFFF
    return value >> 1 ^ -(value & 1)


def varints(raw: bytes, pos: int, end: int) -> Iterator[int]:
    """Packed varints."""
    while pos < end:
        value = raw[pos]
        pos += 1
        if value >= 0x80:
            value, pos = varint(raw, pos)
        yield value
    if pos != end:
        raise Broken


class Reader:
    """One body, and what was met in it."""

    __slots__ = ("memo", "raw", "repaired")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.repaired = False  # whether any text had to be changed to be stored
        self.memo: dict[bytes, tuple[str, Any]] = {}

    def record(self, pos: int, end: int, attributes_tag: int) -> tuple[dict[str, Any], list[Field]]:
        """The attributes of the message there, and its other fields as `fields` has them.

        Raises:
            Unusable: it has too many fields, or one too deep.
        """
        raw = self.raw
        known = self.memo.get
        attributes: dict[str, Any] = {}
        rest: list[Field] = []
        while pos < end:
            if raw[pos] == attributes_tag:  # the loop that most of a request is: no call for an attribute seen before
                size = raw[pos + 1]
                pos += 2
                if size >= 0x80:
                    size, pos = varint(raw, pos)
                stop = pos + size
                one = raw[pos:stop]
                pos = stop
                pair = known(one) or self.pair(one)
                attributes[pair[0]] = pair[1]
            else:
                other, pos = field(raw, pos)
                rest.append(other)
                if len(rest) > PARTS_MAX:
                    raise too_many_parts()
        if pos != end:
            raise Broken
        return attributes, rest

    def text(self, start: int, stop: int) -> str:
        """The text at raw[start:stop]."""
        return self._text(self.raw[start:stop])

    def value(self, start: int, stop: int, depth: int = 0) -> Any:
        """The AnyValue at raw[start:stop] as JSON has it; None if it is empty.

        Raises:
            Unusable: it is nested too deeply.
        """
        return self._value(self.raw, start, stop, depth)

    def pair(self, one: bytes) -> tuple[str, Any]:
        """The KeyValue that *one* is."""
        found = _usual_pair(one)
        if found is None:
            found = self._any_pair(one, 0, len(one), 0)
        if len(one) <= MEMO_BYTES_MAX and len(self.memo) < MEMO_ENTRIES_MAX and type(found[1]) not in _CONTAINERS:
            self.memo[one] = found
        return found

    def _any_pair(self, raw: bytes, pos: int, end: int, depth: int) -> tuple[str, Any]:
        key = ""
        value = None
        for tag, start, stop in fields(raw, pos, end):
            if tag == 0x0A:
                key = self._text(raw[start:stop])
            elif tag == 0x12:
                value = self._value(raw, start, stop, depth)
        return key, value

    def _value(self, raw: bytes, pos: int, end: int, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise too_deep()
        value: Any = None
        for tag, start, stop in fields(raw, pos, end):
            if tag == 0x0A:
                value = self._text(raw[start:stop])
            elif tag == 0x10:
                value = start != 0
            elif tag == 0x18:
                value = signed(start)
            elif tag == 0x21:
                value = double(double_at(raw, start))
            elif tag == 0x2A:
                value = [
                    self._value(raw, inner, inner_stop, depth + 1)
                    for inner_tag, inner, inner_stop in fields(raw, start, stop)
                    if inner_tag == 0x0A
                ]
            elif tag == 0x32:
                value = dict(
                    self._any_pair(raw, inner, inner_stop, depth + 1)
                    for inner_tag, inner, inner_stop in fields(raw, start, stop)
                    if inner_tag == 0x0A
                )
            elif tag == 0x3A:
                value = base64.b64encode(raw[start:stop]).decode()
        return value

    def _text(self, raw: bytes) -> str:
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode(errors="replace")
            self.repaired = True
        if "\0" in text:
            text = text.replace("\0", "\ufffd")
            self.repaired = True
        return text


def _usual_pair(one: bytes) -> tuple[str, Any] | None:
    """The KeyValue in its usual form: a key and a plain value, each so short that a byte tells its length. Else None."""
    try:
        key_stop = one[1] + 2
        start = key_stop + 2
        left = len(one) - start
        if one[0] != 0x0A or key_stop >= 0x82 or one[key_stop] != 0x12 or one[key_stop + 1] != left or left >= 0x80:
            return None
        form, first = one[start], one[start + 1]
        value: Any
        if form == 0x0A and first + 2 == left:
            value = one[start + 2 :].decode()
            if "\0" in value:
                return None
        elif form == 0x18 and left == 2 and first < 0x80:
            value = first
        elif form == 0x18 and left == 3 and first >= 0x80 > one[start + 2]:
            value = first & 0x7F | one[start + 2] << 7
        elif form == 0x21 and left == 9:
            value = double(_DOUBLE(one, start + 1)[0])
        else:
            return None
        key = one[2:key_stop].decode()
    except (IndexError, UnicodeDecodeError):
        return None  # nothing that is usual: read by all the rules
    return None if "\0" in key else (key, value)
