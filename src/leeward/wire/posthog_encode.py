"""Values → PostHog's events, for the client: standard library only, imported when that wire is configured.

Promises  one line of valid UTF-8 JSON per event (see `json_text`), with a valid uuid, a distinct id and a time in UTC.
          The caller's properties win over ours. What the wire cannot say in its own field stays a property: a foreign
          id as `$leeward_id`, a time that PostHog could not read as `$leeward_timestamp`.
Expects   values that `scrub/values` has bounded. The project's key is not in here: the request brings it.

    kind        event          properties besides the common ones
    event       its name       duration_ms, value, unit, status: those that are given
    exception   $exception     $exception_list and $exception_level; $exception_type, $exception_message,
                               $exception_stack_trace and $exception_person for those who read the older form
    span        $span          $span_name, duration_ms, status; an error as above
    log         $log           message
    metric      $metric        $metric_name, value, unit
"""

from __future__ import annotations

from leeward.version import VERSION
from leeward.wire.instants import iso_utc
from leeward.wire.json_text import json_bytes, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["EVENT", "encode", "load"]

EVENT: Final = 1  # the type of this wire's records in the spool
LIBRARY: Final = "leeward"
# An exception's level is in PostHog's words; the plain property `level` is in ours.
EXCEPTION_LEVELS: Final = {"DEBUG": "debug", "INFO": "info", "WARN": "warning", "ERROR": "error", "FATAL": "fatal"}
UUID_CHARS: Final = 36
UUID_HEX_CHARS: Final = 32
UUID_DASHES: Final = (8, 13, 18, 23)
UUID_NAMESPACE_URL: Final = bytes.fromhex("6ba7b8119dad11d180b400c04fd430c8")  # RFC 9562, section 6.6


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
    """One item of any kind as an event, and its record type. An exception's `name` is always `$exception`."""
    person = distinct_id or device_id or id
    ours = {
        key: one
        for key, one in (
            ("$lib", LIBRARY),
            ("$lib_version", VERSION),
            ("$geoip_disable", True),  # the address that the server sees is this machine's, not the person's
            ("$session_id", session_id),
            ("$device_id", device_id),
            ("$trace_id", trace_id),
            ("$span_id", span_id),
            ("$parent_span_id", parent_span_id),
            ("correlation_id", correlation_id),
            ("level", level),
            ("duration_ms", duration_ms),
            ("value", value),
            ("unit", unit),
            ("status", status),
            ("service", service),
        )
        if one is not None and one != ""
    }
    if not (distinct_id or device_id):
        ours["$process_person_profile"] = False  # events of nobody must not make a person each
    uuid = as_uuid(id)
    if uuid is None:
        uuid = _derived_uuid(id)
        ours["$leeward_id"] = id
    fields: dict[str, Any] = {"event": name, "distinct_id": person, "uuid": uuid}
    timestamp = iso_utc(timestamp_ms)
    if timestamp is None:
        ours["$leeward_timestamp"] = timestamp_ms
    else:
        fields["timestamp"] = timestamp
    if kind != "event":
        fields["event"] = "$" + kind
        if kind in {"span", "metric"}:
            ours[f"${kind}_name"] = name
    if error or kind == "exception":
        ours.update(_exception(error or {}, level, person))
    fields["properties"] = {**ours, **properties}
    return EVENT, json_bytes(fields)


def as_uuid(id: str) -> str | None:
    """`id` with its dashes if it is a UUID, else None."""
    if len(id) == UUID_CHARS:
        if any(id[place] != "-" for place in UUID_DASHES):
            return None
        digits, text = id.replace("-", ""), id
    else:
        digits, text = id, f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}"
    if len(digits) != UUID_HEX_CHARS or not digits.isalnum():
        return None
    try:
        bytes.fromhex(digits)
    except ValueError:
        return None
    return text


def _derived_uuid(id: str) -> str:
    """The same UUID for the same id, always: `uuid5(NAMESPACE_URL, "leeward:" + id)`, without importing `uuid`."""
    from hashlib import sha1  # noqa: PLC0415 - only for foreign ids

    name = f"leeward:{id}".encode("utf-8", "surrogatepass")
    digest = bytearray(sha1(UUID_NAMESPACE_URL + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    digits = digest.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _exception(error: dict[str, Any], level: str, person: str) -> dict[str, Any]:
    """An error's properties: the current list, and the flat keys of the older form."""
    described = error.get("exceptions") or [{"type": error.get("type", ""), "value": error.get("message", "")}]
    return {
        "$exception_list": [_listed(one, index, error.get("handled", True)) for index, one in enumerate(described)],
        "$exception_level": EXCEPTION_LEVELS.get(level, "error"),
        "$exception_type": error.get("type", ""),
        "$exception_message": error.get("message", ""),
        "$exception_stack_trace": error.get("stack", ""),
        "$exception_person": person,
    }


def _listed(one: dict[str, Any], index: int, handled: bool) -> dict[str, Any]:
    """One exception of the chain, the outermost first; its frames keep their order, the oldest call first."""
    mechanism: dict[str, Any] = {
        "type": "chained" if index else "generic",
        "handled": handled,
        "synthetic": False,
        "exception_id": one.get("exception_id", index),
    }
    if one.get("parent_id") is not None:
        mechanism["parent_id"] = one["parent_id"]
    if one.get("source"):
        mechanism["source"] = one["source"]
    return {
        "type": one.get("type", ""),
        "value": one.get("value", ""),
        "module": one.get("module"),
        "mechanism": mechanism,
        "stacktrace": {"type": "raw", "frames": [{"platform": "python", **frame} for frame in one.get("frames", ())]},
    }
