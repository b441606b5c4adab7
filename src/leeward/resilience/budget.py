"""How many repeats are affordable: each request brings a tenth of one, and a small floor keeps quiet times going.

Promise   In any time there are at most `tokens_max` repeats and a `ratio` of that time's requests, and a few by the clock
          (`floor_per_s`, which saves up no more than `floor`): an outage is not made worse by those who ask again.
Use       One budget for all repeats and hedges to a service that was already asked. The first try elsewhere is free.
A `RetryBudget` may be used by several threads and tasks at a time. Time is an argument: seconds that only go forward.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

__all__ = ["BudgetStatistics", "RetryBudget"]


class BudgetStatistics(NamedTuple):
    """Counts since the beginning, and what is left."""

    tokens: float
    requests: int
    taken: int
    refused: int


class RetryBudget:
    """Tokens: a request brings `ratio` of one, a repeat takes one. It begins with `floor` tokens.

    Args:
        ratio: Repeats for each request, 0 to 1.
        floor: Up to so many tokens come back by time alone.
        floor_per_s: How many of them in a second.
        tokens_max: Most tokens that a quiet time can save up; None: `floor` and 50 more.
    """

    __slots__ = (
        "_at_s",
        "_lock",
        "_refused",
        "_requests",
        "_taken",
        "_tokens",
        "floor",
        "floor_per_s",
        "ratio",
        "tokens_max",
    )

    def __init__(
        self, ratio: float = 0.1, *, floor: float = 3.0, floor_per_s: float = 0.1, tokens_max: float | None = None
    ) -> None:
        if not 0 <= ratio <= 1:
            raise ValueError(f"ratio is {ratio}; it is a share of the requests: 0 to 1")
        if min(floor, floor_per_s) < 0:
            raise ValueError("floor and floor_per_s are tokens: 0 or more")
        self.ratio = ratio
        self.floor = floor
        self.floor_per_s = floor_per_s
        self.tokens_max = floor + 50.0 if tokens_max is None else max(tokens_max, floor)
        self._tokens = floor
        self._at_s: float | None = None
        self._requests = self._taken = self._refused = 0
        self._lock = threading.Lock()

    def request(self) -> None:
        """A request begins."""
        with self._lock:
            self._requests += 1
            tokens = self._tokens + self.ratio
            self._tokens = min(self.tokens_max, tokens)

    def take(self, now_s: float) -> bool:
        """Whether a repeat, or a hedge, may be made; if so it is paid."""
        with self._lock:
            self._refill(now_s)
            if self._tokens < 1:
                self._refused += 1
                return False
            self._tokens -= 1
            self._taken += 1
            return True

    def give_back(self) -> None:
        """A repeat that was paid was not made."""
        with self._lock:
            self._taken -= 1
            self._tokens = min(self._tokens + 1, self.tokens_max)

    def statistics(self) -> BudgetStatistics:
        """Counts since the beginning, and the tokens at the last repeat or request."""
        with self._lock:
            return BudgetStatistics(self._tokens, self._requests, self._taken, self._refused)

    def _refill(self, now_s: float) -> None:
        """Bring by time what is missing to the floor. The clock runs from the first repeat that is asked for."""
        if self._at_s is None:
            self._at_s = now_s
        passed_s = max(0.0, now_s - self._at_s)
        self._at_s += passed_s
        if self._tokens < self.floor:
            self._tokens = min(self.floor, self._tokens + passed_s * self.floor_per_s)
