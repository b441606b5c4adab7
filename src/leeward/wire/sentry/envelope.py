r"""A Sentry envelope's bytes → its headers and where its items lie. Framing only: no payload is copied, decoded or judged.

    Envelope = headers { "\n" item } [ "\n" ]      item = headers "\n" payload
    headers    one line with a JSON object
    payload    `length` bytes, if the item's headers have it; else up to the next newline

Promises  anything that is no envelope is a `ProtocolError`: 400 `invalid_envelope`, and 413 `payload_too_large` for more
          than `ITEMS_MAX` items. An envelope without items is one. Lengths count bytes, so a payload may hold newlines.
Limits    blank lines between items are passed over.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from leeward.errors import ProtocolError
from leeward.model import Dropped
from leeward.wire.sentry.reading import Reader
from leeward.wire.text import repair

__all__ = ["ITEMS_MAX", "Envelope", "EnvelopeHeaders", "Item", "read_headers", "split"]

LINE_BYTES_MAX: Final = 64 * 1024  # of headers, which a sender must not make us take apart at length
ITEMS_MAX: Final = 10_000

_BLANK: Final = re.compile(rb"[ \t\r\n]*+")
_NEWLINE: Final = 0x0A


class EnvelopeHeaders(msgspec.Struct, frozen=True):
    """The first line, as far as it is used. `event_id` names the envelope's event or transaction."""

    event_id: str | None = None
    sent_at: float | str | None = None
    dsn: str | None = None


class _ItemHeaders(msgspec.Struct):
    type: str
    length: int | None = None


class Item(msgspec.Struct, frozen=True):
    """One item: its type and where its payload lies in the body."""

    type: str
    start: int
    end: int

    @property
    def size(self) -> int:
        """The payload's bytes."""
        return self.end - self.start


class Envelope(msgspec.Struct, frozen=True):
    """The whole: headers, and the items in their order."""

    headers: EnvelopeHeaders
    items: list[Item]


_HEADERS: Final = Reader(EnvelopeHeaders)
_DECODE_ITEM_HEADERS = msgspec.json.Decoder(_ItemHeaders).decode


def split(body: bytes) -> Envelope:
    """Find the items of an envelope.

    Raises:
        ProtocolError: 400 `invalid_envelope`, 413 `payload_too_large`.
    """
    headers, position = _headers(body)
    items: list[Item] = []
    while (position := _after_blank(body, position)) < len(body):
        if len(items) == ITEMS_MAX:
            raise ProtocolError(f"The envelope has more than {ITEMS_MAX} items", code="payload_too_large", status=413)
        line, position = _line(body, position)
        said = _item_headers(line, len(items))
        end = _payload_end(body, position, said.length, len(items))
        items.append(Item(said.type, position, end))
        position = end + 1
    return Envelope(headers, items)


def read_headers(body: bytes) -> EnvelopeHeaders:
    """The envelope's own headers alone.

    Raises:
        ProtocolError: 400 `invalid_envelope`.
    """
    return _headers(body)[0]


def _headers(body: bytes) -> tuple[EnvelopeHeaders, int]:
    line, position = _line(body, 0)
    headers = _HEADERS.read(repair(line)[0])
    if isinstance(headers, Dropped):
        raise _malformed(f"the first line must be the envelope's headers: {headers.error}")
    return headers, position


def _line(body: bytes, start: int) -> tuple[bytes, int]:
    """The line that begins at *start*, and where the next one does."""
    end = body.find(b"\n", start, start + LINE_BYTES_MAX)
    if end >= 0:
        return body[start:end], end + 1
    if len(body) - start > LINE_BYTES_MAX:
        raise _malformed(f"a line of headers has more than {LINE_BYTES_MAX} bytes")
    return body[start:], len(body)


def _after_blank(body: bytes, position: int) -> int:
    blank = _BLANK.match(body, position)
    return blank.end() if blank else position


def _item_headers(line: bytes, index: int) -> _ItemHeaders:
    try:
        return _DECODE_ITEM_HEADERS(repair(line)[0])
    except RecursionError:
        raise _malformed(f"the headers of item {index} are nested too deeply") from None
    except msgspec.DecodeError as error:
        raise _malformed(
            f"item {index} must begin with a line of JSON that has its type, and a length that is a whole number "
            f"if there is one: {error}"
        ) from None


def _payload_end(body: bytes, start: int, length: int | None, index: int) -> int:
    if length is None:
        end = body.find(b"\n", start)
        return len(body) if end < 0 else end
    if length < 0:
        raise _malformed(f"the length of item {index} is negative")
    end = start + length
    if end > len(body):
        missing = "" if length > len(body) else f" by {end - len(body)} bytes"
        raise _malformed(f"the length of item {index} goes past the end of the envelope{missing}")
    if end < len(body) and body[end] != _NEWLINE:
        raise _malformed(f"no newline follows the payload of item {index}; lengths count bytes, not characters")
    return end


def _malformed(cause: str) -> ProtocolError:
    return ProtocolError("The envelope cannot be read", code="invalid_envelope", details=(cause,))
