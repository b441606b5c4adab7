"""What a sender of OTLP is answered, in its own encoding: bytes for protobuf, JSON for JSON.

A success is an empty message. Items that were refused are counted in `partial_success`; a sender must not repeat them.
Everything else is a `google.rpc.Status`, whose code follows from the HTTP status.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

__all__ = ["Signal", "export_answer", "status_answer"]

Signal = Literal["traces", "metrics", "logs"]

INVALID_ARGUMENT: Final = 3
STATUS_CODES: Final = {
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    404: 5,  # NOT_FOUND
    405: 12,  # UNIMPLEMENTED
    408: 4,  # DEADLINE_EXCEEDED
    413: 8,  # RESOURCE_EXHAUSTED
    429: 8,
    503: 14,  # UNAVAILABLE
}
REJECTED: Final = {"traces": "rejectedSpans", "metrics": "rejectedDataPoints", "logs": "rejectedLogRecords"}

_ENCODE: Final = msgspec.json.Encoder().encode


def export_answer(signal: Signal, *, is_json: bool, rejected: int = 0, message: str = "") -> bytes:
    """The response to an export request: full success, or how many items were refused and why."""
    if not rejected and not message:
        return b"{}" if is_json else b""
    if is_json:  # a 64-bit integer is text
        return _ENCODE({"partialSuccess": {REJECTED[signal]: str(rejected), "errorMessage": message}})
    return _bytes_field(1, _number_field(1, rejected) + _bytes_field(2, message.encode()))


def status_answer(status: int, message: str, *, is_json: bool) -> bytes:
    """The refusal of a whole request as `google.rpc.Status`."""
    code = STATUS_CODES.get(status, INVALID_ARGUMENT)
    if is_json:
        return _ENCODE({"code": code, "message": message})
    return _number_field(1, code) + _bytes_field(2, message.encode())


def _number_field(number: int, value: int) -> bytes:
    return bytes([number << 3]) + _varint(value) if value else b""


def _bytes_field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
