"""OpenTelemetry through the client: what its SDK ends or collects is in the spool, and arrives as OTLP."""

from __future__ import annotations

import logging
import sys

import pytest
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

import programs
from leeward.integrations import otel_genai
from leeward.integrations.otel import configure
from leeward.integrations.otel_export import (
    SpoolLogExporter,
    SpoolMetricExporter,
    SpoolSpanExporter,
    SpoolSpanProcessor,
)
from leeward.integrations.otel_genai import DURATION_BUCKETS_S, TOKEN_BUCKETS, GenAiMetrics
from leeward.integrations.otel_logging import OtelHandler
from leeward.sender import api
from leeward.sender.client import Client
from otlp_recorder import KEY, Recorder, attributes, ok, partial, status, value_of

AWAY = "http://127.0.0.1:9"
RESOURCE = {"service.name": "shop"}


@pytest.fixture
def collector():
    with Recorder() as recorder:
        yield recorder
        assert recorder.broken == []


@pytest.fixture
def begin(monkeypatch, tmp_path):
    """`configure` with a spool of its own, without anything that the whole process would see."""
    monkeypatch.setattr(api, "client", Client())
    begun = []

    def begin(endpoint, **arguments):
        given = {"api_key": KEY, "service_name": "shop", "metrics_interval_s": 3600, "spool_dir": str(tmp_path)}
        telemetry = configure(endpoint=endpoint, set_global=False, **{**given, **arguments})
        begun.append(telemetry)
        return telemetry

    yield begin
    for telemetry in begun:
        telemetry.shutdown(0.0)
        for client in telemetry._clients.values():
            client.delete_pending(0.5)


@pytest.fixture
def telemetry(begin, collector):
    return begin(collector.host)


@pytest.fixture
def tracer(telemetry):
    return telemetry.tracer_provider.get_tracer("app", "1.2")


@pytest.fixture
def logger(telemetry):
    """A logger that hands nothing on, with the handler that `configure` puts on the root."""
    logger = logging.Logger("shop.orders", 1)  # noqa: LOG001 - one that no other test sees
    logger.addHandler(OtelHandler(1, telemetry._clients["logs"], telemetry.logger_provider))
    logger.addHandler(logging.NullHandler())
    return logger


def items(collector):
    return list(collector.events.values())


def only(telemetry, collector):
    """The one item that arrives."""
    assert telemetry.flush(10).spooled == 0
    (item,) = [item for item in items(collector) if item.DESCRIPTOR.name != "Metric"]
    return item


# --- traces -----------------------------------------------------------------------------------------------------------


def test_a_span_arrives_with_its_parent_times_attributes_events_links_and_status(telemetry, tracer, collector):
    elsewhere = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1))
    with tracer.start_as_current_span("outer") as outer:
        inner = tracer.start_span(
            "charge",
            kind=SpanKind.CLIENT,
            attributes={"n": 3, "parts": ["a", "b"]},
            links=[Link(elsewhere, {"why": "retry"})],
        )
        inner.add_event("asked", {"attempt": 1})
        inner.record_exception(ValueError("no card"))
        inner.set_status(trace.StatusCode.ERROR, "no card")
        inner.end()

    assert telemetry.flush(10).delivered == 2
    by_name = {span.name: span for span in items(collector)}
    span = by_name["charge"]
    assert span.parent_span_id == by_name["outer"].span_id == outer.get_span_context().span_id.to_bytes(8, "big")
    assert span.trace_id == by_name["outer"].trace_id
    assert (span.kind, span.status.code, span.status.message) == (3, 2, "no card")
    assert attributes(span.attributes) == {"n": 3, "parts": ["a", "b"]}
    assert [event.name for event in span.events] == ["asked", "exception"]
    assert attributes(span.events[1].attributes)["exception.type"] == "ValueError"
    assert span.links[0].span_id == (8).to_bytes(8, "big")
    assert collector.services == {"shop"}


def test_a_span_is_in_the_spool_when_its_end_returns(begin):
    telemetry = begin(AWAY)

    telemetry.tracer_provider.get_tracer("app").start_span("work").end()

    stats = telemetry.stats()["traces"]
    assert (stats.captured, stats.spooled, stats.volatile) == (1, 1, 0)


