"""The client in a whole program: what it costs, what it leaves, what it says. How programs end is in faults/client."""

import pytest

import programs
import recorder


@pytest.fixture
def server():
    with recorder.Recorder() as server:
        yield server
        assert server.broken == []


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
