"""From the setting `[storage] url` to a store: the embedded engine in its child, or a cluster; the same client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from leeward.store.clickhouse import ClickHouse, StoreUnavailable
from leeward.store.embedded import EmbeddedEngine, Limits
from leeward.store.events import ClickHouseEventStore
from leeward.store.migrate import migrate, verify

if TYPE_CHECKING:
    from leeward.clock import Clock

__all__ = ["EMBEDDED", "OpenStore", "StoreState", "open_store"]

EMBEDDED: Final = "embedded"
_START_S: Final = 2.0


class StoreState(msgspec.Struct, frozen=True):
    """How the store stands: a word, a sentence where it is not ready, and how often it was started again."""

    state: str
    reason: str
    restarts: int


class OpenStore:
    """The store's client and, if it is ours, its engine. Opened at once; ready when `prepare` has returned."""

    def __init__(self, client: ClickHouse, engine: EmbeddedEngine | None, clock: Clock, retention_days: int) -> None:
        self._client = client
        self._engine = engine
        self._prepared = False
        self.events = ClickHouseEventStore(client, clock, retention_days)

    def prepare(self) -> None:
        """Bring the schema up to date and prove that the settings hold which the promises rest on.

        Raises:
            StoreUnavailable: it does not answer yet.
            ConfigError: it was written by a newer leeward, or does not do what it is told.
        """
        if self._engine is not None and not self._engine.wait_ready(_START_S):
            raise StoreUnavailable(self._engine.reason or "the store is starting")
        migrate(self._client)
        verify(self._client)
        self._prepared = True

    @property
    def state(self) -> StoreState:
        """How the store stands."""
        if self._engine is None:
            return StoreState("ready" if self._prepared else "starting", "", 0)
        return StoreState(self._engine.state, self._engine.reason, self._engine.restarts)

    @property
    def pid(self) -> int | None:
        """The child's process id, if there is a child."""
        return self._engine.pid if self._engine is not None else None

    def stop(self) -> None:
        """End the child; close the client."""
        if self._engine is not None:
            self._engine.stop()
        self._client.close()


def open_store(url: str, directory: Path, *, memory_bytes_max: int, clock: Clock, retention_days: int) -> OpenStore:
    """Open the store; an embedded one is begun to be started.

    Raises:
        ConfigError: there is no engine for this system, or the address is not one of a store.
    """
    if url == EMBEDDED:
        engine = EmbeddedEngine(directory, Limits(memory_bytes_max=memory_bytes_max), clock)
        engine.start()
        return OpenStore(engine.client(), engine, clock, retention_days)
    return OpenStore(ClickHouse.from_url(url), None, clock, retention_days)