class RecordOnly(Sampler):
    """Spans are recorded, for processors in this process only."""

    def should_sample(self, *args, **kwargs):
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self):
        return "record only"


def test_a_span_that_the_sampler_did_not_choose_stays_here(telemetry):
    exporter = SpoolSpanExporter(telemetry._clients["traces"])
    provider = TracerProvider(sampler=RecordOnly(), shutdown_on_exit=False)
    provider.add_span_processor(SpoolSpanProcessor(exporter))

    provider.get_tracer("app").start_span("work").end()

    assert telemetry.stats()["traces"].captured == 0


def test_the_exporter_serves_a_batch_processor_too(telemetry, collector):
    exporter = SpoolSpanExporter(telemetry._clients["traces"])
    processor = BatchSpanProcessor(exporter)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    for _ in range(3):
        provider.get_tracer("app").start_span("work").end()
    processor.shutdown()

    assert collector.wait_stored(3)


def test_force_flush_of_the_provider_delivers_and_says_whether_it_could(begin, collector):
    telemetry = begin(collector.host)
    telemetry.tracer_provider.get_tracer("app").start_span("work").end()
    telemetry.logger_provider.get_logger("app").emit(body="hello", severity_number=SeverityNumber.INFO)
    telemetry.meter_provider.get_meter("app").create_counter("orders").add(1)

    for provider in (telemetry.tracer_provider, telemetry.logger_provider, telemetry.meter_provider):
        assert provider.force_flush(10_000)
    assert collector.signals == {"spans": 1, "log_records": 1, "metrics": 1}

    away = begin(AWAY)
    away.tracer_provider.get_tracer("app").start_span("work").end()
    assert not away.tracer_provider.force_flush(50)


def test_the_end_of_a_provider_sends_what_waits(telemetry, tracer, collector):
    tracer.start_span("work").end()
    telemetry.logger_provider.get_logger("app").emit(body="hello", severity_number=SeverityNumber.INFO)
    telemetry.meter_provider.get_meter("app").create_counter("orders").add(1)

    for provider in (telemetry.tracer_provider, telemetry.logger_provider, telemetry.meter_provider):
        provider.shutdown()

    assert collector.signals == {"spans": 1, "log_records": 1, "metrics": 1}


# --- logs -------------------------------------------------------------------------------------------------------------


def test_what_is_logged_arrives_as_a_log_record_of_its_span(telemetry, tracer, logger, collector):
    with tracer.start_as_current_span("work") as span:
        logger.warning("no stock of %s", "rope", extra={"sku": 5, "object": object()})
    assert telemetry.flush(10).spooled == 0

    (record,) = [item for item in items(collector) if item.DESCRIPTOR.name == "LogRecord"]
    found = attributes(record.attributes)
    assert (value_of(record.body), record.severity_number, record.severity_text) == ("no stock of rope", 13, "WARN")
    assert record.trace_id == span.get_span_context().trace_id.to_bytes(16, "big")
    assert (found["sku"], found["object"], found["code.function.name"]) == (
        5,
        "<object>",
        "test_what_is_logged_arrives_as_a_log_record_of_its_span",
    )
    assert record.time_unix_nano


@pytest.mark.parametrize(
    ("level", "severity"), [(5, 1), (10, 5), (20, 9), (25, 9), (30, 13), (40, 17), (50, 21), (99, 21)]
)
def test_a_level_of_logging_becomes_a_severity(telemetry, logger, collector, level, severity):
    logger.log(level, "x")

    assert only(telemetry, collector).severity_number == severity


def test_a_logged_exception_arrives_with_type_message_and_stack(telemetry, logger, collector):
    try:
        {}["card"]
    except KeyError:
        logger.exception("failed", stack_info=True)

    found = attributes(only(telemetry, collector).attributes)
    assert (found["exception.type"], found["exception.message"]) == ("KeyError", "'card'")
    assert "Traceback" in found["exception.stacktrace"]
    assert "Stack (most recent call last)" in found["code.stacktrace"]


