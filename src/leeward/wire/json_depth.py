"""How deep a JSON text is nested, without recursion and without making objects of it."""

from __future__ import annotations

__all__ = ["BRACKETS_MAX", "is_deeper_than"]

BRACKETS_MAX = 100_000  # of pairs; a long conversation with many tools has a tenth of them

_BRACES = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def is_deeper_than(text: bytes, depth: int) -> bool:
    """Whether arrays and objects of a well-formed *text* are nested deeper than *depth*, or too many to tell.

    Each step works on all of the text at once: strings are left out, then the innermost pairs are, level by level.
    """
    if text.count(b"[") + text.count(b"{") <= depth:
        return False
    outside = b"".join(text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    brackets = outside.translate(_BRACES, _OTHERS)
    if len(brackets) > 2 * BRACKETS_MAX:
        return True
    for _ in range(depth):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True
