"""Secrets in what a caller gave: found by name and by form, and replaced by `<redacted>` before anything is encoded.

Promises  Never waits and never logs; time is linear in the text, so that the caller's thread is not held: at most about
          5 ms for 131,072 characters of any kind. A text in which nothing is found comes back as the same object.
          What is replaced is the secret alone where its bounds are clear (`?token=<redacted>&page=2`), else more.
          Cleaning twice changes nothing. Numbers, booleans, None and empty texts are never secrets.
By name   Whole words, split at signs and at camelCase: `X-Api-Key`, `dbPassword`, `client_secrets`. Under such a name
          every text is replaced, however deep; so is the second of a pair (`["Cookie", "a=b"]`) and the `value` beside
          such a `name`. Names that only sound so stay: `session_id`, `max_tokens`, `token_count`, `idempotency_key`.
By form   Keys of known providers, JWT, PEM, bearer tokens, payment cards, passwords in URLs, and `name=value` or
          `"name": "value"` with a secret name inside a text, at any depth of JSON within JSON. The same in base64.
Not here  texts below 8 characters, keys without a known form, secrets that were split, encrypted or compressed.
Limits    of one text, what is behind its first 1,000 suspicious places is replaced without a closer look.

The usual case must be cheap. One translation of the bytes into four classes (word, digit, separator, other) and three
searches in C answer it for all texts of a dict at once: `may_hold_secret` costs 0.6 µs for 300 characters, where the
simplest pattern of `re` needs 1.5 µs. Patterns are tried only at places that such a search has found.
"""

from __future__ import annotations

from binascii import a2b_base64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import Match, Pattern
    from typing import Any, Final

__all__ = ["REDACTED", "TEXT_CHARS_MIN", "clean", "clean_text", "is_secret_name", "load", "may_hold_secret", "plain_names"]

REDACTED: Final = "<redacted>"
TEXT_CHARS_MIN: Final = 8  # a shorter text holds no secret by its form
RUN_CHARS_MIN: Final = 16  # every key of a known form has this many letters, digits, `-` and `_` in a row
CARD_DIGITS_MIN: Final = 13
PLACES_MAX: Final = 1_000  # of one kind, in one text
BASE64_LEVELS_MAX: Final = 2
NAME_CHARS_MAX: Final = 48  # of a name inside a text, to the left and right of its secret word
SHORT_CHARS_MAX: Final = 2_000  # a text this short is first asked by a pattern for a separator behind a name
PROSE_CHARS_MIN: Final = 4  # of a value behind a colon without quotes
BRACKETS_MAX: Final = 200  # of a list or object under a secret name inside a text
REMEMBERED_MAX: Final = 4_096  # names and short texts whose answer is kept; then it starts anew
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
_RUN: Final = b"w" * RUN_CHARS_MIN

# --- names ------------------------------------------------------------------------------------------------------------

_SINGULAR: Final = (
    "auth authorization token secret password passwd passcode passphrase pwd key jwt bearer sso saml csrf xsrf cookie "
    "credential session private apikey"
).split()
_SECRET_WORDS: Final = frozenset(_SINGULAR + [f"{word}s" for word in _SINGULAR if word != "token"])
_SECRET_ENDINGS: Final = ("password", "passwd", "secret", "apikey", "token")  # of words that were written as one
_SECRET_WHOLE: Final = frozenset("accesskey authkey privatekey secretkey sessionkey signingkey encryptionkey".split())
# What such a name says about a secret without being one.
_HARMLESS_LAST: Final = frozenset("tokens count counts type method provider status length limit usage expires at".split())
_HARMLESS_KEYS: Final = frozenset("public primary foreign partition sort routing idempotency dedup".split())
_HARMLESS_NAMES: Final = frozenset([("session", "id"), ("session", "ids"), ("distinct", "id"), ("fingerprint",)])
# A colon behind one of these alone is prose as a rule: "Session: started".
_PROSE: Final = frozenset("auth bearer key keys private session sessions sso saml".split())
_FAULTS: Final = frozenset("bad duplicate expired invalid malformed missing no unexpected unknown wrong".split())
# One of these is part of every secret name, in lower case.
_STEMS: Final = tuple(
    "key token secret pass auth pwd cookie session credential bearer private jwt srf saml sso sig".split()
)

plain_names: Final[set[str]] = set()  # names that are neither secret nor hold a secret; at most `REMEMBERED_MAX`
_secret_names: Final[dict[str, bool]] = {}
_clean_texts: Final[set[str]] = set()


