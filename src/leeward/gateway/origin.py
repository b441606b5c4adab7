"""Where a provider is, and which addresses may be connected to for it. Pure.

Promises  an `Origin` is one scheme, one host and one port, in the one usual spelling; it comes from configuration.
          Literal addresses of loopback and private networks are allowed as written there, and so is `localhost`; any
          other name leads to them only with `private`. Link-local addresses, those of cloud metadata services,
          multicast and the unspecified address are never connected to, in whatever way they are spelled or wrapped.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from leeward.errors import ConfigError
from leeward.sender.address import PORTS, split_authority

if TYPE_CHECKING:
    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

__all__ = ["Endpoint", "Origin", "check_address"]

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):", re.ASCII)
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII)
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*", re.ASCII)
_LIKE_A_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)  # a last label of this form makes an address of it
NAME_CHARS_MAX: Final = 253

_NEVER: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # the unspecified address leads to this machine
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "100.100.100.200/32",  # metadata: Alibaba
        "168.63.129.16/32",  # the host of a virtual machine: Azure
        "192.0.0.192/32",  # metadata: Oracle
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "fe80::/10",
        "fd00:ec2::254/128",  # metadata: Amazon
        "fd20:ce::254/128",  # metadata: Google
        "ff00::/8",
    )
)
_WRAPPING: Final = ipaddress.ip_network("64:ff9b::/96")  # NAT64: how a network of version 6 alone reaches version 4
_LOOPBACK: Final = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Origin:
    """A value; made by `Origin.of`. `authority` is what the Host header says, `path` does not end in a slash.

    `host` has no brackets. `literal` is the address that `host` spells, or None for a name.
    """

    scheme: str
    host: str
    port: int
    path: str
    authority: str
    literal: Address | None = field(repr=False)

    @property
    def https(self) -> bool:
        """Whether the way there is encrypted."""
        return self.scheme == "https"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those that need no look-up: a literal one, or localhost's; empty for a name."""
        if self.literal is not None:
            return (str(self.literal),)
        return _LOOPBACK if self.host == "localhost" else ()

    @classmethod
    def of(cls, base_url: str, *, where: str = "") -> Origin:
        """Take a `base_url` of the configuration apart; a `ConfigError` says what is wrong with it."""
        scheme = _SCHEME.match(base_url)
        if scheme is None or scheme[1].lower() not in PORTS or not base_url.startswith("//", scheme.end()):
            raise _wrong("a provider's address begins with https:// or http://", where)
        if any(mark in base_url for mark in "?#"):
            raise _wrong("a provider's address has no ? and no #", where)
        authority, slash, rest = base_url[scheme.end() + 2 :].partition("/")
        if "@" in authority:
            raise _wrong("a provider's address holds no user and no password: its key stands in api_key", where)
        path = (slash + rest).rstrip("/")
        if not _PATH.fullmatch(path) or any(part in {".", ".."} for part in path.split("/")):
            raise _wrong("the path of a provider's address has characters or parts that no path has", where)
        return cls._of_parts(scheme[1].lower(), authority, path, where)

    @classmethod
    def _of_parts(cls, scheme: str, authority: str, path: str, where: str) -> Origin:
        try:
            host, port = split_authority(authority, PORTS[scheme])
        except ValueError as error:
            raise _wrong(str(error), where) from None
        literal = _literal(host, bracketed=authority.startswith("["), where=where)
        if literal is not None:
            reason = _never(literal) or ("it wraps an address of version 4" if _wrapped(literal) else "")
            if reason:
                raise _wrong(f"no provider is at {literal}: {reason}", where)
        shown = f"[{literal}]" if literal is not None and literal.version == 6 else host
        return cls(
            scheme=scheme,
            host=host if literal is None else str(literal),
            port=port,
            path=path,
            authority=shown if port == PORTS[scheme] else f"{shown}:{port}",
            literal=literal,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """An origin and how it may be used. Connections are kept for each endpoint by itself, so make it once."""

    origin: Origin
    private: bool = False  # whether its name may lead to a private network
    connections_max: int = 512


def check_address(origin: Origin, address: str, *, private: bool) -> str:
    """Why no connection to `address` may be made for `origin`; empty if it may."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "the look-up gave no address"  # such as one of this link alone: fe80::1%eth0
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return "it is an address of version 4, wrapped"
    inner = _wrapped(found)
    for one in (found,) if inner is None else (found, inner):
        reason = _never(one)
        if reason:
            return reason
    judged = found if inner is None else inner
    if judged.is_global or private or found == origin.literal:
        return ""
    if origin.host == "localhost" and judged.is_loopback:
        return ""
    return "a name leads to a private network only if the provider says private = true"


def _literal(host: str, *, bracketed: bool, where: str) -> Address | None:
    """The address that a host spells; None if it is a name."""
    if bracketed:
        try:
            return ipaddress.IPv6Address(host if "%" not in host else "")
        except ValueError:
            raise _wrong("between [ and ] stands an address of version 6, without a zone", where) from None
    if _LIKE_A_NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        try:
            return ipaddress.IPv4Address(host)
        except ValueError:
            raise _wrong("an address of version 4 is written as four decimal numbers: 192.0.2.1", where) from None
    if len(host) > NAME_CHARS_MAX or not _NAME.fullmatch(host):
        raise _wrong("the host is no name: letters, digits, - and . (other scripts in their xn-- form)", where)
    return None


def _never(address: Address) -> str:
    return "link-local, metadata, multicast and unspecified addresses are never connected to" if any(
        address in network for network in _NEVER
    ) else ""  # fmt: skip


def _wrapped(address: Address) -> ipaddress.IPv4Address | None:
    """The address of version 4 that one of version 6 leads to."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _WRAPPING or (int(address) >> 32 == 0 and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour


def _wrong(sentence: str, where: str) -> ConfigError:
    return ConfigError(sentence, code="config_base_url", where=where, fix='base_url = "https://api.example.com/v1"')
