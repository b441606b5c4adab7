"""The server's log: JSON lines on stderr, one event a line, control characters escaped, no line without an end."""

from __future__ import annotations

import sys
import traceback
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


def json_lines(stream: Any = None) -> Report:
    """A report that writes JSON lines; exceptions come with their stack, never with a request's body.

    A line that cannot be written is dropped: the log is never a reason to fail.
    """
    import structlog  # noqa: PLC0415 - the server's only, and not on the way to the first answer

    logger = structlog.wrap_logger(
        structlog.PrintLogger(file=stream if stream is not None else sys.stderr),
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
    )

    def report(event: str, fields: dict[str, Any], /) -> None:
        try:
            logger.msg(event, **{name: _plain(value) for name, value in fields.items()})
        except (OSError, ValueError):
            pass  # boundary: nobody reads it any more, or its disk is full; events must be taken all the same

    return report


def _plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        stack = "".join(traceback.format_exception(value))
        return stack[-TEXT_CHARS_MAX:]
    if isinstance(value, str):
        return value[:TEXT_CHARS_MAX]
    return value
