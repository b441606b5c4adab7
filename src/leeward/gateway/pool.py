"""Which connections there are to each endpoint, and which of them are idle.

Promises  the connection used last is taken first, so that those nobody needs grow old and close. An endpoint never has
          more than its `connections_max` connections, those being opened included. An endpoint without connections
          leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leeward.gateway.connection import Connection
    from leeward.gateway.origin import Endpoint

__all__ = ["Host", "Pool"]


class Host:
    """One endpoint's connections. `open` counts all that are, or are about to be, there."""

    __slots__ = ("endpoint", "fields", "idle", "open")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.fields = f" HTTP/1.1\r\nhost: {endpoint.origin.authority}\r\naccept-encoding: identity\r\n".encode("ascii")
        self.idle: list[Connection] = []
        self.open = 0

    def take(self) -> Connection | None:
        """An idle connection, no longer idle; None if there is none."""
        while self.idle:
            connection = self.idle.pop()
            if connection.is_usable():
                return connection
        return None


class Pool:
    """The owner of all connections of one event loop."""

    def __init__(self) -> None:
        self.hosts: dict[Endpoint, Host] = {}
        self.sockets: set[Connection] = set()
        self.closed = False
        self._emptied: asyncio.Future[None] | None = None

    def host(self, endpoint: Endpoint) -> Host:
        """The endpoint's connections, though there be none."""
        host = self.hosts.get(endpoint)
        if host is None:
            host = self.hosts[endpoint] = Host(endpoint)
        return host

    def reserve(self, host: Host) -> bool:
        """Whether a connection may be opened; it counts from now on."""
        if host.open >= host.endpoint.connections_max:
            return False
        host.open += 1
        return True

    def give_back(self, host: Host) -> None:
        """A connection of this host is no more, or never was."""
        host.open -= 1
        if not host.open and self.hosts.get(host.endpoint) is host:
            del self.hosts[host.endpoint]

    def made(self, connection: Connection) -> None:
        """It has a socket."""
        self.sockets.add(connection)
        if self.closed:
            connection.close()

    def free(self, connection: Connection) -> None:
        """It can take the next request."""
        if isinstance(connection.key, Host):
            connection.key.idle.append(connection)

    def useless(self, connection: Connection) -> None:
        """It takes no more requests."""
        host = connection.key
        if isinstance(host, Host):  # else it is lost before the request that it was opened for
            if connection in host.idle:
                host.idle.remove(connection)
            self.give_back(host)

    def gone(self, connection: Connection) -> None:
        """Its socket is closed."""
        self.sockets.discard(connection)
        if not self.sockets and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    async def close(self) -> None:
        """Close all connections, and wait until their sockets are closed."""
        self.closed = True
        for connection in list(self.sockets):
            connection.abandon()
        if self.sockets:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied
