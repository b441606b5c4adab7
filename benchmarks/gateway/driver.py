"""The caller: raw sockets, requests that are ready bytes, one answer after the other on each connection.

It must cost less than what it measures: it runs on the providers' core, about 10 µs a request. An answer of a load counts
as good by its status, its whole length, and the pieces of content in it; the first one is looked at closely.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from benchmarks.gateway.answers import is_whole, leaves, pieces, status_of, verdict

QUESTION: Final = "What is the weather like in Lisbon in the second week of November, and what should I pack for it?"
RECEIVE_BYTES: Final = 262_144
ANSWER_WAIT_S: Final = 20.0


class Door(NamedTuple):
    """Where a gateway takes requests, and what it wants to see in them."""

    port: int
    model: str
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = {}

    def request(self, *, stream: bool) -> bytes:
        """A request, ready to be sent."""
        chat = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": "You are a friendly assistant who answers briefly."},
                {"role": "user", "content": QUESTION},
            ],
            **({"stream": True} if stream else {}),
        }
        body = json.dumps(chat).encode()
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Reply(NamedTuple):
    """One answer: what it is, how long its first content and its end took, and who gave it."""

    verdict: str
    first_s: float
    total_s: float
    received: bytes


class Load(NamedTuple):
    """What a load came to."""

    requests: int
    good: int
    seconds: float
    latencies_s: list[float]
    events: int

    @property
    def p50_s(self) -> float:
        return statistics.median(self.latencies_s) if self.latencies_s else 0.0


class Caller:
    """One caller on one connection, which it opens again when it has to."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._requests = {stream: door.request(stream=stream) for stream in (False, True)}
        self._socket: socket.socket | None = None

    def ask(self, *, stream: bool = False, wait_s: float = ANSWER_WAIT_S) -> Reply:
        """Ask once, and wait so long."""
        began_s = time.perf_counter()
        received, first_s, whole = bytearray(), 0.0, False
        hung = False
        try:
            connection = self._connected()
            connection.sendall(self._requests[stream])
            while not whole:
                connection.settimeout(max(0.001, began_s + wait_s - time.perf_counter()))
                data = connection.recv(RECEIVE_BYTES)
                if not data:
                    break
                received += data
                if not first_s and (not stream or pieces(received)):
                    first_s = time.perf_counter() - began_s
                whole = is_whole(received)
        except TimeoutError:
            hung = True
        except OSError:
            pass
        total_s = time.perf_counter() - began_s
        if not whole or leaves(received):
            self.close()
        told = "hung" if hung else verdict(received, stream=stream, whole=whole)
        return Reply(told, first_s or total_s, total_s, bytes(received))

    def close(self) -> None:
        """Leave."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._door.port), timeout=5)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket


def in_turn(
    door: Door, count: int, *, stream: bool = False, seconds: float = 10.0, wait_s: float = ANSWER_WAIT_S
) -> list[Reply]:
    """Requests one after the other on one connection, for so long at most."""
    caller, replies, end_s = Caller(door), [], time.perf_counter() + seconds
    with contextlib.closing(caller):
        while len(replies) < count and time.perf_counter() < end_s:
            replies.append(caller.ask(stream=stream, wait_s=wait_s))
    return replies


class _Lane:
    """One of many connections of a load."""

    __slots__ = ("began_s", "received", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.received = bytearray()
        self.began_s = 0.0


def load(door: Door, lanes: int, *, seconds: float = 1e9, count: int = 10**9, stream: bool = False) -> Load:
    """Keep so many connections busy until time or count is up; then the answers under way are waited for.

    Raises:
        ConnectionError: the gateway does not take connections, or no longer answers.
    """
    return _Run(door, lanes, stream=stream).run(seconds, count)


class _Run:
    def __init__(self, door: Door, lanes: int, *, stream: bool) -> None:
        self._door, self._stream = door, stream
        self._request = door.request(stream=stream)
        self._poll = select.epoll()
        self._lanes: dict[int, _Lane] = {}
        self._width = lanes
        self._latencies_s: list[float] = []
        self._good = self._events = self._sent = 0

    def run(self, seconds: float, count: int) -> Load:
        began_s = time.perf_counter()
        end_s = began_s + seconds

        def is_due() -> bool:
            return self._sent < count and time.perf_counter() < end_s

        try:
            for _ in range(min(self._width, count)):
                self._open()
            while self._lanes:
                ready = self._poll.poll(ANSWER_WAIT_S)
                if not ready:
                    raise ConnectionError(f"no answer in {ANSWER_WAIT_S:.0f} s")
                for number, _ in ready:
                    self._read(self._lanes[number], is_due)
        finally:
            for lane in self._lanes.values():
                lane.socket.close()
            self._poll.close()
        taken_s = time.perf_counter() - began_s
        return Load(len(self._latencies_s), self._good, taken_s, self._latencies_s, self._events)

    def _open(self) -> None:
        lane = _Lane(self._door.port)
        number = lane.socket.fileno()
        self._lanes[number] = lane
        self._poll.register(number, select.EPOLLIN)
        self._send(lane)

    def _send(self, lane: _Lane) -> None:
        self._sent += 1
        lane.began_s = time.perf_counter()
        lane.socket.send(self._request)

    def _read(self, lane: _Lane, is_due: Callable[[], bool]) -> None:
        try:
            data = lane.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        lane.received += data
        whole = is_whole(lane.received)
        if data and not whole:
            return
        self._count(lane, whole=whole)
        again = is_due()
        if not data or not again or leaves(lane.received):
            number = lane.socket.fileno()
            self._poll.unregister(number)
            self._lanes.pop(number).socket.close()
            if again:
                self._open()
            return
        lane.received.clear()
        self._send(lane)

    def _count(self, lane: _Lane, *, whole: bool) -> None:
        self._latencies_s.append(time.perf_counter() - lane.began_s)
        events = pieces(lane.received)
        if len(self._latencies_s) == 1:
            good = verdict(lane.received, stream=self._stream, whole=whole) == "ok"
        else:
            done = not self._stream or b"[DONE]" in lane.received
            good = whole and done and events > 0 and status_of(lane.received) == 200
        self._good += good
        self._events += events
