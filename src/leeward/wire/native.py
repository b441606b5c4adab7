"""The native wire: bytes → values. No I/O, no clock, no limits beyond the form of a single event.

Decoding is cheap first: a whole body as typed Structs, which is what nearly every request needs. Only when that
fails is it done event by event, so that each gets its own verdict and unknown fields are kept.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from leeward.errors import ProtocolError
from leeward.model import KINDS, Dropped, Event
from leeward.wire.text import split_array

__all__ = [
    "EVENTS_MAX",
    "EVENT_BYTES_MAX",
    "BatchIn",
    "NativeEvent",
    "attributes",
    "decode_batch",
    "decode_events",
    "to_event",
]

EVENTS_MAX: Final = 1000
EVENT_BYTES_MAX: Final = 1 << 20
ID_CHARS_MAX: Final = 128
FIELD_CHARS_MAX: Final = 200
ERROR_TEXT_CHARS_MAX: Final = 64 * 1024
_INT64_MAX: Final = 2**63 - 1

_Name = Annotated[str, Meta(max_length=FIELD_CHARS_MAX)]
_Id = Annotated[str, Meta(max_length=ID_CHARS_MAX)]
_Count = Annotated[int, Meta(ge=0, le=_INT64_MAX)]
_Status = int | str | float
_ABSENT: Final = msgspec.Raw(b"")


class ErrorIn(msgspec.Struct, forbid_unknown_fields=True):
    """The `error` object of a native event."""

    type: str | None = None
    message: str | None = None
    stack: str | None = None
    category: str | None = None
    provider: str | None = None
    status: _Status | None = None
    fingerprint: _Name | None = None


class NativeEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One native event as it came. `event` is an older spelling of `event_type`."""

    event_type: _Name | None = None
    event: _Name | None = None
    id: _Id | None = None
    timestamp: int | float | str | None = None
    data: msgspec.Raw = _ABSENT
    distinct_id: _Name | None = None
    session_id: _Name | None = None
    device_id: _Name | None = None
    correlation_id: _Name | None = None
    trace_id: _Name | None = None
    span_id: _Name | None = None
    parent_span_id: _Name | None = None
    level: str | None = None
    kind: str | None = None
    status: _Status | None = None
    service: _Name | None = None
    provider: _Name | None = None
    model: _Name | None = None
    duration_ms: float | None = None
    value: float | None = None
    unit: _Name | None = None
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    error: ErrorIn | None = None
    attributes: msgspec.Raw = _ABSENT


class UnfoldedEvent(NativeEvent):
    """A native event with fields that have no column: those of the event and those of its `error`."""

    rest: dict[str, msgspec.Raw] = {}
    error_rest: dict[str, msgspec.Raw] = {}


class Promoted(msgspec.Struct, gc=False):
    """The fields that `data` may lend to columns."""

    provider: _Name | None = None
    model: _Name | None = None
    latency_ms: float | None = None
    duration_ms: float | None = None
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    status: _Status | None = None
    value: float | None = None
    unit: _Name | None = None


class BatchIn(msgspec.Struct):
    """The envelope of `POST /api/telemetry/batch`; events and client stay bytes for `decode_events`, `decode_client`."""

    events: msgspec.Raw = _ABSENT
    batch_id: str | None = None
    client: msgspec.Raw = _ABSENT


_DECODE_EVENTS = msgspec.json.Decoder(list[NativeEvent]).decode
_DECODE_EVENT = msgspec.json.Decoder(NativeEvent).decode
# An array of at most EVENTS_MAX items as a Struct: unlike a list's limit, it stops at the item that is one too many.
_Raws = msgspec.defstruct(
    "_Raws",
    [(f"item_{index}", msgspec.Raw, _ABSENT) for index in range(EVENTS_MAX)],
    array_like=True,
    forbid_unknown_fields=True,
)
_DECODE_RAWS = msgspec.json.Decoder(_Raws).decode
_DECODE_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_DECODE_PROMOTED = msgspec.json.Decoder(Promoted).decode
_DECODE_BATCH = msgspec.json.Decoder(BatchIn).decode
_ENCODE = msgspec.json.Encoder().encode

_FieldDecoders = dict[str, msgspec.json.Decoder[Any]]


def _field_decoders(struct: type[msgspec.Struct]) -> _FieldDecoders:
    return {field.name: msgspec.json.Decoder(field.type) for field in msgspec.structs.fields(struct)}


_EVENT_FIELDS: Final = _field_decoders(NativeEvent)
_ERROR_FIELDS: Final = _field_decoders(ErrorIn)
_PROMOTED_FIELDS: Final = _field_decoders(Promoted)

_LEVELS: Final = {
    **dict.fromkeys(("DEBUG", "TRACE"), "DEBUG"),
    **dict.fromkeys(("INFO", "INFORMATION", "NOTICE", "LOG"), "INFO"),
    **dict.fromkeys(("WARN", "WARNING"), "WARN"),
    "ERROR": "ERROR",
    **dict.fromkeys(("FATAL", "CRITICAL", "ALERT", "EMERGENCY"), "FATAL"),
}
_CATEGORIES: Final = ("network", "authentication", "provider", "mcp", "channel", "other")


