"""A span → its event, and an event of its own for each exception that it recorded.

    id            `{trace}:{span}:{start ns}`; an exception's `{trace}:{span}:{its ns}:{its place}`
    data          the span's attributes
    attributes    resource, scope, span_kind, and what else the span has: status_message, events, links, trace_state,
                  flags, dropped
A span of leeward's own client has its error in its own columns, as on the native wire.
"""

from __future__ import annotations

from typing import Any, Final

from leeward.model import Dropped, Event
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
    Whose,
    exception_of,
    hex_id,
    json_text,
    level_of,
    members,
    text_of,
    whose,
)
from leeward.wire.otlp.records import Source, Span, SpanEvent

__all__ = ["map_span"]

KINDS: Final = ("", "internal", "server", "client", "producer", "consumer")
STATUSES: Final = {1: "ok", 2: "error"}
NAMELESS: Final = "unnamed"
EXCEPTION: Final = "exception"
KNOWN_FLAGS: Final = 0x301  # sampled, and whether the parent is remote: nearly every span has them
NO_GENERATION: Final = Generation()
ERROR_TYPE: Final = ("error.type",)
NO_FAILURE: Final = Failure("", "", "")


def map_span(span: Span, source: Source, request: Request) -> list[Event | Dropped]:
    """The span's event first, then those of its exceptions."""
    trace_id = hex_id(span.trace_id, TRACE_ID_CHARS)
    span_id = hex_id(span.span_id, SPAN_ID_CHARS)
    if not trace_id or not span_id:
        return [Dropped("invalid_id", "a span needs a trace id of 16 bytes and a span id of 8, neither all zero")]
    origin = request.origin(source)
    attributes = span.attributes
    belongs = whose(attributes, origin.whose)
    model = generation(attributes) or NO_GENERATION
    if model.session_id and not belongs.session_id:
        belongs = belongs._replace(session_id=model.session_id)
    start_ns = span.start_ns
    status = STATUSES.get(span.status_code, "")
    event_id = f"{trace_id}:{span_id}:{start_ns}"
    timestamp = start_ns // NS_IN_MS if start_ns else request.received_at
    level = "ERROR" if status == "error" else level_of(attributes.get("langfuse.observation.level"))
    duration_ms = (span.end_ns - start_ns) / NS_IN_MS if start_ns and span.end_ns >= start_ns else None
    parent_span_id = hex_id(span.parent_span_id, SPAN_ID_CHARS)
    unit, value = "", None
    exceptions = [one for one in enumerate(span.events) if one[1].name == EXCEPTION] if span.events else []
    failure = Failure(text_of(attributes, ERROR_TYPE), "", "") if status == "error" else NO_FAILURE
    ours = own.take(attributes, trace_id=trace_id, span_id=span_id)
    if ours:
        event_id, level, unit, value = ours.id, ours.level, ours.unit, ours.value
        trace_id, span_id = ours.trace_id, ours.span_id
        status = ours.status or status
        timestamp = timestamp if ours.timestamp is None else ours.timestamp
        duration_ms = duration_ms if ours.duration_ms is None else ours.duration_ms
        parent_span_id = ours.parent_span_id or parent_span_id
        if len(exceptions) == 1:
            failure = _own_failure(exceptions.pop()[1], attributes)
    event = Event(
        request.project,
        "span",
        event_id,
        span.name[:FIELD_CHARS_MAX] or NAMELESS,
        request.received_at,
        timestamp,
        json_text(attributes),
        level,
        status,
        belongs.distinct_id,
        belongs.session_id,
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
        failure.type,
        failure.message,
        failure.stack,
        "",
        "",
        "",
        "",
        _column(span, origin),
    )
    return [event, *(_exception(*one, span, origin, belongs, model, request) for one in exceptions)]


def _column(span: Span, origin: Origin) -> str:
    """The attributes column. Most spans have nothing of their own in it but their kind."""
    text = origin.by_kind.get(span.kind)
    if text is None:
        kind = KINDS[span.kind] if 0 <= span.kind < len(KINDS) else str(span.kind)
        text = origin.members + (f',"span_kind":"{kind}"' if kind else "")
        if len(origin.by_kind) < len(KINDS):
            origin.by_kind[span.kind] = text
    others = [event for event in span.events if event.name != EXCEPTION] if span.events else []
    late = span.end_ns and span.end_ns < span.start_ns
    if not (others or span.links or span.status_message or span.trace_state or span.dropped or late) and (
        not span.flags & ~KNOWN_FLAGS
    ):
        return f"{{{text.lstrip(',')}}}"
    said: dict[str, Any] = {
        "status_message": span.status_message,
        "events": [_present({"name": e.name, "time": _decimal(e.time_ns), "attributes": e.attributes}) for e in others],
        "links": [
            _present(
                {
                    "trace_id": link.trace_id,
                    "span_id": link.span_id,
                    "trace_state": link.trace_state,
                    "flags": link.flags,
                    "attributes": link.attributes,
                }
            )
            for link in span.links
        ],
        "trace_state": span.trace_state,
        "flags": span.flags if span.flags & ~KNOWN_FLAGS else 0,
        "dropped": span.dropped,
        "end": _decimal(span.end_ns) if late else "",  # a clock that was set back: there is no duration to keep it in
    }
    return f"{{{f'{text},'.lstrip(',')}{members(_present(said))}}}"


def _exception(
    index: int,
    event: SpanEvent,
    span: Span,
    origin: Origin,
    belongs: Whose,
    model: Generation,
    request: Request,
) -> Event:
    failure = exception_of(event.attributes)
    time_ns = event.time_ns or span.end_ns or span.start_ns
    return Event(
        request.project,
        EXCEPTION,
        f"{span.trace_id}:{span.span_id}:{time_ns}:{index}",
        "$exception",
        request.received_at,
        time_ns // NS_IN_MS if time_ns else request.received_at,
        json_text(event.attributes),
        "ERROR",
        "",
        belongs.distinct_id,
        belongs.session_id,
        belongs.device_id,
        belongs.correlation_id,
        span.trace_id,
        span.span_id,
        hex_id(span.parent_span_id, SPAN_ID_CHARS),
        origin.service,
        model.provider,
        model.model,
        None,
        None,
        "",
        None,
        None,
        failure.type,
        failure.message,
        failure.stack,
        "",
        "",
        "",
        "",
        f"{{{origin.members}}}",
    )


def _own_failure(event: SpanEvent, attributes: dict[str, Any]) -> Failure:
    """The error of a span that our client recorded; what else is said of it goes to the span's own data."""
    failure = exception_of(event.attributes)
    own.tell_handled(event.attributes, attributes)
    for name, value in event.attributes.items():
        attributes.setdefault(name, value)
    return failure


def _decimal(time_ns: int) -> str:
    """Nanoseconds as text: readers of JSON lose the last digits of such numbers."""
    return str(time_ns) if time_ns else ""


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}
