"""Data points → events; the same from both encodings, as for traces."""

from __future__ import annotations

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from leeward.wire.otlp import decode
from otlp_exports import (
    NOW_NS,
    PROJECT,
    RECEIVED_AT,
    SPAN_ID,
    TRACE_ID,
    attributes_of,
    data_of,
    decoded,
    decoded_one,
    metrics,
    pairs,
)

POINT = {"time_unix_nano": NOW_NS, "start_time_unix_nano": NOW_NS - 5, "attributes": pairs({"a": "b"})}


def described(metric):
    event = decoded_one(metrics(metric))
    return event, attributes_of(event)["metric"]


@pytest.mark.parametrize(("value", "column"), [({"as_int": -5}, -5.0), ({"as_double": 2.5}, 2.5), ({}, None)])
def test_a_gauges_point_is_an_event_with_its_value(value, column):
    event, metric = described(
        Metric(name="rss", unit="By", description="d", gauge={"data_points": [{**POINT, **value}]})
    )

    assert (event.kind, event.name, event.unit, event.value) == ("metric", "rss", "By", column)
    assert event.timestamp == NOW_NS // 1_000_000
    assert data_of(event) == {"a": "b"}
    assert metric == {"type": "gauge", "start": str(NOW_NS - 5), "description": "d"}


def test_a_sum_says_how_it_adds_up():
    _, metric = described(
        Metric(
            name="n", sum={"data_points": [{**POINT, "as_int": 1}], "aggregation_temporality": 2, "is_monotonic": True}
        )
    )

    assert metric == {"type": "sum", "temporality": "cumulative", "monotonic": True, "start": str(NOW_NS - 5)}


def test_a_histogram_keeps_its_buckets():
    point = {**POINT, "count": 3, "sum": 4.5, "bucket_counts": [1, 2], "explicit_bounds": [0.5], "min": 0.25, "max": 4}
    event, metric = described(Metric(name="h", histogram={"data_points": [point], "aggregation_temporality": 1}))

    assert event.value == 4.5
    assert metric == {
        "type": "histogram",
        "temporality": "delta",
        "start": str(NOW_NS - 5),
        "count": 3,
        "counts": [1, 2],
        "bounds": [0.5],
        "min": 0.25,
        "max": 4.0,
    }


def test_an_exponential_histogram_keeps_its_buckets():
    buckets = {"offset": -3, "bucket_counts": [1, 0, 300]}
    point = {**POINT, "count": 301, "scale": -2, "zero_count": 1, "zero_threshold": 0.5, "positive": buckets}
    point |= {"negative": {"offset": 7}, "min": -1, "max": 2}
    event, metric = described(Metric(name="e", exponential_histogram={"data_points": [point]}))

    assert event.value is None
    assert metric == {
        "type": "exponential_histogram",
        "start": str(NOW_NS - 5),
        "count": 301,
        "scale": -2,
        "zero_count": 1,
        "zero_threshold": 0.5,
        "positive": {"offset": -3, "counts": [1, 0, 300]},
        "negative": {"offset": 7, "counts": []},
        "min": -1.0,
        "max": 2.0,
    }


def test_a_summary_keeps_its_quantiles():
    point = {**POINT, "count": 2, "sum": 3.5, "quantile_values": [{"quantile": 0.5, "value": 1.5}, {"quantile": 1.0}]}
    event, metric = described(Metric(name="q", summary={"data_points": [point]}))

    assert event.value == 3.5
    assert metric == {"type": "summary", "start": str(NOW_NS - 5), "count": 2, "quantiles": [[0.5, 1.5], [1.0, 0.0]]}


