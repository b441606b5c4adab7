"""What came of one call to a provider, and what that means: for the caller, for the provider, for the next step. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from leeward.gateway.records import AttemptOutcome
from leeward.resilience.retry import RETRY_STATUSES
from leeward.wire.chat import Answer, ProviderError

if TYPE_CHECKING:
    from leeward.gateway.transport import TransportError

__all__ = ["NO_CONTENT", "SLOW_READER", "UNTRANSLATABLE", "Outcome", "of_broken_stream", "of_status", "of_transport"]

UNTRANSLATABLE: Final = "untranslatable"  # into this provider's dialect; another one may take it
SLOW_READER: Final = "slow_reader"  # the deadline of a stream whose caller did not read
NO_CONTENT: Final = "no_content"  # as of AnswerReader.end
NOT_FOUND: Final = 404
RATE_LIMITED: Final = 429
_DECLINED: Final = frozenset(range(400, 500)) - {400, 401, 402, 403, 404, 408, 413, 422, 429}
_REFUSED: Final = frozenset({400, 413, 422})
_CREDENTIALS: Final = frozenset({401, 402, 403})
_OF_A_REQUEST: Final = frozenset({402, 403, 404})
_KINDS: Final[dict[str, AttemptOutcome]] = {
    **dict.fromkeys(("connect_timeout", "head_timeout", "stall", "deadline"), "timeout"),
    "pool_full": "busy",
}
# The call had no effect there: the same provider may get it again.
_NOT_SENT: Final = frozenset({"connect_refused", "dns", "pool_full"})
# Retry-After of an account without money means nothing: it is a long time-out, as of a wrong key.
_NO_MONEY: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


_FINAL: Final = frozenset({"ok", "refused", "cut", "cancelled"})
_FAILURES: Final = frozenset(
    {"server_error", "bad_answer", "timeout", "network", "cut", "unavailable_model", "credentials"}
)


class Outcome(msgspec.Struct, frozen=True):
    """One call's end. `at_s` is when, in monotonic seconds; `repeatable`: the same provider may get it once more."""

    kind: AttemptOutcome
    at_s: float
    answer: Answer | None = None
    status: int = 0
    detail: str = ""
    error: ProviderError | None = None
    retry_after_s: float | None = None
    repeatable: bool = False
    never_left: bool = False  # nothing of the request was sent
    streamed: bool = False
    first_s: float | None = None  # from the call to its first content, or to its whole answer

    @property
    def is_final(self) -> bool:
        """Whether no other provider can better it: an answer, the caller's own mistake, or a stream that had begun."""
        return self.kind in _FINAL and self.detail != UNTRANSLATABLE

    @property
    def may_be_the_request(self) -> bool:
        """Whether a single request can bring it about at a provider that is well: too dear, flagged, or asking for nothing."""
        return self.status in _OF_A_REQUEST or self.detail == NO_CONTENT

    @property
    def is_failure(self) -> bool:
        """Whether it speaks against the provider's health. A limit has a timer of its own; a caller's mistake is none."""
        return self.kind in _FAILURES and self.detail != SLOW_READER


def of_status(status: int, error: ProviderError, retry_after_s: float | None, at_s: float) -> Outcome:
    """The meaning of an HTTP status that is no answer."""
    kind: AttemptOutcome
    if (status in _CREDENTIALS and error.code != "model_not_found") or error.code in _NO_MONEY:
        kind = "credentials"
    elif status == RATE_LIMITED and error.code != "overloaded":  # Anthropic's word for a failure, not for a limit
        kind = "rate_limited"
    elif status in _REFUSED:
        kind = "refused"
    elif status in _DECLINED:
        kind = "declined"
    elif status == NOT_FOUND or error.code == "model_not_found":
        kind = "unavailable_model"
    else:
        kind = "server_error"
    return Outcome(
        kind=kind,
        at_s=at_s,
        status=status,
        detail=f"status_{status}",
        error=error,
        retry_after_s=retry_after_s,
        repeatable=status in RETRY_STATUSES and kind != "credentials",
    )


def of_transport(error: TransportError, at_s: float, *, status: int = 0, committed: bool = False) -> Outcome:
    """The meaning of a connection that failed. `committed`: the caller has seen a part of the answer."""
    kind: AttemptOutcome = "cut" if committed else _KINDS.get(error.kind, "network")
    return Outcome(
        kind=kind,
        at_s=at_s,
        status=status,
        detail=error.kind,
        error=ProviderError(message=error.detail),
        repeatable=error.kind in _NOT_SENT and not error.sent and not committed,
        never_left=not error.sent,
    )


def of_broken_stream(detail: str, error: ProviderError | None, at_s: float, *, committed: bool) -> Outcome:
    """The meaning of a stream that ended, or told an error, before it was an answer."""
    return Outcome(kind="cut" if committed else "bad_answer", at_s=at_s, status=200, detail=detail, error=error)
