"""An event as PostHog's SDKs send it → the wide `Event`. What the properties lend to columns also stays in the data.

    event         `event`; `$exception` gives an exception. With `$lib` = leeward, whose client speaks this wire, too:
                  `$span`, `$metric` and `$log` give a span, a metric and a log record
    `$ai_…`       stay events, with provider, model, tokens, duration, status and error in their columns
    data          the properties' own bytes, but for members that repeat the request's key
    attributes    what stands beside the properties: `$set`, `$set_once`, `$groups` and fields that are not known here;
                  `timestamp` as sent, where it was not believed

Promises  nothing raises but RecursionError, for what is nested deeper than a decoder goes: an event that cannot be
          taken comes back as why. A property of another type than its column's stays in the data only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from leeward.model import Dropped, Event
from leeward.wire.exceptions import TYPE_CHARS_MAX, ErrorColumns, cut_message
from leeward.wire.posthog.errors import LEVELS, columns_of
from leeward.wire.posthog.events import ABSENT, EventIn, UnfoldedEvent, text_of
from leeward.wire.posthog.times import milliseconds, when
from leeward.wire.text import MEMBERS_MAX, has_too_many_members

__all__ = ["EVENT_BYTES_MAX", "FIELD_CHARS_MAX", "Received", "as_uuid", "to_event", "to_events"]

EVENT_BYTES_MAX: Final = 8 << 20  # of its properties; more is refused before anybody looks inside
ERROR_BYTES_MAX: Final = 1 << 20  # the same for an error's
FIELD_CHARS_MAX: Final = 200
ID_CHARS_MAX: Final = 128
LATENCY_S_MAX: Final = 1e300  # so that the milliseconds are finite
_INT64_MAX: Final = 2**63 - 1
_OPENING: Final = b"{["
_DIGITS: Final = b"-0123456789"
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID_SPELLINGS: Final = re.compile(
    r"(?:urn:uuid:)?\{?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})\}?", re.IGNORECASE
)
_NIL_UUID: Final = "00000000-0000-0000-0000-000000000000"
_KIND_OF_OURS: Final = {"$span": "span", "$metric": "metric", "$log": "log"}
_NO_ERROR: Final = ErrorColumns("", "", "", "")
_ENCODE = msgspec.json.Encoder().encode


_Text = Annotated[str, msgspec.Meta(max_length=FIELD_CHARS_MAX)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=_INT64_MAX)]

SERVERS_PART: Final = frozenset(
    f"$exception_{name}" for name in ("types", "values", "sources", "functions", "fingerprint_record", "issue_id")
)
SERVERS_PART_QUOTED: Final = tuple(f'"{name}"'.encode() for name in sorted(SERVERS_PART))


class Received(msgspec.Struct, frozen=True):
    """What all events of a request have in common. `name` is for events without one, on paths that allow it."""

    project: int
    received_at: int
    token: bytes
    sent_at: int | None = None
    historical: bool = False
    name: str = ""
    zone_needed: bool = False  # refuse a timestamp that is missing or has no zone


class Promoted(
    msgspec.Struct,
    gc=False,
    rename={
        "sdk": "$lib",
        "dollar_distinct_id": "$distinct_id",
        "session_id": "$session_id",
        "device_id": "$device_id",
        "trace_id": "$trace_id",
        "span_id": "$span_id",
        "parent_span_id": "$parent_span_id",
        "ignore_sent_at": "$ignore_sent_at",
    },
):
    """The properties that any event may lend to columns."""

    sdk: _Text = ""
    distinct_id: _Text = ""
    dollar_distinct_id: _Text = ""
    session_id: _Text = ""
    device_id: _Text = ""
    trace_id: _Text = ""
    span_id: _Text = ""
    parent_span_id: _Text = ""
    ignore_sent_at: bool = False
    correlation_id: _Text = ""
    level: _Text = ""
    status: _Text | int = ""
    service: _Text = ""
    provider: _Text = ""
    model: _Text = ""
    duration_ms: float | None = None
    latency_ms: float | None = None
    value: float | None = None
    unit: _Text = ""
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None


class OursIn(
    msgspec.Struct,
    gc=False,
    rename={
        "id": "$leeward_id",
        "span_name": "$span_name",
        "metric_name": "$metric_name",
        "is_person": "$process_person_profile",
        "error_list": "$exception_list",
    },
):
    """What only leeward's own client sends."""

    id: msgspec.Raw = ABSENT
    span_name: msgspec.Raw = ABSENT
    metric_name: msgspec.Raw = ABSENT
    is_person: msgspec.Raw = ABSENT
    error_list: msgspec.Raw = ABSENT


