"""Requests that came before, byte for byte: a sender that heard no answer sends the same bytes again.

Limits    100,000 requests, each for 15 minutes; in memory only. A resend that is not known here costs its work once
          more and is stored once all the same, by the ids of what is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from leeward.clock import Clock

__all__ = ["Resends"]

REQUESTS_MAX: Final = 100_000
AGE_MAX_S: Final = 15 * 60.0

_Key = tuple[int, str, bytes]


class Resends:
    """Project, place and digest of a request → what it was answered. Belongs to the event loop."""

    __slots__ = ("_answers", "_clock", "requests_max")

    def __init__(self, clock: Clock, *, requests_max: int = REQUESTS_MAX) -> None:
        self._clock = clock
        self._answers: dict[_Key, tuple[float, Any]] = {}  # oldest first
        self.requests_max = requests_max

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, project: int, place: str, digest: bytes) -> Any | None:
        """What the same request was answered within the last 15 minutes, or None."""
        found = self._answers.get((project, place, digest))
        return found[1] if found is not None and self._clock.monotonic_s() - found[0] <= AGE_MAX_S else None

    def remember(self, project: int, place: str, digest: bytes, answer: Any) -> None:
        """The request is on stable storage and is answered like this; `answer` is anything but None."""
        answers = self._answers
        answers.pop((project, place, digest), None)
        now_s = self._clock.monotonic_s()
        answers[project, place, digest] = (now_s, answer)
        while len(answers) > self.requests_max or now_s - next(iter(answers.values()))[0] > AGE_MAX_S:
            del answers[next(iter(answers))]
