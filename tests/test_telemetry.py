"""The names of a bespoke telemetry module, and the plain mode in which the client does exactly what such a module did."""

import logging
import os

import pytest

import leeward
import posthog_recorder
import programs
import recorder
from http_recorder import KEY, hang, ok, reset, status
from leeward import telemetry
from leeward.sender import api, pipeline as pipelines
from leeward.sender.config import configure
from leeward.sender.pipeline import Pipeline
from leeward.sender.results import Counts
from sender_helpers import HandClock, cut_off

WAKE_UP_S = 0.1
REPEAT_S = 0.5
TIMEOUT_S = 5.0
QUEUE = 256


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("LEEWARD_") or name in {"DO_NOT_TRACK", "TELEMETRY_API_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server():
    with recorder.Recorder() as server:
        yield server
        assert server.broken == []


@pytest.fixture
def posthog():
    with posthog_recorder.Recorder() as server:
        yield server
        assert server.broken == []


@pytest.fixture
def init(tmp_path):
    """`leeward.init`, undone at the end: the functions of `leeward.telemetry` belong to the module's one client."""

    def init(server, **settings):
        return leeward.init(KEY, server.host, **{"spool_dir": str(tmp_path), "device_id": False, **settings})

    yield init
    api.client.shutdown(5)
    api.client._begin_anew()


def data(server, name):
    (event,) = [event for event in server.events.values() if event["event_type"] == name]
    return event["data"]


# The names


def test_the_client_is_the_one_of_the_package():
    assert telemetry.client is leeward.client
    assert telemetry.capture_exception == leeward.capture_exception
    assert telemetry.flush == leeward.flush


def test_around_a_piece_of_work_there_are_a_start_and_an_end_with_the_time_between(server, init):
    init(server)

    with telemetry.capture("build_start", "build_end", {"target": "x"}) as added:
        assert api.client.stats().captured == 1
        added["files"] = 3
    assert telemetry.flush(20).delivered == 2

    start, end = data(server, "build_start"), data(server, "build_end")
    assert start == {"target": "x", "pair_id": end["pair_id"]}
    assert end == {"target": "x", "files": 3, "pair_id": start["pair_id"], "duration_ms": end["duration_ms"]}
    assert end["duration_ms"] >= 0


def test_an_exception_stands_in_the_place_of_the_end_is_captured_once_and_goes_on(server, init):
    init(server)
    error = ValueError("no")

    with (
        pytest.raises(ValueError, match="no") as raised,
        telemetry.capture("outer_start", "outer_end"),
        telemetry.capture("build_start", "build_end", {"target": "x"}),
    ):
        raise error
    assert telemetry.flush(20).delivered == 3

    assert raised.value is error
    assert sorted(event["event_type"] for event in server.events.values()) == [
        "$exception", "build_start", "outer_start"
    ]  # fmt: skip
    (captured,) = [event for event in server.events.values() if event["event_type"] == "$exception"]
    assert (captured["error"]["type"], captured["error"]["message"]) == ("ValueError", "no")
    assert captured["data"].items() >= {"target": "x", "event": "build_start"}.items()
    assert captured["data"]["duration_ms"] >= 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: telemetry.capture("once", {"a": 1}),
        lambda: telemetry.capture("once", None, {"a": 1}),
        lambda: telemetry.capture("once", properties={"a": 1}),
    ],
)
def test_without_an_end_there_is_one_event_at_once(server, init, call):
    init(server)

    with call() as captured:
        assert captured == {}

    assert telemetry.flush(20).delivered == 1
    (event,) = server.events.values()
    assert (event["event_type"], event["data"]) == ("once", {"a": 1})
    assert call().id is not None


def test_an_exception_is_captured_with_its_properties(server, init):
    init(server)

    event_id = telemetry.capture_exception(ValueError("no"), {"stage": "plan"})

    telemetry.flush(20)
    assert server.events[event_id]["error"]["message"] == "no"
    assert server.events[event_id]["data"]["stage"] == "plan"


def switched_off(monkeypatch, tmp_path, init, server):
    init(server)
    telemetry.client.disabled = True


def opted_out(monkeypatch, tmp_path, init, server):
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    init(server)


def failed_to_start(monkeypatch, tmp_path, init, server):
    init(server)
    leeward.init(KEY, "nowhere", mode="plain")


