"""Values → the native wire's bytes, for the client: standard library only, nothing imported until it is used.

Promises  the result is one compact line of valid UTF-8 JSON, whatever text went in (see `json_text`). Absent fields are
          left out. Nothing that the caller gave is lost: what has no field of its own stands in `data`.
Expects   values that `scrub/values` has bounded; others raise TypeError, ValueError or RecursionError.
"""

from __future__ import annotations

from leeward.wire.json_text import json_text, load, quote, utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

__all__ = ["EVENT", "batch", "batch_id", "encode", "load", "uuid7"]

EVENT: Final = 1  # the type of this wire's records in the spool
ERROR_FIELDS: Final = ("type", "message", "stack", "category", "provider", "status", "fingerprint")


def encode(
    kind: str,
    name: str,
    properties: dict[str, Any],
    *,
    id: str,
    timestamp_ms: int | str,
    level: str = "",
    distinct_id: str = "",
    session_id: str = "",
    device_id: str = "",
    correlation_id: str = "",
    trace_id: str = "",
    span_id: str = "",
    parent_span_id: str = "",
    duration_ms: float | None = None,
    value: float | None = None,
    unit: str = "",
    status: str = "",
    service: str = "",
    error: dict[str, Any] | None = None,
) -> tuple[int, bytes]:
    """One item of any kind as a JSON object, and its record type.

    `error` has the wire's fields; its `exceptions` and `handled` go into `data`, unless the caller has such keys.
    """
    when = timestamp_ms if type(timestamp_ms) is int else quote(str(timestamp_ms))
    # The fields that nearly every event has are written here, one by one: a fifth cheaper than one more dict.
    parts = ['{"event_type":', quote(name), ',"id":', quote(id), f',"timestamp":{when}']
    if distinct_id:
        parts += (',"distinct_id":', quote(distinct_id))
    if device_id:
        parts += (',"device_id":', quote(device_id))
    if service:
        parts += (',"service":', quote(service))
    rare: dict[str, Any] = {}
    if kind != ("exception" if error else "event"):  # else the server knows it without being told
        rare["kind"] = kind
    if level:
        rare["level"] = level
    if session_id:
        rare["session_id"] = session_id
    if correlation_id:
        rare["correlation_id"] = correlation_id
    if trace_id:
        rare["trace_id"] = trace_id
    if span_id:
        rare["span_id"] = span_id
    if parent_span_id:
        rare["parent_span_id"] = parent_span_id
    if duration_ms is not None:
        rare["duration_ms"] = duration_ms
    if value is not None:
        rare["value"] = value
    if unit:
        rare["unit"] = unit
    if status:
        rare["status"] = status
    if error:
        rare["error"] = {key: error[key] for key in ERROR_FIELDS if key in error}
        properties = {**{key: error[key] for key in error if key not in ERROR_FIELDS}, **properties}
    if rare:
        parts += (",", json_text(rare)[1:-1])
    if properties:
        parts += (',"data":', json_text(properties))
    parts.append("}")
    return EVENT, utf8("".join(parts))


def batch(batch_id: str, events: Sequence[bytes], client: bytes | None = None) -> bytes:
    """A batch of events that are bytes already, joined as they are; `client` is the sender's own JSON object, if any.

    `batch_id` consists of `[A-Za-z0-9._:-]` and needs no escaping.
    """
    tail = b"]}" if client is None else b'],"client":' + client + b"}"
    return b'{"batch_id":"' + batch_id.encode("ascii") + b'","events":[' + b",".join(events) + tail


def batch_id(events: Sequence[bytes]) -> str:
    """The batch's name, derived from its bytes: the same events have the same name, also after a restart.

    So a repeat is recognised by the server, and one name can never stand for two contents.
    """
    from hashlib import sha256  # noqa: PLC0415 - only the worker sends, and it has OpenSSL loaded by then

    return sha256(b",".join(events)).hexdigest()[:32]


def uuid7(now_ms: int, random_bytes: bytes) -> str:
    """A UUIDv7 (RFC 9562) of this millisecond and ten random bytes: ordered by time, to the millisecond."""
    time_hex = f"{now_ms & 0xFFFFFFFFFFFF:012x}"
    random_hex = random_bytes.hex()
    return (
        f"{time_hex[:8]}-{time_hex[8:]}-7{random_hex[:3]}-"
        f"{'89ab'[random_bytes[1] & 3]}{random_hex[4:7]}-{random_hex[7:19]}"
    )
