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
    "BATCH_BYTES_MAX",
    "BATCH_EVENTS_MAX",
    "DELIVERED",
    "DROP",
    "HALVE",
    "RENAME",
    "RETRY",
    "SET_ASIDE",
    "STOP",
    "Answer",
    "Pace",
    "Policy",
    "judge",
]

BATCH_EVENTS_MAX: Final = 500
BATCH_BYTES_MAX: Final = 1024 * 1024  # packed to about a tenth of that
SERVER_ERRORS_MAX: Final = 4  # a batch that makes the server fail this often is halved: it must not block the others
SERVER_ERROR_S: Final = 900.0  # a single event that does so for this long is at fault, and not the server
OUTAGE_FAILURES: Final = 3  # from here on it was an outage, and what waited is sent at a walk
OUTAGE_PACE_S: Final = 0.2  # between two requests then, on average half of it

DELIVERED: Final = "delivered"
RETRY: Final = "retry"
HALVE: Final = "halve"
SET_ASIDE: Final = "set aside"
STOP: Final = "stop"
RENAME: Final = "rename"
DROP: Final = "drop"

_LATER: Final = frozenset({408, 425, 429})
# The server, or something before it, is away: no fault of the batch. From 520 on it is a content network that says so.
_AWAY: Final = frozenset({502, 503, 504, *range(520, 531)})


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


class Policy:
    """How hard a client tries; a frozen value.

    `tries_max` of one batch, None without end; `retry` says how long to wait between them, and `wait_s` what is added
    to that, whatever the server asks for; `timeout_s` is for one exchange; `age_s` is how long the first event of a
    batch waits for company, and `adaptive` whether that changes.
    """

    __slots__ = ("adaptive", "age_s", "retry", "timeout_s", "tries_max", "wait_s")

    def __init__(
        self,
        retry: Retry,
        *,
        tries_max: int | None,
        timeout_s: float,
        age_s: float,
        adaptive: bool,
        wait_s: float | None = None,
    ) -> None:
        self.retry = retry
        self.wait_s = wait_s
        self.tries_max = tries_max
        self.timeout_s = timeout_s
        self.age_s = age_s
        self.adaptive = adaptive


def judge(
    answer: Answer, *, events: int, renamed: bool, tries: int = 1, waited_s: float = 0.0, tries_max: int | None = None
) -> str:
    """What to do with a batch of so many events after this answer to its `tries`-th request.

    A redirect and a 200 that is not our server's (a captive portal) are no answers to this batch: tried again later.
    A batch whose id the server knows with other contents is sent once more under a fresh one: the events' own ids
    keep them from being stored twice. One that makes the server itself fail again and again is halved, down to the one
    event; only that is set aside, and only when it has failed for as long as most outages last.
    With `tries_max` only the network and the server's own failures are worth another try, and nothing is set aside.
    """
    status = answer.status
    if answer.acknowledged:
        return DELIVERED
    if tries_max is not None:
        return RETRY if (status == 0 or status >= 500) and tries < tries_max else DROP
    if status < 400 or status >= 500 or status in _LATER:
        if status < 500 or status in _AWAY or tries < SERVER_ERRORS_MAX:
            return RETRY
        return HALVE if events > 1 else SET_ASIDE if waited_s >= SERVER_ERROR_S else RETRY
    if status in {401, 403}:
        return STOP
    if status == 413 and events > 1:
        return HALVE
    if status == 409 and not renamed:
        return RENAME
    return SET_ASIDE


class Pace:
    """When the next request may leave; a frozen value. After an outage what waited leaves at a walk, with jitter."""

    __slots__ = ("catching_up", "failures", "not_before_s")

    failures: int
    not_before_s: float
    catching_up: bool

    def __init__(self, failures: int = 0, not_before_s: float = 0.0, *, catching_up: bool = False) -> None:
        object.__setattr__(self, "failures", failures)
        object.__setattr__(self, "not_before_s", not_before_s)
        object.__setattr__(self, "catching_up", catching_up)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Pace is frozen: {name} cannot be set")

    def failed(self, now_s: float, retry: Retry, retry_after_s: float | None, random: Callable[[], float]) -> Pace:
        """After one more failure: full jitter, and no sooner than the server asked for."""
        failures = self.failures + 1
        return Pace(failures, now_s + retry.delay_s(failures, retry_after_s, random))

    def succeeded(self, now_s: float, left: int, random: Callable[[], float]) -> Pace:
        """After a success with so many events left."""
        if left >= BATCH_EVENTS_MAX and (self.catching_up or self.failures >= OUTAGE_FAILURES):
            return Pace(0, now_s + random() * OUTAGE_PACE_S, catching_up=True)
        return Pace()

    def rest_s(self, now_s: float, due_s: float, *, hurry: bool) -> float:
        """Seconds to wait with what is due then; who waits for it is spared the walk, not the failure's wait."""
        not_before_s = 0.0 if hurry and self.catching_up else self.not_before_s
        return max(0.0, max(due_s, not_before_s) - now_s)
