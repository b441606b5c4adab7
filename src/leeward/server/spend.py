"""What each key asks of the gateway: requests this minute, tokens and US dollars this day (UTC), and whether it may ask.

Counted    requests that were admitted; tokens as the providers count them, of every call that an answer took; dollars by
           the configured prices. What has no price counts as tokens alone.
Promises   as `windows`: a restart gives no key its day anew, where there is a data directory.
Limits     as `windows`. What a request costs is known at its end: a key may go over by the requests that are under way,
           and `requests_per_minute` bounds those.
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
    from leeward.server.quotas import Quota

__all__ = ["Spend", "Spent"]

COUNT_MAX: Final = 2**62  # of anything in a day: a provider may say what it likes, and the file must hold it
NANOS: Final = 1_000_000_000  # dollars are counted in whole billionths, so that many small sums are exact
TOKENS: Final = 0
DOLLARS: Final = 1


class Spent(msgspec.Struct, frozen=True):
    """What a key has used so far: requests in this minute, tokens and dollars on this day."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0


class Spend(Windows):
    """The counts of all keys."""

    def __init__(
        self,
        path: Path | None,
        *,
        clock: Clock,
        report: Report,
        files: Files | None = None,
        save_every_s: float = SAVE_EVERY_S,
    ) -> None:
        """Without a path the counts are in memory only, and the keys are those of the configuration."""
        super().__init__(
            path, name="spend", day_counts=2, clock=clock, report=report, files=files, save_every_s=save_every_s
        )

    def admit(self, key_id: str, quota: Quota | None) -> None:
        """Count a request, or refuse it because its key has used a window up.

        Raises:
            QuotaExceeded: until that window ends, which `retry_after_s` says.
        """
        if quota is None:
            return
        now_ms = self._clock.wall_ms()
        used = self._current(key_id, now_ms)
        requests, (tokens, nanos) = (0, (0, 0)) if used is None else (used.in_minute, used.in_day)
        if quota.tokens_per_day is not None and tokens >= quota.tokens_per_day:
            what = f"{quota.tokens_per_day:,} tokens of this day (UTC)"
            raise self._exceeded("spend_limit_reached", key_id, "tokens-per-day", what, wait_s(now_ms, DAY_MS))
        if quota.usd_per_day is not None and nanos >= quota.usd_per_day * NANOS:
            what = f"{quota.usd_per_day:,.2f} US dollars of this day (UTC)"
            raise self._exceeded("spend_limit_reached", key_id, "usd-per-day", what, wait_s(now_ms, DAY_MS))
        if quota.requests_per_minute is not None:
            if requests >= quota.requests_per_minute:
                what = f"{quota.requests_per_minute:,} requests of this minute"
                wait = wait_s(now_ms, MINUTE_MS)
                raise self._exceeded("rate_limit_exceeded", key_id, "requests-per-minute", what, wait)
            self._counting(key_id, now_ms).in_minute += 1

    def count(self, key_id: str, tokens: int, usd: float | None) -> None:
        """Count what an answer cost; a cost of None is not known. Without a quota too: one may be set today."""
        in_day = self._counting(key_id, self._clock.wall_ms()).in_day
        in_day[TOKENS] = min(COUNT_MAX, in_day[TOKENS] + max(0, tokens))
        if usd is not None:
            in_day[DOLLARS] = min(COUNT_MAX, in_day[DOLLARS] + round(min(max(0.0, usd * NANOS), COUNT_MAX)))

    def spent(self, key_id: str) -> Spent:
        """What a key has used."""
        used = self._current(key_id, self._clock.wall_ms())
        return Spent() if used is None else Spent(used.in_minute, used.in_day[TOKENS], used.in_day[DOLLARS] / NANOS)

    def _exceeded(self, code: str, key_id: str, limit: str, what: str, retry_after_s: float) -> QuotaExceeded:
        """Say which limit it is, and how its owner raises it: in the database, or in the file that the keys stand in."""
        in_file = f"raise {limit.replace('-', '_')} of the key under [[server.keys]]"
        return QuotaExceeded(
            f"This key has used its {what}",
            code=code,
            fix=in_file if self._path is None else f"leeward keys set-quota {key_id} --{limit} N",
            retry_after_s=retry_after_s,
        )
