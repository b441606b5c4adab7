"""What a provider wrote about a request, made fit for a log: without our key, without secrets, without the prompt.

Providers quote: the key that they refused, the sentence that they did not like. A word that also stands in the request
is left out, whoever said it first; what remains says what went wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from leeward.scrub.secrets import clean, load

__all__ = ["redacted"]

TEXT_CHARS_MAX: Final = 2_000
WORD_CHARS_MIN: Final = 5  # shorter ones say nothing by themselves
LEFT_OUT: Final = "…"
_WORD: Final = re.compile(r"[^\s\"'`,;()\[\]{}<>]+")


def redacted(text: str, request: Iterable[msgspec.Raw], *, key: str) -> str:
    """Make a provider's text fit for a log.

    Args:
        text: as it came.
        request: the caller's fields, as raw JSON.
        key: ours, for this provider; "" if there is none.
    """
    load()
    text = text[:TEXT_CHARS_MAX]
    if key:
        text = text.replace(key, LEFT_OUT)
    cleaned = clean(text)
    text = cleaned if isinstance(cleaned, str) else LEFT_OUT
    asked = b" ".join(bytes(each) for each in request).lower()

    def unless_asked(found: re.Match[str]) -> str:
        word = found[0].strip(".:!?")
        if len(word) < WORD_CHARS_MIN:
            return found[0]
        spellings = (word.encode("utf-8", "replace"), word.encode("ascii", "backslashreplace"))
        return LEFT_OUT if any(spelling.lower() in asked for spelling in spellings) else found[0]

    return _WORD.sub(unless_asked, text)