def test_what_leeward_itself_logs_is_no_telemetry(telemetry, logger):
    logger.name = "leeward"
    logger.warning("the server cannot be reached")

    assert telemetry.stats()["logs"].captured == 0


def test_a_log_record_is_on_disk_at_once_and_leaves_with_those_of_the_next_seconds(begin):
    telemetry = begin(AWAY)
    telemetry.logger_provider.get_logger("app").emit(body="hello", severity_number=SeverityNumber.INFO)

    client = telemetry._clients["logs"]
    assert (client.stats().captured, client.stats().spooled, client.stats().volatile) == (1, 1, 0)
    due_s = client._pipeline._rhythm.due_s(100.0, waiting_since_s=100.0, full=False, hurry=False)
    assert 5.0 <= due_s - 100.0 <= 10.0


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_are_collected_by_a_flush_and_arrive(telemetry, collector):
    meter = telemetry.meter_provider.get_meter("app")
    meter.create_counter("orders", unit="1").add(3, {"shop": "north"})

    assert telemetry.flush(10).delivered == 1

    (metric,) = items(collector)
    assert (metric.name, metric.sum.data_points[0].as_int, metric.sum.aggregation_temporality) == ("orders", 3, 2)


@pytest.mark.parametrize(("preference", "temporality"), [("delta", 1), ("LOWMEMORY", 1), ("cumulative", 2), ("", 2)])
def test_temporality_is_what_opentelemetrys_variable_says(begin, collector, monkeypatch, preference, temporality):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    telemetry = begin(collector.host)
    telemetry.meter_provider.get_meter("app").create_counter("orders").add(3)
    telemetry.flush(10)

    assert items(collector)[0].sum.aggregation_temporality == temporality


def test_calls_to_providers_give_rate_latency_errors_and_usage(telemetry, collector):
    genai = telemetry.genai
    with genai.call("openai", "gpt-4o-mini", attributes={"server.port": 443}) as call:
        call.first_chunk()
        call.usage(input_tokens=12, output_tokens=5)
        call.usage(output_tokens=7)
        call.set("gen_ai.response.model", "gpt-4o-mini-2")
    with pytest.raises(TimeoutError), genai.call("openai", "gpt-4o-mini"):
        raise TimeoutError
    with genai.call("openai", "gpt-4o-mini") as call:
        call.failed(429)
    with pytest.raises(KeyboardInterrupt), genai.call("openai", "gpt-4o-mini"):
        raise KeyboardInterrupt
    telemetry.flush(10)

    metrics = {metric.name: metric for metric in items(collector)}
    durations = metrics["gen_ai.client.operation.duration"].histogram.data_points
    assert tuple(durations[0].explicit_bounds) == DURATION_BUCKETS_S
    errors = [attributes(point.attributes).get("error.type") for point in durations]
    assert errors == [None, "TimeoutError", "429", None]
    assert attributes(durations[0].attributes)["gen_ai.response.model"] == "gpt-4o-mini-2"
    tokens = metrics["gen_ai.client.token.usage"].histogram.data_points
    assert tuple(tokens[0].explicit_bounds) == TOKEN_BUCKETS
    assert {attributes(point.attributes)["gen_ai.token.type"]: point.sum for point in tokens} == {
        "input": 12,
        "output": 7,
    }
    assert metrics["gen_ai.client.operation.time_to_first_chunk"].histogram.data_points[0].count == 1


def test_only_the_first_part_of_a_streamed_answer_counts(telemetry, collector, monkeypatch):
    times = iter([0.0, 10.0, 10.5, 14.0])  # made, entered, first part, end
    monkeypatch.setattr(otel_genai, "perf_counter", lambda: next(times))
    with telemetry.genai.call("openai", "gpt-4o-mini") as call:
        call.first_chunk()
        call.first_chunk()
    telemetry.flush(10)

    sums = {metric.name: metric.histogram.data_points[0].sum for metric in items(collector)}
    assert sums == {"gen_ai.client.operation.duration": 4.0, "gen_ai.client.operation.time_to_first_chunk": 0.5}