class _InvalidField(Exception):
    """A field of the event at hand is not what the wire asks for."""


def decode_batch(text: bytes) -> BatchIn:
    """Decode the envelope of a batch.

    Raises:
        ProtocolError: 400 `invalid_json`, or `invalid_field` when the envelope's own fields are wrong.
    """
    try:
        return _DECODE_BATCH(text)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"Invalid batch: {error}", code="invalid_field") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid_json(error) from None


def decode_events(text: bytes) -> list[NativeEvent | Dropped]:
    """Decode one event or an array of events, each with its own verdict.

    Args:
        text: valid UTF-8, as `wire.text.repair` returns it.

    Raises:
        ProtocolError: 400 `invalid_json`, `empty_batch` or `batch_too_large`.
    """
    stripped = text.lstrip(b" \t\r\n")
    if stripped[:1] != b"[":
        return [_decode_single(text)]
    if len(text) <= EVENT_BYTES_MAX:
        try:
            events = _DECODE_EVENTS(text)
        except (msgspec.DecodeError, RecursionError):
            pass  # one of them is odd, or all are no JSON: look at each
        else:
            _check_count(len(events))
            return events  # type: ignore[return-value]  # list is invariant; nobody writes into it
    raws: list[bytes] | None
    try:
        raws = [bytes(raw) for raw in msgspec.structs.astuple(_DECODE_RAWS(text)) if raw]
    except RecursionError as error:
        raws = split_array(text)
        if raws is None:
            raise _invalid_json(error) from None
    except msgspec.ValidationError:
        raise _too_many() from None
    except msgspec.DecodeError as error:
        raise _invalid_json(error) from None
    _check_count(len(raws))
    return [_decode_one(raw) for raw in raws]


def _check_count(count: int) -> None:
    if count == 0:
        raise ProtocolError("No events", code="empty_batch")
    if count > EVENTS_MAX:
        raise _too_many()


def _too_many() -> ProtocolError:
    return ProtocolError(f"Batch too large: at most {EVENTS_MAX} events", code="batch_too_large")


def _invalid_json(cause: Exception) -> ProtocolError:
    detail = "nested too deeply" if isinstance(cause, RecursionError) else str(cause)
    return ProtocolError("Invalid JSON", code="invalid_json", details=(detail,))


def _decode_single(text: bytes) -> NativeEvent | Dropped:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except RecursionError:
        return _too_deep()
    except msgspec.DecodeError as error:
        raise _invalid_json(error) from None
    return _decode_one(text.strip(b" \t\r\n"))


def _too_deep() -> Dropped:
    return Dropped("too_deep", "the event is nested too deeply")


def _decode_one(raw: bytes) -> NativeEvent | Dropped:
    if len(raw) > EVENT_BYTES_MAX:
        return Dropped("event_too_large", f"the event has {len(raw)} bytes; at most {EVENT_BYTES_MAX} are taken")
    if raw[:1] != b"{":
        return Dropped("invalid_event", "event must be an object")
    try:
        try:
            return _DECODE_EVENT(raw)
        except msgspec.ValidationError:
            return _unfold(_DECODE_FIELDS(raw))  # an unknown field is kept, a wrong one is named
    except _InvalidField as error:
        return Dropped("invalid_field", str(error))
    except RecursionError:
        return _too_deep()
    except msgspec.DecodeError as error:
        return Dropped("invalid_event", f"the event is not valid JSON: {error}")


def _unfold(fields: dict[str, msgspec.Raw]) -> UnfoldedEvent:
    error_raw = bytes(fields.pop("error", b"null"))
    known, rest = _take(_EVENT_FIELDS, fields, "")
    event = UnfoldedEvent(**known, rest=rest)
    if error_raw != b"null":
        try:
            error_fields = _DECODE_FIELDS(error_raw)
        except msgspec.ValidationError:
            raise _InvalidField("error: must be an object") from None
        known, event.error_rest = _take(_ERROR_FIELDS, error_fields, "error.")
        event.error = ErrorIn(**known)
    return event


def _take(
    decoders: _FieldDecoders, fields: dict[str, msgspec.Raw], prefix: str
) -> tuple[dict[str, Any], dict[str, msgspec.Raw]]:
    known: dict[str, Any] = {}
    rest: dict[str, msgspec.Raw] = {}
    for name, raw in fields.items():
        decoder = decoders.get(name)
        if decoder is None:
            rest[name] = raw
            continue
        try:
            known[name] = decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise _InvalidField(f"{prefix}{name}: {str(error).lower()}") from None
    return known, rest


