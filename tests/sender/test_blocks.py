"""Pairs of events, spans, and moments in which to send or not, as a program writes them."""

import asyncio
import os
import threading

import pytest

import recorder
from leeward.sender.blocks import parse_traceparent
from leeward.sender.client import Client
from leeward.sender.context import CURRENT, EMPTY

TRACE = "5b8efff798038103d269b633813fc60c"
PARENT = "eee19b7ec3c1b174"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("LEEWARD_") or name in {"DO_NOT_TRACK", "TELEMETRY_API_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    token = CURRENT.set(EMPTY)
    yield
    CURRENT.reset(token)


@pytest.fixture
def server():
    with recorder.Recorder() as server:
        yield server
        assert server.broken == []


@pytest.fixture
def make(server, tmp_path):
    """A function that makes clients; all are shut down at the end."""
    made = []

    def make(**settings):
        client = Client(recorder.KEY, server.host, **{"spool_dir": str(tmp_path), "device_id": False, **settings})
        made.append(client)
        return client

    yield make
    for client in made:
        client.shutdown(5)


@pytest.fixture
def client(make):
    return make()


@pytest.fixture
def events(server):
    """A function that flushes a client and gives what arrived, as it arrived: within a lane in the order of capture."""

    def events(client):
        assert client.flush(20).spooled == 0
        return list(server.events.values())

    return events


# Pairs


def test_a_pair_has_a_start_and_an_end_with_its_duration_and_what_the_block_added(client, events):
    with client.timed("build_start", "build_end", {"target": "x"}, distinct_id="u1") as added:
        added["files"] = 3

    start, end = events(client)

    assert (start["event_type"], end["event_type"]) == ("build_start", "build_end")
    assert start["distinct_id"] == end["distinct_id"] == "u1"
    assert start["data"] == {"target": "x", "pair_id": start["data"]["pair_id"]}
    assert end["data"]["target"] == "x"
    assert end["data"]["files"] == 3
    assert end["data"]["pair_id"] == start["data"]["pair_id"]
    assert end["duration_ms"] >= 0


def test_a_pair_whose_block_raises_ends_with_the_exception_which_goes_on(client, events):
    error = ValueError("no")

    with pytest.raises(ValueError, match="no") as raised, client.timed("build_start", "build_end", {"target": "x"}):
        raise error

    assert raised.value is error
    found = {event["event_type"]: event for event in events(client)}
    assert set(found) == {"build_start", "$exception"}
    assert found["$exception"]["error"]["type"] == "ValueError"
    assert found["$exception"]["error"]["message"] == "no"
    assert found["$exception"]["data"]["event"] == "build_start"
    assert found["$exception"]["data"]["pair_id"] == found["build_start"]["data"]["pair_id"]


def test_an_exception_that_passes_through_two_pairs_is_captured_once(client, events):
    with pytest.raises(ValueError), client.timed("a", "b"), client.timed("c", "d"):
        raise ValueError

    assert sorted(event["event_type"] for event in events(client)) == ["$exception", "a", "c"]


def test_a_pair_that_is_interrupted_ends_and_says_so(client, events):
    with pytest.raises(KeyboardInterrupt), client.timed("a", "b"):
        raise KeyboardInterrupt

    start, end = events(client)
    assert (start["event_type"], end["event_type"], end["data"]["interrupted"]) == ("a", "b", True)


def test_the_two_events_of_a_pair_are_sampled_together(make, events):
    client = make(sample_rate=0.5)
    for _ in range(200):
        with client.timed("a", "b"):
            pass

    pairs = {}
    for event in events(client):
        pairs.setdefault(event["data"]["pair_id"], []).append(event["event_type"])

    assert 50 < len(pairs) < 150
    assert all(sorted(names) == ["a", "b"] for names in pairs.values())
    assert client.stats().sampled_out == 2 * (200 - len(pairs))


# Spans


def test_spans_nest_and_events_inside_carry_their_ids(client, events):
    with client.span("outer", {"step": 1}) as outer:
        inside = client.capture("inside")
        with client.span("inner") as inner:
            inner.set("tokens", 12)
    after = client.capture("after")

    found = {event["event_type"]: event for event in events(client)}

    assert found["outer"]["kind"] == found["inner"]["kind"] == "span"
    assert found["inner"]["trace_id"] == found["outer"]["trace_id"] == outer.trace_id
    assert found["inner"]["parent_span_id"] == found["outer"]["span_id"] == outer.span_id
    assert "parent_span_id" not in found["outer"]
    assert (found["inside"]["trace_id"], found["inside"]["span_id"]) == (outer.trace_id, outer.span_id)
    assert found["inside"]["id"] == inside
    assert found["after"]["id"] == after
    assert "trace_id" not in found["after"]
    assert found["inner"]["data"] == {"tokens": 12}
    assert found["outer"]["data"] == {"step": 1}
    assert found["outer"]["status"] == "ok"
    assert found["outer"]["duration_ms"] >= found["inner"]["duration_ms"] >= 0


def test_a_span_records_the_exception_that_leaves_it_and_stays_a_span(client, events):
    with pytest.raises(LookupError), client.span("plan"):
        raise LookupError("nothing")

    (span,) = events(client)

    assert (span["kind"], span["status"]) == ("span", "error")
    assert span["error"]["type"] == "LookupError"
    assert span["error"]["message"] == "nothing"


def test_spans_follow_async_tasks_and_siblings_do_not_see_each_other(client, events):
    async def work(name):
        async with client.span(name):
            await asyncio.sleep(0)
            client.capture(f"in {name}")

    async def main():
        async with client.span("main"):
            await asyncio.gather(work("a"), work("b"))

    asyncio.run(main())
    found = {event["event_type"]: event for event in events(client)}

    for name in ("a", "b"):
        assert found[name]["parent_span_id"] == found["main"]["span_id"]
        assert found[f"in {name}"]["span_id"] == found[name]["span_id"]
    assert found["a"]["span_id"] != found["b"]["span_id"]


def test_a_span_that_is_left_in_another_task_than_it_was_entered_disturbs_nobody(client, events):
    async def main():
        span = client.span("plan")
        span.__enter__()

        async def leave():
            with client.span("other"):
                span.__exit__(None, None, None)
                client.capture("still inside the other")

        await asyncio.create_task(leave())

    asyncio.run(main())
    found = {event["event_type"]: event for event in events(client)}

    assert found["still inside the other"]["span_id"] == found["other"]["span_id"]


def test_a_span_continues_what_a_request_brought_and_says_what_to_send_on(client, events):
    with client.span("serve", traceparent=f"00-{TRACE}-{PARENT}-01") as span:
        assert span.traceparent == f"00-{TRACE}-{span.span_id}-01"

    (found,) = events(client)
    assert (found["trace_id"], found["parent_span_id"]) == (TRACE, PARENT)


@pytest.mark.parametrize(
    "header",
    [
        None, "", "00", 5, f"00-{TRACE}", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE[:-1]}g-{PARENT}-01", "-" * 300,
    ],
)  # fmt: skip
def test_a_traceparent_that_is_none_starts_a_new_trace(header):
    assert parse_traceparent(header) == ("", "")


