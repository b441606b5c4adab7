"""PostHog's SDKs for Python and Node, unmodified: what they say arrives, once and whole, on each of their roads."""

import json
import uuid

import pytest

from sdk_events import failures, named, numbers
from sdks import COUNT, Sdk

PYTHON = {
    "v0": {},
    "v0 gzip": {"gzip": True},
    "v1 none": {"capture_mode": "v1", "capture_compression": "none"},
    "v1 gzip": {"capture_mode": "v1", "capture_compression": "gzip"},
    "v1 deflate": {"capture_mode": "v1", "capture_compression": "deflate"},
    "v1 zstd": {"capture_mode": "v1", "capture_compression": "zstd"},
}
NODE = {"v0": {}, "v1": {"POSTHOG_CAPTURE_MODE": "v1"}}


def check(events, run, error_type):
    steps = named(events, "step")
    assert numbers(steps) == list(range(COUNT))
    for event in steps:
        assert uuid.UUID(event["id"])
        assert event["distinct_id"] == run
        assert event["data"].items() >= {"plan": "pro", "nested": {"list": [1, None, "é"]}}.items()
        assert abs(event["timestamp"] - event["received_at"]) < 60_000
    for event in failures(events, run, COUNT, error_type):
        assert event["distinct_id"] == run
        assert event["data"]["$exception_list"][0]["mechanism"]["handled"] is True


@pytest.mark.parametrize("variant", PYTHON.values(), ids=PYTHON)
def test_posthog_for_python(journey, variant):
    events = journey.take(Sdk("posthog_events.py", variant))

    check(events, journey.run, "ValueError")
    (person,) = named(events, "$set")
    assert person["distinct_id"] == journey.run
    assert "Ada" in str(person)
    assert len(events) == 2 * COUNT + 1


@pytest.mark.parametrize("variables", NODE.values(), ids=NODE)
def test_posthog_for_node(journey, variables):
    events = journey.take(Sdk("posthog_events.mjs", variables=variables))

    check(events, journey.run, "TypeError")
    (person,) = named(events, "$identify")
    assert person["distinct_id"] == journey.run
    assert person["data"]["$set"] == {"name": "Ada"}
    assert len(events) == 2 * COUNT + 1


def test_posthogs_own_openai_client(journey):
    events = journey.take(Sdk("openai_calls.py", {"instrumentation": "posthog"}))

    calls = named(events, "$ai_generation")
    assert len(calls) == len(events) == COUNT + 2
    for event in calls:
        assert event["provider"] == "openai"
        assert event["duration_ms"] > 0
        assert len(event["trace_id"]) > 8
    answered = [event for event in calls if event["data"]["$ai_model"] != "gone"]
    assert [event["model"] for event in answered] == ["gpt-4o-mini"] * (COUNT + 1)
    assert [(event["input_tokens"], event["output_tokens"]) for event in answered] == [(11, 7)] * (COUNT + 1)
    (failed,) = [event for event in calls if event["data"]["$ai_model"] == "gone"]
    assert failed["level"] == "ERROR"
    assert "there is no model gone" in failed["error"]["message"]
    assert failed["status"] == "404"


@pytest.mark.parametrize("program", ["posthog_flags.py", "posthog_flags.mjs"])
def test_there_are_no_feature_flags_and_no_sdk_complains(journey, program):
    ended = journey.say(Sdk(program))

    assert json.loads(ended.out) == [None, []]
    assert ended.err == ""
