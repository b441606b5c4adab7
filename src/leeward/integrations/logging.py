"""What a program logs becomes log events, and exceptions where a record carries one.

    from leeward.integrations.logging import setup

    setup(level="INFO")                                   # once, after the program has configured its logging

Promises  nothing is printed, and what the program's other handlers print stays the same. A record never waits for a
          lock here or for the network: this handler has none, and an event is one append. An error of ours, or of the
          record's own arguments, does not reach the program. What is logged while a record is being captured (by a
          `before_send`, say) and what leeward itself logs is left out: no circle.
Records   level, message, `logger`, `module`, `function`, `line`, and whatever `extra` brought; the time is the
          record's. A record with `exc_info` is captured as that exception, with its message as a property; if that
          exception was captured before, it is a log line.
Limits    the logger's own level decides first: with `logging`'s defaults, lines below WARNING never come here.
          `basicConfig` does nothing once a root logger has a handler, this one included: call it before `setup`.
"""

from __future__ import annotations

import logging
import threading

from leeward.sender import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from leeward.sender.client import Client

__all__ = ["LeewardHandler", "setup"]

OWN: Final = "leeward"
# What every record has; the rest came by `extra`. The last are set by formatters.
STANDARD: Final = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "asctime",
    "message",
    "taskName",  # from Python 3.12 on
}
_inside = threading.local()


class LeewardHandler(logging.Handler):
    """See the module.

    Args:
        level: Records below it are left out.
        client: Who records; else `leeward.client`.
    """

    def __init__(self, level: int | str = logging.NOTSET, client: Client | None = None) -> None:
        super().__init__(level)
        self.client = client or api.client

    def createLock(self) -> None:  # noqa: N802 - the base class's name
        """None: there is nothing to protect, and nobody can wait for it, be it in a signal handler or after a fork."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> Any:
        """As `logging.Handler` does it, but without a lock."""
        chosen: Any = self.filter(record)
        if isinstance(chosen, logging.LogRecord):  # from Python 3.12 on a filter may replace it
            record = chosen
        if chosen:
            self.emit(record)
        last_resort = logging.lastResort
        if last_resort is not None and self._is_alone(record, last_resort.level):
            last_resort.handle(record)  # without this handler it would have been printed, so it still is
        return chosen

    def emit(self, record: logging.LogRecord) -> None:
        """Capture one record."""
        if getattr(_inside, "capture", False):
            return
        _inside.capture = True
        try:
            if not self.client.disabled and not _is_own(record.name):
                self._capture(record)
        except Exception as error:
            # Boundary: what goes wrong in here must not reach the line that logs.
            self.client._swallow(error)
        finally:
            _inside.capture = False

    def _capture(self, record: logging.LogRecord) -> None:
        properties: dict[str, Any] = {
            "logger": record.name,
            "module": record.module,
            "function": record.funcName,
            "line": record.lineno,
        }
        if record.stack_info:
            properties["stack_info"] = record.stack_info
        properties.update((name, value) for name, value in record.__dict__.items() if name not in STANDARD)
        level = _level(record.levelno or 0)
        time_ms = int(record.created * 1000)
        exception = record.exc_info[1] if record.exc_info else None
        if exception is not None:
            from leeward.sender.exceptions import was_captured

            if not was_captured(exception):
                properties = {"message": _message(record), **properties}
                self.client.capture_exception(exception, properties, level=level, timestamp=time_ms)
                return
        self.client.log(level, _message(record), properties, timestamp=time_ms)

    def _is_alone(self, record: logging.LogRecord, level: int) -> bool:
        """Whether `logging` would have printed this itself: no handler but ours gets it, and of ours this one first."""
        name = record.name
        if type(name) is not str or record.levelno < level:  # without a name it came from no logger
            return False
        first = None
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            for handler in logger.handlers:
                if not isinstance(handler, LeewardHandler):
                    return False
                first = first or handler
            logger = logger.parent if logger.propagate else None
        return first is self


def setup(
    level: int | str = "INFO", logger: logging.Logger | str | None = None, client: Client | None = None
) -> LeewardHandler:
    """Capture what `logger` (else the root logger) logs from `level` on. Called again, it only sets the level.

    Returns:
        The handler, which `logger.removeHandler` takes away again.
    """
    target = logger if isinstance(logger, logging.Logger) else logging.getLogger(logger)
    wanted = client or api.client
    for handler in target.handlers:
        if isinstance(handler, LeewardHandler) and handler.client is wanted:
            handler.setLevel(level)
            return handler
    handler = LeewardHandler(level, wanted)
    target.addHandler(handler)
    return handler


def _level(number: int) -> str:
    """The step that a level of `logging`, or one of the program's own, is on."""
    if number >= logging.CRITICAL:
        return "FATAL"
    if number >= logging.ERROR:
        return "ERROR"
    if number >= logging.WARNING:
        return "WARN"
    return "INFO" if number >= logging.INFO else "DEBUG"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        # The arguments do not fit the text, or cannot be printed: the text alone is better than nothing.
        return record.msg if isinstance(record.msg, str) else type(record.msg).__name__


def _is_own(name: Any) -> bool:
    return type(name) is str and (name == OWN or name.startswith(f"{OWN}."))
