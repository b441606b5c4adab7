"""PostHog's exception properties → error columns: today's `$exception_list`, and the flat keys of before.

    `$exception_list`             the raised exception first, its causes after it; frames with the oldest call first
    `$exception_type`, `_message`, `_stack_trace` (a text), `_stack_trace_raw` (frames, the newest call first, as a
    list or as its JSON text), `_source`, `_lineno`, `_colno`, `_handled`

Promises  nothing raises but RecursionError, for what is nested deeper than a decoder goes.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from leeward.wire.exceptions import ErrorColumns, Frame, Raised, error_columns, frame_of, raised_of
from leeward.wire.posthog.events import ABSENT, text_of

__all__ = ["LEVELS", "ErrorIn", "columns_of"]

LEVELS: Final = {
    **dict.fromkeys(("DEBUG", "TRACE"), "DEBUG"),
    **dict.fromkeys(("INFO", "LOG", "NOTICE"), "INFO"),
    **dict.fromkeys(("WARN", "WARNING"), "WARN"),
    "ERROR": "ERROR",
    **dict.fromkeys(("FATAL", "CRITICAL"), "FATAL"),
}
FINGERPRINT_CHARS_MAX: Final = 200


class ErrorIn(
    msgspec.Struct,
    gc=False,
    rename={
        "list": "$exception_list",
        "level": "$exception_level",
        "fingerprint": "$exception_fingerprint",
        "type": "$exception_type",
        "message": "$exception_message",
        "stack": "$exception_stack_trace",
        "frames": "$exception_stack_trace_raw",
        "handled": "$exception_handled",
        "source": "$exception_source",
        "line": "$exception_lineno",
        "column": "$exception_colno",
    },
):
    """The properties of an error, as bytes."""

    list: msgspec.Raw = ABSENT
    level: msgspec.Raw = ABSENT
    fingerprint: msgspec.Raw = ABSENT
    type: msgspec.Raw = ABSENT
    message: msgspec.Raw = ABSENT
    stack: msgspec.Raw = ABSENT
    frames: msgspec.Raw = ABSENT
    handled: msgspec.Raw = ABSENT
    source: msgspec.Raw = ABSENT
    line: msgspec.Raw = ABSENT
    column: msgspec.Raw = ABSENT


_DECODE_ERROR = msgspec.json.Decoder(ErrorIn).decode
_DECODE = msgspec.json.Decoder().decode
_FLAGS: Final = {b"true": True, b"false": False}


def columns_of(properties: bytes) -> tuple[ErrorColumns, str, str]:
    """The error's columns, its level in our words or nothing, and its sender's fingerprint or nothing."""
    error = _DECODE_ERROR(properties)
    level = LEVELS.get(text_of(error.level).upper(), "")
    fingerprint = text_of(error.fingerprint)[:FINGERPRINT_CHARS_MAX]
    described = _value(error.list)
    chain = [raised_of(one) for one in described] if isinstance(described, list) else []
    raised = [one for one in chain if one is not None]
    if not raised:
        raised = _flat(error)
    return error_columns(raised, stack=text_of(error.stack)), level, fingerprint


def _flat(error: ErrorIn) -> list[Raised]:
    """The one exception of the older form; nothing if there is none."""
    frames = _value(error.frames)
    if isinstance(frames, str):
        frames = _value(msgspec.Raw(frames.encode()))
    calls = [frame_of(one) for one in reversed(frames) if isinstance(one, dict)] if isinstance(frames, list) else []
    source = text_of(error.source)
    line = _value(error.line)
    if not calls and (source or line):
        column = _value(error.column)
        calls = [Frame(filename=source, lineno=_place(line), colno=_place(column))]
    raised = Raised(text_of(error.type), text_of(error.message), handled=_FLAGS.get(bytes(error.handled)), frames=calls)
    return [raised] if raised.type or raised.value or raised.frames else []


def _value(raw: msgspec.Raw) -> Any:
    """A value decoded; None if there is none, or if a text that should hold JSON does not."""
    try:
        return _DECODE(raw) if len(raw) else None
    except msgspec.DecodeError:
        return None


def _place(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 2**63 else 0