def is_secret_name(name: str) -> bool:
    """Whether what stands under this name is a secret."""
    known = _secret_names.get(name)
    if known is None:
        low = name.lower()
        known = any(stem in low for stem in _STEMS) and _is_secret(_words_of(name))
        if len(name) <= REMEMBERED_CHARS_MAX:
            if len(_secret_names) >= REMEMBERED_MAX:
                _secret_names.clear()
            _secret_names[name] = known
    return known


def _words_of(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _loaded().word.findall(name))


def _is_secret(words: tuple[str, ...]) -> bool:
    if not words or words[-1] in _HARMLESS_LAST or words[-2:] in _HARMLESS_NAMES or words[-1:] in _HARMLESS_NAMES:
        return False
    if words[-1] == "key" and len(words) > 1 and words[-2] in _HARMLESS_KEYS:
        return False
    if words[-1] == "pass" and len(words) > 1:
        return True
    return any(word in _SECRET_WORDS or word in _SECRET_WHOLE or word.endswith(_SECRET_ENDINGS) for word in words)


# --- plain values -----------------------------------------------------------------------------------------------------


def clean(value: Any, *, secret: bool = False) -> Any:
    """A bounded plain value without its secrets. Lists and dicts are changed in place; `secret`: every text goes."""
    kind = type(value)
    if kind is str:
        return (REDACTED if value else value) if secret else clean_text(value)
    if kind is list:
        # A header as a pair; bytes are texts by now.
        is_pair = len(value) == 2 and type(value[0]) is str and type(value[1]) is str
        if is_pair and not secret and is_secret_name(value[0]):
            value[1] = clean(value[1], secret=True)
        value[:] = [clean(item, secret=secret) for item in value]
        return value
    return _clean_dict(value, secret) if kind is dict else value


def _clean_dict(value: dict[str, Any], secret: bool) -> dict[str, Any]:
    renamed = False
    for key, item in value.items():
        if key in plain_names:
            if secret or type(item) in _MAY_HOLD_TEXT:
                value[key] = clean(item, secret=secret)
            continue
        is_secret = is_secret_name(key)
        if clean_text(key) is not key:
            renamed = True
        elif not is_secret and key != "value":
            if len(plain_names) >= REMEMBERED_MAX:
                plain_names.clear()
            plain_names.add(key)
        elif key == "value" and not secret:
            name = value.get("name")
            is_secret = type(name) is str and is_secret_name(name)
        value[key] = clean(item, secret=secret or is_secret)
    return _renamed(value) if renamed else value


