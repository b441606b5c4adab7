"""Bytes from outside → valid UTF-8 JSON text. The one rule for broken text in every protocol.

What cannot be stored as text – bytes that are no UTF-8, lone surrogate escapes, NUL escapes – becomes U+FFFD.
Everything else stays byte for byte.
"""

from __future__ import annotations

import codecs
import re

__all__ = ["MEMBERS_MAX", "has_replacement", "has_too_many_members", "repair", "split_array"]

MEMBERS_MAX = 200_000  # colons in a text; a payload within its limits has a hundredth of them

# Escapes are taken one by one from the left, so that an escaped backslash before a "u" is never mistaken for one.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a proper pair
    rb"|(?P<bad>u[dD][89a-fA-F][0-9a-fA-F]{2}|u0000)"
    rb"|.)",
    re.DOTALL,
)
_MAYBE_BAD = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)")
# Possessive, so that a string without an end costs one look at it; its quote then stands alone.
_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}\[\],]', re.DOTALL)
_BLANK = b" \t\r\n"
_PIECE_BYTES = 1 << 20
SPLIT_DEPTH_MAX = 2_000_000  # beyond it the text is nothing but brackets
_BACKSLASH = 0x5C  # a single byte is found ten times faster than two
_REPLACEMENT_ESCAPE = b"\\ufffd"
_REPLACEMENT_UTF8 = b"\xef\xbf\xbd"


def repair(body: bytes) -> tuple[bytes, bool]:
    """Return *body* as valid UTF-8 without lone surrogate or NUL escapes, and whether anything was replaced.

    Memory stays at two or three times the body, whatever is in it.
    """
    changed = False
    if not body.isascii() and not _is_utf8(body):
        body = _with_replacements(body)
        changed = True
    if _BACKSLASH in body and _MAYBE_BAD.search(body):
        repaired = bytearray(body)
        for match in _ESCAPE.finditer(body):
            if match["bad"]:
                repaired[match.start() : match.end()] = _REPLACEMENT_ESCAPE  # as long as what it replaces
                changed = True
        if changed:
            body = bytes(repaired)
    return body, changed


def _is_utf8(body: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(body), _PIECE_BYTES):
            decoder.decode(body[start : start + _PIECE_BYTES], final=start + _PIECE_BYTES >= len(body))
    except UnicodeDecodeError:
        return False
    return True


def _with_replacements(body: bytes) -> bytes:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pieces = [
        decoder.decode(body[start : start + _PIECE_BYTES], final=start + _PIECE_BYTES >= len(body)).encode()
        for start in range(0, len(body), _PIECE_BYTES)
    ]
    return b"".join(pieces)


def has_too_many_members(raw: bytes) -> bool:
    """Whether taking a JSON text apart could make more objects than anybody needs: asked before it is done."""
    return raw.count(b":") > MEMBERS_MAX


def has_replacement(text: bytes) -> bool:
    """Whether *text* holds U+FFFD, escaped or not."""
    return _REPLACEMENT_UTF8 in text or _REPLACEMENT_ESCAPE in text


def split_array(text: bytes) -> list[bytes] | None:
    """Split the text of a JSON array into the texts of its items without recursion, or None if it is no whole array.

    For arrays whose items may be nested deeper than a decoder follows; the items themselves are not checked.
    """
    depth = 0
    start = 0
    items: list[bytes] = []
    for match in _STRUCTURE.finditer(text):
        token = match[0]
        if token == b'"' or (depth == 0 and (token != b"[" or text[: match.start()].strip(_BLANK))):
            return None
        if token in {b"{", b"["}:
            depth += 1
            if depth > SPLIT_DEPTH_MAX:
                return None
            if depth == 1:
                start = match.end()
        elif token in {b"}", b"]"}:
            depth -= 1
            if depth == 0:
                last = text[start : match.start()].strip(_BLANK)
                if last or items:
                    items.append(last)
                return None if text[match.end() :].strip(_BLANK) else items
        elif token == b"," and depth == 1:
            items.append(text[start : match.start()].strip(_BLANK))
            start = match.end()
    return None
