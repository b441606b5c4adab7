"""The receiving end: one process on loopback that speaks the wires of all clients, with faults to order.

It shares the machine's cores with the client that is measured, so while a run lasts it only finds the end of each
request, keeps the body as it came, and answers; bodies are unpacked and counted when `Sink.tally` asks.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Self

from benchmarks.clients.tally import Item, Tally, readable, tally, unpack

BATCH_ID = re.compile(rb'"batch_id"\s*:\s*"([^"]+)"')
BATCH_HEAD_BYTES = 4096
REQUEST = re.compile(rb"[A-Z]+ (/[!->@-~]*)\S* HTTP/1\.1\r\n")


class Behaviour(NamedTuple):
    """How a sink answers.

    listens    false: connections are refused
    answers    false: it accepts, reads and says nothing (a black hole); nothing counts as received
    delay_s    between the end of a request and its answer
    outage_s   from the first request on, everything is answered with 503 and not received
    """

    listens: bool = True
    answers: bool = True
    delay_s: float = 0.0
    outage_s: float = 0.0


OK = Behaviour()
REFUSE = Behaviour(listens=False)
BLACKHOLE = Behaviour(answers=False)


class Received(NamedTuple):
    """What one sink got: the events of a run, those of all runs, bytes with heads, and when (monotonic) the last came."""

    events: Tally
    events_all: int
    wire_bytes: int
    last_at_s: float


class _Port:
    """One address: its behaviour now, and what came."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else gets the number
        self.number = self.socket.getsockname()[1]
        self.behaviour = behaviour
        self.server: asyncio.Server | None = None
        self.transports: set[asyncio.Transport] = set()
        self.bodies: list[tuple[str, str, bytes]] = []
        self.found: list[Item] = []
        self.wire_bytes = 0
        self.first_at_s: float | None = None
        self.last_at_s = 0.0

    async def become(self, behaviour: Behaviour) -> None:
        self.behaviour, self.first_at_s = behaviour, None
        for transport in list(self.transports):
            transport.abort()
        if behaviour.listens and self.server is None:
            loop = asyncio.get_running_loop()
            self.server = await loop.create_server(lambda: _Exchange(self), sock=self.socket, backlog=100)

    def take(self, path: str, encoding: str, body: bytes, wire_bytes: int) -> bytes:
        """Keep a request, unless the outage lasts; the answer."""
        now_s = time.monotonic()
        self.first_at_s = now_s if self.first_at_s is None else self.first_at_s
        if now_s - self.first_at_s < self.behaviour.outage_s:
            return b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
        self.bodies.append((path, encoding, body))
        self.wire_bytes += wire_bytes
        self.last_at_s = now_s
        kind, text = _answer(path, encoding, body)
        return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (kind, len(text), text)

    def received(self, run: str) -> Received:
        for path, encoding, body in self.bodies:
            self.found.extend(readable(path, body, encoding))
        self.bodies.clear()
        return Received(tally(self.found, run), len(self.found), self.wire_bytes, self.last_at_s)

    def close(self) -> None:
        for transport in list(self.transports):
            transport.abort()
        if self.server is not None:
            self.server.close()
        self.socket.close()


class _Exchange(asyncio.Protocol):
    """One connection."""

    def __init__(self, port: _Port) -> None:
        self._port = port
        self._buffer = bytearray()
        self._need = 0  # bytes of the request that is under way, once its head is known

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._port.transports.add(self._transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._port.transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        if not self._port.behaviour.answers:
            return
        self._buffer += data
        while len(self._buffer) >= self._need:
            end = self._buffer.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            head = bytes(self._buffer[:end])
            request = REQUEST.match(head)
            if request is None:  # two processes that share a connection wrote into each other's requests
                self._transport.abort()
                return
            self._need = end + int(_header(head, b"content-length") or 0)
            if len(self._buffer) < self._need:
                return
            path = request.group(1).decode()
            body = bytes(self._buffer[end : self._need])
            answer = self._port.take(path, _header(head, b"content-encoding"), body, self._need)
            del self._buffer[: self._need]
            self._need = 1
            self._say(answer)

    def _say(self, answer: bytes) -> None:
        delay_s = self._port.behaviour.delay_s
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._transport.write, answer)
        else:
            self._transport.write(answer)


