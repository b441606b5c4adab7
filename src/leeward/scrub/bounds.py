"""Limits on a JSON object as raw bytes: depth, keys, string lengths, digits. Bytes that keep them are not touched.

Limits    depth 64, 1,000 keys an object, 64 KiB a string, or as the caller says (cut, the mark included), 1,000 digits
          a number, its sign, point and exponent counted with them. A string is measured as it is encoded, escapes and
          all.
Promises  A payload within the limits comes back as the same object. One that is over a limit is either refused with
          a stable code or changed with the change named; numbers keep their spelling, whatever their size.
          The input must be well-formed JSON in valid UTF-8: the wire's decoder has seen to that.
"""

from __future__ import annotations

import itertools
import re
from typing import Final

from leeward.model import Dropped

__all__ = ["AI_STRING_BYTES_MAX", "DEPTH_MAX", "DIGITS_MAX", "KEYS_MAX", "STRING_BYTES_MAX", "bound"]

DEPTH_MAX: Final = 64
KEYS_MAX: Final = 1000
STRING_BYTES_MAX: Final = 64 * 1024
AI_STRING_BYTES_MAX: Final = 1 << 20  # prompts and answers of language models
DIGITS_MAX: Final = 1000

# Below this size no payload can have 1,000 keys, 1,000 digits in a number, or a string that is too long.
_SURELY_SHORT: Final = DIGITS_MAX
# Possessive strings, and numbers that are tried at their start only: one look at each byte, whatever it is.
_TOKEN = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]:]|(?<![-+.0-9eE])[-+.0-9eE]{%d,}' % (DIGITS_MAX + 1), re.DOTALL
)
# The start of an escape, and half of a surrogate pair with it: what a cut may leave at the end of a string.
_SPLIT_ESCAPE = re.compile(
    rb"(?<!\\)(?:\\\\)*+(\\(?:u(?:[0-9a-fA-F]{0,3}|[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?))?)\Z"
)
_DIGIT_STRIDE: Final = DIGITS_MAX // 2


def bound(raw: bytes, string_bytes_max: int = STRING_BYTES_MAX) -> tuple[bytes, list[str]] | Dropped:
    """Return *raw* within the limits and the list of changes made to it, or why it is refused.

    Args:
        raw: a JSON value (an object as a rule), well-formed.
        string_bytes_max: of one string as it is encoded.
    """
    openings = raw.count(b"{") + raw.count(b"[")
    if len(raw) <= _SURELY_SHORT:
        if openings <= DEPTH_MAX:
            return raw, []
    elif (
        openings <= DEPTH_MAX
        and raw.count(b":") <= KEYS_MAX
        and len(raw) <= string_bytes_max
        and not _may_hold_long_number(raw)
    ):
        return raw, []
    return _walk(raw, string_bytes_max)


def _may_hold_long_number(raw: bytes) -> bool:
    """A run of 1,000 digits covers two neighbours in any sample of every 500th byte."""
    sample = raw[::_DIGIT_STRIDE]
    return any(
        first in b"0123456789.eE+-" and second in b"0123456789.eE+-" for first, second in itertools.pairwise(sample)
    )


def _walk(raw: bytes, string_bytes_max: int) -> tuple[bytes, list[str]] | Dropped:
    keys = [0]  # of each open object or array, outermost first; arrays count no keys
    cut: list[bytes] = []
    changes: list[str] = []
    copied = 0
    for match in _TOKEN.finditer(raw):
        token = match[0]
        first = token[0]
        if first == 0x22:
            if len(token) > string_bytes_max + 2:
                cut += (raw[copied : match.start()], _cut_string(token, string_bytes_max))
                copied = match.end()
                changes.append(f"a string of {len(token) - 2} bytes was cut to {string_bytes_max}")
        elif first in b"{[":
            if len(keys) > DEPTH_MAX:
                return Dropped("too_deep", f"nested deeper than {DEPTH_MAX} levels")
            keys.append(0)
        elif first in b"}]":
            keys.pop()
        elif first == 0x3A:
            keys[-1] += 1
            if keys[-1] > KEYS_MAX:
                return Dropped("too_many_keys", f"an object has more than {KEYS_MAX} keys")
        else:
            return Dropped("invalid_field", f"a number has more than {DIGITS_MAX} digits")
    if not changes:
        return raw, []
    cut.append(raw[copied:])
    return b"".join(cut), changes


def _cut_string(token: bytes, string_bytes_max: int) -> bytes:
    """Cut an encoded string (quotes included) at a whole character, and say so inside it."""
    mark = b" [cut: %d bytes]" % (len(token) - 2)
    kept = token[1 : 1 + string_bytes_max - len(mark)]
    # An escape or a UTF-8 sequence may be split at the end: give up to its whole length back.
    split = _SPLIT_ESCAPE.search(kept)
    if split:
        kept = kept[: split.start(1)]
    return b'"%b%b"' % (kept.decode(errors="ignore").encode(), mark)
