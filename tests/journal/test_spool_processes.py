"""The spool among signals, forks and kill -9: C9, C12, C14, C15."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from leeward.journal.spool import SpoolHome, orphans
from spool_helpers import SMALL, drain, put, rest_of, take

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"


def collect(root: str) -> list[bytes]:
    """Adopt everything in *root* and remove it."""
    got = []
    for left in orphans(root):
        for reader in left.readers:
            got += drain(reader, 1000)
            assert reader.damaged_spans == 0
        assert left.finish()
    return got


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "spool")


class Struck:
    """A spool whose append is struck by a signal at one line, the n-th of those that it runs through."""

    def __init__(self, root: str, line: int) -> None:
        self.home = SpoolHome.create(root, **SMALL)
        self.reader = rest_of(self.home)
        self.stored: list[bytes] = []
        self.delivered: list[bytes] = []
        self.lines_left = line

    def store(self, payload: bytes) -> None:
        assert put(self.home, payload)
        self.stored.append(payload)

    def handle(self, *_) -> None:
        """What the handler does: it fills segments, and the worker delivers and removes all that there is."""
        for n in range(3):
            self.store(b"handler %d" % n + bytes(5000))
        self.delivered += drain(self.reader, 100)

    def trace(self, frame, event, argument):
        if "spool_writer" not in frame.f_code.co_filename:
            return None
        if event == "line":
            self.lines_left -= 1
            if self.lines_left == 0:
                sys.settrace(None)
                signal.raise_signal(signal.SIGUSR1)
        return self.trace

    def store_and_be_struck(self, payload: bytes) -> None:
        before, tracing = signal.signal(signal.SIGUSR1, self.handle), sys.gettrace()
        sys.settrace(self.trace)
        try:
            self.store(payload)
        finally:
            sys.settrace(tracing)
            signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("laid_out", [False, True], ids=["the caller makes the next segment", "it is laid out"])
@pytest.mark.parametrize("size", [10, 3000], ids=["there is room", "the segment is full"])
def test_c12_a_signal_handler_that_appends_at_any_line_of_an_append_loses_nothing(root, laid_out, size):
    line = 0
    while True:
        line += 1
        spool = Struck(root, line)
        spool.store(b"before" + bytes(2400))
        if laid_out:
            spool.home.prepare()

        spool.store_and_be_struck(b"main" + bytes(size))

        for n in range(3):
            spool.store(b"after %d" % n + bytes(2000))
        rest = take(spool.reader)
        assert sorted(spool.delivered + rest) == sorted(spool.stored), line
        assert spool.home.rest.pending() == len(rest)
        spool.home.close()
        if spool.lines_left > 0:
            break
    assert line > (40 if size > 2000 and not laid_out else 5)


def test_threads_that_append_at_once_and_a_reader_that_delivers_lose_and_double_nothing(root):
    home = SpoolHome.create(root, **SMALL)
    reader = rest_of(home)
    total = 4 * 1500
    got: list[bytes] = []

    def append(name):
        for n in range(1500):
            assert put(home, b"%d %d " % (name, n) + bytes(n % 700))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=append, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    while len(got) < total and (any(thread.is_alive() for thread in threads) or reader.pending()[0]):
        payloads = reader.take(bytes_max=100_000, count_max=100).payloads
        home.prepare()
        got += payloads
        if payloads:
            reader.acknowledge(len(payloads))
    sys.setswitchinterval(interval)
    for thread in threads:
        thread.join()

    assert len(got) == total
    assert len(set(got)) == total
    for name in range(4):
        numbers = [int(payload.split()[1]) for payload in got if payload.startswith(b"%d " % name)]
        assert numbers == sorted(numbers)
    assert (reader.damaged_spans, reader.lost, home.rest.pending()) == (0, 0, 0)
    assert home.finish()


APPENDING = """
import os, sys
from leeward.journal.spool import SpoolHome
home = SpoolHome.create(sys.argv[1], first_bytes=8192, segment_bytes=16384)
n = 0
while True:
    assert home.rest.append(b"%d %d " % (os.getpid(), n) + bytes(n * 37 % 900), 1, n + 1)
    os.write(1, b"%d\\n" % n)
    n += 1
