"""The child and its supervisor, with real processes: crash, hang, death of the parent, and a second owner."""

import contextlib
import errno
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from leeward.errors import ConfigError
from leeward.store.child import EXIT_ENGINE_MISSING, EXIT_LOCKED
from leeward.store.clickhouse import ClickHouse, StoreUnavailable
from leeward.store.embedded import EmbeddedEngine, Limits, require_engine
from leeward.store.events import ClickHouseEventStore
from leeward.store.migrate import migrate
from store_rows import StillClock, block, event

HEAVY = bool(os.environ.get("LEEWARD_TEST_HEAVY"))
PATIENCE_S = 60


def until(holds, what):
    """Wait for something that must come; the time is only a limit for a broken test."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, f"waited in vain for: {what}"
        threading.Event().wait(0.01)


@contextlib.contextmanager
def running(directory, **limits):
    engine = EmbeddedEngine(directory, Limits(**{"ping_every_s": 0.02, "restart_delay_s": 0.01, **limits}))
    engine.start()
    try:
        assert engine.wait_ready(PATIENCE_S), engine.reason
        yield engine
    finally:
        engine.stop()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def persistently(call):
    """As the writer does: the same again until the store takes it."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except StoreUnavailable:
            assert time.monotonic() < deadline_s, "the store did not come back"
            threading.Event().wait(0.01)


def stored_ids(store):
    found = [key[2] for chunk in store.ids_since(0) for key in chunk]
    assert len(found) == store.statistics().rows
    return sorted(found)


def test_w14_acknowledged_blocks_are_all_there_once_after_crashes_in_an_insert_loop(tmp_path):
    """SIGKILL and SIGSEGV at random moments, while blocks are loaded as the writer loads them."""
    rounds = 40 if HEAVY else 4
    moment = random.Random(rounds)
    with running(tmp_path) as engine:
        migrate(engine.client())
        store = ClickHouseEventStore(engine.client(), StillClock(), 7)
        finished = threading.Event()

        def kill():
            for number in range(rounds):
                finished.wait(moment.uniform(0.0, 0.3))
                until(lambda: engine.state == "ready", "the engine after a crash")
                os.kill(engine.pid, signal.SIGSEGV if number % 2 else signal.SIGKILL)
                until(lambda n=number: engine.restarts > n, "the restart")
            finished.set()

        killer = threading.Thread(target=kill)
        killer.start()
        loaded = 0
        while not finished.is_set():
            rows = [event(f"{loaded}-{index}") for index in range(50)]
            one = block(rows, loaded * 100, batches=[{"batch_id": f"b{loaded}"}])
            persistently(lambda one=one: store.load(one))
            loaded += 1
        killer.join()
        persistently(store.statistics)
        assert stored_ids(store) == sorted(f"{n}-{index}" for n in range(loaded) for index in range(50))
        ranges = [(n * 100, n * 100 + 49) for n in range(loaded)]
        assert store.loaded("log", [*ranges, (loaded * 100, loaded * 100 + 49)], 0) == [True] * loaded + [False]


def test_w14_an_engine_that_hangs_is_found_killed_and_started_again(tmp_path):
    with running(tmp_path, ping_timeout_s=0.1, hung_s=0.3) as engine:
        client, hung = engine.client(), engine.pid
        migrate(client)
        os.kill(hung, signal.SIGSTOP)
        until(lambda: engine.restarts == 1, "the restart")
        until(lambda: engine.state == "ready", "the new engine")
        assert not alive(hung)
        assert client.select("SELECT count() AS n FROM events") == [{"n": 0}]


def test_w14_a_crash_is_told_with_its_reason_and_the_client_outlives_it(tmp_path):
    with running(tmp_path, restart_delay_s=0.3) as engine:
        client = engine.client("default")
        assert client.select("SELECT 1 AS a") == [{"a": 1}]
        os.kill(engine.pid, signal.SIGKILL)
        until(lambda: engine.state == "down", "the crash to be seen")
        assert engine.reason == "the store's process ended (signal 9)"
        assert client.ping() is False
        until(lambda: engine.state == "ready", "the new engine")
        assert engine.reason == ""
        assert client.select("SELECT 2 AS a") == [{"a": 2}]


def test_an_engine_that_cannot_start_is_tried_again_with_its_last_words_as_the_reason(tmp_path):
    (tmp_path / "data").write_text("not a directory")
    engine = EmbeddedEngine(tmp_path, Limits(ping_every_s=0.02, restart_delay_s=0.01, restart_delay_max_s=0.02))
    engine.start()
    until(lambda: engine.restarts >= 2, "some restarts")
    assert engine.wait_ready(0) is False
    until(lambda: "exit code 1" in engine.reason, "the reason")
    assert "FileExistsError" in engine.reason
    (tmp_path / "data").unlink()
    assert engine.wait_ready(PATIENCE_S)
    engine.stop()


