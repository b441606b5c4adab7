"""Exceptions that nobody handled are captured on their way out: of the program, of threads, of asyncio's callbacks.

    from leeward.integrations import hooks

    hooks.install()

Promises  the former hook runs afterwards, with the same arguments: traceback, exit code and everything else stay the
          program's. Nothing is sent here; the exit does that. An exception that was captured before is not captured
          again. KeyboardInterrupt and SystemExit are no errors. At an interactive prompt nothing is captured.
Limits    `watch_loop` is for one event loop; `install` watches the one that runs, if there is one. An exception that
          ends a process of `multiprocessing` is printed by that module and does not come here.
"""

from __future__ import annotations

import sys
import threading

from leeward.sender import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from leeward.sender.client import Client

__all__ = ["install", "uninstall", "watch_loop"]

_undo: list[Callable[[], None]] = []  # what `uninstall` does, last first


def install(
    *, sys_hook: bool = True, thread_hook: bool = True, asyncio_hook: bool = True, client: Client | None = None
) -> None:
    """Chain the hooks, each once.

    Args:
        sys_hook: `sys.excepthook`: what ends the program, captured as FATAL.
        thread_hook: `threading.excepthook`: what ends a thread.
        asyncio_hook: The exception handler of the event loop that runs just now; for one that does not, `watch_loop`.
        client: Who records; else `leeward.client`.
    """
    reporter = client or api.client
    if sys_hook and not isinstance(sys.excepthook, _SysHook):
        own = sys.excepthook = _SysHook(reporter, sys.excepthook)
        _undo.append(own.remove)
    if thread_hook and not isinstance(threading.excepthook, _ThreadHook):
        hook = threading.excepthook = _ThreadHook(reporter, threading.excepthook)
        _undo.append(hook.remove)
    if asyncio_hook and "asyncio" in sys.modules:
        from asyncio import get_running_loop

        try:
            loop = get_running_loop()
        except RuntimeError:
            return
        watch_loop(loop, client=client)


def watch_loop(loop: AbstractEventLoop | None = None, *, client: Client | None = None) -> None:
    """Capture what this event loop (else the running one) would report: errors of callbacks, of tasks nobody awaits.

    Raises:
        RuntimeError: No loop was given and none is running.
    """
    if loop is None:
        from asyncio import get_running_loop

        loop = get_running_loop()
    former = loop.get_exception_handler()
    if not isinstance(former, _LoopHandler):
        handler = _LoopHandler(client or api.client, former, loop)
        loop.set_exception_handler(handler)
        _undo.append(handler.remove)


def uninstall() -> None:
    """Put the former hooks back; one that somebody chained theirs onto stays, and captures nothing any more."""
    while _undo:
        _undo.pop()()
