"""What every section of the settings is made of: the Struct, sizes in bytes, and secrets that are never shown whole."""

from __future__ import annotations

import re
from typing import Final, get_args

import msgspec
from msgspec import Meta

__all__ = ["GiB", "KiB", "MiB", "Section", "masked", "secret", "size"]

KiB: Final = 1024
MiB: Final = 1024 * KiB
GiB: Final = 1024 * MiB
_ADDRESS: Final = re.compile(r"([a-z+]+://)(?:([^:/?]*?)(?::(.*))?@)?([^@]*?)(\?.*)?\Z", re.DOTALL)
_NOT_SECRET: Final = frozenset({"", "embedded"})
TAIL_SHOWN_FROM_CHARS: Final = 24  # of a shorter secret, four characters would be too much


def size(minimum: int, maximum: int, description: str) -> Meta:
    """A number of bytes; may be written as text with a unit: "64MiB"."""
    return Meta(ge=minimum, le=maximum, description=description, extra={"size": True})


def secret(description: str) -> Meta:
    """A text that is never shown whole, and may be `env:NAME` or `file:PATH`."""
    return Meta(description=description, extra={"secret": True})


def masked(value: str) -> str:
    """A secret as it may be shown: `…x9Qd`.

    Of an address only the password, and what follows a `?`, is secret; on the web a user without a password is a key.
    """
    address = _ADDRESS.match(value)
    if address is not None:
        scheme, user, password, rest, query = address.groups()
        is_key = password is None and scheme in {"http://", "https://"}
        name = _tail(user) if user and is_key else user
        userinfo = "" if user is None else f"{name}@" if password is None else f"{name}:{_tail(password)}@"
        return f"{scheme}{userinfo}{rest}{'' if query is None else '?…'}"
    return value if value in _NOT_SECRET else _tail(value)


def _tail(value: str) -> str:
    """The last four characters of a long secret, nothing of a short one."""
    return "…" + value[-4:] if len(value) >= TAIL_SHOWN_FROM_CHARS else "…"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration file. Its `repr` shows no secret."""

    def __repr__(self) -> str:
        shown = []
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            hidden = any((meta.extra or {}).get("secret") for meta in get_args(field.type) if isinstance(meta, Meta))
            shown.append(f"{field.name}={masked(value) if hidden else value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"
