"""JSON → one request's events, as they were sent: an array, a batch or a single event, and the key that they bring.

Promises  a value of an odd type spoils nothing: fields that are texts here are what `text_of` makes of any value.
          Only ProtocolError is raised, also for what is nested deeper than a decoder goes.
Limits    `EVENTS_MAX` events, counted before they are built.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from leeward.errors import ProtocolError
from leeward.wire.posthog.times import milliseconds
from leeward.wire.text import has_too_many_members

__all__ = ["ABSENT", "EVENTS_MAX", "Batch", "EventIn", "decode", "items_of", "text_of"]

EVENTS_MAX: Final = 10_000
TOKEN_CHARS_MAX: Final = 64
ABSENT: Final = msgspec.Raw(b"")
_QUOTE: Final = 0x22


class EventIn(
    msgspec.Struct,
    gc=False,
    forbid_unknown_fields=True,
    rename={
        "dollar_distinct_id": "$distinct_id",
        "dollar_token": "$token",
        "set": "$set",
        "set_once": "$set_once",
        "unset": "$unset",
        "groups": "$groups",
        "message_id": "messageId",
    },
):
    """One event; absent fields are empty. The last four are an older protocol's and say nothing more."""

    event: str | None = None
    distinct_id: str | None = None
    dollar_distinct_id: str | None = None
    uuid: str | None = None
    timestamp: str | None = None
    offset: msgspec.Raw = ABSENT
    properties: msgspec.Raw = ABSENT
    set: msgspec.Raw = ABSENT
    set_once: msgspec.Raw = ABSENT
    unset: msgspec.Raw = ABSENT
    groups: msgspec.Raw = ABSENT
    token: msgspec.Raw = ABSENT
    dollar_token: msgspec.Raw = ABSENT
    api_key: msgspec.Raw = ABSENT
    type: msgspec.Raw = ABSENT
    library: msgspec.Raw = ABSENT
    library_version: msgspec.Raw = ABSENT
    message_id: msgspec.Raw = ABSENT


class UnfoldedEvent(EventIn):
    """An event with fields that are not known here: they are kept."""

    rest: dict[str, msgspec.Raw] = {}


class Batch(msgspec.Struct):
    """One request. `token` is the key that it brings, already looked at; `sent_at` is in milliseconds."""

    events: list[EventIn]
    token: str
    sent_at: int | None = None
    historical: bool = False


class _Envelope(msgspec.Struct, gc=False):
    """What is around a batch. Without `batch` the object is an event itself."""

    batch: msgspec.Raw = ABSENT
    api_key: msgspec.Raw = ABSENT
    token: msgspec.Raw = ABSENT
    sent_at: msgspec.Raw = ABSENT
    historical_migration: msgspec.Raw = ABSENT


class _Keys(msgspec.Struct, gc=False):
    """Where a browser SDK puts the key of a single event: among its properties."""

    token: msgspec.Raw = ABSENT


_DECODE_ENVELOPE = msgspec.json.Decoder(_Envelope).decode
_DECODE_EVENTS = msgspec.json.Decoder(list[EventIn]).decode
_DECODE_EVENT = msgspec.json.Decoder(EventIn).decode
_DECODE_KEYS = msgspec.json.Decoder(_Keys).decode
_DECODE_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_DECODE_TEXT = msgspec.json.Decoder(str).decode
_FIELD_OF: Final = {field.encode_name: field.name for field in msgspec.structs.fields(EventIn)}
_TEXTS: Final = frozenset({"event", "distinct_id", "$distinct_id", "uuid", "timestamp"})


def decode(text: bytes, *, sent_at: int | None = None) -> Batch:
    """The events of a request.

    Args:
        text: JSON in valid UTF-8, as `wire.text.repair` returns it.
        sent_at: what the query string says; a batch's own word wins.

    Raises:
        ProtocolError: 400 `invalid_json`, `empty_batch` or `invalid_event`, 413 `payload_too_large`, 401 `unauthorized`.
    """
    text = text.strip(b" \t\r\n")
    try:
        if text[:1] == b"[":
            events = _events(text)
            return Batch(events, _token_of(events), sent_at)
        envelope = _DECODE_ENVELOPE(text)
        if envelope.batch is ABSENT:
            events = [_event(text, 0)]
            return Batch(events, _token_of(events), sent_at)
        if bytes(envelope.batch)[:1] != b"[":
            raise ProtocolError("batch must be an array of events", code="invalid_event")
        events = _events(bytes(envelope.batch))
        token = text_of(envelope.api_key) or text_of(envelope.token)
        said = text_of(envelope.sent_at)
        own_sent_at = milliseconds(said) if said else None
        return Batch(
            events,
            checked(token) if token else _token_of(events),
            sent_at if own_sent_at is None else own_sent_at,
            bytes(envelope.historical_migration) == b"true",
        )
    except RecursionError:
        raise ProtocolError("An event is nested too deeply", code="too_deep") from None
    except msgspec.DecodeError as error:
        raise ProtocolError("Invalid JSON", code="invalid_json", details=(str(error),)) from None


