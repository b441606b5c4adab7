"""Reads from the store for pages: in bounded time, and at most one read of a project at once.

Promises  A page waits no longer than `wait_s`, whatever the store does. A store that hangs is not asked again by every
          refresh of every browser: they all wait for the read that is running.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from leeward.errors import LeewardError
from leeward.server.dashboard.view import CLIENTS_SHOWN, EVENTS_SHOWN, Reading

if TYPE_CHECKING:
    from leeward.server.dashboard.overview import Overview

__all__ = ["Reader"]


class Reader:
    """Reads what the overview shows. Belongs to the event loop."""

    def __init__(self, overview: Overview, *, wait_s: float) -> None:
        self._overview = overview
        self._wait_s = wait_s
        self._running: dict[int, asyncio.Task[Reading]] = {}

    async def read(self, project: int) -> Reading:
        """The last hour and the last events of a project, or the sentence that says why not."""
        task = self._running.get(project)
        if task is None:
            task = asyncio.create_task(self._read(project), name=f"page-{project}")
            self._running[project] = task
            task.add_done_callback(lambda _: self._running.pop(project))
        try:
            async with asyncio.timeout(self._wait_s):
                return await asyncio.shield(task)
        except TimeoutError:
            return Reading(trouble=f"The store has not answered within {self._wait_s:g} s.")

    async def _read(self, project: int) -> Reading:
        try:
            minutes = await self._overview.minutes(project)
            events = await self._overview.last_events(project, EVENTS_SHOWN)
            clients = await self._overview.clients(project, CLIENTS_SHOWN)
        except LeewardError as error:
            return Reading(trouble=error.message)
        return Reading(minutes, events, clients)
