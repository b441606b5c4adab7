"""PostHog's newer protocol, where every event gets its own answer: JSON → events, their fates → the answer.

What is typed here was a property before; it becomes one again, so that an event is the same over both protocols.

Limits    a body that breaks the protocol is refused whole, as it could not be answered by uuid; an event that only says
          something that cannot be is dropped alone. The headers that only PostHog's own server needs may be absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from leeward.errors import ProtocolError
from leeward.model import Dropped, Event
from leeward.wire.posthog.columns import FIELD_CHARS_MAX, Received, as_uuid, to_event
from leeward.wire.posthog.events import ABSENT, EVENTS_MAX, EventIn, items_of

__all__ = ["BatchIn", "decode", "results", "to_events"]

# What may succeed at another time; every other refusal is final.
_RETRIED: Final = frozenset({"shed", "unavailable"})
_DETAILS: Final = {"quota_exceeded": "billing_limit_exceeded", "unavailable": "not_persisted"}
_TRUE: Final = frozenset({b"true", b'"true"', b'"1"', b"1"})
_FALSE: Final = frozenset({b"false", b'"false"', b'"0"', b"0"})
_OPTIONS: Final = {
    "process_person_profile": "$process_person_profile",
    "cookieless_mode": "$cookieless_mode",
    "disable_skew_correction": "$ignore_sent_at",
    "product_tour_id": "$product_tour_id",
}


class V1Event(msgspec.Struct, gc=False):
    """One event as it came."""

    event: str
    uuid: str
    distinct_id: str
    timestamp: str
    properties: msgspec.Raw = ABSENT
    session_id: str | None = None
    window_id: str | None = None
    options: dict[str, msgspec.Raw] | None = None


class BatchIn(msgspec.Struct):
    """One request. Each uuid stands in it once."""

    events: list[V1Event]
    historical: bool


class _Envelope(msgspec.Struct):
    batch: msgspec.Raw
    historical_migration: bool | None = None


_DECODE_ENVELOPE = msgspec.json.Decoder(_Envelope).decode
_DECODE_EVENTS = msgspec.json.Decoder(list[V1Event]).decode
_DECODE_EVENT = msgspec.json.Decoder(V1Event).decode
_DECODE_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ENCODE = msgspec.json.Encoder().encode


def decode(text: bytes) -> BatchIn:
    """The events of a request.

    Args:
        text: JSON in valid UTF-8, as `wire.text.repair` returns it.

    Raises:
        ProtocolError: 400 `invalid_json`, `invalid_event`, `empty_batch`, `invalid_uuid` or `duplicate_event_uuid`,
            413 `payload_too_large`.
    """
    try:
        envelope = _DECODE_ENVELOPE(text)
        array = bytes(envelope.batch)
        if array[:1] != b"[":
            raise ProtocolError("batch must be an array of events", code="invalid_event")
        if array.count(b"{") <= EVENTS_MAX:  # so there cannot be more events
            events = _DECODE_EVENTS(array)
        else:
            events = [_DECODE_EVENT(item) for item in items_of(array)]
    except RecursionError:
        raise ProtocolError("An event is nested too deeply", code="too_deep") from None
    except msgspec.ValidationError as error:
        raise ProtocolError(f"The batch is not as it must be: {error}", code="invalid_event") from None
    except msgspec.DecodeError as error:
        raise ProtocolError("Invalid JSON", code="invalid_json", details=(str(error),)) from None
    _check_ids(events)
    return BatchIn(events, envelope.historical_migration is True)


def _check_ids(events: Sequence[V1Event]) -> None:
    if not events:
        raise ProtocolError("The request has no events: its batch is empty", code="empty_batch")
    seen: set[str] = set()
    for index, event in enumerate(events):
        uuid = as_uuid(event.uuid)
        if not uuid:
            raise ProtocolError(f"event {index}: its uuid is none", code="invalid_uuid")
        if uuid in seen:
            raise ProtocolError(f"event {index}: its uuid stands twice in the batch", code="duplicate_event_uuid")
        seen.add(uuid)


def to_events(batch: BatchIn, received: Received, *, sdk_info: str) -> list[Event | Dropped]:
    """Map a request's events, in their order.

    Args:
        batch: as decoded.
        received: with the time of the request by the sender's clock.
        sdk_info: name and version of the SDK, `posthog-python/7.91.1`.
    """
    library, _, version = sdk_info[:FIELD_CHARS_MAX].partition("/")
    about_sdk = {name: _ENCODE(said) for name, said in (("$lib", library), ("$lib_version", version)) if said}
    try:
        return [_to_event(event, received, about_sdk) for event in batch.events]
    except RecursionError:
        raise ProtocolError("An event is nested too deeply", code="too_deep") from None


def _to_event(event: V1Event, received: Received, about_sdk: dict[str, bytes]) -> Event | Dropped:
    for name in ("event", "distinct_id"):
        if len(getattr(event, name)) > FIELD_CHARS_MAX:
            return Dropped("invalid_field", f"{name} has more than {FIELD_CHARS_MAX} characters")
    added = dict(about_sdk)
    for name, text in (("$session_id", event.session_id), ("$window_id", event.window_id)):
        if text is not None:
            added[name] = _ENCODE(text)
    for option, raw in (event.options or {}).items():
        if option in _OPTIONS and (value := _option(bytes(raw))):
            added[_OPTIONS[option]] = value
    sent = EventIn(
        event=event.event,
        distinct_id=event.distinct_id,
        uuid=event.uuid,
        timestamp=event.timestamp,
        properties=msgspec.Raw(_with_members(bytes(event.properties), added)),
    )
    return to_event(sent, received)


def _option(raw: bytes) -> bytes:
    if raw in _TRUE:
        return b"true"
    if raw in _FALSE:
        return b"false"
    return raw if raw[:1] == b'"' else b""


def _with_members(properties: bytes, added: dict[str, bytes]) -> bytes:
    """The properties with more members, which win over those of the same name."""
    if not added or (properties not in {b"", b"null"} and properties[:1] != b"{"):
        return properties
    names = [_ENCODE(name) for name in added]
    if any(name in properties for name in names):
        return _ENCODE({**_DECODE_FIELDS(properties), **{name: msgspec.Raw(raw) for name, raw in added.items()}})
    inside = properties[1:-1].strip(b" \t\r\n") if properties[:1] == b"{" else b""
    members = b",".join(name + b":" + raw for name, raw in zip(names, added.values(), strict=True))
    return b"{" + inside + (b"," if inside else b"") + members + b"}"


def results(events: Iterable[V1Event], refusals: Iterable[tuple[int, str, str]]) -> tuple[dict[str, Any], bool]:
    """The answer's body: what became of each event, by its uuid as sent; and whether any should come again.

    Args:
        events: of the request.
        refusals: index, code and sentence of those that were not taken.
    """
    refused = {index: code for index, code, _ in refusals}
    told = {event.uuid: _result(refused.get(index, "")) for index, event in enumerate(events)}
    return {"results": told}, any(one["result"] == "retry" for one in told.values())


def _result(code: str) -> dict[str, str]:
    if not code:
        return {"result": "ok"}
    return {"result": "retry" if code in _RETRIED else "drop", "details": _DETAILS.get(code, code)}
