"""Exceptions as SDKs describe them → the error columns of an event. One form for every wire that brings frames.

Promises  nothing raises, whatever decoded JSON comes in: a member of another type than expected counts as absent, and
          what should be a text and is something else becomes its JSON.
          The stack's text is written as Python prints a traceback, for every language: the oldest call first, the
          first cause first, and the raised exception at the end.
Limits    `EXCEPTIONS_MAX` exceptions, the raised one and its nearest causes; `FRAMES_MAX` frames each, of a longer
          stack the oldest and the newest. Of a stack's text the end stays, of a message the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

__all__ = [
    "EXCEPTIONS_MAX",
    "FRAMES_MAX",
    "MESSAGE_CHARS_MAX",
    "STACK_CHARS_MAX",
    "TYPE_CHARS_MAX",
    "ErrorColumns",
    "Frame",
    "Raised",
    "cut_message",
    "cut_stack",
    "error_columns",
    "frame_of",
    "raised_of",
    "text_of",
]

EXCEPTIONS_MAX: Final = 50
FRAMES_MAX: Final = 250  # of each exception
TYPE_CHARS_MAX: Final = 200
MESSAGE_CHARS_MAX: Final = 64 * 1024
STACK_CHARS_MAX: Final = 64 * 1024
CAUSE_CHARS_MAX: Final = 8 * 1024  # of each message in `error_rest`, and of each but the last in the stack's text
PATH_CHARS_MAX: Final = 500
NAME_CHARS_MAX: Final = 200
LINE_CHARS_MAX: Final = 200

CAUSE_SENTENCE: Final = "The above exception was the direct cause of the following exception:"
CONTEXT_SENTENCE: Final = "During handling of the above exception, another exception occurred:"
MEMBER_SENTENCE: Final = "The above exception is a member of the following group:"
# A class of these modules is known by its bare name, as a traceback prints it.
_BARE_MODULES: Final = frozenset({"", "builtins", "__builtin__", "__builtins__", "exceptions", "__main__"})
_INT64_MAX: Final = 2**63 - 1
_ENCODE: Final = msgspec.json.Encoder().encode
_T = TypeVar("_T")


class Frame(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One call. Empty, 0 or None means that the sender did not say."""

    filename: str = ""
    abs_path: str = ""
    function: str = ""
    module: str = ""
    lineno: int = 0
    colno: int = 0
    in_app: bool | None = None
    context_line: str = ""