def test_w14_a_supervisor_that_cannot_make_a_process_tells_why_and_tries_again(tmp_path, monkeypatch, caplog):
    """No descriptors, processes or disk left, or a fault that nobody foresaw: the thread and the store outlive it."""
    told, popen = [], subprocess.Popen
    faults = [OSError(errno.EMFILE, "Too many open files")] * 2 + [
        OSError(errno.ENOSPC, "No space left"),
        MemoryError(),
    ]

    def fails_at_first(*args, **kwargs):
        told.append(engine.reason)
        if faults:
            raise faults.pop(0)
        return popen(*args, **kwargs)

    monkeypatch.setattr("leeward.store.embedded.subprocess.Popen", fails_at_first)
    engine = EmbeddedEngine(tmp_path, Limits(ping_every_s=0.02, restart_delay_s=0.01))
    engine.start()
    assert engine.wait_ready(PATIENCE_S), engine.reason
    assert engine.client("default").select("SELECT 1 AS a") == [{"a": 1}]
    assert engine.restarts == 4
    engine.stop()
    begin = "the store's process cannot be started or watched: "
    assert told == [
        "the store is starting",
        begin + "[Errno 24] Too many open files",
        begin + "[Errno 24] Too many open files",
        begin + "[Errno 28] No space left",
        begin + "MemoryError",
    ]
    assert caplog.text.count("goes on after a fault") == 3  # the same again is no news


def test_w14_a_supervisor_that_cannot_watch_its_child_ends_it_and_starts_another(tmp_path, monkeypatch):
    with running(tmp_path) as engine:
        first, faults = engine.pid, [OSError(errno.EAGAIN, "Resource temporarily unavailable")]
        ping = ClickHouse.ping
        monkeypatch.setattr(ClickHouse, "ping", lambda probe: raised(faults) if faults else ping(probe))
        until(lambda: engine.restarts == 1, "the restart")
        assert not alive(first)
        assert engine.wait_ready(PATIENCE_S)
        assert engine.pid != first


def raised(faults):
    raise faults.pop()


def test_w14_the_end_of_a_child_is_told_from_the_tail_of_its_log_and_without_a_log_too(tmp_path):
    engine = EmbeddedEngine(tmp_path)
    assert engine._why_ended(3) == "the store's process ended (exit code 3)"
    log = tmp_path / "child.log"
    log.write_text("")
    assert engine._why_ended(3) == "the store's process ended (exit code 3)"
    with log.open("wb") as sparse:
        sparse.seek(1 << 40)  # a terabyte of nothing: whoever reads all of it fails
        sparse.write(b"\nfirst\nlast words\n")
    assert engine._why_ended(3) == "the store's process ended (exit code 3): last words"
    assert engine._why_ended(-9) == "the store's process ended (signal 9)"


def test_start_returns_at_once_and_stop_ends_the_child(tmp_path):
    engine = EmbeddedEngine(tmp_path)
    assert engine.state == "stopped"
    engine.start()
    assert engine.state == "starting"
    assert engine.reason == "the store is starting"
    client = engine.client()
    until(lambda: engine.pid, "the child")
    child = engine.pid
    engine.stop()
    assert engine.state == "stopped"
    assert engine.pid is None
    assert not alive(child)
    with pytest.raises(StoreUnavailable):
        client.command("SELECT 1")
    engine.stop()


def test_stop_kills_a_child_that_does_not_end(tmp_path):
    with running(tmp_path, stop_s=0.05) as engine:
        child = engine.pid
        os.kill(child, signal.SIGSTOP)
    assert not alive(child)


