"""What a program logs with `logging`, as OpenTelemetry log records; the SDK's own handler is deprecated.

Promises  those of `leeward.integrations.logging`: nothing is printed, no lock, no circle, no error that reaches the
          line that logs; what `leeward` logs itself is left out. A record carries the trace and span it was logged in.
Records   the message as body; the logger's name as scope; level, where it was logged and whatever `extra` brought; an
          exception's type, message and stack.
"""

from __future__ import annotations

from opentelemetry._logs import SeverityNumber

from leeward.integrations.logging import STANDARD, LeewardHandler, _message
from leeward.scrub.values import bounded
from leeward.sender import exceptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any, Final

    from opentelemetry._logs import Logger, LoggerProvider

    from leeward.sender.client import Client

__all__ = ["OtelHandler"]

# A level of `logging` from the number on: OpenTelemetry's severity, and its name.
SEVERITIES: Final = (
    (50, SeverityNumber.FATAL, "FATAL"),
    (40, SeverityNumber.ERROR, "ERROR"),
    (30, SeverityNumber.WARN, "WARN"),
    (20, SeverityNumber.INFO, "INFO"),
    (10, SeverityNumber.DEBUG, "DEBUG"),
)
TRACE: Final = (SeverityNumber.TRACE, "TRACE")


class OtelHandler(LeewardHandler):
    """See the module. `client` is the one whose spool the provider's processor writes to."""

    def __init__(self, level: int | str, client: Client, provider: LoggerProvider) -> None:
        super().__init__(level, client)
        self._provider = provider
        self._loggers: dict[str, Logger] = {}  # the provider's own memory of them has a lock

    def _capture(self, record: logging.LogRecord) -> None:
        name = record.name or "root"
        logger = self._loggers.get(name)
        if logger is None:
            logger = self._loggers[name] = self._provider.get_logger(name)
        severity, level = _severity(record.levelno or 0)
        logger.emit(
            timestamp=int(record.created * 1e9),
            severity_number=severity,
            severity_text=level,
            body=_message(record),
            attributes=bounded(_attributes(record)),  # plain: the SDK prints a warning about anything else
        )


def _attributes(record: logging.LogRecord) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "code.file.path": record.pathname,
        "code.function.name": record.funcName,
        "code.line.number": record.lineno,
    }
    if record.stack_info:
        attributes["code.stacktrace"] = record.stack_info
    exception = record.exc_info[1] if record.exc_info else None
    if exception is not None:
        error = exceptions.describe(exception)
        attributes["exception.type"] = error["type"]
        attributes["exception.message"] = error["message"]
        attributes["exception.stacktrace"] = error["stack"]
    attributes.update((name, value) for name, value in record.__dict__.items() if name not in STANDARD)
    return attributes


def _severity(number: int) -> tuple[SeverityNumber, str]:
    for at_least, severity, name in SEVERITIES:
        if number >= at_least:
            return severity, name
    return TRACE
