"""Runs the application: the socket, uvicorn, signals. One process serves a machine.

SIGINT and SIGTERM stop it in order: no new connections, running requests end, the log is synced, exit code 0. A second
signal does not wait for running requests. SIGHUP reads the configuration again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import uvicorn

from leeward.errors import ConfigError
from leeward.server.protocol import limited_protocol

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from leeward.server.logs import Report
    from leeward.settings.tree import Settings

__all__ = ["bind", "loop_factory", "serve"]

BACKLOG: Final = 2048
GC_THRESHOLD: Final = 50_000
SWITCH_INTERVAL_S: Final = 0.001
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Served(Protocol):
    """What is served: an ASGI application with parts that are started and stopped."""

    settings: Settings
    data_dir: Path
    report: Report

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        ...

    async def start(self) -> None:
        """Start every part; return when requests may come."""
        ...

    def stopping(self) -> None:
        """No new requests should come."""
        ...

    async def stop(self) -> None:
        """Stop every part."""
        ...

    async def reload(self) -> None:
        """Read the configuration again; what is wrong with it is reported, and the old one kept."""
        ...


def bind(host: str, port: int) -> socket.socket:
    """Bind the listening socket.

    Raises:
        ConfigError: the port is taken or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)  # at once: with SO_REUSEADDR two that start together could both bind
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"port {port} on {host} cannot be used: {error.strerror or error}",
            code="address_taken",
            where="[server] host, port",
            fix=f"leeward serve --port {port + 1}, or stop what uses it",
        ) from None
    return listener


async def serve(
    application: Served,
    listener: socket.socket,
    on_ready: Callable[[], Awaitable[None]],
    *,
    further: Sequence[socket.socket] = (),
) -> None:
    """Start the application's parts, answer requests until a signal comes, stop the parts.

    Args:
        application: not started yet.
        listener: as `bind` returns it; closed at the end.
        on_ready: called once requests are answered.
        further: other sockets to listen on; closed at the end too.

    Raises:
        ConfigError: a part cannot start.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # the loop must get the interpreter back soon from log and writer
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    stop = _Stop(application.stopping)
    with stop.on_signals():
        try:
            await application.start()
            stop.reloads(asyncio.get_running_loop(), application)
            gc.collect()
            gc.freeze()  # what was built at start stays: the collector need not look at it again
            gc.set_threshold(GC_THRESHOLD)
            if not stop.asked:
                stop.server = _Server(_config(application), on_ready)
                await stop.server.serve(sockets=[listener, *further])
        finally:
            await application.stop()
            for each in (listener, *further):
                each.close()


def _config(application: Served) -> uvicorn.Config:
    settings = application.settings.server
    return uvicorn.Config(
        application,
        http=limited_protocol(
            head_timeout_s=settings.head_timeout_s,
            body_timeout_s=settings.body_timeout_s,
            connections_max=settings.connections_max,
        ),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=max(1, round(settings.idle_timeout_s)),
        # Half of the time is the requests', the rest the parts': all together end within `shutdown_timeout_s`.
        timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_s / 2)),
    )


class _Stop:
    """What a signal does, from before the first part starts until the last has stopped.

    The first asks for an orderly stop, a second one does not wait for running requests any more. Neither ends the
    process by itself, so the exit code is 0 and every part is stopped.
    """

    def __init__(self, on_stop: Callable[[], None]) -> None:
        self.asked = 0
        self.server: uvicorn.Server | None = None
        self._on_stop = on_stop
        self._hup_asked = False
        self._reloading: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._signalled) for number in _STOP_SIGNALS}
        if sys.platform != "win32":  # one that comes while the parts start must not end the process
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hung_up)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def reloads(self, loop: asyncio.AbstractEventLoop, application: Served) -> None:
        """From now on SIGHUP reads the configuration again. One at a time, in the order they were asked for."""
        if sys.platform == "win32":
            return
        turn = asyncio.Lock()

        async def one() -> None:
            async with turn:
                try:
                    await application.reload()
                except Exception as error:
                    # Boundary: a fault of ours in here must be seen, and the next signal be heard.
                    application.report("reload_failed", {"error": error})

        def ask() -> None:
            task = loop.create_task(one())
            self._reloading.add(task)
            task.add_done_callback(self._reloading.discard)

        loop.add_signal_handler(signal.SIGHUP, ask)
        if self._hup_asked:
            ask()

    def _hung_up(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler's signature
        self._hup_asked = True

    def _signalled(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler's signature
        self.asked += 1
        self._on_stop()
        if self.server is not None:
            self.server.should_exit = True
            self.server.force_exit = self.asked > 1


class _Server(uvicorn.Server):
    """uvicorn's server without signals of its own."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def loop_factory() -> Callable[[], Any] | None:
    """Give uvloop where there is one."""
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - not on Windows

    factory: Callable[[], Any] = uvloop.new_event_loop
    return factory
