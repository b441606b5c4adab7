"""OpenTelemetry's SDKs and what is built on them, unmodified: spans, log records and metrics arrive, once and whole."""

import pytest

from sdk_events import failures, named, numbers, of_kind
from sdks import COUNT, Sdk

SDKS = {
    "python protobuf": Sdk("otel_signals.py"),
    "python protobuf gzip": Sdk("otel_signals.py", {"environment": {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}}),
    "python protobuf deflate": Sdk("otel_signals.py", {"environment": {"OTEL_EXPORTER_OTLP_COMPRESSION": "deflate"}}),
    "python json": Sdk("otel_signals.py", {"json": True}),
    "node json": Sdk("otel_signals.mjs"),
    "node protobuf gzip": Sdk("otel_signals.mjs", {"protobuf": True, "compression": "gzip"}),
}
CALLS = {"genai", "traceloop", "openinference"}


@pytest.mark.parametrize("sdk", SDKS.values(), ids=SDKS)
def test_opentelemetry(journey, sdk):
    events = journey.take(sdk)

    steps = {event["data"]["n"]: event for event in named(events, "step", "span")}
    parts, lines = named(events, "part", "span"), of_kind(events, "log")
    for found in (named(events, "step", "span"), parts, lines):
        assert numbers(found) == list(range(COUNT))
    for event in steps.values():
        assert event["data"]["list"] == ["a", "b"]
        assert event["distinct_id"] == "ada"
        assert event["duration_ms"] >= 0
        assert event.get("level", "") != "ERROR"
    for event in parts:
        parent = steps[event["data"]["n"]]
        assert (event["parent_span_id"], event["trace_id"]) == (parent["span_id"], parent["trace_id"])
        assert (event["status"], event["level"]) == ("error", "ERROR")
    error_type = "TypeError" if sdk.of_node else "ValueError"
    raised = failures(events, journey.run, COUNT, error_type)
    assert {event["span_id"] for event in raised} == {event["span_id"] for event in parts}
    for event in lines:
        assert event["level"] == "WARN"
        assert event["data"]["message"] == f"step {event['data']['n']}"
        assert event["trace_id"] == steps[event["data"]["n"]]["trace_id"]
    counted, measured = named(events, "steps", "metric"), named(events, "step.duration", "metric")
    for points, value, unit in ((counted, 1, "1"), (measured, 1.5, "ms")):
        assert numbers(points) == list(range(COUNT))
        assert {(event["value"], event["unit"]) for event in points} == {(value, unit)}
    assert {event["service"] for event in events} == {journey.run}
    assert len(events) == 6 * COUNT


@pytest.mark.parametrize("instrumentation", sorted(CALLS))
def test_openai_calls_as_instrumentations_see_them(journey, instrumentation):
    events = journey.take(Sdk("openai_calls.py", {"instrumentation": instrumentation}))

    calls = of_kind(events, "span")
    assert len(calls) == COUNT + 2
    failed = [event for event in calls if event.get("status") == "error"]
    answered = [event for event in calls if event.get("status") != "error"]
    assert len(failed) == 1
    assert {event["provider"] for event in calls} == {"openai"}
    assert {event["model"] for event in answered} == {"gpt-4o-mini-2024-07-18"}
    assert "gone" in str(failed[0]["data"])
    assert {(event["input_tokens"], event["output_tokens"]) for event in answered} == {(11, 7)}
    for n in range(COUNT):
        assert sum(f"{journey.run} {n}" in str(event["data"]) for event in calls) == 1
    assert {event["service"] for event in events} == {journey.run}


def test_langfuse(journey):
    events = journey.take(Sdk("langfuse_observations.py"))

    steps = {event["span_id"]: event for event in named(events, "step", "span")}
    answers = named(events, "answer", "span")
    assert len(steps) == len(answers) == COUNT
    assert len(events) == 2 * COUNT
    for n, event in enumerate(answers):
        assert event["trace_id"] == steps[event["parent_span_id"]]["trace_id"]
        assert event["model"] == "gpt-4o-mini"
        assert (event["input_tokens"], event["output_tokens"]) == (11, 7)
        assert (event["distinct_id"], event["session_id"]) == ("ada", journey.run)
        assert sum(f"{journey.run} {n}" in str(other["data"]) for other in answers) == 1


def test_langfuses_own_openai_client(journey):
    events = journey.take(Sdk("openai_calls.py", {"instrumentation": "langfuse"}))

    calls = of_kind(events, "span")
    assert len(calls) == len(events) == COUNT + 2
    answered = [event for event in calls if event.get("level") != "ERROR"]
    assert {event["model"] for event in answered} == {"gpt-4o-mini-2024-07-18"}
    assert {(event["input_tokens"], event["output_tokens"]) for event in answered} == {(11, 7)}


def test_fastapis_own_telemetry(journey):
    events = journey.take(Sdk("fastapi_own.py"))

    requests = [event for event in of_kind(events, "span") if "http.request.method" in event["data"]]
    assert sorted(event["event_type"] for event in requests) == ["GET /fail/{n}"] * COUNT + ["GET /step/{n}"] * COUNT
    assert {(event["event_type"], event["status"]) for event in requests if "status" in event} >= {
        ("GET /fail/{n}", "error")
    }
    raised = of_kind(events, "exception")
    assert {event["error"]["message"] for event in raised} == {f"{journey.run} {n}" for n in range(COUNT)}
    measured = named(events, "http.server.request.duration", "metric")
    assert {event["data"]["http.route"] for event in measured} == {"/step/{n}", "/fail/{n}"}
    assert {event["service"] for event in events} == {journey.run}
