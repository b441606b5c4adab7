"""The load generator: a process of its own that keeps some connections busy for some seconds and says what came of it.

    python -m benchmarks.ingest.generator < job.json > sent.json

A closed loop over raw sockets: each connection sends its next request when the last one is answered. It shares the
machine's cores with the server it measures, so all that costs is done before the clock runs: bodies are encoded as
templates, packed ones made in full.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import re
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.ingest.loads import LOADS, Load
from benchmarks.loading import quantile

ANSWER_WAIT_S: Final = 60.0  # after the last request; some servers need twenty seconds for the slowest
PACKED_MAX: Final = 4000  # requests packed beforehand
RECEIVE_BYTES: Final = 65536
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Job(NamedTuple):
    """What to send, where, for how long."""

    port: int
    load: str
    items: int
    key: str
    project: str = "1"
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    seconds: float = 5.0
    connections: int = 4
    refused_pause_s: float = 0.1
    seed: int = 1


class Sent(NamedTuple):
    """What came of it; `acknowledged` counts items, `said` is the first refusal's beginning.

    `began_s` is read from the clock that all processes of a Linux machine share.
    """

    began_s: float
    seconds: float
    acknowledged: int
    statuses: dict[str, int]
    broken: int  # connections that ended with a request unanswered
    p50_ms: float
    p99_ms: float
    refused_p99_ms: float
    cpu_s: float
    said: str

    @property
    def refused(self) -> int:
        """Requests that were answered with anything but success."""
        return sum(count for status, count in self.statuses.items() if not status.startswith("2"))


class _Connection:
    """One socket and where its request stands."""

    __slots__ = ("asked_s", "received", "running", "socket", "unsent")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.running = False
        self.unsent = memoryview(b"")
        self.received = b""
        self.asked_s = 0.0

    def ask(self, request: bytes) -> None:
        self.running, self.unsent, self.received = True, memoryview(request), b""
        self.asked_s = time.perf_counter()
        self.send()

    def send(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]

    def receive(self) -> bool:
        """Whether the answer is there whole.

        Raises:
            ConnectionError: the server has ended it.
        """
        received = self.socket.recv(RECEIVE_BYTES)
        if not received:
            raise ConnectionError
        self.received += received
        head, end, rest = self.received.partition(b"\r\n\r\n")
        if not end:
            return False
        if length := _LENGTH.search(head):
            return len(rest) >= int(length[1])
        return rest.endswith(b"0\r\n\r\n") if _CHUNKED.search(head) else True


class _Run:
    """The loop: all connections, and what was counted."""

    def __init__(self, job: Job, request: Callable[[], bytes | None]) -> None:
        self._job = job
        self._request = request
        self._poll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._resting: list[tuple[float, _Connection]] = []
        self._running = 0
        self.statuses: Counter[str] = Counter()
        self.latencies_ms: list[float] = []
        self.refused_ms: list[float] = []
        self.broken = 0
        self.said = ""
        self.last_s = 0.0

    def run(self) -> None:
        end_s = time.perf_counter() + self._job.seconds
        for _ in range(self._job.connections):
            self._next(self._open())
        while True:
            now_s = time.perf_counter()
            if now_s >= end_s:
                self._resting.clear()
            if now_s >= end_s + ANSWER_WAIT_S or not (self._running or self._resting):
                break
            for number, event in self._poll.poll(0.02 if self._resting else 0.5):
                if connection := self._connections.get(number):
                    self._turn(connection, event, end_s)
            if self._resting:
                self._wake()
        for connection in self._connections.values():
            connection.socket.close()
        self._poll.close()

    def _open(self) -> _Connection:
        connection = _Connection(self._job.port)
        self._connections[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLIN)
        return connection

    def _next(self, connection: _Connection) -> None:
        request = self._request()
        if request is None:
            return
        self._running += 1
        connection.ask(request)
        if connection.unsent:
            self._poll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def _wake(self) -> None:
        now_s = time.perf_counter()
        due = [connection for at_s, connection in self._resting if at_s <= now_s]
        self._resting = [(at_s, connection) for at_s, connection in self._resting if at_s > now_s]
        for connection in due:
            self._next(connection)

    def _turn(self, connection: _Connection, event: int, end_s: float) -> None:
        try:
            if event & select.EPOLLOUT:
                connection.send()
                if not connection.unsent:
                    self._poll.modify(connection.socket, select.EPOLLIN)
            is_whole = bool(event & ~select.EPOLLOUT) and connection.receive()
        except BlockingIOError:
            return  # the event was of an older connection with the same number
        except OSError:
            self._ended(connection, end_s)
            return
        if is_whole and connection.running:
            self._answered(connection, end_s)

    def _answered(self, connection: _Connection, end_s: float) -> None:
        now_s = self.last_s = time.perf_counter()
        status = connection.received[9:12].decode()
        self.statuses[status] += 1
        is_taken = status.startswith("2")
        (self.latencies_ms if is_taken else self.refused_ms).append((now_s - connection.asked_s) * 1000)
        if not is_taken and not self.said:
            self.said = connection.received[:600].decode(errors="replace")
        self._running -= 1
        connection.running = False
        if _CLOSE.search(connection.received):
            connection = self._reopened(connection)
        if now_s >= end_s:
            return
        if is_taken or not self._job.refused_pause_s:
            self._next(connection)
        else:
            self._resting.append((now_s + self._job.refused_pause_s, connection))

    def _ended(self, connection: _Connection, end_s: float) -> None:
        """The server ended the connection; if it owed an answer, that counts."""
        was_running = connection.running
        fresh = self._reopened(connection)
        if was_running:
            self.broken += 1
            self._running -= 1
        if was_running and time.perf_counter() < end_s:
            self._resting.append((time.perf_counter() + max(0.1, self._job.refused_pause_s), fresh))
        elif any(connection is resting for _, resting in self._resting):
            self._resting = [(at_s, fresh if x is connection else x) for at_s, x in self._resting]

    def _reopened(self, connection: _Connection) -> _Connection:
        self._poll.unregister(connection.socket)
        del self._connections[connection.socket.fileno()]
        connection.socket.close()
        return self._open()


def requests(load: Load, job: Job) -> Callable[[], bytes | None]:
    """Whole requests, one after the other; None when the ones packed beforehand are used up."""
    chance = random.Random(job.seed)
    fields = {"host": f"127.0.0.1:{job.port}", **load.headers, **job.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    templates, count = load.templates, len(load.templates)

    def head(size: int) -> bytes:
        return f"POST {load.path} HTTP/1.1\r\n{lines}content-length: {size}\r\n\r\n".encode()

    if load.gzip:
        packed = iter(_packed(load, job, chance, head))
        return lambda: next(packed, None)
    heads = [head(template.size) for template in templates]
    number = 0

    def make() -> bytes:
        nonlocal number
        number = (number + 1) % count
        return heads[number] + templates[number].filled(chance.randbytes)

    return make


def _packed(load: Load, job: Job, chance: random.Random, head: Callable[[int], bytes]) -> list[bytes]:
    wanted = min(PACKED_MAX, int(job.seconds * 600))
    made = []
    for number in range(wanted):
        body = gzip.compress(load.templates[number % len(load.templates)].filled(chance.randbytes), 6)
        made.append(head(len(body)) + body)
    return made


def send(job: Job) -> Sent:
    """Send in this process."""
    load = LOADS[job.load](job.items, job.key, job.project)
    run = _Run(job, requests(load, job))
    cpu_s, began_s = time.process_time(), time.perf_counter()
    run.run()
    taken = run.latencies_ms
    return Sent(
        began_s=began_s,
        seconds=(run.last_s or time.perf_counter()) - began_s,
        acknowledged=len(taken) * job.items,
        statuses=dict(run.statuses),
        broken=run.broken,
        p50_ms=quantile(taken, 0.5) if taken else 0.0,
        p99_ms=quantile(taken, 0.99) if taken else 0.0,
        refused_p99_ms=quantile(run.refused_ms, 0.99) if run.refused_ms else 0.0,
        cpu_s=time.process_time() - cpu_s,
        said=run.said,
    )


class Generator:
    """A generator in a process of its own; it begins at once."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.ingest.generator"],
            cwd=Path(__file__).parent.parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job._asdict()))
        self._process.stdin.close()
        self._process.stdin = None

    def wait(self) -> Sent:
        """What came of it."""
        said, _ = self._process.communicate(timeout=self._job.seconds + ANSWER_WAIT_S + 60)
        if self._process.returncode:
            raise RuntimeError(f"the load generator ended with {self._process.returncode}")
        return Sent(**json.loads(said))


def main() -> None:
    print(json.dumps(send(Job(**json.load(sys.stdin)))._asdict()))


if __name__ == "__main__":
    main()