def test_exemplars_are_kept():
    exemplar = {"time_unix_nano": NOW_NS, "as_int": 5, "trace_id": TRACE_ID, "span_id": SPAN_ID}
    exemplars = [{**exemplar, "filtered_attributes": pairs({"k": 1})}, {"as_double": float("nan")}]
    event, metric = described(Metric(name="g", gauge={"data_points": [{**POINT, "as_int": 1, "exemplars": exemplars}]}))

    assert event.trace_id == ""
    assert metric["exemplars"] == [
        {
            "time": str(NOW_NS),
            "value": 5,
            "trace_id": TRACE_ID.hex(),
            "span_id": SPAN_ID.hex(),
            "attributes": {"k": 1},
        },
        {"value": "NaN"},
    ]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"as_double": float("nan")}, "NaN"),
        ({"as_double": float("-inf")}, "-Infinity"),
        ({"as_int": 2**63 - 1}, str(2**63 - 1)),
    ],
)
def test_i2_a_value_that_is_no_finite_double_is_kept_as_text(value, kept):
    event, metric = described(Metric(name="g", gauge={"data_points": [{**POINT, **value}]}))

    assert metric["value"] == kept
    assert event.value in (None, float(2**63))


@pytest.mark.parametrize("kind", ["gauge", "sum", "histogram", "exponential_histogram", "summary"])
def test_a_point_without_a_value_says_so(kind):
    _, metric = described(Metric(name="g", **{kind: {"data_points": [{**POINT, "flags": 1}]}}))

    assert metric["type"] == kind
    assert metric["no_recorded_value"] is True


@pytest.mark.parametrize("kind", ["histogram", "exponential_histogram"])
def test_exemplars_of_a_histogram_are_kept(kind):
    exemplars = [{"as_double": 1.5, "trace_id": TRACE_ID}]
    _, metric = described(Metric(name="g", **{kind: {"data_points": [{**POINT, "exemplars": exemplars}]}}))

    assert metric["exemplars"] == [{"value": 1.5, "trace_id": TRACE_ID.hex()}]


def test_points_of_several_metrics_keep_their_order_and_a_metric_without_points_is_nothing():
    found = decoded(
        metrics(
            Metric(name="a", gauge={"data_points": [{"as_int": 1}, {"as_int": 2}]}),
            Metric(name="empty", sum={}),
            Metric(name="no data"),
            Metric(name="b" * 300, unit="u" * 300, sum={"data_points": [{"as_int": 3}]}),
            resource={"service.name": "chat"},
        )
    )

    assert [(one.name[:1], one.value, one.service) for one in found] == [
        ("a", 1, "chat"),
        ("a", 2, "chat"),
        ("b", 3, "chat"),
    ]
    assert (len(found[2].name), len(found[2].unit)) == (200, 200)


def test_a_gen_ai_metric_has_its_provider_and_model():
    said = pairs({"gen_ai.provider.name": "openai", "gen_ai.request.model": "m", "user.id": "u"})
    event, _ = described(Metric(name="t", histogram={"data_points": [{**POINT, "attributes": said}]}))

    assert (event.provider, event.model, event.distinct_id) == ("openai", "m", "u")


def test_w9_a_point_is_known_by_its_stream_its_time_and_its_value():
    def gauge(name="g", **point):
        return Metric(name=name, gauge={"data_points": [{**POINT, "as_int": 1, **point}]})

    variants = [
        gauge(),
        gauge(name="h"),
        gauge(as_int=2),
        gauge(time_unix_nano=NOW_NS + 1),
        gauge(start_time_unix_nano=1),
        gauge(attributes=[]),
        Metric(name="g", sum={"data_points": [{**POINT, "as_int": 1}]}),
    ]
    ids = [decoded_one(metrics(one)).id for one in variants]

    assert len(set(ids)) == len(variants)
    assert decoded_one(metrics(gauge())).id == ids[0]
    assert decoded(metrics(gauge(), gauge()))[1].id not in ids


def test_w9_a_point_without_a_time_is_known_by_its_request_and_its_place():
    body = metrics(Metric(name="g", gauge={"data_points": [{"as_int": 1}, {"as_int": 1}]})).SerializeToString()
    first, second = decode.metrics(body, is_json=False, project=PROJECT, received_at=RECEIVED_AT).items

    assert first.id != second.id
    assert first.timestamp == RECEIVED_AT
