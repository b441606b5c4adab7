"""What the worker decides, as plain values: what an answer means, how long to rest, when to try again.

Pure: time and chance are arguments; no socket, file or thread is known here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Final

    from leeward.resilience.retry import Retry

__all__ = [
    "BATCH_AGE_S",
    "BATCH_BYTES_MAX",
    "BATCH_EVENTS_MAX",
    "DELIVERED",
    "HALVE",
    "RENAME",
    "RETRY",
    "SET_ASIDE",
    "STOP",
    "Answer",
    "Pace",
    "judge",
    "rest_s",
]

BATCH_EVENTS_MAX: Final = 500
BATCH_BYTES_MAX: Final = 1024 * 1024  # packed to about a tenth of that
BATCH_AGE_S: Final = 0.2  # how long the first event of a batch waits for company

DELIVERED: Final = "delivered"
RETRY: Final = "retry"
HALVE: Final = "halve"
SET_ASIDE: Final = "set aside"
STOP: Final = "stop"
RENAME: Final = "rename"

_LATER: Final = frozenset({408, 425, 429})


class Answer:
    """What came of one request; a value.

    `status` is 0 when no answer came. `acknowledged` is true only for an answer that names our batch. `refused` has
    the events that the server took out of it: code → count. `cause` is a short stable tag, without any secret.
    """

    __slots__ = ("acknowledged", "cause", "refused", "retry_after_s", "status")

    def __init__(
        self,
        status: int,
        cause: str,
        *,
        acknowledged: bool = False,
        refused: Mapping[str, int] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.status = status
        self.cause = cause
        self.acknowledged = acknowledged
        self.refused = refused or {}
        self.retry_after_s = retry_after_s


def judge(answer: Answer, *, events: int, renamed: bool) -> str:
    """What to do with a batch of so many events after this answer.

    A redirect and a 200 that is not our server's (a captive portal) are no answers to this batch: tried again later.
    A batch whose id the server knows with other contents is sent once more under a fresh one: the events' own ids
    keep them from being stored twice.
    """
    status = answer.status
    if answer.acknowledged:
        return DELIVERED
    if status < 400 or status >= 500 or status in _LATER:
        return RETRY
    if status in {401, 403}:
        return STOP
    if status == 413 and events > 1:
        return HALVE
    if status == 409 and not renamed:
        return RENAME
    return SET_ASIDE


class Pace:
    """When the next request may leave; a frozen value. A success begins anew with `Pace()`."""

    __slots__ = ("failures", "not_before_s")

    failures: int
    not_before_s: float

    def __init__(self, failures: int = 0, not_before_s: float = 0.0) -> None:
        object.__setattr__(self, "failures", failures)
        object.__setattr__(self, "not_before_s", not_before_s)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Pace is frozen: {name} cannot be set")

    def failed(self, now_s: float, retry: Retry, retry_after_s: float | None, random: Callable[[], float]) -> Pace:
        """After one more failure: full jitter, and no sooner than the server asked for."""
        failures = self.failures + 1
        return Pace(failures, now_s + retry.delay_s(failures, retry_after_s, random))


def rest_s(
    now_s: float, *, waiting: int, waiting_since_s: float, hurry: bool, stopped: bool, pace: Pace
) -> float | None:
    """How long the worker rests before it sends: 0.0 means now, None until it is woken.

    A batch leaves when it is full or old enough, or when somebody waits for it; never before the pace allows it.
    """
    if stopped or waiting == 0:
        return None
    due_s = now_s if hurry or waiting >= BATCH_EVENTS_MAX else waiting_since_s + BATCH_AGE_S
    return max(0.0, max(due_s, pace.not_before_s) - now_s)
