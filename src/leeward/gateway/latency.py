"""How long something took lately: the last so many, for medians and their like on a page."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Latency"]

KEPT: Final = 256


class Latency:
    """The latest durations."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: deque[float] = deque(maxlen=KEPT)

    def add(self, seconds: float) -> None:
        """Remember one."""
        self._kept.append(seconds)

    def quantile_ms(self, share: float) -> float | None:
        """The duration that so large a share of them does not exceed, in milliseconds; None without any."""
        if not self._kept:
            return None
        ordered = sorted(self._kept)
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1)
