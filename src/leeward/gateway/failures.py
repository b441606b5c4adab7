"""What a caller of the gateway may get instead of an answer, in the one tree of errors.

Each has a stable `code`, the HTTP `status` it deserves, a sentence for people that tells nothing of the inside, the
`request_id` under which the logs know more, and `retry_after_s` where waiting helps.
"""

from __future__ import annotations

from leeward.errors import (
    CircuitOpen,
    LeewardError,
    RateLimited,
    Refused,
    Unavailable,
    UnknownModel,
)
from leeward.gateway import extra
from leeward.wire.chat import RequestInvalid

__all__ = [
    "AllCircuitsOpen",
    "AllFailed",
    "AllLimited",
    "DeadlineExceeded",
    "GatewayError",
    "ModelNotFound",
    "RequestInvalid",
    "RequestRefused",
    "StreamCut",
    "Unsupported",
]


assert extra  # imported for what it says where something is missing


class GatewayError(LeewardError):
    """Base: an answer did not come about."""

    code = "all_providers_failed"
    status = 502

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int = 0,
        param: str = "",
        request_id: str = "",
        attempts: int = 0,
        retry_after_s: float | None = None,
    ) -> None:
        LeewardError.__init__(self, message, code=code)
        self.status = status or type(self).status
        self.param = param
        self.request_id = request_id
        self.attempts = attempts
        self.retry_after_s = retry_after_s


class AllFailed(GatewayError, Unavailable):
    """Every provider that could be asked failed."""


class DeadlineExceeded(GatewayError, Unavailable):
    """The time for the request is over."""

    code = "deadline_exceeded"
    status = 504


class AllCircuitsOpen(GatewayError, CircuitOpen, Unavailable):
    """Every provider failed lately and is left alone for a while; none was asked."""

    code = "providers_unavailable"
    status = 503


class AllLimited(GatewayError, RateLimited):
    """Every provider asks for fewer calls."""

    code = "rate_limited"
    status = 429


class ModelNotFound(GatewayError, UnknownModel):
    """No route bears that name."""

    code = "model_not_found"
    status = 404


class Unsupported(GatewayError, Refused):
    """No provider of the route can do what the request needs."""

    code = "unsupported"
    status = 400


class RequestRefused(GatewayError, Refused):
    """The provider looked at the request and found fault with it; status, code and param are the provider's."""

    code = "invalid_request"
    status = 400


class StreamCut(GatewayError, Unavailable):
    """The answer had begun and does not go on."""

    code = "stream_interrupted"
    status = 502
