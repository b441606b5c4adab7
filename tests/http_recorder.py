"""What the strict servers of the client's tests have in common: HTTP on loopback, a script, and notes of what came.

What a test wants to go wrong is an action: a function of the request that answers, or does not. `script` holds actions
for the next requests, one each; `always` is what happens when the script is empty. A request that breaks the wire's
rules is noted in `broken` and answered with 400, so that no test passes by accident. A wire is a subclass: it reads a
request into items, each with an id, and says how such a request is acknowledged.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

KEY = "lw_" + "k" * 32


class Broken(Exception):
    """A request breaks the wire's rules."""


@dataclass
class Request:
    """One request as it came, and the connection it came on."""

    head: str
    headers: dict[str, str]
    body: bytes
    connection: socket.socket
    number: int = 0
    batch: dict[str, Any] = field(default_factory=dict)  # the body, decoded
    items: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # what it carries: (id, item)

    @property
    def ids(self) -> list[str]:
        return [name for name, _ in self.items]

    @property
    def path(self) -> str:
        return self.head.split(" ")[1]

    def unpacked(self) -> bytes:
        """The body without its content encoding, which must be what the header says."""
        is_packed = self.body[:2] == b"\x1f\x8b"
        require(is_packed == (self.headers.get("content-encoding") == "gzip"), "content encoding")
        return gzip.decompress(self.body) if is_packed else self.body

    def answer(self, status: int, value: object, headers: str = "") -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.connection.sendall(
            f"HTTP/1.1 {status} Status\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
        )


Action = Callable[["Recorder", Request], bool]


def require(holds: object, problem: object) -> None:
    if not holds:
        raise Broken(problem)


def ok(recorder: Recorder, request: Request) -> bool:
    """Store the items and acknowledge them."""
    recorder.store(request)
    recorder.acknowledge(request)
    return True


def status(code: int, headers: str = "", value: object = None) -> Action:
    """Answer with this status and store nothing."""

    def act(recorder: Recorder, request: Request) -> bool:
        request.answer(code, value if value is not None else {"error": "no", "code": "test"}, headers)
        return True

    return act


def larger_than(items_max: int) -> Action:
    """413 for requests with more items."""

    def act(recorder: Recorder, request: Request) -> bool:
        if len(request.items) > items_max:
            return status(413, value={"error": "too large", "code": "payload_too_large"})(recorder, request)
        return ok(recorder, request)

    return act


def raw(data: bytes) -> Action:
    """Send these bytes and close."""

    def act(recorder: Recorder, request: Request) -> bool:
        request.connection.sendall(data)
        return False

    return act


def lost_answer(recorder: Recorder, request: Request) -> bool:
    """Store the items, then break the connection before the answer."""
    recorder.store(request)
    return reset(recorder, request)


def reset(recorder: Recorder, request: Request) -> bool:
    """Break the connection."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def hang(recorder: Recorder, request: Request) -> bool:
    """Say nothing until the recorder is closed."""
    recorder.closing.wait(60)
    return False


class Recorder:
    """The server: a thread for each connection."""

    def __init__(self, port: int = 0) -> None:
        self.script: deque[Action] = deque()
        self.always: Action = ok
        self.requests: list[Request] = []
        self.stored: Counter[str] = Counter()  # id → how often it was sent in a request that was stored
        self.events: dict[str, dict[str, Any]] = {}
        self.broken: list[str] = []
        self.connections = 0
        self.closing = threading.Event()
        self.came = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._open: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self.host = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, request: Request) -> None:
        """Fill in `batch` and `items`; raises whatever it likes when the request breaks a rule."""
        raise NotImplementedError

    def acknowledge(self, request: Request) -> None:
        raise NotImplementedError

    def close(self) -> None:
        if self.closing.is_set():
            return
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for connection in self._open:
            connection.close()

    def store(self, request: Request, without: Iterable[int] = ()) -> None:
        with self.came:
            for index, (name, item) in enumerate(request.items):
                if index not in without:
                    self.stored[name] += 1
                    self.events[name] = item
            self.came.notify_all()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
        """Wait until the condition holds; looked at whenever a request comes."""
        with self.came:
            return self.came.wait_for(condition, timeout_s)

    def wait_stored(self, count: int, timeout_s: float = 20.0) -> bool:
        return self.wait_for(lambda: len(self.stored) >= count, timeout_s)

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                while (request := _read(stream, connection)) is not None:
                    try:
                        self.read(request)
                        problem = ""
                    except Exception as error:
                        problem = f"{type(error).__name__}: {error}"
                    with self.came:
                        request.number = len(self.requests)
                        self.requests.append(request)
                        action = self.script.popleft() if self.script else self.always
                        if problem:
                            self.broken.append(problem)
                            action = status(400)
                        self.came.notify_all()
                    if not action(self, request):
                        return
        except OSError:
            return  # the client went away; what it lacks shows in its own counts


def _read(stream: Any, connection: socket.socket) -> Request | None:
    head = stream.readline(65536).decode("latin-1").strip()
    if not head.endswith("HTTP/1.1"):
        return None  # nothing more, or something that is no HTTP at all
    headers: dict[str, str] = {}
    while line := stream.readline(65536).decode("ascii").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Request(head, headers, stream.read(int(headers["content-length"])), connection)
