"""Decoded native events → events within bounds and their rows. Pure: no clock, no door, no log; any thread may run it."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Sequence
from typing import Final

import msgspec

from leeward.errors import ProtocolError
from leeward.model import Dropped, Event
from leeward.scrub.bounds import bound
from leeward.server.record import row
from leeward.wire import native, native_encode
from leeward.wire.text import has_replacement, repair

__all__ = ["Prepared", "prepare", "prepare_body"]

_CHANGES_KEY: Final = b'"leeward.changed"'
_ENCODE = msgspec.json.Encoder().encode
_DECODE_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_RANDOM_BYTES: Final = 10


class Prepared(msgspec.Struct, frozen=True):
    """One request's events, in the sender's order: each an `Event` with its row, or why it is refused.

    `made_here` tells of each event whether its id was made here and so cannot have been seen before.
    """

    events: list[Event | Dropped]
    rows: list[bytes]  # b"" in the place of a refused event
    made_here: list[bool]


def prepare_body(body: bytes, *, project: int, received_at: int, batch_id: str = "") -> Prepared:
    """Decode a native body (one event, or an array of them) and prepare its events.

    Raises:
        ProtocolError: the body as a whole is refused.
    """
    text, repaired = repair(body)
    events = native.decode_events(text)
    return prepare(events, project=project, received_at=received_at, batch_id=batch_id, repaired=repaired)


def prepare(
    events: Sequence[native.NativeEvent | Dropped], *, project: int, received_at: int, batch_id: str, repaired: bool
) -> Prepared:
    """Give every event its id, its bounds and its row.

    Args:
        events: as `wire.native` decoded them.
        project: the key's project.
        received_at: milliseconds since 1970.
        batch_id: the sender's, or "". With it, an event without an id gets one that a replay gets again.
        repaired: whether broken text was replaced anywhere in the request.
    """
    prepared: list[Event | Dropped] = []
    rows: list[bytes] = []
    made_here: list[bool] = []
    for index, event in enumerate(events):
        fresh = False
        if isinstance(event, Dropped):
            done: Event | Dropped = event
        else:
            event_id = event.id
            if not event_id:
                fresh = not batch_id
                event_id = (
                    _derived_id(project, batch_id, index, event)
                    if batch_id
                    else native_encode.uuid7(received_at, os.urandom(_RANDOM_BYTES))
                )
            done = _event(event, project, received_at, event_id, batch_id, repaired)
        prepared.append(done)
        rows.append(b"" if isinstance(done, Dropped) else row(done))
        made_here.append(fresh)
    return Prepared(prepared, rows, made_here)


def _event(
    event: native.NativeEvent, project: int, received_at: int, event_id: str, batch_id: str, repaired: bool
) -> Event | Dropped:
    data = bytes(event.data)
    if data in {b"", b"null"}:
        data = b"{}"
    bounded = bound(data)
    if isinstance(bounded, Dropped):
        return bounded
    data, changes = bounded
    attributes = b""
    if event.attributes or isinstance(event, native.UnfoldedEvent):
        try:
            attributes = native.attributes(event)
        except ProtocolError as error:
            return Dropped(error.code, error.message)
        bounded = bound(attributes)
        if isinstance(bounded, Dropped):
            return bounded
        attributes, more = bounded
        changes = [*changes, *more]
        if isinstance(event, native.UnfoldedEvent) and event.error_rest:
            bounded = bound(_ENCODE(event.error_rest))
            if isinstance(bounded, Dropped):
                return bounded
            rest, more = bounded
            event.error_rest = _DECODE_FIELDS(rest)
            changes = [*changes, *more]
    if repaired and has_replacement(data):
        changes = [*changes, "characters that cannot be stored were replaced by U+FFFD"]
    if changes:
        attributes = _with_changes(attributes, changes)
    return native.to_event(
        event,
        project=project,
        received_at=received_at,
        event_id=event_id,
        data=data,
        attributes=attributes,
        batch_id=batch_id,
    )


def _with_changes(attributes: bytes, changes: list[str]) -> bytes:
    entry = _CHANGES_KEY + b":" + _ENCODE(changes)
    if attributes in {b"", b"{}"}:
        return b"{" + entry + b"}"
    return attributes[:-1] + b"," + entry + b"}"


def _derived_id(project: int, batch_id: str, index: int, event: native.NativeEvent) -> str:
    """The id of an event that came without one in a batch that has one: the same at every replay."""
    digest = hashlib.blake2b(f"{project}\0{batch_id}\0{index}\0".encode() + _ENCODE(event), digest_size=16)
    number = int.from_bytes(digest.digest(), "big")
    number = number & ~(0xF << 76 | 3 << 62) | 8 << 76 | 2 << 62  # version 8; uuid.UUID takes that from 3.14 on only
    return str(uuid.UUID(int=number))
