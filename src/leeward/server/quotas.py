"""What a key may do; how many events each has brought, this minute and this day (UTC), and whether it may bring more.

Counted    new events that are on stable storage; neither repeats nor what was refused.
Promises   as `windows`: a restart gives no key its day anew.
Limits     as `windows`. A request that begins within its quota is taken whole, so a key may go over by what is under way.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from leeward.errors import QuotaExceeded
from leeward.server.windows import DAY_MS, MINUTE_MS, SAVE_EVERY_S, Windows, wait_s

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.journal.files import Files
    from leeward.server.logs import Report

__all__ = ["UNLIMITED", "Quota", "Quotas"]


class Quota(msgspec.Struct, frozen=True):
    """How much a key may do, in a minute and in a UTC day; None is no limit."""

    per_minute: int | None = None  # events; `Quotas` counts them
    per_day: int | None = None
    requests_per_minute: int | None = None  # of the gateway, as what follows; `Spend` counts it
    tokens_per_day: int | None = None
    usd_per_day: float | None = None


UNLIMITED: Final = Quota()


class Quotas(Windows):
    """The counts of all keys."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        report: Report,
        files: Files | None = None,
        save_every_s: float = SAVE_EVERY_S,
    ) -> None:
        super().__init__(
            path, name="quotas", day_counts=1, clock=clock, report=report, files=files, save_every_s=save_every_s
        )

    def check(self, key_id: str, quota: Quota | None, now_ms: int) -> None:
        """Refuse a key that has used a window up.

        Raises:
            QuotaExceeded: until that window ends, which `retry_after_s` says.
        """
        if quota is None:
            return
        in_minute, in_day = self.used(key_id, now_ms)
        if quota.per_day is not None and in_day >= quota.per_day:
            raise _exceeded(key_id, "--per-day", f"{quota.per_day:,} events of this day (UTC)", now_ms, DAY_MS)
        if quota.per_minute is not None and in_minute >= quota.per_minute:
            raise _exceeded(key_id, "--per-minute", f"{quota.per_minute:,} events of this minute", now_ms, MINUTE_MS)

    def count(self, key_id: str, events: int, now_ms: int) -> None:
        """Count events that were new and are on stable storage now. Without a quota too: one may be set today."""
        used = self._counting(key_id, now_ms)
        used.in_minute += events
        used.in_day[0] += events

    def used(self, key_id: str, now_ms: int) -> tuple[int, int]:
        """Events of this minute and of this day."""
        used = self._current(key_id, now_ms)
        return (0, 0) if used is None else (used.in_minute, used.in_day[0])


def _exceeded(key_id: str, option: str, what: str, now_ms: int, window_ms: int) -> QuotaExceeded:
    return QuotaExceeded(
        f"This key has brought its {what}",
        fix=f"leeward keys set-quota {key_id} {option} N",
        retry_after_s=wait_s(now_ms, window_ms),
    )