def _header(head: bytes, name: bytes) -> str:
    found = re.search(rb"\r\n" + name + rb":[ \t]*([^\r]*)", head, re.IGNORECASE)
    return found.group(1).decode().strip().lower() if found else ""


def _answer(path: str, encoding: str, body: bytes) -> tuple[bytes, bytes]:
    if path.startswith("/api/telemetry/"):
        batch_id = _batch_id(body, encoding)
        return b"application/json", json.dumps({"batch_id": batch_id, "status": "completed", "errors": []}).encode()
    if path.startswith("/batch"):
        return b"application/json", b'{"status":1}'
    if path.endswith("/envelope/"):
        return b"application/json", b'{"id":"%s"}' % (b"0" * 32)
    if path.endswith("/v1/info"):  # logfire asks whose token it has
        return b"application/json", b'{"project_name":"benchmark","project_url":"http://127.0.0.1"}'
    return b"application/x-protobuf", b""


def _batch_id(body: bytes, encoding: str) -> str:
    """Looked for at the beginning first: to unpack all of it would cost more than the rest of the sink."""
    head = zlib.decompressobj(31).decompress(body, BATCH_HEAD_BYTES) if encoding == "gzip" else body[:BATCH_HEAD_BYTES]
    found = BATCH_ID.search(head) or BATCH_ID.search(unpack(body, encoding))
    return found.group(1).decode() if found else ""


def _serve(commands: Connection) -> None:
    ports: dict[int, _Port] = {}

    async def obey(verb: str, *given: Any) -> Any:
        if verb == "open":
            port = _Port(*given)
            ports[port.number] = port
            await port.become(port.behaviour)
            return port.number
        number, *rest = given
        if verb == "become":
            return await ports[number].become(*rest)
        if verb == "close":
            return ports.pop(number).close()
        return ports[number].received(*rest)

    async def main() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        under_way: set[asyncio.Task[None]] = set()

        async def answer(command: tuple[Any, ...]) -> None:
            try:
                commands.send((True, await obey(*command)))
            except Exception as error:  # told to the one who asked
                commands.send((False, repr(error)))

        def read() -> None:
            try:
                task = loop.create_task(answer(commands.recv()))
            except EOFError:
                over.set()
                return
            under_way.add(task)
            task.add_done_callback(under_way.discard)

        loop.add_reader(commands.fileno(), read)
        await over.wait()

    asyncio.run(main())


class SinkProcess:
    """The process in which all sinks of a benchmark live."""

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._commands, theirs = context.Pipe()
        self._lock = threading.Lock()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self.open().close()  # it is up, and no longer starting beside the first measure
        return self

    def __exit__(self, *_: object) -> None:
        self._commands.close()
        self._process.join(2)
        self._process.terminate()

    def ask(self, *command: Any) -> Any:
        with self._lock:
            self._commands.send(command)
            well, answer = self._commands.recv()
        if not well:
            raise RuntimeError(f"the sink failed at {command[0]}: {answer}")
        return answer

    def open(self, behaviour: Behaviour = OK) -> Sink:
        return Sink(self.ask, self.ask("open", behaviour))


class Sink:
    """One address of the sink process."""

    def __init__(self, ask: Callable[..., Any], port: int) -> None:
        self._ask = ask
        self._port = port
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._ask("close", self._port)

    def become(self, behaviour: Behaviour) -> None:
        """Answer in another way from now on; open connections are reset."""
        self._ask("become", self._port, behaviour)

    def received(self, run: str) -> Received:
        """What came so far; counts the events of that run."""
        return self._ask("received", self._port, run)  # type: ignore[no-any-return]
