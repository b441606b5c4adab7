"""Which days of a table have expired. Pure.

Reads hide a row the moment it expires; this rule only frees the disk, so it may be late and must never be early. A
day goes when it has expired by the clock *and* by what the stored rows say of the time: a clock that jumps ahead, even
by years, deletes nothing. Rows received after such a jump are believed only once they span a day themselves, which is
also what a server shows that was really off for weeks. The price: a store that gets no rows at all keeps its last days.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

__all__ = ["DAY_MS", "Day", "believed_now_ms", "expired"]

DAY_MS: Final = 86_400_000
_STEP_MAX_MS: Final = 2 * DAY_MS  # the largest believable time without any row
_SPAN_MIN_MS: Final = DAY_MS  # after a larger step, rows over this long prove the new time


class Day(msgspec.Struct, frozen=True):
    """A partition: the day's name (YYYYMMDD), and when its first and last row were received."""

    name: str
    first_ms: int
    last_ms: int


def believed_now_ms(days: Sequence[Day], now_ms: int) -> int | None:
    """The latest time that clock and rows agree on, or None without rows that were received by now."""
    past = sorted((day for day in days if day.first_ms <= now_ms), key=lambda day: day.first_ms)
    if not past:
        return None
    believed = began = previous = None
    for day in past:
        if previous is None or began is None or day.first_ms - previous > _STEP_MAX_MS:
            began = day.first_ms
        previous = day.last_ms
        if believed is None or began == past[0].first_ms or day.last_ms - began >= _SPAN_MIN_MS:
            believed = day.last_ms
    assert believed is not None
    return min(believed, now_ms)


def expired(days: Sequence[Day], now_ms: int, keep_days: int) -> list[str]:
    """Names of the days whose every row is older than *keep_days*, by the clock and by the rows."""
    believed = believed_now_ms(days, now_ms)
    if believed is None:
        return []
    return sorted(day.name for day in days if day.last_ms < believed - keep_days * DAY_MS)
