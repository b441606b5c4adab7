"""`GET /api/telemetry/batch/{id}`, and how a batch stands.

A batch is a log record that is loaded into a table kept as long as its events: the door knows the ones accepted
lately, the table the ones that are loaded. Nothing else is written for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from leeward.errors import ProtocolError, Unavailable
from leeward.server.http import Request, Response, json_response
from leeward.server.record import BATCH_ID
from leeward.server.schemas import BatchStatus, RefusedEvent
from leeward.store.clickhouse import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from leeward.clock import Clock
    from leeward.server.dead_letters import DeadLetters
    from leeward.server.reads import Run
    from leeward.server.record import BatchHead
    from leeward.store.events import EventStore

__all__ = ["Batches"]

State = Literal["completed", "processing", "failed"]


class _Stored(msgspec.Struct):
    event_count: int
    events: list[str]
    errors: list[RefusedEvent]


class Batches:
    """The handler. `durable` gives a batch of late once it is on stable storage; `keeping_up` says whether every query that starts now sees all that is acknowledged."""

    def __init__(
        self,
        *,
        durable: Callable[[int, str], Awaitable[BatchHead | None]],
        store: EventStore,
        dead_letters: DeadLetters,
        keeping_up: Callable[[], bool],
        clock: Clock,
        retention_ms: int,
        run: Run,
    ) -> None:
        self._durable = durable
        self._store = store
        self._dead_letters = dead_letters
        self._keeping_up = keeping_up
        self._clock = clock
        self._retention_ms = retention_ms
        self._run = run

    def state(self, project: int, batch_id: str) -> State:
        """How a batch stands that the door knows."""
        if self._dead_letters.holds_batch(project, batch_id):
            return "failed"
        return "completed" if self._keeping_up() else "processing"

    async def status(self, request: Request) -> Response:
        """What became of a batch."""
        batch_id, project = request.path_parameter, request.project
        if not BATCH_ID.fullmatch(batch_id):
            raise _not_found()
        known = await self._durable(project, batch_id)
        if known is not None and known.received_at < self._clock.wall_ms() - self._retention_ms:
            raise _not_found()
        if known is not None:
            return json_response(
                BatchStatus(
                    batch_id=batch_id,
                    event_count=known.total,
                    timestamp=known.received_at,
                    status=self.state(project, batch_id),
                    events=known.keys,
                    errors=[RefusedEvent(*refusal) for refusal in known.refusals],
                    updated_at=known.received_at,
                )
            )
        try:
            row: dict[str, Any] | None = await self._run(self._store.batch, project, batch_id)
        except StoreUnavailable:
            raise Unavailable(
                "The store does not answer just now. Ask again", code="store_behind", retry_after_s=2
            ) from None
        if row is None:
            raise _not_found()
        stored = msgspec.json.decode(row["answer"], type=_Stored)
        failed = self._dead_letters.holds_batch(project, batch_id)
        return json_response(
            BatchStatus(
                batch_id=batch_id,
                event_count=stored.event_count,
                timestamp=row["received_at"],
                status="failed" if failed else "completed",
                events=stored.events,
                errors=stored.errors,
                updated_at=row["updated_at"],
            )
        )


def _not_found() -> ProtocolError:
    return ProtocolError("Batch not found", code="batch_not_found", status=404)