async def _asynchronous_call(genai):
    async with genai.call("openai", "gpt-4o-mini") as call:
        call.usage(input_tokens=1)


def test_an_asynchronous_call_is_measured_and_without_opentelemetry_nothing_is(telemetry, collector):
    import asyncio

    asyncio.run(_asynchronous_call(telemetry.genai))
    asyncio.run(_asynchronous_call(GenAiMetrics()))
    telemetry.flush(10)

    assert sorted(metric.name for metric in items(collector)) == [
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
    ]


def test_other_peoples_instruments_of_these_names_get_the_right_buckets(telemetry, collector):
    telemetry.meter_provider.get_meter("somebody").create_histogram("gen_ai.client.token.usage").record(5)
    telemetry.flush(10)

    assert tuple(items(collector)[0].histogram.data_points[0].explicit_bounds) == TOKEN_BUCKETS


# --- delivery ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_a_collector_that_is_away_is_asked_again_after_the_time_it_named(telemetry, tracer, collector, code):
    collector.script.append(status(code, "Retry-After: 0\r\n"))
    tracer.start_span("work").end()

    assert collector.wait_stored(1)
    assert telemetry.stats()["traces"].retries == 1


def test_what_a_collector_refuses_of_a_request_is_counted(telemetry, tracer, collector):
    collector.script.append(partial(1))
    for _ in range(3):
        tracer.start_span("work").end()
    telemetry.flush(10)

    stats = telemetry.stats()["traces"]
    assert (stats.delivered, stats.dropped) == (2, {"rejected": 1})


def test_a_signal_that_is_refused_does_not_hold_up_the_others(telemetry, tracer, logger, collector):
    collector.always = lambda *asked: (status(503) if asked[1].path == "/v1/logs" else ok)(*asked)
    for _ in range(20):
        logger.warning("x")
        tracer.start_span("work").end()
    telemetry.flush(0.5)

    assert collector.signals == {"spans": 20}
    collector.always = ok
    telemetry.flush(10)
    assert collector.signals == {"spans": 20, "log_records": 20}


def test_spans_and_log_lines_that_alternate_do_not_make_requests_of_one(telemetry, tracer, logger, collector):
    for _ in range(200):
        tracer.start_span("work").end()
        logger.info("x")
    telemetry.flush(10)

    assert collector.signals == {"spans": 200, "log_records": 200}
    assert len(collector.requests) < 40


def test_a_program_forked_from_a_configured_one_sends_its_own_spans(collector, tmp_path):
    text = f"""
    import os
    from leeward.integrations.otel import configure
    telemetry = configure(endpoint={collector.host!r}, api_key={KEY!r}, service_name="shop", spool_dir={str(tmp_path)!r})
    tracer = telemetry.tracer_provider.get_tracer("app")
    tracer.start_span("parent").end()
    child = os.fork()
    if not child:
        for _ in range(10):
            tracer.start_span("child").end()
        telemetry.flush(10)
        os._exit(0)
    os.waitpid(child, 0)
    """
    done = programs.run(_plain(text))

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(span.name for span in items(collector)) == ["child"] * 10 + ["parent"]
    assert set(collector.stored.values()) == {1}


def test_the_end_of_a_program_takes_the_last_metrics_and_sends_everything(collector, tmp_path):
    text = f"""
    import logging, sys
    logging.basicConfig(level="INFO")
    from opentelemetry import trace, metrics
    from leeward.integrations.otel import configure
    configure(endpoint={collector.host!r}, api_key={KEY!r}, service_name="shop", spool_dir={str(tmp_path)!r})
    with trace.get_tracer("app").start_as_current_span("work"):
        logging.getLogger("shop").info("hello")
        metrics.get_meter("app").create_counter("orders").add(1)
    """
    done = programs.run(_plain(text))

    assert (done.returncode, done.stderr) == (0, "INFO:shop:hello\n")
    assert collector.signals == {"spans": 1, "log_records": 1, "metrics": 1}


def _plain(text):
    import textwrap

    return textwrap.dedent(text)


