"""Errors in the form of OpenAI's API: what a provider's answer says of one, in any shape; and our own to a caller.

What a provider wrote is for scrubbed logs. A caller gets our sentence, a stable code, and nothing of a provider's text.
"""

from __future__ import annotations

from typing import Any

import msgspec

from leeward.wire.chat import ProviderError
from leeward.wire.text import repair

__all__ = ["DONE", "TYPES", "error_body", "error_event", "error_in", "error_type", "read_error"]

DONE = b"data: [DONE]\n\n"
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
}

MESSAGE_CHARS_MAX = 2_000
NAME_CHARS_MAX = 100
ERROR_BYTES_MAX = 64 << 10  # of what a provider wrote; more is never an error's text
_DECODE = msgspec.json.Decoder().decode
_ENCODE = msgspec.json.Encoder().encode


def error_type(status: int) -> str:
    """OpenAI's word for the kind of error that a status stands for."""
    return TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")


def error_body(sentence: str, *, type: str, code: str, param: str = "", request_id: str = "") -> bytes:
    """The body of a refusal, as OpenAI's clients read it."""
    error = {"message": sentence, "type": type, "param": param or None, "code": code}
    if request_id:
        error["request_id"] = request_id
    return _ENCODE({"error": error})


def error_event(sentence: str, *, type: str, code: str, param: str = "", request_id: str = "") -> bytes:
    """The same as the last event of a stream that cannot go on."""
    return b"data: " + error_body(sentence, type=type, code=code, param=param, request_id=request_id) + b"\n\n"


def read_error(status: int, body: bytes) -> ProviderError:
    """What an answer that is not a 2xx says, in whatever shape a provider says it; never raises."""
    text, _ = repair(body[:ERROR_BYTES_MAX])
    try:
        value = _DECODE(text)
    except (msgspec.DecodeError, RecursionError):
        return ProviderError(status=status, message=_message(text.decode()))  # a page, a line, or nothing
    return error_in(value, status)


def error_in(value: Any, status: int = 0) -> ProviderError:
    """The error in a decoded body or event, known to hold one."""
    if isinstance(value, list) and value:
        value = value[0]  # Google wraps it in a list
    if not isinstance(value, dict):
        return ProviderError(status=status, message=_message(value))
    error = value.get("error")
    if not isinstance(error, dict):
        # A text alone, or the error's members stand where others have theirs inside "error".
        error = {**value, "message": error or value.get("message") or value.get("detail")}
    return ProviderError(
        status=status,
        code=_name(error.get("code")),
        type=_name(error.get("type") or error.get("status")),
        param=_name(error.get("param")),
        message=_message(error.get("message")),
    )


def _name(value: Any) -> str:
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)[:NAME_CHARS_MAX]
    return ""


def _message(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        try:
            value = _ENCODE(value).decode()
        except RecursionError:
            return ""  # nested to hurt
    return str(value).strip()[:MESSAGE_CHARS_MAX]
