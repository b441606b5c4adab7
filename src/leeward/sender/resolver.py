"""Names → addresses, within a deadline, though `getaddrinfo` knows none.

Promises  a literal address is resolved on the spot. A name is looked up on a helper thread, which is left alone at the
          deadline. A process has at most one such thread: while it hangs, every other look-up fails at once instead of
          adding a second one. `addresses` raises `DnsError` and nothing else.
Stale addresses beat none: when a look-up fails, hangs for `KNOWN_WAIT_S`, or cannot have a thread because the
interpreter ends, the last addresses of that name are used, if they are no older than `KNOWN_AGE_MAX_S` (one hour: what
a server that moves keeps its old address for; TLS still proves who answers there).
Limits    an abandoned look-up ends when the system's resolver gives up; nothing can end it sooner. What it finds by
          then is remembered.
"""

from __future__ import annotations

import _thread
import os

from leeward.sender.sockets import network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from leeward.clock import Clock

    Addresses = list[tuple[Any, ...]]  # as getaddrinfo gives them

__all__ = ["KNOWN_AGE_MAX_S", "KNOWN_WAIT_S", "SHARED", "DnsError", "Resolver"]

KNOWN_AGE_MAX_S: Final = 3600.0
KNOWN_WAIT_S: Final = 2.0  # how long a look-up may take when there are addresses to fall back on
NAMES_MAX: Final = 16


class DnsError(OSError):
    """The name has no address now."""


class _LookUp:
    """One look-up. `over` is held until it has ended; `addresses` stays empty if nothing was found."""

    __slots__ = ("abandoned", "addresses", "name", "over", "port")

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.abandoned = False
        self.addresses: Addresses = []
        self.over = _thread.allocate_lock()
        self.over.acquire()


class Resolver:
    """Any thread may ask. `look_up` stands for `getaddrinfo`, `start` for the start of a thread."""

    def __init__(
        self,
        look_up: Callable[..., Addresses] | None = None,
        start: Callable[[Callable[..., None], tuple[Any, ...]], object] | None = None,
    ) -> None:
        self._look_up = look_up
        self._start = start
        self._known: dict[tuple[str, int], tuple[Addresses, float]] = {}
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = _thread.allocate_lock()
        self._running: _LookUp | None = None

    def addresses(self, name: str, port: int, *, deadline_s: float, clock: Clock) -> Addresses:
        """What `getaddrinfo` says of it, at least one; a `DnsError` at the deadline, or when there is none."""
        found = self._literal(name, port)
        if found:
            return found
        if self._pid != os.getpid():
            self._begin()  # a forked child: the thread and whoever held the lock are the parent's
        known, since_s = self._known.get((name, port), ([], 0.0))
        now_s = clock.monotonic_s()
        if known and now_s - since_s <= KNOWN_AGE_MAX_S:
            found = self._ask(name, port, min(deadline_s, now_s + KNOWN_WAIT_S), clock) or known
        else:
            found = self._ask(name, port, deadline_s, clock)
        if not found:
            raise DnsError("the name does not resolve")
        return found

    def _literal(self, name: str, port: int) -> Addresses:
        sockets = network()
        try:
            return self._getaddrinfo(name, port, sockets.AI_NUMERICHOST)
        except OSError:
            return []  # a name

    def _getaddrinfo(self, name: str, port: int, flags: int) -> Addresses:
        sockets = network()
        # As bytes (a name is ASCII, see `address`): for text, getaddrinfo imports an encoding that costs 5 to 15 ms.
        return sockets.getaddrinfo(name.encode("ascii"), port, type=sockets.SOCK_STREAM, flags=flags)  # type: ignore[no-any-return]

    def _ask(self, name: str, port: int, deadline_s: float, clock: Clock) -> Addresses:
        while True:
            running = self._current(name, port, clock)
            if running is None or running.abandoned:
                return []
            if not running.over.acquire(timeout=max(0.0, deadline_s - clock.monotonic_s())):
                running.abandoned = True
                return []
            running.over.release()  # for others who wait for the same
            if (running.name, running.port) == (name, port):
                return running.addresses

    def _current(self, name: str, port: int, clock: Clock) -> _LookUp | None:
        """The look-up that runs, else a new one of this name; None if it cannot have a thread."""
        with self._lock:
            running = self._running
            if running is not None:
                return running
            self._running = running = _LookUp(name, port)
            try:
                # Looked up now, not at import: gevent may have put its own in place.
                (self._start or _thread.start_new_thread)(self._run, (running, clock))
            except RuntimeError:
                self._running = running = None  # refused, as it is while the interpreter ends
            return running

    def _run(self, running: _LookUp, clock: Clock) -> None:
        """The helper thread."""
        try:
            found = (self._look_up or self._getaddrinfo)(running.name, running.port, 0)
            if found:
                if len(self._known) >= NAMES_MAX:
                    self._known.clear()
                self._known[running.name, running.port] = (found, clock.monotonic_s())
            running.addresses = found
        except Exception:
            # Boundary: whatever the system's or a patched resolver raises, it means "not found", and a thread of ours
            # must not print a traceback.
            running.addresses = []
        finally:
            self._running = None
            running.over.release()


SHARED: Final = Resolver()  # of the process: so that a hanging name service gets one thread, not one per client
