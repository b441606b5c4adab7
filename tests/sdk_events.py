"""What to expect of the events that an SDK's program brings: each number once, and every field in its place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Event = dict[str, Any]


def named(events: Iterable[Event], name: str, kind: str = "event") -> list[Event]:
    """Those of a name and a kind."""
    return [event for event in events if (event["event_type"], event["kind"]) == (name, kind)]


def of_kind(events: Iterable[Event], kind: str) -> list[Event]:
    """Those of a kind."""
    return [event for event in events if event["kind"] == kind]


def numbers(events: Iterable[Event]) -> list[int]:
    """Which numbers they have, in order; one that came twice stands there twice."""
    return sorted(int(event["data"]["n"]) for event in events)


def messages(events: Iterable[Event]) -> list[str]:
    """The messages of errors, in order."""
    return sorted(event["error"]["message"] for event in events)


def failures(events: Iterable[Event], run: str, count: int, error_type: str = "ValueError") -> list[Event]:
    """The errors that the programs raise: one a number, each with its type, level and where it was raised."""
    found = of_kind(events, "exception")
    assert messages(found) == sorted(f"{run} {n}" for n in range(count))
    for event in found:
        assert event["event_type"] == "$exception"
        assert event["level"] == "ERROR"
        assert event["error"]["type"] == error_type
        assert "fail" in event["error"]["stack"]
    return found


def check_sentry(events: list[Event], run: str, count: int, error_type: str) -> None:
    """What the programs of Sentry say, in Python, in Node and in a page."""
    (message,) = [event for event in events if event.get("error", {}).get("message") == f"{run} ends"]
    assert (message["kind"], message["level"]) == ("exception", "INFO")
    for event in failures([event for event in events if event is not message], run, count, error_type):
        assert (event["distinct_id"], event["correlation_id"]) == (run, run)
        assert event["data"]["release"] == "app@1.2"
        assert event["data"]["environment"] == "test"
        assert len(event["trace_id"]) == 32
    for n in range(count):
        (step,), (query,) = named(events, f"step {n}", "span"), named(events, f"query {n}", "span")
        assert (query["parent_span_id"], query["trace_id"]) == (step["span_id"], step["trace_id"])
        assert step["duration_ms"] >= query["duration_ms"] >= 0
        assert step.get("distinct_id", run) == run  # Python's streamed spans do not say whom they concern
    lines = of_kind(events, "log")
    said = sorted(event["data"]["message"].removesuffix(f" of {run}") for event in lines)
    assert said == sorted(f"step {n}" for n in range(count))
    assert {event["level"] for event in lines} == {"WARN"}
    assert len({event["trace_id"] for event in lines}) >= 1
    points = named(events, "steps", "metric")
    assert [event["value"] for event in points] == [1] * count