# --- configuration ----------------------------------------------------------------------------------------------------


def test_configured_again_each_span_arrives_once(begin, collector):
    first = begin(AWAY)
    tracer = first.tracer_provider.get_tracer("app")
    second = begin(collector.host)
    tracer.start_span("for the first").end()
    second.tracer_provider.get_tracer("app").start_span("for the second").end()
    second.flush(10)

    assert [span.name for span in items(collector)] == ["for the second"]
    assert first.disabled


def test_providers_that_are_there_already_are_joined(collector, tmp_path):
    text = f"""
    from opentelemetry import metrics, trace, _logs
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.resources import Resource
    mine = Resource({{"service.name": "mine"}})
    trace.set_tracer_provider(TracerProvider(resource=mine))
    metrics.set_meter_provider(MeterProvider(resource=mine))
    _logs.set_logger_provider(LoggerProvider(resource=mine))
    from leeward.integrations.otel import configure
    for _ in range(2):
        telemetry = configure(endpoint={collector.host!r}, api_key={KEY!r}, spool_dir={str(tmp_path)!r})
    assert telemetry.tracer_provider is trace.get_tracer_provider()
    trace.get_tracer("app").start_span("work").end()
    metrics.get_meter("app").create_counter("orders").add(1)
    _logs.get_logger("app").emit(body="x", severity_number=_logs.SeverityNumber.INFO)
    telemetry.shutdown()
    """
    done = programs.run(_plain(text))

    assert (done.returncode, done.stderr) == (0, "")
    assert collector.signals == {"spans": 1, "log_records": 1, "metrics": 1}
    assert collector.services == {"mine"}


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        ({"endpoint": "http://a:4318/v1/traces"}, {"LEEWARD_HOST": "http://b"}, "http://a:4318"),
        ({"host": "http://a/otlp/"}, {}, "http://a/otlp"),
        ({}, {"LEEWARD_HOST": "http://b", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://b"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318"),
        ({"api_key": "k"}, {}, "http://127.0.0.1:5330"),
    ],
)
def test_where_to_is_what_was_said_most_directly(monkeypatch, tmp_path, arguments, variables, expected):
    monkeypatch.setattr(api, "client", Client())
    monkeypatch.setattr(api.client, "_config", None)
    for name, value in {"LEEWARD_HOST": "", "LEEWARD_API_KEY": "", **variables}.items():
        monkeypatch.setenv(name, value)

    telemetry = configure(set_global=False, logs=False, metrics=False, spool_dir=str(tmp_path), **arguments)

    assert telemetry._clients["traces"]._config.host == expected
    telemetry.shutdown(0.0)


def test_what_init_was_told_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(api, "client", Client(KEY, "http://127.0.0.1:9/x", spool_dir=str(tmp_path), app="shop/1.2"))

    telemetry = configure(set_global=False, logs=False, metrics=False)
    config = telemetry._clients["traces"]._config

    assert (config.host, config.api_key, config.root, config.app) == (
        "http://127.0.0.1:9/x",
        KEY,
        str(tmp_path),
        "shop/1.2",
    )
    found = dict(telemetry.tracer_provider.resource.attributes)
    assert (found["service.name"], found["service.version"]) == ("shop", "1.2")
    telemetry.shutdown(0.0)


def test_a_posthog_host_is_no_collector_and_a_client_that_is_off_turns_this_off_too(monkeypatch, tmp_path):
    monkeypatch.delenv("LEEWARD_HOST", raising=False)
    monkeypatch.delenv("LEEWARD_API_KEY", raising=False)
    monkeypatch.setattr(api, "client", Client("phc_x", "http://127.0.0.1:9", spool_dir=str(tmp_path)))
    assert configure(set_global=False).problem.startswith("no endpoint")

    monkeypatch.setattr(api, "client", Client(KEY, "http://127.0.0.1:9", spool_dir=str(tmp_path), disabled=True))
    assert configure(set_global=False).disabled
    on = configure(set_global=False, disabled=False, logs=False, metrics=False)
    assert not on.disabled
    on.shutdown(0.0)


