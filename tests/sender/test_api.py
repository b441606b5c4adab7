"""The client as a program calls it, in this process, against a strict recorder."""

import io
import os
import sys
import threading

import pytest

import leeward
import recorder
import sender_helpers
from leeward.clock import SystemClock
from leeward.sender import api, pipeline as pipelines
from leeward.sender.client import Client
from leeward.wire import native_encode

KEYWORDS_OF_OTHERS = {  # what programs written for other clients pass
    "debug": True,
    "disable_geoip": True,
    "flush_at": 5,
    "personal_api_key": "phx",
    "send_feature_flags": True,
    "timestamp_ms": 5,
}


@pytest.fixture
def server():
    with recorder.Recorder() as server:
        yield server
        assert server.broken == []


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("LEEWARD_") or name in {"DO_NOT_TRACK", "TELEMETRY_API_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make(server, tmp_path):
    """A function that makes clients; all are shut down at the end."""
    made = []

    def make(**settings):
        client = Client(recorder.KEY, server.host, **{"spool_dir": str(tmp_path), "device_id": False, **settings})
        made.append(client)
        return client

    yield make
    server.always = recorder.ok
    for client in made:
        client.shutdown(5)


@pytest.fixture
def client(make):
    return make()


def untold():
    """A client as the module-level one is before anything was said to it."""
    client = object.__new__(Client)
    client._begin_anew()
    return client


@pytest.mark.parametrize("mode", ["durable", "memory"])
def test_an_event_arrives_once_as_it_was_captured(server, make, mode):
    client = make(mode=mode)

    event_id = client.capture("chat.sent", {"tokens": 12, "nested": {"a": [1, None]}}, distinct_id="u1", timestamp=5)
    result = client.flush(20)

    assert result == leeward.FlushResult(delivered=1, spooled=0, dropped=0)
    assert server.events == {
        event_id: {
            "event_type": "chat.sent",
            "id": event_id,
            "timestamp": 5,
            "distinct_id": "u1",
            "data": {"tokens": 12, "nested": {"a": [1, None]}},
        }
    }


def test_a_thousand_events_from_four_threads_arrive_once_each(server, client):
    ids = []
    threads = [
        threading.Thread(target=lambda: ids.extend(client.capture("tick", {"n": n}) for n in range(250)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert client.flush(20).spooled == 0
    assert set(server.stored) == set(ids)
    assert len(server.stored) == 1000
    assert set(server.stored.values()) == {1}


@pytest.mark.parametrize(
    "trouble",
    [
        recorder.reset,
        recorder.raw(b""),
        recorder.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
        recorder.status(503),
        recorder.status(500),
        recorder.status(200, value=b"<html>sign in</html>"),
        recorder.status(302, "Location: http://elsewhere/\r\n"),
    ],
)
def test_c1_events_wait_while_the_server_is_in_trouble_and_arrive_once_it_heals(server, client, trouble):
    server.script.append(trouble)
    ids = [client.capture("tick") for _ in range(3)]

    assert client.flush(20) == leeward.FlushResult(delivered=3, spooled=0, dropped=0)
    assert server.stored == dict.fromkeys(ids, 1)
    assert client.stats().retries + server.connections >= 2


def test_c8_an_answer_that_is_lost_makes_the_same_batch_come_again(server, client):
    server.script.append(recorder.lost_answer)
    event_id = client.capture("tick")

    assert client.flush(20).delivered == 1
    assert server.stored == {event_id: 2}
    assert len({request.batch["batch_id"] for request in server.requests}) == 1


def test_c5_a_batch_that_is_too_large_is_halved(server, client):
    server.always = recorder.larger_than(3)
    for _ in range(10):
        client.capture("tick")

    assert client.flush(20).delivered == 10
    assert len(server.stored) == 10


def test_c4_a_refused_batch_is_counted_and_set_aside(server, client, tmp_path):
    server.script.append(recorder.status(400))
    client.capture("tick")

    assert client.flush(20) == leeward.FlushResult(delivered=0, spooled=0, dropped=1)
    assert client.stats().quarantined == 1
    assert len(list(tmp_path.glob("*/set-aside.jsonl"))) == 1


def test_c4_a_refused_key_stops_the_sending_until_the_client_is_configured_anew(server, tmp_path, monkeypatch):
    client = untold()
    monkeypatch.setattr(api, "client", client)
    server.script.append(recorder.status(401))
    api.init(recorder.KEY, server.host, spool_dir=str(tmp_path))
    first = client.capture("tick")
    result = client.flush(20)
    assert (result.spooled, client.stats().stopped, client.stats().last_error) == (1, True, "http_401")
    client.capture("later")
    assert client.flush(20).spooled == 2
    assert len(server.requests) == 1

    api.init(recorder.KEY, server.host, spool_dir=str(tmp_path))
    client.flush(20)

    assert server.wait_stored(2)
    assert first in server.stored
    client.shutdown(5)


def test_flush_returns_at_once_when_the_next_try_comes_too_late(server, client):
    server.always = recorder.status(503, "Retry-After: 200\r\n")
    client.capture("tick")

    assert client.flush(60) == leeward.FlushResult(delivered=0, spooled=1, dropped=0)


def test_a_client_that_was_told_nothing_looks_at_the_environment_when_it_is_first_used(server, tmp_path, monkeypatch):
    client = untold()
    monkeypatch.setenv("LEEWARD_API_KEY", recorder.KEY)
    monkeypatch.setenv("LEEWARD_HOST", server.host)
    monkeypatch.setenv("LEEWARD_SPOOL_DIR", str(tmp_path))

    assert client.capture("tick")
    assert client.flush(20).delivered == 1
    client.shutdown(5)


def test_c25_the_switch_is_read_in_each_capture(server, client):
    assert client.capture("one")
    client.disabled = True
    assert client.capture("two") is None
    client.disabled = False
    assert client.capture("three")

    client.flush(20)
    assert sorted(event["event_type"] for event in server.events.values()) == ["one", "three"]


def test_c25_a_client_without_a_key_cannot_be_switched_on():
    client = Client()
    client.disabled = False

    assert client.disabled
    assert client.capture("tick") is None


def test_a_start_that_fails_gives_a_disabled_client_that_says_why(caplog):
    client = Client(recorder.KEY, "nowhere")

    assert client.disabled
    assert client.capture("tick") is None
    assert "http://" in client.stats().last_error
    assert "the client is off" in caplog.text


def hostile():
    """An object of which everything raises; made in the test, since pytest itself would touch it."""

    def fail(self, *_):
        raise RuntimeError("hostile")

    names = ("__getattribute__", "__str__", "__repr__", "__bool__", "__len__", "__iter__", "__eq__")
    return type("Hostile", (), dict.fromkeys(names, fail))()


@pytest.mark.parametrize(
    "value",
    [
        hostile,
        lambda: {"a": hostile()},
        lambda: [1, 2],
        lambda: "text",
        lambda: b"\xff",
        lambda: 5,
        lambda: float("nan"),
        lambda: "\ud800",
    ],
)
def test_c22_whatever_is_given_arrives_as_something(server, client, value):
    assert client.capture("tick", value(), distinct_id=value(), timestamp=value(), session_id=value())
    assert client.capture("tick", correlation_id=value(), level=value(), groups=value(), **{"": value()})
    assert client.capture(value())

    assert client.flush(20).delivered == 3
    assert server.broken == []


def test_what_is_said_about_an_event_has_its_fields_on_the_wire(server, client, monkeypatch):
    check = recorder._check
    monkeypatch.setattr(recorder, "_check", lambda request: check(request)[:0])  # it expects ids and times of our own

    returned = client.capture(
        "e", timestamp="2026-01-02T03:04:05Z", uuid="order-7", session_id="s1", correlation_id="c1", level="warning"
    )

    assert returned == "order-7"
    assert client.flush(20).delivered == 1
    assert server.events["order-7"] == {
        "event_type": "e",
        "id": "order-7",
        "timestamp": "2026-01-02T03:04:05Z",
        "level": "WARN",
        "session_id": "s1",
        "correlation_id": "c1",
    }


def test_an_event_whose_time_and_id_make_no_sense_happened_now_and_has_a_new_id(server, client):
    before_ms = SystemClock().wall_ms()

    event_id = client.capture("e", timestamp="yesterday", uuid="x" * 129, level="loud")

    client.flush(20)
    event = server.events[event_id]
    assert before_ms <= event["timestamp"] <= SystemClock().wall_ms()
    assert "level" not in event


@pytest.mark.parametrize("name", sorted(KEYWORDS_OF_OTHERS))
def test_p1_keywords_that_nobody_knows_are_ignored(server, make, name):
    client = make(**{name: KEYWORDS_OF_OTHERS[name]})

    event_id = client.capture("e", {"a": 1}, **{name: KEYWORDS_OF_OTHERS[name]})

    assert client.flush(20).delivered == 1
    assert server.events[event_id]["data"] == {"a": 1}


def test_p1_init_ignores_keywords_that_nobody_knows(monkeypatch):
    monkeypatch.setattr(api, "client", untold())

    assert api.init(gzip=True, flush_at=5) is api.client


def test_ignored_keywords_are_named_once_in_debug(make, monkeypatch, capsys):
    monkeypatch.setenv("LEEWARD_DEBUG", "1")
    client = make(flush_at=5, gzip=True)
    for _ in range(3):
        client.capture("e", disable_geoip=True, timestamp_ms=1)
        client.log("INFO", "m", disable_geoip=True, stacklevel=2)

    assert capsys.readouterr().err.splitlines() == [
        "leeward: the client does not know flush_at, gzip: ignored",
        "leeward: capture() does not know disable_geoip, timestamp_ms: ignored",
        "leeward: a call for a log does not know stacklevel: ignored",
    ]


def test_ignored_keywords_are_not_named_without_debug(make, caplog, capfd):
    make(flush_at=5).capture("e", disable_geoip=True)

    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [closed, lambda: None, object])
def test_p1_a_stderr_that_cannot_be_written_to_costs_the_line_only(monkeypatch, stream):
    monkeypatch.setenv("LEEWARD_DEBUG", "1")
    monkeypatch.setenv("LEEWARD_HOST", "nowhere")
    monkeypatch.setenv("LEEWARD_API_KEY", recorder.KEY)
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr(api, "client", untold())

    assert untold().disabled
    untold().disabled = True
    assert Client().disabled
    assert api.init().disabled
    assert "http://" in api.client.stats().last_error


def test_p1_an_error_of_our_own_in_the_configuration_switches_the_client_off(make, monkeypatch, tmp_path):
    monkeypatch.setattr(native_encode, "load", lambda: 1 / 0)
    monkeypatch.setenv("LEEWARD_API_KEY", recorder.KEY)
    monkeypatch.setattr(api, "client", untold())

    for client in (make(), api.init(spool_dir=str(tmp_path)), untold()):
        assert client.disabled
        assert client.capture("tick") is None
        assert client.stats().last_error == "internal: ZeroDivisionError"


def test_p1_a_switch_that_is_neither_on_nor_off_changes_nothing(client):
    client.disabled = hostile()

    assert not client.disabled
    assert client.stats().last_error == "internal: RuntimeError"


def test_p1_an_error_of_our_own_is_swallowed_and_counted(client, monkeypatch):
    client.capture("tick")
    monkeypatch.setattr(pipelines, "bounded", lambda value: 1 / 0)
    assert client.capture("tick") is None
    assert client.stats().dropped == {"internal": 1}

    def fail(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        for name in ("flush", "finish", "stats"):
            patch.setattr(pipelines.Pipeline, name, fail)
        assert client.flush() == leeward.FlushResult(delivered=0, spooled=0, dropped=0)
        client.shutdown()
        assert client.stats().dropped == {"internal": 1}  # these calls lose no event


def test_p1_an_error_in_the_worker_does_not_end_the_delivery(server, client, monkeypatch):
    from leeward.sender import plan, worker

    judge = plan.judge
    failures = [ZeroDivisionError()]

    def fail_once(*arguments, **named):
        if failures:
            raise failures.pop()
        return judge(*arguments, **named)

    monkeypatch.setattr(worker, "ERROR_REST_S", 0.01)
    monkeypatch.setattr(plan, "judge", fail_once)
    client.capture("tick")

    assert client.flush(20).delivered == 1


def test_p1_an_error_at_exit_does_not_reach_the_program(client, monkeypatch):
    client.capture("tick")
    with monkeypatch.context() as patch:
        patch.setattr(pipelines, "_alive", [client._pipeline])
        patch.setattr(pipelines.Pipeline, "finish", lambda *_: 1 / 0)
        pipelines._at_exit()

    assert client.stats().last_error == "internal: at exit"


def test_c14_a_child_forked_in_the_middle_of_the_workers_import_leaves_its_events_to_others(server, make, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pipelines, "LOADING", sender_helpers.cut_off())
        child = make()
        child.capture("tick")
        assert child.flush(60).spooled == 1  # at once: there will be no thread
        child.shutdown()

    assert make().flush(20).delivered == 1


@pytest.mark.parametrize(("mode", "patience_s"), [("durable", pipelines.EXIT_PATIENCE_S), ("memory", None)])
def test_c11_the_exit_is_patient_only_where_leaving_would_lose_something(server, make, monkeypatch, mode, patience_s):
    server.always = recorder.status(503, "Retry-After: 200\r\n")
    client = make(mode=mode)
    client.capture("tick")
    waits = []
    monkeypatch.setattr(client._pipeline._worker, "wait_ended", lambda *limits, **named: waits.append((limits, named)))

    client.shutdown(2.0)

    assert waits == [((2.0,), {"patience_s": patience_s})]


def test_keyboard_interrupt_passes(client, monkeypatch):
    def interrupt(value):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipelines, "bounded", interrupt)

    with pytest.raises(KeyboardInterrupt):
        client.capture("tick")


def test_c12_after_shutdown_events_wait_for_the_next_process(server, make, client):
    client.capture("one")
    client.shutdown(20)

    assert client.capture("two")
    assert client.flush(20).spooled == 1
    client.shutdown(20)
    assert len(server.stored) == 1

    client._configure(client._config)  # lets go of it, as the end of the process would
    make().flush(20)
    assert len(server.stored) == 2


def test_c12_after_shutdown_in_memory_mode_events_are_dropped_and_counted(make):
    client = make(mode="memory")
    client.capture("one")
    client.shutdown(20)

    assert client.capture("two") is None
    assert client.stats().dropped == {"shut_down": 1}


def test_c20_what_finds_no_room_is_dropped_and_counted(server, make, monkeypatch):
    server.always = recorder.status(503)
    client = make(mode="memory")
    client.capture("fits")
    monkeypatch.setattr(client._pipeline._spool._memory, "_bytes_max", 0)

    assert client.capture("does not") is None
    assert client.stats().dropped == {"no_room": 1}


def test_switching_to_another_server_lets_the_old_one_have_its_events(server, tmp_path, make):
    client = make()
    client.capture("for the first")
    with recorder.Recorder() as second:
        from leeward.sender.config import configure

        client._configure(configure({}, api_key=recorder.KEY, host=second.host, spool_dir=str(tmp_path)))
        client.capture("for the second")
        client.flush(20)
        assert server.wait_stored(1)
        assert [event["event_type"] for event in second.events.values()] == ["for the second"]
        client.shutdown(20)
    assert [event["event_type"] for event in server.events.values()] == ["for the first"]


def test_nothing_that_is_shown_holds_the_key(client):
    client.capture("tick")

    assert recorder.KEY not in repr(client) + repr(client.stats()) + repr(client.flush(20))


@pytest.mark.parametrize("timeout_s", [None, float("inf"), 1e300, 10**400, "soon", object()])
def test_p1_a_time_to_wait_that_is_none_is_understood_or_replaced(client, timeout_s):
    client.capture("tick")

    assert client.flush(timeout_s).delivered == 1
    assert client.stats().dropped == {}


def test_p1_a_time_to_wait_that_is_no_number_waits_for_nothing(server, client):
    server.always = recorder.hang
    client.capture("tick")

    assert client.flush(float("nan")).spooled == 1


def test_what_is_left_on_disk_after_the_end_still_counts(server, make):
    server.always = recorder.status(503)
    client = make()
    client.capture("tick")
    client.shutdown(5)

    stats = client.stats()

    assert (stats.captured, stats.delivered + stats.spooled) == (1, 1)


def test_c25_who_opts_out_and_configures_the_client_anew_leaves_nothing_behind(server, tmp_path, monkeypatch):
    client = untold()
    monkeypatch.setattr(api, "client", client)
    server.always = recorder.status(503)
    api.init(recorder.KEY, server.host, spool_dir=str(tmp_path))
    client.capture("tick")
    former = client._pipeline
    former.flush(0.1)

    monkeypatch.setenv("DO_NOT_TRACK", "1")
    api.init(recorder.KEY, server.host, spool_dir=str(tmp_path))
    former._worker.wait_ended(20, patience_s=None)

    assert client.disabled
    assert former.counts.dropped == {"deleted": 1}
    assert list(tmp_path.glob("*/*/*/*.seg")) == []


@pytest.mark.parametrize("place", ["a\0b", "\ud800"])
def test_c17_a_place_that_no_system_can_have_is_replaced_by_memory(make, place):
    client = make(spool_dir=place)

    assert client.capture("tick")
    assert client.stats().volatile == 1
    assert client.flush(20).delivered == 1


def _fail(*_, **__):
    raise ZeroDivisionError


def _work(client):
    with client.timed("a", "b"), client.span("c"), client.busy(), client.idle():
        pass


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.capture("e"),
        lambda client: client.capture_exception(ValueError("no")),
        lambda client: client.log("INFO", "m"),
        lambda client: client.metric("m", 1),
        lambda client: client.flush(),
        lambda client: client.flush_soon(),
        lambda client: client.shutdown(),
        lambda client: client.delete_pending(),
        lambda client: client.stats(),
        lambda client: client.device_id,
        lambda client: client.reset_device_id(),
        _work,
    ],
)
def test_p1_no_call_raises_whatever_breaks_inside(client, monkeypatch, call):
    class Broken:
        pid = os.getpid()

        def __getattr__(self, name):
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(client, "_pipeline", Broken())
        call(client)

    assert client.stats().last_error == "internal: ZeroDivisionError"


def test_p1_a_context_that_cannot_be_set_raises_nothing(client, monkeypatch):
    monkeypatch.setattr("leeward.sender.client.update", _fail)

    client.set_context(session_id="s1")

    assert client.stats().last_error == "internal: ZeroDivisionError"
