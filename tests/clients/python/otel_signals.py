"""opentelemetry-sdk with its exporters over HTTP: spans, log records, metrics; protobuf, or JSON if VARIANT says so."""

import logging

import opentelemetry.exporter.otlp.json.http._log_exporter as json_logs
import opentelemetry.exporter.otlp.json.http.metric_exporter as json_metrics
import opentelemetry.exporter.otlp.json.http.trace_exporter as json_traces
import opentelemetry.exporter.otlp.proto.http._log_exporter as protobuf_logs
import opentelemetry.exporter.otlp.proto.http.metric_exporter as protobuf_metrics
import opentelemetry.exporter.otlp.proto.http.trace_exporter as protobuf_traces
from given import RUN, VARIANT, fail, numbers, otlp_environment
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

otlp_environment(**VARIANT.get("environment", {}))
as_json = VARIANT.get("json")
spans = (json_traces if as_json else protobuf_traces).OTLPSpanExporter()
records = (json_logs if as_json else protobuf_logs).OTLPLogExporter()
points = (json_metrics if as_json else protobuf_metrics).OTLPMetricExporter()

tracers = TracerProvider()
tracers.add_span_processor(BatchSpanProcessor(spans, schedule_delay_millis=200))
loggers = LoggerProvider()
loggers.add_log_record_processor(BatchLogRecordProcessor(records, schedule_delay_millis=200))
meters = MeterProvider([PeriodicExportingMetricReader(points, 3_600_000)])
tracer = tracers.get_tracer("steps", "1.2")
meter = meters.get_meter("steps", "1.2")
steps, durations = meter.create_counter("steps", "1"), meter.create_histogram("step.duration", "ms")
log = logging.getLogger("steps")
log.addHandler(LoggingHandler(logger_provider=loggers))
log.setLevel(logging.INFO)

for n in numbers():
    with tracer.start_as_current_span("step", attributes={"n": n, "user.id": "ada", "list": ["a", "b"]}):
        try:
            with tracer.start_as_current_span("part", attributes={"n": n}):
                fail(n)
        except ValueError:
            log.warning("step %d", n, extra={"n": n})
        steps.add(1, {"n": n})
        durations.record(1.5, {"n": n})
for provider in (tracers, loggers, meters):
    provider.shutdown()
print(RUN, flush=True)
