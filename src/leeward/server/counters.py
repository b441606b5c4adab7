"""What the road counts: plain integers on the hot path, read by `/metrics`, `/health` and the page."""

from __future__ import annotations

from collections import Counter

__all__ = ["Counters"]


class Counters:
    """Totals since start. Each is written by one thread; readers may be one step behind."""

    __slots__ = (
        "accepted",
        "blocks",
        "dead",
        "duplicates_at_door",
        "duplicates_at_load",
        "refused",
        "requests",
        "stored",
    )

    def __init__(self) -> None:
        self.accepted = 0  # events on stable storage, repeated ones not counted again
        self.duplicates_at_door = 0
        self.duplicates_at_load = 0
        self.stored = 0
        self.blocks = 0
        self.dead = 0  # rows that the store refuses and that wait in the dead-letter list
        self.refused: Counter[str] = Counter()  # by code
        self.requests: Counter[int] = Counter()  # by status
