"""When to try again: the delay, its jitter, and what the other side asked for. Pure: chance and time are arguments.

Rules     exponential back-off with full jitter: a random part of `base_s`, doubled per try, at most `cap_s`.
          Retry-After is obeyed up to `RETRY_AFTER_MAX_S`; the jitter comes on top, so that a crowd that was sent away
          together does not come back together.
Standard library only; the client imports it, so nothing heavier than `errors` is loaded until a date must be read.
"""

from __future__ import annotations

from leeward.errors import RetryableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

__all__ = ["RETRY_AFTER_MAX_S", "RETRY_STATUSES", "Retry", "may_retry", "parse_retry_after", "status_of"]

RETRY_STATUSES: Final = frozenset({429, 500, 502, 503, 504})
RETRY_AFTER_MAX_S: Final = 300.0
HEADER_CHARS_MAX: Final = 64


class Retry:
    """How often and how patiently; a frozen value.

    Args:
        attempts_max: Tries, with the first; None is without end.
        base_s: Longest delay after the first try; it doubles with each.
        cap_s: Longest delay of all.
        deadline_s: Seconds from the first try after which none begins; None is without end.
        statuses: HTTP statuses that say "later".
        retry_after_max_s: Longest wish of the other side that is obeyed.
    """

    __slots__ = ("attempts_max", "base_s", "cap_s", "deadline_s", "retry_after_max_s", "statuses")

    attempts_max: int | None
    base_s: float
    cap_s: float
    deadline_s: float | None
    retry_after_max_s: float
    statuses: frozenset[int]

    def __init__(
        self,
        *,
        attempts_max: int | None = 3,
        base_s: float = 0.2,
        cap_s: float = 8.0,
        deadline_s: float | None = None,
        statuses: frozenset[int] = RETRY_STATUSES,
        retry_after_max_s: float = RETRY_AFTER_MAX_S,
    ) -> None:
        if attempts_max is not None and attempts_max < 1:
            raise ValueError(f"attempts_max is {attempts_max}; at least one attempt is made")
        if not 0 <= base_s <= cap_s:
            raise ValueError(f"base_s is {base_s} and cap_s is {cap_s}; 0 <= base_s <= cap_s is needed")
        if deadline_s is not None and not deadline_s > 0:
            raise ValueError(f"deadline_s is {deadline_s}; more than 0 is needed")
        if not retry_after_max_s >= 0:
            raise ValueError(f"retry_after_max_s is {retry_after_max_s}; 0 or more is needed")
        values = (attempts_max, base_s, cap_s, deadline_s, float(retry_after_max_s), frozenset(statuses))
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Retry is frozen: {name} cannot be set; make a new one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Retry is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if type(other) is Retry else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return (
            f"Retry(attempts_max={self.attempts_max}, base_s={self.base_s}, cap_s={self.cap_s}, "
            f"deadline_s={self.deadline_s})"
        )

    def _key(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def again(self, attempts: int) -> bool:
        """Whether another try is allowed after so many."""
        return self.attempts_max is None or attempts < self.attempts_max

    def within(self, elapsed_s: float, delay_s: float) -> bool:
        """Whether a try that begins `delay_s` from now, `elapsed_s` after the first, is still before the deadline."""
        return self.deadline_s is None or elapsed_s + delay_s < self.deadline_s

    def delay_s(self, attempts: int, retry_after_s: float | None, random: Callable[[], float]) -> float:
        """Seconds to wait after `attempts` tries (1: after the first). `random` gives a number in [0, 1)."""
        ceiling_s = min(self.cap_s, self.base_s * 2.0 ** min(max(attempts, 1) - 1, 64))
        jitter_s = random() * ceiling_s
        return jitter_s if retry_after_s is None else min(max(retry_after_s, 0.0), self.retry_after_max_s) + jitter_s


def may_retry(outcome: int | BaseException, statuses: frozenset[int] = RETRY_STATUSES) -> bool:
    """Whether a status or an exception of a network call says "later"; anything else is an answer."""
    if isinstance(outcome, int):
        return outcome in statuses
    return isinstance(outcome, (OSError, EOFError, RetryableError))


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an exception carries, as the usual libraries name it; None: none."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and 100 <= status <= 599:
                return status
    return None


def parse_retry_after(
    header: str | None, now_s: float, *, header_ms: str | None = None, max_s: float = RETRY_AFTER_MAX_S
) -> float | None:
    """Seconds to wait by `Retry-After` (a number or a date) or the finer `retry-after-ms`; `now_s` is wall time.

    At most `max_s`. None means that nothing usable was said: no header, garbage, a negative number. A date
    that has passed means at once: 0.0.
    """
    milliseconds = _number(header_ms)
    if milliseconds is not None and milliseconds >= 0:
        return min(milliseconds / 1000, max_s)
    if header is None or len(header) > HEADER_CHARS_MAX:
        return None
    seconds = _number(header)
    if seconds is None:
        date_s = _date_s(header)
        seconds = None if date_s is None else max(0.0, date_s - now_s)
    return None if seconds is None or seconds < 0 else min(seconds, max_s)


def _number(text: str | None) -> float | None:
    if text is None or len(text) > HEADER_CHARS_MAX:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return None if number != number else number  # noqa: PLR0124 - NaN's own test


def _date_s(text: str) -> float | None:
    from email.utils import mktime_tz, parsedate_tz  # noqa: PLC0415 - 30 modules that only a date needs

    try:
        parsed = parsedate_tz(text)
        return None if parsed is None else float(mktime_tz(parsed))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
