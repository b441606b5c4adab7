"""A gateway's server in this process, on a real socket with the server's own protocol; its log is a list."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from leeward.server.alone import GatewayAlone
from leeward.server.serve import _config, _Server, bind
from leeward.settings.tree import Settings
from server_process import Answer, Connection

ADMIN_KEY = f"lw_{'admin':x>32}"
CHAT_KEY = f"lw_{'chat':x>32}"


def settings_with(*providers: dict[str, Any], **further: Any) -> Settings:
    """Two keys, these providers, and a route `chat` to all of them; nobody looks at idle providers."""
    keys = [
        {"sha256": hashlib.sha256(key.encode()).hexdigest(), "scope": scope, "name": scope}
        for key, scope in ((ADMIN_KEY, "admin"), (CHAT_KEY, "chat"))
    ]
    gateway = {
        "providers": providers,
        "retry": {"base_s": 0.0, "cap_s": 0.0},
        "health": {"active": False},
        **further.pop("gateway", {}),
    }
    return msgspec.convert({"server": {"keys": keys}, "gateway": gateway, **further}, Settings)


class Served:
    """What answers, and the lines of its log."""

    def __init__(self, application: GatewayAlone, port: int, lines: list[tuple[str, dict[str, Any]]]) -> None:
        self.application = application
        self.port = port
        self.lines = lines

    async def ask(self, method: str, path: str, value: Any = None, *, key: str = CHAT_KEY, **headers: str) -> Answer:
        """One request on a connection of its own."""
        body = None if value is None else msgspec.json.encode(value)
        named = {name.replace("_", "-"): text for name, text in headers.items()}

        def asked() -> Answer:
            connection = Connection(self.port)
            try:
                return connection.ask(method, path, body, key=key, headers=named)
            except http.client.IncompleteRead as error:
                return Answer(0, {}, error.partial)
            finally:
                connection.close()

        return await asyncio.to_thread(asked)

    async def chat(self, text: str = "hello", *, model: str = "chat", **fields: Any) -> Answer:
        headers = fields.pop("headers", {})
        request = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return await self.ask("POST", "/v1/chat/completions", request, **headers)

    def named(self, event: str) -> list[dict[str, Any]]:
        """The lines of that name."""
        return [fields for name, fields in self.lines if name == event]


@contextlib.asynccontextmanager
async def served(settings: Settings, **options: Any) -> AsyncIterator[Served]:
    """`leeward serve --only gateway`, without the process."""
    lines: list[tuple[str, dict[str, Any]]] = []
    application = GatewayAlone(settings, lambda event, fields: lines.append((event, dict(fields))), **options)
    listener = bind("127.0.0.1", 0)
    ready = asyncio.Event()

    async def on_ready() -> None:
        ready.set()

    await application.start()
    server = _Server(_config(application), on_ready)
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await ready.wait()
        yield Served(application, listener.getsockname()[1], lines)
    finally:
        server.should_exit = True
        await task
        await application.stop()
        listener.close()
