"""A POST to the server, over one kept connection. The worker imports it when the first batch is due.

Promises  `send` never raises for what the network or the server does; it returns a `Reply`. One deadline covers the
          name, the proxy, TLS and the whole exchange. An answer is hostile input: see `answers`. No redirect is
          followed, TLS is never given up for clear text, and what the caller's headers say is in no cause.
          A kept connection that the server has closed is replaced once, at once: what is sent must bear repeating.
It costs the worker 2 ms of imports (no http.client, no urllib; ssl and socket for https only).
Under gevent or eventlet the patched `socket` and `_thread` are used, see `sockets`: then the worker is a greenlet.
"""

from __future__ import annotations

import os
import zlib

from leeward.sender import address, proxy
from leeward.sender.answers import ANSWER_BYTES_MAX, AnswerParser, Reply
from leeward.sender.connection import Connection, cause
from leeward.sender.loading import LOADING
from leeward.sender.resolver import SHARED
from leeward.sender.sockets import network
from leeward.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence
    from typing import Final

    from leeward.clock import Clock
    from leeward.sender.config import Config
    from leeward.sender.proxy import Proxy
    from leeward.sender.resolver import Resolver

__all__ = ["ANSWER_BYTES_MAX", "CONNECT_TIMEOUT_S", "EXCHANGE_TIMEOUT_S", "HttpTransport", "Reply"]

CONNECT_TIMEOUT_S: Final = 5.0  # all addresses of a name together
EXCHANGE_TIMEOUT_S: Final = 15.0  # name, connection, request and answer together
PACK_FROM_BYTES: Final = 1024
PACK_LEVEL: Final = 1  # level 6 costs twice as much and saves little
PROXY_LOGIN_NEEDED: Final = 407


class HttpTransport:
    """Posts to `config.host`. One thread uses it; `abandon` alone may be called by a forked child.

    `on_progress` is called when a connection stands and when an answer has come. The environment (proxies, roots) is
    read when a connection is made.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        on_progress: Callable[[], None],
        *,
        timeout_s: float = EXCHANGE_TIMEOUT_S,
        environ: Mapping[str, str] = os.environ,
        resolver: Resolver = SHARED,
    ) -> None:
        self._server = address.parse(config.host)
        self._agent = f"{config.app} leeward/{VERSION}".lstrip()
        self._clock = clock
        self._on_progress = on_progress
        self._timeout_s = timeout_s
        self._environ = environ
        self._resolver = resolver
        self._tls: ssl.SSLContext | None = None
        self._connection: Connection | None = None

    def send(self, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> Reply:
        """Post `body` to `path`, which begins with a slash and is appended to the host's own path."""
        deadline_s = self._clock.monotonic_s() + self._timeout_s
        if self._connection is not None and not self._connection.is_fresh():
            self.close()
        kept = self._connection is not None
        head, body = self._request(path, headers, body)
        reply = self._exchange(head, body, deadline_s)
        if kept and reply.cause == "reset":
            reply = self._exchange(head, body, deadline_s)
        return reply

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def abandon(self) -> None:
        """Give back a connection that was inherited over a fork, without a word on the wire: it is the parent's."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    def _request(self, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> tuple[bytes, bytes]:
        """The head from the path on, without its last line end, and the body, packed if that pays."""
        lines = [
            f"{self._server.path}{path} HTTP/1.1",
            f"Host: {self._server.authority}",
            f"User-Agent: {self._agent}",
            "Accept-Encoding: identity",
            *(f"{name}: {value}" for name, value in headers),
        ]
        if len(body) >= PACK_FROM_BYTES:
            packer = zlib.compressobj(PACK_LEVEL, zlib.DEFLATED, 31)
            body = packer.compress(body) + packer.flush()
            lines.append("Content-Encoding: gzip")
        lines += [f"Content-Length: {len(body)}", ""]
        return "\r\n".join(lines).encode("ascii"), body

    def _exchange(self, head: bytes, body: bytes, deadline_s: float) -> Reply:
        answer = AnswerParser()
        keep = False
        try:
            connection = self._connection or self._connect(deadline_s)
            request = b"POST %s%s%s\r\n%s" % (connection.prefix, head, connection.credentials, body)
            keep = connection.exchange(request, answer, deadline_s)
        except (OSError, ImportError) as error:  # ImportError: no descriptor is left to read a module with
            answer.cut(cause(error))
        if not keep:
            self.close()
        if answer.status == PROXY_LOGIN_NEEDED:
            return Reply(0, "proxy")  # nobody but a proxy says this: the server has not seen the request
        reply = answer.reply(self._clock.wall_ms() / 1000)
        if reply.status:
            self._on_progress()
        elif reply.cause.startswith("tls"):
            self._tls = None  # built anew next time: its roots may have been unreadable, or put right meanwhile
        return reply

    def _connect(self, deadline_s: float) -> Connection:
        """Connect to the server, on whatever way the environment says."""
        server = self._server
        if server.https and self._tls is None:
            with LOADING:
                from leeward.sender import tls  # 15 ms that plain http does not pay

            self._tls = tls.client_context(self._environ)
        between = proxy.find(self._environ, server)
        if between is None:
            connection = self._reach(server.name, server.port, deadline_s)
        else:
            connection = self._reach_by(between, deadline_s)
        if self._tls is not None:
            connection.secure(self._tls, server.name, deadline_s)
        self._on_progress()
        return connection

    def _reach(self, name: str, port: int, deadline_s: float) -> Connection:
        """Try the name's addresses one after the other, all within the limit of one connect."""
        addresses = self._resolver.addresses(name, port, deadline_s=deadline_s, clock=self._clock)
        connect_by_s = min(deadline_s, self._clock.monotonic_s() + CONNECT_TIMEOUT_S)
        last: OSError = TimeoutError("no time is left to connect")
        for tried, (family, kind, protocol, _, where) in enumerate(addresses):
            left_s = connect_by_s - self._clock.monotonic_s()
            if left_s <= 0:
                break
            try:
                # Held from the first moment, so that a child that is forked now can give it back.
                self._connection = Connection(network().socket(family, kind, protocol), self._clock)
                self._connection.connect(where, left_s / (len(addresses) - tried))  # a dead one leaves time for others
            except OSError as error:
                self.close()
                last = error
            else:
                return self._connection
        raise last

    def _reach_by(self, between: Proxy, deadline_s: float) -> Connection:
        """Connect through a proxy: a tunnel for https; for http it is told the whole URL."""
        try:
            connection = self._reach(between.name, between.port, deadline_s)
        except OSError as error:
            raise proxy.ProxyError("the proxy cannot be reached") from error
        if not self._server.https:
            connection.prefix = b"http://" + self._server.authority.encode("ascii")
            connection.credentials = between.credentials
            return connection
        name = f"[{self._server.name}]" if ":" in self._server.name else self._server.name
        target = f"{name}:{self._server.port}"
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {self._agent}\r\n".encode("ascii")
        answer = AnswerParser(tunnel=True)
        if not connection.exchange(head + between.credentials + b"\r\n", answer, deadline_s) or answer.status >= 300:
            raise proxy.ProxyError("the proxy opens no tunnel")
        return connection
