"""`before_send`: the program's own look at each event."""

import os

import pytest

import recorder
from leeward.sender.client import Client


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("LEEWARD_") or name in {"DO_NOT_TRACK", "TELEMETRY_API_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sent(tmp_path):
    """A function: which events arrive when this hook looks at what `capture` is given."""
    with recorder.Recorder() as server:

        def sent(hook, capture=lambda client: client.capture("tick", {"a": 1}, distinct_id="u1")):
            client = Client(recorder.KEY, server.host, spool_dir=str(tmp_path), before_send=hook, device_id=False)
            returned = capture(client)
            client.shutdown(20)
            assert server.broken == []
            return returned, list(server.events.values()), client.stats()

        yield sent


def test_a_hook_sees_the_event_and_changes_what_it_likes(sent):
    seen = []

    def hook(event):
        seen.append(dict(event))
        return {**event, "event": "tock", "distinct_id": "u2", "level": "WARNING", "properties": {"b": 2}}

    returned, (event,), _ = sent(hook)

    assert seen[0]["event"] == "tick"
    assert seen[0]["properties"] == {"a": 1}
    assert seen[0]["distinct_id"] == "u1"
    assert seen[0]["uuid"] == event["id"] == returned
    assert (event["event_type"], event["distinct_id"], event["level"], event["data"]) == (
        "tock",
        "u2",
        "WARN",
        {"b": 2},
    )


def test_a_hook_that_returns_none_drops_the_event(sent):
    returned, events, stats = sent(lambda event: None)

    assert (returned, events, stats.dropped) == (None, [], {"before_send": 1})


@pytest.mark.parametrize(
    "hook",
    [
        lambda event: 1 / 0,
        lambda event: "the event",
        lambda event: [event],
        lambda event: {**event, "properties": [1]},
        lambda: None,
    ],
)
def test_c23_a_hook_that_fails_drops_the_event_and_never_sends_it_as_it_was(sent, hook):
    returned, events, stats = sent(hook)

    assert (returned, events, stats.dropped) == (None, [], {"before_send_failed": 1})


def test_c23_a_hook_that_breaks_an_exceptions_error_drops_it(sent):
    returned, events, stats = sent(
        lambda event: {**event, "error": "gone"}, lambda client: client.capture_exception(ValueError("no"))
    )

    assert (returned, events, stats.dropped) == (None, [], {"before_send_failed": 1})


def test_a_hook_may_change_what_an_exception_says(sent):
    def hook(event):
        event["error"]["message"] = "something"
        return event

    _, (event,), _ = sent(hook, lambda client: client.capture_exception(ValueError("no")))

    assert event["error"]["type"] == "ValueError"
    assert event["error"]["message"] == "something"


def test_c24_what_a_hook_puts_in_is_bounded_and_scrubbed_too(sent):
    def hook(event):
        return {**event, "properties": {"password": "hunter22", "what": object(), "deep": [[[[1]]]]}}

    _, (event,), _ = sent(hook)

    assert event["data"]["password"] == "<redacted>"
    assert event["data"]["what"] == "<object>"


def test_a_hook_that_cannot_be_called_switches_the_client_off(sent):
    returned, events, stats = sent("hook")

    assert (returned, events) == (None, [])
    assert "before_send" in stats.last_error


def test_the_callers_own_dict_is_not_the_hooks_to_change(sent):
    mine = {"a": 1}

    def hook(event):
        event["properties"]["a"] = 2
        return event

    _, (event,), _ = sent(hook, lambda client: client.capture("tick", mine))

    assert (mine, event["data"]) == ({"a": 1}, {"a": 2})


def test_a_hook_that_captures_is_not_asked_about_that_and_does_not_hang(sent):
    clients = []

    def capture(client):
        clients.append(client)
        return client.capture("outer")

    def hook(event):
        assert clients[0].capture("inner") is None
        assert clients[0].capture("inner") is None
        return event

    returned, (event,), stats = sent(hook, capture)

    assert event["id"] == returned
    assert stats.dropped == {"before_send_captured": 2}
