r"""What a provider wrote about a request, made fit for a log: without our key, without secrets, without the prompt.

Providers quote: the key that they refused, the sentence that they did not like. What also stands in the request is left
out, whoever said it first; what remains says what went wrong.

Promises  Left out are: every word of five signs or more that the request has, too (four, if a digit is among them);
          every row of letters and digits that both have, from eleven on in any case (three, in scripts that set no
          blanks), whatever stands between them: blanks, hyphens, quotes, invisible signs; rows of eight that our key
          has. Case, accents, and how a sign is escaped (`\u00e4`, `%C3%A4`, `&auml;`) make no difference.
          Never raises; time is bounded: of a request above `REQUEST_BYTES_MAX` nothing is compared, and nothing that
          the provider wrote is kept.
Limits    what a provider tells in other words, in another language or encoded anew (base64, mirrored) is not seen.
"""

from __future__ import annotations

import functools
import html
import re
import string
import unicodedata
import urllib.parse
from collections.abc import Iterable
from typing import Final

import msgspec

from leeward.scrub.secrets import clean, load

__all__ = ["CHARS_MAX", "LEFT_OUT", "redacted"]

CHARS_MAX: Final = 500
REQUEST_BYTES_MAX: Final = 64 << 10  # a search in so much takes 50 µs, and there are up to 150
WORD_CHARS_MIN: Final = 5  # shorter ones say nothing by themselves
NUMBER_CHARS_MIN: Final = 4  # a PIN, a year, the end of a card
ROW_STEP: Final = 6  # every row of 2 * 6 - 1 signs or more has a whole step in it
ROW_STEP_DENSE: Final = 2  # where a sign is a syllable or a word
PLACES_MAX: Final = 50  # of a row in the request that are compared; one that is there more often is left out
DENSE_FROM: Final = "\u2e80"  # Chinese, Japanese, Korean
KEY_ROW: Final = 8
ROUNDS_MAX: Final = 3  # of escapes within escapes
LEFT_OUT: Final = "…"
_WORD: Final = re.compile(r"[^\W_]+")
_ESCAPED: Final = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([nrtbf]))")
_SPACES: Final = re.compile(r"\s+")
_NO_SIGN: Final = re.compile(r"[\W_]+")
_ASCII: Final = bytes.maketrans(string.ascii_uppercase.encode(), string.ascii_lowercase.encode())
_ASCII_NO_SIGN: Final = bytes(code for code in range(128) if not chr(code).isalnum())


def redacted(text: str, request: Iterable[msgspec.Raw], *, key: str) -> str:
    """Make a provider's text fit for a log.

    Args:
        text: as it came.
        request: the caller's fields, as raw JSON.
        key: ours, for this provider; "" if there is none.
    """
    load()
    raw = [bytes(each) for each in request]
    if sum(map(len, raw)) > REQUEST_BYTES_MAX:
        return LEFT_OUT
    text = _readable(text[: 4 * CHARS_MAX])
    if len(text) > CHARS_MAX:  # the last word may be the beginning of one that is asked for
        text = text[:CHARS_MAX].rpartition(" ")[0]
    asked = _squeezed(b" ".join(raw).decode("utf-8", "replace"))
    text = _without_rows(text, asked, key)
    cleaned = clean(text)
    return cleaned if isinstance(cleaned, str) else LEFT_OUT


def _without_rows(text: str, asked: str, key: str) -> str:
    """The text without what it has in common with the request and the key."""
    squeezed, places = _places(text)
    hidden = bytearray(len(text))
    for word in _WORD.finditer(text):
        row = _places(word[0])[0]
        least = NUMBER_CHARS_MIN if any(sign.isdigit() for sign in row) else WORD_CHARS_MIN
        if len(row) >= least and row in asked:
            hidden[word.start() : word.end()] = b"\1" * len(word[0])
    for start, end in _rows(squeezed, asked, key):
        first, last = places[start], places[end - 1]
        hidden[first : last + 1] = b"\1" * (last + 1 - first)
    if not any(hidden):
        return text
    return _joined(text, hidden)


