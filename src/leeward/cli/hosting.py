"""Runs a server in this process: for `serve` and `demo`. Binds first, so that a taken port is said at once."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leeward.cli import running
from leeward.errors import ConfigError, LeewardError

if TYPE_CHECKING:
    from leeward.server.serve import Served

__all__ = ["bind_or_explain", "host", "url_of"]


def bind_or_explain(name: str, port: int, command: str, data_dir: Path | None = None) -> socket.socket:
    """Bind the socket that the server listens on. `data_dir` is what it would serve: the other one may have that, too.

    Raises:
        ConfigError: it cannot be bound; when another leeward of this user has the port, the error says which.
    """
    from leeward.server.serve import bind

    try:
        return bind(name, port)
    except ConfigError as error:
        other = running.on_port(port, os.environ)
        if error.code != "address_taken" or other is None:
            raise
        raise ConfigError(
            f"port {port} is taken by another leeward (pid {other.pid}, data in {other.data_dir})",
            code="address_taken",
            where="[server] port",
            fix=f"use that one, or: leeward {command} --port {port + 1} --data-dir FOLDER"
            if data_dir is not None and other.data_dir == str(data_dir.resolve())
            else f"leeward {command} --port {port + 1}, or stop it: kill {other.pid}",
        ) from None


def url_of(listener: socket.socket) -> str:
    """The address under which a browser on this machine finds the listener."""
    name, port = listener.getsockname()[:2]
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104 - looked for, not bound
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def host(
    application: Served,
    listener: socket.socket,
    on_ready: Callable[[str], Awaitable[None]],
    *,
    further: Sequence[socket.socket] = (),
) -> None:
    """Serve until a signal comes. `on_ready` gets the address once requests are answered; `further` are served as well.

    Raises:
        LeewardError: a part cannot start.
    """
    from leeward.server.serve import loop_factory, serve

    url = url_of(listener)
    noted: list[running.Running] = []

    async def ready() -> None:
        here = running.Running.this_process(listener.getsockname()[1], url, application.data_dir)
        running.note(here, os.environ)
        noted.append(here)
        await on_ready(url)

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(application, listener, ready, further=further))
    except LeewardError as error:
        if error.code == "log_in_use":
            raise _held(error, application.data_dir) from None
        raise
    finally:
        for here in noted:
            running.forget(here, os.environ)


def _held(error: LeewardError, data_dir: Path) -> ConfigError:
    """The data directory has an owner: say who it is and where it listens."""
    other = running.of_data_dir(data_dir, os.environ)
    if other is None:
        return ConfigError(error.message, code=error.code, where=error.where, fix=error.fix)
    return ConfigError(
        f"{data_dir} is in use by another leeward (pid {other.pid}, at {other.url})",
        code=error.code,
        where=str(data_dir),
        fix=f"use that one, or stop it: kill {other.pid}; --data-dir FOLDER starts a second one",
    )
