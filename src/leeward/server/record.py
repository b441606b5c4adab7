"""A request's accepted events ↔ one log record: a head that the writer reads, and rows that only the store reads.

    head length u32 little endian | head, MessagePack | rows, one JSON line an event, joined by newlines

The rows are encoded here once and travel as they are into the store; the writer puts only the log position in front.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from leeward.model import KINDS, Event
from leeward.wire.client import ClientReport

__all__ = [
    "BATCH_ID",
    "CODE_OF_KIND",
    "KIND_OF_CODE",
    "RECORD_BYTES_GOAL",
    "BatchHead",
    "Head",
    "pack",
    "row",
    "unpack",
    "unpack_head",
]

# What a sender may call a batch.
BATCH_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")

# A record stays well below the log's limit of 20 MiB; a request with more rows becomes several records.
RECORD_BYTES_GOAL: Final = 4 << 20

CODE_OF_KIND: Final = dict(zip(KINDS, "exslm", strict=True))
KIND_OF_CODE: Final = {code: kind for kind, code in CODE_OF_KIND.items()}


class BatchHead(msgspec.Struct, array_like=True, frozen=True):
    """What is remembered of a batch: enough to answer the same batch again, word for word.

    `digest` is of the events' bytes. `keys` are of the accepted events, repeated ones included, in the sender's
    order. `refusals` are (index, code, sentence).
    """

    batch_id: str
    digest: bytes
    received_at: int
    total: int
    duplicates: int
    keys: list[str]
    refusals: list[tuple[int, str, str]]


class Head(msgspec.Struct, array_like=True, frozen=True):
    """What the writer and a restarted server must know of a record without reading its rows.

    `kinds` has one letter an event, in upper case where the id was made here and so cannot have been seen before.
    `batch` stands in the last record of a request that carries a batch id; so does `client`, what the sender said of
    itself, and `rows_before`, how many of the request's rows stand in the records before it. Neither is part of the
    batch: the same events may come again with another account of them.
    """

    project: int
    received_at: int
    kinds: str
    ids: list[str]
    batch: BatchHead | None = None
    client: ClientReport | None = None
    rows_before: int = 0


_ENCODE_HEAD = msgspec.msgpack.Encoder().encode
_DECODE_HEAD = msgspec.msgpack.Decoder(Head).decode
_ENCODE_ROW = msgspec.json.Encoder().encode
_DECODE_ROW = msgspec.json.Decoder(Event).decode


def row(event: Event) -> bytes:
    """The event as the store's JSON line."""
    return _ENCODE_ROW(event)


def event_of(line: bytes) -> Event:
    """The event of a row, whether or not the writer has put its place in the log in front."""
    return _DECODE_ROW(line)


def pack(head: Head, rows: Sequence[bytes]) -> bytes:
    """Build a record's payload. *rows* are as `row` returns them, one for each id of the head, in its order."""
    packed = _ENCODE_HEAD(head)
    return b"".join((len(packed).to_bytes(4, "little"), packed, b"\n".join(rows)))


def unpack_head(payload: bytes) -> Head:
    """The head of a record's payload."""
    end = 4 + int.from_bytes(payload[:4], "little")
    return _DECODE_HEAD(payload[4:end])


def unpack(payload: bytes) -> tuple[Head, list[bytes]]:
    """The head and the rows of a record's payload."""
    end = 4 + int.from_bytes(payload[:4], "little")
    rows = payload[end:].split(b"\n") if len(payload) > end else []
    return _DECODE_HEAD(payload[4:end]), rows
