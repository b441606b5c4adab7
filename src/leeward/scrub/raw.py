"""Secrets in raw JSON bytes and in texts, as the server gets them from any SDK: replaced by `<redacted>`.

What is a secret is said by `scrub/secrets` and `scrub/names`; this module finds the same in bytes and leaves every
other byte as it was: numbers keep their spelling, members their order, and the same name may stand there twice.

Promises  What holds no secret comes back as the same object. Of what does, only strings differ, and a path names each
          change without telling the secret. Cleaning twice changes nothing.
          Time is linear in the bytes, about 0.1 s for the worst mebibyte. When the effort is spent, what is suspicious
          is replaced without a closer look; when the steps are, every string of a suspicious rest is emptied.
Expects   a JSON value in valid UTF-8 within `scrub/bounds`, without lone surrogates: the wire's decoder has seen to that.
Differs   from the client in that the server meets payloads of others, in which some names are no names of secrets:
          `key` beside `value` is a name (OpenTelemetry, lists of tags), under `modules` stand names of packages (Sentry),
          and behind `$feature/` those of flags (PostHog).

The usual case is one look: the strings that are not known to be plain, all at once. Names and words come again with
every event, so few are unknown but ids, and those are told by their form. If that look is not certain, each string is
looked at by itself; only if one is a secret, or may be the name of one, goes the way through the value with its places.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from leeward.scrub.names import is_known, is_secret_name
from leeward.scrub.patterns import LABEL
from leeward.scrub.secrets import (
    HEX,
    HEX_LENGTHS,
    KINDS,
    REDACTED,
    RUN,
    TEXT_CHARS_MIN,
    Effort,
    clean_text,
    has_card_form,
    may_hold_secret as may_hold_form,  # of texts by themselves, not of names
)

__all__ = ["PATHS_MAX", "clean_column", "clean_json"]

PATHS_MAX: Final = 50
PATH_NAME_CHARS_MAX: Final = 64
PATH_CHARS_MAX: Final = 200
GIVEN_UP: Final = "…"  # the path of all that is left
NAME_CHARS_MAX: Final = 300  # a longer text is no name
PLAIN_MAX: Final = 16_384  # strings that are known to be plain; then it starts anew
PLAIN_BYTES_MAX: Final = 128
HARMLESS_MAX: Final = 4_096
HARMLESS_BYTES_MAX: Final = 1_024
NEAR_BYTES: Final = 32  # around a string, to tell its place by; among more blanks it may stand anywhere
SCANNED_BYTES_PER_EFFORT: Final = 50
CHUNK_LENGTH: Final = 16  # strings that are looked at together
# Of one value. A unit of effort is about 0.1 µs, a step about 0.4 µs.
EFFORT_MIN: Final = 18_000
BYTES_PER_EFFORT: Final = 3
EFFORT_LEAST: Final = 4_000  # of a small value: a request may bring thousands of them
EFFORT_PER_BYTE: Final = 4
NAME_EFFORT: Final = 40
STEPS_MIN: Final = 4_000
BYTES_PER_STEP: Final = 10  # JSON has a token for every 10 to 20 bytes
UNKNOWN_STEPS: Final = 3
OPEN_STEPS: Final = 3

_STRING_FORM: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'  # possessive: one look at each byte
# A string and, if it is a name, its colon.
_TOKEN: Final = re.compile(rb"(%b)(\s*+:)?|[{}\[\]]" % _STRING_FORM, re.DOTALL)
_ITEM: Final = re.compile(rb"(%b)(\s*+:)?|[{}\[\],]" % _STRING_FORM, re.DOTALL)
_STRING: Final = re.compile(_STRING_FORM, re.DOTALL)
_PAIR: Final = re.compile(rb"\[\s*+(%b)\s*+,\s*+(%b)\s*+\]" % (_STRING_FORM, _STRING_FORM), re.DOTALL)
_ASCII_ESCAPE: Final = re.compile(rb"\\u00[2-7]")
_VERSION: Final = re.compile(rb"v?[0-9][\w.+-]{0,31}")
_DECODE_STRING: Final = msgspec.json.Decoder(str).decode
_ENCODE: Final = msgspec.json.Encoder().encode
_REDACTED_TOKEN: Final = b'"<redacted>"'
_OPENING: Final = frozenset((b"{", b"["))
_TELLING: Final = frozenset(("name", "key"))
_TELLING_NAMES: Final = (b'"name"', b'"key"')
_EMPTY_TOKEN: Final = b'""'
_HEX: Final = HEX.encode()
FLAG: Final = "$feature/"  # in front of a feature flag's name

# Neither the name of a secret nor a text with one, as they stand between the quotes.
_plain: Final[set[bytes]] = set()
_harmless: Final[set[bytes]] = set()  # those that only looked so; of any form, and longer


def clean_json(raw: bytes) -> tuple[bytes, list[str]]:
    """The JSON value without its secrets, and where something was replaced: the first `PATHS_MAX` paths.

    The same object comes back when there is nothing to replace.
    """
    has_escapes = b"\\" in raw
    if has_escapes and _ASCII_ESCAPE.search(raw):
        return _cleaned(raw)
    unknown = _unknown((_without_escaped_quotes(raw) if has_escapes else raw).split(b'"')[1::2])
    if not unknown:
        return raw, []
    if not may_hold_secret(b"\n".join(unknown).decode()):
        _remember(unknown)
        return raw, []
    if has_escapes:
        unknown = _unknown([string[1:-1] for string in _STRING.findall(raw)])
    return (raw, []) if _are_harmless(unknown, raw) else _cleaned(raw)


def clean_column(text: str) -> tuple[str, bool]:
    """A text without its secrets, and whether anything was replaced. The same object when nothing was."""
    length = len(text)
    if (
        length < TEXT_CHARS_MIN
        or (length in HEX_LENGTHS and not text.encode().translate(None, _HEX))
        or not may_hold_secret(text)
    ):
        return text, False
    cleaned = clean_text(text, Effort(_effort(length)))
    return cleaned, cleaned is not text


def may_hold_secret(text: str) -> bool:
    """Whether texts need a closer look, in whichever role they stand; False is certain.

    Every name of a secret has one of these words in it. One expression, as this costs half the time of a loop.
    """
    low = text.lower()
    if (
        "key" in low
        or "token" in low
        or "secret" in low
        or "pass" in low
        or "auth" in low
        or "pwd" in low
        or "cookie" in low
        or "session" in low
        or "credential" in low
        or "bearer" in low
        or "private" in low
        or "jwt" in low
        or "srf" in low
        or "saml" in low
        or "sso" in low
        or ("@" in low and (":/" in low or ":\\/" in low))
        or ("sig" in low and ("=" in low or "%3" in low))
    ):
        return True
    kinds = text.encode("ascii", "replace").translate(KINDS).decode()
    return has_card_form(kinds) or RUN in kinds.replace("d", "w")


def _unknown(strings: list[bytes]) -> list[bytes]:
    """Those of which nothing is known yet, and whose form does not say that they are ids."""
    return [
        string
        for string in strings
        if string not in _plain and (len(string) not in HEX_LENGTHS or string.translate(None, _HEX))
    ]


def _is_plain(raw: bytes) -> bool:
    """One look at all strings of a part of a value; True is certain."""
    if b"\\" in raw:
        if _ASCII_ESCAPE.search(raw):
            return False
        raw = _without_escaped_quotes(raw)
    unknown = _unknown(raw.split(b'"')[1::2])
    return not unknown or not may_hold_secret(b"\n".join(unknown).decode())


def _are_harmless(unknown: list[bytes], raw: bytes) -> bool:
    """A look at each suspicious string: True, and certain, if none is the name of a secret or holds one by its form.

    Then no string is a secret by its place either, and the way through the whole value is saved. What is found to be
    harmless is remembered, long lines of code as well: the frames of an error come again with every error.
    """
    effort = Effort(_effort(len(raw)))
    unknown = [string for string in unknown if string not in _harmless]
    for first in range(0, len(unknown), CHUNK_LENGTH):
        chunk = unknown[first : first + CHUNK_LENGTH]
        if len(chunk) == 1 or may_hold_secret(b"\n".join(chunk).decode()):
            suspicious = {string for string in chunk if may_hold_secret(string.decode())}
            if not all(_is_harmless_string(string, raw, effort) for string in suspicious):
                return False
            chunk = [string for string in chunk if string not in suspicious]
        _remember([string for string in chunk if _is_spelt_plainly(string)])
    return True


def _is_harmless_string(encoded: bytes, raw: bytes, effort: Effort) -> bool:
    text = _decoded(encoded)
    effort.left -= NAME_EFFORT
    if effort.left <= 0:
        return False
    is_name = len(text) <= NAME_CHARS_MAX and is_secret_name(text)
    if is_name:
        effort.left -= len(raw) // SCANNED_BYTES_PER_EFFORT  # for its places in the whole value
    if (is_name and _tells_of_a_neighbour(encoded, raw)) or clean_text(text, effort) is not text:
        return False
    if is_name:
        return True  # in this place
    if len(encoded) <= PLAIN_BYTES_MAX and _is_spelt_plainly(encoded):
        _remember([encoded])
    elif len(encoded) <= HARMLESS_BYTES_MAX:
        if len(_harmless) >= HARMLESS_MAX:
            _harmless.clear()
        _harmless.add(encoded)
    return True


def _is_spelt_plainly(encoded: bytes) -> bool:
    """What the first look puts in the place of an escaped quote could be mistaken for another string."""
    return b"\\" not in encoded and b"'" not in encoded


def _tells_of_a_neighbour(encoded: bytes, raw: bytes) -> bool:
    """Whether a secret's name stands where names stand, and not as the type of an error or a word in a list."""
    quoted = b'"%b"' % encoded
    at = raw.find(quoted)
    while at >= 0:
        end = at + len(quoted)
        nearest = max(0, at - NEAR_BYTES)
        before, after = raw[nearest:at].rstrip(), raw[end : end + NEAR_BYTES].lstrip()
        if not before or not after or after.startswith(b":"):
            return True
        if before.endswith(b"[") and _PAIR.match(raw, nearest + len(before) - 1):
            return True
        if before.endswith(b":") and before[:-1].rstrip().endswith(_TELLING_NAMES):
            return True
        at = raw.find(quoted, end)
    return False


