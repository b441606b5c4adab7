"""Threads for reads of the store, apart from those that unpack and decode large requests.

A store that hangs holds every reader for as long as its time-out; events must be taken all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

__all__ = ["Run", "StoreReads"]

Run = Callable[..., Any]
THREADS: Final = 8


class StoreReads:
    """Calls the store on threads of its own; further calls wait for a free one."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "leeward-read")

    async def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Return what the call returns."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def close(self) -> None:
        """Take no more calls. To be called once the store was stopped, which ends the calls that run."""
        self._threads.shutdown(wait=False, cancel_futures=True)
