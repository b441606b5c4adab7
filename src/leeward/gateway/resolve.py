"""Names → addresses, for an event loop, though `getaddrinfo` blocks.

Promises  look-ups run on at most `THREADS_MAX` helper threads, which nothing waits for: neither the loop nor the end of
          the process. Who asks for a name that is being looked up waits for the same look-up. A caller is never kept
          longer than the time-out that stands around its call. `addresses` raises `DnsError` and nothing else.
Stale addresses beat none: when a look-up fails, hangs for `KNOWN_WAIT_S`, or cannot have a thread, the last addresses of
that name are used, if they are no older than `KNOWN_AGE_MAX_S`. TLS still proves who answers there, and the caller
checks every address again.
Limits    a hung look-up keeps its thread until the system's resolver gives up.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from typing import TYPE_CHECKING, Final

from leeward.sender.resolver import KNOWN_AGE_MAX_S, KNOWN_WAIT_S, DnsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from leeward.clock import Clock

    LookUp = Callable[[str, int], list[str]]

__all__ = ["DnsError", "Resolver", "getaddrinfo"]

THREADS_MAX: Final = 4
NAMES_MAX: Final = 256


def getaddrinfo(name: str, port: int) -> list[str]:
    """What the system says, the two families in turn: if one leads nowhere, the second try is of the other."""
    found = [entry[4][0] for entry in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]
    first_has_colon = ":" in str(found[0])
    families = ([a for a in found if (":" in str(a)) is same] for same in (first_has_colon, not first_has_colon))
    return [str(a) for pair in itertools.zip_longest(*families) for a in pair if a is not None]


class Resolver:
    """Belongs to one event loop. `look_up` stands for the system's resolver and runs on a helper thread."""

    def __init__(self, clock: Clock, look_up: LookUp = getaddrinfo) -> None:
        self._clock = clock
        self._look_up = look_up
        self._running: dict[tuple[str, int], list[asyncio.Future[list[str]]]] = {}
        self._known: dict[tuple[str, int], tuple[list[str], float]] = {}

    async def addresses(self, name: str, port: int) -> list[str]:
        """At least one; a `DnsError` if there is none."""
        loop = asyncio.get_running_loop()
        key = (name, port)
        known, since_s = self._known.get(key, ([], 0.0))
        if self._clock.monotonic_s() - since_s > KNOWN_AGE_MAX_S:
            known = []
        waiting = self._running.get(key)
        if waiting is None:
            waiting = self._start(loop, key)
        answer: asyncio.Future[list[str]] = loop.create_future()
        waiting.append(answer)
        timer = loop.call_later(KNOWN_WAIT_S, _give, answer, known) if known else None
        try:
            found = await answer
        finally:
            if timer is not None:
                timer.cancel()
        if not (found or known):
            raise DnsError("the name does not resolve")
        return found or known

    def _start(self, loop: asyncio.AbstractEventLoop, key: tuple[str, int]) -> list[asyncio.Future[list[str]]]:
        """Look up; who waits is told on the loop, that nothing was found if there is no thread for it."""
        if len(self._running) >= THREADS_MAX:
            waiting: list[asyncio.Future[list[str]]] = []
            loop.call_soon(_give_all, waiting, [])
            return waiting
        waiting = self._running[key] = []
        try:
            threading.Thread(target=self._run, args=(loop, key), name="leeward-dns", daemon=True).start()
        except RuntimeError:  # refused, as it is while the interpreter ends
            loop.call_soon(self._found, key, [])
        return waiting

    def _run(self, loop: asyncio.AbstractEventLoop, key: tuple[str, int]) -> None:
        """The helper thread."""
        try:
            found = self._look_up(*key)
        except Exception:
            found = []  # boundary: whatever the system's or a given resolver raises, it means "not found"
        try:
            loop.call_soon_threadsafe(self._found, key, found)
        except RuntimeError:
            pass  # the loop is closed: nobody waits

    def _found(self, key: tuple[str, int], found: list[str]) -> None:
        if found:
            if len(self._known) >= NAMES_MAX:
                self._known.clear()
            self._known[key] = (found, self._clock.monotonic_s())
        _give_all(self._running.pop(key), found)


def _give_all(waiting: list[asyncio.Future[list[str]]], found: list[str]) -> None:
    for answer in waiting:
        _give(answer, found)


def _give(answer: asyncio.Future[list[str]], found: list[str]) -> None:
    if not answer.done():
        answer.set_result(found)
