"""Where an answer goes, piece by piece, as it arrives: pushed, so that no piece waits for a task to wake up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Headers", "Sink"]

Headers = list[tuple[bytes, bytes]]


class Sink(Protocol):
    """Takes one answer: `head` once, `data` any number of times, `end` once."""

    on_room: Callable[[], None]  # called when there is room again after `data` said that there is none

    def head(self, status: int, headers: Headers) -> None:
        """Begin. May wait for the first data, to go out with it."""
        ...

    def data(self, data: bytes) -> bool:
        """Send on. False: the reader is slow; what comes is kept, but no more should come until `on_room`."""
        ...

    def end(self) -> None:
        """Nothing comes any more."""
        ...
