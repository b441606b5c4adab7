"""The one exception tree. May I try again, here or elsewhere? The type says so.

LeewardError
├── ConfigError        wrong setting; raised at start-up, names the setting and the cure
├── ProtocolError      bad bytes from outside; `status` is the HTTP answer they deserve
├── RetryableError     try again: Unavailable, RateLimited, QuotaExceeded; `retry_after_s` if the other side said so
├── ElsewhereError     not here, another provider may: BadCredentials, UnknownModel, ContextTooLong, CircuitOpen
└── PermanentError     nobody can: Refused (400, 413, 422)
"""

from __future__ import annotations

__all__ = [
    "BadCredentials",
    "CircuitOpen",
    "ConfigError",
    "ContextTooLong",
    "ElsewhereError",
    "LeewardError",
    "PermanentError",
    "ProtocolError",
    "QuotaExceeded",
    "RateLimited",
    "Refused",
    "RetryableError",
    "Unavailable",
    "UnknownModel",
]


class LeewardError(Exception):
    """Base of all errors that leeward raises on purpose.

    `code` is a stable tag for programs and an anchor in the documentation; `fix` is one command or line that cures
    the error, or empty; `where` is a file and line, a variable or an option, or empty.
    """

    code = "error"

    def __init__(self, message: str, *, code: str = "", where: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.fix = fix
        if code:
            self.code = code


class ConfigError(LeewardError):
    """A setting is wrong. Raised at start-up only."""

    code = "config"


class ProtocolError(LeewardError):
    """Bytes from outside are not what the protocol asks for; `status` is the HTTP answer that they deserve."""

    code = "protocol"

    def __init__(self, message: str, *, code: str = "", status: int = 400, details: tuple[str, ...] = ()) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.details = details


class RetryableError(LeewardError):
    """The same call may succeed later; `retry_after_s` is what the other side asked for, in seconds."""

    code = "retryable"

    def __init__(
        self, message: str, *, code: str = "", where: str = "", fix: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, code=code, where=where, fix=fix)
        self.retry_after_s = retry_after_s


class Unavailable(RetryableError):
    """The other side, a disk or a store cannot serve just now."""

    code = "unavailable"


class RateLimited(RetryableError):
    """The other side asks for fewer calls."""

    code = "rate_limited"


class QuotaExceeded(RateLimited):
    """The key has used what it may send in this window of time."""

    code = "quota_exceeded"


class ElsewhereError(LeewardError):
    """This provider cannot, another one may."""

    code = "elsewhere"


class BadCredentials(ElsewhereError):
    """The provider does not accept our key."""

    code = "bad_credentials"


class UnknownModel(ElsewhereError):
    """The provider does not have the model."""

    code = "unknown_model"


class ContextTooLong(ElsewhereError):
    """The request does not fit the model's context."""

    code = "context_too_long"


class CircuitOpen(ElsewhereError):
    """The provider's circuit breaker is open."""

    code = "circuit_open"


class PermanentError(LeewardError):
    """No repetition can help."""

    code = "permanent"


class Refused(PermanentError):
    """The other side looked at it and said no (400, 413, 422)."""

    code = "refused"