def test_a_data_directory_with_a_very_long_path_works(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    with running(deep) as engine:
        client = engine.client("default")
        assert client.select("SELECT 1 AS a") == [{"a": 1}]
        place = Path(engine._socket_path).parent
        assert place.stat().st_mode & 0o77 == 0
    assert not place.exists()


def test_the_socket_and_the_data_are_for_their_owner_only(engine):
    for path in (engine._socket_path, engine._directory / "data", engine._directory / "engine.xml"):
        assert Path(path).stat().st_mode & 0o77 == 0


def test_the_child_keeps_no_tables_of_logs_and_stays_small(engine):
    client = engine.client("default")
    logs = client.select("SELECT name FROM system.tables WHERE database = 'system' AND engine LIKE '%MergeTree'")
    assert logs == []
    limit = client.select("SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage'")
    assert limit == [{"value": str(Limits().memory_bytes_max)}]


def test_the_child_cannot_take_more_memory_than_its_cap(tmp_path):
    with running(tmp_path, memory_bytes_max=600 << 20) as engine:
        client = engine.client("default")
        with pytest.raises(StoreUnavailable, match="memory limit") as raised:
            client.select("SELECT groupArray(number) AS n FROM numbers(400000000)", settings={"max_memory_usage": "0"})
        assert raised.value.clickhouse_code == 241
        assert client.select("SELECT 1 AS a") == [{"a": 1}]
        assert engine.restarts == 0


PARENT = """
import os, sys, time
from pathlib import Path
from leeward.store.embedded import EmbeddedEngine
engine = EmbeddedEngine(Path(sys.argv[1]))
engine.start()
assert engine.wait_ready(60)
if sys.argv[2] == "fork" and os.fork() == 0:
    time.sleep(60)
    os._exit(0)
print(engine.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["plain", "fork"])
def test_the_child_dies_with_its_parent_even_when_a_fork_of_it_lives_on(tmp_path, how):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "data"), how],
        stdout=subprocess.PIPE,
        start_new_session=True,  # its own group, so that the fork can be ended below
    )
    with parent:
        child = int(parent.stdout.readline())
        assert os.getpgid(child) == os.getpgid(parent.pid)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(child, number)  # a terminal's signals go to the whole group; the parent decides for the child
        assert alive(child)
        parent.kill()
        parent.wait()
        until(lambda: not alive(child), "the child's end")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)


@contextlib.contextmanager
def child(directory, *, lock_wait_s="0", parent=None, env=None):
    """A child started by hand; killed at the end, if it has not ended by itself."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "leeward.store.child", str(directory), str(directory / "second")),
            *("1000000000", lock_wait_s, str(parent or os.getpid())),
        ],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_a_second_child_on_the_same_directory_refuses_and_a_patient_one_waits(tmp_path):
    with running(tmp_path) as engine, child(tmp_path) as second:
        assert second.wait(PATIENCE_S) == EXIT_LOCKED
        assert b"lock" in second.stderr.read()
    with contextlib.ExitStack() as later:
        with running(tmp_path) as engine:
            patient = later.enter_context(child(tmp_path, lock_wait_s="60"))
            assert alive(engine.pid)
        until((tmp_path / "second").exists, "the patient child to serve")
        patient.stdin.close()
        assert patient.wait(PATIENCE_S) == 0


def test_a_child_whose_parent_is_gone_before_it_begins_ends_at_once(tmp_path):
    with child(tmp_path, parent=1) as orphan:
        assert orphan.wait(PATIENCE_S) == 0
        assert not (tmp_path / "second").exists()


def test_a_child_without_an_engine_says_so(tmp_path):
    (tmp_path / "chdb.py").write_text("raise ImportError('no engine for musl')")
    with child(tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}) as missing:
        assert missing.wait(PATIENCE_S) == EXIT_ENGINE_MISSING
        assert b"no engine for musl" in missing.stderr.read()


def test_a_system_without_an_engine_gets_a_sentence_and_the_cure(tmp_path, monkeypatch):
    require_engine()
    for found in (None, type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})()):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=found: found)
        with pytest.raises(ConfigError, match="embedded storage needs Linux") as raised:
            EmbeddedEngine(tmp_path).start()
        assert "clickhouse://" in raised.value.fix


def test_a_client_that_leaves_in_the_middle_costs_the_child_nothing(engine):
    import socket

    for part in (b"", b"POST /", b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf", b"\x00\xff\r\n\r\n"):
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(engine._socket_path)
            rude.sendall(part)
    assert engine.client("default").select("SELECT 1 AS a") == [{"a": 1}]


def test_sessions_do_not_leak_settings_into_each_other(engine):
    client = engine.client("default")
    for limit in itertools.chain(range(1, 40), range(1, 5)):
        found = client.select("SELECT toInt64(getSetting('max_threads')) AS n", settings={"max_threads": str(limit)})
        assert found == [{"n": limit}]
    assert client.command("SELECT getSetting('readonly')").strip() == b"0"


def test_a_loop_of_crashes_is_slowed_down_and_a_good_run_ends_that(tmp_path):
    waits = []
    with running(tmp_path, restart_delay_s=0.01, restart_delay_max_s=0.03) as engine:
        wait = engine._stopping.wait
        engine._stopping.wait = lambda seconds: waits.append(seconds) or wait(seconds)

        def crash():
            before = engine.restarts
            waits.clear()
            os.kill(engine.pid, signal.SIGKILL)
            until(lambda: engine.restarts > before and engine.state == "ready", "the restart")
            return max(waits)  # the pings' own pauses are shorter or equal, and never more than 0.02

        assert [crash() for _ in range(4)] == [0.02, 0.02, 0.03, 0.03]
        engine._limits = Limits(ping_every_s=0.02, restart_delay_s=0.05, steady_s=0.0)
        assert crash() == 0.05
