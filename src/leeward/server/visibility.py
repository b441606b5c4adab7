"""Read your writes: a reader notes what is acknowledged, makes the writer seal now, and waits until that is loaded.

Belongs to the event loop; the writer's thread calls `loaded`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Visibility"]


class Visibility:
    """Who waits for which part of the log to be in the store."""

    def __init__(
        self,
        *,
        acknowledged: Callable[[], int],
        seal_now: Callable[[int], None],
        describe_lag: Callable[[], str],
        loaded_sequence: int = 0,
    ) -> None:
        self._acknowledged = acknowledged
        self._seal_now = seal_now
        self._describe_lag = describe_lag
        self._loop = asyncio.get_running_loop()
        self._loaded_sequence = loaded_sequence  # what an earlier run of the server has loaded counts
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def wait_loaded(self, wait_s: float) -> bool:
        """Wait until all that is acknowledged now is in the store. False when it took longer than *wait_s* seconds."""
        target = self._acknowledged()
        if self._loaded_sequence >= target:
            return True
        waiter = self._loop.create_future()
        self._waiting.append((target, waiter))
        self._seal_now(target)
        try:
            async with asyncio.timeout(wait_s):
                await waiter
        except TimeoutError:
            self._waiting = [entry for entry in self._waiting if entry[1] is not waiter]
            return False
        return True

    def loaded(self, sequence: int) -> None:
        """Everything up to *sequence* is in the store. From any thread."""
        self._loop.call_soon_threadsafe(self._release, sequence)

    def lag(self) -> str:
        """How far the store is behind, in words."""
        return self._describe_lag()

    def _release(self, sequence: int) -> None:
        self._loaded_sequence = max(self._loaded_sequence, sequence)
        still: list[tuple[int, asyncio.Future[None]]] = []
        for target, waiter in self._waiting:
            if target > self._loaded_sequence:
                still.append((target, waiter))
            elif not waiter.done():
                waiter.set_result(None)
        self._waiting = still
