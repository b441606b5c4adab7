"""What Sentry's items have in common: times, ids, levels, and the names under which columns stand in tags and attributes."""

from __future__ import annotations

import datetime
import hashlib
import math
import string
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from leeward.wire import genai
from leeward.wire.sentry.reading import loose, members

__all__ = [
    "FIELD_CHARS_MAX",
    "NO_COLUMNS",
    "Columns",
    "Request",
    "clean_id",
    "columns",
    "cut",
    "level_of",
    "moment_us",
    "plain",
    "scalar",
    "span_key",
    "wanted",
]

FIELD_CHARS_MAX: Final = 200
ID_CHARS_MAX: Final = 128
EVENT_ID_CHARS: Final = 32
SKEW_MS_MIN: Final = 60_000  # what is less is the way here, and no wrong clock
AHEAD_MS_MAX: Final = 60_000
CORRECTED_AGE_MS_MAX: Final = 30 * 86_400_000

DISTINCT_ID: Final = ("user.id", "enduser.id", "user.email", "user.name")
SESSION_ID: Final = ("session.id", "session_id")
DEVICE_ID: Final = ("device.id", "device_id")
CORRELATION_ID: Final = ("correlation.id", "correlation_id")
SERVICE: Final = ("service.name", "service")
NAMES: Final = genai.NAMES.union(DISTINCT_ID, SESSION_ID, DEVICE_ID, CORRELATION_ID, SERVICE)

_HEX: Final = frozenset(string.hexdigits)
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)
_SECONDS_MAX: Final = 253_402_300_800  # the year 10000
_LEVELS: Final = {
    **dict.fromkeys(("debug", "trace"), "DEBUG"),
    **dict.fromkeys(("info", "log", "notice", "sample"), "INFO"),
    **dict.fromkeys(("warning", "warn"), "WARN"),
    "error": "ERROR",
    **dict.fromkeys(("fatal", "critical"), "FATAL"),
}


class Columns(NamedTuple):
    """What tags or attributes fill of an event's columns. Empty or None means that they say nothing."""

    distinct_id: str = ""
    session_id: str = ""
    device_id: str = ""
    correlation_id: str = ""
    service: str = ""
    provider: str = ""
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None


NO_COLUMNS: Final = Columns()


class Request:
    """What every item of one request needs to know: whose it is, how wrong the sender's clock is, what has no id."""

    __slots__ = ("_body", "_digest", "_seen", "_shift_ms", "event_id", "project", "received_at")

    def __init__(
        self, body: bytes, *, project: int, received_at: int, event_id: str = "", sent_at: float | str | None = None
    ) -> None:
        self._body = body
        self._digest = b""
        self._seen: dict[bytes, int] = {}
        self.project = project
        self.received_at = received_at
        self.event_id = event_id
        sent_us = moment_us(sent_at)
        shift_ms = 0 if sent_us is None else received_at - sent_us // 1000
        self._shift_ms = shift_ms if abs(shift_ms) >= SKEW_MS_MIN else 0

    def time_ms(self, us: int | None) -> int:
        """The sender's time by this server's clock, in milliseconds.

        A clock that was wrong by a minute or more when the request was sent is corrected, if the result is within the
        last 30 days. A time that still lies more than a minute ahead becomes the time of receipt.
        """
        received_at = self.received_at
        if us is None:
            return received_at
        own = us // 1000
        latest = received_at + AHEAD_MS_MAX
        corrected = own + self._shift_ms
        if received_at - CORRECTED_AGE_MS_MAX <= corrected <= latest:
            return corrected
        return own if own <= latest else received_at

    def take_event_id(self) -> str:
        """The envelope's own id, for the first that asks: it names one event."""
        event_id, self.event_id = self.event_id, ""
        return event_id

    def record_id(self, raw: bytes, *, timed: bool, index: int) -> str:
        """The id of a record that came without one: a resend gets it again.

        Args:
            raw: the record as it is written.
            timed: whether it has a time of its own. Without one, two equal records of different requests are two.
            index: its place in the request.
        """
        if not timed:
            if not self._digest:
                self._digest = hashlib.sha256(self._body).digest()
            return _hashed(self._digest + b"%d" % index)
        digest = hashlib.blake2b(raw, digest_size=16).digest()
        ordinal = self._seen.get(digest, 0)
        self._seen[digest] = ordinal + 1
        return _hashed(digest + b"%d" % ordinal)


