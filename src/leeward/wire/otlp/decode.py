"""An export request, in protobuf or JSON → events. The one entry for whoever has such a body.

Raises    `ProtocolError`: 400 for bytes that are no such request, 413 `payload_too_large` for more than 10,000 items.
Promises  nothing else is raised, whatever the bytes; an item that cannot be taken is `Dropped`, in its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from leeward.errors import ProtocolError
from leeward.model import Dropped, Event
from leeward.wire.otlp.json_requests import NOT_OTLP, JsonExport
from leeward.wire.otlp.log_events import map_log_record
from leeward.wire.otlp.mapping import Request
from leeward.wire.otlp.metric_events import map_point
from leeward.wire.otlp.protobuf_requests import ProtobufExport
from leeward.wire.otlp.records import ITEMS_MAX, too_many_items
from leeward.wire.otlp.span_events import map_span

__all__ = ["Decoded", "body_digest", "logs", "metrics", "traces"]


class Decoded(msgspec.Struct, frozen=True):
    """What was in a request, in its order.

    `count` is how many spans, records or points it had; a span's exceptions are items of their own, right after it.
    `repaired` tells whether broken text was replaced anywhere.
    """

    items: list[Event | Dropped]
    count: int
    repaired: bool


def body_digest(body: bytes) -> bytes:
    """What a request is known by: SHA-256 of its body without its content encoding."""
    return hashlib.sha256(body).digest()


def traces(body: bytes, *, is_json: bool, project: int, received_at: int, digest: bytes = b"") -> Decoded:
    """Spans, and what they recorded as exceptions.

    Args:
        body: without its content encoding.
        is_json: whether it is JSON; else protobuf.
        project: the key's project.
        received_at: milliseconds since 1970.
        digest: the body's, if it is known already.
    """
    request = Request(project, received_at, digest or body_digest(body))
    items: list[Event | Dropped] = []
    count = 0
    export = JsonExport(body) if is_json else ProtobufExport(body)
    for found in export.spans():
        count += 1
        if isinstance(found, Dropped):
            items.append(found)
            continue
        items += map_span(found[1], found[0], request)
        if len(items) > 2 * ITEMS_MAX:
            raise too_many_items("exceptions")
    _check_any(items)
    return Decoded(items, count, export.repaired)


def logs(body: bytes, *, is_json: bool, project: int, received_at: int, digest: bytes = b"") -> Decoded:
    """Log records. See `traces`."""
    request = Request(project, received_at, digest or body_digest(body))
    export = JsonExport(body) if is_json else ProtobufExport(body)
    items = [
        found if isinstance(found, Dropped) else map_log_record(found[1], found[0], index, request)
        for index, found in enumerate(export.log_records())
    ]
    _check_any(items)
    return Decoded(items, len(items), export.repaired)


def metrics(body: bytes, *, is_json: bool, project: int, received_at: int, digest: bytes = b"") -> Decoded:
    """Data points. See `traces`."""
    request = Request(project, received_at, digest or body_digest(body))
    export = JsonExport(body) if is_json else ProtobufExport(body)
    items = [
        found if isinstance(found, Dropped) else map_point(found[1], found[0], index, request)
        for index, found in enumerate(export.points())
    ]
    _check_any(items)
    return Decoded(items, len(items), export.repaired)


def _check_any(items: Sequence[Event | Dropped]) -> None:
    """Refuse a request of which nothing is what the protocol says: its sender is told so, and not that a part is taken.

    Raises:
        ProtocolError: 400 `not_otlp`.
    """
    if items and all(isinstance(item, Dropped) and item.code == NOT_OTLP for item in items):
        first = items[0]
        assert isinstance(first, Dropped)
        raise ProtocolError(first.error, code=NOT_OTLP)
