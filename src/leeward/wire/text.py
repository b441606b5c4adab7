"""Bytes from outside → valid UTF-8 JSON text. The one rule for broken text in every protocol.

What cannot be stored as text – bytes that are no UTF-8, lone surrogate escapes, NUL escapes – becomes U+FFFD.
Everything else stays byte for byte.
"""

from __future__ import annotations

import re

__all__ = ["has_replacement", "repair", "split_array"]

# Escapes are taken one by one from the left, so that an escaped backslash before a "u" is never mistaken for one.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a proper pair
    rb"|(?P<bad>u[dD][89a-fA-F][0-9a-fA-F]{2}|u0000)"
    rb"|.)",
    re.DOTALL,
)
_MAYBE_BAD = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)")
_STRUCTURE = re.compile(rb'"(?:[^"\\]+|\\.)*"|[{}\[\],]', re.DOTALL)
_REPLACEMENT_ESCAPE = b"\\ufffd"
_REPLACEMENT_UTF8 = b"\xef\xbf\xbd"


def repair(body: bytes) -> tuple[bytes, bool]:
    """Return *body* as valid UTF-8 without lone surrogate or NUL escapes, and whether anything was replaced."""
    changed = False
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            body = body.decode(errors="replace").encode()
            changed = True
    if b"\\u" in body and _MAYBE_BAD.search(body):
        repaired = _ESCAPE.sub(_replace_bad, body)
        changed = changed or repaired != body
        body = repaired
    return body, changed


def has_replacement(text: bytes) -> bool:
    """Whether *text* holds U+FFFD, escaped or not."""
    return _REPLACEMENT_UTF8 in text or _REPLACEMENT_ESCAPE in text


def _replace_bad(match: re.Match[bytes]) -> bytes:
    return _REPLACEMENT_ESCAPE if match["bad"] else match[0]


def split_array(text: bytes) -> list[bytes] | None:
    """Split the text of a JSON array into the texts of its items without recursion, or None if it is no whole array.

    For arrays whose items may be nested deeper than a decoder follows; the items themselves are not checked.
    """
    depth = 0
    start = 0
    items: list[bytes] = []
    for match in _STRUCTURE.finditer(text):
        first = match[0][0]
        if depth == 0 and (first != 0x5B or items):
            return None
        if first in b"{[":
            depth += 1
            if depth == 1:
                start = match.end()
        elif first in b"}]":
            depth -= 1
            if depth == 0:
                items.append(text[start : match.start()].strip())
        elif first == 0x2C and depth == 1:
            items.append(text[start : match.start()].strip())
            start = match.end()
    return items if items and depth == 0 else None
