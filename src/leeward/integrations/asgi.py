"""One span for each request of an ASGI application (FastAPI, Starlette, Quart, Litestar, …); no framework is imported.

    app.add_middleware(TelemetryMiddleware)        # FastAPI and Starlette
    app = TelemetryMiddleware(app)                 # any ASGI application

Promises  an answer is recorded after its last part was handed to the server and the server took it: nothing of ours
          stands before a byte of it. While an answer streams, nothing is sent. What the application raises goes on as
          it was, and no error of ours reaches it. Other scopes (lifespan) pass untouched.
Records   a span "POST /chat/{id}" with method, route, path, status, time to the first byte, size; who left too early
          (`interruption`). Everything that is captured while the request runs, background tasks included, carries its
          trace and correlation id. Never a query, a body, an address or another header than the ids.
Ids       x-request-id, x-correlation-id and traceparent of the request are taken if they are valid, else made; the
          answer has x-request-id and traceparent, unless the application set its own.
Limits    an exception that passes through before the answer is complete is captured at once: inside of a framework
          that answers it with 500, that is before this answer. Wrapped around the whole application it is after.
"""

from __future__ import annotations

import os

from leeward.integrations.spans import OpenSpan, type_name
from leeward.sender import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
    from typing import Any, Final

    from leeward.sender.blocks import Moment
    from leeward.sender.client import Client

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["TelemetryMiddleware"]

SKIP: Final = ("/health", "/healthz", "/livez", "/readyz", "/metrics")
ID_CHARS_MAX: Final = 128
CORRELATION_HEADER: Final = b"x-correlation-id"
TRACE_HEADER: Final = b"traceparent"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"})
BODY: Final = frozenset({"http.response.body", "http.response.zerocopysend", "http.response.pathsend"})
FAILED_FROM: Final = 500
LEFT_NAMES: Final = frozenset({"ClientDisconnect", "ClientDisconnected", "WebSocketDisconnect"})


