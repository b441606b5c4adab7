"""Sentry's SDKs for Python and Node, unmodified: errors, spans, log lines and metrics arrive, once and whole."""

import pytest

from sdk_events import check_sentry, failures, of_kind
from sdks import COUNT, Sdk

SDKS = {
    "python br": Sdk("sentry_events.py"),
    "python gzip": Sdk("sentry_events.py", {"_experiments": {"transport_compression_algo": "gzip"}}),
    "python streamed spans": Sdk("sentry_events.py", {"_experiments": {"trace_lifecycle": "stream"}}),
    "node": Sdk("sentry_events.mjs"),
    "node transactions": Sdk("sentry_events.mjs", {"traceLifecycle": "static"}),
}


@pytest.mark.parametrize("sdk", SDKS.values(), ids=SDKS)
def test_sentry(journey, sdk):
    # The SDK for Python counts its own requests as spans, too, when it streams them.
    events = [event for event in journey.take(sdk) if not event["event_type"].startswith("POST ")]

    check_sentry(events, journey.run, COUNT, "TypeError" if sdk.of_node else "ValueError")
    assert len(events) == 5 * COUNT + 1


def test_sentry_beside_fastapi(journey):
    events = journey.take(Sdk("sentry_fastapi.py"))

    raised = failures(events, journey.run, COUNT)
    for event in raised:
        assert event["correlation_id"] == journey.run
        assert event["data"]["request"]["url"].endswith(f"/fail/{event['error']['message'].split()[1]}")
    requests = [event for event in of_kind(events, "span") if event["event_type"] == "/fail/{n}"]
    assert len(requests) == COUNT
    assert {event["trace_id"] for event in requests} == {event["trace_id"] for event in raised}
