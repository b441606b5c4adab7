"""A Sentry event (an item of type `event`, or a legacy store body) → one event of kind exception.

The payload goes into `data` as it came; columns are made of what stands in the usual places. An exception's columns are
those of the last value, the one that was raised; a message without an exception has only `error_message`, and the
stack of its thread if one was sent along. The caller's `fingerprint` is one column: its only part as it is, several
parts as a JSON array, with `{{ default }}` in the place of the server's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, TypedDict

import msgspec

from leeward.model import Dropped, Event
from leeward.wire.exceptions import ErrorColumns, Raised, cut_message, error_columns, raised_of, text_of
from leeward.wire.sentry.fields import (
    FIELD_CHARS_MAX,
    Columns,
    Request,
    clean_id,
    columns,
    cut,
    level_of,
    moment_us,
    scalar,
)
from leeward.wire.sentry.reading import ABSENT, Reader, encode, is_given, loose

__all__ = ["NAME", "common_columns", "error_event", "trace_of"]

NAME: Final = "$exception"
VALUES_MAX: Final = 1000
DEFAULT_PART: Final = "{{ default }}"
NO_ERROR: Final = ErrorColumns("", "", "", "")
_DEFAULT: Final = re.compile(r"\{\{\s*default\s*\}\}")


class Trace(msgspec.Struct, gc=False):
    """`contexts.trace`."""

    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    op: str | None = None
    status: str | None = None
    data: msgspec.Raw = ABSENT


class _Contexts(msgspec.Struct, gc=False):
    trace: msgspec.Raw = ABSENT


class _User(msgspec.Struct, gc=False):
    id: int | float | str | None = None
    email: str | None = None
    username: str | None = None


class _Payload(msgspec.Struct, gc=False):
    event_id: str | None = None
    timestamp: float | str | None = None
    level: str | None = None
    message: msgspec.Raw = ABSENT
    logentry: msgspec.Raw = ABSENT
    exception: msgspec.Raw = ABSENT
    threads: msgspec.Raw = ABSENT
    contexts: msgspec.Raw = ABSENT
    user: msgspec.Raw = ABSENT
    tags: msgspec.Raw = ABSENT
    fingerprint: msgspec.Raw = ABSENT


class _FrameIn(TypedDict, total=False):
    """What is read of a frame; its variables and the lines around it are passed over."""

    filename: Any
    abs_path: Any
    function: Any
    module: Any
    lineno: Any
    colno: Any
    in_app: Any
    context_line: Any


class _StackIn(TypedDict, total=False):
    frames: list[_FrameIn | None] | None


class _ExceptionIn(TypedDict, total=False):
    type: Any
    value: Any
    module: Any
    mechanism: Any
    stacktrace: _StackIn | None


class _ThreadIn(TypedDict, total=False):
    crashed: Any
    current: Any
    stacktrace: _StackIn | None


class _ValuesIn(msgspec.Struct):
    values: msgspec.Raw = ABSENT


_PAYLOAD: Final = Reader(_Payload)
_CONTEXTS: Final = Reader(_Contexts)
_TRACE: Final = Reader(Trace)
_USER: Final = Reader(_User)
_VALUES: Final = Reader(_ValuesIn)
_DECODE_EXCEPTIONS = msgspec.json.Decoder(list[_ExceptionIn | None]).decode
_DECODE_THREADS = msgspec.json.Decoder(list[_ThreadIn | None]).decode


def error_event(request: Request, raw: bytes, index: int) -> Event | Dropped:
    """Map an event's payload.

    Args:
        request: the request that brought it.
        raw: the payload, valid UTF-8.
        index: its place among the request's events.
    """
    payload = _PAYLOAD.read(raw)
    if isinstance(payload, Dropped):
        return payload
    event_id = request.take_event_id() or clean_id(payload.event_id)
    trace = trace_of(payload.contexts)
    common = common_columns(payload.tags, payload.user)
    error = _error(payload)
    # By position, in the order of model.Event: see there.
    return Event(
        request.project,
        "exception",
        event_id or request.record_id(raw, timed=False, index=index).removeprefix("h:"),  # 32 hex, as every event here
        NAME,
        request.received_at,
        request.time_ms(moment_us(payload.timestamp)),
        raw.decode(),
        level_of(payload.level) or "ERROR",
        "",
        common.distinct_id,
        common.session_id,
        common.device_id,
        common.correlation_id,
        cut(clean_id(trace.trace_id)),
        cut(trace.span_id),
        cut(trace.parent_span_id),
        common.service,
        "",
        "",
        None,
        None,
        "",
        None,
        None,
        error.type,
        error.message,
        error.stack,
        "",
        _fingerprint(payload.fingerprint),
        error.rest,
    )


def trace_of(contexts: msgspec.Raw) -> Trace:
    """The trace that an event belongs to."""
    return _TRACE.read_or_default(_CONTEXTS.read_or_default(contexts).trace)


def common_columns(tags: msgspec.Raw, user: msgspec.Raw) -> Columns:
    """The columns that tags (an object, or pairs) and the user fill."""
    found = columns(_tags(tags)) if is_given(tags) else columns({})
    if not is_given(user):
        return found
    said = _USER.read_or_default(user)
    person = scalar(said.id) or cut(said.email) or cut(said.username)
    return found._replace(distinct_id=person) if person else found


def _tags(raw: msgspec.Raw) -> dict[str, Any]:
    tags = loose(raw)
    if isinstance(tags, dict):
        return tags
    if not isinstance(tags, list):
        return {}
    return {pair[0]: pair[1] for pair in tags if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)}


def _error(payload: _Payload) -> ErrorColumns:
    raised = _raised(payload.exception) or [Raised()]
    frames = () if any(one.frames for one in raised) else _thread_frames(payload.threads)
    if frames:
        raised[0] = msgspec.structs.replace(raised[0], frames=frames)
    if raised[0].type:
        return error_columns(raised)
    # A message, and perhaps where it was said: the stack is written without it, as a traceback of nothing that was raised.
    said = raised[0].value or _message(payload)
    raised[0] = msgspec.structs.replace(raised[0], value="")
    written = error_columns(raised) if any(one.frames for one in raised) else NO_ERROR
    return written._replace(message=cut_message(said), stack=written.stack.rstrip("\n"))


def _raised(raw: msgspec.Raw) -> list[Raised]:
    """The raised exception first, then its causes: the other way round than Sentry has them."""
    if not is_given(raw):
        return []
    described = _described(raw, _DECODE_EXCEPTIONS)[-VALUES_MAX:]
    return [raised for one in reversed(described) if (raised := raised_of(one)) is not None]


def _described(raw: msgspec.Raw, decode: Any) -> list[Any]:
    """The values of `{"values": […]}`, of a bare list, or of one that stands alone."""
    listed = raw
    if bytes(raw).startswith(b"{"):
        listed = _VALUES.read_or_default(raw).values or raw
    try:
        return decode(listed)  # type: ignore[no-any-return]
    except (msgspec.DecodeError, RecursionError):
        found = loose(listed)
    return found if isinstance(found, list) else [found]


def _thread_frames(raw: msgspec.Raw) -> Sequence[Any]:
    """The stack of the thread that crashed, else of the one that spoke, else of the first that has one."""
    if not is_given(raw):
        return ()
    threads = [one for one in _described(raw, _DECODE_THREADS)[:VALUES_MAX] if isinstance(one, dict)]
    threads.sort(key=lambda one: (one.get("crashed") is not True, one.get("current") is not True))
    for thread in threads:
        read = raised_of({"stacktrace": thread.get("stacktrace")})
        if read is not None:
            return read.frames
    return ()


def _message(payload: _Payload) -> str:
    for raw in (payload.logentry, payload.message):
        if is_given(raw):
            said = loose(raw)
            if isinstance(said, dict):
                said = said.get("formatted") or said.get("message")
            if said and isinstance(said, str):
                return said
    return ""


def _fingerprint(raw: msgspec.Raw) -> str:
    if not is_given(raw):
        return ""
    said = loose(raw)
    given = [text_of(part) for part in (said if isinstance(said, list) else [said])]
    parts = [DEFAULT_PART if _DEFAULT.fullmatch(part) else part for part in given if part]
    if parts in ([], [DEFAULT_PART]):
        return ""
    text = parts[0] if len(parts) == 1 else encode(parts).decode()
    return text if len(text) <= FIELD_CHARS_MAX else clean_id(text)
