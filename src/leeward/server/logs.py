"""The server's log: JSON lines on stderr, one event a line, control characters escaped, no line without an end."""

from __future__ import annotations

import datetime
import json
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final, Protocol

__all__ = ["Report", "json_lines", "quiet"]

TEXT_CHARS_MAX: Final = 4000


class Report(Protocol):
    """Say that something happened: a short name, and what belongs to it."""

    def __call__(self, event: str, fields: dict[str, Any], /) -> None:
        """Write it."""
        ...


def quiet(event: str, fields: dict[str, Any]) -> None:
    """Say nothing: for a server that draws on the terminal itself."""


def json_lines(stream: Any = None, *, now: Callable[[], datetime.datetime] | None = None) -> Report:
    """A report that writes JSON lines; exceptions come with their stack, never with a request's body.

    A line that cannot be written is dropped: the log is never a reason to fail. Threads may share it.
    """
    out = sys.stderr if stream is None else stream
    time_of_day = now or _now
    turn = threading.Lock()
    encode = json.JSONEncoder(ensure_ascii=True, default=repr).encode

    def report(event: str, fields: dict[str, Any], /) -> None:
        told = {name: _plain(value) for name, value in fields.items()}
        told["event"] = event
        told["timestamp"] = time_of_day().isoformat(timespec="microseconds").replace("+00:00", "Z")
        try:
            line = encode(told) + "\n"
            with turn:
                out.write(line)
                out.flush()
        except (OSError, ValueError):
            pass  # boundary: nobody reads it any more, or its disk is full; events must be taken all the same

    return report


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        stack = "".join(traceback.format_exception(value))
        return stack[-TEXT_CHARS_MAX:]
    if isinstance(value, str):
        return value[:TEXT_CHARS_MAX]
    return value
