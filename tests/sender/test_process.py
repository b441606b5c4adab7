"""The client in real programs that end badly: killed, forked, aborted, or with a server that is gone.

Each program is an interpreter of its own with a watchdog; what arrived is what a strict recorder noted.
"""

import os
import random
import signal
import textwrap

import pytest

import programs
import recorder

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 and fork are POSIX")


@pytest.fixture
def server():
    with recorder.Recorder() as server:
        yield server
        assert server.broken == []


def deliver_what_was_left(server, spool, count):
    """The next start of a program with the same destination."""
    result = programs.run(programs.program("print(leeward.flush(20))", server.host, spool))
    assert result.returncode == 0, result.stderr
    assert server.wait_stored(count)


def left_on_disk(spool):
    return sorted(path.name for path in spool.glob("*/*") if path.name not in {"set-aside.jsonl", "about.json"})


@pytest.mark.parametrize("round_", range(50 if HEAVY else 5))
def test_c9_what_capture_returned_an_id_for_survives_kill_9(server, tmp_path, round_):
    chance = random.Random(round_)
    server.script.extend([recorder.status(503)] * chance.randrange(3))
    body = """
    while True:
        print(leeward.capture("tick", {"text": "x" * 300}), flush=True)
    """
    with programs.start(programs.program(body, server.host, tmp_path)) as process:
        ids = [process.stdout.readline().strip() for _ in range(chance.randrange(1, 2000))]
        process.send_signal(signal.SIGKILL)
        ids += process.stdout.read().split("\n")[:-1]

    deliver_what_was_left(server, tmp_path, len(ids))

    assert set(ids) <= set(server.stored)
    assert len(server.stored) - len(ids) in {0, 1}  # the kill may have come between the append and the print
    assert left_on_disk(tmp_path) == []


ENDINGS = {
    "os._exit": ("os._exit(3)", 3),
    "abort": (
        "signal.signal(signal.SIGABRT, signal.SIG_DFL); sys.stderr.close(); os.close(2); os.abort()",
        -signal.SIGABRT,
    ),
    "exception": ("raise ValueError('of the program')", 1),
    "sys.exit": ("sys.exit(5)", 5),
    "sys.exit in a thread": ("t = threading.Thread(target=sys.exit, args=(7,)); t.start(); t.join()", 0),
    "end": ("", 0),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)", -signal.SIGTERM),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_c10_however_the_program_ends_its_exit_code_and_its_words_are_its_own(server, tmp_path, ending):
    statement, code = ENDINGS[ending]
    body = 'for _ in range(20): leeward.capture("tick")\n' + statement

    result = programs.run(programs.program(body, server.host, tmp_path))
    deliver_what_was_left(server, tmp_path, 20)

    assert result.returncode == code
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1:] == (["ValueError: of the program"] if ending == "exception" else [])
    assert len(server.stored) == 20


@pytest.mark.parametrize("gone", ["refused", "hanging", "failing"])
def test_c11_a_dead_server_delays_the_exit_by_little_and_nothing_is_lost(tmp_path, gone):
    body = """
    for _ in range(100): leeward.capture("tick")
    atexit._run_exitfuncs()
    print(time.perf_counter() - started)
    """
    with recorder.Recorder() as server:
        port = server.port
        server.always = recorder.hang if gone == "hanging" else recorder.status(503)
        if gone == "refused":
            server.close()
        text = "import time\nstarted = time.perf_counter()\n" + programs.program(body, server.host, tmp_path)
        result = programs.run(text)
    assert (result.returncode, result.stderr) == (0, "")
    assert float(result.stdout) < 2.0 + 3.0  # the limit, and generously for a busy machine

    with recorder.Recorder(port) as server:
        deliver_what_was_left(server, tmp_path, 100)
        assert len(server.stored) == 100


def test_c11_all_clients_of_a_process_share_one_limit(tmp_path):
    body = """
    clients = [leeward.Client(key, host, mode="memory") for _ in range(8)]
    for one in clients: one.capture("tick")
    started = time.perf_counter()
    atexit._run_exitfuncs()
    print(time.perf_counter() - started)
    """
    with recorder.Recorder() as server:
        server.always = recorder.hang
        text = programs.program(f"key, host = {recorder.KEY!r}, {server.host!r}\n", server.host, tmp_path)
        result = programs.run(text + textwrap.dedent(body))

    assert (result.returncode, result.stderr) == (0, "")
    assert 1.5 < float(result.stdout) < 2.0 + 3.0


