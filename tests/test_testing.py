"""What programs use in their own tests: seeing what they capture, keeping quiet, and a provider that fails."""

from __future__ import annotations

import json
import re
import sys
import threading
import urllib.error
import urllib.request

import pytest

import programs
import recorder
from leeward.gateway.faults import Fault
from leeward.sender.client import Client
from leeward.testing import FakeProvider, capture_events, quiet


@pytest.fixture
def client():
    """Without a key, as in a fresh checkout."""
    return Client()


def names(events):
    return [event["event"] for event in events]


def test_events_come_in_order_with_what_they_would_be_sent_with(client):
    with capture_events(client) as events:
        client.set_context(session_id="s1", plan="pro")
        event_id = client.capture("signup", {"tokens": 3}, distinct_id="ada", level="warning")
        client.log("ERROR", "no luck")
        client.metric("queue.length", 7, unit="1")

    assert names(events) == ["signup", "log", "queue.length"]
    assert [event["kind"] for event in events] == ["event", "log", "metric"]
    first, log, metric = events
    assert (first["id"], first["distinct_id"], first["session_id"]) == (event_id, "ada", "s1")
    assert (first["level"], first["properties"]) == ("WARN", {"plan": "pro", "tokens": 3})
    assert isinstance(first["timestamp"], int)
    assert log["properties"]["message"] == "no luck"
    assert (metric["value"], metric["unit"]) == (7, "1")
    assert first["error"] is first["duration_ms"] is None


def test_spans_pairs_and_exceptions_are_seen_with_their_ids_and_errors(client):
    with capture_events(client) as events:
        with client.span("outer") as outer, client.timed("start", "end") as added:
            added["built"] = 2
        with pytest.raises(ZeroDivisionError), client.timed("risky", "done"):
            1 / 0  # noqa: B018

    start, end, span, risky, error = events
    assert names([start, end, span, risky]) == ["start", "end", "outer", "risky"]
    assert start["properties"]["pair_id"] == end["properties"]["pair_id"]
    assert end["properties"]["built"] == 2
    assert (span["span_id"], start["trace_id"]) == (outer.span_id, outer.trace_id)
    assert (error["kind"], error["error"]["type"]) == ("exception", "ZeroDivisionError")


def test_properties_are_bounded_and_scrubbed_as_they_would_be_on_the_wire(client):
    with capture_events(client) as events:
        client.capture("login", {"password": "correct horse battery", "who": object()})

    assert events[0]["properties"] == {"password": "<redacted>", "who": "<object>"}


def test_blocks_nest_and_the_inner_one_takes_the_events(client):
    with capture_events(client) as outer:
        client.capture("before")
        with capture_events(client) as inner:
            client.capture("within")
        client.capture("after")

    assert (names(outer), names(inner)) == (["before", "after"], ["within"])


def test_a_quiet_block_is_quiet_also_within_a_capturing_one_and_the_other_way_round(client):
    with capture_events(client) as outer:
        with quiet(client):
            assert client.disabled
            assert client.capture("unheard") is None
            client.disabled = False
            assert client.disabled
            with capture_events(client) as inner:
                client.capture("heard")
        client.capture("again")

    assert (names(outer), names(inner)) == (["again"], ["heard"])


def test_a_disabled_client_is_captured_and_is_disabled_again_afterwards():
    client = Client(recorder.KEY, "http://127.0.0.1:9", disabled=True)

    with capture_events(client) as events:
        client.capture("heard")

    assert names(events) == ["heard"]
    assert client.disabled
    assert client.capture("unheard") is None


def test_switching_the_client_off_within_the_block_stops_capturing_for_the_block(client):
    with capture_events(client) as events:
        client.disabled = True
        client.capture("opted out")
        client.disabled = False
        client.capture("opted in")

    assert names(events) == ["opted in"]


def test_the_client_the_context_and_their_state_are_as_before_also_after_an_exception():
    client = Client(recorder.KEY, "http://127.0.0.1:9", mode="memory")
    client.capture("real")
    pipeline = client._pipeline

    def failing_test():
        client.set_context(distinct_id="ada")
        client.capture("test")
        raise KeyError

    with pytest.raises(KeyError), capture_events(client) as events:
        failing_test()

    assert type(client) is Client
    assert client._pipeline is pipeline
    assert client.stats().captured == 1
    with capture_events(client) as later:
        client.capture("later")
    assert events[0]["distinct_id"] == "ada"
    assert not later[0]["distinct_id"]
    client._pipeline.retire(send=False)