def test_all_spans_of_a_trace_are_sampled_together(make, events):
    client = make(sample_rate=0.5)
    for _ in range(100):
        with client.span("outer"), client.span("inner"):
            pass

    traces = {}
    for event in events(client):
        traces.setdefault(event["trace_id"], []).append(event["event_type"])

    assert 20 < len(traces) < 80
    assert all(sorted(names) == ["inner", "outer"] for names in traces.values())


# Moments


def test_nothing_is_sent_while_an_answer_streams_and_all_of_it_at_the_next_checkpoint(server, client):
    client.capture("before")
    assert server.wait_stored(1)

    with client.busy(), client.busy():
        client.capture("during")
        client.flush_soon()
    assert client._pipeline._rhythm.busy == {}
    client.flush_soon(hint_s=5)

    assert server.wait_stored(2)
    assert client.flush(20).spooled == 0
    assert client.stats().flushes == client.stats().flushes_ok >= 1
    assert client.stats().flush_s >= client.stats().flush_last_s > 0


def test_a_flush_that_somebody_waits_for_sends_even_while_an_answer_streams(server, client):
    with client.busy():
        client.capture("during")
        assert client.flush(20).delivered == 1


def test_while_a_person_types_what_waits_is_sent_at_once(server, make):
    client = make()
    client.flush_soon(hint_s=60)  # nothing waits and there is no thread: nothing happens
    client.capture("before")

    with client.idle():
        assert server.wait_stored(1)
    assert client._idle == {}


def test_a_disabled_client_has_blocks_that_do_nothing():
    client = Client(None)

    with client.timed("a", "b") as added, client.span("c") as span, client.busy(), client.idle():
        added["x"] = 1
        span.set("y", 2)
    client.flush_soon()

    with pytest.raises(ValueError), client.timed("a", "b"), client.span("c"):
        raise ValueError
    assert client._pipeline is None


def test_blocks_work_from_many_threads(client, events):
    def work():
        for _ in range(50):
            with client.busy(), client.span("s"), client.timed("a", "b"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(events(client)) == 600
    assert client._busy == {}


def test_blocks_of_generators_that_end_in_any_order_leave_nothing_behind(client, events):
    def work(name):
        with client.span(name):
            yield
            yield

    first, second = work("a"), work("b")
    next(first)
    next(second)
    list(first)
    list(second)
    client.capture("after")
    with client.span("new"):
        pass

    found = {event["event_type"]: event for event in events(client)}
    assert "trace_id" not in found["after"]
    assert "parent_span_id" not in found["new"]


def test_a_sampled_out_span_that_ended_out_of_order_samples_nothing_else_out(make, events):
    client = make(sample_rules={"a": 0.0})
    first, second = client.span("a"), client.span("b")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)

    with client.span("c"):
        pass

    assert [event["event_type"] for event in events(client)] == ["c"]
