"""A listener on loopback that does what a test says with each connection, in a thread of its own; TLS on demand.

Unlike `recorder` it knows no route and no wire: it is for what happens below them.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int  # the how manieth connection of the server it came on


Serve = Callable[["Canned", socket.socket], None]


class Canned:
    """`requests` has what `read` has read. An `OSError` in `serve` means that the client went away."""

    def __init__(self, serve: Serve, *, context: ssl.SSLContext | None = None, family: int = socket.AF_INET) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.closing = threading.Event()
        self._serve = serve
        self._mine = threading.local()  # what a connection's thread knows of it
        self._context = context
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        where = "127.0.0.1" if family == socket.AF_INET else "::1"
        self._listener = socket.create_server((where, 0), family=family, backlog=128)
        self.port = self._listener.getsockname()[1]
        self.authority = f"{where}:{self.port}" if family == socket.AF_INET else f"[{where}]:{self.port}"
        self.host = f"{'https' if context else 'http'}://{self.authority}"
        self._begin(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed already
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def read(self, connection: socket.socket) -> Request | None:
        """The next request, or None when the client closed."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        length = int(headers.get("content-length", 0))
        while len(body) < length:
            piece = connection.recv(65536)
            if not piece:
                return None
            body += piece
        request = Request(line, headers, body, self._mine.number)
        self.requests.append(request)
        return request

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(connection)
            self._begin(self._take, connection, self.connections)

    def _take(self, connection: socket.socket, number: int) -> None:
        self._mine.number = number
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection:
                self._serve(self, connection)
        except OSError:
            return


def polite(answer: bytes = OK) -> Serve:
    """Answer every request of a connection."""

    def serve(server: Canned, connection: socket.socket) -> None:
        while server.read(connection) is not None:
            connection.sendall(answer)

    return serve


def says(data: bytes) -> Serve:
    """Read one request, say this, and close."""

    def serve(server: Canned, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(data)

    return serve


def hangs(server: Canned, connection: socket.socket) -> None:
    """Take what comes, and say nothing."""
    server.closing.wait(60)


def in_turn(*serves: Serve) -> Serve:
    """The first connection gets the first of them, and so on; the last one stays."""

    left = list(serves)

    def serve(server: Canned, connection: socket.socket) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(server, connection)

    return serve


def reset(connection: socket.socket) -> None:
    """What is closed from here on is broken off."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
