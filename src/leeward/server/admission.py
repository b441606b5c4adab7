"""Overload: how much presses on the server, and what it therefore does not take. Decided before any work.

Limits    Each reading has a hard mark, where requests are refused, and soft marks at a half and three quarters of it,
          where the least needed classes of events are left out. Refusals go by what is measured at that moment; the
          level goes by samples, so that one slow moment sheds nothing: it rises once the pressure has lasted, and
          falls when it has been clearly lower for longer.
Promises  Nothing that was accepted is ever dropped to make room. Exceptions and plain events are never shed: they are
          taken, or refused with the whole request, which its sender then keeps. `check` costs some readings.
Belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import random as chance
import time
from collections.abc import Callable
from typing import Final

import msgspec

from leeward.errors import RateLimited, Unavailable

__all__ = ["Admission", "AdmissionLimits", "LoopProbe", "LoopTurn", "is_shed"]

SAMPLE_EVERY_S: Final = 0.1
SOFT_MARKS: Final = (0.5, 0.75, 1.0)  # the pressure from which the level is 1, 2, 3
FALL_SHARE: Final = 0.8  # of a mark: below it the pressure counts as clearly lower
RISE_SAMPLES: Final = 3
FALL_SAMPLES: Final = 10
RETRY_AFTER_S_MAX: Final = 10.0  # so that those who obey are back soon after it is over
LOG_FULL_RETRY_AFTER_S: Final = 30.0
_KEPT_SHARE: Final = 0.95  # of the requests counted so far, at each sample: they are those of the last two seconds
_TROUBLE_LEVELS: Final = frozenset({"WARN", "ERROR", "FATAL"})


class AdmissionLimits(msgspec.Struct, frozen=True):
    """Beyond these the server says so at once instead of queueing."""

    log_bytes_max: int = 2 << 30  # in the log and not in the store
    waiting_bytes_max: int = 64 << 20  # handed to the log and not on stable storage
    commit_wait_s_max: float = 2.0  # that a group commit may take
    held_bytes_max: int = 64 << 20  # bodies of all requests together
    running_max: int = 256  # requests whose body is there and whose answer is not
    turn_s_max: float = 0.2  # of work in one turn of the event loop: what came at once beyond it is refused
    lag_s_max: float = 2.0  # by which the event loop may be late, twice in a row


class Admission:
    """Lets requests in, or says how long to stay away."""

    def __init__(
        self,
        limits: AdmissionLimits,
        *,
        unstored_bytes: Callable[[], int],
        waiting_bytes: Callable[[], int],
        oldest_wait_s: Callable[[], float],
        held_bytes: Callable[[], int],
        turn_s: Callable[[], float] = lambda: 0.0,
        random: Callable[[], float] = chance.random,
    ) -> None:
        self._limits = limits
        self._unstored_bytes = unstored_bytes
        self._waiting_bytes = waiting_bytes
        self._oldest_wait_s = oldest_wait_s
        self._held_bytes = held_bytes
        self._turn_s = turn_s
        self._random = random
        self._lag_s = self._lag_s_newest = 0.0
        self._level = 0
        self._above = 0  # samples in a row that ask for a higher level
        self._below = 0  # samples in a row that ask for a lower one
        self._taken = 0.0  # requests of late; they fade
        self._refused = 0.0
        self.running = 0

    def check(self) -> None:
        """Refuse before any work is done.

        Raises:
            Unavailable: the log holds as much as it may of what the store has not taken yet.
            RateLimited: too much is going on at once, or waits for the disk, or has waited for too long.
        """
        limits = self._limits
        if self._unstored_bytes() > limits.log_bytes_max:
            raise Unavailable(
                "The log is full: the store has been behind for too long", retry_after_s=LOG_FULL_RETRY_AFTER_S
            )
        if (
            self.running >= limits.running_max
            or self._turn_s() > limits.turn_s_max
            or self._lag_s > limits.lag_s_max
            or self._held_bytes() >= limits.held_bytes_max
            or self._waiting_bytes() > limits.waiting_bytes_max
            or self._oldest_wait_s() > limits.commit_wait_s_max
        ):
            raise self._too_much()

    def begin(self) -> None:
        """Count a request as running, now that its body is there: one that drips in keeps nobody else out.

        Raises:
            RateLimited: as many run already as may; then `end` is not to be called.
        """
        if self.running >= self._limits.running_max:
            raise self._too_much()
        self._taken += 1
        self.running += 1

    def end(self) -> None:
        """Count a request as answered, whatever the answer."""
        self.running -= 1

    def level(self) -> int:
        """How much is shed: 0 nothing, 1 debug logs, 2 spans, metrics and quiet logs too; 3 is as 2, and near refusing all."""
        return self._level

    def pressure(self) -> float:
        """The reading that is nearest to its limit, as a share of it: 1 is where requests are refused."""
        limits = self._limits
        return max(
            self._unstored_bytes() / limits.log_bytes_max,
            self._waiting_bytes() / limits.waiting_bytes_max,
            self._oldest_wait_s() / limits.commit_wait_s_max,
            self._held_bytes() / limits.held_bytes_max,
            self.running / limits.running_max,
            self._lag_s / limits.lag_s_max,
        )

    def sample(self, lag_s: float) -> None:
        """Look at everything once. Called regularly, with the time by which the call itself was late."""
        self._lag_s = min(lag_s, self._lag_s_newest)  # what does not last is no queue
        self._lag_s_newest = lag_s
        self._sample_level(self.pressure())
        self._taken *= _KEPT_SHARE
        self._refused *= _KEPT_SHARE

    def _sample_level(self, pressure: float) -> None:
        rising, falling = _level_of(pressure, 1.0), _level_of(pressure, FALL_SHARE)
        self._above = self._above + 1 if rising > self._level else 0
        self._below = self._below + 1 if falling < self._level else 0
        if self._above >= RISE_SAMPLES:
            self._level, self._above = rising, 0
        elif self._below >= FALL_SAMPLES:
            self._level, self._below = self._level - 1, 0

    def _too_much(self) -> RateLimited:
        """A second for each time that what is taken is offered; not the same for all, who would come back together."""
        offered_for_one = 1 + self._refused / max(self._taken, self._limits.running_max)
        self._refused += 1
        wanted_s = offered_for_one * (1 + self._random())
        return RateLimited("Too much is being sent at once", retry_after_s=min(RETRY_AFTER_S_MAX, wanted_s))


class LoopTurn:
    """Says how much the event loop has worked since it was first asked in this turn.

    What comes at the same time is all worked on in one turn, and each waits for those before it: only in here can be
    seen that a queue has grown, before the turn ends. Work is the thread's processor time: that others use the machine
    too is not this queue's doing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, processor_s: Callable[[], float] = time.thread_time) -> None:
        self._loop = loop
        self._processor_s = processor_s
        self._began_s: float | None = None

    def work_s(self) -> float:
        """Seconds; 0 for who asks first."""
        now_s = self._processor_s()
        if self._began_s is None:
            self._began_s = now_s
            self._loop.call_soon(self._end)
        return now_s - self._began_s

    def _end(self) -> None:
        self._began_s = None


class LoopProbe:
    """Calls *sampled* every tenth of a second with the seconds by which the event loop ran that call too late."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sampled: Callable[[float], None]) -> None:
        self._loop = loop
        self._sampled = sampled
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        self._due_s = self._loop.time() + SAMPLE_EVERY_S
        self._timer = self._loop.call_at(self._due_s, self._tick)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._sampled(max(0.0, self._loop.time() - self._due_s))
        self.start()


def is_shed(kind: str, level_name: str, pressure_level: int) -> bool:
    """Say whether an event of this kind and level is left out at this level of pressure.

    First what is written for whoever debugs, then what is measured rather than told. Whatever tells of trouble stays.
    """
    if pressure_level <= 0:
        return False
    if kind == "log":
        return level_name == "DEBUG" if pressure_level == 1 else level_name not in _TROUBLE_LEVELS
    return pressure_level >= 2 and kind in {"span", "metric"}


def _level_of(pressure: float, share: float) -> int:
    """How many marks the pressure has reached, each lowered to a share of itself."""
    return sum(pressure >= mark * share for mark in SOFT_MARKS)
