"""An AI provider that is none: OpenAI's interface on 127.0.0.1, with faults that can be switched on at any time.

It answers chat completions (whole and streamed, tool calls too), embeddings, and the list of models, over real sockets
and fast enough to stand behind a benchmark; to Anthropic's Messages it answers in words. Its faults are exact: a reset
is a RST, a cut is a FIN, silence is silence.

Promises  the same seed gives the same words, and the same calls the same share of faults.
Limits    loopback only; no key is asked for; a request of at most 64 MiB.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import sys
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Self

import httptools
import msgspec

from leeward.clock import SystemClock
from leeward.gateway.faults import FAULTS, Fault, Reply, Script, fault_named, good_script, refusal, script_of, whole
from leeward.gateway.simulated_answers import Answers, Stream

if TYPE_CHECKING:
    from leeward.clock import Clock

__all__ = ["Received", "SimulatedProvider"]

HOST: Final = "127.0.0.1"
REQUEST_BYTES_MAX: Final = 64 << 20
RECEIVED_KEPT: Final = 100
ACCEPTING_TURNS: Final = 3  # of the loop, from the listening socket to `connection_made`
RESET_GAP_S: Final = 0.02  # what was written before a reset has to be out of this process's buffers
_LINGER_NOT: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # closing then sends a RST
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NOT_HTTP: Final = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Received(msgspec.Struct, frozen=True):
    """A request as it came: for tests. Header names are in lower case."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    at_s: float  # of the clock's monotonic seconds

    def header(self, name: str) -> str:
        """The first header of this name, "" if there is none."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key == wanted), "")


class SimulatedProvider:
    """One provider. Belongs to the event loop that starts it; `fault` and the counters may be used from any thread."""

    def __init__(
        self,
        name: str = "simulated",
        *,
        seed: int = 0,
        words: int = 24,
        models: Sequence[str] = ("simulated",),
        events_per_write: int = 1,
        pace_s: float = 0.0,
        received_max: int = RECEIVED_KEPT,
        clock: Clock | None = None,
    ) -> None:
        """
        Args:
            name: Stands in its answers, and in their header `x-simulated`.
            seed: Decides which words it says and which calls a fault with a share meets.
            words: How many words it says; in a stream each is an event.
            models: What it lists. It answers for any model.
            events_per_write: Events of a stream in one write, thus in one segment.
            pace_s: Seconds between two writes of a stream; 0: one write each pass of the event loop.
            received_max: How many of the latest requests `received` keeps.
            clock: For tests.
        """
        self.name = name
        self.models = tuple(models)
        self.calls = 0
        """Calls for chat or embeddings, whatever became of them."""
        self.looks = 0
        """Calls for the list of models."""
        self.connections = 0
        """Connections ever made."""
        self.cancelled = 0
        """Answers whose caller left before they were whole."""
        self.received: deque[Received] = deque(maxlen=received_max)
        """The latest requests."""
        self.port = 0
        self._scheme = "http"
        self._stopped = False
        self.pace_s = pace_s
        self._answers = Answers(name, seed=seed, words=words, events_per_write=events_per_write)
        self._clock = clock or SystemClock()
        self._common = b"server: leeward-simulated\r\nx-simulated: %b\r\n" % _header_text(name)
        self._connections: set[_Connection] = set()
        self._dice = random.Random(seed)  # noqa: S311 - chances, not secrets
        self._fault: Fault | None = None
        self._fault_until_s: float | None = None
        self._models = _models_list(self.models)
        self._number = 0
        self._server: asyncio.AbstractServer | None = None

    @property
    def open(self) -> int:
        """Connections open now."""
        return len(self._connections)

    @property
    def base_url(self) -> str:
        """Its address, as a `base_url` is written."""
        return f"{self._scheme}://{HOST}:{self.port}/v1"

    @property
    def fault(self) -> Fault | None:
        """What it does wrong; None: nothing. May be set to a `Fault`, or to the name of one. Calls that run go on."""
        until_s = self._fault_until_s
        if until_s is not None and self._clock.monotonic_s() >= until_s:
            self._fault = self._fault_until_s = None
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | str | None) -> None:
        self.break_for(fault, None)

    def break_for(self, fault: Fault | str | None, for_s: float | None) -> None:
        """Do this wrong for so many seconds; None: until told otherwise. Raises ConfigError for a name that is none."""
        self._fault = fault_named(fault) if isinstance(fault, str) else fault
        self._fault_until_s = None if for_s is None else self._clock.monotonic_s() + for_s

    @property
    def fault_ends_s(self) -> float | None:
        """Seconds until the fault ends by itself; None where nothing ends."""
        if self.fault is None or self._fault_until_s is None:
            return None
        return max(0.0, self._fault_until_s - self._clock.monotonic_s())

    async def start(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> int:
        """Listen on 127.0.0.1, with *tls* behind it; give the port. Raises OSError where it cannot."""
        loop = asyncio.get_running_loop()
        self._stopped = False
        self._server = await loop.create_server(lambda: _Connection(self, loop), HOST, port, backlog=1024, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self._scheme = "http" if tls is None else "https"
        return self.port

    async def stop(self) -> None:
        """Listen no more, and end every connection."""
        self._stopped = True
        if self._server is not None:
            # What was accepted already has yet to be made a connection; asyncio drops its socket when the server is closed.
            for _ in range(ACCEPTING_TURNS):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.abort()
        while self._connections:  # noqa: ASYNC110 - what is aborted is gone after a pass of the loop or two
            await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        if self._server is None:
            await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # What is answered

    def script(self, request: Received) -> Script:
        """What is written for this request, and how it ends. Counts the call."""
        path = request.path.partition("?")[0]
        if request.method == "GET" and path.endswith("/models"):
            self.looks += 1
            fault = self._fault_of_call()
            if fault is not None and FAULTS[fault.mode].everywhere:
                return script_of(fault, Reply(), self._common)
            return Script((whole(200, self._models, self._common),))
        if request.method == "POST" and path.endswith(("/chat/completions", "/embeddings", "/messages")):
            return self._called(path, request.body)
        sentence = b"Simulated: there is nothing at this address; chat/completions, embeddings and models are."
        return Script((self._refused(404, sentence, b"not_found"),))

    def _called(self, path: str, body: bytes) -> Script:
        self.calls += 1
        self._number += 1
        fault = None if self._fault is None else self._fault_of_call()
        try:
            if path.endswith("/embeddings"):
                reply: Reply | Stream = self._answers.embeddings(body)
            elif path.endswith("/messages"):
                reply = self._answers.messages(body, self._number)
            else:
                created_s = self._clock.wall_ms() // 1000
                reply = self._answers.chat(body, self._number, created_s, self._common)
        except (msgspec.MsgspecError, RecursionError) as error:
            return Script((self._refused(400, f"Simulated: {error}".encode(), b"invalid_request"),))
        if fault is not None:
            return script_of(fault, reply.reply if isinstance(reply, Stream) else reply, self._common)
        if isinstance(reply, Stream):
            return Script(reply.groups, after_first_s=self.pace_s, pace_s=self.pace_s)
        return good_script(reply, self._common, self.pace_s)

    def _fault_of_call(self) -> Fault | None:
        fault = self.fault
        if fault is None or (fault.share < 1.0 and self._dice.random() >= fault.share):
            return None
        return fault

    def _refused(self, status: int, sentence: bytes, code: bytes) -> bytes:
        return refusal(status, sentence, self._common, kind=b"invalid_request_error", code=code)


def _header_text(name: str) -> bytes:
    return "".join(character if " " <= character <= "~" else "?" for character in name).encode()


def _models_list(models: Sequence[str]) -> bytes:
    rows = [{"id": model, "object": "model", "created": 0, "owned_by": "simulated"} for model in models]
    return msgspec.json.encode({"object": "list", "data": rows})


class _Connection(asyncio.Protocol):
    """One connection: requests in, scripts played out, one after the other."""

    def __init__(self, provider: SimulatedProvider, loop: asyncio.AbstractEventLoop) -> None:
        self._provider = provider
        self._loop = loop
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # connection_made sets it
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._waiting: deque[tuple[Received, bool]] = deque()
        self._script: Script | None = None  # that is played now
        self._next = 0  # of its writes
        self._stays = True
        self._timer: asyncio.Handle | None = None
        self._full = False  # the peer does not read
        self._held = False  # a step waits until it does

    # Of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is one, but not by inheritance
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._provider.connections += 1
        self._provider._connections.add(self)  # noqa: SLF001 - the other half of the provider
        if self._provider._stopped:  # noqa: SLF001 - while this one was on its way
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._timer is not None:
            self._timer.cancel()
        if self._script is not None:
            self._provider.cancelled += 1
        self._parser = self._script = None  # the parser holds this object, too
        self._provider._connections.discard(self)  # noqa: SLF001 - as above

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.write(_NOT_HTTP)
            self._close()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._held:
            self._held = False
            self._step()

    # Of the parser

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body, self._body_bytes = b"", [], [], 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._headers.append((name, value))
        if name == b"expect":
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > REQUEST_BYTES_MAX:
            sentence = b"Simulated: the request is larger than 64 MiB."
            self._transport.write(self._provider._refused(413, sentence, b"too_large"))  # noqa: SLF001 - as above
            self._close()
        elif self._parser is not None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        parser = self._parser
        if parser is None:
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        method, path = parser.get_method().decode(), self._url.decode("latin-1")
        request = Received(method, path, self._headers, body, self._provider._clock.monotonic_s())  # noqa: SLF001
        self._provider.received.append(request)
        stays = parser.should_keep_alive()
        if self._script is not None:
            self._waiting.append((request, stays))
        else:
            self._play(request, stays=stays)

    # The player

    def _play(self, request: Received, *, stays: bool) -> None:
        script = self._script = self._provider.script(request)
        self._stays = stays
        self._next = 0
        if script.before_s:
            self._timer = self._loop.call_later(script.before_s, self._step)
        else:
            self._step()

    def _step(self) -> None:
        """Write what is next, and see when to go on."""
        script = self._script
        if script is None:
            return  # the connection was ended between two steps
        if self._full:
            self._held = True
            return
        count = len(script.writes)
        if self._next < count:
            self._transport.write(script.writes[self._next])
            self._next += 1
        if self._next >= count:
            self._finish(script)
            return
        pause_s = script.after_first_s if self._next == 1 else script.pace_s
        if pause_s:
            self._timer = self._loop.call_later(pause_s, self._step)
        else:
            self._timer = self._loop.call_soon(self._step)

    def _finish(self, script: Script) -> None:
        if script.end == "silence":
            return
        if script.end == "reset":
            if script.writes:
                self._timer = self._loop.call_later(RESET_GAP_S, self._reset)
            else:
                self._reset()
            return
        self._script = None
        if script.end == "close" or not self._stays:
            self._close()
        elif self._waiting:
            request, stays = self._waiting.popleft()
            self._play(request, stays=stays)

    def _reset(self) -> None:
        self._script = None
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._transport.abort()

    def _close(self) -> None:
        self._parser = None
        self._waiting.clear()
        self._transport.close()

    def abort(self) -> None:
        """The provider stops: end at once."""
        self._script = None
        self._transport.abort()
