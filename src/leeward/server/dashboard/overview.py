"""The seam: what the pages ask of the server. Plain values, so that a page is built the same from a test's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from leeward.store.clients import ClientAccounts

__all__ = ["Overview", "OverviewState"]


class OverviewState(msgspec.Struct, frozen=True, kw_only=True):
    """How log and store are at this moment, and what became of events since the server started.

    `troubles` are sentences for a person, none when `health` is healthy. `store` says in words how the store is.
    `lost` counts events that were acknowledged and are gone: 0, or leeward has broken its promise. `dead` counts
    events that the store refuses; they are kept, and can be replayed. `sync_ms` is the time of the log's last sync, in
    milliseconds since 1970; None before the first. `wire_items` counts what requests brought, by protocol and outcome:
    `accepted`, `duplicate`, or the name of why it was not kept. `providers`: how many there are, and how many of them are
    not well.
    """

    health: Literal["healthy", "degraded", "unhealthy"]
    store: str
    troubles: tuple[str, ...] = ()
    unstored_events: int | None = None
    unstored_bytes: int = 0
    lag_s: float = 0.0
    sync_ms: int | None = None
    accepted: int = 0
    stored: int = 0
    duplicates: int = 0
    refused: Mapping[str, int] = {}
    wire_items: Mapping[tuple[str, str], int] = {}
    dead: int = 0
    lost: int = 0
    providers: tuple[int, int] = (0, 0)
    demo: bool = False


class Overview(Protocol):
    """What the overview reads. The reads raise LeewardError when the store cannot answer."""

    async def minutes(self, project: int) -> list[tuple[int, int, int]]:
        """Events of the last hour by the minute of their receipt: (its start in ms, events, of them errors)."""
        ...

    async def last_events(self, project: int, limit: int) -> list[dict[str, Any]]:
        """The newest events as the query API gives them; `data` and `attributes` may be msgspec.Raw."""
        ...

    async def clients(self, project: int, limit: int) -> ClientAccounts:
        """Clients that number their events: first those that lost some, or of whose some are missing."""
        ...

    def state(self) -> OverviewState:
        """How log and store are. Answers at once, whatever the store does."""
        ...