@pytest.mark.parametrize(
    ("given", "variable", "name"),
    [(None, "", "shop"), (None, "env", "env"), ({"service.name": "mapped"}, "env", "mapped")],
)
def test_the_service_is_named_by_argument_variable_or_app(begin, monkeypatch, given, variable, name):
    monkeypatch.setenv("OTEL_SERVICE_NAME", variable)
    telemetry = begin(AWAY, service_name=None, app="shop/1.2", resource=given)

    assert telemetry.tracer_provider.resource.attributes["service.name"] == name


def test_a_ready_made_resource_is_kept(begin):
    from opentelemetry.sdk.resources import Resource

    telemetry = begin(AWAY, service_name=None, resource=Resource({"service.name": "made", "x": 1}))

    assert dict(telemetry.tracer_provider.resource.attributes) == {"service.name": "made", "x": 1}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"endpoint": "collector:4318"}, "host is "),
        ({"endpoint": AWAY, "resource": 5}, "it could not be configured: TypeError"),
        ({"endpoint": AWAY, "metrics_interval_s": -1}, "it could not be configured: ValueError"),
    ],
)
def test_what_cannot_work_turns_it_off_and_says_why(monkeypatch, tmp_path, arguments, problem):
    monkeypatch.setattr(api, "client", Client())

    telemetry = configure(set_global=False, instrument_logging=False, spool_dir=str(tmp_path), **arguments)

    assert telemetry.disabled
    assert telemetry.problem.startswith(problem)
    telemetry.genai.record({}, 1.0)
    telemetry.tracer_provider.get_tracer("app").start_span("work").end()
    telemetry.logger_provider.get_logger("app").emit(body="x")
    assert telemetry.flush() == type(telemetry.flush())(delivered=0, spooled=0, dropped=0)
    telemetry.shutdown()


@pytest.mark.parametrize(
    "variables",
    [
        {"DO_NOT_TRACK": "1", "LEEWARD_HOST": AWAY},
        {"LEEWARD_DISABLED": "1", "LEEWARD_HOST": AWAY},
        {"OTEL_SDK_DISABLED": "true", "LEEWARD_HOST": AWAY},
        {},
    ],
)
def test_switched_off_it_imports_no_sdk_and_leaves_no_trace(tmp_path, variables):
    text = """
    import sys, threading
    from leeward.integrations.otel import configure
    telemetry = configure(service_name="shop")
    assert telemetry.disabled
    assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk.")], sys.modules
    with telemetry.tracer_provider.get_tracer("app").start_as_current_span("work"):
        telemetry.flush()
    telemetry.shutdown()
    assert threading.active_count() == 1
    """
    done = programs.run(_plain(text), LEEWARD_SPOOL_DIR=str(tmp_path / "spool"), **variables)

    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_without_the_sdk_the_import_says_what_to_install():
    text = """
    import sys
    finders = sys.meta_path
    class Without:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("opentelemetry"):
                return None
            return next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)
    sys.meta_path = [Without()]
    try:
        import leeward.integrations.otel
    except ImportError as error:
        print(error)
    """
    done = programs.run(_plain(text))

    assert 'pip install "leeward[otel]"' in done.stdout


def test_errors_of_our_own_reach_nobody_and_are_counted(begin):
    telemetry = begin(AWAY)
    for name, exporter in (
        ("traces", SpoolSpanExporter(telemetry._clients["traces"])),
        ("logs", SpoolLogExporter(telemetry._clients["logs"])),
    ):
        result = exporter.export([object()])
        assert result.name == "FAILURE"
        assert telemetry.stats()[name].dropped == {"internal": 1}
    assert SpoolMetricExporter(telemetry._clients["metrics"]).export(object()).name == "FAILURE"


def test_a_client_that_was_switched_off_meanwhile_takes_nothing(begin):
    telemetry = begin(AWAY)
    client = telemetry._clients["traces"]
    client.disabled = True
    tracer = telemetry.tracer_provider.get_tracer("app")
    tracer.start_span("work").end()

    assert client.stats().captured == 0
    assert sys.exception() is None
