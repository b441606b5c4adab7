"""Secrets in what a caller gave: found by name and by form, and replaced by `<redacted>` before anything is encoded.

Promises  Never waits and never logs. Time is linear in the text and ends with the effort: 65,536 characters take
          1 ms of prose and 4 ms of the worst that is known (Python 3.11, 2.3 GHz). A text in which nothing is found comes back as the same object.
          What is replaced is the secret alone where its bounds are clear (`?token=<redacted>&page=2`), else more.
          Cleaning twice changes nothing. Numbers, booleans, None and empty texts are never secrets.
By name   Under a secret name (`scrub/names`) every text is replaced, however deep; so is the second of a pair
          (`["Cookie", "a=b"]`) and the `value` beside such a `name`.
By form   Keys of known providers, JWT, PEM, bearer tokens, payment cards, passwords in URLs, and `name=value` or
          `"name": "value"` with a secret name inside a text, in up to seven JSON texts within each other. The same in
          base64, twice.
Not here  texts below 8 characters, keys without a known form or name, secrets that were split, encrypted, compressed.
Limits    One `Effort` for all of a value: characters that are looked at closely, suspicious places, unknown names. When
          it is spent, about 2 ms, what is suspicious is replaced without a closer look: the rest of the text, every
          text and key for which `may_hold_secret` says yes, every dict with names that are not known.

The usual case must be cheap. One translation of the bytes into four classes (word, digit, separator, other) and three
searches in C answer it for all texts of a dict at once: `may_hold_secret` costs 1.0 µs for 300 characters, where `re`
takes 1.5 µs to find one set of characters. Patterns are tried only at places that such a search has found.
"""

from __future__ import annotations

from binascii import a2b_base64

