"""A strict server for the client's tests: it takes the native batch route on loopback, and notes what came.

What a test wants to go wrong is an action: a function of the request that answers, or does not. `script` holds actions
for the next requests, one each; `always` is what happens when the script is empty. A request that breaks the wire's
rules is noted in `broken` and answered with 400, so that no test passes by accident.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

BATCH_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
KEY = "lw_" + "k" * 32


@dataclass
class Request:
    """One request as it came, and the connection it came on."""

    head: str
    headers: dict[str, str]
    body: bytes
    connection: socket.socket
    number: int = 0
    batch: dict[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.batch["events"]]

    def answer(self, status: int, value: object, headers: str = "") -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.connection.sendall(
            f"HTTP/1.1 {status} Status\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
        )


Action = Callable[["Recorder", Request], bool]


def ok(recorder: Recorder, request: Request) -> bool:
    """Store the events and acknowledge them."""
    recorder.store(request)
    request.answer(200, acknowledgement(request))
    return True


def acknowledgement(request: Request, refused: dict[int, str] | None = None) -> dict[str, object]:
    errors = [{"index": index, "code": code, "error": "no"} for index, code in (refused or {}).items()]
    events = request.batch["events"]
    return {
        "batch_id": request.batch["batch_id"],
        "status": "completed",
        "accepted": len(events) - len(errors),
        "total": len(events),
        "errors": errors,
    }


def status(code: int, headers: str = "", value: object = None) -> Action:
    """Answer with this status and store nothing."""

    def act(recorder: Recorder, request: Request) -> bool:
        request.answer(code, value if value is not None else {"error": "no", "code": "test"}, headers)
        return True

    return act


def refuse(refused: dict[int, str]) -> Action:
    """Store the batch but for the events with these indexes."""

    def act(recorder: Recorder, request: Request) -> bool:
        recorder.store(request, without=set(refused))
        request.answer(200, acknowledgement(request, refused))
        return True

    return act


def larger_than(events_max: int) -> Action:
    """413 for batches of more events."""

    def act(recorder: Recorder, request: Request) -> bool:
        if len(request.batch["events"]) > events_max:
            request.answer(413, {"error": "too large", "code": "payload_too_large"})
            return True
        return ok(recorder, request)

    return act


def raw(data: bytes) -> Action:
    """Send these bytes and close."""

    def act(recorder: Recorder, request: Request) -> bool:
        request.connection.sendall(data)
        return False

    return act


def lost_answer(recorder: Recorder, request: Request) -> bool:
    """Store the events, then break the connection before the answer."""
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
        self.stored: Counter[str] = Counter()  # id → how often it was sent in a batch that was stored
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

    def close(self) -> None:
        if self.closing.is_set():
            return
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for connection in self._open:
            connection.close()

    def store(self, request: Request, without: set[int] | None = None) -> None:
        with self.came:
            for index, event in enumerate(request.batch["events"]):
                if index not in (without or ()):
                    self.stored[event["id"]] += 1
                    self.events[event["id"]] = event
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
                    problem = _check(request)
                    with self.came:
                        request.number = len(self.requests)
                        self.requests.append(request)
                        action = self.script.popleft() if self.script else self.always
                        self.came.notify_all()
                    if problem:
                        self.broken.append(problem)
                        action = status(400)
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


def _check(request: Request) -> str:
    """What is wrong with a request, or empty."""
    if request.head != "POST /api/telemetry/batch HTTP/1.1":
        return f"request line {request.head!r}"
    if request.headers.get("authorization") != f"Bearer {KEY}":
        return "the key"
    if request.headers.get("content-type") != "application/json":
        return "content type"
    body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    request.batch = json.loads(body)
    events = request.batch["events"]
    if not BATCH_ID.fullmatch(request.batch["batch_id"]) or not 1 <= len(events) <= 1000:
        return f"batch id {request.batch['batch_id']!r} with {len(events)} events"
    for event in events:
        if not UUID7.fullmatch(event["id"]) or not 1 <= len(event["event_type"]) <= 200:
            return f"event {event}"
        if not isinstance(event["timestamp"], int) or not isinstance(event.get("data", {}), dict):
            return f"event {event}"
    return ""
