"""The ASGI application: route table → access check → handler → answer. Deny by default.

Promises  No request reaches a handler without passing the check that its row asks for; a row of a protocol that keeps
          the key in a place of its own leaves the check to its handler, and the start-up self-check sees that it is done.
          Every refusal is an answer in the form of the row's protocol; whatever fails inside is a 503 that says nothing
          internal, and a log line that says it all.
          Browsers of other sites are answered on rows that say so, and there no cookie counts.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from leeward.errors import ConfigError, LeewardError, ProtocolError, RetryableError
from leeward.server.access import Identity, allows, basic_password, bearer, forbidden, key_tail, session_cookie
from leeward.server.cross_origin import cross_origin_headers, preflight
from leeward.server.http import ClientGone, Request, Response, error_response, failure
from leeward.server.routes import Route, wire_beside
from leeward.store.clickhouse import StoreUnavailable

if TYPE_CHECKING:
    from leeward.server.access import Access, Sessions
    from leeward.server.counters import Counters
    from leeward.server.http import Receive, Scope, Send
    from leeward.server.routes import Wire

__all__ = ["Dispatch", "Handler", "Refusal"]

Handler = Callable[[Request], Awaitable[Response]]
Refusal = Callable[[Request, LeewardError], Response]
"""An error in the form of a protocol."""

_SCOPES: Final = frozenset({"public", "write", "read", "chat", "admin"})
_NO_STORE: Final = (b"cache-control", b"no-store")
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_PARAMETER: Final = "{id}"
ADDRESS_CHARS_SHOWN: Final = 80
SEGMENT_CHARS_SHOWN: Final = 16  # a longer one may be a token


class _Methods:
    """What one path answers: method → (row, handler)."""

    __slots__ = ("by_method",)

    def __init__(self) -> None:
        self.by_method: dict[str, tuple[Route, Handler]] = {}

    @property
    def allowed(self) -> tuple[str, ...]:
        return tuple(sorted({*self.by_method, *(("HEAD",) if "GET" in self.by_method else ())}))

    @property
    def wire(self) -> Wire:
        """Of the path: all its rows have the same one."""
        return next(iter(self.by_method.values()))[0].wire

    def find(self, method: str) -> tuple[Route, Handler]:
        found = self.by_method.get("GET" if method == "HEAD" else method)
        if found is None:
            raise ProtocolError(
                "This address does not answer that method",
                code="method_not_allowed",
                status=405,
                details=self.allowed,
            )
        return found

    def for_other_origins(self) -> Route:
        """The row that tells what a browser of another site may do here."""
        for route, _ in self.by_method.values():
            if route.cors:
                return route
        return self.find("OPTIONS")[0]


class Dispatch:
    """The application. `handlers` has a function for every handler's name in *routes*.

    `refusals` has the form of errors for each protocol but our own; `note` is told of every error on a path that takes
    events.
    """

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
        refusals: Mapping[Wire, Refusal] | None = None,
        note: Callable[[Request, LeewardError], None] = lambda request, error: None,  # noqa: ARG005
    ) -> None:
        self.routes = routes
        self._access = access
        self._sessions = sessions
        self._counters = counters
        self._allowed_hosts = allowed_hosts
        self._report = report
        self._refusals = refusals or {}
        self._note = note
        self._exact: dict[str, _Methods] = {}
        self._templates: dict[str, _Methods] = {}
        self._places: dict[int, list[int]] = {}  # by a path's number of segments: which of them may stand for {id}
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
        segments = route.path.split("/")
        if _PARAMETER in segments:
            methods = self._templates.setdefault(route.path, _Methods())
            places = self._places.setdefault(len(segments), [])
            place = segments.index(_PARAMETER)
            if place not in places:
                places.append(place)
        else:
            methods = self._exact.setdefault(route.path, _Methods())
        methods.by_method[route.method] = (route, handler)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert scope["type"] == "http"
        request = Request(scope, receive, next(self._request_ids), send)
        try:
            response = await self._answer(request)
        except ClientGone:
            return
        self._counters.requests[response.status] += 1
        if not response.sent:
            await self._send(request, response, send)

    async def _answer(self, request: Request) -> Response:
        try:
            methods = self._methods_of(request)
            request.wire = methods.wire
            if request.method == "OPTIONS":
                return preflight(request, methods.allowed, methods.for_other_origins())
            route, handler = methods.find(request.method)
        except ProtocolError as error:
            if request.method == "POST":  # something was sent to a wrong address: whoever misses it looks for that
                request.route_path = _shown(request.path)
                self._note(request, error)
            wire = wire_beside(request.path) if error.code == "not_found" else request.wire
            return self._refusals.get(wire, _refuse)(request, error)
        response = await self._handled(request, route, handler)
        if route.cors:
            response.headers += cross_origin_headers(request, route)
        return response

    async def _handled(self, request: Request, route: Route, handler: Handler) -> Response:
        request.route_path = route.path
        refuse = self._refusals.get(route.wire, _refuse)
        try:
            self._admit(request, route)
            return await handler(request)
        except ProtocolError as error:
            self._count_refused(request, route, error)
            if route.page and error.status == 401:
                return Response(303, b"", [(b"location", b"/login")])
            return refuse(request, error)
        except ClientGone:
            raise
        except Exception as error:  # the one boundary: a handler's own failure must not end the connection unanswered
            # What the store says names files and addresses of this machine: for the log, as all that is not for callers.
            if isinstance(error, RetryableError) and not isinstance(error, StoreUnavailable):
                self._count_refused(request, route, error)
                return refuse(request, error)
            self._log_failure(request, error)
            return refuse(request, failure())

    def _count_refused(self, request: Request, route: Route, error: LeewardError) -> None:
        if route.scope == "write":  # only these bring events
            self._counters.refused[error.code] += 1
            self._counters.wire_items[route.wire, error.code] += 1
            self._note(request, error)

    def _methods_of(self, request: Request) -> _Methods:
        path = request.path
        if path.endswith("/") and path != "/":
            path = path[:-1]
        methods = self._exact.get(path)
        if methods is None:
            segments = path.split("/")
            for place in self._places.get(len(segments), ()):
                parameter = segments[place]
                if parameter:
                    template = "/".join([*segments[:place], _PARAMETER, *segments[place + 1 :]])
                    methods = self._templates.get(template)
                    if methods is not None:
                        request.path_parameter = parameter
                        return methods
            raise ProtocolError("There is nothing at this address", code="not_found", status=404)
        return methods

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
        if route.key_in == "wire":
            return  # its handler looks for the key where the protocol has it
        if route.key_in == "basic":
            token = basic_password(request.headers)
            request.key_tail = key_tail(token)
            request.identity = self._access.admit_token(token, request.client_address, route.scope)
            return
        request.key_tail = key_tail(bearer(request.headers)) if route.scope == "write" else ""
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
        # Not on other protocols: Chromium does not drain an answer that may not be stored and that nobody reads, and
        # after 64 KiB of them an SDK that sends with `keepalive`, as Sentry's does, can send no more.
        if request.wire == "native" and not any(name == b"cache-control" for name, _ in headers):
            headers.append(_NO_STORE)
        if response.status >= 400 and response.status in _FRAMING_ERRORS:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})


def _shown(path: str) -> str:
    """An unknown address without what may be secret in it."""
    segments = (part if len(part) <= SEGMENT_CHARS_SHOWN else "…" for part in path.split("/"))
    return "/".join(segments)[:ADDRESS_CHARS_SHOWN]


def _refuse(request: Request, error: LeewardError) -> Response:  # noqa: ARG001 - as every form of refusal
    """Our own form."""
    return error_response(error)


_FRAMING_ERRORS: Final = frozenset(
    {408}
)  # the body does not come; after a 413 its rest is read, so that the answer is heard
