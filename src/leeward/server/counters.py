"""What the road counts: plain integers on the hot path, read by `/metrics`, `/health` and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

__all__ = ["Counters"]

LOST_REASONS_MAX: Final = 32
OTHER_REASONS: Final = "other"


class Counters:
    """Totals since start. Each is written by one thread; readers may be one step behind."""

    __slots__ = (
        "accepted",
        "blocks",
        "client_fields_ignored",
        "client_lost",
        "dead",
        "duplicates_at_door",
        "duplicates_at_load",
        "refused",
        "requests",
        "stored",
        "wire_items",
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
        self.client_lost: Counter[str] = Counter()  # by reason, as clients said; of not too many reasons
        self.client_fields_ignored = 0
        # By protocol and outcome: accepted, duplicate, the code of a refusal, or what was thrown away on purpose.
        self.wire_items: Counter[tuple[str, str]] = Counter()

    def count_client_lost(self, lost: Mapping[str, int]) -> None:
        """Count what a client said that it lost. Whoever may write may invent reasons: beyond some, they are others."""
        for reason, count in lost.items():
            known = reason in self.client_lost or len(self.client_lost) < LOST_REASONS_MAX
            self.client_lost[reason if known else OTHER_REASONS] += count
