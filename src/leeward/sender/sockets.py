"""Which socket module the worker uses: the host program's own, if it has loaded one, else the C module beneath it.

`socket` costs 7 ms to import (it brings selectors, enum and collections), `_socket` 0.3 ms, and the two have the same
calls. A program that patched `socket` (gevent, eventlet) has loaded it by then: its sockets are used, and the worker,
which is then a greenlet, waits as the others do. One that patches while a connection is open keeps that connection as
it was until it is replaced. So the choice is made again for each connection.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["network"]


def network() -> Any:
    """The module to call `socket`, `getaddrinfo` and `inet_pton` of."""
    if "socket" in sys.modules:
        import socket  # not taken from sys.modules: another thread may be in the middle of importing it

        return socket
    import _socket

    return _socket