class ModelIn(
    msgspec.Struct,
    gc=False,
    rename={
        "trace_id": "$ai_trace_id",
        "span_id": "$ai_span_id",
        "parent_id": "$ai_parent_id",
        "session_id": "$ai_session_id",
        "provider": "$ai_provider",
        "model": "$ai_model",
        "input_tokens": "$ai_input_tokens",
        "output_tokens": "$ai_output_tokens",
        "latency_s": "$ai_latency",
        "status": "$ai_http_status",
        "is_error": "$ai_is_error",
        "error": "$ai_error",
        "error_type": "$ai_error_type",
    },
):
    """A call of a language model."""

    trace_id: msgspec.Raw = ABSENT
    span_id: msgspec.Raw = ABSENT
    parent_id: msgspec.Raw = ABSENT
    session_id: msgspec.Raw = ABSENT
    provider: msgspec.Raw = ABSENT
    model: msgspec.Raw = ABSENT
    input_tokens: msgspec.Raw = ABSENT
    output_tokens: msgspec.Raw = ABSENT
    latency_s: msgspec.Raw = ABSENT
    status: msgspec.Raw = ABSENT
    is_error: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    error_type: msgspec.Raw = ABSENT


_PROMOTED_FIELDS: Final = {field.encode_name: field.name for field in msgspec.structs.fields(Promoted)}
_DECODE_PROMOTED = msgspec.json.Decoder(Promoted).decode
_DECODE_OURS = msgspec.json.Decoder(OursIn).decode
_DECODE_MODEL = msgspec.json.Decoder(ModelIn).decode
_DECODE_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_DECODE_TEXT = msgspec.json.Decoder(str).decode
_DECODE_NUMBER = msgspec.json.Decoder(float).decode
_DECODE_COUNT = msgspec.json.Decoder(_Count).decode


def to_events(sent: Sequence[EventIn], received: Received) -> list[Event | Dropped]:
    """Map a request's events, in their order; what cannot be taken says which one it is."""
    events: list[Event | Dropped] = []
    for index, one in enumerate(sent):
        try:
            event = to_event(one, received)
        except RecursionError:
            event = Dropped("too_deep", "it is nested too deeply")
        if isinstance(event, Dropped):
            event = Dropped(event.code, f"event {index}: {event.error}")
        events.append(event)
    return events


def to_event(sent: EventIn, received: Received) -> Event | Dropped:
    """Map one event, or say why it cannot be taken."""
    name = sent.event or received.name
    if not name:
        return Dropped("missing_event_name", "it has no event name")
    data = bytes(sent.properties)
    if data in {b"", b"null", b"[]"}:  # the last is an empty object of PHP's
        data = b"{}"
    elif data[:1] != b"{":
        return Dropped("invalid_field", "properties must be an object")
    elif (oversized := _oversized(data, name)) is not None:
        return oversized
    try:
        lent = _DECODE_PROMOTED(data)
    except msgspec.ValidationError:
        lent = _lent(data)
    distinct_id = sent.distinct_id or sent.dollar_distinct_id or lent.distinct_id or lent.dollar_distinct_id
    if not distinct_id:
        return Dropped("missing_distinct_id", "it has no distinct_id")
    event_id = as_uuid(sent.uuid) if sent.uuid else ""
    if event_id is None:
        return Dropped("invalid_uuid", "its uuid is none; leave it out to have one made")
    timed = _time(sent, lent, received)
    if timed is None:
        return Dropped("invalid_timestamp", "its timestamp must be RFC 3339 with an offset")
    happened, believed = timed
    data = _kept(data, name, received.token)
    # By position, in the order of model.Event: by keyword this one call would cost as much as all the rest.
    event = Event(
        received.project,
        "event",
        event_id,
        name[:FIELD_CHARS_MAX],
        received.received_at,
        happened,
        data.decode(),
        LEVELS.get(lent.level.upper(), "") if lent.level else "",
        str(lent.status),
        distinct_id[:FIELD_CHARS_MAX],
        lent.session_id,
        lent.device_id,
        lent.correlation_id,
        lent.trace_id,
        lent.span_id,
        lent.parent_span_id,
        lent.service,
        lent.provider,
        lent.model,
        lent.latency_ms if lent.duration_ms is None else lent.duration_ms,
        lent.value,
        lent.unit,
        lent.input_tokens,
        lent.output_tokens,
        "",  # the error's columns: see below
        "",
        "",
        "",
        "",
        "",
        "",
        _attributes(sent, keeps_timestamp=not believed),
    )
    fields: dict[str, Any] = {}
    if lent.sdk == "leeward":
        _ours(event, data, fields)
    if name == "$exception":
        _exception(event, data, fields)
    elif name.startswith("$ai_"):
        _model(event, data, fields)
    return msgspec.structs.replace(event, **fields) if fields else event


