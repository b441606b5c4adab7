"""Secrets in what a caller gave: found by name and by form, and replaced by `<redacted>` before anything is encoded.

Promises  Never waits and never logs. Time is linear in the text: 65,536 characters take 1 ms of prose and 6 ms of the
          worst that is known (Python 3.11, 2.3 GHz). A text in which nothing is found comes back as the same object.
          What is replaced is the secret alone where its bounds are clear (`?token=<redacted>&page=2`), else more.
          Cleaning twice changes nothing. Numbers, booleans, None and empty texts are never secrets.
By name   Under a secret name (`scrub/names`) every text is replaced, however deep; so is the second of a pair
          (`["Cookie", "a=b"]`) and the `value` beside such a `name`.
By form   Keys of known providers, JWT, PEM, bearer tokens, payment cards, passwords in URLs, and `name=value` or
          `"name": "value"` with a secret name inside a text, in up to seven JSON texts within each other. The same in
          base64, twice.
Not here  texts below 8 characters, keys without a known form or name, secrets that were split, encrypted, compressed.
Limits    What is behind the first 500 to 1,000 suspicious places of a text is replaced without a closer look, and so is
          what is suspicious behind the first 500 texts with secrets of a value.

The usual case must be cheap. One translation of the bytes into four classes (word, digit, separator, other) and three
searches in C answer it for all texts of a dict at once: `may_hold_secret` costs 1.0 µs for 300 characters, where the
search of one set of characters by `re` takes 1.5 µs, and one of prefixes 2.2 µs. Patterns are
tried only at places that such a search has found.
"""

from __future__ import annotations

from binascii import a2b_base64

