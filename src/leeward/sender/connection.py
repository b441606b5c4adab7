"""One connection: bytes out, an answer in, all by a deadline, whatever the other side does.

Promises  an exchange ends by its deadline. An answer that begins before the request is sent is heard (413 does that,
          and then nobody reads on). What came in time is read even if this process was stopped past the deadline.
          A host program may close descriptors that are not its own (`os.closerange`), and the number may be another
          file's by now: each use begins with a look at the inode, and a number that is no longer ours is neither
          written nor closed.
Limits    between that look and the system call there is a gap of a microsecond, and a read that already waits cannot
          look again.
"""

from __future__ import annotations

import os
from stat import S_ISSOCK

from leeward.sender.proxy import ProxyError
from leeward.sender.resolver import DnsError
from leeward.sender.sockets import network

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Any, Final

    from leeward.clock import Clock
    from leeward.sender.answers import AnswerParser

__all__ = ["IDLE_MAX_S", "Connection", "cause"]

IDLE_MAX_S: Final = 30.0  # a connection older than this has probably been closed by something in between
LISTEN_EVERY_S: Final = 0.1  # while the other side does not read: how soon its answer is heard
READ_BYTES: Final = 65536
_WOULD_BLOCK: Final = frozenset({"BlockingIOError", "SSLWantReadError", "SSLWantWriteError"})  # named: no ssl for http


class Connection:
    """Owns a stream socket. One thread uses it; `abandon` alone may be called by a forked child.

    `prefix` and `credentials` are what a request needs of this way: for a proxy that forwards, the server's URL in
    front of the path, and the login.
    """

    def __init__(self, connection: Any, clock: Clock) -> None:
        self._socket = connection
        self._clock = clock
        self._identity = _identity(connection.fileno())
        self._used_at_s = clock.monotonic_s()
        self.prefix = b""
        self.credentials = b""

    def connect(self, address: Any, timeout_s: float) -> None:
        """Connect to an address as `getaddrinfo` gives it."""
        self._socket.settimeout(timeout_s)
        self._socket.connect(address)
        sockets = network()
        self._socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)

    def secure(self, context: ssl.SSLContext, name: str, deadline_s: float) -> None:
        """Turn to TLS; who answers must prove to be `name`."""
        self._socket = context.wrap_socket(self._socket, server_hostname=name, do_handshake_on_connect=False)
        self._socket.settimeout(self._left_s(deadline_s))
        self._socket.do_handshake()

    def is_fresh(self) -> bool:
        """Whether a request may leave on it after a pause: not old, not closed, and nothing unasked for has come."""
        if self._clock.monotonic_s() - self._used_at_s > IDLE_MAX_S:
            return False
        try:
            return self._read_now() is None
        except OSError:
            return False

    def exchange(self, request: bytes, answer: AnswerParser, deadline_s: float) -> bool:
        """Send the request and hear the answer, which is `done` then. Returns whether another may follow."""
        unsent = memoryview(request)
        try:
            unsent = self._send(unsent, answer, deadline_s)
            while not answer.done:
                data = self._read(deadline_s)
                if data:
                    answer.feed(data)
                else:
                    answer.end()
        except OSError as error:
            answer.cut(cause(error))
        self._used_at_s = self._clock.monotonic_s()
        return answer.keep and not unsent

    def close(self) -> None:
        """Close it, if the descriptor is still ours."""
        if _identity(self._socket.fileno()) == self._identity:
            self._socket.close()
        else:
            self._socket.detach()

    def abandon(self) -> None:
        """Give back what was inherited over a fork, without a word on the wire: the connection is the parent's."""
        ours = _identity(self._socket.fileno()) == self._identity
        descriptor = self._socket.detach()
        if ours:
            os.close(descriptor)  # `network` may import, which a fork's hook must not

    def _send(self, unsent: memoryview, answer: AnswerParser, deadline_s: float) -> memoryview:
        """Send, and listen in between. Returns what was left when the answer came first."""
        while unsent and not answer.done:
            self._check()
            self._socket.settimeout(min(self._left_s(deadline_s), LISTEN_EVERY_S))
            try:
                unsent = unsent[self._socket.send(unsent) :]
            except TimeoutError:
                if self._clock.monotonic_s() >= deadline_s:
                    raise
            except OSError:
                return unsent  # closed: by an answer perhaps, which is read next; if not, reading says what happened
            data = self._read_now() if unsent else None
            if data is not None:
                answer.feed(data)
            if data == b"":
                answer.end()
        return unsent

    def _read(self, deadline_s: float) -> bytes:
        self._check()
        self._socket.settimeout(self._left_s(deadline_s))
        try:
            return self._socket.recv(READ_BYTES)  # type: ignore[no-any-return]
        except TimeoutError:
            data = self._read_now()  # the process may have been stopped meanwhile: what came in time is still there
            if data is None:
                raise
            return data

    def _read_now(self) -> bytes | None:
        """What has come already; None if nothing has."""
        self._check()
        self._socket.settimeout(0)
        try:
            return self._socket.recv(READ_BYTES)  # type: ignore[no-any-return]
        except OSError as error:
            if type(error).__name__ in _WOULD_BLOCK:
                return None
            raise

    def _check(self) -> None:
        if _identity(self._socket.fileno()) != self._identity:
            raise ConnectionAbortedError("the descriptor is no longer this connection")

    def _left_s(self, deadline_s: float) -> float:
        return max(0.001, deadline_s - self._clock.monotonic_s())  # zero would mean: do not wait at all


def cause(error: Exception) -> str:
    """A stable tag for what went wrong on the way."""
    if isinstance(error, DnsError):
        return "dns"
    if isinstance(error, ProxyError):
        return "proxy"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionError):
        return "reset"
    if type(error).__module__ == "ssl":
        from leeward.sender import tls

        return tls.cause(error)  # type: ignore[arg-type]
    return "network"


def _identity(descriptor: int) -> tuple[int, int] | None:
    """Which socket this number is; None if it is none, and on systems where sockets are no files."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if S_ISSOCK(found.st_mode) else None