def _time(sent: EventIn, lent: Promoted, received: Received) -> tuple[int, bool] | None:
    """When it happened, and whether that is what its sender said; None if the protocol does not allow what it said."""
    timestamp = milliseconds(sent.timestamp, zone_needed=received.zone_needed) if sent.timestamp else None
    if timestamp is None and received.zone_needed:
        return None
    happened, believed = when(
        timestamp,
        received_at=received.received_at,
        sent_at=None if lent.ignore_sent_at else received.sent_at,
        offset=None if sent.offset is ABSENT else _count(sent.offset),
        historical=received.historical,
    )
    return happened, believed and timestamp is not None


def _lent(data: bytes) -> Promoted:
    """The same where a property is of another type than its column: texts are cut to it, the rest stays behind."""
    lent = Promoted()
    for name, raw in _DECODE_FIELDS(data).items():
        field = _PROMOTED_FIELDS.get(name)
        if field in {"duration_ms", "latency_ms", "value"}:
            setattr(lent, field, _number(raw))
        elif field in {"input_tokens", "output_tokens"}:
            setattr(lent, field, _count(raw))
        elif field == "ignore_sent_at":
            lent.ignore_sent_at = bytes(raw) == b"true"
        elif field in {"distinct_id", "dollar_distinct_id"}:
            setattr(lent, field, text_of(raw))
        elif field is not None:
            setattr(lent, field, _scalar(raw))
    return lent


def as_uuid(text: str) -> str | None:
    """The id in its one spelling; None if it is no uuid.

    The nil uuid gives `""`, no id: it stands for one that was never set, and would make all such events one.
    """
    if text == _NIL_UUID:
        return ""
    if _UUID.fullmatch(text):
        return text
    found = _UUID_SPELLINGS.fullmatch(text)
    return "-".join(found.groups()).lower() if found is not None else None


def _scalar(raw: msgspec.Raw) -> str:
    """A text, number or truth value as a column's text; nothing for objects and arrays."""
    value = bytes(raw)
    if not value or value[0] in _OPENING or value == b"null":
        return ""
    return (_DECODE_TEXT(value) if value[0] == 0x22 else value.decode())[:FIELD_CHARS_MAX]


def _number(raw: msgspec.Raw) -> float | None:
    value = bytes(raw)
    if not value or value[0] not in _DIGITS:
        return None
    try:
        return _DECODE_NUMBER(value)
    except msgspec.ValidationError:  # beyond what a float holds
        return None


def _count(raw: msgspec.Raw) -> int | None:
    value = bytes(raw)
    if not value or value[0] not in _DIGITS:
        return None
    try:
        count: int = _DECODE_COUNT(value)
    except msgspec.ValidationError:  # negative, broken, or beyond 63 bits
        return None
    return count


def _oversized(data: bytes, name: str) -> Dropped | None:
    """Why properties are too much to be taken apart, if they are."""
    if len(data) > EVENT_BYTES_MAX or (name == "$exception" and len(data) > ERROR_BYTES_MAX):
        return Dropped("event_too_large", f"its properties have {len(data)} bytes, which is too much")
    if len(data) > MEMBERS_MAX and has_too_many_members(data):
        return Dropped("too_many_keys", "its properties have too many keys")
    return None


def _kept(data: bytes, name: str, token: bytes) -> bytes:
    """The properties without the request's key, and without what PostHog's server adds to an exception."""
    if token in data:
        data = _without_key(data, token)
    if name == "$exception" and any(quoted in data for quoted in SERVERS_PART_QUOTED):
        fields = _DECODE_FIELDS(data)
        data = _ENCODE({field: raw for field, raw in fields.items() if field not in SERVERS_PART})
    return data


