"""The part of a server that switches faults on and off, for tests of its handlers and of the commands that call them."""

from __future__ import annotations

from typing import Any

from control_helpers import HeldClock
from leeward.gateway.chaos import Chaos
from leeward.gateway.simulated import SimulatedProvider
from leeward.server.access import Access, Failures, Identity, KeyRing, Sessions, digest
from leeward.server.chaos import ChaosHandlers
from leeward.server.counters import Counters
from leeward.server.dispatch import Dispatch
from leeward.server.http import ByteBudget
from leeward.server.routes import ROUTES

ADMIN_KEY = f"lw_{'admin':x>32}"
READ_KEY = f"lw_{'read':x>32}"
CHAOS_ROUTES = [route for route in ROUTES if route.handler.startswith("chaos_")]


class ChaosServer:
    """An ASGI application with one simulated provider, `primary`, and a real one, `openai`, which is never called."""

    def __init__(self) -> None:
        self.clock = HeldClock()
        self.reports: list[Any] = []
        self.primary = SimulatedProvider("primary", clock=self.clock)
        self.chaos = Chaos(self.clock, endpoint_at=lambda address: address, random=lambda: 0.0)
        keys = KeyRing()
        keys.replace(
            [(digest(ADMIN_KEY), Identity(1, "admin", "k_a", "")), (digest(READ_KEY), Identity(1, "read", "k_r", ""))]
        )
        handlers = ChaosHandlers(self.chaos, ByteBudget(1 << 20))
        self.app = Dispatch(
            CHAOS_ROUTES,
            {route.handler: getattr(handlers, route.handler) for route in CHAOS_ROUTES},
            access=Access(keys, Failures(self.clock, failures_max=10_000)),
            sessions=Sessions(self.clock),
            counters=Counters(),
            allowed_hosts=lambda _: True,
            report=lambda name, fields: self.reports.append((name, fields)),
        )

    async def know(self, *, real_may: bool = True) -> None:
        """Learn of both providers."""
        await self.chaos.know({"primary": self.primary}, ["openai"], real_may=real_may)
