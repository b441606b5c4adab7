"""The server's own telemetry on the main road: spans of the gateway go past the same door and into the same log.

They are marked as the server's own. One that cannot be stored is counted and never told as an event: that would feed
itself; and a log line says so at most once in `REPORT_EVERY_S`. When more waits for the log than `TASKS_MAX` batches,
a further one is lost at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from leeward.errors import LeewardError
from leeward.model import Event
from leeward.server.intake import Prepared
from leeward.server.record import row

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.gateway.telemetry import Span
    from leeward.server.logs import Report
    from leeward.server.pipeline import Pipeline

__all__ = ["ORIGIN", "OwnTelemetry"]

ORIGIN: Final = "self"
PROJECT: Final = 1  # of what no project's key asked for
TASKS_MAX: Final = 64
REPORT_EVERY_S: Final = 60.0
_ENCODE = msgspec.json.Encoder().encode


class OwnTelemetry:
    """Belongs to the event loop."""

    def __init__(self, pipeline: Pipeline, *, clock: Clock, report: Report) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._report = report
        self._reported_s = -math.inf
        self._tasks: set[asyncio.Task[None]] = set()
        self.lost = 0  # spans

    def give(self, batch: Sequence[tuple[int, Span]]) -> None:
        """Take spans of any projects; returns at once."""
        by_project: dict[int, list[Span]] = {}
        for project, span in batch:
            by_project.setdefault(project or PROJECT, []).append(span)
        for project, spans in by_project.items():
            if len(self._tasks) >= TASKS_MAX:
                self._lose(len(spans), "too much waits for the log")
                continue
            task = asyncio.get_running_loop().create_task(self._take(project, spans))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def settled(self, timeout_s: float) -> None:
        """Wait until what was given is on stable storage or lost, at most so long. The rest is lost."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _take(self, project: int, spans: list[Span]) -> None:
        received_at = self._pipeline.received_at()
        events = [_event(span, project, received_at) for span in spans]
        prepared = Prepared(list(events), [row(event) for event in events], [True] * len(events))
        try:
            await self._pipeline.take(prepared, project=project, received_at=received_at, with_keys=False)
        except LeewardError as error:
            self._lose(len(spans), error.message)
        except asyncio.CancelledError:
            self._lose(len(spans), "the server stops, and the log is too slow")
            raise

    def _lose(self, count: int, reason: str) -> None:
        self.lost += count
        now_s = self._clock.monotonic_s()
        if now_s - self._reported_s >= REPORT_EVERY_S:
            self._reported_s = now_s
            self._report("own_telemetry_lost", {"count": count, "lost": self.lost, "reason": reason})


def _event(span: Span, project: int, received_at: int) -> Event:
    span.data.origin = ORIGIN
    # By position, in the order of model.Event: see there.
    return Event(
        project,
        span.kind,
        span.id,
        span.event_type,
        received_at,
        span.timestamp,
        _ENCODE(span.data).decode(),
        "",
        span.status,
        "",
        "",
        "",
        span.correlation_id,
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        span.service,
        span.provider,
        span.model,
        span.duration_ms,
        None,
        "",
        span.input_tokens,
        span.output_tokens,
    )
