"""The gateway's log: a line for each call that failed, each repeat and failover, each change of a provider.

What a provider wrote stands here and nowhere else: bounded, without secrets and without what the prompt says (`redact`),
its control characters escaped by whoever writes the line. A request that went well leaves no line; metrics and telemetry
count it. A mistake of the caller's leaves none but that of the call that showed it, and a failure of our own none at
all: whoever gets its exception writes it down, with the stack and the request's id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from leeward.gateway.records import AttemptRecord, RequestRecord

__all__ = ["AttemptLog", "standard_report"]

LOOKED: Final = "a look at it"  # why something changed without a call
_GOOD: Final = frozenset({"ok", "degraded", "cancelled"})
_QUIET: Final = frozenset({"ok", "refused", "cancelled"})
_BAD: Final = frozenset({"open", "refused", "limited", "degraded", "unhealthy"})
_NAMES: Final = {"ok": "attempt_ok", "cancelled": "attempt_cancelled"}
_FINE: Final = frozenset({"closed", "half-open", "healthy", "over"})
_LOGGER: Final = logging.getLogger("leeward.gateway")
_LOGGER.addHandler(logging.NullHandler())  # a library prints only where it was asked to


def standard_report(event: str, fields: dict[str, Any], /) -> None:
    """Write a line to the program's own logging."""
    level = logging.INFO if event in _NAMES.values() or fields.get("state") in _FINE else logging.WARNING
    _LOGGER.log(level, "%s %s", event, " ".join(f"{name}={value!r}" for name, value in fields.items()))


class AttemptLog:
    """Writes lines by `report`: a short name, and what belongs to it. Belongs to one event loop at a time."""

    __slots__ = ("_cause", "_report")

    def __init__(self, report: Callable[[str, dict[str, Any]], None]) -> None:
        self._report = report
        self._cause: tuple[str, str] = ("", "")  # provider and request id of the call that ended last

    def attempted(self, request: RequestRecord, attempt: AttemptRecord, why: str) -> None:
        """A call has ended."""
        self._cause = (attempt.provider, request.caller.request_id)
        if attempt.outcome in _GOOD and not attempt.repeat and len(request.attempts) == 1:
            return
        fields: dict[str, Any] = {
            "request_id": request.caller.request_id,
            "route": request.route,
            "provider": attempt.provider,
            "model": attempt.model,
            "attempt": len(request.attempts),
            "outcome": attempt.outcome,
            "duration_ms": round(attempt.duration_s * 1000, 1),
        }
        if attempt.repeat:
            fields["repeat"] = True
        if attempt.status:
            fields["status"] = attempt.status
        if attempt.detail:
            fields["detail"] = attempt.detail
        if why:
            fields["provider_said"] = why
        self._report(_NAMES.get(attempt.outcome, "attempt_failed"), fields)

    def ended(self, request: RequestRecord) -> None:
        """A request has ended."""
        if request.outcome in _QUIET or not (request.code or request.degraded):
            return
        self._report(
            "request_degraded" if request.outcome == "degraded" else "request_failed_at_providers",
            {
                "request_id": request.caller.request_id,
                "route": request.route,
                "outcome": request.outcome,
                "code": request.code,
                "degraded": request.degraded,
                "attempts": len(request.attempts),
                "stream": request.stream,
                "duration_ms": round(request.duration_s * 1000, 1),
            },
        )

    def changed(self, provider: str, model: str, what: str, state: str, why: str) -> None:
        """Something about a provider changed. What got worse did so by the call that has just ended, or by a look."""
        fields = {"provider": provider, "model": model, "what": what, "state": state, "why": why}
        if state in _BAD and why != LOOKED and self._cause[0] == provider:
            fields["request_id"] = self._cause[1]
        self._report("provider_changed", fields)
