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
from weakref import WeakSet

from leeward.sender import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from types import TracebackType
    from typing import Any, Final

    from leeward.sender.client import Client

__all__ = ["install", "uninstall", "watch_loop"]

_NO_ERRORS: Final = frozenset({"KeyboardInterrupt", "SystemExit", "GeneratorExit", "CancelledError"})
_chained: list[_Hook] = []  # of `sys` and `threading`
_loops: WeakSet[AbstractEventLoop] = WeakSet()


class _Hook:
    """Reports, then lets the former hook do its work. Without a client it only does the latter."""

    __slots__ = ("client", "former")

    def __init__(self, client: Client, former: Any) -> None:
        self.client: Client | None = client
        self.former = former

    def report(self, error: BaseException | None, level: str, properties: dict[str, Any]) -> None:
        if self.client is not None and isinstance(error, BaseException) and not _is_an_end(error):
            self.client._record_once(error, properties, {"handled": False, "level": level})


class _SysHook(_Hook):
    __slots__ = ()

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not hasattr(sys, "ps1"):  # else a person sits at a prompt, and the program goes on
            self.report(error, "FATAL", {"hook": "sys"})
        self.former(kind, error, trace)


class _ThreadHook(_Hook):
    __slots__ = ()

    def __call__(self, args: threading.ExceptHookArgs) -> None:
        thread = args.thread
        self.report(args.exc_value, "ERROR", {"hook": "threading", "thread": None if thread is None else thread.name})
        self.former(args)


class _LoopHandler(_Hook):
    __slots__ = ()

    def __call__(self, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        self.report(context.get("exception"), "ERROR", {"hook": "asyncio", "message": context.get("message")})
        if self.former is None:
            loop.default_exception_handler(context)
        else:
            self.former(loop, context)


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
        sys.excepthook = _SysHook(reporter, sys.excepthook)
        _chained.append(sys.excepthook)
    if thread_hook and not isinstance(threading.excepthook, _ThreadHook):
        threading.excepthook = _ThreadHook(reporter, threading.excepthook)
        _chained.append(threading.excepthook)
    if asyncio_hook and "asyncio" in sys.modules:
        from asyncio import get_running_loop

        try:
            loop = get_running_loop()
        except RuntimeError:
            return
        watch_loop(loop, client=reporter)


def watch_loop(loop: AbstractEventLoop | None = None, *, client: Client | None = None) -> None:
    """Capture the errors that this event loop (else the running one) reports: of callbacks, of tasks nobody awaits.

    Raises:
        RuntimeError: No loop was given and none is running.
    """
    if loop is None:
        from asyncio import get_running_loop

        loop = get_running_loop()
    former = loop.get_exception_handler()
    if not isinstance(former, _LoopHandler):
        loop.set_exception_handler(_LoopHandler(client or api.client, former))
        _loops.add(loop)


def uninstall() -> None:
    """Put the former hooks back. Where somebody chained theirs onto ours, ours stays and reports nothing any more."""
    while _chained:
        _chained.pop().client = None
    if isinstance(sys.excepthook, _SysHook):
        sys.excepthook = sys.excepthook.former
    if isinstance(threading.excepthook, _ThreadHook):
        threading.excepthook = threading.excepthook.former
    for loop in tuple(_loops):
        handler = loop.get_exception_handler()
        if isinstance(handler, _LoopHandler):
            loop.set_exception_handler(handler.former)
    _loops.clear()


def _is_an_end(error: BaseException) -> bool:
    """Whether it only says that the program or a task is to end; by name, since asyncio may not be loaded."""
    return not isinstance(error, Exception) and any(base.__name__ in _NO_ERRORS for base in type(error).__mro__)
