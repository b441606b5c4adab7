"""Scripted providers: real servers on loopback that write given bytes, and do what broken servers do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import uvloop

from leeward.clock import SystemClock
from leeward.gateway.exchange import Exchange
from leeward.gateway.origin import Endpoint, Origin
from leeward.gateway.transport import Transport, header_lines

LOOPS = (asyncio.new_event_loop, uvloop.new_event_loop)
CLOSE, RESET, HANG = "close", "reset", "hang"  # steps besides bytes: FIN, RST, nothing until the other side leaves
HEADERS = header_lines([("authorization", "Bearer sk-test"), ("content-type", "application/json")])
BYTES_MAX = 1 << 20
Step = bytes | str


def answer(body: bytes = b"{}", *, status: str = "200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\n%scontent-length: %d\r\n\r\n%s" % (status.encode(), headers, len(body), body)


def chunked(*pieces: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


class Upstream:
    """Answers each request by the next script; the last one stays. `ended` counts connections that are over."""

    def __init__(self, scripts: list[list[Step]]) -> None:
        self.scripts = scripts
        self.connections = self.ended = 0
        self.requests: list[bytes] = []
        self.reset_after: int | None = None  # so many bytes of a request
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            await self._answer_all(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self.ended += 1

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await self._request(reader)
            if request is None:
                _reset(writer)
                return
            self.requests.append(request)
            script = self.scripts[min(len(self.requests), len(self.scripts)) - 1]
            for step in script:
                if step == CLOSE:
                    return
                if step == RESET:
                    _reset(writer)
                    return
                if step == HANG:
                    await reader.read()
                    return
                writer.write(step)
                await writer.drain()

    async def _request(self, reader: asyncio.StreamReader) -> bytes | None:
        """The next request; None as soon as `reset_after` bytes of it are there."""
        got = b""
        while self.reset_after is None or len(got) < self.reset_after:
            head, end, body = got.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            if end and len(body) >= int(length or 0) and self.reset_after is None:
                return got
            read = await reader.read(1 << 16)
            if not read:
                raise asyncio.IncompleteReadError(got, None)
            got += read
        return None

    def close(self) -> bool:
        """Hang up; whether all connections are over."""
        for writer in self._writers:
            writer.transport.abort()
        return self.ended == self.connections


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.asynccontextmanager
async def serving(*scripts: list[Step], tls=None) -> AsyncIterator[tuple[Upstream, Endpoint]]:
    """An upstream and the endpoint that leads to it."""
    upstream = Upstream(list(scripts) or [[answer()]])
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield upstream, Endpoint(Origin.of(f"{'https' if tls else 'http'}://127.0.0.1:{port}/v1"))
    finally:
        for _ in range(3):  # what was accepted has yet to be made a connection; a closed server drops its socket
            await asyncio.sleep(0)
        server.close()
        await until(upstream.close)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop go on until this holds."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


class Caller:
    """A transport with usual arguments."""

    def __init__(self, **arguments) -> None:
        self.clock = SystemClock()
        self.transport = Transport(self.clock, **arguments)

    async def begin(
        self, endpoint: Endpoint, body: bytes = b"{}", *, deadline_in_s: float = 30.0, **changes
    ) -> Exchange:
        settings = {
            "connect_timeout_s": 10.0,
            "head_timeout_s": 20.0,
            "deadline_s": self.clock.monotonic_s() + deadline_in_s,
            "stall_timeout_s": 20.0,
            "bytes_max": BYTES_MAX,
        }
        target = changes.pop("target", b"/v1/chat/completions")
        headers = changes.pop("headers", HEADERS)
        return await self.transport.begin(endpoint, target, headers, body, **(settings | changes))

    async def read(self, endpoint: Endpoint, body: bytes = b"{}", **changes) -> bytes:
        return await (await self.begin(endpoint, body, **changes)).read()


def run(
    new_loop: Callable[[], asyncio.AbstractEventLoop], work: Callable[[Caller], Awaitable[None]], **arguments
) -> None:
    """Run `work` on a loop of this kind; then no task and no socket of the transport may be left."""

    async def main() -> None:
        caller = Caller(**arguments)
        try:
            await work(caller)
        finally:
            await caller.transport.close()
        statistics = caller.transport.statistics()
        assert (statistics.open, statistics.idle) == (0, 0)
        assert not caller.transport._pool.sockets
        await until(lambda: len(asyncio.all_tasks()) == 1)  # the servers' own tasks hear of our end a little later

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
