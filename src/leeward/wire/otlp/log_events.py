"""A log record → its event: a log line, a named event, or an exception.

kind          exception, if it is named so or has `exception.type` or `.message`; event, if it has a name; else log
id            a hash of all that it says; of its request and place, if it says no time
data          its attributes, and the body as `message`; a body of several members as `body`
attributes    resource, scope, and what else it has: severity, its time to the nanosecond, observed, flags, dropped
"""

from __future__ import annotations

from typing import Any, Final

from leeward.model import Event
from leeward.wire.genai import Generation, generation
from leeward.wire.otlp import own
from leeward.wire.otlp.mapping import (
    FIELD_CHARS_MAX,
    NS_IN_MS,
    SPAN_ID_CHARS,
    TRACE_ID_CHARS,
    Failure,
    Origin,
    Request,
    exception_of,
    hex_id,
    json_text,
    level_of,
    members,
    whose,
)
from leeward.wire.otlp.records import LogRecord, Source

__all__ = ["map_log_record"]

EXCEPTION: Final = "exception"
SEVERITIES: Final = ("", *("DEBUG",) * 8, *("INFO",) * 4, *("WARN",) * 4, *("ERROR",) * 4, *("FATAL",) * 4)
# The number that says no more than the level does.
PLAIN: Final = {"DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}
FLAG_SAMPLED: Final = 1
NO_GENERATION: Final = Generation()
NO_FAILURE: Final = Failure("", "", "")


def map_log_record(record: LogRecord, source: Source, index: int, request: Request) -> Event:
    """The record's event; *index* is its place in the request."""
    origin = request.origin(source)
    attributes = record.attributes
    trace_id = hex_id(record.trace_id, TRACE_ID_CHARS)
    span_id = hex_id(record.span_id, SPAN_ID_CHARS)
    time_ns = record.time_ns or record.observed_ns
    belongs = whose(attributes, origin.whose)
    model = generation(attributes) or NO_GENERATION
    level = _severity(record)
    timestamp = time_ns // NS_IN_MS if time_ns else request.received_at
    parent_span_id, status, unit = "", "", ""
    duration_ms = value = None
    ours = own.take(attributes, trace_id=trace_id, span_id=span_id)
    if ours:
        event_id = ours.id
        trace_id, span_id, parent_span_id = ours.trace_id, ours.span_id, ours.parent_span_id
        timestamp = timestamp if ours.timestamp is None else ours.timestamp
        level, status, unit = ours.level or level, ours.status, ours.unit
        duration_ms, value = ours.duration_ms, ours.value
    else:
        event_id = _id(record, origin, request) if time_ns else request.id_at(index)
    kind, name = _kind(record)
    failure = NO_FAILURE
    if kind == EXCEPTION:
        level = level or "ERROR"
        failure = exception_of(attributes)
        if ours:
            own.tell_handled(attributes, attributes)
    if not _is_told(record, failure):
        _add_body(attributes, record.body)
    return Event(
        request.project,
        kind,
        event_id,
        name,
        request.received_at,
        timestamp,
        json_text(attributes),
        level,
        status,
        belongs.distinct_id,
        belongs.session_id or model.session_id,
        belongs.device_id,
        belongs.correlation_id,
        trace_id,
        span_id,
        parent_span_id,
        origin.service,
        model.provider,
        model.model,
        duration_ms,
        value,
        unit,
        model.input_tokens,
        model.output_tokens,
        *failure,
        "",
        "",
        "",
        "",
        _column(record, origin.members, level),
    )


def _id(record: LogRecord, origin: Origin, request: Request) -> str:
    return request.id_of(
        origin.identity,
        record.time_ns,
        record.observed_ns,
        record.severity,
        record.severity_text,
        record.event_name,
        record.trace_id,
        record.span_id,
        record.body,
        record.attributes,
    )


def _kind(record: LogRecord) -> tuple[str, str]:
    name = record.event_name
    if name == EXCEPTION or not record.attributes.keys().isdisjoint(("exception.type", "exception.message")):
        return EXCEPTION, "$exception"
    return ("event", name[:FIELD_CHARS_MAX]) if name else ("log", "log")


def _severity(record: LogRecord) -> str:
    if 0 < record.severity < len(SEVERITIES):
        return SEVERITIES[record.severity]
    return level_of(record.severity_text)


def _is_told(record: LogRecord, failure: Failure) -> bool:
    """Whether the body says nothing that does not stand in a column."""
    body = record.body
    if body is None:
        return True
    if failure is NO_FAILURE:
        return bool(body) and body == record.event_name
    return body in (failure.message, f"{failure.type}: {failure.message}", failure.type or "$exception")


def _add_body(data: dict[str, Any], body: Any) -> None:
    """Put the body where no attribute stands."""
    names = ("body", "message") if type(body) is dict else ("message", "body")
    for name in (*names, "log.body"):
        if name not in data:
            data[name] = body
            return
    data["log.message"] = body


def _column(record: LogRecord, start: str, level: str) -> str:
    said: dict[str, Any] = {}
    if record.severity and record.severity != PLAIN.get(level):
        said["severity_number"] = record.severity
    if record.severity_text and record.severity_text != level:
        said["severity_text"] = record.severity_text
    if record.time_ns % NS_IN_MS:  # the order within a millisecond; as text, for readers that know only doubles
        said["time"] = str(record.time_ns)
    if record.observed_ns and record.time_ns and record.observed_ns != record.time_ns:
        said["observed"] = str(record.observed_ns)
    if record.flags & ~FLAG_SAMPLED:
        said["flags"] = record.flags
    if record.dropped_attributes:
        said["dropped"] = {"attributes": record.dropped_attributes}
    if not said:
        return f"{{{start}}}"
    return f"{{{f'{start},'.lstrip(',')}{members(said)}}}"
