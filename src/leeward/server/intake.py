"""Decoded events of any wire → events that passed every stage, and their rows.

Pure: no clock, no door, no log; any thread may run it.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Sequence
from typing import Final

import msgspec

from leeward.errors import ProtocolError
from leeward.model import Dropped, Event
from leeward.scrub.bounds import AI_STRING_BYTES_MAX, STRING_BYTES_MAX, bound
from leeward.server.record import row
from leeward.server.stages import REPLACED, Seen, bounded, settled
from leeward.wire import native, native_encode
from leeward.wire.text import has_replacement, repair

__all__ = ["Prepared", "prepare", "prepare_body", "prepare_events"]

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


def prepare_body(body: bytes, *, project: int, received_at: int, batch_id: str = "", scrub: bool = True) -> Prepared:
    """Decode a native body (one event, or an array of them) and prepare its events.

    Raises:
        ProtocolError: the body as a whole is refused.
    """
    text, repaired = repair(body)
    events = native.decode_events(text)
    return prepare(events, project=project, received_at=received_at, batch_id=batch_id, repaired=repaired, scrub=scrub)


def prepare_events(items: Sequence[Event | Dropped], *, repaired: bool, scrub: bool = True) -> Prepared:
    """Take events that a wire's decoder has mapped through all stages. One without an id is given one here.

    Args:
        items: in the sender's order.
        repaired: whether broken text was replaced anywhere in the request.
        scrub: whether secrets are taken out.
    """
    prepared: list[Event | Dropped] = []
    rows: list[bytes] = []
    made_here: list[bool] = []
    seen: Seen = {}
    for item in items:
        done = item
        fresh = False
        if isinstance(done, Event):
            if not done.id:
                fresh = True
                made = native_encode.uuid7(done.received_at, os.urandom(_RANDOM_BYTES))
                done = msgspec.structs.replace(done, id=made)
            within = bounded(done, repaired=repaired)
            done = within if isinstance(within, Dropped) else settled(*within, scrub=scrub, seen=seen)
        prepared.append(done)
        rows.append(row(done) if isinstance(done, Event) else b"")
        made_here.append(fresh)
    return Prepared(prepared, rows, made_here)


def prepare(
    events: Sequence[native.NativeEvent | Dropped],
    *,
    project: int,
    received_at: int,
    batch_id: str,
    repaired: bool,
    scrub: bool = True,
) -> Prepared:
    """Give every event its id, its bounds and its row.

    Args:
        events: as `wire.native` decoded them.
        project: the key's project.
        received_at: milliseconds since 1970.
        batch_id: the sender's, or "". With it, an event without an id gets one that a replay gets again.
        repaired: whether broken text was replaced anywhere in the request.
        scrub: whether secrets are taken out.
    """
    prepared: list[Event | Dropped] = []
    rows: list[bytes] = []
    made_here: list[bool] = []
    seen: Seen = {}
    for index, event in enumerate(events):
        fresh = False
        done: Event | Dropped
        if isinstance(event, Dropped):
            done = event
        else:
            event_id = event.id
            if not event_id:
                fresh = not batch_id
                event_id = (
                    _derived_id(project, batch_id, index, event)
                    if batch_id
                    else native_encode.uuid7(received_at, os.urandom(_RANDOM_BYTES))
                )
            mapped = _mapped(event, project, received_at, event_id, batch_id, repaired)
            done = mapped if isinstance(mapped, Dropped) else settled(*mapped, scrub=scrub, seen=seen)
        prepared.append(done)
        rows.append(b"" if isinstance(done, Dropped) else row(done))
        made_here.append(fresh)
    return Prepared(prepared, rows, made_here)


def _mapped(
    event: native.NativeEvent, project: int, received_at: int, event_id: str, batch_id: str, repaired: bool
) -> tuple[Event, list[str]] | Dropped:
    """The event within bounds, and what was changed for that."""
    data = bytes(event.data)
    if data in {b"", b"null"}:
        data = b"{}"
    # Bounds come before the mapping here: it looks into the payload for what has a column.
    of_a_model = event.model or (len(data) > STRING_BYTES_MAX and b'"model"' in data)
    within = bound(data, AI_STRING_BYTES_MAX if of_a_model else STRING_BYTES_MAX)
    if isinstance(within, Dropped):
        return within
    data, changes = within
    attributes = b""
    if event.attributes or isinstance(event, native.UnfoldedEvent):
        try:
            attributes = native.attributes(event)
        except ProtocolError as error:
            return Dropped(error.code, error.message)
        within = bound(attributes)
        if isinstance(within, Dropped):
            return within
        attributes, more = within
        changes = [*changes, *more]
        if isinstance(event, native.UnfoldedEvent) and event.error_rest:
            within = bound(_ENCODE(event.error_rest))
            if isinstance(within, Dropped):
                return within
            rest, more = within
            event.error_rest = _DECODE_FIELDS(rest)
            changes = [*changes, *more]
    if repaired and has_replacement(data):
        changes = [*changes, REPLACED]
    mapped = native.to_event(
        event,
        project=project,
        received_at=received_at,
        event_id=event_id,
        data=data,
        attributes=attributes,
        batch_id=batch_id,
    )
    return mapped if isinstance(mapped, Dropped) else (mapped, changes)


def _derived_id(project: int, batch_id: str, index: int, event: native.NativeEvent) -> str:
    """The id of an event that came without one in a batch that has one: the same at every replay."""
    digest = hashlib.blake2b(f"{project}\0{batch_id}\0{index}\0".encode() + _ENCODE(event), digest_size=16)
    number = int.from_bytes(digest.digest(), "big")
    number = number & ~(0xF << 76 | 3 << 62) | 8 << 76 | 2 << 62  # version 8; uuid.UUID takes that from 3.14 on only
    return str(uuid.UUID(int=number))
