"""One event loop on a thread of its own, for the blocking calls: all of a process share its connections.

A forked child gets a new one with its first call: the parent's thread does not exist there.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import Any, Final, TypeVar

__all__ = ["BACKGROUND", "Background"]

T = TypeVar("T")


class Background:
    """Started by the first call; ends with the process."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it. An interrupt (Ctrl+C) cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """Iterate there; leaving early closes the iterator there, too, soon: at the end of the process nobody could wait."""
        try:
            while True:
                try:
                    item = self.run(_next(items))
                except StopAsyncIteration:
                    return
                yield item
        except GeneratorExit:
            asyncio.run_coroutine_threadsafe(_close(items), self._running())
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._pid != os.getpid():
            self._renew()
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="leeward-gateway", daemon=True).start()
            return self._loop


async def _close(items: AsyncGenerator[T, None]) -> None:
    await items.aclose()


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


BACKGROUND: Final = Background()
