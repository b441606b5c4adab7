"""The messages of OTLP/JSON, as far as leeward reads them. Names are the protocol's, in camel case on the wire.

Arrays of items stay bytes until they are counted; None stands for what is absent or null.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

__all__ = [
    "ABSENT",
    "AnyIn",
    "BucketsIn",
    "DataIn",
    "ExemplarIn",
    "KeyValueIn",
    "LinkIn",
    "LogRecordIn",
    "LogsIn",
    "MetricIn",
    "MetricsIn",
    "Number",
    "PointIn",
    "QuantileIn",
    "ResourceIn",
    "ResourceLogsIn",
    "ResourceMetricsIn",
    "ResourceSpansIn",
    "ScopeIn",
    "ScopeLogsIn",
    "ScopeMetricsIn",
    "ScopeSpansIn",
    "SpanEventIn",
    "SpanIn",
    "StatusIn",
    "TracesIn",
]

ABSENT: Final = Raw(b"null")
Number = int | float | str | None  # an integer of 64 bits, or a double


class In(msgspec.Struct, rename="camel", gc=False):
    """One message."""


class AnyIn(In):
    """AnyValue."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Number = None
    double_value: Number = None
    array_value: ValuesIn | None = None
    kvlist_value: KeyValuesIn | None = None
    bytes_value: str | None = None


class ValuesIn(In):
    """ArrayValue."""

    values: list[AnyIn | None] | None = None


class KeyValueIn(In):
    """KeyValue."""

    key: str | None = None
    value: AnyIn | None = None


class KeyValuesIn(In):
    """KeyValueList."""

    values: list[KeyValueIn] | None = None


class TracesIn(In):
    """ExportTraceServiceRequest."""

    resource_spans: Raw = ABSENT


class LogsIn(In):
    """ExportLogsServiceRequest."""

    resource_logs: Raw = ABSENT


class MetricsIn(In):
    """ExportMetricsServiceRequest."""

    resource_metrics: Raw = ABSENT


class ResourceSpansIn(In):
    """ResourceSpans."""

    resource: Raw = ABSENT
    scope_spans: Raw = ABSENT
    schema_url: str | None = None


class ResourceLogsIn(In):
    """ResourceLogs."""

    resource: Raw = ABSENT
    scope_logs: Raw = ABSENT
    schema_url: str | None = None


class ResourceMetricsIn(In):
    """ResourceMetrics."""

    resource: Raw = ABSENT
    scope_metrics: Raw = ABSENT
    schema_url: str | None = None


class ScopeSpansIn(In):
    """ScopeSpans."""

    scope: Raw = ABSENT
    spans: Raw = ABSENT
    schema_url: str | None = None


class ScopeLogsIn(In):
    """ScopeLogs."""

    scope: Raw = ABSENT
    log_records: Raw = ABSENT
    schema_url: str | None = None


class ScopeMetricsIn(In):
    """ScopeMetrics."""

    scope: Raw = ABSENT
    metrics: Raw = ABSENT
    schema_url: str | None = None


class ResourceIn(In):
    """Resource."""

    attributes: list[KeyValueIn] | None = None


class ScopeIn(In):
    """InstrumentationScope."""

    name: str | None = None
    version: str | None = None
    attributes: list[KeyValueIn] | None = None


class StatusIn(In):
    """Status."""

    code: int | None = None
    message: str | None = None


class SpanEventIn(In):
    """Span.Event."""

    time_unix_nano: Number = None
    name: str | None = None
    attributes: list[KeyValueIn] | None = None


class LinkIn(In):
    """Span.Link."""

    trace_id: str | None = None
    span_id: str | None = None
    trace_state: str | None = None
    flags: Number = None
    attributes: list[KeyValueIn] | None = None


class SpanIn(In):
    """Span."""

    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    trace_state: str | None = None
    flags: Number = None
    name: str | None = None
    kind: int | None = None
    start_time_unix_nano: Number = None
    end_time_unix_nano: Number = None
    attributes: list[KeyValueIn] | None = None
    dropped_attributes_count: Number = None
    events: list[SpanEventIn] | None = None
    dropped_events_count: Number = None
    links: list[LinkIn] | None = None
    dropped_links_count: Number = None
    status: StatusIn | None = None


class LogRecordIn(In):
    """LogRecord."""

    time_unix_nano: Number = None
    observed_time_unix_nano: Number = None
    severity_number: int | None = None
    severity_text: str | None = None
    body: AnyIn | None = None
    attributes: list[KeyValueIn] | None = None
    dropped_attributes_count: Number = None
    flags: Number = None
    trace_id: str | None = None
    span_id: str | None = None
    event_name: str | None = None


class DataIn(In):
    """Gauge, Sum, Histogram, ExponentialHistogram, Summary."""

    data_points: Raw = ABSENT
    aggregation_temporality: int | None = None
    is_monotonic: bool | None = None


class MetricIn(In):
    """Metric."""

    name: str | None = None
    description: str | None = None
    unit: str | None = None
    gauge: DataIn | None = None
    sum: DataIn | None = None
    histogram: DataIn | None = None
    exponential_histogram: DataIn | None = None
    summary: DataIn | None = None


class ExemplarIn(In):
    """Exemplar."""

    time_unix_nano: Number = None
    as_double: Number = None
    as_int: Number = None
    trace_id: str | None = None
    span_id: str | None = None
    filtered_attributes: list[KeyValueIn] | None = None


class BucketsIn(In):
    """Buckets."""

    offset: Number = None
    bucket_counts: list[Number] | None = None


class QuantileIn(In):
    """ValueAtQuantile."""

    quantile: Number = None
    value: Number = None


class PointIn(In):
    """A data point of any type: their fields do not contradict each other."""

    attributes: list[KeyValueIn] | None = None
    start_time_unix_nano: Number = None
    time_unix_nano: Number = None
    flags: Number = None
    exemplars: list[ExemplarIn] | None = None
    as_double: Number = None
    as_int: Number = None
    count: Number = None
    sum: Number = None
    min: Number = None
    max: Number = None
    bucket_counts: list[Number] | None = None
    explicit_bounds: list[Number] | None = None
    scale: int | None = None
    zero_count: Number = None
    zero_threshold: Number = None
    positive: BucketsIn | None = None
    negative: BucketsIn | None = None
    quantile_values: list[QuantileIn] | None = None