def told_nothing(monkeypatch, tmp_path, init, server):
    api.client._begin_anew()


@pytest.mark.parametrize("off", [switched_off, opted_out, failed_to_start, told_nothing])
def test_c25_a_client_that_is_off_does_the_work_and_nothing_else(server, init, monkeypatch, tmp_path, off):
    off(monkeypatch, tmp_path, init, server)
    done = []

    with telemetry.capture("start", "end"):
        done.append("work")
    with pytest.raises(ValueError, match="of the work"), telemetry.capture("start", "end"):
        raise ValueError("of the work")

    assert done == ["work"]
    assert telemetry.capture("once").id is None
    assert telemetry.capture_exception(ValueError("no")) is None
    assert telemetry.flush(5) == leeward.FlushResult(delivered=0, spooled=0, dropped=0)
    assert telemetry.client.disabled
    assert server.connections == 0
    assert list(tmp_path.iterdir()) == []
    api.client._begin_anew()


# The plain mode, step by step: no thread, time in the test's hand, a real transport


class Plain:
    """A pipeline in plain mode whose worker only the test drives."""

    def __init__(self, monkeypatch, host, wire):
        monkeypatch.setattr(pipelines, "LOADING", cut_off())  # so it does not get a thread
        self.clock = HandClock(1_800_000_000.0)  # PostHog is told when a request left
        self.counts = Counts()
        self.timeouts_s = []
        make = Pipeline._make_transport

        def make_transport(pipeline, on_progress, timeout_s):
            self.timeouts_s.append(timeout_s)
            return make(pipeline, on_progress, timeout_s)

        monkeypatch.setattr(Pipeline, "_make_transport", make_transport)
        config = configure({}, api_key=KEY, host=host, wire=wire, mode="plain", device_id=False)
        self.pipeline = Pipeline(config, self.counts, clock=self.clock)

    def capture(self, name="tick", **properties):
        return self.pipeline.record("event", name, properties)

    def step(self):
        return self.pipeline._worker.step()

    def after(self, seconds):
        """One step after so much time."""
        self.clock.now_s += seconds
        return self.step()

    def close(self):
        self.pipeline.retire(send=False)
        self.step()


@pytest.fixture
def plain(monkeypatch, posthog):
    with monkeypatch.context() as patch:
        plain = Plain(patch, posthog.host, "posthog")
        yield plain
        plain.close()


def test_c20_the_queue_holds_256_and_what_comes_next_is_dropped_and_counted(plain):
    ids = [plain.capture() for _ in range(QUEUE)]

    assert None not in ids
    assert plain.capture() is None
    assert plain.pipeline.record("exception", "$exception", {}, error={"type": "E", "message": ""}) is None
    assert (plain.counts.captured, plain.counts.dropped) == (QUEUE, {"no_room": 2})


def test_events_wait_a_tenth_of_a_second_for_company(plain, posthog):
    assert plain.step() is None
    plain.capture()
    assert plain.step() == pytest.approx(WAKE_UP_S)
    plain.capture()
    assert plain.after(WAKE_UP_S / 2) == pytest.approx(WAKE_UP_S / 2)
    assert posthog.requests == []

    assert plain.after(WAKE_UP_S / 2) == 0.0
    assert [len(request.items) for request in posthog.requests] == [2]
    plain.capture()
    assert plain.step() == pytest.approx(WAKE_UP_S)  # it does not grow, however little happens


def test_one_event_goes_to_capture_and_several_to_batch(plain, posthog):
    plain.capture()
    plain.after(1.0)
    plain.after(1.0)
    for _ in range(3):
        plain.capture()
    plain.after(1.0)
    plain.after(1.0)

    assert [request.path.partition("?")[0] for request in posthog.requests] == ["/capture/", "/batch/"]
    assert plain.counts.delivered == 4


