"""A line for the person who runs the host program, when they asked for it: rare, short, and never with a secret.

Rules     one line per cause and minute. With LEEWARD_DEBUG=1 it goes to stderr; else to the logger "leeward" at
          WARNING, and only if the program itself imported logging. By itself nothing is ever printed. A quiet client
          (mode "plain") says it at DEBUG.
          Only the worker and `init` say something: no lock of `logging` may be taken on the path of `capture`.
Promises  writing a note never raises: a stream that is closed, full or gone costs the line and nothing else.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from leeward.clock import Clock

__all__ = ["Notes"]

INTERVAL_S: Final = 60.0
CAUSES_MAX: Final = 100
SENTENCE_CHARS_MAX: Final = 500


class Notes:
    """Writes notes for one client."""

    __slots__ = ("_clock", "_debug", "_ignored", "_quiet", "_said_at_s")

    def __init__(self, clock: Clock, *, debug: bool, quiet: bool = False) -> None:
        self._clock = clock
        self._debug = debug
        self._quiet = quiet
        self._ignored: set[str] = set()
        self._said_at_s: dict[str, float] = {}

    def say(self, cause: str, sentence: str) -> None:
        """Write `sentence`, unless this cause had its line less than a minute ago."""
        now_s = self._clock.monotonic_s()
        said_at_s = self._said_at_s.get(cause)
        if said_at_s is not None and now_s - said_at_s < INTERVAL_S:
            return
        if len(self._said_at_s) >= CAUSES_MAX:
            self._said_at_s.clear()
        self._said_at_s[cause] = now_s
        self._write(sentence)

    def ignored(self, call: str, keywords: Iterable[str]) -> None:
        """With LEEWARD_DEBUG=1 only: one line for the keywords that `call` does not know, each seen once."""
        if not self._debug or len(self._ignored) >= CAUSES_MAX:
            return
        unseen = [keyword for keyword in keywords if keyword not in self._ignored]
        if unseen:
            self._ignored.update(unseen)
            self._write(f"{call} does not know {', '.join(unseen)[:SENTENCE_CHARS_MAX]}: ignored")

    def _write(self, sentence: str) -> None:
        try:
            if self._debug:
                if sys.stderr is not None:
                    sys.stderr.write(f"leeward: {sentence}\n")
                return
            logging = sys.modules.get("logging")
            if logging is not None:
                logger = logging.getLogger("leeward")
                if not logger.handlers:
                    logger.addHandler(logging.NullHandler())  # without one, logging would print by itself
                logger.log(logging.DEBUG if self._quiet else logging.WARNING, sentence)
        except Exception:
            # Boundary: a stream or a handler of the program's that cannot be written to is no reason to end anything.
            return