def _without_escaped_quotes(raw: bytes) -> bytes:
    """So that a quote is always the start or the end of a string."""
    return raw.replace(b"\\\\", b"\0").replace(b'\\"', b"'")


def _effort(size: int) -> int:
    """How much the closer looks at one value of that size may cost: 2 ms, or 35 ms for a mebibyte."""
    return max(min(EFFORT_LEAST + EFFORT_PER_BYTE * size, EFFORT_MIN), size // BYTES_PER_EFFORT)


def _remember(strings: list[bytes]) -> None:
    """There is nothing to find in the strings; those that are short may come again."""
    if len(_plain) > PLAIN_MAX:
        _plain.clear()
    _plain.update([string for string in strings if len(string) <= PLAIN_BYTES_MAX])


# --- a closer look ----------------------------------------------------------------------------------------------------


def _cleaned(raw: bytes) -> tuple[bytes, list[str]]:
    walk = _Walk(raw)
    walk.run()
    if not walk.edits:
        return raw, []
    parts: list[bytes] = []
    starts: list[int] = []  # in what comes out
    done = length = 0
    for start, (end, replacement) in sorted(walk.edits.items()):
        length += start - done
        if start != walk.given_up_at:
            starts.append(length)
        length += len(replacement)
        parts += (raw[done:start], replacement)
        done = end
    parts.append(raw[done:])
    cleaned = b"".join(parts)
    paths = _paths(cleaned, starts[:PATHS_MAX])
    if walk.given_up_at is not None:
        paths = [*paths[: PATHS_MAX - 1], GIVEN_UP]
    return cleaned, paths


class _Frame:
    """An object or array that is open, or what is around the whole value."""

    __slots__ = (
        *("first_held", "is_item_secret", "is_modules", "is_quiet", "is_secret", "key", "last_held", "name"),
        *("renamed", "says_secret"),
    )

    def __init__(self, *, is_secret: bool = False, is_modules: bool = False) -> None:
        self.is_secret = is_secret  # every string within is
        self.is_modules = is_modules  # its names are those of packages
        self.is_quiet = not is_secret  # in this place, a plain string is nothing else
        self.name = ""  # of the current member
        self.is_item_secret = False  # by its name
        self.says_secret = False  # the string beside "value" is the name of a secret
        self.first_held = self.last_held = -1  # the strings under "value", for a name that follows
        self.key: tuple[int, int] | None = None  # the string beside "key", which is a name or a secret
        self.renamed: list[str] = []  # names that were given

    def holds_secret(self) -> bool:
        """Whether the current item's strings are secrets, as far as is known by now."""
        return self.is_secret or self.is_item_secret or (self.says_secret and self.name == "value")


class _Walk:
    """One value's strings and brackets from the left to the right, and what is to be replaced."""

    __slots__ = (
        *("edits", "effort", "frame", "frames", "given_up_at", "held", "inside_values", "open_values", "raw"),
        "steps_left",
    )

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.effort = Effort(_effort(len(raw)))
        self.steps_left = max(STEPS_MIN, len(raw) // BYTES_PER_STEP)
        self.edits: dict[int, tuple[int, bytes]] = {}  # by their start: the end and what comes instead
        self.frame = _Frame()
        self.frames: list[_Frame] = []  # around the current one
        self.given_up_at: int | None = None
        self.held: list[tuple[int, int]] = []  # strings under a "value"
        self.open_values = 0  # objects that are open and have a "value"
        self.inside_values = 0  # of them, those whose "value" is open

    def run(self) -> None:
        raw = self.raw
        for match in _TOKEN.finditer(raw):
            if self.steps_left <= 0:
                self.give_up(match.start())
                break
            self.steps_left -= 1
            groups = match.lastindex
            if groups == 1:
                start, end = match.span()
                if not self.frame.is_quiet or self.inside_values or raw[start + 1 : end - 1] not in _plain:
                    self.string(start, end)
            elif groups == 2:
                self.member(*match.span(1))
            elif match[0] in _OPENING:
                self.open(match.start())
            else:
                self.close()

    def give_up(self, start: int) -> None:
        """Too much to look at closely: if the rest is suspicious, all its strings are emptied, names and all."""
        rest = self.raw[start:]
        frames = (*self.frames, self.frame)
        if any(frame.holds_secret() or frame.says_secret for frame in frames) or not _is_plain(rest):
            for frame in frames:
                frame.says_secret = True  # the name may be in the rest
            self.edits = {at: edit for at, edit in self.edits.items() if at < start}
            parts = _without_escaped_quotes(rest).split(b'"')
            parts[1::2] = [b""] * len(parts[1::2])
            self.edits[start] = (len(self.raw), b'"'.join(parts))
            self.given_up_at = start
        while self.frames:
            self.close()

    def open(self, start: int) -> None:
        outer = self.frame
        self.steps_left -= OPEN_STEPS
        self.frames.append(outer)
        self.frame = _Frame(is_secret=outer.holds_secret(), is_modules=outer.name == "modules")
        pair = _PAIR.match(self.raw, start)
        if pair:
            label = _decoded(pair[1][1:-1])
            if self.is_secret_name(label) and LABEL.fullmatch(label):
                self.redact(*pair.span(2))

    def close(self) -> None:
        frame = self.frame
        if frame.first_held >= 0:
            self.open_values -= 1
            if frame.name == "value":
                frame.last_held = len(self.held)
                self.inside_values -= 1
            if frame.says_secret:
                for place in self.held[frame.first_held : frame.last_held]:
                    self.redact(*place)
                del self.held[frame.first_held :]
            if not self.open_values:
                self.held.clear()
        elif frame.key:
            self.redact(*frame.key)
        self.frame = self.frames.pop()

    def member(self, start: int, end: int) -> None:
        """The name of a member."""
        frame = self.frame
        if frame.name == "value":
            frame.last_held = len(self.held)
            self.inside_values -= 1
        encoded = self.raw[start + 1 : end - 1]
        frame.name = name = _decoded(encoded)
        frame.is_item_secret = False
        if encoded not in _plain and not self.learn(encoded):
            frame.is_item_secret = self.is_secret_name(name)
            cleaned = self.cleaned(name)
            if cleaned is not name:
                # Members whose names were different stay different.
                self.edits[start] = (end, _ENCODE(f"{cleaned}#{start}" if cleaned in frame.renamed else cleaned))
                frame.renamed.append(cleaned)
            elif not frame.is_item_secret:
                self.remember(encoded)
        frame.is_quiet = name not in _TELLING and not frame.holds_secret()
        if name == "value":
            self.inside_values += 1
            if frame.first_held < 0:
                frame.first_held = len(self.held)
                self.open_values += 1

    def string(self, start: int, end: int) -> None:
        """A string that is no name of a member."""
        frame = self.frame
        encoded = self.raw[start + 1 : end - 1]
        if frame.is_item_secret and frame.name == "key" and not frame.is_secret:
            if frame.key:
                self.redact(*frame.key)
            frame.key = (start, end)
            frame.says_secret = frame.says_secret or self.is_secret_name(_decoded(encoded))
        elif frame.holds_secret() and (frame.is_secret or not (frame.is_modules and _VERSION.fullmatch(encoded))):
            self.redact(start, end)
            return
        elif frame.name == "name":
            frame.says_secret = frame.says_secret or self.is_secret_name(_decoded(encoded))
        if self.inside_values:
            self.held.append((start, end))
        if encoded in _plain or start in self.edits or self.learn(encoded):
            return
        text = _decoded(encoded)
        cleaned = self.cleaned(text)
        if cleaned is not text:
            self.edits[start] = (end, _ENCODE(cleaned))
        elif len(encoded) <= PLAIN_BYTES_MAX and not self.is_secret_name(text):
            self.remember(encoded)

    def learn(self, encoded: bytes) -> bool:
        """Whether a short string is plain at first sight; then it is remembered."""
        self.steps_left -= UNKNOWN_STEPS
        if len(encoded) > PLAIN_BYTES_MAX or b"\\" in encoded or may_hold_secret(encoded.decode()):
            return False
        _remember([encoded])
        return True

    def remember(self, encoded: bytes) -> None:
        if _is_spelt_plainly(encoded):
            _remember([encoded])

    def redact(self, start: int, end: int) -> None:
        if self.raw[start:end] not in {_EMPTY_TOKEN, _REDACTED_TOKEN}:
            self.edits[start] = (end, _REDACTED_TOKEN)

    def is_secret_name(self, name: str) -> bool:
        if name.startswith(FLAG):
            return False
        if not is_known(name):
            if len(name) > NAME_CHARS_MAX:
                return False
            if self.effort.left <= 0:
                return may_hold_secret(name)
            self.effort.left -= NAME_EFFORT
        return is_secret_name(name)

    def cleaned(self, text: str) -> str:
        if self.effort.left > 0:
            return clean_text(text, self.effort)
        return REDACTED if len(text) >= TEXT_CHARS_MIN and may_hold_form(text) else text


def _decoded(encoded: bytes) -> str:
    """The text of what stands between the quotes of a JSON string."""
    return _DECODE_STRING(b'"%b"' % encoded) if b"\\" in encoded else encoded.decode()


# --- where it was -----------------------------------------------------------------------------------------------------


def _paths(cleaned: bytes, starts: list[int]) -> list[str]:
    """The paths of the tokens at these places, in a value that is clean: so is every name in them."""
    paths: list[str] = []
    if not starts:
        return paths
    items: list[str | int] = []  # of each open object the member's name, of each open array the index
    for match in _ITEM.finditer(cleaned):
        sign = match[0]
        if match[2] is not None:
            items[-1] = _decoded(match[1][1:-1])
        if match.start() == starts[len(paths)]:
            paths.append(_path(items))
            if len(paths) == len(starts):
                break
        if sign == b"{":
            items.append("")
        elif sign == b"[":
            items.append(0)
        elif sign == b",":
            last = items[-1]
            items[-1] = last + 1 if isinstance(last, int) else last
        elif sign in {b"}", b"]"}:
            items.pop()
    return paths


def _path(items: list[str | int]) -> str:
    path = "".join(
        f"[{item}]" if isinstance(item, int) else "." + _cut(item, PATH_NAME_CHARS_MAX) for item in items
    ).removeprefix(".")
    return _cut(path, PATH_CHARS_MAX)


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[:chars_max] + "…"
