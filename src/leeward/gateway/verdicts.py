"""From how a request ended to what its caller is told: error, status, sentence. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from leeward.gateway.failures import (
    AllCircuitsOpen,
    AllFailed,
    AllLimited,
    DeadlineExceeded,
    GatewayError,
    RequestRefused,
    StreamCut,
    Unsupported,
)
from leeward.gateway.known_words import known_code, known_param
from leeward.gateway.sentences import sentence

if TYPE_CHECKING:
    from leeward.gateway.plan import Verdict
    from leeward.gateway.records import RequestOutcome

__all__ = ["OUTCOMES", "error_of"]

_CLASSES: Final[dict[str, type[GatewayError]]] = {
    "failed": AllFailed,
    "timeout": DeadlineExceeded,
    "open": AllCircuitsOpen,
    "limited": AllLimited,
    "cut": StreamCut,
}
OUTCOMES: Final[dict[str, RequestOutcome]] = {
    "ok": "ok",
    "refused": "refused",
    "unsupported": "refused",
    "cut": "cut",
    "cancelled": "cancelled",
    "failed": "failed",
    "timeout": "timeout",
    "open": "open",
    "limited": "limited",
}


def error_of(verdict: Verdict, *, request_id: str, attempts: int, language: str) -> GatewayError:
    """The error that a verdict which is no answer deserves."""
    if verdict.kind == "unsupported":
        return Unsupported(
            sentence("unsupported", language), param=verdict.need, request_id=request_id, attempts=attempts
        )
    if verdict.kind == "refused":
        return _refused(verdict, request_id=request_id, attempts=attempts, language=language)
    failure = _CLASSES[verdict.kind]
    wait_s = verdict.wait_s
    return failure(
        sentence(failure.code, language),
        request_id=request_id,
        attempts=attempts,
        retry_after_s=max(1.0, wait_s) if wait_s is not None else 1.0 if verdict.kind in {"limited", "open"} else None,
    )


def _refused(verdict: Verdict, *, request_id: str, attempts: int, language: str) -> RequestRefused:
    """The caller's own mistake: the provider's status, code and param help to find it; its words stay inside."""
    assert verdict.last is not None
    told = verdict.last.error
    code = known_code(told.code if told else "")
    return RequestRefused(
        sentence(code if code == "context_length_exceeded" else "invalid_request", language),
        code=code,
        status=verdict.last.status,
        param=known_param(told.param if told else ""),
        request_id=request_id,
        attempts=attempts,
    )
