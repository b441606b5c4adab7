"""What the pages read of the running server: the store's counts and events, log, writer, store, and the gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from leeward.server.dashboard.overview import OverviewState
from leeward.server.dashboard.providers import ProvidersReading
from leeward.server.operations import PartState, worst_state
from leeward.server.query import event_out
from leeward.store.events import EventQuery

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.journal.log import Log
    from leeward.server.counters import Counters
    from leeward.server.dead_letters import DeadLetters
    from leeward.server.gateway_part import GatewayPart
    from leeward.server.pipeline import Pipeline
    from leeward.server.reads import Run
    from leeward.server.writer import Writer
    from leeward.store.clients import ClientAccounts
    from leeward.store.open import OpenStore

__all__ = ["LiveOverview", "LiveProviders"]

HOUR_MS: Final = 3_600_000
AHEAD_MS: Final = 60_000


class LiveOverview:
    """The overview of a running server. Reads through the store only, and never waits for it to say how it is."""

    def __init__(
        self,
        *,
        store: OpenStore,
        log: Log,
        writer: Writer,
        pipeline: Pipeline,
        counters: Counters,
        dead_letters: DeadLetters,
        parts: Callable[[], dict[str, PartState]],
        unstored_bytes: Callable[[], int],
        clock: Clock,
        retention_ms: int,
        demo: bool,
        run: Run,
    ) -> None:
        self._store = store
        self._log = log
        self._writer = writer
        self._pipeline = pipeline
        self._counters = counters
        self._dead_letters = dead_letters
        self._parts = parts
        self._unstored_bytes = unstored_bytes
        self._clock = clock
        self._retention_ms = retention_ms
        self._demo = demo
        self._run = run

    async def minutes(self, project: int) -> list[tuple[int, int, int]]:
        """Events of the last hour by the minute of their receipt: (its start in ms, events, of them errors)."""
        now_ms = self._clock.wall_ms()
        counted: list[tuple[int, int, int]] = await self._run(
            self._store.events.minutes, project, now_ms - HOUR_MS, now_ms + AHEAD_MS
        )
        return counted

    async def last_events(self, project: int, limit: int) -> list[dict[str, Any]]:
        """The newest events, as the query API gives them."""
        now_ms = self._clock.wall_ms()
        query = EventQuery(project=project, start_ms=now_ms - self._retention_ms, end_ms=now_ms + AHEAD_MS, limit=limit)
        rows = await self._run(self._store.events.query, query)
        return [event_out(row, self._retention_ms) for row in rows]

    async def clients(self, project: int, limit: int) -> ClientAccounts:
        """Clients that number their events, those with losses or gaps first."""
        found: ClientAccounts = await self._run(self._store.events.clients, project, limit)
        return found

    def state(self) -> OverviewState:
        """How log, writer and store are at this moment."""
        parts = self._parts()
        counters, log, store = self._counters, self._log.statistics(), self._store.state
        waiting_since_ms = self._writer.waiting_since_ms
        return OverviewState(
            health=worst_state(parts),
            store=store.reason or store.state,
            troubles=tuple(f"{name}: {part.cause or part.detail}" for name, part in parts.items() if part.detail),
            unstored_bytes=self._unstored_bytes(),
            lag_s=max(0, self._clock.wall_ms() - waiting_since_ms) / 1000 if waiting_since_ms else 0.0,
            sync_ms=self._pipeline.synced_ms,
            accepted=counters.accepted,
            stored=counters.stored,
            duplicates=counters.duplicates_at_door + counters.duplicates_at_load,
            refused=dict(counters.refused),
            wire_items=dict(counters.wire_items),
            dead=len(self._dead_letters),
            lost=log.damaged_spans,
            providers=_providers(parts.get("providers")),
            demo=self._demo,
        )


class LiveProviders:
    """The gateway of a running server."""

    def __init__(self, gateway: GatewayPart) -> None:
        self._gateway = gateway
        self.chaos = gateway.core.homes.chaos

    def reading(self) -> ProvidersReading:
        """How every provider is, and what was counted since the start."""
        core, metrics = self._gateway.core, self._gateway.metrics
        return ProvidersReading(
            providers=core.providers(),
            breaker=core.routes.settings.breaker,
            attempts=metrics.attempts,
            repeats=metrics.repeats,
            tokens=metrics.tokens,
            usd=metrics.usd,
            requests=metrics.requests,
            chaos=self.chaos.state(),
        )


def _providers(part: PartState | None) -> tuple[int, int]:
    """How many there are, and how many of them are not well."""
    return (0, 0) if part is None else (int(part.figures["count"]), int(part.figures["unwell"]))
