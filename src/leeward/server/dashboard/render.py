"""Templates → answers with the headers that every page has. Jinja2 is imported with the first page, not with the server.

Promises  Every value is escaped (autoescape is always on, and no template marks anything as safe). A name that a template
          uses and nobody gave is an error, never an empty place.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from leeward.server.http import Response

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["PAGE_HEADERS", "page", "static_file"]

_HERE: Final = Path(__file__).parent

# No inline script or style, nothing from elsewhere, and no way from text to script: there is no Trusted Types policy,
# so the browser refuses every innerHTML and its kin.
CONTENT_SECURITY_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    b"form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
PAGE_HEADERS: Final = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_HTML: Final = (b"content-type", b"text/html; charset=utf-8")
_STATIC: Final = {
    "page.css": b"text/css; charset=utf-8",
    "page.js": b"text/javascript; charset=utf-8",
    "icon.svg": b"image/svg+xml",
}
_FOR_A_YEAR: Final = (b"cache-control", b"public, max-age=31536000, immutable")


def page(template: str, /, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = (), **values: Any) -> Response:
    """Render a template as a page. `headers` are added to those that every page has."""
    body = _environment().get_template(template).render(values)
    return Response(status, body.encode("utf-8", "replace"), [_HTML, *PAGE_HEADERS, *headers])


def static_file(name: str) -> Response | None:
    """A style, script or picture of the pages; None when there is none of that name."""
    kind = _STATIC.get(name)
    if kind is None:
        return None
    return Response(200, _content(name), [(b"content-type", kind), *PAGE_HEADERS, _FOR_A_YEAR])


@functools.cache
def _content(name: str) -> bytes:
    return (_HERE / "static" / name).read_bytes()


def _static_address(name: str) -> str:
    """The address of a static file; another one whenever its content is another, so that it may be kept for a year."""
    return f"/static/{name}?v={hashlib.sha256(_content(name)).hexdigest()[:12]}"


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - a server without readers is smaller

    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = _static_address
    return environment