def _rows(squeezed: str, asked: str, key: str) -> Iterable[tuple[int, int]]:
    """Where rows of signs stand that the request or the key has, too: each as far as it goes."""
    end = 0
    step = ROW_STEP_DENSE if max(squeezed, default="") >= DENSE_FROM else ROW_STEP
    for place in range(0, len(squeezed) - step + 1, step):
        found = asked.find(squeezed[place : place + step]) if place + step > end else -1
        for tried in range(PLACES_MAX):
            if found < 0:
                break
            start, end = _extent(squeezed, place, asked, found, step)
            if end - start >= 2 * step - 1 or tried == PLACES_MAX - 1:
                yield start, end
                break
            found = asked.find(squeezed[place : place + step], found + 1)
    rows = _rows_of(key)
    if rows:
        length = len(next(iter(rows)))
        for place in range(len(squeezed) - length + 1):
            if squeezed[place : place + length] in rows:
                yield place, place + length


def _extent(squeezed: str, place: int, asked: str, found: int, length: int) -> tuple[int, int]:
    """How far both go on being the same, from a row that they share."""
    start, end, shift = place, place + length, found - place
    while start > 0 and start + shift > 0 and squeezed[start - 1] == asked[start + shift - 1]:
        start -= 1
    while end < len(squeezed) and end + shift < len(asked) and squeezed[end] == asked[end + shift]:
        end += 1
    return start, end


@functools.lru_cache(maxsize=64)
def _rows_of(key: str) -> frozenset[str]:
    """All rows of `KEY_ROW` signs that a key has; of a short key, the key."""
    squeezed = _squeezed(key)
    length = min(KEY_ROW, len(squeezed))
    return frozenset(squeezed[place : place + length] for place in range(len(squeezed) - length + 1) if length)


def _readable(text: str) -> str:
    """One line without escapes, with composed signs, and with blanks for whatever is no sign to read."""
    text = unicodedata.normalize("NFKC", _unescaped(text))
    return _SPACES.sub(" ", "".join([sign if sign.isprintable() else " " for sign in text])).strip()


def _unescaped(text: str) -> str:
    for _ in range(ROUNDS_MAX):
        before = text
        if "\\" in text:
            text = _ESCAPED.sub(_sign, text)
        if "%" in text:
            text = urllib.parse.unquote(text, errors="replace")
        if "&" in text:
            text = html.unescape(text)
        if text == before:
            break
    return text


def _sign(found: re.Match[str]) -> str:
    code = found[1] or found[2]
    return chr(int(code, 16)) if code else " "


def _squeezed(text: str) -> str:
    """Letters and digits alone, without case and accents; quick also for a long text."""
    text = _unescaped(text)
    if text.isascii():
        return text.encode().translate(_ASCII, _ASCII_NO_SIGN).decode()
    return _NO_SIGN.sub("", unicodedata.normalize("NFKD", text).casefold())


def _places(text: str) -> tuple[str, list[int]]:
    """The same of a short text that is readable, and where each of the signs stands."""
    signs: list[str] = []
    places: list[int] = []
    for place, sign in enumerate(text):
        for part in _NO_SIGN.sub("", unicodedata.normalize("NFKD", sign).casefold()):
            signs.append(part)
            places.append(place)
    return "".join(signs), places


def _joined(text: str, hidden: bytearray) -> str:
    """The text with one mark for each row that is hidden."""
    parts: list[str] = []
    begin = 0
    while (start := hidden.find(1, begin)) >= 0:
        end = hidden.find(0, start)
        end = len(text) if end < 0 else end
        parts += (text[begin:start], LEFT_OUT)
        begin = end
    parts.append(text[begin:])
    return "".join(parts)
