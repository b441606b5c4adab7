"""What browsers of other sites may do (CORS), on the paths that browser SDKs send to. Pure.

Such a path knows a caller by the key in the request and never by a cookie; so that any site may call it gives nothing
away. PostHog's SDK sends with credentials all the same and is only heard if they are allowed, so its paths name the
caller's origin; the others answer every origin alike.
Source    Fetch standard, section 3.2 (CORS protocol).
"""

from __future__ import annotations

import re
from typing import Final

from leeward.server.http import Headers, Request, Response
from leeward.server.routes import Route

__all__ = ["cross_origin_headers", "preflight"]

MAX_AGE_S: Final = 3600
_ORIGIN: Final = re.compile(rb"[\x21-\x7e]{1,300}")
_HEADER_NAMES: Final = re.compile(rb"[A-Za-z0-9_, -]{1,1000}")
_METHODS: Final = (b"access-control-allow-methods", b"GET, POST, OPTIONS")
_ANY_ORIGIN: Final = (b"access-control-allow-origin", b"*")
_CREDENTIALS: Final = (b"access-control-allow-credentials", b"true")
_VARY: Final = (b"vary", b"origin")
_EXPOSED: Final = (b"access-control-expose-headers", b"X-Sentry-Error, X-Sentry-Rate-Limits, Retry-After")
_STATUS_BODY: Final = b'{"status":1}'


def cross_origin_headers(request: Request, route: Route) -> Headers:
    """The headers of an answer, for a request that a page of some site sent; nothing for any other."""
    origin = request.header(b"origin")
    if not origin or _ORIGIN.fullmatch(origin) is None:
        return []
    if route.wire == "posthog":
        return [(b"access-control-allow-origin", origin), _CREDENTIALS, _VARY, _EXPOSED]
    return [_ANY_ORIGIN, _EXPOSED]


def preflight(request: Request, allowed: tuple[str, ...], route: Route) -> Response:
    """Answer OPTIONS: whether a page may send such a request. The request itself is judged when it comes."""
    headers = cross_origin_headers(request, route)
    if headers:
        headers += [_METHODS, (b"access-control-max-age", b"%d" % MAX_AGE_S)]
        asked = request.header(b"access-control-request-headers")
        if asked and _HEADER_NAMES.fullmatch(asked) is not None:
            headers.append((b"access-control-allow-headers", asked))
    headers.append((b"allow", ", ".join((*allowed, "OPTIONS")).encode()))
    if route.wire == "posthog":
        return Response(200, _STATUS_BODY, [(b"content-type", b"application/json"), *headers])
    return Response(204, b"", headers)
