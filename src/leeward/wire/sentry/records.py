"""Sentry's log records and metrics → events of kind log and metric.

Their attributes become `data` without their types; of a log the body stands beside them as `message`, and an attribute
of that name as `attributes.message`. They have no ids of their own: the same record is known again by all that it says,
and equal ones of a request by their order.
"""

from __future__ import annotations

from typing import Final

import msgspec

from leeward.model import Dropped, Event
from leeward.wire.sentry.fields import Columns, Request, clean_id, columns, cut, level_of, moment_us, plain, wanted
from leeward.wire.sentry.reading import ABSENT, Reader, encode

__all__ = ["log_event", "metric_event"]

LOG_NAME: Final = "log"


class _Log(msgspec.Struct, gc=False):
    timestamp: float | str | None = None
    level: str | None = None
    severity_number: float | None = None
    body: msgspec.Raw = ABSENT
    trace_id: str | None = None
    span_id: str | None = None
    attributes: msgspec.Raw = ABSENT


class _Metric(msgspec.Struct, gc=False):
    timestamp: float | str | None = None
    name: str | None = None
    type: str | None = None
    value: float | None = None
    unit: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    attributes: msgspec.Raw = ABSENT


_LOG: Final = Reader(_Log)
_METRIC: Final = Reader(_Metric)


def log_event(request: Request, raw: bytes, index: int) -> Event | Dropped:
    """Map one log record."""
    record = _LOG.read(raw)
    if isinstance(record, Dropped):
        return record
    attributes = plain(record.attributes)
    data = attributes
    if record.body:
        data = {"message": record.body, **attributes}
        if "message" in attributes:
            data["attributes.message"] = attributes["message"]
            data["message"] = record.body
    return _event(
        request,
        record,
        kind="log",
        name=LOG_NAME,
        event_id=request.record_id(raw, timed=record.timestamp is not None, index=index),
        data=encode(data),
        level=level_of(record.level, record.severity_number),
        common=columns(wanted(attributes)),
    )


def metric_event(request: Request, raw: bytes, index: int) -> Event | Dropped:
    """Map one point of a metric."""
    point = _METRIC.read(raw)
    if isinstance(point, Dropped):
        return point
    if not point.name:
        return Dropped("invalid_field", "name: a metric must have one")
    if point.value is None:
        return Dropped("invalid_field", "value: must be a number")
    attributes = plain(point.attributes)
    return _event(
        request,
        point,
        kind="metric",
        name=cut(point.name),
        event_id=request.record_id(raw, timed=point.timestamp is not None, index=index),
        data=encode(attributes),
        level="",
        common=columns(wanted(attributes)),
        value=point.value,
        unit=cut(point.unit),
        attributes=encode({"metric": {"type": cut(point.type)}}).decode() if point.type else "",
    )


def _event(
    request: Request,
    record: _Log | _Metric,
    *,
    kind: str,
    name: str,
    event_id: str,
    data: bytes,
    level: str,
    common: Columns,
    value: float | None = None,
    unit: str = "",
    attributes: str = "",
) -> Event:
    # By position, in the order of model.Event: see there.
    return Event(
        request.project,
        kind,
        event_id,
        name,
        request.received_at,
        request.time_ms(moment_us(record.timestamp)),
        data.decode(),
        level,
        "",
        common.distinct_id,
        common.session_id,
        common.device_id,
        common.correlation_id,
        cut(clean_id(record.trace_id)),
        cut(record.span_id),
        "",
        common.service,
        common.provider,
        common.model,
        None,
        value,
        unit,
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
