"""At start the server knocks at every door of its own that needs a key, without one, and must be turned away."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Final

from leeward.errors import ConfigError

if TYPE_CHECKING:
    from leeward.server.dispatch import Dispatch
    from leeward.server.routes import Route

__all__ = ["check_refusals"]

_REFUSED: Final = 401
_REFUSED_BY_SENTRY: Final = 403
_TO_LOGIN: Final = 303


async def check_refusals(dispatch: Dispatch) -> None:
    """Send every route that is not public a well-formed request without a key.

    Raises:
        ConfigError: a route answered anything but its refusal; the server must not start.
    """
    for route in dispatch.routes:
        if route.scope == "public":
            continue
        status = await _knock(dispatch, route)
        expected = _TO_LOGIN if route.page else _REFUSED_BY_SENTRY if route.wire == "sentry" else _REFUSED
        if status != expected:
            raise ConfigError(
                f"{route.method} {route.path} answered {status} to a request without a key: the server does not start",
                code="open_door",
            )


async def _knock(dispatch: Dispatch, route: Route) -> int:
    answers: list[MutableMapping[str, Any]] = []
    body = b"{}" if route.method in {"POST", "PATCH"} else b""

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        answers.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": route.method,
        "path": route.path.replace("{id}", "1"),
        "query_string": b"data=%7B%7D" if route.method == "GET" and route.key_in == "wire" else b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": (f"self-check {route.path}", 0),
    }
    await dispatch(scope, receive, send)
    return int(answers[0]["status"])
