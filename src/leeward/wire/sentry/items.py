"""A whole envelope, or a legacy store body → events. Which item becomes what, and how large it may be.

    event          one exception or message, 1 MiB             session, attachment, replay, profile, …
    transaction    spans, 1 MiB                                and whatever else there will be: taken, counted by
    span           spans, 1 MiB each                           name and not kept
    log            log records, 1 MiB each
    trace_metric   metrics, 2 KiB each
    client_report  what the client itself has lost, by reason, 4 KiB

Promises  an item, or a record of one, that cannot be used is refused by itself, in its place. `shed` names types that
          are counted and not even decoded. The only errors raised are `ProtocolError`s for the whole envelope.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from leeward.errors import ProtocolError
from leeward.model import Dropped, Event
from leeward.wire.sentry.envelope import Envelope, Item
from leeward.wire.sentry.errors import error_event
from leeward.wire.sentry.fields import Request, clean_id
from leeward.wire.sentry.reading import ABSENT, RECORDS_MAX, Reader, is_given, split_list, too_many_records
from leeward.wire.sentry.records import log_event, metric_event
from leeward.wire.sentry.spans import span_event, transaction_events
from leeward.wire.text import repair

__all__ = ["EVENT_BYTES_MAX", "Mapped", "map_envelope", "map_store"]

EVENT_BYTES_MAX: Final = 1 << 20
METRIC_BYTES_MAX: Final = 2 << 10
REPORT_BYTES_MAX: Final = 4 << 10
REPORT_ENTRIES_MAX: Final = 100
QUANTITY_MAX: Final = 2**53

# Names under which thrown away items are counted; whatever is not among them is `unknown_item`.
KNOWN_UNUSED: Final = frozenset(
    {
        "attachment",
        "check_in",
        "feedback",
        "form_data",
        "metric",
        "metric_buckets",
        "metric_meta",
        "profile",
        "profile_chunk",
        "raw_security",
        "replay_event",
        "replay_recording",
        "replay_video",
        "security",
        "session",
        "sessions",
        "statsd",
        "unreal_report",
        "user_report",
        "user_report_v2",
    }
)
# What clients say of their losses, by the words of Sentry's SDKs; a word that is not among them is `other`.
REASONS: Final = frozenset(
    {
        "backpressure",
        "before_send",
        "buffer_overflow",
        "cache_overflow",
        "callback_error",
        "event_processor",
        "ignored",
        "internal_sdk_error",
        "invalid",
        "network_error",
        "no_parent_span",
        "queue_overflow",
        "ratelimit_backoff",
        "sample_rate",
        "send_error",
    }
)
CATEGORIES: Final = frozenset(
    {
        "attachment",
        "crash",
        "default",
        "error",
        "feedback",
        "internal",
        "log_byte",
        "log_item",
        "monitor",
        "profile",
        "profile_chunk",
        "replay",
        "security",
        "session",
        "span",
        "trace_metric",
        "trace_metric_byte",
        "transaction",
    }
)

_Map = Callable[[Request, bytes, int], Event | Dropped]
# type → how a record of its list is mapped, and how large one may be
_LISTS: Final[dict[str, tuple[_Map, int]]] = {
    "span": (span_event, EVENT_BYTES_MAX),
    "log": (log_event, EVENT_BYTES_MAX),
    "trace_metric": (metric_event, METRIC_BYTES_MAX),
}


class Mapped(msgspec.Struct):
    """What a request brought: events in their order, and counts of what does not become one."""

    event_id: str = ""  # as the sender named the event or transaction
    events: list[Event | Dropped] = []
    unused: Counter[str] = msgspec.field(default_factory=Counter)  # by type, thrown away on purpose
    shed: Counter[str] = msgspec.field(default_factory=Counter)  # by type, left out because the caller said so
    lost: Counter[tuple[str, str]] = msgspec.field(
        default_factory=Counter
    )  # by reason and category, as the client said
    repaired: bool = False  # whether broken text was replaced


class _List(msgspec.Struct):
    items: msgspec.Raw = ABSENT


class _Lost(msgspec.Struct):
    reason: str = ""
    category: str = ""
    quantity: Annotated[int, Meta(ge=0, le=QUANTITY_MAX)] = 0


class _Report(msgspec.Struct):
    discarded_events: list[msgspec.Raw] | None = None


class _Kind(msgspec.Struct):
    type: str | None = None
    event_id: str | None = None


_LIST: Final = Reader(_List)
_REPORT: Final = Reader(_Report)
_LOST: Final = Reader(_Lost)
_KIND: Final = Reader(_Kind)


def map_envelope(
    body: bytes, envelope: Envelope, *, project: int, received_at: int, shed: Collection[str] = ()
) -> Mapped:
    """Map the items of an envelope.

    Args:
        body: the unpacked body.
        envelope: what `envelope.split` made of it.
        project: the key's project.
        received_at: milliseconds since 1970.
        shed: types of items that are not taken now.

    Raises:
        ProtocolError: 413 `payload_too_large`: the items have too many records.
    """
    headers = envelope.headers
    event_id = clean_id(headers.event_id)
    request = Request(body, project=project, received_at=received_at, event_id=event_id, sent_at=headers.sent_at)
    mapped = Mapped(event_id)
    for item in envelope.items:
        if item.type in shed:
            mapped.shed[item.type] += 1
        elif item.type in _MAPPED:
            _map_item(request, body, item, mapped)
            if len(mapped.events) > RECORDS_MAX:
                raise too_many_records()
        else:
            mapped.unused[item.type if item.type in KNOWN_UNUSED else "unknown_item"] += 1
    return mapped


_MAPPED: Final = frozenset({"event", "transaction", "client_report", *_LISTS})


def _map_item(request: Request, body: bytes, item: Item, mapped: Mapped) -> None:
    bytes_max = _WHOLE_BYTES_MAX.get(item.type)
    if bytes_max is not None and item.size > bytes_max:
        mapped.events.append(_too_large(item.type, item.size, bytes_max))
        return
    payload, repaired = repair(body[item.start : item.end])
    payload = payload.strip(b" \t\r\n")
    mapped.repaired = mapped.repaired or repaired
    if item.type == "client_report":
        _count_lost(payload, mapped)
    elif item.type in _LISTS:
        _map_list(request, payload, item.type, mapped)
    else:
        _map_event(request, payload, item.type, mapped)


_WHOLE_BYTES_MAX: Final = {
    "event": EVENT_BYTES_MAX,
    "transaction": EVENT_BYTES_MAX,
    "client_report": REPORT_BYTES_MAX,
}


def _map_event(request: Request, payload: bytes, kind: str, mapped: Mapped) -> None:
    index = len(mapped.events)
    if kind == "transaction":
        mapped.events += transaction_events(request, payload, index)
    else:
        mapped.events.append(error_event(request, payload, index))


def _map_list(request: Request, payload: bytes, kind: str, mapped: Mapped) -> None:
    """A list of records in `items`; without it, the payload is one record."""
    events = mapped.events
    held = _LIST.read(payload)
    if isinstance(held, Dropped):
        events.append(held)
        return
    records = split_list(held.items) if is_given(held.items) else [msgspec.Raw(payload)]
    if isinstance(records, Dropped):
        events.append(records)
        return
    map_record, bytes_max = _LISTS[kind]
    for record in records:
        if len(record) > bytes_max:
            events.append(_too_large(kind, len(record), bytes_max))
        else:
            events.append(map_record(request, bytes(record), len(events)))


def _too_large(kind: str, size: int, bytes_max: int) -> Dropped:
    return Dropped("event_too_large", f"the {kind} has {size} bytes; at most {bytes_max} are taken")


def _count_lost(payload: bytes, mapped: Mapped) -> None:
    """What a client lost by itself. A report that cannot be read says nothing; it is no event."""
    mapped.unused["client_report"] += 1  # an item as others that become no event
    report = _REPORT.read_or_default(payload)
    for raw in (report.discarded_events or ())[:REPORT_ENTRIES_MAX]:
        entry = _LOST.read_or_default(bytes(raw))
        if entry.quantity:
            reason = entry.reason if entry.reason in REASONS else "other"
            category = entry.category if entry.category in CATEGORIES else "other"
            mapped.lost[reason, category] += entry.quantity


def map_store(body: bytes, *, project: int, received_at: int) -> Mapped:
    """Map the body of the legacy address: one event as JSON, or as base64 of deflated JSON.

    Raises:
        ProtocolError: 400 `invalid_json`, 413 `event_too_large`.
    """
    payload, repaired = repair(_json_of(body))
    payload = payload.strip(b" \t\r\n")
    if len(payload) > EVENT_BYTES_MAX:
        raise _store_too_large()
    kind = _KIND.read(payload)
    if isinstance(kind, Dropped):
        raise ProtocolError("The event cannot be read", code=kind.code, details=(kind.error,))
    mapped = Mapped(clean_id(kind.event_id), repaired=repaired)
    request = Request(body, project=project, received_at=received_at)
    _map_event(request, payload, "transaction" if kind.type == "transaction" else "event", mapped)
    return mapped


def _json_of(body: bytes) -> bytes:
    text = body.strip(b" \t\r\n")
    if text.startswith(b"{"):
        return body
    if len(text) > EVENT_BYTES_MAX * 4 // 3 + 4:
        raise _store_too_large()
    inflate = zlib.decompressobj(wbits=47)  # zlib's wrapping or gzip's
    try:
        unpacked = inflate.decompress(base64.b64decode(text, validate=True), EVENT_BYTES_MAX + 1)
    except (binascii.Error, zlib.error):
        raise ProtocolError(
            "The event cannot be read",
            code="invalid_json",
            details=("the body must be a JSON object, or base64 of a deflated one",),
        ) from None
    if len(unpacked) > EVENT_BYTES_MAX:
        raise _store_too_large()
    if not inflate.eof:
        raise ProtocolError("The event cannot be read", code="invalid_json", details=("its deflated bytes are cut",))
    return unpacked


def _store_too_large() -> ProtocolError:
    return ProtocolError(f"The event is larger than {EVENT_BYTES_MAX} bytes", code="event_too_large", status=413)
