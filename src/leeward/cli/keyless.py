"""OpenTelemetry without a key, in the demo alone: an application with default settings sends to 127.0.0.1:4318.

Promises  Only what comes over loopback, to that port, to OTLP's own paths, and not from a web page (`Origin`): a page of
          any site could otherwise fill the demo. Everything else there is refused as if nothing were there.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

__all__ = ["OTLP_PORT", "Keyless", "try_listen"]

OTLP_PORT: Final = 4318
_PATHS: Final = frozenset({"/v1/traces", "/v1/metrics", "/v1/logs"})

_NOWHERE: Final = "/-"

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


def try_listen(port: int = OTLP_PORT) -> socket.socket | None:
    """The port that OpenTelemetry's SDKs send to by default, if nobody has it: a collector may be running."""
    from leeward.errors import ConfigError
    from leeward.server.serve import bind

    try:
        return bind("127.0.0.1", port)
    except ConfigError:
        return None


class Keyless:
    """Gives requests that came to the keyless port the demo's own key, and lets all others pass as they are."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._header = (b"authorization", b"Bearer " + key.encode())

    async def __call__(self, app: _App, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        if scope["server"][1] == self._port:
            if not self._may_pass(scope):
                scope = {**scope, "path": _NOWHERE}
            else:
                kept = [header for header in scope["headers"] if header[0] not in {b"authorization", b"x-api-key"}]
                scope = {**scope, "headers": [*kept, self._header]}
        await app(scope, receive, send)

    def _may_pass(self, scope: _Scope) -> bool:
        path = scope["path"].rstrip("/")
        has_origin = any(name == b"origin" for name, _ in scope["headers"])
        return path in _PATHS and not has_origin and _is_loopback(scope.get("client"))


def _is_loopback(client: tuple[str, int] | None) -> bool:
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
