"""Bounded values → compact UTF-8 JSON, for the client's wires: standard library only, nothing imported until it is used.

Promises  the result is one line of valid UTF-8, whatever text went in: a lone surrogate comes out as U+FFFD, a pair of
          surrogates as the character that it means.
Expects   values that `scrub/values` has bounded; others raise TypeError, ValueError or RecursionError.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["json_bytes", "json_text", "load", "quote", "utf8"]

_encode: Callable[[Any, int], Iterable[str]] | None = None
_quote: Callable[[str], str] | None = None


def load() -> Callable[[Any, int], Iterable[str]]:
    """Import and build the JSON encoder; called by `init`, so that the first capture does not pay for it."""
    global _encode, _quote  # noqa: PLW0603 - one encoder per process, built once; building it twice is harmless
    if _encode is None:
        from json import encoder  # noqa: PLC0415 - brings re: not at import

        _quote = encoder.encode_basestring
        plain = encoder.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))
        try:
            # JSONEncoder.encode() builds this callable anew for every call; kept, it saves a fifth of the time.
            _encode = encoder.c_make_encoder(  # type: ignore[attr-defined]
                None, plain.default, encoder.encode_basestring, None, ":", ",", False, False, False
            )
        except TypeError:
            # Another interpreter: no accelerator, or one with other arguments.
            _encode = _by_public_encoder(plain.encode)
    return _encode


def _by_public_encoder(encode: Callable[[Any], str]) -> Callable[[Any, int], Iterable[str]]:
    return lambda value, _level: (encode(value),)


def json_text(value: Any) -> str:
    """`value` as JSON; surrogates are still in it: see `utf8`."""
    return "".join((_encode or load())(value, 0))


def quote(text: str) -> str:
    """A text as JSON, for who writes an object's braces and keys itself, which takes half the time."""
    if _quote is None:
        load()
    return _quote(text)  # type: ignore[misc]  # loaded now


def utf8(text: str) -> bytes:
    """JSON text as valid UTF-8."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def json_bytes(value: Any) -> bytes:
    """`value` as JSON; see the module."""
    return utf8(json_text(value))