from leeward.scrub.names import (
    SECRET_WORDS,
    STEMS,
    is_known,
    is_secret_name,
    plain_names,
    remember_plain,
    secret_words,
    words_set,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from re import Match
    from types import ModuleType
    from typing import Any, Final

__all__ = [
    "KINDS",
    "REDACTED",
    "RUN",
    "TEXT_CHARS_MIN",
    "Effort",
    "clean",
    "clean_text",
    "has_card_form",
    "learn_names",
    "load",
    "may_hold_secret",
    "plain_names",
]

REDACTED: Final = "<redacted>"
TEXT_CHARS_MIN: Final = 8  # a shorter text holds no secret by its form
RUN_CHARS_MIN: Final = 16  # every key of a known form has this many letters, digits, `-` and `_` in a row
CARD_DIGITS_MIN: Final = 13
# Of one value; each unit is about 0.1 µs at worst. The prices were measured.
EFFORT_MAX: Final = 18_000
TEXT_EFFORT: Final = 40
TEXT_CHARS_PER_EFFORT: Final = 16
RUN_EFFORT: Final = 12
RUN_CHARS_PER_EFFORT: Final = 16
STEM_EFFORT: Final = 8
ASSIGNMENT_EFFORT: Final = 50
VALUE_CHARS_PER_EFFORT: Final = 4
ADDRESS_EFFORT: Final = 6
CARD_EFFORT: Final = 20
NAME_EFFORT: Final = 40
NAME_CHAR_EFFORT: Final = 6  # above the first 32
NAME_CHARS_FREE: Final = 32
NAME_CHARS_MAX: Final = 300  # a longer text is no name; keys are shorter
CHUNK_LENGTH: Final = 50  # names or texts that are asked at once
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


KINDS: Final = _classes((b"w", _LETTERS + b"-_"), (b"d", _DIGITS), (b"=", b"=:%"))
_WORDS: Final = _classes((b"w", _LETTERS + _DIGITS + b"-_"))
_BASE64: Final = _classes((b"w", _LETTERS + _DIGITS + b"+/"))
_AREAS: Final = _classes((b"w", _LETTERS + _DIGITS + b"-_+/.~="))
RUN: Final = "w" * RUN_CHARS_MIN
_RUN_BYTES: Final = b"w" * RUN_CHARS_MIN
HEX: Final = "0123456789abcdefABCDEF-"
HEX_LENGTHS: Final = frozenset((32, 36, 40, 64))  # UUIDs and digests: met often, and never a secret by their form

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


class Effort:
    """How much more work one value may cause; below 1 it is spent."""

    __slots__ = ("left",)

    def __init__(self, left: int = EFFORT_MAX) -> None:
        self.left = left


def clean(value: Any, names: Iterable[str] = (), texts: Sequence[str] = (), effort: Effort | None = None) -> Any:
    """A bounded plain value without its secrets; lists and dicts are changed in place.

    `names` and `texts` are those of the value that are not known: most of them are settled many at once.
    """
    return _Cleaning(effort or Effort(), names, texts).value(value, secret=False)


def learn_names(names: Iterable[str]) -> bool:
    """Remember the plain ones among new names, many at once; whether all of them were plain."""
    unknown = [name for name in dict.fromkeys(names) if name not in plain_names]
    total = len(unknown)
    unknown = [name for name in unknown if len(name) <= REMEMBERED_CHARS_MAX]
    are_plain = len(unknown) == total
    for first in range(0, len(unknown), CHUNK_LENGTH):
        chunk = unknown[first : first + CHUNK_LENGTH]
        joined = "\n".join(chunk)
        if may_hold_secret(joined) or _may_name_secret(joined.lower()):
            are_plain = False
        else:
            remember_plain(*chunk)
    return are_plain


def _may_name_secret(low: str) -> bool:
    return "value" in low or any(stem in low for stem in STEMS)


class _Cleaning:
    """One value's way through, and what is left of its effort."""

    __slots__ = ("effort", "harmless")

    def __init__(self, effort: Effort, names: Iterable[str], texts: Sequence[str]) -> None:
        self.effort = effort
        self.harmless: set[str] = set()
        learn_names(names)
        for first in range(0, len(texts), CHUNK_LENGTH):
            chunk = texts[first : first + CHUNK_LENGTH]
            if not may_hold_secret("\n".join(chunk)):
                self.harmless.update(chunk)

    def value(self, value: Any, *, secret: bool) -> Any:
        kind = type(value)
        if kind is str:
            if secret:
                return REDACTED if value else value
            if value in self.harmless:
                return value
            return clean_text(value, self.effort) if self.effort.left > 0 else _unseen(value)
        if kind is list:
            return self.sequence(value, secret=secret)
        if kind is dict:
            if (
                self.effort.left <= 0
                and not plain_names.issuperset(value)
                and not all(name in plain_names or is_known(name) for name in value)
            ):
                return REDACTED
            return self.mapping(value, secret=secret)
        return value

    def is_secret_name(self, name: str) -> bool:
        if not is_known(name):
            if len(name) > NAME_CHARS_MAX:
                return False
            if self.effort.left <= 0:
                return True
            self.effort.left -= NAME_EFFORT + NAME_CHAR_EFFORT * max(0, len(name) - NAME_CHARS_FREE)
        return is_secret_name(name)

    def sequence(self, value: list[Any], *, secret: bool) -> list[Any]:
        # A header as a pair; what were bytes are texts by now.
        if len(value) == 2 and type(value[0]) is type(value[1]) is str and self.is_secret_name(value[0]):
            value[1] = self.value(value[1], secret=_loaded().LABEL.fullmatch(value[0]) is not None)
        for index, item in enumerate(value):
            if type(item) in _MAY_HOLD_TEXT:
                value[index] = self.value(item, secret=secret)
        return value

    def mapping(self, value: dict[str, Any], *, secret: bool) -> dict[str, Any]:
        new_names: dict[str, str] = {}
        for key, item in value.items():
            is_secret = secret
            if key not in plain_names:
                is_secret = secret or self.is_secret_name(key) or (key == "value" and self.is_named_secret(value))
                name = clean_text(key, self.effort) if self.effort.left > 0 else _unseen(key)
                if name is not key:
                    new_names[key] = name
                elif not is_secret and key != "value":
                    remember_plain(key)
            if type(item) in _MAY_HOLD_TEXT:
                value[key] = self.value(item, secret=is_secret)
        return _renamed(value, new_names) if new_names else value

    def is_named_secret(self, value: dict[str, Any]) -> bool:
        """A header as {"name": …, "value": …}."""
        name = value.get("name")
        return type(name) is str and self.is_secret_name(name)


def _unseen(text: str) -> str:
    """A text for which no effort is left."""
    return REDACTED if len(text) >= TEXT_CHARS_MIN and may_hold_secret(text) else text


def _renamed(value: dict[str, Any], new_names: dict[str, str]) -> dict[str, Any]:
    """With clean keys; different keys stay different keys."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = new_names.get(key, key)
        result[f"{name}#{len(result)}" if name in result else name] = item
    return result


# --- texts ------------------------------------------------------------------------------------------------------------


def may_hold_secret(text: str) -> bool:
    """Whether a text needs a closer look; False is certain."""
    kinds = text.encode("ascii", "replace").translate(KINDS).decode()  # searches are faster in a str
    return (
        "=" in kinds or (kinds.count("d") >= CARD_DIGITS_MIN and has_card_form(kinds)) or RUN in kinds.replace("d", "w")
    )


def has_card_form(kinds: str) -> bool:
    """Whether digits stand as on a card, in a text that was translated by `KINDS`."""
    run, spaced, hyphened, spaced_amex, hyphened_amex = _CARD_FORMS
    return run in kinds or spaced in kinds or hyphened in kinds or spaced_amex in kinds or hyphened_amex in kinds


def clean_text(text: str, effort: Effort | None = None) -> str:
    """The text with what is secret by its form replaced; the same object if there is nothing."""
    effort = effort or Effort()
    length = len(text)
    if length < TEXT_CHARS_MIN:
        return text
    if length > REMEMBERED_CHARS_MAX:
        return _cleaned(text, 0, effort)
    if text in _clean_texts or (length in HEX_LENGTHS and not text.strip(HEX)):
        return text
    cleaned = _cleaned(text, 0, effort)
    if cleaned is text:
        if len(_clean_texts) >= REMEMBERED_MAX:
            _clean_texts.clear()
        _clean_texts.add(text)
    return cleaned


def _cleaned(text: str, level: int, effort: Effort) -> str:
    """`level`: out of how many layers of base64 the text was taken."""
    raw = text.encode("ascii", "replace")  # one byte a character: the same positions
    kinds = raw.translate(KINDS).decode()
    has_separator = "=" in kinds
    has_digits = kinds.count("d") >= CARD_DIGITS_MIN and has_card_form(kinds)
    first_run = kinds.replace("d", "w").find(RUN)
    if not (has_separator or has_digits or first_run >= 0):
        return text
    if effort.left <= 0:
        return REDACTED
    effort.left -= TEXT_EFFORT + len(text) // TEXT_CHARS_PER_EFFORT
    look = _Look(text, raw, level, effort)
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

    __slots__ = ("effort", "level", "patterns", "raw", "spans", "text", "wide", "wide_end")

    def __init__(self, text: str, raw: bytes, level: int, effort: Effort) -> None:
        self.text = text
        self.raw = raw
        self.level = level
        self.effort = effort
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
        while self.effort.left > 0:
            if start >= area_end:
                area_start, area_end = _around(areas, start)
                self.effort.left -= (area_end - area_start) // RUN_CHARS_PER_EFFORT
                self.at_area(area_start, area_end)
            self.effort.left -= RUN_EFFORT
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
        if end - start not in HEX_LENGTHS or text[start:end].strip(HEX):
            self.spans += [match.span() for match in self.patterns.PROVIDER.finditer(text, start, end)]
            self.spans += [match.span() for match in self.patterns.JWT.finditer(text, start, end) if match[1]]
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
        self.effort.left -= RUN_EFFORT
        inner = _decoded(text[start:end])
        if len(inner) < TEXT_CHARS_MIN or _cleaned(inner, self.level + 1, self.effort) is inner:
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
            while at >= 0:
                if self.effort.left <= 0:
                    self.give_up(at)
                    break
                self.effort.left -= STEM_EFFORT
                places.append(at + len(stem))
                at = low.find(stem, at + len(stem))
        places.sort()
        done = -1
        match = self.patterns.ASSIGNMENT.match
        for place in places:
            if place > done:
                found = match(text, place)
                if found and self.effort.left <= 0:
                    self.give_up(place)
                    break
                if found:
                    done = self.at_assignment(place, found)
                    self.effort.left -= ASSIGNMENT_EFFORT + (done - place) // VALUE_CHARS_PER_EFFORT

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
            for match in self.patterns.USERINFO.finditer(self.text):
                if self.effort.left <= 0:
                    self.give_up(match.start(1))
                    break
                self.effort.left -= ADDRESS_EFFORT
                self.spans.append(match.span(1))

    def at_cards(self) -> None:
        for match in self.patterns.CARD.finditer(self.text):
            digits = (match[1] or "").replace(" ", "").replace("-", "")
            if digits and len(digits) in _CARD_LENGTHS[digits[0]]:
                if self.effort.left <= 0:
                    self.give_up(match.start())
                    break
                self.effort.left -= CARD_EFFORT
                if _has_check_digit(digits):
                    rest = self.patterns.REST_OF_WORD.match(self.text, match.end())
                    self.spans.append((match.start(), rest.end()))


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
