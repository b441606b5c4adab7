"""What became of a request and of each call to a provider, as values: metrics, logs and telemetry are made from these.

Names in them come from the configuration, never from a caller: a model that nobody configured is `other`.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

import msgspec

from leeward.wire.chat import Operation, Usage

__all__ = [
    "OTHER_MODEL",
    "AttemptOutcome",
    "AttemptRecord",
    "Caller",
    "Degraded",
    "Observer",
    "RequestOutcome",
    "RequestRecord",
]

OTHER_MODEL = "other"

AttemptOutcome = Literal[
    "ok",
    "rate_limited",
    "server_error",
    "bad_answer",
    "timeout",
    "network",
    "busy",  # every connection to it is in use: a limit of ours, that says nothing of the provider
    "credentials",
    "unavailable_model",
    "refused",
    "declined",  # another 4xx: not the caller's fault for sure, nor the provider's
    "cut",
    "cancelled",
]
RequestOutcome = Literal["ok", "degraded", "refused", "failed", "timeout", "limited", "open", "cut", "cancelled"]
Degraded = Literal["", "cache", "stale-cache", "smaller-model", "reduced", "static"]


class Caller(msgspec.Struct, frozen=True):
    """Who asks. `tenant` keeps cached answers apart: callers with different tenants never see each other's."""

    request_id: str
    tenant: str = ""
    project: int = 0
    key_id: str = ""
    trace_id: str = ""
    parent_span_id: str = ""
    language: str = ""  # of the sentences for people; empty: as configured


class AttemptRecord(msgspec.Struct):
    """One call to one provider. Times of day in milliseconds since 1970, durations in seconds."""

    provider: str
    model: str  # the provider's own name of it
    started_ms: int
    duration_s: float = 0.0
    outcome: AttemptOutcome = "cancelled"
    status: int = 0  # of HTTP; 0 when there was no answer
    detail: str = ""  # what went wrong, as a stable tag: connect_refused, no_finish, …
    first_token_s: float | None = None
    usage: Usage | None = None
    estimate: Usage | None = None  # what a call that did not tell its usage will be billed for, roughly
    answered_model: str = ""  # as the provider says
    answer_id: str = ""
    finish: str = ""
    cost: float | None = None  # US dollars; None: no price is known
    repeat: bool = False  # the provider had been asked before for this request
    offset_s: float = 0.0  # from the request's beginning
    maybe_billed: bool = False  # it had left, and brought no answer: the provider may bill it all the same

    @property
    def billed(self) -> Usage | None:
        """What the provider bills, as far as it is known; None: surely nothing."""
        usage = self.usage
        if usage is not None and usage.input_tokens + usage.output_tokens:
            return usage
        return self.estimate if self.outcome in _BILLED else None


_BILLED: Final = frozenset({"ok", "cut", "cancelled", "timeout"})


class RequestRecord(msgspec.Struct):
    """One request, with all its calls."""

    caller: Caller
    operation: Operation
    route: str
    stream: bool
    started_ms: int
    duration_s: float = 0.0
    outcome: RequestOutcome = "cancelled"
    code: str = ""  # of the error that the caller got
    degraded: Degraded = ""
    provider: str = ""
    attempts: list[AttemptRecord] = []
    first_token_s: float | None = None  # from the request's beginning
    usage: Usage | None = None  # of the answer

    @property
    def tokens(self) -> int:
        """In and out, of every call: also of those whose answer nobody got."""
        used = [usage for attempt in self.attempts if (usage := attempt.billed) is not None]
        return sum(usage.input_tokens + usage.output_tokens for usage in used)

    @property
    def cost(self) -> float | None:
        """US dollars, of every call that told its tokens; None: no price is known."""
        known = [attempt.cost for attempt in self.attempts if attempt.cost is not None]
        return sum(known) if known else None


class Observer(Protocol):
    """Is told on the event loop; must be quick and never raise."""

    def attempted(self, request: RequestRecord, attempt: AttemptRecord, why: str) -> None:
        """Tell that a call has ended; `why` is the provider's text, for scrubbed logs alone."""
        ...

    def ended(self, request: RequestRecord) -> None:
        """Tell that a request has ended."""
        ...

    def changed(self, provider: str, model: str, what: str, state: str, why: str) -> None:
        """Tell that something about a provider changed: `what` is breaker, limit, health or credentials."""
        ...