def _renamed(value: dict[str, Any]) -> dict[str, Any]:
    """With clean keys; different keys stay different keys."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = clean_text(key)
        result[f"{name}#{len(result)}" if name in result else name] = item
    return result


_MAY_HOLD_TEXT: Final = frozenset((str, list, dict))

# --- texts ------------------------------------------------------------------------------------------------------------


def may_hold_secret(text: str) -> bool:
    """Whether a text needs a closer look; False is certain."""
    kinds = text.encode("ascii", "replace").translate(_KINDS)
    return b"=" in kinds or _RUN in kinds.replace(b"d", b"w") or kinds.count(b"d") >= CARD_DIGITS_MIN


def clean_text(text: str) -> str:
    """The text with what is secret by its form replaced; the same object if there is nothing."""
    if len(text) < TEXT_CHARS_MIN:
        return text
    if len(text) > REMEMBERED_CHARS_MAX:
        return _look(text, 0) if may_hold_secret(text) else text
    if text in _clean_texts:
        return text
    if may_hold_secret(text):
        cleaned = _look(text, 0)
        if cleaned is not text:
            return cleaned
    if len(_clean_texts) >= REMEMBERED_MAX:
        _clean_texts.clear()
    _clean_texts.add(text)
    return text


def _look(text: str, level: int) -> str:
    """A closer look at a suspicious text. `level`: how many layers of base64 it was taken out of."""
    look = _Look(text, level)
    look.at_runs()
    look.at_names()
    look.at_addresses()
    look.at_cards()
    return look.result()


class _Look:
    """One text and the spans of it that are to be replaced. Each method looks for one kind of place."""

    __slots__ = ("decodings", "level", "patterns", "raw", "spans", "text", "wide", "wide_end")

    def __init__(self, text: str, level: int) -> None:
        self.text = text
        self.level = level
        self.patterns = _loaded()
        self.raw = text.encode("ascii", "replace")  # one byte a character: the same positions
        self.spans: list[tuple[int, int]] = []
        self.decodings = 0
        self.wide: bytes | None = None
        self.wide_end = 0

    def result(self) -> str:
        if not self.spans:
            return self.text
        self.spans.sort()
        parts = []
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

    # Long words: keys, tokens, PEM, base64.

    def at_runs(self) -> None:
        words = self.raw.translate(_WORDS)
        start = words.find(_RUN)
        if start < 0 or not self.text.strip("0123456789abcdef-"):  # a UUID or a digest is met often and holds none
            return
        self.at_pem()
        areas = self.raw.translate(_AREAS)
        area_end = 0
        for _ in range(PLACES_MAX):
            if start >= area_end:
                area_start, area_end = _around(areas, start)
                self.at_area(area_start, area_end)
            end = words.find(b" ", start)
            end = len(words) if end < 0 else end
            self.at_base64(start, end)
            start = words.find(_RUN, end)
            if start < 0:
                return
        self.spans.append((start, len(self.text)))

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
        self.spans += [match.span() for match in self.patterns.provider.finditer(text, start, end)]
        scheme = text[max(0, start - 7) : start].lower()
        if scheme == "bearer ":
            if end - start >= 24 or not text[start:end].strip(".=").isalpha():
                self.spans.append((start, end))
        elif scheme.endswith("basic ") and ":" in _decoded(text[start:end]):
            self.spans.append((start, end))

    def at_base64(self, start: int, end: int) -> None:
        """A run of word characters, what it is a part of in the other alphabet, and its parts between `-` and `_`."""
        text = self.text
        run = text[start:end]
        if self.level >= BASE64_LEVELS_MAX or run.islower() or run.isupper():  # encoded text is of both
            return
        self.at_encoded(start, end)
        if "-" in run or "_" in run:
            for part in self.patterns.part.finditer(text, start, end):
                self.at_encoded(*part.span())
        if end >= self.wide_end and (text[end : end + 1] in _SLASHES or text[max(0, start - 1) : start] in _SLASHES):
            wide = self.raw.translate(_BASE64) if self.wide is None else self.wide
            self.wide = wide
            for inside in (start, end - 1):
                if wide[inside] == _W and inside >= self.wide_end:
                    first, self.wide_end = _around(wide, inside)
                    self.at_encoded(first, self.wide_end)

    def at_encoded(self, start: int, end: int) -> None:
        text = self.text
        self.decodings += 1
        if self.decodings <= PLACES_MAX:
            inner = _decoded(text[start:end])
            if len(inner) < TEXT_CHARS_MIN or not may_hold_secret(inner) or _look(inner, self.level + 1) is inner:
                return
        while text[end : end + 1] == "=":
            end += 1
        self.spans.append((start, end))

    # Words that name a secret, with a value behind them.

    def at_names(self) -> None:
        text = self.text
        if not (":" in text or "=" in text or "%3" in text):
            return
        if len(text) <= SHORT_CHARS_MAX and not self.patterns.separator.search(text):
            return
        low = text.replace("\u0130", "i").lower()  # the only letter that is longer in lower case
        places: list[int] = []
        for stem in _STEMS:
            at = low.find(stem)
            room = PLACES_MAX
            while at >= 0 and room:
                places.append(at + len(stem))
                at = low.find(stem, at + len(stem))
                room -= 1
            if at >= 0:
                self.spans.append((at, len(text)))
        places.sort()
        done = -1
        match = self.patterns.assignment.match
        for place in places:
            if place > done:
                found = match(text, place)
                if found:
                    done = self.at_assignment(place, found)

    def at_assignment(self, place: int, found: Match[str]) -> int:
        """`place` is the end of the secret word in the name. Returns up to where the text is settled."""
        text = self.text
        start = place
        leftmost = max(0, place - NAME_CHARS_MAX)
        while start > leftmost and text[start - 1] in _NAME_CHARACTERS:
            start -= 1
        name = text[start : found.end(1)]
        _, name_quote, separator, value_quote = found.groups()
        value = found.end()
        if not is_secret_name(name) and not self.is_signature(start, name, separator):
            return place
        words = _words_of(name)
        is_prose = separator == ":" and not name_quote
        if is_prose and (words[-1] not in _SECRET_WORDS or words[0] in _FAULTS):  # KeyError: 'name'
            return place
        if value_quote:
            return self.replace(value, self.closing(value_quote.removeprefix("b"), value))
        if text[value : value + 1] in _OPENING:
            return self.replace(value, self.bracket_end(value))
        if is_prose and len(words) == 1 and words[0] in _PROSE:
            return place
        return self.at_bare_value(value, name, words, is_prose=is_prose)

    def is_signature(self, start: int, name: str, separator: str) -> bool:
        """A signed URL opens what it names."""
        return separator != ":" and self.text[start - 1 : start] in _QUERY and name.lower().endswith(("sig", "signature"))

    def at_bare_value(self, start: int, name: str, words: tuple[str, ...], *, is_prose: bool) -> int:
        text, patterns = self.text, self.patterns
        if is_prose and words[-1] in _COOKIES:
            return self.replace(start, self.line_end(start))
        if words[-1] == "authorization":
            scheme = patterns.scheme.match(text, start)
            if scheme:
                start = scheme.end()
                if scheme[1]:
                    return self.replace(start, self.line_end(start))
        found = patterns.value.match(text, start)
        if not found:
            return start
        value = found[0]
        if patterns.literal.fullmatch(value) and not (value[0] in "0123456789" and _PASSWORDS.intersection(words)):
            return found.end()
        if patterns.code.match(value) or value == name or (is_prose and len(value) < PROSE_CHARS_MIN):
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
        end = self.patterns.line_end.search(self.text, start)
        return end.start() if end else len(self.text)

    def bracket_end(self, start: int) -> int:
        depth = 0
        for count, bracket in enumerate(self.patterns.bracket.finditer(self.text, start)):
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
        if "@" in self.text and "://" in self.text:
            self.spans += [match.span(1) for match in self.patterns.userinfo.finditer(self.text)]

    def at_cards(self) -> None:
        if self.raw.translate(_KINDS).count(b"d") < CARD_DIGITS_MIN:
            return
        for count, match in enumerate(self.patterns.card.finditer(self.text)):
            if count >= PLACES_MAX or _is_card(match[0]):
                self.spans.append(match.span())


def _around(classes: bytes, at: int) -> tuple[int, int]:
    """The bounds of the word at `at`."""
    end = classes.find(b" ", at)
    return classes.rfind(b" ", 0, at) + 1, len(classes) if end < 0 else end


def _decoded(encoded: str) -> str:
    """What base64 of either alphabet says, a character a byte; padded or not."""
    encoded = encoded.rstrip("=").replace("-", "+").replace("_", "/")
    rest = len(encoded) % 4
    try:
        return a2b_base64(encoded[:-1] if rest == 1 else encoded + "=" * (-len(encoded) % 4)).decode("latin-1")
    except ValueError:
        return ""


def _is_card(spelling: str) -> bool:
    """Luhn's sum, and a length that cards with this first digit have."""
    digits = spelling.replace(" ", "").replace("-", "")
    if len(digits) not in _CARD_LENGTHS[digits[0]]:
        return False
    return sum(map(int, digits[::-2] + "".join([_DOUBLED[digit] for digit in digits[-2::-2]]))) % 10 == 0