def test_c12_captures_from_exit_handlers_and_finalisers_are_kept(server, tmp_path):
    body = """
    class Late:
        def __del__(self): leeward.capture("del")
    late = Late(); cycle = Late(); cycle.self = cycle
    atexit.register(leeward.capture, "atexit, before")
    leeward.capture("first")
    atexit.register(leeward.capture, "atexit, after")
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    deliver_what_was_left(server, tmp_path, 4)

    names = sorted(event["event_type"] for event in server.events.values())
    assert names[:3] == ["atexit, after", "atexit, before", "del"]


def test_c12_a_signal_handler_that_captures_in_the_middle_of_a_capture_does_not_block(server, tmp_path):
    body = """
    handled = []
    signal.signal(signal.SIGALRM, lambda *_: handled.append(leeward.capture("signal")))
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    ids = [leeward.capture("main", {"text": "x" * 200}) for _ in range(1000)]
    while len(handled) < 30: ids.append(leeward.capture("main"))
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(len(set(ids + handled)), leeward.flush(20).spooled, leeward.stats().dropped)
    """
    result = programs.run(programs.program(body, server.host, tmp_path))

    count, spooled, dropped = result.stdout.split(" ", 2)
    assert (spooled, dropped) == ("0", "{}\n")
    assert len(server.stored) == int(count)


FORK = """
for _ in range(50): leeward.capture("parent, before")
pid = os.fork()
for _ in range(50): leeward.capture("child" if pid == 0 else "parent, after")
if pid == 0:
    {ending}
assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.parametrize("ending", ["sys.exit()", "leeward.flush(10); os._exit(0)", "os._exit(0)"])
@pytest.mark.parametrize("round_", range(20 if HEAVY else 2))
def test_c14_a_forked_child_sends_its_own_events_and_none_of_its_parents(server, tmp_path, ending, round_):
    result = programs.run(programs.program(FORK.format(ending=ending), server.host, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")

    deliver_what_was_left(server, tmp_path, 150)

    assert len(server.stored) == 150
    assert set(server.stored.values()) == {1}
    assert left_on_disk(tmp_path) == []


def test_c14_a_fork_that_python_does_not_know_of_is_noticed_by_the_next_capture(server, tmp_path):
    """uWSGI forks in C, and no hook of Python's runs."""
    body = """
    import ctypes
    libc = ctypes.PyDLL(None)
    for _ in range(50): leeward.capture("parent")
    leeward.flush(10)
    pid = libc.fork()
    for _ in range(50): leeward.capture("child" if pid == 0 else "parent")
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")

    deliver_what_was_left(server, tmp_path, 150)

    assert len(server.stored) == 150
    assert set(server.stored.values()) == {1}


def test_c14_forking_while_all_threads_capture_hangs_nobody(server, tmp_path):
    body = f"""
    def busy():
        while not done: leeward.capture("thread")
    done = []
    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads: thread.start()
    for _ in range({200 if HEAVY else 20}):
        pid = os.fork()
        if pid == 0:
            code = 0 if leeward.capture("child") and leeward.client.stats().captured == 1 else 9
            os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
    done.append(True)
    for thread in threads: thread.join()
    print(leeward.flush(20).spooled)
    """
    result = programs.run(programs.program(body, server.host, tmp_path))

    assert (result.returncode, result.stdout, result.stderr) == (0, "0\n", "")
    children = [event for event in server.events.values() if event["event_type"] == "child"]
    assert len(children) == (200 if HEAVY else 20)


AUDIT = """
import sys, threading
seen = []
def watch(event, arguments):
    if event.startswith("socket.") or event in {"_thread.start_new_thread", "os.mkdir", "mmap.__new__"}:
        seen.append(event)
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & 3:
        seen.append(arguments)
sys.addaudithook(watch)
"""


@pytest.mark.parametrize("switch", ["argument", "LEEWARD_DISABLED", "DO_NOT_TRACK", "no key", "attribute"])
def test_c25_disabled_means_no_thread_no_file_no_socket_and_nothing_loaded(server, tmp_path, switch):
    key = "" if switch == "no key" else recorder.KEY
    text = f"""
import leeward
leeward.init({key!r}, {server.host!r}, spool_dir={str(tmp_path / "spool")!r}, disabled={True if switch == "argument" else None})
if {switch == "attribute"}: leeward.client.disabled = True
before = set(sys.modules)
assert leeward.capture("tick", {{"a": object()}}) is None
assert leeward.flush() == leeward.FlushResult(delivered=0, spooled=0, dropped=0)
assert leeward.stats().captured == 0 and leeward.client.disabled
leeward.shutdown()
assert not [name for name in sys.modules if name in ("socket", "http.client", "ssl")]
print(seen, sorted(set(sys.modules) - before))
"""
    variables = {switch: "1"} if switch.isupper() else {}
    result = programs.run(AUDIT + text, **variables)

    assert result.stderr == ""
    assert result.stdout == "[] []\n"
    assert server.connections == 0
    assert not (tmp_path / "spool").exists()


def test_nothing_exists_before_the_first_capture_and_one_thread_after_it(server, tmp_path):
    body = """
    threads = lambda: len(os.listdir("/proc/self/task"))
    print(seen, threads())
    leeward.capture("tick")
    print(threads(), leeward.flush(10).delivered, threads())
    """
    result = programs.run(AUDIT + programs.program(body, server.host, tmp_path))

    assert result.stdout.splitlines() == ["[] 1", "2 1 2"], result.stderr


def test_importing_it_costs_little_and_brings_no_network_code():
    text = """
import sys
before = set(sys.modules)
import leeward
brought = set(sys.modules) - before
heavy = {"ssl", "http", "asyncio", "logging", "dataclasses", "typing", "re", "uuid", "tempfile", "pathlib", "socket", "json"}
print(len(brought), sorted(brought & heavy))
"""
    count, heavy = programs.run(text).stdout.split(" ", 1)

    assert int(count) <= 40
    assert heavy == "[]\n"


def test_the_client_needs_nothing_but_the_standard_library(server, tmp_path):
    block = """
import sys
class Block:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("msgspec", "httptools", "click", "starlette", "uvicorn", "sqlalchemy"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
"""
    result = programs.run(
        block + programs.program('leeward.capture("a"); print(leeward.flush(20))', server.host, tmp_path)
    )

    assert result.stdout == "FlushResult(delivered=1, spooled=0, dropped=0)\n", result.stderr


def test_the_key_is_nowhere_on_disk(server, tmp_path):
    server.script.append(recorder.status(400))
    body = 'leeward.capture("a"); leeward.flush(10); leeward.capture("b"); os._exit(0)'
    programs.run(programs.program(body, server.host, tmp_path))

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3  # set aside, the lock, a segment
    assert not [path for path in files if recorder.KEY.encode() in path.read_bytes() or recorder.KEY in str(path)]


@pytest.mark.parametrize(("debug", "lines"), [("", 0), ("1", 1)])
def test_an_outage_is_silent_and_with_debug_one_line(tmp_path, debug, lines):
    body = """
    leeward.capture("a")
    leeward.flush(1.0)
    assert leeward.stats().retries >= 1
    """
    with recorder.Recorder() as server:
        server.always = recorder.status(503)
        result = programs.run(programs.program(body, server.host, tmp_path), LEEWARD_DEBUG=debug)

    assert (result.returncode, result.stdout) == (0, "")
    assert len(result.stderr.splitlines()) == lines
    assert recorder.KEY not in result.stderr


def test_c20_a_producer_that_outruns_a_dead_server_keeps_its_memory(tmp_path):
    body = """
    import resource
    leeward.capture("warm")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = 30_000
    kept = sum(leeward.capture("tick", {"text": "x" * 300}) is not None for _ in range(made))
    stats = leeward.stats()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, kept + stats.dropped["no_room"] - made)
    assert stats.captured == kept + 1 == stats.spooled
    """
    with recorder.Recorder() as server:
        server.always = recorder.status(503)
        result = programs.run(programs.program(body, server.host, tmp_path, ', mode="memory"'))

    assert result.returncode == 0, result.stderr
    grown_kib, missing = map(int, result.stdout.split())
    assert missing == 0
    assert grown_kib < 24 * 1024


def test_c13_a_program_that_may_not_start_threads_keeps_its_events(server, tmp_path):
    body = """
    import _thread
    def refuse(*_): raise RuntimeError("can't start new thread")
    starting, _thread.start_new_thread = _thread.start_new_thread, refuse
    assert all(leeward.capture("tick") for _ in range(5))
    started = time.perf_counter()
    assert leeward.flush(60).spooled == 5 and time.perf_counter() - started < 30
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    deliver_what_was_left(server, tmp_path, 5)


def test_c15_processes_that_share_a_folder_lose_nothing(server, tmp_path):
    body = """
    for _ in range(100): leeward.capture("tick", {"text": "x" * 100})
    leeward.flush(0.01)
    os._exit(0)
    """
    text = programs.program(body, server.host, tmp_path)
    processes = [programs.start(text) for _ in range(20 if HEAVY else 4)]
    for process in processes:
        process.communicate(timeout=programs.WATCHDOG_S)

    deliver_what_was_left(server, tmp_path, 100 * len(processes))

    assert len(server.stored) == 100 * len(processes)
    assert left_on_disk(tmp_path) == []