class TelemetryMiddleware:
    """See the module.

    Args:
        app: The ASGI application.
        client: Who records; else `leeward.client`.
        capture_exceptions: Whether an exception that nobody handled is captured, besides failing the span.
        skip: Paths that are passed through without a trace, or a function of the scope that says so.
        request_id_header: Where the request's id stands in request and answer.
    """

    def __init__(
        self,
        app: App,
        *,
        client: Client | None = None,
        capture_exceptions: bool = True,
        skip: Collection[str] | Callable[[Scope], bool] = SKIP,
        request_id_header: str = "x-request-id",
    ) -> None:
        self.app = app
        self.client = client or api.client
        self.capture_exceptions = capture_exceptions
        self.skip = (skip,) if isinstance(skip, str) else skip
        self.request_id_header = request_id_header.lower().encode("latin-1")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, one web socket, or the lifespan."""
        visit = self._begin(scope, receive, send)
        if visit is None:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, visit.receive, visit.send)
        except BaseException as error:
            visit.failed(error)
            raise
        finally:
            visit.end()

    def _begin(self, scope: Scope, receive: Receive, send: Send) -> _Visit | None:
        """Who watches this scope; None if nobody does."""
        try:
            kind = _VISITS.get(scope["type"])
            if kind is None:
                return None
            skip = self.skip
            if skip(scope) if callable(skip) else scope["path"] in skip:
                return None
            return kind(self, scope, receive, send)
        except Exception as error:
            # Boundary: whatever fails in here, the request is served.
            self.client._swallow(error)
            return None


class _Visit:
    """What is known of a request, or of a web socket, while it lasts."""

    __slots__ = (
        "_client",
        "_correlation_id",
        "_error_type",
        "_interruption",
        "_is_recorded",
        "_left",
        "_middleware",
        "_path",
        "_receive",
        "_request_id",
        "_scope",
        "_send",
        "_span",
        "_status",
    )

    def __init__(self, middleware: TelemetryMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self._middleware = middleware
        self._client = middleware.client
        self._scope = scope
        self._receive = receive
        self._send = send
        self._path: str = scope["path"]  # now: a mounted application may change it
        self._status = 0
        self._error_type = ""
        self._interruption = ""
        self._left = False
        self._is_recorded = False
        request_id, correlation_id, traceparent = _ids(scope.get("headers", ()), middleware.request_id_header)
        self._request_id = request_id or correlation_id or os.urandom(16).hex()
        self._correlation_id = correlation_id or self._request_id
        self._span = OpenSpan(self._client, traceparent=traceparent, correlation_id=self._correlation_id)

    async def receive(self) -> Message:
        """The server's, looked at for the end of the connection."""
        message = await self._receive()
        self._guarded(self._received, message)
        return message

    async def send(self, message: Message) -> None:
        """The server's; what it took is noted afterwards."""
        message = self._guarded(self._marked, message) or message
        try:
            await self._send(message)
        except OSError:
            self._left = True  # the connection broke under the answer
            raise
        self._guarded(self._sent, message)

    def failed(self, error: BaseException) -> None:
        """An exception leaves the application."""
        self._guarded(self._note_failure, error)

    def end(self) -> None:
        """The application has returned."""
        self._guarded(self._end)

    def _guarded(self, action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except Exception as error:
            # Boundary: as in `_begin`.
            self._client._swallow(error)
            return None

    if TYPE_CHECKING:

        def _received(self, message: Message) -> None:
            """The application got this message."""
            ...

        def _sent(self, message: Message) -> None:
            """The server took this message."""
            ...

        def _record(self) -> None:
            """It is over."""
            ...

    def _marked(self, message: Message) -> Message:
        """The message as it goes to the server."""
        return message

    def _end(self) -> None:
        try:
            if not self._is_recorded:
                self._record()
        finally:
            self._span.leave(forget=True)  # the next request may run in the same task

    def _note_failure(self, error: BaseException) -> None:
        if not isinstance(error, Exception):
            self._interruption = self._interruption or "cancelled"
            return
        if self._left and (isinstance(error, OSError) or type(error).__name__ in LEFT_NAMES):
            return
        self._error_type = type_name(error)
        if self._middleware.capture_exceptions:
            self._client._record_once(error, self._where(), {"handled": False, "level": "ERROR"})

    def _where(self) -> dict[str, Any]:
        """What was asked for, as far as it is known by now."""
        properties: dict[str, Any] = {"url.path": self._path}
        route = _route(self._scope, self._path)
        if route:
            properties["http.route"] = route
        if self._request_id != self._correlation_id:
            properties["request_id"] = self._request_id
        return properties

    def _record_span(self, name: str, properties: dict[str, Any]) -> None:
        self._is_recorded = True
        properties["span.kind"] = "server"
        if self._status:
            properties["http.response.status_code"] = self._status
        failed = bool(self._error_type) or self._status >= FAILED_FROM
        if failed:
            properties["error.type"] = self._error_type or str(self._status)
        if self._interruption or self._left:
            properties["interrupted"] = True
            properties["interruption"] = self._interruption or "disconnect"
        self._span.record(
            name,
            properties,
            duration_ms=self._span.elapsed_ms(),
            failed=failed,
            correlation_id=self._correlation_id,
        )


class _HttpRequest(_Visit):
    __slots__ = ("_busy", "_first_byte_ms", "_has_trailers", "_method", "_size")

    def __init__(self, middleware: TelemetryMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        self._method = method if method in METHODS else "_OTHER"
        self._busy: Moment | None = None
        self._first_byte_ms = 0.0
        self._has_trailers = False
        self._size = 0
        super().__init__(middleware, scope, receive, send)

    def _received(self, message: Message) -> None:
        # After the answer a server says the same to everybody who asks; then it means nothing.
        if message["type"] == "http.disconnect" and not self._is_recorded:
            self._left = True

    def _marked(self, message: Message) -> Message:
        if message["type"] != "http.response.start":
            return message
        self._status = message["status"]
        self._has_trailers = bool(message.get("trailers"))
        headers = list(message.get("headers", ()))
        names = {bytes(name).lower() for name, _ in headers}
        for name, value in (
            (self._middleware.request_id_header, self._request_id),
            (TRACE_HEADER, self._span.traceparent),
        ):
            if name not in names:
                headers.append((name, value.encode("ascii")))
        return {**message, "headers": headers}

    def _sent(self, message: Message) -> None:
        kind = message["type"]
        if kind in BODY:
            if not self._first_byte_ms:
                self._first_byte_ms = self._span.elapsed_ms()
            self._size += len(message.get("body", b""))
            if message.get("more_body"):
                self._stream()
            elif not self._has_trailers:
                self._record()
        elif kind == "http.response.trailers" and not message.get("more_trailers"):
            self._record()

    def _stream(self) -> None:
        """More parts follow: nothing is sent until the last one is out."""
        if self._busy is None:
            self._busy = self._client.busy()
            self._busy.__enter__()

    def _end(self) -> None:
        if not self._is_recorded and not (self._error_type or self._interruption or self._left):
            self._interruption = "incomplete"
        super()._end()

    def _record(self) -> None:
        properties = {"http.request.method": self._method, **self._where()}
        if self._first_byte_ms:
            properties["time_to_first_byte_ms"] = self._first_byte_ms
            properties["http.response.body.size"] = self._size
        if self._error_type and not self._status:
            self._status = FAILED_FROM  # what whoever stands outside answers
        # A path that leads nowhere names nothing: whoever tries thousands must not make thousands of names.
        place = properties.get("http.route") or ("" if self._status in {0, 404, 405} else self._path)
        verb = "HTTP" if self._method == "_OTHER" else self._method
        try:
            self._record_span(f"{verb} {place}".rstrip(), properties)
        finally:
            if self._busy is not None:
                self._busy.__exit__(None, None, None)
                self._busy = None
                self._client.flush_soon()


class _WebSocket(_Visit):
    __slots__ = ("_code",)

    def __init__(self, middleware: TelemetryMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self._code = 0
        super().__init__(middleware, scope, receive, send)

    def _received(self, message: Message) -> None:
        if message["type"] == "websocket.disconnect":
            self._left = True  # how most web sockets end: see `_record`
            self._code = self._code or message.get("code") or 1005

    def _sent(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self._status = 101
        elif kind == "websocket.http.response.start":
            self._status = message["status"]
        elif kind == "websocket.close":
            self._code = message.get("code", 1000)
            self._status = self._status or 403

    def _record(self) -> None:
        properties = {"network.protocol.name": "websocket", **self._where()}
        if self._code and self._status == 101:
            properties["websocket.close.code"] = self._code
        self._left = False
        place = properties.get("http.route") or ("" if self._status != 101 else self._path)
        self._record_span(f"WEBSOCKET {place}".rstrip(), properties)


_VISITS: Final[dict[str, type[_Visit]]] = {"http": _HttpRequest, "websocket": _WebSocket}


def _ids(headers: Any, request_id_header: bytes) -> tuple[str, str, str]:
    """Request id, correlation id and traceparent; empty for each that is absent or not valid."""
    request_id = correlation_id = traceparent = ""
    for name, value in headers:
        if name == request_id_header:
            request_id = request_id or _valid_id(value)
        elif name == CORRELATION_HEADER:
            correlation_id = correlation_id or _valid_id(value)
        elif name == TRACE_HEADER:
            traceparent = value.decode("latin-1")
    return request_id, correlation_id, traceparent


def _valid_id(value: bytes) -> str:
    """The id, if it is visible ASCII and short: it goes into logs and headers of others."""
    if 0 < len(value) <= ID_CHARS_MAX and value.isascii():
        text = value.decode("ascii")
        if text.isprintable() and " " not in text:
            return text
    return ""


def _route(scope: Scope, path: str) -> str:
    """The whole template of a request's path, "/users/{id}"; empty if the framework left no route in the scope.

    What stands in front of the route's own template (a mounted application, a router's prefix) is taken from the path,
    with the parameters that are in it.
    """
    try:
        route = scope.get("route")
        template = getattr(route, "path_format", None) or getattr(route, "path", None)
        return _behind(path, template, scope.get("path_params") or {}) if isinstance(template, str) else ""
    except Exception:
        # A framework may call something else a route; the request is then named by its path.
        return ""


def _behind(path: str, template: str, path_params: Mapping[str, Any]) -> str:
    """The template with what stands in front of it in this path."""
    parameters = {f"{{{name}}}": str(value) for name, value in path_params.items()}
    end = template
    for mark, value in parameters.items():
        end = end.replace(mark, value)
    if not path.endswith(end):
        return template
    front = path[: len(path) - len(end)].split("/")
    marks = {value: mark for mark, value in parameters.items() if mark not in template}
    return "/".join(marks.get(part, part) for part in front) + template
