"""The ASGI application: route table → access check → handler → answer. Deny by default.

Promises  No request reaches a handler without passing the check that its row asks for. Every refusal is an answer in
          the native form; whatever fails inside is a 503 that says nothing internal, and a log line that says it all.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from leeward.errors import ConfigError, LeewardError, ProtocolError, RetryableError
from leeward.server.access import Identity, allows, forbidden, session_cookie
from leeward.server.http import ClientGone, Request, Response, error_response, failure_response
from leeward.server.routes import Route
from leeward.store.clickhouse import StoreUnavailable

if TYPE_CHECKING:
    from leeward.server.access import Access, Sessions
    from leeward.server.counters import Counters
    from leeward.server.http import Receive, Scope, Send

__all__ = ["Dispatch", "Handler"]

Handler = Callable[[Request], Awaitable[Response]]
_SCOPES: Final = frozenset({"public", "write", "read", "chat", "admin"})
_NO_STORE: Final = (b"cache-control", b"no-store")
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_PARAMETER: Final = "{id}"


class _Methods:
    """What one path answers: method → (row, handler)."""

    __slots__ = ("by_method",)

    def __init__(self) -> None:
        self.by_method: dict[str, tuple[Route, Handler]] = {}

    @property
    def allowed(self) -> tuple[str, ...]:
        return tuple(sorted({*self.by_method, *(("HEAD",) if "GET" in self.by_method else ())}))


class Dispatch:
    """The application. `handlers` has a function for every handler's name in *routes*."""

    def __init__(
        self,
        routes: Sequence[Route],
        handlers: Mapping[str, Handler],
        *,
        access: Access,
        sessions: Sessions,
        counters: Counters,
        allowed_hosts: Callable[[bytes], bool],
        report: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self.routes = routes
        self._access = access
        self._sessions = sessions
        self._counters = counters
        self._allowed_hosts = allowed_hosts
        self._report = report
        self._exact: dict[str, _Methods] = {}
        self._by_prefix: dict[str, _Methods] = {}
        start = os.urandom(4).hex()
        self._request_ids = (f"{start}-{number:x}" for number in itertools.count(1))
        for route in routes:
            self._add(route, handlers)

    def _add(self, route: Route, handlers: Mapping[str, Handler]) -> None:
        if route.scope not in _SCOPES or (route.scope == "public") != (route.key_in == "none"):
            raise ConfigError(f"route {route.method} {route.path} does not say who may use it")
        handler = handlers.get(route.handler)
        if handler is None:
            raise ConfigError(f"route {route.method} {route.path} has no handler {route.handler}")
        if route.path.endswith(_PARAMETER):
            methods = self._by_prefix.setdefault(route.path.removesuffix(_PARAMETER), _Methods())
        else:
            methods = self._exact.setdefault(route.path, _Methods())
        methods.by_method[route.method] = (route, handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert scope["type"] == "http"
        request = Request(scope, receive, next(self._request_ids))
        try:
            response = await self._answer(request)
        except ClientGone:
            return
        self._counters.requests[response.status] += 1
        await self._send(request, response, send)

    async def _answer(self, request: Request) -> Response:
        route = None
        try:
            route, handler = self._find(request)
            self._admit(request, route)
            return await handler(request)
        except ProtocolError as error:
            self._count_refused(route, error)
            if route is not None and route.page and error.status == 401:
                return Response(303, b"", [(b"location", b"/login")])
            return error_response(error)
        except ClientGone:
            raise
        except Exception as error:  # the one boundary: a handler's own failure must not end the connection unanswered
            # What the store says names files and addresses of this machine: for the log, as all that is not for callers.
            if isinstance(error, RetryableError) and not isinstance(error, StoreUnavailable):
                self._count_refused(route, error)
                return error_response(error)
            self._log_failure(request, error)
            return failure_response()

    def _count_refused(self, route: Route | None, error: LeewardError) -> None:
        if route is not None and route.scope == "write":  # only these bring events
            self._counters.refused[error.code] += 1

    def _find(self, request: Request) -> tuple[Route, Handler]:
        path = request.path
        if path.endswith("/") and path != "/":
            path = path[:-1]
        methods = self._exact.get(path)
        if methods is None:
            prefix, _, parameter = path.rpartition("/")
            methods = self._by_prefix.get(prefix + "/") if parameter else None
            if methods is None:
                raise ProtocolError("There is nothing at this address", code="not_found", status=404)
            request.path_parameter = parameter
        found = methods.by_method.get("GET" if request.method == "HEAD" else request.method)
        if found is None:
            raise ProtocolError(
                "This address does not answer that method",
                code="method_not_allowed",
                status=405,
                details=methods.allowed,
            )
        return found

    def _admit(self, request: Request, route: Route) -> None:
        if route.page and not self._allowed_hosts(request.header(b"host")):
            raise ProtocolError(
                "This server is not known by that name; add it to [server] allowed_hosts",
                code="unknown_host",
                status=421,
            )
        if route.scope == "public":
            return
        if route.key_in == "header or session":
            cookie = session_cookie(request.headers)
            session = self._sessions.find(cookie) if cookie else None
            if session is not None:
                if not allows(session.scope, route.scope):
                    raise forbidden(session.scope, route.scope)
                request.identity = Identity(session.project, session.scope, session.key_id, "")
                return
        request.identity = self._access.admit(
            request.headers, request.query_string, request.client_address, route.scope
        )

    def _log_failure(self, request: Request, error: Exception) -> None:
        self._report(
            "request_failed",
            {"request_id": request.request_id, "method": request.method, "path": request.path[:200], "error": error},
        )

    async def _send(self, request: Request, response: Response, send: Send) -> None:
        body = response.body
        headers = response.headers
        headers.append((b"content-length", b"%d" % len(body)))
        headers.append((b"x-request-id", request.request_id.encode()))
        headers.append(_NOSNIFF)
        if not any(name == b"cache-control" for name, _ in headers):
            headers.append(_NO_STORE)
        if response.status >= 400 and response.status in _FRAMING_ERRORS:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})


_FRAMING_ERRORS: Final = frozenset({408, 413})  # the rest of the body was not read
