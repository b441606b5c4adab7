"""Modules that are imported on demand, and forks: a child must not inherit an import that nobody will finish.

Python locks each module while a thread imports it, and a fork does not give that lock back: the child would wait for
ever for a thread that it does not have. So what the client imports late, it imports inside `with LOADING:`, and a fork
by another thread waits for that: some 30 ms, once a process; at most `FORK_WAIT_S`.
Limits    A fork in C runs no hook, and one that has waited in vain goes on: `is_cut_off` says so in the child.
"""

from __future__ import annotations

import os
from _thread import get_ident
from time import monotonic, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from leeward.sender.config import Config

__all__ = ["FORK_WAIT_S", "LOADING", "Loading", "load"]

FORK_WAIT_S: Final = 2.0
LOOK_EVERY_S: Final = 0.001


class Loading:
    """Who imports just now. Entered and left in one step each: no lock, also for signal handlers."""

    __slots__ = ("_under_way",)

    def __init__(self) -> None:
        self._under_way: list[tuple[int, int]] = []

    def __enter__(self) -> None:
        self._under_way.append((os.getpid(), get_ident()))

    def __exit__(self, *_: object) -> None:
        own = get_ident()
        for entry in reversed(self._under_way):
            if entry[1] == own:  # entered before a fork, perhaps: then the number of the process is another
                self._under_way.remove(entry)
                return

    def wait(self, timeout_s: float = FORK_WAIT_S) -> None:
        """Wait until no other thread of this process imports. What our own thread is at, it goes on with in the child."""
        pid, own = os.getpid(), get_ident()
        until_s = monotonic() + timeout_s
        while any(entry[0] == pid and entry[1] != own for entry in self._under_way) and monotonic() < until_s:
            sleep(LOOK_EVERY_S)

    def is_cut_off(self) -> bool:
        """Whether this process was forked in the middle of an import of its parent's, and must not import the same."""
        pid, own = os.getpid(), get_ident()
        return any(entry[0] != pid and entry[1] != own for entry in self._under_way)


LOADING: Final = Loading()


def load(config: Config) -> None:
    """Import what any call may need: a signal handler must not find an import that it has interrupted itself."""
    with LOADING:
        from leeward.scrub import secrets
        from leeward.sender import blocks, exceptions  # noqa: F401 - loaded here, used later
        from leeward.sender.pipeline import encoder

        secrets.load()
        encoder(config.wire)
        config.folder  # noqa: B018 - worked out here, with hashlib


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=LOADING.wait)
