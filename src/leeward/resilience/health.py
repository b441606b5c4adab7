"""How a service is, by what its calls show and, without calls, by what looks at it: healthy, degraded or unhealthy.

Rules     Calls of its users decide (`seen`). Looks at it (`probed`) count only when there were no calls for a while: a look
          that says "well" about a service that fails its users is a lie. The first failed call takes back what only
          looks had said, and the next time twice as many good looks are needed, up to 32 times.
          Down at once: `down` failures in a row, or too many in the window. Up in steps: `up` good signs in a row each,
          and a window that is clearly better than what would bring it down. So it does not flutter.
          Without any sign it rises a step each `forget_s`: nobody knows better, and somebody has to try.
Limits    It orders; it refuses nothing (that is the breaker's job). A call that a caller gave up is no sign.
A `Health` may be used by several threads and tasks at a time. Time is an argument: seconds that only go forward.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import inf
from typing import Final, Literal

__all__ = ["Health", "HealthState"]

HealthState = Literal["healthy", "degraded", "unhealthy"]

STATES: Final[tuple[HealthState, ...]] = ("healthy", "degraded", "unhealthy")
HEALTHY: Final = 0
DEGRADED: Final = 1
UNHEALTHY: Final = 2
DISTRUST_MAX: Final = 32
JITTER: Final = 0.2
BETTER: Final = 0.5  # of a rate that brings it down: below that it may rise
BUCKETS: Final = 5


class Health:
    """One service's health.

    Args:
        window_s: How far back calls are remembered; after so long without one, looks count.
        min_calls: Calls in the window before its rates count.
        degraded_rate: Share of failed calls from which it is degraded.
        unhealthy_rate: Share of failed calls from which it is unhealthy.
        slow_rate: Share of slow calls from which it is degraded.
        down: Failures in a row that make it unhealthy.
        up: Good signs in a row for a step up.
        forget_s: Time without any sign for a step up.
    """

    __slots__ = (
        "_answered_s",
        "_asked_s",
        "_bad",
        "_buckets",
        "_checked",
        "_distrust",
        "_good",
        "_level",
        "_lock",
        "_seen_s",
        "_sign_s",
        "_wait_s",
        "degraded_rate",
        "down",
        "forget_s",
        "min_calls",
        "slow_rate",
        "unhealthy_rate",
        "up",
        "window_s",
    )

    def __init__(
        self,
        *,
        window_s: float = 10.0,
        min_calls: int = 5,
        degraded_rate: float = 0.1,
        unhealthy_rate: float = 0.5,
        slow_rate: float = 0.5,
        down: int = 3,
        up: int = 3,
        forget_s: float = 60.0,
    ) -> None:
        if min(min_calls, down, up) < 1:
            raise ValueError("min_calls, down and up are counts: at least 1 each")
        if not 0 < degraded_rate <= unhealthy_rate <= 1 or not 0 < slow_rate <= 1:
            raise ValueError("0 < degraded_rate <= unhealthy_rate <= 1 and 0 < slow_rate <= 1 are needed")
        if not min(window_s, forget_s) > 0:
            raise ValueError("window_s and forget_s are seconds: more than 0 each")
        self.window_s = window_s
        self.min_calls = min_calls
        self.degraded_rate = degraded_rate
        self.unhealthy_rate = unhealthy_rate
        self.slow_rate = slow_rate
        self.down = down
        self.up = up
        self.forget_s = forget_s
        self._lock = threading.Lock()
        self._level = HEALTHY
        self._good = self._bad = 0  # in a row
        self._distrust = 1
        self._checked = False  # that it is no worse than this was said by looks alone
        self._buckets: list[list[int]] = []  # number, calls, failed, slow
        self._seen_s = self._sign_s = -inf
        self._asked_s = -inf
        self._answered_s = -inf  # the last good call
        self._wait_s: float | None = None

    def state(self, now_s: float) -> HealthState:
        """How it is."""
        level = self._level
        if level == HEALTHY:
            return "healthy"
        with self._lock:
            self._forget(now_s)
            return STATES[self._level]

    def seen(self, ok: bool, now_s: float, *, slow: bool = False) -> None:
        """A call of a user ended: answered or not; `slow`: later than is good."""
        with self._lock:
            if self._level != HEALTHY:
                self._forget(now_s)
            self._seen_s = self._sign_s = now_s
            self._count(ok, slow, now_s)
            if not ok:
                self._failed()
                return
            self._answered_s = now_s
            if slow:
                self._good = self._bad = 0
                self._judge()
            else:
                self._answered(now_s)

    def probed(self, ok: bool, now_s: float) -> None:
        """Somebody looked. An answer that says nothing, such as 429, is no sign: do not tell it."""
        with self._lock:
            if now_s - self._seen_s < self.window_s:
                return
            if not ok and now_s - self._answered_s < self.forget_s:
                return  # what it does is worth more than how it looks
            self._forget(now_s)
            self._sign_s = now_s
            if not ok:
                self._good = 0
                self._bad += 1
                if self._bad >= self.down:
                    self._level = UNHEALTHY
                return
            self._bad = 0
            if self._level != HEALTHY:
                self._good += 1
                if self._good >= self.up * self._distrust:
                    self._rise()
                    self._checked = True

    def is_due(self, now_s: float, interval_s: float, random: Callable[[], float]) -> bool:
        """Whether to look now: no call and no look for `interval_s`, with jitter. Who is told True looks."""
        with self._lock:
            if self._wait_s is None:  # the first: anywhere in the interval, so that not all look at the start
                self._asked_s = now_s
                self._wait_s = interval_s * random()
                return False
            if now_s - max(self._seen_s, self._asked_s) < self._wait_s:
                return False
            self._asked_s = now_s
            self._wait_s = interval_s * (1 + JITTER * (2 * random() - 1))
            return True

    def _failed(self) -> None:
        self._good = 0
        self._bad += 1
        if self._checked:  # the look lied
            self._checked = False
            self._distrust = min(self._distrust * 2, DISTRUST_MAX)
            self._level = UNHEALTHY
        elif self._bad >= self.down:
            self._level = UNHEALTHY
        else:
            self._judge()

    def _answered(self, now_s: float) -> None:
        self._bad = 0
        if self._level == HEALTHY and not self._checked:
            return
        self._good += 1
        if self._good < self.up:
            return
        self._checked = False
        self._distrust = 1
        if self._level != HEALTHY and self._is_better(now_s):
            self._rise()

    def _rise(self) -> None:
        self._level -= 1
        self._good = 0

    def _judge(self) -> None:
        """What the window's rates say. They bring it down only."""
        calls, failed, slow = self._sums()
        if calls < self.min_calls:
            return
        if failed / calls >= self.unhealthy_rate:
            self._level = UNHEALTHY
        elif self._level == HEALTHY and (failed / calls >= self.degraded_rate or slow / calls >= self.slow_rate):
            self._level = DEGRADED

    def _is_better(self, now_s: float) -> bool:
        """Whether the window is well below what would bring it down to where it is."""
        self._drop(now_s)
        calls, failed, slow = self._sums()
        if self._level == UNHEALTHY:
            return failed < BETTER * self.unhealthy_rate * calls
        return failed < BETTER * self.degraded_rate * calls and slow < BETTER * self.slow_rate * calls

    def _forget(self, now_s: float) -> None:
        while self._level != HEALTHY and now_s - self._sign_s >= self.forget_s:
            self._sign_s += self.forget_s
            self._bad = 0
            self._rise()

    def _count(self, ok: bool, slow: bool, now_s: float) -> None:
        number = int(now_s * BUCKETS / self.window_s)
        if not self._buckets or self._buckets[-1][0] < number:
            self._drop(now_s)
            self._buckets.append([number, 0, 0, 0])
        bucket = self._buckets[-1]
        bucket[1] += 1
        bucket[2] += not ok
        bucket[3] += ok and slow

    def _drop(self, now_s: float) -> None:
        oldest = int(now_s * BUCKETS / self.window_s) - BUCKETS
        while self._buckets and self._buckets[0][0] <= oldest:
            del self._buckets[0]

    def _sums(self) -> tuple[int, int, int]:
        calls = failed = slow = 0
        for bucket in self._buckets:
            calls += bucket[1]
            failed += bucket[2]
            slow += bucket[3]
        return calls, failed, slow
