"""Errors of Anthropic → the words that OpenAI's errors use, so that the gateway judges both by the same.

Its own type stays beside them. The request id, by which Anthropic's support finds a call, goes into the message, which
is for logs only.
"""

from __future__ import annotations

from typing import Final

import msgspec

from leeward.wire.anthropic.reading import UNREADABLE
from leeward.wire.chat import ProviderError

__all__ = ["Fault", "provider_error", "read_error"]

CODES: Final = {
    "authentication_error": "invalid_api_key",
    "billing_error": "insufficient_quota",
    "permission_error": "permission_denied",
    "not_found_error": "model_not_found",
    "request_too_large": "request_too_large",
    "rate_limit_error": "rate_limit_exceeded",
    "api_error": "server_error",
    "timeout_error": "timeout",
    "overloaded_error": "overloaded",
}
SPOKEN: Final = (  # refusals whose type says less than their text
    ("prompt is too long", "context_length_exceeded"),
    ("exceed context limit", "context_length_exceeded"),
    ("credit balance is too low", "insufficient_quota"),
)
PARAMS: Final = {  # the start of a refusal's text → the caller's own field
    "max_tokens": "max_tokens",
    "messages": "messages",
    "metadata": "user",
    "output_config": "response_format",
    "stop_sequences": "stop",
    "system": "messages",
    "temperature": "temperature",
    "thinking": "thinking",
    "tool_choice": "tool_choice",
    "tools": "tools",
    "top_k": "top_k",
    "top_p": "top_p",
}
MESSAGE_CHARS_MAX: Final = 2_000


class Fault(msgspec.Struct, frozen=True):
    """What went wrong."""

    type: str = ""
    message: str = ""


class Told(msgspec.Struct, frozen=True):
    """The body of an error, or an error event."""

    error: Fault
    request_id: str | None = None


TOLD: Final = msgspec.json.Decoder(Told)


def read_error(status: int, body: bytes) -> ProviderError:
    """What an answer that is not a 2xx says; a body of another shape, of a proxy say, is its own message."""
    try:
        told = TOLD.decode(body)
    except UNREADABLE:
        return ProviderError(status=status, message=body[:MESSAGE_CHARS_MAX].decode("utf-8", "replace"))
    return provider_error(told.error, status, told.request_id or "")


def provider_error(fault: Fault, status: int = 0, request_id: str = "") -> ProviderError:
    """An error in the gateway's words."""
    words = fault.message.lower()
    code = next((code for text, code in SPOKEN if text in words), CODES.get(fault.type, ""))
    field = fault.message.partition(":")[0].partition(".")[0]
    message = fault.message[:MESSAGE_CHARS_MAX]
    return ProviderError(
        status=status,
        code=code,
        type=fault.type,
        param=PARAMS.get(field, ""),
        message=f"{message} (request {request_id})" if request_id else message,
    )
