"""Sentry's transactions and spans → events of kind span.

A transaction becomes its root span and one span for each of `spans`; the root keeps the payload without them. What a
span says of itself stands in `data` in one form, whether it came inside a transaction or as an item of its own: its
attributes as a plain object, with `sentry.op` and `sentry.origin` among them. A span's id is made of trace, span and
start, so the same span that comes twice, in whatever form, is stored once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from leeward.model import Dropped, Event
from leeward.wire.sentry.errors import Trace, common_columns, trace_of
from leeward.wire.sentry.fields import (
    NO_COLUMNS,
    Columns,
    Request,
    clean_id,
    columns,
    cut,
    moment_us,
    plain,
    span_key,
    wanted,
)
from leeward.wire.sentry.reading import ABSENT, Reader, encode, is_given, members, split_list

__all__ = ["span_event", "transaction_events"]

UNNAMED: Final = "<unnamed>"
EVENT_ID_KEY: Final = "sentry.event_id"
_STATUSES: Final = frozenset({"ok", "error"})
_NEUTRAL: Final = frozenset({"unset", "unknown", "unknown_error"})


class _Transaction(msgspec.Struct, gc=False):
    event_id: str | None = None
    transaction: str | None = None
    start_timestamp: float | str | None = None
    timestamp: float | str | None = None
    contexts: msgspec.Raw = ABSENT
    user: msgspec.Raw = ABSENT
    tags: msgspec.Raw = ABSENT
    spans: msgspec.Raw = ABSENT


class _Span(msgspec.Struct, gc=False):
    """A span of either form: `description`, `timestamp` and `data`, or `name`, `end_timestamp` and `attributes`."""

    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    name: str | None = None
    description: str | None = None
    op: str | None = None
    status: str | None = None
    start_timestamp: float | str | None = None
    end_timestamp: float | str | None = None
    timestamp: float | str | None = None
    data: msgspec.Raw = ABSENT
    attributes: msgspec.Raw = ABSENT


_TRANSACTION: Final = Reader(_Transaction)
_SPAN: Final = Reader(_Span)
# Fields of a span that have a column, or are taken apart; what else it has stays beside its attributes.
_SPAN_COLUMNS: Final = frozenset(_Span.__struct_fields__) - {"op", "status"}
_NAMES_IN_DATA: Final = {"op": "sentry.op", "origin": "sentry.origin", "status": "sentry.status"}


def transaction_events(request: Request, raw: bytes, index: int) -> list[Event | Dropped]:
    """Map a transaction's payload: its root span, then those inside it.

    Raises:
        ProtocolError: 413 `payload_too_large`: too many spans.
    """
    payload = _TRANSACTION.read(raw)
    if isinstance(payload, Dropped):
        return [payload]
    spans = split_list(payload.spans) if is_given(payload.spans) else []
    event_id = request.take_event_id() or clean_id(payload.event_id)
    trace = trace_of(payload.contexts)
    attributes = encode({EVENT_ID_KEY: event_id}).decode() if event_id else ""
    common = common_columns(payload.tags, payload.user)
    if trace.data:
        common = _over(common, columns(wanted(members(trace.data))))
    root = _event(
        request,
        _root_span(payload, trace),
        name=payload.transaction or trace.op or UNNAMED,
        data=_without_spans(raw) if payload.spans else raw,
        common=common,
        attributes=attributes,
        # A transaction without a trace is still one: its own id names it.
        other_id=lambda: event_id or request.record_id(raw, timed=False, index=index),
    )
    if isinstance(spans, Dropped):
        return [root, Dropped(spans.code, f"spans: {spans.error}")]
    shared = Columns(distinct_id=common.distinct_id, session_id=common.session_id, service=common.service)
    return [
        root,
        *(
            _span(request, bytes(span), index + 1 + at, shared=shared, attributes=attributes)
            for at, span in enumerate(spans)
        ),
    ]


def span_event(request: Request, raw: bytes, index: int) -> Event | Dropped:
    """Map one span that came as an item, or in the list of one."""
    return _span(request, raw, index, shared=NO_COLUMNS, attributes="")


def _root_span(payload: _Transaction, trace: Trace) -> _Span:
    return _Span(
        trace_id=trace.trace_id,
        span_id=trace.span_id,
        parent_span_id=trace.parent_span_id,
        status=trace.status,
        start_timestamp=payload.start_timestamp,
        end_timestamp=payload.timestamp,
    )


def _without_spans(raw: bytes) -> bytes:
    fields = members(raw)
    fields.pop("spans", None)
    return encode(fields)


def _span(request: Request, raw: bytes, index: int, *, shared: Columns, attributes: str) -> Event | Dropped:
    span = _SPAN.read(raw)
    if isinstance(span, Dropped):
        return span
    fields = members(raw)
    own = plain(span.attributes) if span.attributes else members(span.data)
    data = dict(own)
    for key, value in fields.items():
        if key not in _SPAN_COLUMNS and is_given(value) and not (key == "status" and span.status in _STATUSES):
            data.setdefault(_NAMES_IN_DATA.get(key, key), value)
    timed = span.start_timestamp is not None
    return _event(
        request,
        span,
        name=span.name or span.description or span.op or UNNAMED,
        data=encode(data),
        common=_over(shared, columns(wanted(own))),
        attributes=attributes,
        other_id=lambda: request.record_id(raw, timed=timed, index=index),
    )


def _over(below: Columns, above: Columns) -> Columns:
    """The columns of *above*, and of *below* where those are empty."""
    if below is NO_COLUMNS or above is NO_COLUMNS:
        return above if below is NO_COLUMNS else below
    return Columns._make(low if high in {"", None} else high for low, high in zip(below, above, strict=True))


def _event(
    request: Request,
    span: _Span,
    *,
    name: str,
    data: bytes,
    common: Columns,
    attributes: str,
    other_id: Callable[[], str],
) -> Event:
    start_us = moment_us(span.start_timestamp)
    end_us = moment_us(span.end_timestamp if span.end_timestamp is not None else span.timestamp)
    trace_id = cut(clean_id(span.trace_id))
    span_id = cut(span.span_id).lower()  # hex, as in OpenTelemetry, where its case means nothing
    status = _status(span.status)
    duration_ms = (end_us - start_us) / 1000 if start_us is not None and end_us is not None else None
    # By position, in the order of model.Event: see there.
    return Event(
        request.project,
        "span",
        span_key(trace_id, span_id, start_us) or other_id(),
        cut(name),
        request.received_at,
        request.time_ms(start_us if start_us is not None else end_us),
        data.decode(),
        "ERROR" if status == "error" else "",
        status,
        common.distinct_id,
        common.session_id,
        common.device_id,
        common.correlation_id,
        trace_id,
        span_id,
        cut(span.parent_span_id).lower(),
        common.service,
        common.provider,
        common.model,
        duration_ms if duration_ms is None or duration_ms >= 0 else None,
        None,
        "",
        common.input_tokens,
        common.output_tokens,
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        attributes,
    )


def _status(said: str | None) -> str:
    """`ok`, `error`, or empty: Sentry has fifteen words for what went wrong, and they stay in the data."""
    if not said or said in _NEUTRAL:
        return ""
    return "ok" if said == "ok" else "error"
