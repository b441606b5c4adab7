"""The pages: signing in and out, overview and providers with their changing parts, refusals, static files.

Plain functions behind a small table. The route table has already found the path, checked the key or session and
bounded the request, which leaves nothing for a second router; forms here are a few fields each.

Promises  A one-time link is used up by GET only: the HEAD of a program that looks whether an address exists leaves it.
          Wrong keys and links count against the address that tries them. Every refusal is a page that reads well.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol

from leeward.errors import LeewardError, ProtocolError
from leeward.gateway.faults import FAULTS, fault_named
from leeward.server.access import (
    allows,
    csrf_matches,
    csrf_token,
    is_secret,
    session_cookie,
    session_cookie_cleared,
    session_cookie_set,
    unauthorized,
)
from leeward.server.dashboard import providers as gateway, refusals as refused, view
from leeward.server.dashboard.reading import Reader
from leeward.server.dashboard.render import page, static_file
from leeward.server.http import BodyLimits, ByteBudget, Request, Response, error_response, read_body

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.server.access import Access, Identity, Session
    from leeward.server.dashboard.overview import Overview
    from leeward.server.dashboard.providers import Providers, ProvidersView
    from leeward.server.refusals import Refusals

__all__ = ["Dashboard", "SignIn"]

FORM_LIMITS: Final = BodyLimits(packed_bytes_max=4096, unpacked_bytes_max=4096, timeout_s=10)
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,200}(:\d{1,5})?|\[[0-9a-f:]{2,39}\](:\d{1,5})?")
_FORM: Final = b"application/x-www-form-urlencoded"
_FOR_S_MAX: Final = 86_400
_OUTSIDE: Final = frozenset({b"cross-site", b"same-site"})


class SignIn(Protocol):
    """What the pages need of the control database."""

    def session(self, cookie: str) -> Session | None:
        """The session of this cookie."""
        ...

    async def redeem(self, secret: str) -> str | None:
        """Use a one-time link up: the cookie of a new session, or None."""
        ...

    async def sign_in(self, identity: Identity) -> str | None:
        """The cookie of a new session for the holder of a key, or None."""
        ...

    async def end_session(self, cookie: str) -> None:
        """End a session."""
        ...


class Dashboard:
    """Answers every row of the route table whose handler is `page`."""

    def __init__(
        self,
        overview: Overview,
        *,
        providers: Providers,
        refusals: Refusals,
        sign_in: SignIn,
        access: Access,
        clock: Clock,
        budget: ByteBudget,
        wait_s: float = 3.0,
    ) -> None:
        self._overview = overview
        self._providers = providers
        self._refusals = refusals
        self._sign_in = sign_in
        self._access = access
        self._clock = clock
        self._budget = budget
        self._reader = Reader(overview, wait_s=wait_s)
        self._pages: dict[tuple[str, str], Callable[[Request], Awaitable[Response]]] = {
            ("GET", "/static/{id}"): self._static,
            ("GET", "/login"): self._login_form,
            ("POST", "/login"): self._login,
            ("GET", "/login/{id}"): self._link,
            ("POST", "/logout"): self._logout,
            ("GET", "/"): self._overview_page,
            ("GET", "/overview"): self._overview_part,
            ("GET", "/providers"): self._providers_page,
            ("GET", "/providers/part"): self._providers_part,
            ("POST", "/providers/fault"): self._fault,
            ("GET", "/refused"): self._refused_page,
        }

    async def page(self, request: Request) -> Response:
        """Answer with a page, also when there is an error to tell of."""
        path = request.path.rstrip("/") or "/"
        if request.path_parameter:
            path = path.removesuffix(request.path_parameter) + "{id}"
        method = "GET" if request.method == "HEAD" else request.method
        try:
            return await self._pages[method, path](request)
        except LeewardError as error:
            return _error_page(error)

    # Overview

    async def _overview_page(self, request: Request) -> Response:
        return page("overview.html", view=await self._view(request), csrf=_csrf_of(request), origin=_origin(request))

    async def _overview_part(self, request: Request) -> Response:
        return page("overview_part.html", view=await self._view(request), origin=_origin(request))

    async def _view(self, request: Request) -> view.OverviewView:
        reading = await self._reader.read(request.project)
        return view.build(reading, self._overview.state(), self._clock.wall_ms())

    # Providers

    async def _providers_page(self, request: Request) -> Response:
        return page("providers.html", view=self._of_providers(request), csrf=_csrf_of(request), origin=_origin(request))

    async def _providers_part(self, request: Request) -> Response:
        shown = self._of_providers(request)
        return page("providers_part.html", view=shown, csrf=_csrf_of(request), origin=_origin(request))

    def _of_providers(self, request: Request) -> ProvidersView:
        identity = request.identity
        may_break = identity is not None and allows(identity.scope, "admin")
        return gateway.build(self._providers.reading(), self._clock.wall_ms(), may_break=may_break)

    async def _fault(self, request: Request) -> Response:
        """Switch a provider's fault on, or off where the form names none."""
        form = await self._own_form(request)
        provider, fault, for_s = form.get("provider", ""), form.get("fault", ""), form.get("for_s", "60")
        if not fault:
            await self._providers.chaos.clear(provider)
        elif fault not in FAULTS:
            raise ProtocolError("There is no such fault.", code="unknown_fault")
        elif not for_s.isascii() or not for_s.isdigit() or not 1 <= int(for_s[:9]) <= _FOR_S_MAX:
            raise ProtocolError("A fault lasts for 1 to 86,400 seconds.", code="invalid_field")
        else:
            await self._providers.chaos.set(provider, fault_named(fault), float(for_s))
        return _redirect("/providers")

    async def _refused_page(self, request: Request) -> Response:
        shown = refused.build(self._refusals.of_project(request.project), self._clock.wall_ms())
        return page("refusals.html", view=shown, csrf=_csrf_of(request))

    async def _static(self, request: Request) -> Response:
        answer = static_file(request.path_parameter)
        if answer is None:
            raise ProtocolError("There is nothing at this address.", code="not_found", status=404)
        return answer

    # Signing in and out

    async def _login_form(self, request: Request) -> Response:
        if self._signed_in(request):
            return _redirect("/")
        return page("login.html", problem="", details=())

    async def _login(self, request: Request) -> Response:
        token = (await self._form(request)).get("key", "").strip()
        try:
            identity = self._access.admit_token(token, request.client_address, "read")
            cookie = await self._sign_in.sign_in(identity)
            if cookie is None:
                raise unauthorized()
        except ProtocolError as error:
            problem = "This key is not valid here." if error.status == 401 else error.message
            return page("login.html", status=error.status, problem=problem, details=error.details)
        return _redirect("/", self._cookie_header(request, cookie))

    async def _link(self, request: Request) -> Response:
        if request.method == "HEAD":
            return page("link.html", opened=False)
        # A guess costs a write transaction: neither a spent address nor what cannot be a secret gets that far.
        self._access.failures.check(request.client_address)
        secret = request.path_parameter
        cookie = await self._sign_in.redeem(secret) if is_secret(secret) else None
        if cookie is None:
            if self._signed_in(request):
                return _redirect("/")
            self._access.failures.failed(request.client_address)
            return page("link.html", status=404, opened=False)
        # Not a redirect: a browser that came by a link on another site would follow it without the new, strict cookie.
        # The page that it gets instead goes on by itself, and from here.
        return page("link.html", headers=(self._cookie_header(request, cookie),), opened=True)

    async def _logout(self, request: Request) -> Response:
        cookie = session_cookie(request.headers)
        if cookie is not None:
            await self._own_form(request)
            await self._sign_in.end_session(cookie)
        return _redirect("/login", session_cookie_cleared(secure=_is_https(request)))

    def _signed_in(self, request: Request) -> bool:
        cookie = session_cookie(request.headers)
        return cookie is not None and self._sign_in.session(cookie) is not None

    def _cookie_header(self, request: Request, cookie: str) -> tuple[bytes, bytes]:
        session = self._sign_in.session(cookie)
        left_ms = session.expires_at - self._clock.wall_ms() if session else 0
        return session_cookie_set(cookie, seconds=left_ms // 1000, secure=_is_https(request))

    async def _own_form(self, request: Request) -> dict[str, str]:
        """A form that a page of this very session sent; whoever shows a key instead of a session needs no proof."""
        form = await self._form(request)
        cookie = session_cookie(request.headers)
        if cookie is not None and not csrf_matches(cookie, form.get("csrf", "")):
            raise ProtocolError("This form is not from a page of your session.", code="foreign_form", status=403)
        return form

    async def _form(self, request: Request) -> dict[str, str]:
        if request.header(b"sec-fetch-site") in _OUTSIDE:
            raise ProtocolError("This form was sent by another site.", code="foreign_form", status=403)
        if request.header(b"content-type").split(b";")[0].strip().lower() != _FORM:
            raise ProtocolError("A form is expected here.", code="unsupported_type", status=415)
        with self._budget.lease() as lease:
            body = await read_body(request, FORM_LIMITS, lease)
        try:
            return dict(urllib.parse.parse_qsl(body.decode("ascii"), errors="strict", max_num_fields=8))
        except ValueError:
            raise ProtocolError("The form cannot be read.", code="invalid_form") from None


def _csrf_of(request: Request) -> str:
    """What the forms of a page send back; nothing for who came without a session."""
    cookie = session_cookie(request.headers)
    return csrf_token(cookie) if cookie else ""


def _is_https(request: Request) -> bool:
    return request.scope.get("scheme") == "https"


def _origin(request: Request) -> str:
    """This server's address, as the reader knows it; fit to be pasted into a shell."""
    host = request.header(b"host").decode("latin-1")
    if _HOST.fullmatch(host) is None:
        host = "127.0.0.1:5330"
    return f"{'https' if _is_https(request) else 'http'}://{host}"


def _redirect(where: str, *headers: tuple[bytes, bytes]) -> Response:
    return Response(303, b"", [(b"location", where.encode()), *headers])


def _error_page(error: LeewardError) -> Response:
    """The same status and headers as the native answer, told to a person."""
    native = error_response(error)
    kept = tuple(header for header in native.headers if header[0] != b"content-type")
    return page("error.html", status=native.status, headers=kept, message=error.message)
