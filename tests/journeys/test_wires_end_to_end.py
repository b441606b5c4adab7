"""Everything a client can say, over each wire, against receivers that take nothing that is not exactly right.

Faults 4, 5, 8 and 9 of a client are played on the wires of others, too: what is stored there is stored once.
"""

import datetime
import os
import signal

import pytest

import otlp_recorder
import posthog_recorder
import programs
import recorder
from http_recorder import KEY, larger_than, lost_answer, ok, status
from leeward.sender.client import Client
from leeward.sender.context import CURRENT, EMPTY

RECORDERS = {"native": recorder.Recorder, "posthog": posthog_recorder.Recorder, "otlp": otlp_recorder.Recorder}
FOREIGN_WIRES = ["posthog", "otlp"]
UTC = datetime.UTC
AT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
AT_MS = 1_767_323_045_000
ORDER_ID = "11111111-2222-4333-8444-555555555555"


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("LEEWARD_") or name in {"DO_NOT_TRACK", "TELEMETRY_API_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    CURRENT.set(EMPTY)
    yield
    CURRENT.set(EMPTY)


@pytest.fixture(params=list(RECORDERS))
def wire(request):
    return request.param


@pytest.fixture
def server(wire):
    with RECORDERS[wire]() as server:
        yield server
        assert server.broken == []


@pytest.fixture
def client(server, wire, tmp_path):
    client = Client(KEY, server.host, wire=wire, spool_dir=str(tmp_path), app="journey/1.2", device_id="device-1")
    yield client
    server.always = ok
    client.shutdown(5)


def chained():
    """An exception with a cause that has a context."""
    try:
        try:
            try:
                {}["inner"]
            except KeyError:
                int("context")
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        return error


def say_everything(client, *, foreign):
    """Use the whole API; what was returned, by what it stands for. `foreign`: also ids and times as texts."""
    client.set_context(session_id="s1", correlation_id="c1", plan="pro")
    said = {
        "bare": client.capture("bare"),
        "full": client.capture(
            "full",
            {"tokens": 12, "nested": {"a": [1, None, True, 0.5]}, "plan": "own"},
            distinct_id="u1",
            timestamp=AT,
            groups={"company": "acme"},
            level="warning",
        ),
        "dated": client.capture("dated", timestamp=AT_MS),
        "exception": client.capture_exception(chained(), {"stage": "plan"}, distinct_id="u1"),
        "metric": client.metric("queue.length", 7, unit="1", properties={"queue": "q"}),
        "ratio": client.metric("hit.ratio", 0.25),
    }
    for level in ("DEBUG", "INFO", "WARN", "ERROR", "FATAL"):
        said[level] = client.log(level, f"a line at {level}", {"attempt": 2})
    with client.timed("build_start", "build_end", {"target": "x"}) as added:
        added["files"] = 3
    with pytest.raises(ZeroDivisionError), client.timed("try_start", "try_end"):
        1 / 0  # noqa: B018 - it raises
    with client.span("outer", {"step": 1}) as outer:
        with pytest.raises(OSError, match="gone"), client.span("inner"):
            raise OSError("gone")
        said["inside"] = client.capture("inside")
        outer.set("late", 2)
    if foreign:
        said["order"] = client.capture("order", uuid=ORDER_ID, timestamp="2026-01-02T04:04:05+01:00")
    client.set_context(session_id=None, correlation_id=None, plan=None)
    return said, outer


# Besides what `said` names: two starts, one end, the exception of the pair, two spans.
UNNAMED = 6


def test_everything_that_can_be_said_arrives_once_under_its_own_id(server, client, wire):
    said, _ = say_everything(client, foreign=wire != "native")

    result = client.flush(20)

    assert (result.spooled, result.dropped) == (0, 0)
    assert None not in said.values()
    assert result.delivered == len(said) + UNNAMED == len(server.stored)
    assert set(said.values()) <= set(server.stored)
    assert set(server.stored.values()) == {1}


def test_a_request_says_who_sends_it(server, client):
    client.capture("e")
    client.flush(20)

    (request,) = server.requests
    assert request.headers["user-agent"].startswith("journey/1.2 leeward/")


@pytest.mark.parametrize("wire", ["posthog"], indirect=True)
def test_posthog_is_told_in_its_own_words(server, client):
    said, outer = say_everything(client, foreign=True)
    client.flush(20)
    events = {name: server.events[event_id] for name, event_id in said.items()}
    by_name = {event["event"]: event for event in server.events.values()}

    full = events["full"]
    assert (full["event"], full["distinct_id"]) == ("full", "u1")
    assert posthog_recorder.moment(full["timestamp"]) == AT
    assert full["properties"].items() >= {
        "tokens": 12, "nested": {"a": [1, None, True, 0.5]}, "plan": "own", "$groups": {"company": "acme"},
        "$session_id": "s1", "correlation_id": "c1", "$device_id": "device-1", "level": "WARN",
    }.items()  # fmt: skip
    assert events["bare"]["properties"]["plan"] == "pro"
    assert events["bare"]["distinct_id"] == "device-1"
    assert posthog_recorder.moment(events["dated"]["timestamp"]) == AT
    assert (events["order"]["uuid"], posthog_recorder.moment(events["order"]["timestamp"])) == (ORDER_ID, AT)

    broken = events["exception"]["properties"]
    assert [one["type"] for one in broken["$exception_list"]] == ["RuntimeError", "ValueError", "KeyError"]
    assert (broken["$exception_type"], broken["$exception_message"]) == ("RuntimeError", "outer")
    assert "was the direct cause" in broken["$exception_stack_trace"]
    assert (broken["$exception_person"], broken["stage"]) == ("u1", "plan")
    assert events["metric"]["properties"].items() >= {"$metric_name": "queue.length", "value": 7, "unit": "1"}.items()
    assert events["WARN"]["properties"].items() >= {"message": "a line at WARN", "attempt": 2}.items()
    start, end = by_name["build_start"]["properties"], by_name["build_end"]["properties"]
    assert start["pair_id"] == end["pair_id"]
    assert (start["target"], end["target"], end["files"]) == ("x", "x", 3)
    assert end["duration_ms"] >= 0
    spans = {
        event["properties"]["$span_name"]: event["properties"]
        for event in server.events.values()
        if event["event"] == "$span"
    }
    assert spans["inner"]["$parent_span_id"] == spans["outer"]["$span_id"] == outer.span_id
    assert spans["inner"]["$trace_id"] == outer.trace_id == events["inside"]["properties"]["$trace_id"]
    assert (spans["inner"]["status"], spans["inner"]["$exception_message"]) == ("error", "gone")
    assert (spans["outer"]["step"], spans["outer"]["late"], spans["outer"]["status"]) == (1, 2, "ok")


@pytest.mark.parametrize("wire", ["otlp"], indirect=True)
def test_otlp_has_spans_log_records_and_gauges(server, client):
    said, outer = say_everything(client, foreign=True)
    client.flush(20)
    items = {name: server.events[event_id] for name, event_id in said.items()}
    found = {
        name: otlp_recorder.attributes(item.attributes)
        for name, item in items.items()
        if name not in {"metric", "ratio"}
    }

    assert server.services == {"journey"}
    assert server.signals == {"spans": 2, "metrics": 2, "log_records": len(said) + UNNAMED - 4}
    assert (items["full"].event_name, items["full"].severity_number) == ("full", 13)
    assert items["full"].time_unix_nano == AT_MS * 1_000_000 == items["order"].time_unix_nano
    assert found["full"].items() >= {
        "tokens": 12, "nested": {"a": [1, None, True, 0.5]}, "plan": "own", "$groups": {"company": "acme"},
        "user.id": "u1", "session.id": "s1", "correlation.id": "c1", "device.id": "device-1",
    }.items()  # fmt: skip
    assert found["exception"]["exception.type"] == "RuntimeError"
    assert "was the direct cause" in found["exception"]["exception.stacktrace"]
    levels = [items[level].severity_number for level in ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")]
    assert levels == [5, 9, 13, 17, 21]
    assert items["WARN"].body.string_value == "a line at WARN"
    (point,) = items["metric"].gauge.data_points
    assert (items["metric"].name, items["metric"].unit, point.as_int) == ("queue.length", "1", 7)
    (point,) = items["ratio"].gauge.data_points
    assert point.as_double == 0.25
    spans = {item.name: item for item in server.events.values() if hasattr(item, "span_id") and hasattr(item, "events")}
    assert spans["inner"].parent_span_id == spans["outer"].span_id == bytes.fromhex(outer.span_id)
    assert items["inside"].trace_id == spans["inner"].trace_id == bytes.fromhex(outer.trace_id)
    assert (spans["inner"].status.code, spans["inner"].status.message) == (2, "gone")
    assert [event.name for event in spans["inner"].events] == ["exception"]


def test_errors_leave_first_whatever_waited_before_them(server, client):
    with client.busy():
        plain = [client.capture("tick") for _ in range(5)]
        errors = {client.log("ERROR", "no"), client.capture_exception(ValueError("no")), client.log("FATAL", "no")}
        plain.append(client.capture("tick"))
        client.flush(20)

    assert set(server.requests[0].ids) == errors
    assert [name for request in server.requests[1:] for name in request.ids] == plain


def test_c1_a_server_that_is_away_for_a_while_gets_everything_once(server, client):
    server.script.extend([status(503)] * 3)
    ids = {client.capture("tick", {"n": n}) for n in range(20)} | {client.metric("m", 1), client.log("INFO", "m")}

    assert client.flush(30).spooled == 0
    assert set(server.stored) == ids
    assert set(server.stored.values()) == {1}
    assert client.stats().retries == 3


def test_c5_a_request_that_is_too_large_is_halved_until_it_is_taken(server, client):
    server.always = larger_than(3)
    ids = {client.capture("tick", {"n": n}) for n in range(10)}

    assert client.flush(20).delivered == 10
    assert set(server.stored) == ids
    assert set(server.stored.values()) == {1}


def test_c4_what_the_server_takes_only_in_part_is_counted_and_not_sent_again(server, client, wire):
    refusal, reason, refused = {
        "native": (recorder.refuse({0: "missing_event_type", 2: "missing_event_type"}), "missing_event_type", 2),
        "posthog": (posthog_recorder.over_quota, "quota_limited", 5),
        "otlp": (otlp_recorder.partial(2), "rejected", 2),
    }[wire]
    server.script.append(refusal)
    with client.busy():
        for _ in range(5):
            client.capture("tick")
        result = client.flush(20)

    assert (result.delivered, result.dropped, result.spooled) == (5 - refused, refused, 0)
    assert client.stats().dropped == {reason: refused}
    assert len(server.requests) == 1


@pytest.mark.parametrize("wire", FOREIGN_WIRES, indirect=True)
def test_c8_an_answer_that_is_lost_brings_the_same_ids_again(server, client):
    server.script.append(lost_answer)
    with client.busy():
        ids = [client.capture("tick") for _ in range(4)]
        assert client.flush(20).delivered == 4

    assert server.stored == dict.fromkeys(ids, 2)


@pytest.mark.parametrize("wire", FOREIGN_WIRES, indirect=True)
def test_c9_what_a_killed_program_said_is_sent_by_the_next_one_with_the_same_destination(server, wire, tmp_path):
    """And by no other: what waits for one wire is nothing to a client of another."""
    server.always = status(503)
    settings = f", wire={wire!r}, app='journey/1.2'"
    body = """
    n = 0
    while True:
        n += 1
        ids = [leeward.capture("tick", {"n": n}), leeward.metric("m", n), leeward.log("ERROR", "no"),
               leeward.capture_exception(ValueError(n))]
        print(*ids, flush=True)
    """
    with programs.start(programs.program(body, server.host, tmp_path, settings)) as process:
        ids = [name for _ in range(50) for name in process.stdout.readline().split()]
        process.send_signal(signal.SIGKILL)
        ids += process.stdout.read().rpartition("\n")[0].split()
    assert server.stored == {}
    server.always = ok

    other = programs.program("print(leeward.flush(5).delivered)", server.host, tmp_path, ", wire='native'")
    assert programs.run(other).stdout == "0\n"
    result = programs.run(programs.program("print(leeward.flush(20).spooled)", server.host, tmp_path, settings))

    assert (result.stdout, result.stderr) == ("0\n", "")
    assert set(ids) <= set(server.stored)
    assert len(server.stored) - len(ids) in range(5)  # the kill may have come before the print
    assert set(server.stored.values()) == {1}
