"""Values → OTLP/JSON spans, log records and metrics, for the client: standard library only, imported when that wire is
configured.

Promises  each result is one object as the protocol's JSON mapping has it, on one line of valid UTF-8: ids in hex,
          64-bit integers as text, enumerations as numbers, no value twice. The caller's properties are its attributes
          and win over ours. What OTLP cannot say in its own field stays an attribute: an id that is no hex as
          `leeward.trace_id` and so on, a time outside 1970 to 2554 as `leeward.timestamp`.
Expects   values that `scrub/values` has bounded. Resource and scope are not in here: the request brings them.
Limits    values nested deeper than `DEPTH_MAX` become JSON text: readers stop at a hundred messages inside each other,
          and a level takes three. Integers beyond 64 bits with a sign become decimal text. An exception's chain is in
          its stack trace, as Python prints it.

    kind        becomes      with
    span        a span       kind from the property `span.kind`, internal if it has none; an error as event and status
    log         log record   the message as body
    event       log record   its name as eventName and body
    exception   log record   eventName `exception`, `exception.*`, severity ERROR if no level is given
    metric      gauge        one point; whose it is stands in the point's exemplar, so that it is no series of its own
"""

from __future__ import annotations

from leeward.wire.instants import nanoseconds
from leeward.wire.json_text import json_bytes, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["LOG", "METRIC", "SPAN", "encode", "load"]

SPAN: Final = 2  # the types of this wire's records in the spool
LOG: Final = 3
METRIC: Final = 4

DEPTH_MAX: Final = 8
INT64_MAX: Final = 2**63 - 1
INT64_MIN: Final = -(2**63)
NANOSECONDS_MAX: Final = 2**64 - 1
TRACE_ID_CHARS: Final = 32
SPAN_ID_CHARS: Final = 16
SEVERITIES: Final = {"DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}
SPAN_KINDS: Final = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
STATUSES: Final = {"ok": 1, "error": 2}
NO_KEY: Final = "<empty>"  # an attribute's key may not be empty


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
    service: str = "",  # noqa: ARG001 - stands in the request's resource
    error: dict[str, Any] | None = None,
) -> tuple[int, bytes]:
    """One item of any kind, and its record type: `SPAN`, `LOG` or `METRIC`. A span's time is its start."""
    # What is given; each form takes out what it has fields for, and the rest are attributes.
    given = {
        key: one
        for key, one in (
            ("leeward.event.id", id),
            ("user.id", distinct_id),
            ("session.id", session_id),
            ("device.id", device_id),
            ("correlation.id", correlation_id),
            ("level", level),
            ("duration_ms", duration_ms),
            ("value", value),
            ("unit", unit),
            ("status", status),
        )
        if one is not None and one != ""
    }
    time_ns = nanoseconds(timestamp_ms)
    if time_ns is None:
        given["leeward.timestamp"] = timestamp_ms
    is_span = kind == "span"
    ids = {
        "traceId": _hex("trace_id", trace_id or (id if is_span else ""), TRACE_ID_CHARS, given),
        "spanId": _hex("span_id", span_id or (id if is_span else ""), SPAN_ID_CHARS, given),
        "parentSpanId": _hex("parent_span_id", parent_span_id, SPAN_ID_CHARS, given),
    }
    if is_span:
        return SPAN, json_bytes(_span(name, properties, given, ids, time_ns, error))
    if ids.pop("parentSpanId"):  # only a span has a field for it
        given["leeward.parent_span_id"] = parent_span_id
    if error:
        given.update(_exception(error))
    if kind == "metric" and value is not None:
        return METRIC, json_bytes(_metric(name, properties, given, ids, time_ns))
    return LOG, json_bytes(_log(kind, name, properties, given, ids, time_ns))


