"""Where Sentry's SDKs put the key: the query, a header of Sentry's own, `Authorization: Sentry …`, or the envelope's DSN.

Promises  each function says what it found, or raises 403 `forbidden` when two places do not agree: then nobody can say
          which one is meant. Nothing is compared with a right key here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from leeward.errors import ProtocolError

__all__ = ["Dsn", "disagreement", "key_of_request", "read_dsn"]

_SCHEME: Final = b"sentry"
_KEY: Final = b"sentry_key"


class Dsn(msgspec.Struct, frozen=True):
    """What is used of a DSN: `{scheme}://{key}[:{secret}]@{host}[/path]/{project}`."""

    key: str
    project: str


def key_of_request(query_string: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key that stands in the query or in the headers; None if there is none.

    Raises:
        ProtocolError: 403 `forbidden`: there are two different ones.
    """
    found: set[bytes] = set()
    for part in query_string.split(b"&"):
        name, _, value = part.partition(b"=")
        if name == _KEY:
            found.add(unquote_to_bytes(value))
    for name, value in headers:
        if name in {b"x-sentry-auth", b"authorization"}:
            found.update(_keys(value))
    found.discard(b"")
    if len(found) > 1:
        raise disagreement()
    return next(iter(found), None)


def _keys(header: bytes) -> Iterable[bytes]:
    """The keys of `Sentry sentry_key=…, sentry_version=7`; none for another scheme."""
    scheme, _, fields = header.strip().partition(b" ")
    if scheme.lower() != _SCHEME:
        return
    for field in fields.split(b","):
        name, _, value = field.partition(b"=")
        if name.strip().lower() == _KEY:
            yield unquote_to_bytes(value.strip().strip(b'"'))


def read_dsn(text: str | None) -> Dsn | None:
    """The key and the project of a DSN, or None for what is none."""
    if not text:
        return None
    try:
        parts = urlsplit(text)
        key = parts.username
    except ValueError:
        return None
    project = parts.path.rstrip("/").rpartition("/")[2]
    return Dsn(key, project) if key and project else None


def disagreement() -> ProtocolError:
    """The refusal of a request that shows two keys."""
    return ProtocolError(
        "The request shows different keys or projects in different places; send one DSN's", code="forbidden", status=403
    )
