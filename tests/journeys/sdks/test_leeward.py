"""leeward's own client on the wires of others, against leeward's server: nothing of an event is lost on the way."""

import pytest

from sdk_events import failures, named, numbers
from sdks import COUNT, Sdk


@pytest.mark.parametrize("wire", ["native", "otlp", "posthog"])
def test_leewards_own_client(journey, wire, tmp_path):
    events = journey.take(Sdk("leeward_events.py", {"wire": wire}, {"LEEWARD_SPOOL_DIR": str(tmp_path)}))

    steps, parts = named(events, "step"), {event["data"]["n"]: event for event in named(events, "part", "span")}
    lines, points = named(events, "log", "log"), named(events, "steps", "metric")
    raised = failures(events, journey.run, COUNT)
    for found in (steps, parts.values(), lines, points, raised):
        assert numbers(found) == list(range(COUNT))
        assert {event["distinct_id"] for event in found} == {journey.run}
        assert len({event["device_id"] for event in found}) == 1
    for event in steps:
        part = parts[event["data"]["n"]]
        assert event["data"]["plan"] == "pro"
        assert (event["trace_id"], event["span_id"]) == (part["trace_id"], part["span_id"])
        assert part["duration_ms"] >= 0
    for event in lines:
        assert (event["level"], event["data"]["message"]) == ("WARN", f"step {event['data']['n']}")
    assert [(event["value"], event["unit"]) for event in points] == [(event["data"]["n"], "1") for event in points]
    assert len(events) == 5 * COUNT