from leeward.scrub.names import (
    SECRET_WORDS,
    STEMS,
    is_secret_name,
    plain_names,
    remember_plain,
    secret_words,
    words_set,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import Match
    from types import ModuleType
    from typing import Any, Final

__all__ = [
    "REDACTED",
    "TEXT_CHARS_MIN",
    "clean",
    "clean_text",
    "is_secret_name",
    "load",
    "may_hold_secret",
    "plain_names",
]

REDACTED: Final = "<redacted>"
TEXT_CHARS_MIN: Final = 8  # a shorter text holds no secret by its form
RUN_CHARS_MIN: Final = 16  # every key of a known form has this many letters, digits, `-` and `_` in a row
CARD_DIGITS_MIN: Final = 13
PLACES_MAX: Final = 1_000  # of one kind, in one text: long words, one secret word, cards, addresses
VALUES_MAX: Final = 500  # of a secret name, or a card's number to be summed up, in one text
TEXTS_MAX: Final = 500  # with secrets, in one value; what is suspicious behind them goes as a whole
BLOB_CHARS_MIN: Final = 4_096  # base64 this long is one text or none, not words that are joined by its signs
BASE64_LEVELS_MAX: Final = 2
SHORT_CHARS_MAX: Final = 2_000  # a text this short is first asked by a pattern for a separator behind a name
PROSE_CHARS_MIN: Final = 4  # of a value behind a colon without quotes
BRACKETS_MAX: Final = 200  # of a list or object under a secret name inside a text
REMEMBERED_MAX: Final = 4_096  # short texts that are known to be clean; then it starts anew
REMEMBERED_CHARS_MAX: Final = 64

_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS: Final = b"0123456789"


def _classes(*members: tuple[bytes, bytes]) -> bytes:
    """A table for `bytes.translate`: each member's own class, a space for everything else."""
    table = bytearray(b" " * 256)
    for name, characters in members:
        for character in characters:
            table[character] = name[0]
    return bytes(table)


_KINDS: Final = _classes((b"w", _LETTERS + b"-_"), (b"d", _DIGITS), (b"=", b"=:%"))
_WORDS: Final = _classes((b"w", _LETTERS + _DIGITS + b"-_"))
_BASE64: Final = _classes((b"w", _LETTERS + _DIGITS + b"+/"))
_AREAS: Final = _classes((b"w", _LETTERS + _DIGITS + b"-_+/.~="))
_RUN: Final = "w" * RUN_CHARS_MIN
_RUN_BYTES: Final = b"w" * RUN_CHARS_MIN
_HEX: Final = "0123456789abcdefABCDEF-"
_HEX_LENGTHS: Final = frozenset((32, 36, 40, 64))  # UUIDs and digests: met often, and never a secret by their form

_CARD_FORMS: Final = (  # between spaces, hyphens or nothing
    "d" * CARD_DIGITS_MIN,
    "dddd dddd dddd",
    "ddddwddddwdddd",
    "dddd dddddd dddd",
    "ddddwddddddwdddd",
)
_W: Final = ord("w")
_SLASHES: Final = frozenset("+/")
_OPENING: Final = frozenset("[{(")
_QUERY: Final = frozenset("?&")
_DOUBLED: Final = {str(digit): 2 * digit // 10 + 2 * digit % 10 for digit in range(10)}
# By first digit, as the card schemes give them out.
_CARD_LENGTHS: Final = {"2": (16,), "3": (14, 15, 16), "4": (13, 16, 19), "5": (16,), "6": tuple(range(13, 20))}

# A colon behind one of these alone is prose as a rule: "Session: started".
_PROSE: Final = words_set("auth bearer key keys private session sessions sso saml")
_FAULTS: Final = words_set("bad duplicate expired invalid malformed missing no unexpected unknown wrong")
_COOKIES: Final = words_set("cookie cookies")
_PASSWORDS: Final = words_set("password passwd passphrase passcode pass pwd secret")  # these are made of digits, too
_MAY_HOLD_TEXT: Final = frozenset((str, list, dict))
_clean_texts: Final[set[str]] = set()
_loaded_patterns: Final[list[ModuleType]] = []


def load() -> None:
    """Compile the patterns now, so that no capture pays for it."""
    if not _loaded_patterns:
        from leeward.scrub import patterns  # noqa: PLC0415 - 5 ms: not for a program that captures nothing

        _loaded_patterns.append(patterns)


def _loaded() -> ModuleType:
    load()
    return _loaded_patterns[0]


# --- plain values -----------------------------------------------------------------------------------------------------


def clean(value: Any) -> Any:
    """A bounded plain value without its secrets; lists and dicts are changed in place."""
    return _Cleaning().value(value, secret=False)


class _Cleaning:
    """One value's way through: how many more texts with secrets are looked at closely."""

    __slots__ = ("texts_left",)

    def __init__(self) -> None:
        self.texts_left = TEXTS_MAX

    def value(self, value: Any, *, secret: bool) -> Any:
        kind = type(value)
        if kind is str:
            return (REDACTED if value else value) if secret else self.text(value)
        if kind is list:
            return self.sequence(value, secret=secret)
        return self.mapping(value, secret=secret) if kind is dict else value

    def text(self, text: str) -> str:
        if self.texts_left:
            cleaned = clean_text(text)
            self.texts_left -= cleaned is not text
            return cleaned
        return REDACTED if len(text) >= TEXT_CHARS_MIN and may_hold_secret(text) else text

    def sequence(self, value: list[Any], *, secret: bool) -> list[Any]:
        # A header as a pair; what were bytes are texts by now.
        if len(value) == 2 and type(value[0]) is type(value[1]) is str and is_secret_name(value[0]):
            value[1] = self.value(value[1], secret=True)
        for index, item in enumerate(value):
            if type(item) in _MAY_HOLD_TEXT:
                value[index] = self.value(item, secret=secret)
        return value

    def mapping(self, value: dict[str, Any], *, secret: bool) -> dict[str, Any]:
        renamed = False
        for key, item in value.items():
            is_secret = secret
            if key not in plain_names:
                is_secret = secret or is_secret_name(key) or (key == "value" and _is_named_secret(value))
                if clean_text(key) is not key:
                    renamed = True
                elif not is_secret and key != "value":
                    remember_plain(key)
            if type(item) in _MAY_HOLD_TEXT:
                value[key] = self.value(item, secret=is_secret)
        return _renamed(value) if renamed else value


def _is_named_secret(value: dict[str, Any]) -> bool:
    """A header as {"name": …, "value": …}."""
    name = value.get("name")
    return type(name) is str and is_secret_name(name)


def _renamed(value: dict[str, Any]) -> dict[str, Any]:
    """With clean keys; different keys stay different keys."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = clean_text(key)
        result[f"{name}#{len(result)}" if name in result else name] = item
    return result


# --- texts ------------------------------------------------------------------------------------------------------------


def may_hold_secret(text: str) -> bool:
    """Whether a text needs a closer look; False is certain."""
    kinds = text.encode("ascii", "replace").translate(_KINDS).decode()  # searches are faster in a str
    return (
        "=" in kinds
        or (kinds.count("d") >= CARD_DIGITS_MIN and _has_card_form(kinds))
        or _RUN in kinds.replace("d", "w")
    )


def _has_card_form(kinds: str) -> bool:
    return any(form in kinds for form in _CARD_FORMS)


def clean_text(text: str) -> str:
    """The text with what is secret by its form replaced; the same object if there is nothing."""
    length = len(text)
    if length < TEXT_CHARS_MIN:
        return text
    if length > REMEMBERED_CHARS_MAX:
        return _cleaned(text, 0)
    if text in _clean_texts or (length in _HEX_LENGTHS and not text.strip(_HEX)):
        return text
    cleaned = _cleaned(text, 0)
    if cleaned is text:
        if len(_clean_texts) >= REMEMBERED_MAX:
            _clean_texts.clear()
        _clean_texts.add(text)
    return cleaned


def _cleaned(text: str, level: int) -> str:
    """`level`: out of how many layers of base64 the text was taken."""
    raw = text.encode("ascii", "replace")  # one byte a character: the same positions
    kinds = raw.translate(_KINDS).decode()
    has_separator = "=" in kinds
    has_digits = kinds.count("d") >= CARD_DIGITS_MIN and _has_card_form(kinds)
    first_run = kinds.replace("d", "w").find(_RUN)
    if not (has_separator or has_digits or first_run >= 0):
        return text
    look = _Look(text, raw, level)
    if first_run >= 0:
        look.at_runs(first_run)
    if has_separator:
        look.at_names()
        look.at_addresses()
    if has_digits:
        look.at_cards()
    return look.result() if look.spans else text


class _Look:
    """A closer look at one text, and the spans of it that are to be replaced. Each method looks for one kind."""

    __slots__ = ("level", "patterns", "raw", "spans", "text", "wide", "wide_end")

    def __init__(self, text: str, raw: bytes, level: int) -> None:
        self.text = text
        self.raw = raw
        self.level = level
        self.patterns = _loaded()
        self.spans: list[tuple[int, int]] = []
        self.wide = b""
        self.wide_end = 0

    def result(self) -> str:
        self.spans.sort()
        parts: list[str] = []
        done = start = 0
        end = -1
        for first, last in [*self.spans, (len(self.text) + 1, 0)]:
            if first <= end:
                end = max(end, last)
                continue
            if end >= 0:
                parts += (self.text[done:start], REDACTED)
                done = end
            start, end = first, last
        return "".join(parts) + self.text[done:]

    def give_up(self, start: int) -> None:
        """Too much to look at: the rest goes."""
        self.spans.append((start, len(self.text)))

    # Long words: keys, tokens, PEM, base64.

    def at_runs(self, start: int) -> None:
        words = self.raw.translate(_WORDS)
        self.at_pem()
        areas = self.raw.translate(_AREAS)
        area_end = 0
        for _ in range(PLACES_MAX):
            if start >= area_end:
                area_start, area_end = _around(areas, start)
                self.at_area(area_start, area_end)
            end = words.find(b" ", start)
            end = len(words) if end < 0 else end
            start = words.find(_RUN_BYTES, self.at_base64(start, end))
            if start < 0:
                return
        self.give_up(start)

    def at_pem(self) -> None:
        start = self.text.find("-----BEGIN ")
        while start >= 0:
            end = self.text.find("-----END ", start)
            closing = self.text.find("-----", end + 9) if end >= 0 else -1
            end = closing + 5 if closing >= 0 else len(self.text)
            self.spans.append((start, end))
            start = self.text.find("-----BEGIN ", end)

    def at_area(self, start: int, end: int) -> None:
        """Characters of keys and paths in a row: keys anywhere in it, or all of it behind `Bearer` or `Basic`."""
        text = self.text
        if end - start not in _HEX_LENGTHS or text[start:end].strip(_HEX):
            self.spans += [match.span() for match in self.patterns.PROVIDER.finditer(text, start, end)]
        scheme = text[max(0, start - 7) : start].lower()
        if scheme == "bearer ":
            if end - start >= 24 or not text[start:end].strip(".=").isalpha():
                self.spans.append((start, end))
        elif scheme.endswith("basic ") and ":" in _decoded(text[start:end]):
            self.spans.append((start, end))

    def at_base64(self, start: int, end: int) -> int:
        """A run of word characters, what it is a part of in the other alphabet, and its parts between `-` and `_`.

        Returns up to where the text is settled.
        """
        text = self.text
        run = text[start:end]
        if self.level >= BASE64_LEVELS_MAX or run.islower() or run.isupper():  # encoded text is of both
            return end
        if text[end : end + 1] in _SLASHES or text[max(0, start - 1) : start] in _SLASHES:
            self.wide = self.wide or self.raw.translate(_BASE64)
            for inside in (start, end - 1):
                if self.wide[inside] == _W and inside >= self.wide_end:
                    first, self.wide_end = _around(self.wide, inside)
                    self.at_encoded(first, self.wide_end)
                    if self.wide_end - first >= BLOB_CHARS_MIN:
                        return self.wide_end
        self.at_encoded(start, end)
        if ("-" in run or "_" in run) and end - start < BLOB_CHARS_MIN:
            for part in self.patterns.BASE64_PART.finditer(text, start, end):
                self.at_encoded(*part.span())
        return end

    def at_encoded(self, start: int, end: int) -> None:
        text = self.text
        inner = _decoded(text[start:end])
        if len(inner) < TEXT_CHARS_MIN or _cleaned(inner, self.level + 1) is inner:
            return
        while text[end : end + 1] == "=":
            end += 1
        self.spans.append((start, end))

    # Words that name a secret, with a value behind them.

    def at_names(self) -> None:
        text = self.text
        if len(text) <= SHORT_CHARS_MAX and not self.patterns.SEPARATOR.search(text):
            return
        low = text.replace("\u0130", "i").lower()  # the only letter that is longer in lower case
        low = low.replace("tokens", "t-kens")  # these are counted
        places: list[int] = []
        for stem in STEMS:
            at = low.find(stem)
            room = PLACES_MAX
            while at >= 0 and room:
                places.append(at + len(stem))
                at = low.find(stem, at + len(stem))
                room -= 1
            if at >= 0:
                self.give_up(at)
        places.sort()
        done = -1
        room = VALUES_MAX
        match = self.patterns.ASSIGNMENT.match
        for place in places:
            if place > done:
                found = match(text, place)
                if found:
                    before = len(self.spans)
                    done = self.at_assignment(place, found)
                    room -= len(self.spans) - before
                    if not room:
                        self.give_up(done)
                        break

    def at_assignment(self, place: int, found: Match[str]) -> int:
        """`place` is the end of the secret word in the name. Returns up to where the text is settled."""
        text = self.text
        left = self.patterns.NAME_BACKWARDS.match(text[max(0, place - self.patterns.NAME_CHARS_MAX) : place][::-1])
        start = place - left.end() if left else place
        if text[max(0, start - 1) : start] == "%":
            start += 2  # the digits of an escaped sign in front of the name
        name = text[start : found.end(1)]
        _, name_quote, separator, value_quote = found.groups()
        value = found.end()
        words = secret_words(name) or self.signature_words(start, name, separator)
        if not words:
            return place
        is_prose = separator == ":" and not name_quote
        if is_prose and (words[-1] not in SECRET_WORDS or words[0] in _FAULTS):  # KeyError: 'name'
            return place
        if value_quote:
            return self.replace(value, self.closing(value_quote.removeprefix("b"), value))
        if text[value : value + 1] in _OPENING:
            return self.replace(value, self.bracket_end(value))
        if is_prose and len(words) == 1 and words[0] in _PROSE:
            return place
        return self.at_bare_value(value, name, words, is_prose=is_prose)

    def signature_words(self, start: int, name: str, separator: str) -> tuple[str, ...]:
        """A signed URL opens what it names."""
        is_query = separator != ":" and self.text[max(0, start - 1) : start] in _QUERY
        return ("signature",) if is_query and name.lower().endswith(("sig", "signature")) else ()

    def at_bare_value(self, start: int, name: str, words: tuple[str, ...], *, is_prose: bool) -> int:
        text, patterns = self.text, self.patterns
        if is_prose and words[-1] in _COOKIES:
            return self.replace(start, self.line_end(start))
        if words[-1] == "authorization":
            scheme = patterns.SCHEME.match(text, start)
            if scheme:
                start = scheme.end()
                if scheme[1]:
                    return self.replace(start, self.line_end(start))
        found: Match[str] | None = patterns.VALUE.match(text, start)
        if not found:
            return start
        value = found[0]
        if patterns.LITERAL.fullmatch(value) and not (value[0] in "0123456789" and _PASSWORDS.intersection(words)):
            return found.end()
        if patterns.CODE.match(value) or value == name or (is_prose and len(value) < PROSE_CHARS_MIN):
            return found.end()
        return self.replace(start, found.end())

    def closing(self, quote: str, start: int) -> int:
        """Where a quoted value ends: at the same quote with as many backslashes, or with the text."""
        at = self.text.find(quote, start)
        for _ in range(BRACKETS_MAX):
            if at < 0:
                break
            if at == start or self.text[at - 1] != "\\":
                return at
            at = self.text.find(quote, at + 1)
        return len(self.text)

    def line_end(self, start: int) -> int:
        end: Match[str] | None = self.patterns.LINE_END.search(self.text, start)
        return end.start() if end else len(self.text)

    def bracket_end(self, start: int) -> int:
        depth = 0
        bracket: Match[str]
        for count, bracket in enumerate(self.patterns.BRACKET.finditer(self.text, start)):
            depth += 1 if bracket[0] in _OPENING else -1
            if depth == 0:
                return bracket.end()
            if count >= BRACKETS_MAX:
                break
        return len(self.text)

    def replace(self, start: int, end: int) -> int:
        if end > start and self.text[start:end] != REDACTED:
            self.spans.append((start, end))
        return end

    # Passwords in URLs, payment cards.

    def at_addresses(self) -> None:
        if "@" in self.text and ":/" in self.text:
            for count, match in enumerate(self.patterns.USERINFO.finditer(self.text)):
                if count >= PLACES_MAX:
                    self.give_up(match.start(1))
                    break
                self.spans.append(match.span(1))

    def at_cards(self) -> None:
        room = VALUES_MAX
        for match in self.patterns.CARD.finditer(self.text):
            digits = (match[1] or "").replace(" ", "").replace("-", "")
            if digits and len(digits) in _CARD_LENGTHS[digits[0]]:
                room -= 1
                if room < 0 or _has_check_digit(digits):
                    self.spans.append(match.span())


def _around(classes: bytes, at: int) -> tuple[int, int]:
    """The bounds of the word at `at`."""
    end = classes.find(b" ", at)
    return classes.rfind(b" ", 0, at) + 1, len(classes) if end < 0 else end


def _decoded(encoded: str) -> str:
    """The text in base64 of either alphabet, padded or not; nothing if it is not a text."""
    encoded = encoded.rstrip("=").replace("-", "+").replace("_", "/")
    rest = len(encoded) % 4
    try:
        data = a2b_base64(encoded[:-1] if rest == 1 else encoded + "=" * (-len(encoded) % 4))
        return data.decode()
    except UnicodeDecodeError as error:
        # Not a text, or one that was cut within its last letter.
        return data[: error.start].decode() if error.start >= len(data) - 3 else ""
    except ValueError:  # other signs, or a wrong length
        return ""


def _has_check_digit(digits: str) -> bool:
    """Luhn's sum, as every card has it."""
    doubled = sum([_DOUBLED[digit] for digit in digits[-2::-2]])
    return (doubled + sum(map(int, digits[::-2]))) % 10 == 0
