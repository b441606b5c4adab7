"""What leeward's own client says beside OTLP's fields, so that its events are the same events on every wire.

Its records carry `leeward.event.id`. What stands in such a record's attributes for want of a field goes back where it
came from; what does not fit there stays with the caller's properties, as anybody's attributes do.
"""

from __future__ import annotations

import datetime
from hashlib import sha256
from typing import Any, Final

import msgspec

from leeward.model import LEVELS
from leeward.wire.otlp.mapping import FIELD_CHARS_MAX

__all__ = ["EVENT_ID", "Own", "take", "tell_handled"]

EVENT_ID: Final = "leeward.event.id"
ID_CHARS_MAX: Final = 128
INT64_MAX: Final = 2**63 - 1
# Columns that were filled from these already, whatever the sender.
_COLUMNS: Final = ("user.id", "session.id", "device.id", "correlation.id")
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND: Final = datetime.timedelta(milliseconds=1)


class Own(msgspec.Struct, gc=False):
    """What was said. Empty or None: nothing, so the protocol's own field counts."""

    id: str
    level: str
    status: str
    unit: str
    duration_ms: float | None
    value: float | None
    timestamp: int | None
    trace_id: str
    span_id: str
    parent_span_id: str


def take(attributes: dict[str, Any], *, trace_id: str = "", span_id: str = "") -> Own | None:
    """Take what our client has put there out of *attributes*, or None if they are not our client's.

    Args:
        attributes: of a span, a log record or an exemplar.
        trace_id: the protocol's; one that our client has only made of the event's id, as the protocol wants one, is none.
        span_id: likewise.
    """
    if EVENT_ID not in attributes:
        return None
    event_id = _text(attributes, EVENT_ID, ID_CHARS_MAX)
    if not event_id:
        return None
    for name in _COLUMNS:
        _text(attributes, name)
    made = sha256(event_id.encode()).hexdigest()
    return Own(
        event_id,
        _level(attributes),
        _text(attributes, "status"),
        _text(attributes, "unit"),
        _number(attributes, "duration_ms"),
        _number(attributes, "value"),
        _timestamp(attributes),
        _text(attributes, "leeward.trace_id") or ("" if made.startswith(trace_id) else trace_id),
        _text(attributes, "leeward.span_id") or ("" if made.startswith(span_id) else span_id),
        _text(attributes, "leeward.parent_span_id"),
    )


def tell_handled(said: dict[str, Any], data: dict[str, Any]) -> None:
    """Move what the conventions say of an exception's handling to the native wire's word for it."""
    escaped = said.pop("exception.escaped", None)
    if type(escaped) is bool:
        data.setdefault("handled", not escaped)


def _text(attributes: dict[str, Any], name: str, chars_max: int = FIELD_CHARS_MAX) -> str:
    value = attributes.get(name)
    if type(value) is not str or len(value) > chars_max:
        return ""
    del attributes[name]
    return value


def _level(attributes: dict[str, Any]) -> str:
    return _text(attributes, "level") if attributes.get("level") in LEVELS else ""


def _number(attributes: dict[str, Any], name: str) -> float | None:
    value = attributes.get(name)
    if type(value) not in {int, float}:
        return None
    del attributes[name]
    return float(value)  # type: ignore[arg-type]  # int or float now


def _timestamp(attributes: dict[str, Any]) -> int | None:
    """A time that the protocol has no place for: milliseconds since 1970, or a text with a year before or after."""
    value = attributes.get("leeward.timestamp")
    if type(value) is str:
        try:
            moment = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
        value = ((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)) - _EPOCH) // _MILLISECOND
    if type(value) is not int or not -INT64_MAX <= value <= INT64_MAX:
        return None
    del attributes["leeward.timestamp"]
    return value
