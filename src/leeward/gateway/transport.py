"""The gateway's way to its providers: HTTP/1.1 with kept connections, over TCP or TLS, on one event loop.

Promises  `begin` ends with a head or with a `TransportError`, by the deadline at the latest, and leaves no task, socket
          or timer behind when it is cancelled. The address of a name is checked at each connect, and that address is
          connected to. Redirects are answers like others. Certificates are always checked.
          One request goes out once, but for one case: a kept connection that was closed before a byte of the answer
          came, as happens when the other side closed it while we wrote. Then it is repeated once, on a new connection.
          What stands in a request's head was put there by us: CR, LF, NUL and whatever else is no header are refused.
Limits    no proxies, no HTTP/2, no content codings: we ask for `identity`. `sent` means "may have left": whether bytes
          in the kernel's buffer were ever on their way, nobody can know.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from leeward.gateway.connection import Connection
from leeward.gateway.exchange import Exchange, TransportError
from leeward.gateway.origin import Endpoint, check_address
from leeward.gateway.pool import Pool
from leeward.gateway.resolve import DnsError, Resolver
from leeward.sender.tls import cause, client_context

if TYPE_CHECKING:
    from collections.abc import Iterable

    from leeward.clock import Clock
    from leeward.gateway.exchange import Kind
    from leeward.gateway.origin import Origin

__all__ = ["Endpoint", "Exchange", "Transport", "TransportError", "TransportStatistics", "header_lines"]

ADDRESSES_MAX: Final = 4  # of one name are tried

_TARGET: Final = bytes(range(0x21, 0x7F))
_VALUE: Final = bytes([9, *range(0x20, 0x7F)])
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_OURS: Final = frozenset({
    "accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "proxy-authenticate",
    "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class TransportStatistics:
    """Counts since the start; `open` and `idle` are of now. `races`: requests repeated on a new connection."""

    connections_opened: int
    requests: int
    reused: int
    races: int
    open: int
    idle: int


def header_lines(fields: Iterable[tuple[str, str]]) -> bytes:
    """Header fields as they stand in a request. A `ValueError` names the field that is none, is ours, or is repeated."""
    lines = []
    seen = set()
    for name, value in fields:
        lower = name.lower()
        if not lower or not _TOKEN.issuperset(lower) or lower in _OURS or lower in seen:
            raise ValueError(f"the header {name!r} cannot be sent: it is no name, repeated, or the transport's own")
        seen.add(lower)
        if not value.isascii() or value.encode("ascii").translate(None, _VALUE) or value != value.strip():
            raise ValueError(f"the value of the header {name!r} has characters that no header has")
        lines.append(f"{lower}: {value}\r\n")
    return "".join(lines).encode("ascii")


class Transport:
    """Belongs to the event loop that first uses it. `resolver` and `tls` take the place of the system's."""

    def __init__(self, clock: Clock, *, resolver: Resolver | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._clock = clock
        self._resolver = resolver or Resolver(clock)
        self._tls = tls
        self._pool = Pool()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened = self._requests = self._reused = self._races = 0

    async def begin(
        self,
        endpoint: Endpoint,
        target: bytes,
        headers: bytes,
        body: bytes,
        *,
        method: bytes = b"POST",
        connect_timeout_s: float,
        head_timeout_s: float,
        deadline_s: float,
        stall_timeout_s: float | None,
        bytes_max: int,
        repeatable: bool = True,
    ) -> Exchange:
        """Send a request and wait for the head of its answer. `headers` come from `header_lines`.

        `deadline_s` is a moment of the clock, for the whole exchange; the others are lengths of time: to connect (TLS
        included), from then on to the head, and between two reads of the body.
        """
        loop = self._own_loop()
        _check_head(target, headers)
        if deadline_s <= self._clock.monotonic_s():
            raise TransportError("deadline", sent=False, detail="the time for the whole request is over")
        length = b"content-length: %d\r\n\r\n" % len(body) if body or method != b"GET" else b"\r\n"
        host = self._pool.host(endpoint)
        head = b"".join((method, b" ", target, host.fields, headers, length))
        self._requests += 1
        connection = host.take()
        reused = connection is not None
        while True:
            if connection is None:
                connection = await self._connect(endpoint, connect_timeout_s, deadline_s)
            exchange = Exchange(
                bytes_max=bytes_max,
                limit_s=deadline_s,
                stall_s=math.inf if stall_timeout_s is None else stall_timeout_s,
            )
            exchange.waiter = loop.create_future()
            connection.send(exchange, head, body, head_timeout_s)
            try:
                await exchange.waiter
            except asyncio.CancelledError:
                exchange.cancel()
                raise
            if exchange.kind is None:
                self._reused += reused
                return exchange
            if not (reused and repeatable and exchange.kind == "reset" and not exchange.started):
                raise exchange.error(exchange.kind)
            self._races += 1
            connection, reused = None, False

    def statistics(self) -> TransportStatistics:
        """How it goes."""
        hosts = self._pool.hosts.values()
        return TransportStatistics(
            connections_opened=self._opened,
            requests=self._requests,
            reused=self._reused,
            races=self._races,
            open=sum(host.open for host in hosts),
            idle=sum(len(host.idle) for host in hosts),
        )

    async def close(self) -> None:
        """Close every connection. Exchanges that are under way fail as `reset`; new ones are refused."""
        await self._pool.close()

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise RuntimeError("a Transport belongs to the event loop that first used it; make one for each loop")
            self._loop = loop
        return loop

    async def _connect(self, endpoint: Endpoint, connect_timeout_s: float, deadline_s: float) -> Connection:
        """A new connection, for the next request. Counts against `connections_max` from the first moment."""
        if self._pool.closed:
            raise TransportError("reset", sent=False, detail="the transport is closed")
        host = self._pool.host(endpoint)
        if not self._pool.reserve(host):
            raise TransportError("pool_full", sent=False, detail=f"{endpoint.connections_max} connections are in use")
        try:
            now_s = self._clock.monotonic_s()
            give_up_s = min(now_s + connect_timeout_s, deadline_s)
            late: Kind = "deadline" if give_up_s == deadline_s else "connect_timeout"
            addresses = await self._addresses(endpoint, give_up_s - now_s, late)
            connection = await self._dial(endpoint.origin, addresses, give_up_s, late)
        except BaseException:
            self._pool.give_back(host)
            raise
        connection.key = host
        self._opened += 1
        return connection

    async def _addresses(self, endpoint: Endpoint, wait_s: float, late: Kind) -> list[str]:
        """Those that may be connected to, at least one."""
        origin = endpoint.origin
        problem: Kind = late
        try:
            async with asyncio.timeout(wait_s):
                found = origin.addresses or await self._resolver.addresses(origin.host, origin.port)
        except TimeoutError:
            found, detail = (), "the look-up of the name took too long"
        except DnsError as error:
            found, problem, detail = (), "dns", str(error)
        allowed = []
        for address in found:
            reason = check_address(origin, address, private=endpoint.private)
            if reason:
                problem, detail = "forbidden_address", reason
            else:
                allowed.append(address)
        if not allowed:
            raise TransportError(problem, sent=False, detail=detail)
        return allowed[:ADDRESSES_MAX]

    async def _dial(self, origin: Origin, addresses: list[str], give_up_s: float, late: Kind) -> Connection:
        """Connect to one of the addresses, each in turn with its share of the time."""
        loop = asyncio.get_running_loop()
        tls = self._context() if origin.https else None
        kind, detail = late, "no time was left to connect"
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                async with asyncio.timeout((give_up_s - self._clock.monotonic_s()) / left):
                    return await self._open(loop, origin, address, tls)
            except TimeoutError:
                kind, detail = late, "nobody answered there"
            except OSError as error:
                kind, detail = _why(error)
                if kind == "tls":
                    break  # another address of the same name would show the same certificate
        raise TransportError(kind, sent=False, detail=detail)

    async def _open(
        self, loop: asyncio.AbstractEventLoop, origin: Origin, address: str, tls: ssl.SSLContext | None
    ) -> Connection:
        connection = Connection(loop, self._clock, self._pool)
        try:
            await loop.create_connection(
                lambda: connection, address, origin.port, ssl=tls, server_hostname=origin.host if tls else None
            )
        except BaseException:
            connection.connection_lost(None)  # uvloop closes the socket of a cancelled connect without saying so
            raise
        if connection.over:
            raise ConnectionAbortedError  # closed as soon as it was open, by the other side or by `close`
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = client_context(os.environ)
        return self._tls


def _check_head(target: bytes, headers: bytes) -> None:
    """The last look at what others made: a ValueError if it would begin a line or a head of its own."""
    if target[:1] != b"/" or target.translate(None, _TARGET):
        raise ValueError("a request's target begins with / and has no spaces or control characters")
    lines = headers.count(b"\n")
    if headers.translate(None, _VALUE) != b"\r\n" * lines or (headers and headers[-1:] != b"\n"):
        raise ValueError("the headers are no lines of header_lines")
    if b"\r\n\r" in headers or headers[:1] == b"\r":
        raise ValueError("the headers hold an empty line")


def _why(error: OSError) -> tuple[Kind, str]:
    """Why there is no connection."""
    if isinstance(error, ssl.SSLError):
        tag = cause(error)
        return ("reset", "closed in the handshake") if tag == "reset" else ("tls", tag)
    if isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError):
        return "reset", type(error).__name__
    return "connect_refused", errno.errorcode.get(error.errno or 0, type(error).__name__)
