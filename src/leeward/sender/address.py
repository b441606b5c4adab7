"""Where a server or a proxy is: `http[s]://name[:port][/path]` taken apart. Pure, and without urllib (4 ms to import)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["PORTS", "Address", "parse", "split_authority"]

PORTS: Final = {"http": 80, "https": 443}
PORT_MAX: Final = 65535
LABEL_CHARS_MAX: Final = 63


class Address:
    """A value. `authority` is what the Host header says; `name` has no brackets; `path` does not end in a slash."""

    __slots__ = ("authority", "https", "name", "path", "port")

    def __init__(self, *, https: bool, name: str, port: int, path: str, authority: str) -> None:
        self.https = https
        self.name = name
        self.port = port
        self.path = path
        self.authority = authority


def parse(host: str) -> Address:
    """Take `host` apart; a `ValueError` says what is wrong with it. What follows `?` or `#` is left out."""
    scheme, separator, rest = host.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in PORTS:
        raise ValueError("an address begins with http:// or https://")
    for mark in "?#":
        rest = rest.partition(mark)[0]
    authority, slash, path = rest.partition("/")
    name, port = split_authority(authority, PORTS[scheme])
    return Address(
        https=scheme == "https", name=name, port=port, path=(slash + path).rstrip("/"), authority=authority.lower()
    )


def split_authority(authority: str, port_default: int) -> tuple[str, int]:
    """`name`, `name:port`, `[::1]` or `[::1]:port` → name in lower case and port."""
    if authority.startswith("["):
        name, bracket, rest = authority[1:].partition("]")
        if not bracket or rest[:1] not in {"", ":"}:
            raise ValueError("an address of version 6 stands in brackets: [::1]:80")
        port = rest[1:]
    else:
        name, _, port = authority.partition(":")
    if not name.isascii() or not all(0 < len(label) <= LABEL_CHARS_MAX for label in name.removesuffix(".").split(".")):
        raise ValueError("the address has no name, or one that no name service and no certificate can have")
    if not port:
        return name.lower(), port_default
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= PORT_MAX):
        raise ValueError("a port is a number from 1 to 65535")
    return name.lower(), int(port)
