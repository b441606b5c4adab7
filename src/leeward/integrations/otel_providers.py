"""The SDK's providers with our processors on them, and the way back.

A program has one provider for each signal, which cannot be replaced. If it has one already, ours joins it.
"""

from __future__ import annotations

import logging

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider, set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider

from leeward.integrations.otel_export import (
    SpoolLogExporter,
    SpoolLogProcessor,
    SpoolMetricExporter,
    SpoolSpanExporter,
    SpoolSpanProcessor,
)
from leeward.integrations.otel_genai import BUCKETS
from leeward.integrations.otel_logging import OtelHandler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from leeward.sender.client import Client

__all__ = ["Providers"]

COLLECT_TIMEOUT_MS: Final = 1_000


class Providers:
    """Built for the signals that have a client: "traces", "logs", "metrics"; None for the others."""

    def __init__(
        self,
        clients: Mapping[str, Client],
        *,
        service: str | None,
        app: str,
        resource: Resource | Mapping[str, Any] | None,
        metrics_interval_s: float | None,
        set_global: bool,
        log_level: int | str | None,
    ) -> None:
        self.tracer: TracerProvider | None = None
        self.logger: LoggerProvider | None = None
        self.meter: MeterProvider | None = None
        self._reader: PeriodicExportingMetricReader | None = None
        self._handler: OtelHandler | None = None
        source = _resource(service, app, resource)
        if "metrics" in clients:
            interval_ms = None if metrics_interval_s is None else metrics_interval_s * 1000
            self._reader = PeriodicExportingMetricReader(SpoolMetricExporter(clients["metrics"]), interval_ms)
            self.meter = _meter_provider(self._reader, source, set_global=set_global)
        if "traces" in clients:
            self.tracer = _tracer_provider(source, set_global=set_global)
            self.tracer.add_span_processor(SpoolSpanProcessor(SpoolSpanExporter(clients["traces"])))
        if "logs" in clients:
            self.logger = _logger_provider(source, set_global=set_global)
            self.logger.add_log_record_processor(SpoolLogProcessor(SpoolLogExporter(clients["logs"])))
            if log_level is not None:
                self._handler = OtelHandler(log_level, clients["logs"], self.logger)
                logging.getLogger().addHandler(self._handler)

    def collect(self) -> None:
        """Take the metrics as they are now."""
        if self._reader is not None:
            self._reader.collect(timeout_millis=COLLECT_TIMEOUT_MS)

    def close(self, timeout_s: float) -> None:
        """Take the metrics for the last time and send them, and nothing of `logging` any more."""
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.shutdown(timeout_millis=max(COLLECT_TIMEOUT_MS, timeout_s * 1000))


def _resource(service: str | None, app: str, given: Resource | Mapping[str, Any] | None) -> Resource:
    """Arguments first, then OpenTelemetry's own variables, then the app's name."""
    named = {} if not service else {SERVICE_NAME: service}
    if isinstance(given, Resource):
        return given.merge(Resource(named))
    told = Resource.create({**(given or {}), **named})
    name, _, version = app.partition("/")
    if name and str(told.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        told = told.merge(Resource({SERVICE_NAME: name, SERVICE_VERSION: version} if version else {SERVICE_NAME: name}))
    return told


def _tracer_provider(resource: Resource, *, set_global: bool) -> TracerProvider:
    present = trace.get_tracer_provider()
    if set_global and isinstance(present, TracerProvider):
        return present
    made = TracerProvider(resource=resource, shutdown_on_exit=False)  # our clients have an exit of their own
    if set_global:
        trace.set_tracer_provider(made)
    return made


def _logger_provider(resource: Resource, *, set_global: bool) -> LoggerProvider:
    present = get_logger_provider()
    if set_global and isinstance(present, LoggerProvider):
        return present
    made = LoggerProvider(resource=resource, shutdown_on_exit=False)
    if set_global:
        set_logger_provider(made)
    return made


def _meter_provider(reader: PeriodicExportingMetricReader, resource: Resource, *, set_global: bool) -> MeterProvider:
    present = metrics.get_meter_provider()
    if set_global and isinstance(present, MeterProvider):
        present.add_metric_reader(reader)
        return present
    views = [
        View(instrument_name=name, aggregation=ExplicitBucketHistogramAggregation(boundaries))
        for name, boundaries in BUCKETS.items()
    ]
    made = MeterProvider([reader], resource=resource, shutdown_on_exit=False, views=views)
    if set_global:
        metrics.set_meter_provider(made)
    return made