TROUBLE = {str(code): status(code, "Retry-After: 60\r\n") for code in (500, 502, 503, 504)} | {"network": reset}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_c6_there_is_one_repeat_after_half_a_second_and_then_events_are_dropped(plain, posthog, trouble):
    posthog.always = TROUBLE[trouble]
    plain.capture()
    plain.step()
    plain.after(WAKE_UP_S)
    assert plain.step() == pytest.approx(REPEAT_S)
    assert plain.after(REPEAT_S / 2) == pytest.approx(REPEAT_S / 2)
    assert plain.counts.dropped == {}

    plain.after(REPEAT_S / 2)
    assert plain.step() is None
    assert (plain.counts.delivered, plain.counts.dropped) == (0, {"not_delivered": 1})
    assert len(posthog.requests) == 2
    posthog.always = ok
    plain.capture()
    plain.step()
    plain.after(WAKE_UP_S)
    assert plain.counts.delivered == 1


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_repeat_that_is_taken_delivers_once(plain, posthog, trouble):
    posthog.script.append(TROUBLE[trouble])
    event_id = plain.capture()
    plain.step()
    plain.after(WAKE_UP_S)
    plain.after(REPEAT_S)

    assert (plain.counts.delivered, plain.counts.dropped) == (1, {})
    assert posthog.stored == {event_id: 1}


@pytest.mark.parametrize("code", [400, 404, 413])
def test_c4_what_the_server_refuses_is_not_repeated(plain, posthog, code):
    posthog.always = status(code)
    plain.capture()
    plain.step()
    plain.after(WAKE_UP_S)

    assert plain.step() is None
    assert plain.counts.dropped == {f"http_{code}": 1}
    assert len(posthog.requests) == 1


def test_an_exchange_may_take_five_seconds(plain):
    plain.capture()
    plain.step()
    plain.after(WAKE_UP_S)

    assert plain.timeouts_s == [TIMEOUT_S]


def test_p1_a_dropped_event_is_one_line_at_debug(plain, posthog, caplog):
    posthog.always = status(503)
    with caplog.at_level(logging.DEBUG, "leeward"):
        for _ in range(3):
            plain.capture()
            plain.step()
            plain.after(WAKE_UP_S)
            plain.after(REPEAT_S)

    assert plain.counts.dropped == {"not_delivered": 3}
    assert [(record.name, record.levelname) for record in caplog.records] == [("leeward", "DEBUG")]
    assert "dropped" in caplog.text


# The plain mode as a program uses it


def test_an_exception_has_the_flat_keys_and_the_callers_properties_win(posthog, init):
    init(posthog, wire="posthog", mode="plain")

    event_id = telemetry.capture_exception(
        ValueError("no"), {"stage": "plan", "$exception_message": "mine", "level": "own", "$lib": "my-tool"}
    )
    telemetry.flush(20)

    event = posthog.events[event_id]
    assert event["event"] == "$exception"
    assert event["properties"].items() >= {
        "$exception_type": "ValueError", "$exception_message": "mine", "$exception_person": event["distinct_id"],
        "stage": "plan", "level": "own", "$lib": "my-tool",
    }.items()  # fmt: skip
    assert "ValueError: no" in event["properties"]["$exception_stack_trace"]


def test_plain_mode_touches_no_disk(posthog, init, tmp_path):
    init(posthog, wire="posthog", mode="plain", device_id=None)

    with telemetry.capture("start", "end"):
        pass
    assert telemetry.flush(20).delivered == 2
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import atexit, time
import leeward
from leeward.telemetry import capture, capture_exception, client
leeward.init({key!r}, {host!r}, wire="posthog", mode="plain")
with capture("build_start", "build_end", {{"target": "x"}}):
    pass
try:
    with capture("test_start", "test_end"):
        raise ValueError("no")
except ValueError as error:
    capture_exception(error, {{"again": True}})
capture("once", {{"a": 1}})
started = time.perf_counter()
atexit._run_exitfuncs()
print(time.perf_counter() - started)
"""
PROGRAM_EVENTS = ["$exception", "$exception", "build_end", "build_start", "once", "test_start"]


def test_c11_a_program_sends_what_waits_when_it_ends(posthog):
    result = programs.run(PROGRAM.format(key=KEY, host=posthog.host))

    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(event["event"] for event in posthog.events.values()) == PROGRAM_EVENTS


@pytest.mark.parametrize("gone", ["refused", "hanging", "failing"])
def test_c11_a_program_ends_within_two_seconds_and_in_silence_when_the_server_is_gone(gone):
    with posthog_recorder.Recorder() as server:
        server.always = hang if gone == "hanging" else status(503)
        if gone == "refused":
            server.close()
        result = programs.run(PROGRAM.format(key=KEY, host=server.host))

    assert (result.returncode, result.stderr) == (0, "")
    assert float(result.stdout) < 2.0 + 3.0  # the limit, and generously for a busy machine