def attributes(event: NativeEvent) -> bytes:
    """The JSON text of everything that has no column of its own, or `b""`.

    Raises:
        ProtocolError: `invalid_field` when `attributes` is not an object.
    """
    sent = bytes(event.attributes)
    rest = event.rest if isinstance(event, UnfoldedEvent) else None
    if not rest and sent in {b"", b"null", b"{}"}:
        return b""
    try:
        merged = _DECODE_FIELDS(sent) if sent not in {b"", b"null"} else {}
    except msgspec.ValidationError:
        raise ProtocolError("attributes: must be an object", code="invalid_field") from None
    return _ENCODE({**merged, **(rest or {})})


def to_event(
    native: NativeEvent, *, project: int, received_at: int, event_id: str, data: bytes, attributes: bytes, batch_id: str
) -> Event | Dropped:
    """Map a native event to the wide `Event`.

    Args:
        native: as decoded.
        project: the key's project.
        received_at: milliseconds since 1970, from the server's clock.
        event_id: the sender's id or the one made for it.
        data: the payload, already within bounds.
        attributes: what has no column, already within bounds; `b""` for none.
        batch_id: the sender's batch, or "".
    """
    name = native.event_type or native.event
    if not name:
        return Dropped("missing_event_type", "event_type is required")
    if data[:1] != b"{":
        return Dropped("invalid_field", "data: must be an object")
    try:
        level = _level(native.level) if native.level else ""
        kind = _kind(native)
        timestamp = received_at if native.timestamp is None else _time_ms(native.timestamp)
    except _InvalidField as error:
        return Dropped("invalid_field", str(error))
    lent = _NO_LOAN if data == b"{}" else _promoted(data)
    status = native.status if native.status is not None else lent.status
    duration_ms = native.duration_ms
    if duration_ms is None:
        duration_ms = lent.duration_ms if lent.duration_ms is not None else lent.latency_ms
    # By position, in the order of model.Event: by keyword this one call would cost as much as all the rest.
    event = Event(
        project,
        kind,
        event_id,
        name,
        received_at,
        timestamp,
        data.decode(),
        level,
        "" if status is None else str(status)[:FIELD_CHARS_MAX],
        native.distinct_id or "",
        native.session_id or "",
        native.device_id or "",
        native.correlation_id or "",
        native.trace_id or "",
        native.span_id or "",
        native.parent_span_id or "",
        native.service or "",
        native.provider or lent.provider or "",
        native.model or lent.model or "",
        duration_ms,
        native.value if native.value is not None else lent.value,
        native.unit or lent.unit or "",
        native.input_tokens if native.input_tokens is not None else lent.input_tokens,
        native.output_tokens if native.output_tokens is not None else lent.output_tokens,
        "",  # the error's columns: see below
        "",
        "",
        "",
        "",
        "",
        batch_id,
        attributes.decode(),
    )
    if native.error is None:
        return event
    return msgspec.structs.replace(event, **_error_columns(native.error, native))


_NO_LOAN: Final = Promoted()


def _promoted(data: bytes) -> Promoted:
    try:
        lent = _DECODE_PROMOTED(data)
    except msgspec.ValidationError:
        lent = Promoted()  # a field is of another type than the column: it stays in the data, the others are lent
        for name, raw in _DECODE_FIELDS(data).items():
            if name in _PROMOTED_FIELDS:
                try:
                    setattr(lent, name, _PROMOTED_FIELDS[name].decode(raw))
                except msgspec.ValidationError:
                    continue
    return lent


def _level(level: str) -> str:
    known = _LEVELS.get(level.upper())
    if known is None:
        raise _InvalidField("level: must be DEBUG, INFO, WARN, ERROR or FATAL")
    return known


def _kind(native: NativeEvent) -> str:
    if native.kind is None:
        return "exception" if native.error is not None else "event"
    if native.kind not in KINDS:
        raise _InvalidField(f"kind: must be one of {', '.join(KINDS)}")
    return native.kind


def _time_ms(value: float | str) -> int:
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value)
        except ValueError:
            raise _InvalidField("timestamp: must be milliseconds since 1970 or an RFC 3339 time") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return (moment - _EPOCH) // _MILLISECOND
    if not -_INT64_MAX <= value <= _INT64_MAX:
        raise _InvalidField("timestamp: must be milliseconds since 1970 that fit 64 bits")
    return int(value)


_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND: Final = datetime.timedelta(milliseconds=1)


def _error_columns(error: ErrorIn, native: NativeEvent) -> dict[str, str]:
    rest: dict[str, Any] = dict(native.error_rest) if isinstance(native, UnfoldedEvent) else {}
    for name in ("provider", "status"):
        value = getattr(error, name)
        if value is not None:
            rest[name] = value
    category = error.category or ""
    return {
        "error_type": (error.type or "")[:FIELD_CHARS_MAX],
        "error_message": _cut(error.message or ""),
        "error_stack": _cut(error.stack or ""),
        "error_category": category if category in _CATEGORIES or not category else "other",
        "error_fingerprint": error.fingerprint or "",
        "error_rest": _ENCODE(rest).decode() if rest else "",
    }


def _cut(text: str) -> str:
    if len(text) <= ERROR_TEXT_CHARS_MAX:
        return text
    return f"{text[:ERROR_TEXT_CHARS_MAX]} [cut: {len(text)} characters]"
