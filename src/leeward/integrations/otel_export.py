"""OpenTelemetry's exporters and processors that end in the client's spool instead of on the network.

Promises  `export` returns SUCCESS once every item is in the spool: from then on a kill -9 loses nothing, and the
          client's worker delivers it for as long as that takes. It never raises, prints, logs or waits for the network.
          A processor hands each item over at the moment in which it ends, so nothing waits in memory.
Expects   a client with `wire="otlp"`, one for each signal: a signal that its collector refuses then does not hold up
          the others, and requests are not cut short wherever spans and log lines alternate.
"""

from __future__ import annotations

from os import environ

from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE
from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, MetricExportResult
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from leeward.integrations.otel_messages import log_request, metric_requests, span_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Final

    from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

    from leeward.sender.client import Client

__all__ = ["SpoolLogExporter", "SpoolLogProcessor", "SpoolMetricExporter", "SpoolSpanExporter", "SpoolSpanProcessor"]

TRACES, LOGS, METRICS = 5, 6, 7  # the record types of export requests on the client's OTLP wire
FLUSH_TIMEOUT_MS: Final = 2_000  # where nobody said how long


class _Outlet:
    """One signal's way into its client's spool."""

    def __init__(self, client: Client, record_type: int) -> None:
        self.client = client
        self._record_type = record_type

    def keep(self, requests: Iterable[bytes]) -> bool:
        """Spool them; false if one was dropped, which the client counts."""
        pipeline = self.client._begin()
        if pipeline is None:
            return False
        return all([pipeline.keep(self._record_type, request) for request in requests])  # noqa: C419 - each is tried

    def flush(self, timeout_ms: float | None) -> bool:
        """Send what waits; whether all of it went."""
        return not self.client.flush((FLUSH_TIMEOUT_MS if timeout_ms is None else timeout_ms) / 1000).spooled

    def end(self, timeout_ms: float = FLUSH_TIMEOUT_MS) -> None:
        """Send what can be sent soon; what comes later is kept for the next process."""
        self.client.shutdown(min(timeout_ms, FLUSH_TIMEOUT_MS) / 1000)


class SpoolSpanExporter(SpanExporter):
    """Spans into the spool. Behind a `BatchSpanProcessor` a kill -9 loses its queue; `SpoolSpanProcessor` has none."""

    def __init__(self, client: Client) -> None:
        self._outlet = _Outlet(client, TRACES)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Spool each span as a request of its own."""
        try:
            kept = self._outlet.keep([span_request(span) for span in spans])
        except Exception as error:
            # Boundary: whatever goes wrong in here must not reach the program that ends a span.
            self._outlet.client._swallow(error)
            kept = False
        return SpanExportResult.SUCCESS if kept else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Send what can be sent soon."""
        self._outlet.end()

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Send what waits."""
        return self._outlet.flush(timeout_millis)


class SpoolSpanProcessor(SpanProcessor):
    """Each span goes into the spool as it ends; those that the sampler did not choose are left out."""

    def __init__(self, exporter: SpoolSpanExporter) -> None:
        self._exporter = exporter

    def on_end(self, span: ReadableSpan) -> None:
        """Spool it."""
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled:
            self._exporter.export((span,))

    def shutdown(self) -> None:
        """Send what can be sent soon."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Send what waits."""
        return self._exporter.force_flush(timeout_millis)


class SpoolLogExporter(LogRecordExporter):
    """Log records into the spool; the client sends them in batches, 5 seconds apart or as soon as one is full."""

    def __init__(self, client: Client) -> None:
        self._outlet = _Outlet(client, LOGS)

    def export(self, batch: Sequence[ReadableLogRecord | ReadWriteLogRecord]) -> LogRecordExportResult:
        """Spool each record as a request of its own."""
        try:
            kept = self._outlet.keep([log_request(record) for record in batch])
        except Exception as error:
            # Boundary: as in `SpoolSpanExporter.export`.
            self._outlet.client._swallow(error)
            kept = False
        return LogRecordExportResult.SUCCESS if kept else LogRecordExportResult.FAILURE

    def shutdown(self) -> None:
        """Send what can be sent soon."""
        self._outlet.end()

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Send what waits."""
        return self._outlet.flush(timeout_millis)


class SpoolLogProcessor(LogRecordProcessor):
    """Each log record goes into the spool as it is emitted."""

    def __init__(self, exporter: SpoolLogExporter) -> None:
        self._exporter = exporter

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Spool it."""
        self._exporter.export((log_record,))

    def shutdown(self) -> None:
        """Send what can be sent soon."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Send what waits."""
        return self._exporter.force_flush(timeout_millis)


class SpoolMetricExporter(MetricExporter):
    """Collected metrics into the spool. Temporality as OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE says."""

    def __init__(self, client: Client, environment: Mapping[str, str] = environ) -> None:
        super().__init__(preferred_temporality=_temporality(environment))
        self._outlet = _Outlet(client, METRICS)

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002 - the SDK's signature; nothing here waits
        **_: Any,
    ) -> MetricExportResult:
        """Spool them, as one request if they are not too many."""
        try:
            kept = self._outlet.keep(metric_requests(metrics_data))
        except Exception as error:
            # Boundary: as in `SpoolSpanExporter.export`.
            self._outlet.client._swallow(error)
            kept = False
        return MetricExportResult.SUCCESS if kept else MetricExportResult.FAILURE

    def shutdown(self, timeout_millis: float = FLUSH_TIMEOUT_MS, *, timeout: float | None = None, **_: Any) -> None:
        """Send what can be sent soon. The SDK's own reader calls the time-out `timeout`, in milliseconds too."""
        self._outlet.end(timeout_millis if timeout is None else max(0.0, timeout))

    def force_flush(self, timeout_millis: float | None = None) -> bool:
        """Send what waits."""
        return self._outlet.flush(timeout_millis)


def _temporality(environment: Mapping[str, str]) -> dict[type, AggregationTemporality]:
    """Which instruments tell what was added since the last time; the others tell their total."""
    preference = environment.get(OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE, "").strip().upper()
    changing: tuple[type, ...] = ()
    if preference == "DELTA":
        changing = (Counter, Histogram, ObservableCounter)
    elif preference == "LOWMEMORY":
        changing = (Counter, Histogram)
    return dict.fromkeys(changing, AggregationTemporality.DELTA)