def text_of(raw: msgspec.Raw) -> str:
    """A value as text: nothing for null or no value, a text as it is, anything else as it is spelled in JSON."""
    value = bytes(raw)
    if not value or value == b"null":
        return ""
    return _DECODE_TEXT(value) if value[0] == _QUOTE else value.decode()


def checked(token: str) -> str:
    """A key that may be one.

    Raises:
        ProtocolError: 401.
    """
    if token.startswith("phx_"):
        raise _unauthorized("This is a personal API key (phx_…), which must not be in an app; use a write key here")
    if not token or len(token) > TOKEN_CHARS_MAX or not token.isascii() or "\0" in token:
        raise _unauthorized("The API key is not valid; make one with: leeward keys create --scope write")
    return token


def items_of(array: bytes) -> list[bytes]:
    """The texts of an array's items, of which there are not too many.

    Raises:
        ProtocolError: 413.
    """
    try:
        return [bytes(raw) for raw in msgspec.structs.astuple(_decode_items()(array)) if raw]
    except msgspec.ValidationError:
        raise ProtocolError(
            f"Too many events: at most {EVENTS_MAX} in a request", code="payload_too_large", status=413
        ) from None


@functools.cache
def _decode_items() -> Any:
    # An array as a Struct: unlike a list's limit, it stops at the item that is one too many.
    items = msgspec.defstruct(
        "_Items",
        [(f"item_{index}", msgspec.Raw, ABSENT) for index in range(EVENTS_MAX)],
        array_like=True,
        forbid_unknown_fields=True,
    )
    return msgspec.json.Decoder(items).decode


def _events(array: bytes) -> list[EventIn]:
    events = None
    if array.count(b"{") <= EVENTS_MAX:  # so there cannot be more events
        try:
            events = _DECODE_EVENTS(array)
        except msgspec.ValidationError:
            pass  # one has a field that is not known here, or of another type, or is no object: look at each
    if events is None:
        events = [_event(item, index) for index, item in enumerate(items_of(array))]
    if not events:
        raise ProtocolError("The request has no events: its batch is empty", code="empty_batch")
    return events


def _event(text: bytes, index: int) -> EventIn:
    if text[:1] != b"{":
        raise ProtocolError(f"event {index}: must be an object", code="invalid_event")
    try:
        return _DECODE_EVENT(text)
    except msgspec.ValidationError:
        if has_too_many_members(text):
            raise ProtocolError(f"event {index}: has too many keys", code="too_many_keys", status=413) from None
        known: dict[str, Any] = {}
        rest: dict[str, msgspec.Raw] = {}
        for name, raw in _DECODE_FIELDS(text).items():
            if name in _FIELD_OF:
                known[_FIELD_OF[name]] = text_of(raw) if name in _TEXTS else raw
            else:
                rest[name] = raw
        return UnfoldedEvent(**known, rest=rest)


def _token_of(events: list[EventIn]) -> str:
    """The key that the events themselves bring: all the same."""
    tokens = {_token(event) for event in events} - {""}
    if len(tokens) > 1:
        raise _unauthorized("The events of one request have different API keys")
    if not tokens:
        raise _unauthorized("The request has no API key: give it as api_key")
    return checked(tokens.pop())


def _token(event: EventIn) -> str:
    token = text_of(event.token) or text_of(event.dollar_token) or text_of(event.api_key)
    if token or bytes(event.properties)[:1] != b"{":
        return token
    return text_of(_DECODE_KEYS(event.properties).token)


def _unauthorized(sentence: str) -> ProtocolError:
    return ProtocolError(sentence, code="unauthorized", status=401)