_W: Final = ord("w")
_SLASHES: Final = frozenset("+/")
_OPENING: Final = frozenset("[{(")
_QUERY: Final = frozenset("?&")
_COOKIES: Final = frozenset(("cookie", "cookies"))
_PASSWORDS: Final = frozenset("password passwd passphrase passcode pass pwd secret".split())
_NAME_CHARACTERS: Final = frozenset((_LETTERS + _DIGITS + b"_-.").decode())
_DOUBLED: Final = {str(digit): str(2 * digit // 10 + 2 * digit % 10) for digit in range(10)}
_CARD_LENGTHS: Final = {"2": (16,), "3": (14, 15, 16), "4": (13, 16, 19), "5": (16,), "6": tuple(range(13, 20))}

# --- patterns ---------------------------------------------------------------------------------------------------------

# Each begins with a letter, so that they can be sorted by it: most are ruled out by one comparison.
_PROVIDERS: Final = r"""
    sk-(?:(?=[A-Za-z_-]{0,18}[0-9])[\w-]{13,}|[\w-]{20,})
    [sr]k_(?:live|test|prod)_\w{10,}  whsec_[\w+/=]{16,}  sess-\w{20,}
    A(?:KIA|SIA)[A-Z0-9]{16}  AIza[\w-]{30,}  ATATT3[\w=-]{20,}  AGE-SECRET-KEY-1\w{20,}
    AA[\w-]{33}(?<=[0-9]:.{35})
    ya29\.[\w-]{20,}  GOCSPX-[\w-]{20,}
    gh[pousr]_\w{20,}  github_pat_\w{20,}  gl(?:pat|ptt|dt|rt|cbt|ft|soat|agent|imt)-[\w-]{16,}  gsk_\w{20,}
    xox[a-z](?:\.xox[a-z])?-[\w-]{10,}  xapp-[\w-]{16,}  xai-\w{20,}
    hf_\w{20,}  hvs\.[\w-]{20,}  hooks\.slack\.com/services/[\w/]{20,}
    npm_\w{30,}  ntn_\w{20,}  pypi-[\w-]{16,}  pplx-\w{20,}  phx_\w{20,}  pat[A-Z0-9]\w{13}\.\w{30,}
    lw_[A-Za-z0-9]{32}  lin_api_\w{20,}  r8_\w{20,}  tvly-[\w-]{16,}
    SG\.[\w-]{16,}\.[\w-]{16,}  SK[0-9a-f]{32}  key-[0-9a-f]{32}
    shp(?:at|ca|pa|ss)_\w{20,}  sntry[su]_[\w=+/]{20,}  sq0[a-z]{3}-[\w-]{20,}  sbp_\w{20,}
    d(?:op|oo|or)_v1_\w{20,}  dapi[0-9a-f]{32}  dckr_pat_[\w-]{20,}  PMAK-[\w-]{20,}  NRAK-\w{20,}
    eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*){0,3}
"""
_NAME: Final = r"[\w.-]{0,%d}+" % NAME_CHARS_MAX
_QUOTE: Final = r"""\\{0,15}+["']|%2[27]"""
_SEPARATOR: Final = r"=>|:?={1,3}+|:(?!//|:)|%3[AaDd]"
_NEXT_NAME: Final = r"""(?![\s"']|\Z|[\w .-]{1,40}+=)"""  # what makes a sign the end of a value
_VALUE: Final = (
    r"""(?:[^\s&;,"'<\\)\]}%%]++|[&;,]%s|%%(?!2[267]|3[Bb])|\\(?![nrt"'\\])|<(?!/|redacted>)|[)\]}](?![\s,;.)\]}"']|\Z))++"""
    % _NEXT_NAME
)


class _Patterns:
    """All that needs `re`."""

    __slots__ = (
        "assignment bracket card code line_end literal part provider scheme separator userinfo value word".split()
    )

    def __init__(self) -> None:
        import re

        def pattern(source: str, flags: int = 0) -> Pattern[str]:
            return re.compile(source, flags | re.ASCII)

        self.provider = pattern(rf"(?<![A-Za-z0-9])(?:{_by_first_letter(_PROVIDERS.split())})")
        self.part = pattern(r"[A-Za-z0-9]{%d,}+" % RUN_CHARS_MIN)
        self.separator = pattern(r"""[=:%](?:(?<==)|(?<=%)3|(?<=[A-Za-z"'\s\\\]]:)(?!//|:))""")
        self.assignment = pattern(rf"({_NAME})({_QUOTE})?\]?\s{{0,8}}+({_SEPARATOR})\s{{0,8}}+(b?(?:{_QUOTE}))?")
        self.value = pattern(_VALUE)
        self.literal = pattern(r"(?:true|false|null|none|nil|undefined|[-+]?[0-9]+(?:\.[0-9]+)?)", re.IGNORECASE)
        self.code = pattern(r"[A-Za-z_][\w.]*[(\[]|self\.")
        self.line_end = pattern(r"[\r\n\"']")
        self.scheme = pattern(
            r"(?:bearer|basic|token|negotiate|ntlm|api-?key|key|dpop|(digest|hawk|signature|aws4[\w-]*))[ \t]+",
            re.IGNORECASE,
        )
        self.bracket = pattern(r"[\[\]{}()]")
        self.userinfo = pattern(r"""://[^\s/?#@:"'<>\\]*+:([^\s/?#"'<>\\]+)@""")
        self.card = pattern(
            r"[2-6](?<![0-9A-Fa-f].)(?<![0-9]\..)(?:[0-9]{12,18}+|[0-9]{3}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}+"
            r"|[0-9]{3}([ -])[0-9]{6}\2[0-9]{4,5}+)(?![0-9A-Fa-f])"
        )
        self.word = pattern(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def _by_first_letter(sources: list[str]) -> str:
    groups: dict[str, list[str]] = {}
    for source in sources:
        first, rest = (source[:1], source[1:]) if source[0] != "[" else (source[:4], source[4:])
        groups.setdefault(first, []).append(rest)
    return "|".join(f"{first}(?:{'|'.join(rests)})" for first, rests in groups.items())


_patterns: list[_Patterns] = []


def load() -> None:
    """Compile the patterns now, so that no capture pays for it."""
    if not _patterns:
        _patterns.append(_Patterns())


def _loaded() -> _Patterns:
    load()
    return _patterns[0]
