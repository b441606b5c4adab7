"""A proxy before a server that refuses for a while, or loses the server's answers, as real ones do."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

LOST = 0  # instead of a status: the server gets the request, and the sender no answer
_OF_A_CONNECTION = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


class Proxy:
    """Passes requests on; `refuse` has it misbehave for a while."""

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.refused = 0
        self._until_s = 0.0
        self._status = 503
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.host = f"http://127.0.0.1:{self._http.server_address[1]}"

    def refuse(self, status: int, for_s: float) -> None:
        """From now on and for so long, answer with this status (or `LOST`)."""
        self._status, self._until_s = status, time.monotonic() + for_s

    def verdict(self) -> int | None:
        """What to answer to the request that has just come; None to pass it on."""
        if time.monotonic() >= self._until_s:
            return None
        self.refused += 1
        return self._status

    @contextlib.contextmanager
    def serving(self) -> Iterator[Proxy]:
        thread = threading.Thread(target=self._http.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            thread.join()
            self._http.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    owner: Proxy
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self._body()
        verdict = None if self.command == "OPTIONS" else self.owner.verdict()
        if verdict in {None, LOST}:
            status, headers, answer = self._pass_on(body)
        else:
            status, headers, answer = int(verdict or 0), [("Retry-After", "1"), *self._for_pages()], b"not now"
        if verdict == LOST:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        with contextlib.suppress(ConnectionError):  # who asked has left
            self.end_headers()
            self.wfile.write(answer)

    do_GET = do_POST = do_OPTIONS = handle_any  # noqa: N815 - http.server's names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.owner.server_port, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_A_CONNECTION}
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OF_A_CONNECTION]
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def _for_pages(self) -> list[tuple[str, str]]:
        """A page may only see what its origin is allowed to see."""
        origin = self.headers.get("Origin")
        if origin is None:
            return []
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Expose-Headers", "Retry-After"),
        ]

    def log_message(self, *_: Any) -> None:
        pass