class Raised(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One exception of a chain. `source` is how it hangs on the one before it: cause, context, group, or not known."""

    type: str = ""
    value: str = ""
    module: str = ""
    handled: bool | None = None
    source: str = ""
    frames: Sequence[Frame] = ()  # the oldest call first

    @property
    def title(self) -> str:
        """The type as a traceback prints it, with its module."""
        if self.module in _BARE_MODULES or not self.type or self.type.startswith(f"{self.module}."):
            return self.type
        return f"{self.module}.{self.type}"


class ErrorColumns(NamedTuple):
    """What an error fills of an event; `rest` is a JSON text, or empty."""

    type: str
    message: str
    stack: str
    rest: str


def error_columns(raised: Sequence[Raised], *, handled: bool | None = None, stack: str = "") -> ErrorColumns:
    """The columns of an error.

    Args:
        raised: the raised exception first, then its causes, each behind what it caused.
        handled: whether the program went on; None takes it from the first exception that says so.
        stack: the sender's own text of the stack; the frames are written down only if there is none.
    """
    if not raised:
        rest = "" if handled is None else _rest(handled, [], 0)
        return ErrorColumns("", "", cut_stack(stack), rest)
    kept = [_bounded(one) for one in raised[:EXCEPTIONS_MAX]]
    if handled is None:
        handled = next((one.handled for one in kept if one.handled is not None), None)
    omitted = len(raised) - len(kept)
    return ErrorColumns(
        raised[0].title[:TYPE_CHARS_MAX],
        cut_message(raised[0].value),
        cut_stack(stack or _stack_text(kept, omitted)),
        _rest(handled, kept, omitted),
    )


def raised_of(described: Any) -> Raised | None:
    """One exception as PostHog and Sentry describe it, decoded from JSON; None if it says nothing."""
    if not isinstance(described, dict):
        return None
    mechanism = described.get("mechanism")
    stacktrace = described.get("stacktrace")
    frames = stacktrace.get("frames") if isinstance(stacktrace, dict) else None
    raised = Raised(
        text_of(described.get("type")),
        text_of(described.get("value")),
        text_of(described.get("module")),
        _flag(mechanism.get("handled")) if isinstance(mechanism, dict) else None,
        _source(mechanism) if isinstance(mechanism, dict) else "",
        _frames(frames) if isinstance(frames, list) else (),
    )
    return raised if raised.type or raised.value or raised.frames else None


def frame_of(described: dict[str, Any]) -> Frame:
    """One call as PostHog and Sentry describe it, decoded from JSON."""
    get = described.get
    return Frame(
        text_of(get("filename")),
        text_of(get("abs_path")),
        text_of(get("function")),
        text_of(get("module")),
        _number(get("lineno")),
        _number(get("colno")),
        _flag(get("in_app")),
        text_of(get("context_line")),
    )


def text_of(value: Any) -> str:
    """A value of decoded JSON as text: nothing for null, its JSON for what is no text."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return _ENCODE(value).decode()
    except (RecursionError, OverflowError):  # as deep as the decoder went, or a number beyond 64 bits
        return str(value) if isinstance(value, int) else ""


def cut_message(text: str) -> str:
    """The beginning of a text that is too long for its column, with a mark."""
    if len(text) <= MESSAGE_CHARS_MAX:
        return text
    mark = f" [cut: {len(text)} characters]"
    return text[: MESSAGE_CHARS_MAX - len(mark)] + mark


def cut_stack(text: str) -> str:
    """The end of a stack that is too long for its column, in whole lines, with a mark: the error itself stands there."""
    if len(text) <= STACK_CHARS_MAX:
        return text
    mark = f"[cut: {len(text)} characters]\n"
    start = len(text) - STACK_CHARS_MAX + len(mark)
    return mark + text[text.find("\n", start - 1) + 1 or start :]


def _frames(described: list[Any]) -> list[Frame]:
    # Cut here already: nothing is built of 100,000 frames that nobody will see.
    return [frame_of(one) for one in _within(described, lambda said: {"function": said}) if isinstance(one, dict)]


def _number(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= _INT64_MAX else 0


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _source(mechanism: dict[str, Any]) -> str:
    """`cause` or `__cause__`, `context` or `__context__`, and `exceptions[3]` of a group; anything else is not known."""
    said = text_of(mechanism.get("source")).strip("_")
    if said in {"cause", "context"}:
        return said
    return "group" if said == "group" or said.startswith(("exceptions[", "errors[")) else ""


def _within(frames: Sequence[_T], mark: Callable[[str], _T]) -> Sequence[_T]:
    """The oldest and the newest of too many frames, and between them one that says how many are left out."""
    if len(frames) <= FRAMES_MAX:
        return frames
    oldest = FRAMES_MAX // 2
    newest = FRAMES_MAX - oldest - 1
    return [*frames[:oldest], mark(f"… {len(frames) - oldest - newest} frames …"), *frames[-newest:]]


def _bounded(raised: Raised) -> Raised:
    return Raised(
        raised.type[:TYPE_CHARS_MAX],
        _cut_cause(raised.value),
        raised.module[:NAME_CHARS_MAX],
        raised.handled,
        raised.source,
        [_bounded_frame(frame) for frame in _within(raised.frames, lambda said: Frame(function=said))],
    )


def _bounded_frame(frame: Frame) -> Frame:
    return Frame(
        frame.filename[:PATH_CHARS_MAX],
        frame.abs_path[:PATH_CHARS_MAX],
        frame.function[:NAME_CHARS_MAX],
        frame.module[:NAME_CHARS_MAX],
        frame.lineno,
        frame.colno,
        frame.in_app,
        frame.context_line.strip()[:LINE_CHARS_MAX],
    )


def _cut_cause(text: str) -> str:
    return text if len(text) <= CAUSE_CHARS_MAX else f"{text[:CAUSE_CHARS_MAX]} [cut: {len(text)} characters]"


def _rest(handled: bool | None, raised: Sequence[Raised], omitted: int) -> str:
    rest: dict[str, Any] = {} if handled is None else {"handled": handled}
    rest["exceptions"] = raised
    if omitted:
        rest["exceptions_omitted"] = omitted
    return _ENCODE(rest).decode()


def _stack_text(raised: Sequence[Raised], omitted: int) -> str:
    if not any(one.frames for one in raised):
        return ""
    lines = [f"… {omitted} more exceptions …", ""] if omitted else []
    for index in range(len(raised) - 1, -1, -1):
        lines += _lines(raised[index])
        if index:
            lines += ["", _SENTENCES.get(raised[index].source, CAUSE_SENTENCE), ""]
    return "\n".join(lines)


_SENTENCES: Final = {"context": CONTEXT_SENTENCE, "group": MEMBER_SENTENCE}


def _lines(raised: Raised) -> list[str]:
    lines = ["Traceback (most recent call last):"] if raised.frames else []
    for frame in raised.frames:
        path = frame.abs_path or frame.filename
        if path or frame.lineno:
            lines.append(f'  File "{path or "?"}", line {frame.lineno or "?"}, in {frame.function or "?"}')
        else:
            lines.append(f"  {frame.function or '?'}")
        if frame.context_line:
            lines.append(f"    {frame.context_line}")
    lines.append(f"{raised.title}: {raised.value}" if raised.value else raised.title)
    return lines