def _without_key(data: bytes, token: bytes) -> bytes:
    """The properties without members that repeat the key of the request: it is a secret, and says nothing here."""
    fields = _DECODE_FIELDS(data)
    quoted = _ENCODE(token.decode())
    repeated = [name for name in ("token", "api_key", "$token") if bytes(fields.get(name, b"")) == quoted]
    if not repeated:
        return data
    for name in repeated:
        del fields[name]
    return _ENCODE(fields)


def _attributes(sent: EventIn, *, keeps_timestamp: bool) -> str:
    beside: dict[str, Any] = {}
    for name, raw in ("$set", sent.set), ("$set_once", sent.set_once), ("$unset", sent.unset), ("$groups", sent.groups):
        if raw is not ABSENT and bytes(raw) != b"null":
            beside[name] = raw  # noqa: PERF403 - most events have none: no dict is built for them twice
    if keeps_timestamp and sent.timestamp:
        beside["timestamp"] = sent.timestamp[:FIELD_CHARS_MAX]
    if isinstance(sent, UnfoldedEvent):
        beside.update(sent.rest)
    return _ENCODE(beside).decode() if beside else ""


def _ours(event: Event, data: bytes, fields: dict[str, Any]) -> None:
    """What leeward's own client says in PostHog's words, as it was meant; see `wire/posthog_encode`."""
    ours = _DECODE_OURS(data)
    kind = _KIND_OF_OURS.get(event.name)
    if kind is not None:
        fields["kind"] = kind
        fields["name"] = _scalar(ours.span_name) or _scalar(ours.metric_name) or kind
    text = text_of(ours.id)
    if text:
        fields["id"] = text if len(text) <= ID_CHARS_MAX else _hashed(text)
    # Where nobody is known the wire still wants a person: the device, or the event itself.
    nobody = {event.device_id} if bytes(ours.is_person) != b"false" else {event.device_id, event.id, text}
    if event.distinct_id in {one[:FIELD_CHARS_MAX] for one in nobody}:
        fields["distinct_id"] = ""
    if ours.error_list is not ABSENT and event.name != "$exception" and len(data) <= ERROR_BYTES_MAX:
        columns, _, fields["error_fingerprint"] = columns_of(data)
        _fill(columns, fields)


def _exception(event: Event, data: bytes, fields: dict[str, Any]) -> None:
    columns, level, fields["error_fingerprint"] = columns_of(data)
    fields["kind"] = "exception"
    fields["level"] = event.level or level or "ERROR"
    _fill(columns, fields)


def _model(event: Event, data: bytes, fields: dict[str, Any]) -> None:
    call = _DECODE_MODEL(data)
    latency_s = _number(call.latency_s)
    lent = {
        "trace_id": _scalar(call.trace_id),
        "span_id": _scalar(call.span_id),
        "parent_span_id": _scalar(call.parent_id),
        "session_id": _scalar(call.session_id),
        "provider": _scalar(call.provider),
        "model": _scalar(call.model),
        "status": _scalar(call.status),
        "input_tokens": _count(call.input_tokens),
        "output_tokens": _count(call.output_tokens),
        "duration_ms": latency_s * 1000 if latency_s is not None and abs(latency_s) < LATENCY_S_MAX else None,
    }
    fields.update({name: value for name, value in lent.items() if value not in {"", None}})
    if bytes(call.is_error) == b"true":
        type_, message = _model_error(call)
        fields["level"] = event.level or "ERROR"
        fields["error_type"] = type_[:TYPE_CHARS_MAX]
        fields["error_message"] = cut_message(message)


def _model_error(call: ModelIn) -> tuple[str, str]:
    """Type and message: `$ai_error` is a text, or what a provider's SDK made of an exception."""
    type_ = _scalar(call.error_type)
    said = text_of(call.error)
    if bytes(call.error)[:1] != b"{":
        return type_, said
    error = _DECODE_FIELDS(call.error)
    message = text_of(error.get("message", ABSENT))
    return type_ or _scalar(error.get("type", ABSENT)) or _scalar(error.get("name", ABSENT)), message or said


def _fill(columns: ErrorColumns, fields: dict[str, Any]) -> None:
    fields["error_type"], fields["error_message"], fields["error_stack"], fields["error_rest"] = columns


def _hashed(text: str) -> str:
    return "h:" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
