"""The gateway alone: no store, no log, no database; keys come from the configuration. `leeward serve --only gateway`.

Needs the `gateway` extra and nothing else. Its telemetry goes wherever the client of this process is pointed.
"""

from __future__ import annotations

import asyncio
import os
import random as chance
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from leeward.clock import SystemClock
from leeward.gateway.telemetry import Telemetry, to_client
from leeward.sender.client import Client
from leeward.server.access import Access, Failures, Identity, KeyRing, Sessions
from leeward.server.chat import refusal
from leeward.server.counters import Counters
from leeward.server.dispatch import Dispatch
from leeward.server.gateway_part import GatewayPart
from leeward.server.http import ByteBudget
from leeward.server.operations import Operations, request_metrics
from leeward.server.quotas import Quota
from leeward.server.routes import ROUTES
from leeward.server.self_check import check_refusals
from leeward.server.sentry_report import SentryReport
from leeward.server.spend import Spend
from leeward.version import VERSION

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.server.http import Receive, Scope, Send
    from leeward.server.logs import Report
    from leeward.server.operations import PartState
    from leeward.settings.tree import ServerKey, Settings

__all__ = ["GatewayAlone"]

PROJECT: Final = 1
CLIENT_STOP_S: Final = 2.0
REPORTS_STOP_S: Final = 2.0


class GatewayAlone:
    """The server, as an ASGI application with parts that are started and stopped. Belongs to the loop that starts it."""

    def __init__(
        self,
        settings: Settings,
        report: Report,
        *,
        load: Callable[[], Settings] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.data_dir = Path(settings.server.data_dir)  # where commands look for a server's keys; nothing is written
        self.clock: Clock = clock or SystemClock()
        self._reports = SentryReport(settings.report.sentry_dsn, clock=self.clock, report=report)
        self.report = self._reports.watching(report)
        self.counters = Counters()
        self.first_start = False
        self._load = load
        self._ready = False
        self._keys = KeyRing()
        self._set_keys(settings)
        # Off, unless the environment says where to: the client's own default address is most likely this very server.
        pointed = any(os.environ.get(name) for name in ("LEEWARD_HOST", "TELEMETRY_API_URL"))
        self._client = Client(app=f"leeward-gateway/{VERSION}", disabled=None if pointed else True)
        self._telemetry = Telemetry(to_client(self._client))
        self._dispatch: Dispatch | None = None
        self.gateway: GatewayPart | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert self._dispatch is not None
        await self._dispatch(scope, receive, send)

    async def start(self) -> None:
        """Start every part; return when requests may come.

        Raises:
            ConfigError: a part cannot start, and says why and what to do.
        """
        self._reports.start()
        budget = ByteBudget(self.settings.server.inflight_bytes_max)
        self.gateway = GatewayPart(
            self.settings,
            clock=self.clock,
            random=chance.random,
            budget=budget,
            spend=Spend(None, clock=self.clock, report=self.report),
            report=self.report,
            further=(self._telemetry, self._reports),
            reloads=("gateway.", "server.keys."),
            telemetry_lost=lambda: self._telemetry.lost,
            reports=self._reports.counts,
        )
        operations = Operations(
            parts=self.parts,
            ready=lambda: self._ready,
            collectors=(lambda: request_metrics(self.counters), self.gateway.collect),
            provider=self.gateway.state_of,
        )
        handlers = {
            **self.gateway.handlers(),
            "metrics": operations.metrics,
            "health": operations.health,
            "livez": operations.livez,
            "readyz": operations.readyz,
        }
        self._dispatch = Dispatch(
            [route for route in ROUTES if route.handler in handlers],
            handlers,
            access=Access(self._keys, Failures(self.clock)),
            sessions=Sessions(self.clock),
            counters=self.counters,
            allowed_hosts=lambda host: True,  # noqa: ARG005 - there are no pages
            report=self.report,
            refusals={"openai": refusal},
        )
        await check_refusals(self._dispatch)
        self.counters.requests.clear()
        await self.gateway.start()
        self._ready = True

    def parts(self) -> dict[str, PartState]:
        """How the providers are."""
        state = None if self.gateway is None else self.gateway.state()
        return {} if state is None else {"providers": state}

    async def reload(self) -> None:
        """Read the configuration again: providers, routes, keys."""
        if self.gateway is None or self._load is None:
            return
        fresh = await self.gateway.reload(self._load)
        if fresh is not None:
            self._set_keys(fresh)

    def stopping(self) -> None:
        """Requests may still end, but balancers should send no new ones."""
        self._ready = False

    async def stop(self) -> None:
        """Close the connections; hand over what is left of telemetry."""
        self._ready = False
        if self.gateway is not None:
            await self.gateway.stop()
        self._telemetry.flush()
        await self._reports.stop(REPORTS_STOP_S)
        await asyncio.to_thread(self._client.shutdown, CLIENT_STOP_S)

    def _set_keys(self, settings: Settings) -> None:
        self._keys.replace(
            (
                bytes.fromhex(key.sha256.lower()),
                Identity(PROJECT, key.scope, key.name or key.sha256[:8].lower(), "", _quota(key)),
            )
            for key in settings.server.keys
        )


def _quota(key: ServerKey) -> Quota | None:
    limits = (key.requests_per_minute, key.tokens_per_day, key.usd_per_day)
    if limits == (None, None, None):
        return None
    return Quota(requests_per_minute=limits[0], tokens_per_day=limits[1], usd_per_day=limits[2])
