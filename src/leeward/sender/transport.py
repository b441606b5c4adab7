"""One POST to the server over one kept connection. Imported by the worker: it brings http.client, and ssl for https.

Promises  `send` never raises for what the network or the server does; it returns an `Answer`. It ends by its deadline,
          whatever the other side does, but for the resolver, which cannot be given one (it runs on the worker's thread).
          An answer is hostile input: at most `ANSWER_BYTES_MAX` are read, no redirect is followed, and only a JSON
          object that names our batch is an acknowledgement. The key is added here and appears in no answer or cause.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import time
import zlib
from urllib.parse import urlsplit

from leeward.resilience.retry import parse_retry_after
from leeward.sender.config import VERSION
from leeward.sender.plan import Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from _typeshed import WriteableBuffer

    from leeward.clock import Clock
    from leeward.sender.config import Config

__all__ = ["ANSWER_BYTES_MAX", "HttpTransport"]

BATCH_PATH: Final = "/api/telemetry/batch"
ANSWER_BYTES_MAX: Final = 64 * 1024  # head and body together
CONNECT_TIMEOUT_S: Final = 5.0
EXCHANGE_TIMEOUT_S: Final = 15.0  # connect, request and answer together
IDLE_MAX_S: Final = 30.0  # a connection older than this has probably been closed by something in between
PACK_FROM_BYTES: Final = 1024
PACK_LEVEL: Final = 1  # level 6 costs twice as much and saves little
CODE_CHARS_MAX: Final = 40
STATUSES: Final = frozenset({"completed", "processing", "failed"})  # in all three the events are the server's now


class HttpTransport:
    """Sends batches of the native wire. One thread uses it; `abandon` alone may be called by a forked child."""

    def __init__(self, config: Config, clock: Clock, on_progress: Callable[[], None]) -> None:
        address = urlsplit(config.host)
        self._https = address.scheme.lower() == "https"
        self._name = address.hostname or ""
        self._port = address.port or (443 if self._https else 80)
        self._head = _head(address.path + BATCH_PATH, address.netloc, config)
        self._clock = clock
        self._on_progress = on_progress
        self._tls: Any = None
        self._socket: socket.socket | None = None
        self._used_at_s = 0.0

    def send(self, body: bytes, batch_id: str) -> Answer:
        """Post `body`, the batch named `batch_id`."""
        request = self._request(body)
        if self._socket is not None and self._clock.monotonic_s() - self._used_at_s > IDLE_MAX_S:
            self.close()
        kept = self._socket is not None
        deadline_s = self._clock.monotonic_s() + EXCHANGE_TIMEOUT_S
        answer = self._exchange(request, batch_id, deadline_s)
        if kept and answer.status == 0 and answer.cause == "reset":
            # The server closed the kept connection while we were sending. Repeating is safe: the batch has an id.
            answer = self._exchange(request, batch_id, deadline_s)
        return answer

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def abandon(self) -> None:
        """Give back a connection that was inherited over a fork, without a word on the wire: it is the parent's."""
        connection, self._socket = self._socket, None
        if connection is not None:
            os.close(connection.detach())

    def _request(self, body: bytes) -> bytes:
        if len(body) < PACK_FROM_BYTES:
            return b"%sContent-Length: %d\r\n\r\n%s" % (self._head, len(body), body)
        packer = zlib.compressobj(PACK_LEVEL, zlib.DEFLATED, 31)
        packed = packer.compress(body) + packer.flush()
        return b"%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (self._head, len(packed), packed)

    def _exchange(self, request: bytes, batch_id: str, deadline_s: float) -> Answer:
        try:
            connection = self._socket or self._connect(deadline_s)
            connection.settimeout(max(0.001, deadline_s - self._clock.monotonic_s()))
            try:
                connection.sendall(request)
            except ConnectionError:
                pass  # an answer may have come before all was sent: 413 does
            response = http.client.HTTPResponse(_Limited(connection, self._clock, deadline_s), method="POST")  # type: ignore[arg-type]
            response.begin()
            text = response.read(ANSWER_BYTES_MAX)
            keep = response.isclosed() and not response.will_close
            answer = _answer(response.status, response.headers, text, batch_id)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            return Answer(0, _cause(error))
        if keep:
            self._used_at_s = self._clock.monotonic_s()
        else:
            self.close()
        self._on_progress()
        return answer

    def _connect(self, deadline_s: float) -> socket.socket:
        """Try the name's addresses one after the other, all within the limit of one connect."""
        last: OSError = OSError("the name has no address")
        addresses = socket.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
        connect_by_s = min(deadline_s, self._clock.monotonic_s() + CONNECT_TIMEOUT_S)
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            left_s = connect_by_s - self._clock.monotonic_s()
            if left_s <= 0:
                break
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(left_s / (len(addresses) - tried))  # a dead address leaves time for the others
                connection.connect(address)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socket = self._secured(connection) if self._https else connection
            except OSError as error:
                connection.close()
                last = error
            else:
                self._on_progress()
                return self._socket
        raise last

    def _secured(self, connection: socket.socket) -> socket.socket:
        if self._tls is None:
            import ssl  # 10 ms that plain http does not pay

            self._tls = ssl.create_default_context()  # the system's own roots; SSL_CERT_FILE is honoured
        return self._tls.wrap_socket(connection, server_hostname=self._name)  # type: ignore[no-any-return]