def _hashed(identity: bytes) -> str:
    return "h:" + hashlib.blake2b(identity, digest_size=16).hexdigest()


def clean_id(text: str | None) -> str:
    """An id: 32 hex digits in lower case without dashes if it is such a one, else as it came; a hash of one too long."""
    if not text:
        return ""
    digits = text.replace("-", "")
    if len(digits) == EVENT_ID_CHARS and _HEX.issuperset(digits):
        return digits.lower()
    return text if len(text) <= ID_CHARS_MAX else _hashed(text.encode())


def span_key(trace_id: str, span_id: str, start_us: int | None) -> str:
    """The id of a span, from what the sender itself says of it; empty if that is not enough."""
    if not trace_id or not span_id or start_us is None:
        return ""
    return clean_id(f"{trace_id}:{span_id}:{start_us * 1000}")


def cut(text: str | None) -> str:
    """A text within its column."""
    return text[:FIELD_CHARS_MAX] if text else ""


def scalar(value: Any) -> str:
    """A text or a number as a column's text; empty for anything else."""
    if isinstance(value, str):
        return value[:FIELD_CHARS_MAX]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)[:FIELD_CHARS_MAX]
    return ""


def level_of(text: str | None, severity: float | None = None) -> str:
    """The level by its word, or by OpenTelemetry's number; empty if neither is known."""
    known = _LEVELS.get(text.lower(), "") if text else ""
    if known or severity is None or not 1 <= severity < 25:
        return known
    return ("DEBUG", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")[int(severity - 1) // 4]


def moment_us(value: float | str | None) -> int | None:
    """Microseconds since 1970 of seconds or RFC 3339; a text without a zone is UTC. None for what is no time."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=datetime.UTC)
            return (moment - _EPOCH) // _MICROSECOND
        except (ValueError, OverflowError):
            return None
    if not math.isfinite(value) or abs(value) >= _SECONDS_MAX:
        return None
    return round(value * 1_000_000)


class _Attribute(msgspec.Struct):
    """An attribute as newer items have it: `{"value": …, "type": …}`."""

    value: msgspec.Raw


_DECODE_ATTRIBUTES = msgspec.json.Decoder(dict[str, _Attribute]).decode
_DECODE_ATTRIBUTE = msgspec.json.Decoder(_Attribute).decode


def plain(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Attributes without their types. One that is not of that form stays as it is."""
    try:
        return {key: attribute.value for key, attribute in _DECODE_ATTRIBUTES(raw).items()} if raw else {}
    except (msgspec.DecodeError, RecursionError):
        return {key: _value(attribute) for key, attribute in members(raw).items()}


def _value(raw: msgspec.Raw) -> msgspec.Raw:
    try:
        return _DECODE_ATTRIBUTE(raw).value
    except (msgspec.DecodeError, RecursionError):
        return raw


def wanted(raws: dict[str, msgspec.Raw]) -> dict[str, Any]:
    """Of these members, the values of those that columns are made of."""
    return {key: loose(raws[key]) for key in NAMES.intersection(raws)}


def columns(values: dict[str, Any]) -> Columns:
    """The columns that these values fill."""
    if not values:
        return NO_COLUMNS
    call = genai.generation(values) or _NO_CALL
    return Columns(
        _first(values, DISTINCT_ID),
        _first(values, SESSION_ID) or call.session_id,
        _first(values, DEVICE_ID),
        _first(values, CORRELATION_ID),
        _first(values, SERVICE),
        call.provider,
        call.model,
        call.input_tokens,
        call.output_tokens,
    )


_NO_CALL: Final = genai.Generation()


def _first(values: dict[str, Any], names: Iterable[str]) -> str:
    for name in names:
        value = values.get(name)
        if value is not None and (text := scalar(value)):
            return text
    return ""
