"""A data point → its event.

    id            a hash of its stream, start, time and values; of its request and place, if it says no time
    value         of a gauge or sum its number, of the others their sum
    data          the point's attributes
    attributes    resource, scope, and `metric`: type, temporality, monotonic, start, count, bounds, counts, …, exemplars
A point of leeward's own client says whose it is in its exemplar, and comes out as on the native wire.
"""

from __future__ import annotations

import math
from typing import Any, Final

from leeward.model import Event
from leeward.wire.genai import Generation, generation
from leeward.wire.otlp import own
from leeward.wire.otlp.mapping import (
    FIELD_CHARS_MAX,
    NS_IN_MS,
    SPAN_ID_CHARS,
    TRACE_ID_CHARS,
    Request,
    hex_id,
    json_text,
    members,
    whose,
)
from leeward.wire.otlp.records import Exemplar, Point, Source, double

__all__ = ["map_point"]

TEMPORALITIES: Final = {1: "delta", 2: "cumulative"}
DETAILS: Final = (  # in one order, whatever the sender's, as ids depend on it
    *("count", "counts", "bounds", "scale", "zero_count", "zero_threshold", "positive", "negative"),
    *("quantiles", "min", "max"),
)
FLAG_NO_VALUE: Final = 1
NAMELESS: Final = "unnamed"
INT_EXACT_MAX: Final = 2**53
NO_GENERATION: Final = Generation()


def map_point(point: Point, source: Source, index: int, request: Request) -> Event:
    """The point's event; *index* is its place in the request."""
    origin = request.origin(source)
    metric = point.metric
    described = _described(point)
    time_ns = point.time_ns
    timestamp = time_ns // NS_IN_MS if time_ns else request.received_at
    ours = None
    who: dict[str, Any] = point.attributes
    if len(point.exemplars) == 1 and own.EVENT_ID in point.exemplars[0].attributes:
        exemplar = point.exemplars[0]
        who = exemplar.attributes
    belongs = whose(who, origin.whose)
    if who is not point.attributes:
        trace_id, span_id = hex_id(exemplar.trace_id, TRACE_ID_CHARS), hex_id(exemplar.span_id, SPAN_ID_CHARS)
        ours = own.take(who, trace_id=trace_id, span_id=span_id)
    if ours:
        event_id = ours.id
        timestamp = timestamp if ours.timestamp is None else ours.timestamp
        point.attributes.update(who)
        described.pop("exemplars")
    elif time_ns:
        event_id = request.id_of(
            origin.identity, metric.name, metric.unit, point.attributes, time_ns, point.value, described
        )
    else:
        event_id = request.id_at(index)
    model = generation(point.attributes) or NO_GENERATION
    return Event(
        request.project,
        "metric",
        event_id,
        metric.name[:FIELD_CHARS_MAX] or NAMELESS,
        request.received_at,
        timestamp,
        json_text(point.attributes),
        ours.level if ours else "",
        ours.status if ours else "",
        belongs.distinct_id,
        belongs.session_id or model.session_id,
        belongs.device_id,
        belongs.correlation_id,
        ours.trace_id if ours else "",
        ours.span_id if ours else "",
        ours.parent_span_id if ours else "",
        origin.service,
        model.provider,
        model.model,
        ours.duration_ms if ours else None,
        _finite(point.value),
        metric.unit[:FIELD_CHARS_MAX],
        model.input_tokens,
        model.output_tokens,
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        f"{{{f'{origin.members},'.lstrip(',')}{members({'metric': described})}}}",
    )


def _described(point: Point) -> dict[str, Any]:
    """What the metric and the point say beyond name, unit, value and time."""
    metric = point.metric
    said: dict[str, Any] = {
        "type": metric.type,
        "temporality": TEMPORALITIES.get(metric.temporality),
        "monotonic": metric.is_monotonic or None,
        "start": str(point.start_ns) if point.start_ns else None,
        **{name: point.detail[name] for name in DETAILS if name in point.detail},
        "value": _inexact(point.value),
        "no_recorded_value": bool(point.flags & FLAG_NO_VALUE) or None,
        "exemplars": [_exemplar(one) for one in point.exemplars] or None,
        "description": metric.description or None,
    }
    return {key: value for key, value in said.items() if value is not None}


def _exemplar(one: Exemplar) -> dict[str, Any]:
    said: dict[str, Any] = {
        "time": str(one.time_ns) if one.time_ns else None,
        "value": double(one.value) if type(one.value) is float else one.value,
        "trace_id": hex_id(one.trace_id, TRACE_ID_CHARS) or None,
        "span_id": hex_id(one.span_id, SPAN_ID_CHARS) or None,
        "attributes": dict(one.attributes) or None,
    }
    return {key: value for key, value in said.items() if value is not None}


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _inexact(value: float | None) -> str | None:
    """A value that the column, a finite double, does not hold."""
    if value is None:
        return None
    if type(value) is int:
        return str(value) if abs(value) > INT_EXACT_MAX else None
    return None if math.isfinite(value) else str(double(value))
