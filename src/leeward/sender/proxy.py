"""Which proxy the environment names for a server, as curl reads it. Pure: the environment is an argument.

`https_proxy` or `http_proxy` by the server's scheme, then `all_proxy`; each in lower case first, then in upper case;
empty means unset. HTTP_PROXY in upper case is not read where REQUEST_METHOD is set: under CGI it is a header that any
visitor sends. Loopback is no exception; `no_proxy` makes exceptions: `*`, a host, a domain (with or without the leading
dot: it and all below it), `host:port`, an address, a range (`10.0.0.0/8`).
Limits    proxies are spoken to in clear text (`http://`, or no scheme at all); another kind (https, socks) is a
          `ProxyError`: going around a proxy that was asked for would be worse than waiting.
User name and password are kept for the one header that needs them; they are in no error and no `repr`.
"""

from __future__ import annotations

from leeward.sender.address import split_authority
from leeward.sender.sockets import network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from leeward.sender.address import Address

__all__ = ["Proxy", "ProxyError", "find"]

PORT_DEFAULT: Final = 80


class ProxyError(OSError):
    """The proxy cannot be used, cannot be reached, or refuses."""


class Proxy:
    """A value. `credentials` is the line of a request's head that logs in, empty without a user name."""

    __slots__ = ("credentials", "name", "port")

    def __init__(self, name: str, port: int, credentials: bytes) -> None:
        self.name = name
        self.port = port
        self.credentials = credentials


def find(environ: Mapping[str, str], server: Address) -> Proxy | None:
    """The proxy for this server, or None. A `ProxyError` if one is named that cannot be used."""
    url = _url(environ, https=server.https)
    if not url or _excepted(environ.get("no_proxy") or environ.get("NO_PROXY") or "", server.name, server.port):
        return None
    scheme, separator, rest = url.rpartition("://")
    if separator and scheme.lower() != "http":
        raise ProxyError("this kind of proxy is not supported; only http:// proxies are")
    login, _, authority = rest.partition("/")[0].rpartition("@")
    try:
        name, port = split_authority(authority, PORT_DEFAULT)
    except ValueError:
        raise ProxyError("the proxy's address cannot be read") from None  # the text may hold a password
    return Proxy(name, port, _credentials(login))


def _url(environ: Mapping[str, str], *, https: bool) -> str:
    if https:
        names = ["https_proxy", "HTTPS_PROXY"]
    else:
        names = ["http_proxy"] if "REQUEST_METHOD" in environ else ["http_proxy", "HTTP_PROXY"]
    values = (environ.get(name, "").strip() for name in (*names, "all_proxy", "ALL_PROXY"))
    return next((value for value in values if value), "")


def _credentials(login: str) -> bytes:
    if not login:
        return b""
    from binascii import b2a_base64

    user, _, password = login.partition(":")
    pair = _percent_decoded(user) + b":" + _percent_decoded(password)
    return b"Proxy-Authorization: Basic %s\r\n" % b2a_base64(pair, newline=False)


def _percent_decoded(text: str) -> bytes:
    """`%40` → `@`; a per cent sign that begins no such triple stays."""
    first, *rest = text.encode("utf-8", "surrogateescape").split(b"%")
    pieces = [first]
    for piece in rest:
        try:
            pieces.append(bytes.fromhex(piece[:2].decode("ascii")) + piece[2:] if len(piece) > 1 else b"%" + piece)
        except ValueError:
            pieces.append(b"%" + piece)
    return b"".join(pieces)


def _excepted(no_proxy: str, name: str, port: int) -> bool:
    entries = no_proxy.lower().replace(",", " ").split()
    return any(_covers(entry, name.rstrip("."), port) for entry in entries)


def _covers(entry: str, name: str, port: int) -> bool:
    """Whether one entry of `no_proxy` means this server."""
    if entry == "*":
        return True
    address = _packed(name)
    if "/" in entry:
        return bool(address) and _in_range(entry, address)
    if not entry.startswith("[") and entry.count(":") > 1:
        entry = f"[{entry}]"
    try:
        host, entry_port = split_authority(entry.lstrip("."), port)
    except ValueError:
        return False
    if entry_port != port:
        return False
    if address:
        return _packed(host) == address
    domain = host.removesuffix(".")
    return name == domain or name.endswith("." + domain)


def _in_range(entry: str, address: bytes) -> bool:
    network_text, _, length = entry.partition("/")
    first = _packed(network_text.strip("[]"))
    bits = len(address) * 8
    if len(first) != len(address) or not (length.isascii() and length.isdigit()) or len(length) > 3:
        return False
    shift = bits - int(length)
    return shift >= 0 and int.from_bytes(first, "big") >> shift == int.from_bytes(address, "big") >> shift


def _packed(text: str) -> bytes:
    """The bytes of an address, or none if it is a name."""
    sockets = network()
    for family in (sockets.AF_INET, sockets.AF_INET6):
        try:
            return sockets.inet_pton(family, text)  # type: ignore[no-any-return]
        except (OSError, ValueError):
            continue
    return b""
