"""The pages on a real HTTP server and in a real browser; only what the pages read is made up.

Routes, dispatch, access check and control database are the real ones; the overview is a fake at the boundary, which a
test fills with what it wants to see.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from control_helpers import HeldClock, started_directory
from leeward.gateway.chaos import Chaos
from leeward.gateway.simulated import SimulatedProvider
from leeward.server.access import Access, Failures
from leeward.server.control.database import Control
from leeward.server.counters import Counters
from leeward.server.dashboard.overview import OverviewState
from leeward.server.dashboard.pages import Dashboard
from leeward.server.dashboard.providers import ProvidersReading
from leeward.server.dispatch import Dispatch
from leeward.server.http import ByteBudget
from leeward.server.openapi import Reference
from leeward.server.refusals import Refusals
from leeward.server.routes import ROUTES
from leeward.settings.gateway import Breaker
from leeward.store.clients import ClientAccounts

HANDLERS = ("page", "openapi", "docs")
MINUTE_MS = 60_000


class FakeOverview:
    """What the pages read, held by the test. `raises` stands for a store that answers with an error."""

    def __init__(self) -> None:
        self.minutes_held: list[tuple[int, int, int]] = []
        self.events: list[dict[str, Any]] = []
        self.held_clients = ClientAccounts()
        self.held_state = OverviewState(health="healthy", store="running")
        self.raises: Exception | None = None
        self.reads = 0
        self.gate: asyncio.Event | None = None

    async def minutes(self, project: int) -> list[tuple[int, int, int]]:
        self.reads += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.raises is not None:
            raise self.raises
        return self.minutes_held

    async def last_events(self, project: int, limit: int) -> list[dict[str, Any]]:
        return self.events[:limit]

    async def clients(self, project: int, limit: int) -> ClientAccounts:
        held = self.held_clients
        return ClientAccounts(held.accounts[:limit], held.total, held.lost, held.missing)

    def state(self) -> OverviewState:
        return self.held_state


class HeldProviders:
    """What the pages read of the gateway, held by the test; faults are real ones, of providers that nobody calls."""

    def __init__(self, clock: Any) -> None:
        self.held = ProvidersReading(providers=(), breaker=Breaker())
        self.chaos = Chaos(clock, endpoint_at=lambda _: None, random=lambda: 0.5)

    def breakable(self, *names: str) -> None:
        """These are simulated providers."""
        asyncio.run(self.chaos.know({name: SimulatedProvider(name) for name in names}, (), real_may=False))

    def reading(self) -> ProvidersReading:
        return msgspec.structs.replace(self.held, chaos=self.chaos.state())


class Pages:
    """The pages as an ASGI application, with a control database of their own."""

    def __init__(self, directory: Path, *, wait_s: float = 3.0, clock: Any = None) -> None:
        self.control_folder = directory
        self.clock = clock or HeldClock()
        self.overview = FakeOverview()
        self.providers = HeldProviders(self.clock)
        self.failures: list[dict[str, Any]] = []
        self.control = Control(self.clock)
        self.control.start(started_directory(directory)).result()
        self.failed = Failures(self.clock)
        access = Access(self.control.keys, self.failed)
        self.refusals = Refusals(clock=self.clock)
        dashboard = Dashboard(
            self.overview,
            providers=self.providers,
            refusals=self.refusals,
            sign_in=self.control,
            access=access,
            clock=self.clock,
            budget=ByteBudget(1 << 20),
            wait_s=wait_s,
        )
        reference = Reference(ROUTES)
        self.app = Dispatch(
            [route for route in ROUTES if route.handler in HANDLERS],
            {"page": dashboard.page, "openapi": reference.openapi, "docs": reference.docs},
            access=access,
            sessions=self.control.sessions,
            counters=Counters(),
            allowed_hosts=lambda host: host != b"elsewhere.example",
            report=lambda _, fields: self.failures.append(fields),
        )

    def close(self) -> None:
        self.control.stop()

    async def ask(
        self, method: str, path: str, body: bytes = b"", scheme: str = "http", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """One request without a network: status, headers, body."""
        sent: list[Any] = []
        given = {"host": "127.0.0.1:5330", **({"content_type": FORM} if body else {}), **headers}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "scheme": scheme,
            "client": ("127.0.0.1", 1),
            "headers": [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in given.items()],
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start, content = sent
        answered = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        assert len(answered) == len(start["headers"]), "no header is given twice"
        return start["status"], answered, content["body"].decode("utf-8", "surrogateescape")


FORM = "application/x-www-form-urlencoded"


@contextlib.contextmanager
def served(pages: Pages) -> Iterator[str]:
    """The pages on a free port of loopback, until the block ends; gives the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(pages.app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def chromium() -> str | None:
    """Where a Chromium is, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def event(number: int, received_at: int, **fields: Any) -> dict[str, Any]:
    """An event as a query gives it."""
    return {
        "key": f"telemetry:{received_at}:{number:08d}",
        "id": f"id-{number}",
        "event_type": "chat.sent",
        "kind": "event",
        "timestamp": received_at,
        "received_at": received_at,
        "expires_at": received_at + 7 * 86_400_000,
        "data": {},
        **fields,
    }