"""


def killed_after(root: str, lines: int) -> tuple[int, int]:
    """Let a process append until it has confirmed about *lines* records, kill it; give its id and what it confirmed."""
    process = subprocess.Popen([sys.executable, "-c", APPENDING, root], stdout=subprocess.PIPE)
    for _ in range(lines):
        process.stdout.readline()
    process.kill()
    confirmed = process.stdout.read().split(b"\n")[-2:]
    process.wait()
    process.stdout.close()
    return process.pid, max([lines - 1, *(int(n) for n in confirmed[:1] if n)])


def test_c9_what_append_confirmed_survives_kill_9_and_is_delivered_once(root):
    for round_number in range(300 if HEAVY else 8):
        pid, confirmed = killed_after(root, random.Random(round_number).randint(1, 400))

        got = collect(root)

        numbers = [int(payload.split()[1]) for payload in got]
        assert {int(payload.split()[0]) for payload in got} == {pid}
        assert numbers == list(range(len(numbers))), "lost or doubled"
        assert len(numbers) - 1 in {confirmed, confirmed + 1}
    assert list(Path(root).iterdir()) == []


def test_c15_processes_that_die_and_processes_that_adopt_lose_and_double_nothing(root):
    """Some append and are killed, others adopt at the same time; each record is delivered by exactly one."""
    adopting = (
        "import sys, time\nsys.path.insert(0, sys.argv[2])\nfrom journal.test_spool_processes import collect\n"
        "stop = time.monotonic() + 100\nwhile time.monotonic() < stop:\n"
        "    for payload in collect(sys.argv[1]): print(payload[:30].rstrip(bytes(1)).decode(), flush=True)\n"
        "    if sys.stdin in __import__('select').select([sys.stdin], [], [], 0)[0]: break\n"
        "for payload in collect(sys.argv[1]): print(payload[:30].rstrip(bytes(1)).decode(), flush=True)\n"
    )
    tests = str(Path(__file__).parents[1])
    adopters = [
        subprocess.Popen(
            [sys.executable, "-c", adopting, root, tests], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    expected = [killed_after(root, 30 * (n + 1)) for n in range(20 if HEAVY else 5)]
    delivered = []
    for adopter in adopters:
        delivered += adopter.communicate("stop\n")[0].splitlines()
        assert adopter.returncode == 0

    by_process = {}
    for line in delivered:
        pid, number = line.split()
        by_process.setdefault(int(pid), []).append(int(number))
    for pid, confirmed in expected:
        numbers = sorted(by_process.pop(pid))
        assert numbers == list(range(len(numbers)))
        assert len(numbers) - 1 in {confirmed, confirmed + 1}
    assert by_process == {}


def test_c14_forks_in_the_middle_of_appends_send_nothing_twice(root):
    """Threads append while children are forked; each child makes a spool of its own and is killed."""
    home = SpoolHome.create(root, **SMALL)
    stop = threading.Event()
    stored: list[bytes] = []

    def append():
        while not stop.is_set():
            payload = b"parent %d " % len(stored) + bytes(len(stored) % 500)
            if not put(home, payload):
                return
            stored.append(payload)

    thread = threading.Thread(target=append)
    thread.start()
    children = []
    for _ in range(200 if HEAVY else 15):
        child = os.fork()
        if child == 0:
            try:
                assert not put(home, b"no")
                own = SpoolHome.create(root, **SMALL)
                put(own, b"child %d" % os.getpid())
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        children.append(child)
        os.waitpid(child, 0)
    stop.set()
    thread.join()

    assert sorted(collect(root)) == sorted(b"child %d" % child for child in children)
    assert take(rest_of(home)) == stored
    home.close()
