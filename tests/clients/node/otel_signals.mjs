// @opentelemetry for Node: spans, log records, metrics; JSON over HTTP, or protobuf if VARIANT says so.
import { SpanStatusCode, context, trace } from "@opentelemetry/api";
import { SeverityNumber } from "@opentelemetry/api-logs";
import * as jsonLogs from "@opentelemetry/exporter-logs-otlp-http";
import * as protobufLogs from "@opentelemetry/exporter-logs-otlp-proto";
import * as jsonMetrics from "@opentelemetry/exporter-metrics-otlp-http";
import * as protobufMetrics from "@opentelemetry/exporter-metrics-otlp-proto";
import * as jsonTraces from "@opentelemetry/exporter-trace-otlp-http";
import * as protobufTraces from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

import { HOST, KEY, RUN, VARIANT, fail, numbers } from "./given.mjs";

const protobuf = VARIANT.protobuf;
const { OTLPTraceExporter } = protobuf ? protobufTraces : jsonTraces;
const { OTLPLogExporter } = protobuf ? protobufLogs : jsonLogs;
const { OTLPMetricExporter } = protobuf ? protobufMetrics : jsonMetrics;
const to = (signal) => ({
  url: `${HOST}/v1/${signal}`,
  headers: { Authorization: `Bearer ${KEY}` },
  compression: VARIANT.compression ?? "none",
});

const resource = resourceFromAttributes({ "service.name": RUN });
const tracers = new NodeTracerProvider({
  resource,
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter(to("traces")), { scheduledDelayMillis: 200 })],
});
const loggers = new LoggerProvider({
  resource,
  processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter(to("logs")), scheduledDelayMillis: 200 })],
});
const meters = new MeterProvider({
  resource,
  readers: [
    new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter(to("metrics")), exportIntervalMillis: 3_600_000 }),
  ],
});
const tracer = tracers.getTracer("steps", "1.2");
const meter = meters.getMeter("steps", "1.2");
const steps = meter.createCounter("steps", { unit: "1" });
const durations = meter.createHistogram("step.duration", { unit: "ms" });
const log = loggers.getLogger("steps", "1.2");

for await (const n of numbers()) {
  const step = tracer.startSpan("step", { attributes: { n, "user.id": "ada", list: ["a", "b"] } });
  const inside = trace.setSpan(context.active(), step);
  const part = tracer.startSpan("part", { attributes: { n } }, inside);
  try {
    fail(n);
  } catch (error) {
    part.recordException(error);
    part.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
  }
  part.end();
  step.end();
  log.emit({ severityNumber: SeverityNumber.WARN, severityText: "WARN", body: `step ${n}`, attributes: { n }, context: inside });
  steps.add(1, { n });
  durations.record(1.5, { n });
}
await Promise.all([tracers.shutdown(), loggers.shutdown(), meters.shutdown()]);
