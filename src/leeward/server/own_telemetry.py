"""The server's own telemetry on the main road: spans of the gateway go past the same door and into the same log.

They are marked as the server's own. One that cannot be stored is counted and never told as an event: that would feed
itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from leeward.errors import LeewardError
from leeward.server.intake import prepare_body

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.gateway.telemetry import Span
    from leeward.server.logs import Report
    from leeward.server.pipeline import Pipeline

__all__ = ["ORIGIN", "OwnTelemetry"]

ORIGIN: Final = "self"
PROJECT: Final = 1  # of what no project's key asked for
_ENCODE = msgspec.json.Encoder().encode


class OwnTelemetry:
    """Belongs to the event loop."""

    def __init__(self, pipeline: Pipeline, *, clock: Clock, report: Report) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._report = report
        self._tasks: set[asyncio.Task[None]] = set()
        self.lost = 0

    def give(self, batch: Sequence[tuple[int, Span]]) -> None:
        """Take spans of any projects; returns at once."""
        by_project: dict[int, list[Span]] = {}
        for project, span in batch:
            span.data["leeward.origin"] = ORIGIN
            by_project.setdefault(project or PROJECT, []).append(span)
        for project, spans in by_project.items():
            task = asyncio.get_running_loop().create_task(self._take(project, spans))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(self, project: int, spans: list[Span]) -> None:
        received_at = self._pipeline.received_at()
        prepared = prepare_body(_ENCODE(spans), project=project, received_at=received_at, scrub=False)
        try:
            await self._pipeline.take(prepared, project=project, received_at=received_at, with_keys=False)
        except LeewardError as error:
            self.lost += len(spans)
            self._report("own_telemetry_lost", {"count": len(spans), "lost": self.lost, "reason": error.message})
