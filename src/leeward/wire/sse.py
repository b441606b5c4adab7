"""Server-sent events as they arrive: bytes in any pieces → whole events, byte for byte as they were sent.

Promises  however a stream is cut into pieces, the same events come out and their bytes are together those of the stream,
          without a byte order mark at its start. Lines may end in CR, LF or CRLF. An event has at most `event_bytes_max`
          bytes, and that much is all that is kept between two pieces.
Limits    a comment is an event without data; ids and times to reconnect are not looked at, for nobody reconnects here.
"""

from __future__ import annotations

import re

from leeward.wire.chat import BadAnswer

__all__ = ["EVENT_BYTES_MAX", "Events", "data_of", "event_of"]

EMPTY_MAX = 10_000  # comments and blank lines in a row; a provider that keeps a connection open sends one a second
_NO_DATA = (b":", b"\n", b"\r", b"")
EVENT_BYTES_MAX = 8 << 20  # an image in base64 is one event

# Two ends of lines, one behind the other. Atomic, so that the two halves of a CRLF are never taken for two ends.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_BOM = b"\xef\xbb\xbf"
_CR = 0x0D
_LF = 0x0A


class Events:
    """The splitter of one stream."""

    __slots__ = ("_after_cr", "_at_start", "_empty", "_searched", "_tail", "event_bytes_max", "flooded")

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self.event_bytes_max = event_bytes_max
        self._tail = bytearray()  # of an event whose end has not come yet
        self._searched = 0  # bytes of the tail in which no end begins
        self._at_start = True
        self._empty = 0  # events without data, in a row
        self.flooded = False  # by events without data: nothing more is taken
        self._after_cr = False  # the last event ended in a CR: a LF that follows is still its end

    @property
    def cut(self) -> bool:
        """Whether a part of an event has been left over: something but ends of lines."""
        return bool(self._tail.strip(b"\r\n"))

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are whole now, each with the blank line that ends it.

        The second half of a CRLF that was cut in two comes alone, as an event without data.

        Raises:
            BadAnswer: an event is larger than is allowed, or too many in a row have no data.
        """
        if self.flooded:
            raise BadAnswer(f"more than {EMPTY_MAX:,} events in a row have no data")
        events = self._split(data)
        if events and events[-1][:1] in _NO_DATA:
            for place, event in enumerate(events):
                self._empty = self._empty + 1 if event[:1] in _NO_DATA else 0
                if self._empty > EMPTY_MAX:
                    self.flooded = True  # what came before is still given out
                    return events[:place]
        elif events:
            self._empty = 0
        return events

    def _split(self, data: bytes) -> list[bytes]:
        if self._tail or self._at_start or self._after_cr or _CR in data:
            return self._feed_carefully(data)
        # The common case, a few times faster: whole events, ended by LF.
        *events, tail = data.split(b"\n\n")
        if tail:
            self._keep(tail)
        if len(data) > self.event_bytes_max and any(len(event) + 2 > self.event_bytes_max for event in events):
            raise self._too_large()
        return [event + b"\n\n" for event in events]

    def _feed_carefully(self, data: bytes) -> list[bytes]:
        events: list[bytes] = []
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == _LF:
                events.append(b"\n")
                data = data[1:]
        tail = self._tail
        tail += data
        if self._at_start and not self._without_mark():
            return events
        start, search = 0, max(0, self._searched - 3)
        while end := _BLANK_LINE.search(tail, search):
            search = end.end()
            if search - start > self.event_bytes_max:
                raise self._too_large()
            events.append(bytes(tail[start:search]))
            start = search
        if start:
            self._after_cr = start == len(tail) and tail[-1] == _CR
            del tail[:start]
        self._searched = 0
        self._check_tail()
        return events

    def _without_mark(self) -> bool:
        """Take the byte order mark away; False while it may still be coming."""
        tail = self._tail
        if len(tail) < len(_BOM) and _BOM.startswith(tail):
            return False
        if tail.startswith(_BOM):
            del tail[: len(_BOM)]
        self._at_start = False
        return True

    def _keep(self, tail: bytes) -> None:
        self._tail += tail
        self._check_tail()

    def _check_tail(self) -> None:
        self._searched = len(self._tail)
        if self._searched > self.event_bytes_max:
            raise self._too_large()

    def _too_large(self) -> BadAnswer:
        return BadAnswer(f"an event of the stream has more than {self.event_bytes_max} bytes")


def data_of(event: bytes) -> bytes | None:
    """The data of an event, its lines joined; None if it has none."""
    return event_of(event)[1]


def event_of(event: bytes) -> tuple[bytes, bytes | None]:
    """The type of an event (b"" if it says none) and its data (None if it has none)."""
    kind = b""
    data: list[bytes] = []
    for line in event.splitlines():  # of bytes: CR, LF and CRLF alone
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif name == b"event":
            kind = value.removeprefix(b" ")
    return kind, b"\n".join(data) if data else None
