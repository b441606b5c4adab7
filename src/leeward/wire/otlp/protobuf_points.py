"""Metrics and their data points in protobuf: positions in one body → values, for `protobuf_requests`."""

from __future__ import annotations

import struct
from typing import Any, Final

from leeward.wire.otlp.protobuf import Broken, Reader, double_at, fields, number_at, signed, signed_32, varints, zigzag
from leeward.wire.otlp.records import (
    BUCKETS_MAX,
    ITEMS_MAX,
    Exemplar,
    Metric,
    Point,
    double,
    too_many_buckets,
    too_many_items,
)

__all__ = ["BUILDERS", "find_points"]

Range = tuple[int, int]


def find_points(reader: Reader, pos: int, end: int, count: int) -> tuple[Metric, list[Range]]:
    """One metric without its points, and where these are; *count* points stand before them."""
    metric = Metric("", "", "", "gauge", 0, False)
    points: list[Range] = []
    for tag, start, stop in fields(reader.raw, pos, end):
        if tag == 0x0A:
            metric.name = reader.text(start, stop)
        elif tag == 0x12:
            metric.description = reader.text(start, stop)
        elif tag == 0x1A:
            metric.unit = reader.text(start, stop)
        elif tag in _TYPES:
            metric.type = _TYPES[tag]
            points = []  # of a choice, the last word counts
            for inner_tag, inner, inner_stop in fields(reader.raw, start, stop):
                if inner_tag == 0x0A:
                    points.append((inner, inner_stop))
                    if count + len(points) > ITEMS_MAX:
                        raise too_many_items("data points")
                elif inner_tag == 0x10:
                    metric.temporality = signed_32(inner)
                elif inner_tag == 0x18:
                    metric.is_monotonic = inner != 0
    return metric, points


_TYPES: Final = {0x2A: "gauge", 0x3A: "sum", 0x4A: "histogram", 0x52: "exponential_histogram", 0x5A: "summary"}


def _number_point(metric: Metric, reader: Reader, pos: int, end: int) -> Point:
    raw = reader.raw
    attributes, rest = reader.record(pos, end, 0x3A)
    point = Point(metric, attributes, 0, 0, 0, None, {}, [])
    for tag, start, stop in rest:
        if tag == 0x11:
            point.start_ns = number_at(raw, start, stop)
        elif tag == 0x19:
            point.time_ns = number_at(raw, start, stop)
        elif tag == 0x21:
            point.value = double_at(raw, start)
        elif tag == 0x31:
            point.value = signed(number_at(raw, start, stop))
        elif tag == 0x2A:
            point.exemplars.append(_exemplar(reader, start, stop))
        elif tag == 0x40:
            point.flags = start
    return point


def _histogram_point(metric: Metric, reader: Reader, pos: int, end: int) -> Point:
    raw = reader.raw
    attributes, rest = reader.record(pos, end, 0x4A)
    detail: dict[str, Any] = {"count": 0}
    point = Point(metric, attributes, 0, 0, 0, None, detail, [])
    for tag, start, stop in rest:
        if tag == 0x11:
            point.start_ns = number_at(raw, start, stop)
        elif tag == 0x19:
            point.time_ns = number_at(raw, start, stop)
        elif tag == 0x21:
            detail["count"] = number_at(raw, start, stop)
        elif tag == 0x29:
            point.value = double_at(raw, start)
        elif tag in {0x31, 0x32}:
            detail.setdefault("counts", []).extend(_eights(raw, start, stop, "Q"))
        elif tag in {0x39, 0x3A}:
            detail.setdefault("bounds", []).extend(map(double, _eights(raw, start, stop, "d")))
        elif tag == 0x42:
            point.exemplars.append(_exemplar(reader, start, stop))
        elif tag == 0x50:
            point.flags = start
        elif tag == 0x59:
            detail["min"] = double(double_at(raw, start))
        elif tag == 0x61:
            detail["max"] = double(double_at(raw, start))
    return point


