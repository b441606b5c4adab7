"""Single keys from the terminal, without Enter. Ctrl+C and Ctrl+Z still do what they always do.

Promises  only a process in the terminal's foreground listens, and the terminal is put back as it was; twice is no harm.
Limits    nothing is listened to on Windows, or where stdin is no terminal.
"""

from __future__ import annotations

import os
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

__all__ = ["KeyPresses", "can_listen"]


def can_listen() -> bool:
    """Whether somebody may press a key: stdin is a terminal, and this process has it."""
    if sys.platform == "win32" or sys.stdin is None or not sys.stdin.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # another session's terminal: it is not ours to read
        return False


class KeyPresses:
    """Calls `on_key` on the loop with each key, from `start` to `stop`."""

    def __init__(self, on_key: Callable[[str], object]) -> None:
        self._on_key = on_key
        self._loop: AbstractEventLoop | None = None
        self._before: list[Any] | None = None

    def start(self, loop: AbstractEventLoop) -> None:
        """Listen. Call it only where `can_listen`."""
        assert sys.platform != "win32"
        import termios
        import tty

        terminal = sys.stdin.fileno()
        self._before = termios.tcgetattr(terminal)
        tty.setcbreak(terminal, termios.TCSANOW)
        self._loop = loop
        loop.add_reader(terminal, self._read)

    def stop(self) -> None:
        """Listen no more, and put the terminal back as it was."""
        self._leave()
        before, self._before = self._before, None
        if before is not None and sys.platform != "win32":
            import termios

            try:
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)
            except termios.error:
                pass  # boundary: the terminal is gone, and has no state any more

    def _leave(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(sys.stdin.fileno())

    def _read(self) -> None:
        try:
            pressed = os.read(sys.stdin.fileno(), 64)
        except OSError:  # how Linux says that a terminal is gone
            pressed = b""
        if not pressed:
            self._leave()
        for key in pressed.decode("ascii", "ignore"):
            self._on_key(key)