def _span(
    name: str,
    properties: dict[str, Any],
    given: dict[str, Any],
    ids: dict[str, str],
    start_ns: int | None,
    error: dict[str, Any] | None,
) -> dict[str, Any]:
    end_ns = start_ns
    if start_ns is not None and "duration_ms" in given:
        end_ns = start_ns + round(given["duration_ms"] * 1_000_000)
        if start_ns <= end_ns <= NANOSECONDS_MAX:
            del given["duration_ms"]
        else:
            end_ns = start_ns
    kind = properties.get("span.kind")
    fields = {
        "name": name,
        "kind": SPAN_KINDS.get(kind.lower(), 1) if isinstance(kind, str) else 1,
        "startTimeUnixNano": _decimal(start_ns),
        "endTimeUnixNano": _decimal(end_ns),
        **ids,
    }
    code = STATUSES.get(given.get("status", ""))
    if code:
        del given["status"]
        fields["status"] = {"code": code}
    if error:
        fields["status"] = _present({"code": STATUSES["error"], "message": error.get("message", "")})
        attributes = _attributes(_exception(error))
        fields["events"] = [_present({"name": "exception", "timeUnixNano": _decimal(end_ns), "attributes": attributes})]
    fields["attributes"] = _attributes({**given, **properties})
    return _present(fields)


def _log(
    kind: str,
    name: str,
    properties: dict[str, Any],
    given: dict[str, Any],
    ids: dict[str, str],
    time_ns: int | None,
) -> dict[str, Any]:
    event_name, body = name, name
    if kind == "exception":
        event_name = "exception"
        body = ": ".join(filter(None, (given.get("exception.type"), given.get("exception.message")))) or name
    elif kind == "log":
        event_name = ""
        properties = properties.copy()
        body = properties.pop("message", name)
    level = given.pop("level", "ERROR" if kind == "exception" else "INFO")
    fields = {
        "timeUnixNano": _decimal(time_ns),
        "severityNumber": SEVERITIES.get(level, 0),
        "severityText": level,
        "eventName": event_name,
        "body": _any(body, 0),
        "attributes": _attributes({**given, **properties}),
        **ids,
    }
    return _present(fields)


def _metric(
    name: str, properties: dict[str, Any], given: dict[str, Any], ids: dict[str, str], time_ns: int | None
) -> dict[str, Any]:
    measured = _number(given.pop("value"))
    unit = given.pop("unit", "")
    time = _decimal(time_ns)
    exemplar = _present({"timeUnixNano": time, "filteredAttributes": _attributes(given), **ids, **measured})
    point = {"timeUnixNano": time, "attributes": _attributes(properties), "exemplars": [exemplar], **measured}
    return _present({"name": name, "unit": unit, "gauge": {"dataPoints": [_present(point)]}})


def _exception(error: dict[str, Any]) -> dict[str, Any]:
    """The conventions' attributes for an error."""
    return _present(
        {
            "exception.type": error.get("type", ""),
            "exception.message": error.get("message", ""),
            "exception.stacktrace": error.get("stack", ""),
            "exception.escaped": not error.get("handled", True),
        }
    )


def _hex(name: str, text: str, chars: int, given: dict[str, Any]) -> str:
    """An id as so many hex digits; one that is none gets digits of its own, always the same, and is noted as given."""
    if not text:
        return ""
    digits = text.lower()
    if len(digits) == chars and digits.isalnum() and digits.strip("0"):
        try:
            bytes.fromhex(digits)
        except ValueError:
            pass  # a foreign id, as below
        else:
            return digits
    if text != given["leeward.event.id"]:
        given[f"leeward.{name}"] = text
    from hashlib import sha256  # noqa: PLC0415 - only for foreign ids

    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:chars]


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key or NO_KEY, "value": _any(value, 0)} for key, value in values.items()]


def _any(value: Any, depth: int) -> dict[str, Any]:
    """An AnyValue; None is the empty one."""
    kind = type(value)
    if kind is str:
        return {"stringValue": value}
    if kind is bool:
        return {"boolValue": value}
    if kind is int:
        return {"intValue" if INT64_MIN <= value <= INT64_MAX else "stringValue": str(value)}
    if kind is float:
        return {"doubleValue": value}
    if value is None:
        return {}
    if depth >= DEPTH_MAX:
        return {"stringValue": json_bytes(value).decode()}
    if kind is list:
        return {"arrayValue": {"values": [_any(one, depth + 1) for one in value]}}
    return {"kvlistValue": {"values": [{"key": key, "value": _any(one, depth + 1)} for key, one in value.items()]}}


def _number(value: float) -> dict[str, Any]:
    """The value of a point."""
    if isinstance(value, int) and INT64_MIN <= value <= INT64_MAX:
        return {"asInt": str(int(value))}
    return {"asDouble": float(value)}


def _decimal(value: int | None) -> str:
    return "" if value is None else str(value)


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    """Without empty texts and lists: absent means the same, and is shorter."""
    return {key: value for key, value in fields.items() if value not in ("", [])}
