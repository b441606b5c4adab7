"""How JSON of callers and providers is read: what it can be that is none, and where in it something is wrong."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from leeward.wire.chat import RequestInvalid

__all__ = ["UNREADABLE", "decode_field", "given"]

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading may raise: not JSON or of another type, not UTF-8, nested as deep as a bomb."""


def given(raw: msgspec.Raw) -> bool:
    """Whether a field is there and is not null."""
    return bytes(raw) not in (b"", b"null")


def decode_field(name: str, raw: msgspec.Raw, decoder: msgspec.json.Decoder[Any]) -> Any:
    """The value of a caller's field.

    Raises:
        RequestInvalid: it is of another type; `param` names the very place.
    """
    try:
        return decoder.decode(raw)
    except UNREADABLE as error:
        reason, at, path = str(error).partition(" - at `$")
        raise RequestInvalid(f"{reason}.", param=name + path.rstrip("`") if at else name) from error