def _exponential_point(metric: Metric, reader: Reader, pos: int, end: int) -> Point:
    raw = reader.raw
    attributes, rest = reader.record(pos, end, 0x0A)
    detail: dict[str, Any] = {"count": 0, "scale": 0, "zero_count": 0}
    point = Point(metric, attributes, 0, 0, 0, None, detail, [])
    for tag, start, stop in rest:
        if tag == 0x11:
            point.start_ns = number_at(raw, start, stop)
        elif tag == 0x19:
            point.time_ns = number_at(raw, start, stop)
        elif tag == 0x21:
            detail["count"] = number_at(raw, start, stop)
        elif tag == 0x29:
            point.value = double_at(raw, start)
        elif tag == 0x30:
            detail["scale"] = zigzag(start)
        elif tag == 0x39:
            detail["zero_count"] = number_at(raw, start, stop)
        elif tag in {0x42, 0x4A}:
            detail["positive" if tag == 0x42 else "negative"] = _buckets(raw, start, stop)
        elif tag == 0x50:
            point.flags = start
        elif tag == 0x5A:
            point.exemplars.append(_exemplar(reader, start, stop))
        elif tag in _EXPONENTIAL_DOUBLES:
            detail[_EXPONENTIAL_DOUBLES[tag]] = double(double_at(raw, start))
    if detail.get("zero_threshold") == 0:
        del detail["zero_threshold"]  # as good as absent
    return point


_EXPONENTIAL_DOUBLES: Final = {0x61: "min", 0x69: "max", 0x71: "zero_threshold"}


def _buckets(raw: bytes, pos: int, end: int) -> dict[str, Any]:
    offset = 0
    counts: list[int] = []
    for tag, start, stop in fields(raw, pos, end):
        if tag == 0x08:
            offset = zigzag(start)
        elif tag == 0x10:
            counts.append(start)
        elif tag == 0x12:
            counts.extend(varints(raw, start, stop))
        if len(counts) > BUCKETS_MAX:
            raise too_many_buckets()
    return {"offset": offset, "counts": counts}


def _summary_point(metric: Metric, reader: Reader, pos: int, end: int) -> Point:
    raw = reader.raw
    attributes, rest = reader.record(pos, end, 0x3A)
    detail: dict[str, Any] = {"count": 0}
    point = Point(metric, attributes, 0, 0, 0, 0.0, detail, [])  # a sum without presence: absent is 0
    for tag, start, stop in rest:
        if tag == 0x11:
            point.start_ns = number_at(raw, start, stop)
        elif tag == 0x19:
            point.time_ns = number_at(raw, start, stop)
        elif tag == 0x21:
            detail["count"] = number_at(raw, start, stop)
        elif tag == 0x29:
            point.value = double_at(raw, start)
        elif tag == 0x32:
            detail.setdefault("quantiles", []).append(_quantile(raw, start, stop))
        elif tag == 0x40:
            point.flags = start
    return point


def _quantile(raw: bytes, pos: int, end: int) -> list[float | str]:
    pair: list[float | str] = [0.0, 0.0]
    for tag, start, _ in fields(raw, pos, end):
        if tag in {0x09, 0x11}:
            pair[tag == 0x11] = double(double_at(raw, start))
    return pair


def _exemplar(reader: Reader, pos: int, end: int) -> Exemplar:
    raw = reader.raw
    attributes, rest = reader.record(pos, end, 0x3A)
    exemplar = Exemplar(0, None, "", "", attributes)
    for tag, start, stop in rest:
        if tag == 0x11:
            exemplar.time_ns = number_at(raw, start, stop)
        elif tag == 0x19:
            exemplar.value = double_at(raw, start)
        elif tag == 0x31:
            exemplar.value = signed(number_at(raw, start, stop))
        elif tag == 0x22:
            exemplar.span_id = raw[start:stop].hex()
        elif tag == 0x2A:
            exemplar.trace_id = raw[start:stop].hex()
    return exemplar


def _eights(raw: bytes, start: int, stop: int, form: str) -> tuple[Any, ...]:
    """Numbers of eight bytes each, packed or one alone."""
    count, over = divmod(stop - start, 8)
    if over:
        raise Broken
    if count > BUCKETS_MAX:
        raise too_many_buckets()
    return struct.unpack_from(f"<{count}{form}", raw, start)


BUILDERS: Final = {
    "gauge": _number_point,
    "sum": _number_point,
    "histogram": _histogram_point,
    "exponential_histogram": _exponential_point,
    "summary": _summary_point,
}