def test_what_init_does_within_a_block_sends_nothing_and_holds_afterwards(tmp_path):
    text = programs.program(
        """
        from leeward.testing import capture_events

        with capture_events() as events:
            leeward.init({key!r}, {host!r}, spool_dir={spool!r})
            leeward.capture("within")
            assert [event["event"] for event in events] == ["within"]
            assert leeward.flush().delivered == 0
            leeward.shutdown()
        assert not os.path.exists({spool!r})
        assert threading.active_count() == 1
        leeward.capture("afterwards")
        """.replace("{key!r}", repr(recorder.KEY)).replace("{spool!r}", repr(str(tmp_path / "spool"))),
        "http://127.0.0.1:9",
        tmp_path / "unused",
    )
    with recorder.Recorder() as server:
        result = programs.run(text.replace("{host!r}", repr(server.host)))

        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        assert [event["event_type"] for event in server.events.values()] == ["afterwards"]
    assert not (tmp_path / "unused").exists()


def test_a_child_that_is_forked_within_the_block_sends_nothing_either(tmp_path):
    text = programs.program(
        """
        from leeward.testing import capture_events

        with capture_events() as events:
            leeward.capture("before")
            child = os.fork()
            leeward.capture("after")
            if not child:
                os._exit(0 if len(events) == 2 else 1)
            assert os.waitpid(child, 0)[1] == 0
        assert not os.path.exists({spool!r})
        """.replace("{spool!r}", repr(str(tmp_path / "spool"))),
        "http://127.0.0.1:9",
        tmp_path / "spool",
    )

    result = programs.run(text)

    assert (result.returncode, result.stderr) == (0, "")


def test_before_send_is_asked_and_sampling_is_not():
    def hook(event):
        return None if event["event"] == "secret" else event

    client = Client(recorder.KEY, "http://127.0.0.1:9", sample_rate=0.0, before_send=hook)

    with capture_events(client) as events:
        client.capture("open")
        client.capture("secret")

    assert names(events) == ["open"]


def test_what_threads_and_the_module_client_capture_is_seen():
    from leeward.sender import api

    with capture_events() as events:
        thread = threading.Thread(target=api.capture, args=("from a thread",))
        thread.start()
        thread.join()

    assert names(events) == ["from a thread"]


def test_flush_shutdown_device_id_and_stats_answer_within_a_block(client):
    with capture_events(client) as events:
        client.capture("x")
        client.flush_soon()
        client.shutdown()
        with client.busy(), client.idle():
            pass

        assert (client.flush().spooled, client.delete_pending(), client.stats().captured) == (0, 0, 1)
        assert client.device_id == client.reset_device_id() == events[0]["device_id"] == "test-device"


def test_spans_that_open_telemetry_hands_over_are_taken_and_go_nowhere(client):
    with capture_events(client) as events:
        assert client._pipeline.keep(5, b"protobuf")

    assert events == []


def test_a_client_of_a_class_of_the_programs_own_keeps_its_methods():
    class Mine(Client):
        def greet(self):
            return self.capture("greeting")

    client = Mine()

    with capture_events(client) as events:
        client.greet()

    assert names(events) == ["greeting"]
    assert type(client) is Mine


# A provider


def asked(base_url):
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-test"}
    request = urllib.request.Request(f"{base_url}/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_fake_provider_answers_and_shows_what_it_was_asked():
    with FakeProvider("fake", words=5) as provider:
        first, second = asked(provider.base_url), asked(provider.base_url)

        assert first["choices"] == second["choices"]
        assert first["choices"][0]["message"]["content"].startswith("Simulated answer from fake: ")
        assert (provider.calls, provider.cancelled) == (2, 0)
        assert [each.header("authorization") for each in provider.received] == ["Bearer sk-test"] * 2


def test_a_fake_provider_fails_as_it_is_told_until_it_is_told_otherwise():
    with FakeProvider() as provider:
        provider.fault = "429"
        with pytest.raises(urllib.error.HTTPError) as refused:
            asked(provider.base_url)
        refused.value.close()
        assert (refused.value.code, refused.value.headers["retry-after"]) == (429, "20")
        assert provider.fault == Fault(mode="429")

        provider.fault = None
        assert asked(provider.base_url)["object"] == "chat.completion"


def test_after_its_block_a_fake_provider_and_its_thread_are_gone():
    with FakeProvider("gone") as provider:
        assert "leeward-gone" in [thread.name for thread in threading.enumerate()]

    assert "leeward-gone" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(urllib.error.URLError):
        asked(provider.base_url)


def test_without_the_extra_a_fake_provider_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "leeward.gateway.simulated")
    monkeypatch.setitem(sys.modules, "httptools", None)

    with pytest.raises(ImportError, match=re.escape('needs httptools: pip install "leeward[gateway]"')):
        FakeProvider()
