"""What a program or a person can switch: sampling, consent, deletion, the device's id, the context, key and server."""

import os
import signal
import stat
import threading

import pytest

import leeward
import programs
import recorder
from http_recorder import KEY, hang, ok, status
from leeward.sender import api, optout, pipeline as pipelines, worker as work
from leeward.sender.client import Client
from leeward.sender.context import CURRENT, EMPTY
from leeward.sender.rhythm import Rhythm
from sender_helpers import cut_off
from server_process import until

PEOPLE = [f"person{number}" for number in range(200)]
UUID_CHARS = 36


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("LEEWARD_") or name in {"DO_NOT_TRACK", "TELEMETRY_API_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    CURRENT.set(EMPTY)
    yield
    CURRENT.set(EMPTY)


@pytest.fixture
def server():
    with recorder.Recorder() as server:
        yield server
        assert server.broken == []


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def make(server, spool):
    """A function that makes clients; all are shut down at the end."""
    made = []

    def make(**settings):
        client = Client(
            **{"api_key": KEY, "host": server.host, "spool_dir": str(spool), "device_id": False, **settings}
        )
        made.append(client)
        return client

    yield make
    server.always = ok
    for client in made:
        client.shutdown(5)


@pytest.fixture
def init(server, spool):
    """`leeward.init` on the module's client, undone at the end."""

    def init(**settings):
        return leeward.init(
            **{"api_key": KEY, "host": server.host, "spool_dir": str(spool), "device_id": False, **settings}
        )

    yield init
    server.always = ok
    api.client.shutdown(5)
    api.client._begin_anew()


def killed_with_five_events(server, spool):
    """A program that captures, and is killed; what it said waits on disk."""
    body = """
    for _ in range(5): leeward.capture("tick")
    print("now", flush=True)
    time.sleep(60)
    """
    with programs.start(programs.program(body, server.host, spool)) as process:
        assert process.stdout.readline() == "now\n", process.stderr.read()
        process.send_signal(signal.SIGKILL)
    assert events_on_disk(spool)


def events_on_disk(spool):
    """Whether any event of ours lies in a file there."""
    return [path for path in spool.rglob("*") if path.is_file() and b"event_type" in path.read_bytes()]


# Sampling


def kept(client, **settings):
    return {who for who in PEOPLE if client.capture("tick", distinct_id=who, **settings) is not None}


def test_who_is_kept_is_kept_in_every_client_and_at_every_higher_rate(make):
    quarter, again, half = make(sample_rate=0.25), make(sample_rate=0.25, mode="memory"), make(sample_rate=0.5)

    few = kept(quarter)

    assert 20 < len(few) < 90
    assert kept(quarter) == kept(again) == few
    assert few < kept(half)
    assert quarter.stats().sampled_out == 2 * (len(PEOPLE) - len(few))
    assert quarter.stats().captured == 2 * len(few)


def test_the_context_says_whom_an_event_concerns_for_sampling_too(make):
    client = make(sample_rate=0.25)
    few = kept(client)

    for who in PEOPLE[:50]:
        client.set_context(distinct_id=who)
        assert (client.capture("tick") is not None) is (who in few)


def test_a_rule_for_a_name_goes_before_one_for_a_property_and_both_before_the_rate(server, make):
    client = make(sample_rate=0.0, sample_rules={"chat.token": 0.0, "paid": 1.0, "named": 1.0})

    assert client.capture("other") is None
    assert client.capture("chat.token", {"paid": True}) is None
    assert client.capture("other", {"paid": None})
    assert client.capture("named")
    client.set_context(paid=True)
    assert client.capture("other")
    with client.timed("start", "end"):
        assert client.stats().captured == 4
    assert client.flush(20).delivered == 5


def test_exceptions_are_never_sampled_out(server, make):
    client = make(sample_rate=0.0, sample_rules={"$exception": 0.0, "stage": 0.0})

    ids = [client.capture_exception(ValueError("no"), {"stage": "plan"}, distinct_id=who) for who in PEOPLE[:20]]
    with pytest.raises(ValueError, match="no"), client.timed("start", "end"):
        raise ValueError("no")

    assert None not in ids
    assert client.flush(20).delivered == 21
    assert client.stats().sampled_out == 1


@pytest.mark.parametrize("who", [None, "u"], ids=["of nobody", "of somebody"])
def test_a_pair_is_kept_or_left_as_a_whole(server, make, who):
    client = make(sample_rate=0.5, sample_rules={"build_end": 0.0})
    for number in range(100):
        with client.timed("build_start", "build_end", distinct_id=who and f"{who}{number}"):
            pass
    client.flush(20)

    pairs = {}
    for event in server.events.values():
        pairs.setdefault(event["data"]["pair_id"], []).append(event["event_type"])
    assert 20 < len(pairs) < 80
    assert set(map(tuple, pairs.values())) == {("build_start", "build_end")}
    assert client.stats().sampled_out == 2 * (100 - len(pairs))


def test_a_trace_is_kept_or_left_as_a_whole(server, make):
    client = make(sample_rate=0.5)
    for _ in range(60):
        with client.span("outer"), client.span("inner"):
            pass
    client.flush(20)

    traces = {}
    for event in server.events.values():
        traces.setdefault(event["trace_id"], []).append(event["event_type"])
    assert 10 < len(traces) < 50
    assert {tuple(sorted(names)) for names in traces.values()} == {("inner", "outer")}


def test_before_send_is_asked_about_what_the_sampling_kept_and_only_about_that(server, make):
    asked = []

    def before_send(event):
        asked.append(event["distinct_id"])
        return None if event["distinct_id"] in dropped else {**event, "properties": {"changed": True}}

    client = make(sample_rate=0.25, before_send=before_send)
    few = sorted(kept(make(sample_rate=0.25)))
    dropped = few[:5]

    assert kept(client) == set(few[5:])
    assert sorted(asked) == few
    assert client.stats().dropped == {"before_send": 5}
    assert client.stats().sampled_out == len(PEOPLE) - len(few)


# Consent


def test_c25_an_argument_wins_over_environment_and_file(make, monkeypatch, tmp_path):
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    (tmp_path / "leeward.toml").write_text("[client]\ndisabled = true\n")

    assert make().disabled
    assert not make(disabled=False).disabled
    monkeypatch.delenv("DO_NOT_TRACK")
    assert make().disabled
    assert make(disabled=True).disabled


OFF = {
    "argument": (", disabled=True", "", {}),
    "environment": ("", "", {"LEEWARD_DISABLED": "1"}),
    "do not track": ("", "", {"DO_NOT_TRACK": "1"}),
    "file": ("", "", {"LEEWARD_CONFIG": "leeward.toml"}),
    "attribute": ("", "leeward.client.disabled = True", {}),
}


@pytest.mark.parametrize("how", OFF)
def test_c25_a_program_that_is_off_makes_no_thread_no_file_no_socket_and_no_import(server, spool, tmp_path, how):
    argument, statement, variables = OFF[how]
    (tmp_path / "leeward.toml").write_text("[client]\ndisabled = true\n")
    if "LEEWARD_CONFIG" not in variables:
        (tmp_path / "leeward.toml").unlink()
    body = f"""
    {statement}
    seen = []
    sys.addaudithook(lambda event, arguments: seen.append(event))
    captured = [leeward.capture("a"), leeward.log("WARN", "a"), leeward.metric("a", 1)]
    captured.append(leeward.capture_exception(ValueError("no")))
    leeward.set_context(plan="pro")
    leeward.flush(1), leeward.flush_soon(), leeward.stats(), leeward.shutdown()
    did = set(seen) & {{"open", "import", "os.mkdir", "_thread.start_new_thread", "socket.__new__"}}
    print(captured, did, repr(leeward.client.device_id))
    """
    result = programs.run(programs.program(body, server.host, spool, argument), **variables)

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "[None, None, None, None] set() ''\n"
    assert server.connections == 0
    assert not spool.exists()


def by_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LEEWARD_DISABLED", "1")


def by_file(monkeypatch, tmp_path):
    (tmp_path / "leeward.toml").write_text("[client]\ndisabled = true\n")


@pytest.mark.parametrize("mode", ["durable", "memory"])
@pytest.mark.parametrize("opt_out", [by_environment, by_file])
def test_c25_a_person_who_opts_out_while_the_program_runs_is_heard_and_what_waits_is_deleted(
    server, make, spool, monkeypatch, tmp_path, opt_out, mode
):
    monkeypatch.setattr(optout, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(work, "LOOK_EVERY_S", 0.01)
    server.always = status(503)
    client = make(mode=mode)
    for _ in range(5):
        client.capture("tick")
    assert server.wait_for(lambda: server.requests)

    opt_out(monkeypatch, tmp_path)
    until(lambda: client.disabled, "the client hears it")

    assert client.capture("tick") is None
    until(lambda: client.stats().dropped == {"deleted": 5}, "what waited is deleted")
    assert client.stats().spooled == 0
    until(lambda: not list(spool.glob("*/*/*")), "the files are gone")
    assert events_on_disk(spool) == []
    server.always = ok
    assert make(disabled=False, mode=mode).flush(20).delivered == 0
    assert server.stored == {}


def test_c25_a_switch_says_stop_and_go_and_what_was_captured_before_still_goes(server, make):
    client = make()
    with client.busy():
        first = client.capture("one")
        client.disabled = True
        assert client.capture("two") is None
    client.disabled = False
    last = client.capture("three")

    client.flush(20)
    assert server.stored == {first: 1, last: 1}


def test_c25_who_has_opted_out_before_a_start_finds_nothing_left_from_earlier(server, make, spool, monkeypatch):
    server.always = status(503)
    killed_with_five_events(server, spool)

    monkeypatch.setenv("DO_NOT_TRACK", "1")
    client = make()

    assert client.disabled
    assert client.stats().dropped == {}
    assert events_on_disk(spool) == []
    assert not list(spool.glob("*/*/*"))


# Deletion on request


@pytest.mark.parametrize("mode", ["durable", "memory", "plain"])
def test_what_waits_is_deleted_on_request_and_what_comes_later_is_sent(server, make, spool, mode):
    server.always = status(503, "Retry-After: 200\r\n")
    client = make(mode=mode)
    with client.busy():
        for _ in range(5):
            client.capture("tick")
        client.capture_exception(ValueError("no"))

        assert client.delete_pending() == 6

    assert client.stats().spooled == 0
    assert client.stats().dropped == {"deleted": 6}
    assert events_on_disk(spool) == []
    server.always = ok
    last = client.capture("tick")
    assert client.flush(20).delivered == 1
    assert server.stored == {last: 1}


def test_what_waits_is_deleted_at_once_however_late_the_next_try_comes(server, make):
    server.always = status(503, "Retry-After: 200\r\n")
    client = make()
    client.capture("tick")
    until(lambda: client.stats().retries == 1, "the worker waits for the next try")

    assert client.delete_pending(20) == 1
    assert client.stats().spooled == 0


def test_a_deletion_that_is_asked_for_in_the_middle_of_a_step_does_not_hurry_what_it_deletes(server, make, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pipelines, "LOADING", cut_off())  # so the worker does not get a thread
        client = make()
        client.capture("tick")
    worker = client._pipeline._worker

    def asked_now(*, eager):
        worker._clear = True
        worker._waiters.append(threading.Lock())

    with monkeypatch.context() as patch:
        patch.setattr(client._pipeline._spool, "tend", asked_now)
        worker.step()
    worker.step()

    assert client.stats().dropped == {"deleted": 1}
    assert server.requests == []


def test_what_dead_processes_left_is_deleted_too_with_and_without_a_worker(server, make, spool):
    server.always = status(503)
    for has_worker in (False, True):
        killed_with_five_events(server, spool)
        client = make()
        if has_worker:
            with client.busy():
                client.capture("tick")
                assert client.delete_pending() == 6
        else:
            assert client.delete_pending() == 5
            assert client._pipeline is None
        assert events_on_disk(spool) == []
    server.always = ok
    assert make().flush(20).delivered == 0


def test_what_waits_can_be_deleted_after_a_shutdown_too(server, make, spool):
    server.always = status(503)
    client = make()
    for _ in range(5):
        client.capture("tick")
    client.shutdown(0.5)
    client.capture("late")
    assert events_on_disk(spool)

    assert client.delete_pending() == 6
    assert events_on_disk(spool) == []


def test_deleting_leaves_what_waits_for_others(server, make, spool):
    server.always = status(503)
    theirs = make(api_key=KEY.replace("k", "x"))
    theirs.capture("tick")

    assert make().delete_pending() == 0
    assert theirs.stats().spooled == 1
    assert theirs.delete_pending() == 1


def test_a_client_that_is_off_deletes_on_request(server, make, spool):
    server.always = status(503)
    killed_with_five_events(server, spool)

    client = make(disabled=True)

    assert client.delete_pending() == 5
    assert events_on_disk(spool) == []
    assert Client().delete_pending() == 0


# The device's id


def device_ids(server, client):
    client.capture("tick")
    client.flush(20)
    return {event.get("device_id") for event in server.events.values()}


def test_a_devices_id_is_random_kept_for_its_user_alone_and_the_same_next_time(server, make, spool):
    client = make(device_id=None)
    mine = client.device_id
    file = spool / "device-id"

    assert len(mine) == UUID_CHARS
    assert file.read_text().strip() == mine
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert make(device_id=True).device_id == mine
    assert make(device_id=None, api_key="lw_other").device_id == mine
    assert device_ids(server, client) == {mine}


def test_a_devices_id_is_forgotten_on_request(server, make, spool):
    client = make(device_id=None)
    former = client.device_id

    fresh = client.reset_device_id()

    assert fresh != former
    assert client.device_id == make(device_id=None).device_id == fresh
    assert former not in (spool / "device-id").read_text()
    assert device_ids(server, client) == {fresh}


@pytest.mark.parametrize(("given", "sent"), [("kiosk-7", "kiosk-7"), (False, None)])
def test_a_device_has_the_name_it_is_given_or_none(server, make, spool, given, sent):
    client = make(device_id=given)

    assert device_ids(server, client) == {sent}
    assert client.device_id == (sent or "")
    assert not (spool / "device-id").exists()


def test_who_sends_no_device_id_sends_none_after_a_reset_either(server, make, spool):
    client = make(device_id=False)

    assert client.reset_device_id() == ""
    assert device_ids(server, client) == {None}
    assert not (spool / "device-id").exists()


def test_c25_a_client_that_is_off_has_no_device_id_and_makes_none(make, spool):
    client = make(device_id=None, disabled=True)

    assert client.device_id == client.reset_device_id() == ""
    assert not spool.exists()


# Context


def test_what_events_have_in_common_is_said_once_and_taken_back(server, make):
    client = make()
    client.set_context(distinct_id="u1", session_id="s1", correlation_id="c1", plan="pro", beta=True)
    both = client.capture("both", {"beta": "own"}, session_id="s2")
    client.set_context(plan=None, session_id=None)
    less = client.log("INFO", "less")
    client.flush(20)

    assert server.events[both].items() >= {"distinct_id": "u1", "session_id": "s2", "correlation_id": "c1"}.items()
    assert server.events[both]["data"] == {"plan": "pro", "beta": "own"}
    assert "session_id" not in server.events[less]
    assert server.events[less]["data"] == {"message": "less", "beta": True}


def test_a_thread_has_the_context_that_it_is_given_and_keeps_its_own_changes(server, make):
    client = make()
    client.set_context(distinct_id="u1")
    ids = {}

    def run(name):
        ids[name] = client.capture(name)
        client.set_context(distinct_id="of the thread")

    for name, target in (("bare", run), ("bound", client.in_context(run))):
        thread = threading.Thread(target=target, args=(name,))
        thread.start()
        thread.join()
    ids["after"] = client.capture("after")
    client.flush(20)

    assert {name: server.events[event_id].get("distinct_id") for name, event_id in ids.items()} == {
        "bare": None, "bound": "u1", "after": "u1"
    }  # fmt: skip


# What is told about flushing


def test_rounds_of_sending_are_counted_with_their_time_and_their_success(server, make):
    client = make()
    assert client.stats().flushes == 0
    server.script.append(status(503))
    client.capture("tick")
    client.flush(20)
    client.capture("tick")
    client.flush(20)
    client.flush(20)  # of nothing

    stats = client.stats()
    assert (stats.flushes, stats.flushes_ok, stats.retries) == (3, 2, 1)
    assert 0 < stats.flush_last_s <= stats.flush_s


def test_a_checkpoint_is_for_what_waits_then_and_not_for_what_comes_meanwhile():
    rhythm = Rhythm()
    rhythm.urgent = True
    rhythm.checkpoint(0.0, 30.0, waiting=3)
    assert rhythm.due_s(1.0, waiting_since_s=0.5, full=False, hurry=False) == 1.0

    rhythm.began(1.0, waiting=3)
    rhythm.sent(3, full=False, left=1)

    assert rhythm.due_s(1.0, waiting_since_s=1.0, full=False, hurry=False) >= 30.0


# Key and server


def test_init_twice_sends_everything_once(server, init, spool):
    init()
    first = leeward.capture("one")
    init()
    second = leeward.capture("two")
    init(app="other/1.0")
    third = leeward.capture("three")

    leeward.flush(20)
    assert server.wait_stored(3)
    assert server.stored == {first: 1, second: 1, third: 1}


def test_c4_after_a_refused_key_a_good_one_sends_and_what_was_refused_waits_for_its_own(server, init):
    refusing = recorder.Recorder()
    with refusing:
        refusing.always = status(401)
        init(host=refusing.host)
        refused = [leeward.capture("refused"), leeward.capture("refused")]
        leeward.flush(20)
        assert (leeward.stats().stopped, leeward.stats().last_error) == (True, "http_401")
        assert len(refusing.requests) == 1

        init()
        taken = leeward.capture("taken")
        assert leeward.flush(20).delivered == 1
        assert (leeward.stats().stopped, leeward.stats().last_error) == (False, "")
        assert server.stored == {taken: 1}

        refusing.always = ok
        init(host=refusing.host)
        leeward.flush(20)
        assert refusing.wait_stored(2)
        assert refusing.stored == dict.fromkeys(refused, 1)
        leeward.shutdown(5)


def test_c11_a_server_that_hangs_does_not_keep_a_deletion_waiting_longer_than_told(server, make):
    server.always = hang
    client = make()
    client.capture("tick")
    assert server.wait_for(lambda: server.requests)

    assert client.delete_pending(0.05) == 0
    server.close()
    until(lambda: client.stats().dropped == {"deleted": 1}, "the request has ended")