class _Limited(io.RawIOBase):
    """A socket as `HTTPResponse` reads it: no wait outlives the deadline, and no more than the limit comes through."""

    def __init__(self, connection: socket.socket, clock: Clock, deadline_s: float) -> None:
        self._connection = connection
        self._clock = clock
        self._deadline_s = deadline_s
        self._left = ANSWER_BYTES_MAX

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        left_s = self._deadline_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise TimeoutError("the answer took too long")
        if self._left <= 0:
            raise _TooLong("the answer is too long")
        self._connection.settimeout(left_s)
        count = self._connection.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        return count


class _TooLong(ValueError):
    """The answer goes on beyond the limit."""


def _head(path: str, netloc: str, config: Config) -> bytes:
    agent = f"{config.app} leeward/{VERSION}".lstrip()
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: {netloc}",
        f"User-Agent: {agent}",
        f"Authorization: Bearer {config.api_key}",
        "Content-Type: application/json",
        "Accept: application/json",
        "",
    )
    return "\r\n".join(lines).encode("ascii")


def _answer(status: int, headers: http.client.HTTPMessage, text: bytes, batch_id: str) -> Answer:
    if status == 200:
        return _acknowledgement(text, batch_id)
    wait_s = parse_retry_after(headers.get("Retry-After"), time.time()) if status in {429, 503} else None
    return Answer(status, f"http_{status}", retry_after_s=wait_s)


def _acknowledgement(text: bytes, batch_id: str) -> Answer:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return Answer(200, "not_ours")
    if not isinstance(value, dict) or value.get("batch_id") != batch_id or value.get("status") not in STATUSES:
        return Answer(200, "not_ours")
    return Answer(200, "", acknowledged=True, refused=_refused(value.get("errors")))


def _refused(errors: object) -> dict[str, int]:
    """Code → count, of the events that the server did not take."""
    refused: dict[str, int] = {}
    for error in errors if isinstance(errors, list) else ():
        code = error.get("code") if isinstance(error, dict) else None
        name = code[:CODE_CHARS_MAX] if isinstance(code, str) else "refused"
        refused[name] = refused.get(name, 0) + 1
    return refused


def _cause(error: Exception) -> str:
    """A stable tag for what went wrong on the way."""
    if isinstance(error, socket.gaierror):
        return "dns"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (ConnectionError, http.client.RemoteDisconnected, EOFError)):
        return "reset"
    if type(error).__module__ == "ssl":
        return "tls"
    if isinstance(error, OSError):
        return "network"
    return "not_http"
