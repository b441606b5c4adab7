"""When what waits is sent: soon while much happens, seldom while little does, not while an answer streams.

Pure: time is an argument. Callers on any thread say what they know by single stores and dictionary entries, which need
no lock; only the worker asks and tells `sent`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["AGE_MAX_S", "AGE_MIN_S", "Rhythm"]

AGE_MIN_S: Final = 0.2  # how long the first event of a batch waits for company, at first
AGE_MAX_S: Final = 2.0  # and at most, while few come
FEW: Final = 10  # a batch this small was not worth its request: the next one waits longer
QUIET_S: Final = 30.0  # after this long without a request the next event does not wait long
HINT_SLACK_S: Final = 0.25  # a checkpoint may come that much later than it was said to
HINT_MAX_S: Final = 60.0
LOGS_AGE_S: Final = 5.0  # lines of a log come in crowds, and nobody waits for one
BUSY_MAX_S: Final = 30.0  # in a server some answer streams at any time: what has waited this long is sent


class Rhythm:
    """One client's rhythm in one process. `adaptive` false keeps the interval as it is."""

    __slots__ = (
        "_age_s",
        "_checkpoint_s",
        "_is_overdue",
        "_round_left",
        "_sent_at_s",
        "adaptive",
        "busy",
        "idle",
        "soon",
        "urgent",
    )

    def __init__(
        self,
        age_s: float = AGE_MIN_S,
        *,
        adaptive: bool = True,
        busy: dict[object, None] | None = None,
        idle: dict[object, None] | None = None,
    ) -> None:
        self.adaptive = adaptive
        self.busy = {} if busy is None else busy  # who streams an answer just now
        self.idle = {} if idle is None else idle  # who waits for a person
        self.soon = 0  # a checkpoint was reached: so many are to be sent now
        self.urgent = False  # something else than lines of a log waits
        self._age_s = age_s
        self._checkpoint_s = 0.0
        self._is_overdue = False  # this round goes on although an answer streams
        self._round_left = 0  # of what waited when this round began
        self._sent_at_s = 0.0

    def checkpoint(self, now_s: float, hint_s: float | None, *, waiting: int) -> None:
        """Send what waits now; the next checkpoint comes in `hint_s` seconds, and nothing need be sent before it."""
        self._checkpoint_s = 0.0 if hint_s is None else now_s + min(max(hint_s, 0.0), HINT_MAX_S) + HINT_SLACK_S
        self.soon = waiting

    def due_s(self, now_s: float, *, waiting_since_s: float, full: bool, hurry: bool) -> float:
        """When what waits is to be sent. `hurry`: somebody waits for it."""
        if hurry:
            return now_s
        if self.busy and not self._is_overdue:
            return waiting_since_s + BUSY_MAX_S
        if self._round_left or self.soon or full or self.idle:
            return now_s
        age_s = self._age_s if self.urgent or not self.adaptive else LOGS_AGE_S
        return max(waiting_since_s + age_s, self._checkpoint_s)

    def began(self, now_s: float, *, waiting: int) -> None:
        """A request leaves now, and after it, in the same round, all else that waits by now."""
        if not self._round_left:
            self._round_left = waiting
            self._is_overdue = bool(self.busy)
        if self.adaptive and now_s - self._sent_at_s > QUIET_S:
            self._age_s = AGE_MIN_S
        self._sent_at_s = now_s

    def sent(self, events: int, *, full: bool, left: int) -> None:
        """A request with so many events was answered; so many are left."""
        self.soon = max(0, self.soon - events)
        self._round_left = max(0, self._round_left - events)
        if not left:
            self.soon, self._round_left, self.urgent = 0, 0, False
        self._is_overdue = self._is_overdue and self._round_left > 0
        if not self.adaptive:
            return
        if full:
            self._age_s = AGE_MIN_S
        elif events < FEW:
            self._age_s = min(AGE_MAX_S, self._age_s * 2)
