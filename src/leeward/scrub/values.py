"""What a caller gave, before it is encoded: the result is always finite, plain, small and without secrets.

Promises  `bounded` never raises and gives a value that the JSON encoder takes as it is: only dict with str keys, list,
          str, int of 64 bits, finite float, bool and None, none of them of a subclass. It is a copy: what the caller
          or another thread changes afterwards does not reach it. No method that a caller's class defines is called,
          so nothing of theirs can raise, wait, load or consume: an object that is not known here becomes `<its.Type>`.
          (What a known standard type reaches by itself, such as the tzinfo of a datetime, is the one exception.)
          What `scrub/secrets` finds by name or by form is `<redacted>`: in values, keys, names, ids and error texts.
Limits    by count, so that time is bounded with it: see the names in capitals. What is left out leaves a mark in
          angle brackets: `<too deep>`, `<circular>`, `<12 more>`, `…<cut 345>`.
Not here  broken text (lone surrogates) is repaired by the encoder, once for the whole event.

Standard library only and cheap to import: a type is compared only if its module is loaded, else no such value exists.
"""

from __future__ import annotations

import sys
from itertools import islice

from leeward.scrub.secrets import (
    HEX,
    HEX_LENGTHS,
    REDACTED,
    TEXT_CHARS_MIN as TELLING_CHARS_MIN,
    Effort,
    clean,
    clean_text,
    learn_names,
    may_hold_secret,
    plain_names,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

__all__ = ["bounded", "bounded_text"]

DEPTH_MAX: Final = 32
NODES_MAX: Final = 3_000  # containers and leaves of one value; about 2 ms
KEYS_MAX: Final = 1_000  # of one dict
KEY_CHARS_MAX: Final = 200
STRING_CHARS_MAX: Final = 65_536
TEXT_CHARS_MAX: Final = 131_072  # of one value; six bytes each at worst, so that an event stays below 1 MiB
PLAIN_KEYS_MAX: Final = 64  # a dict this small with strings this short needs no accounting: 64 × 2,000 < TEXT_CHARS_MAX
PLAIN_CHARS_MAX: Final = 1_800
# A text is cleaned with so much of what is cut off: a password is known by the sign behind it.
OVERLAP_CHARS: Final = 256
INT_MAX: Final = 2**64 - 1
INT_MIN: Final = -(2**63)
INT_TEXT_BITS_MAX: Final = 1_024  # below the smallest limit that a host may set for int to str

TOO_DEEP: Final = "<too deep>"
CIRCULAR: Final = "<circular>"
UNREADABLE: Final = "<unreadable>"

# Known value types as (module, class, method): the class's own method is called, never an overriding one.
_CONVERSIONS: Final = (
    ("datetime", "datetime", "isoformat"),
    ("datetime", "date", "isoformat"),
    ("datetime", "time", "isoformat"),
    ("datetime", "timedelta", "total_seconds"),
    ("uuid", "UUID", "__str__"),
    ("decimal", "Decimal", "__str__"),
    ("pathlib", "PurePath", "__str__"),
    ("ipaddress", "IPv4Address", "__str__"),
    ("ipaddress", "IPv6Address", "__str__"),
    ("numpy", "generic", "item"),
)


class _Slotted:
    __slots__ = ("slot",)


# The interpreter's own descriptors: reading through them runs no code of the caller's.
_type_name: Final = type.__dict__["__name__"].__get__
_type_mro: Final = type.__dict__["__mro__"].__get__
_type_dict: Final = type.__dict__["__dict__"].__get__
_exception_args: Final = BaseException.__dict__["args"].__get__
_RAW_DESCRIPTORS: Final = (type(_Slotted.__dict__["slot"]), type(type.__dict__["__name__"]))


def bounded(value: Any) -> Any:
    """A bounded, clean, plain copy of `value`; see the module's promises. A small dict of plain values goes quickly."""
    try:
        if type(value) is dict and len(value) <= PLAIN_KEYS_MAX:
            plain = value.copy()  # first copied, then checked: another thread may be writing
            texts = []
            has_new_names = False
            for key, item in plain.items():
                if type(key) is not str:
                    break
                if key not in plain_names:
                    if len(key) > KEY_CHARS_MAX:
                        break
                    has_new_names = True
                kind = type(item)
                if kind is str:
                    if len(item) >= TELLING_CHARS_MIN:
                        if len(item) > PLAIN_CHARS_MAX:
                            break
                        # An id in hex looks like a key to the first look, and nearly every event has one.
                        if len(item) not in HEX_LENGTHS or item.strip(HEX):
                            texts.append(item)
                elif kind is int:
                    if not INT_MIN <= item <= INT_MAX:
                        break
                elif kind is float:
                    if item - item != 0.0:  # NaN or infinite
                        break
                elif item is not None and kind is not bool:
                    break
            else:
                # All texts at once: a secret that only seems to be there where two of them meet costs a closer look.
                if has_new_names or (texts and may_hold_secret("\n".join(texts))):
                    return clean(plain, plain, texts)
                return plain
        walk = _Walk()
        plain = walk.value(value, 0)
        if learn_names(walk.names) and not walk.has_pairs and not may_hold_secret("\n".join(walk.texts)):
            return plain
        return clean(plain, (), walk.texts, walk.effort)
    except Exception:
        # Boundary: the stack or memory may end here, or another thread change a set under us; the event still goes.
        return UNREADABLE


def bounded_text(value: Any, chars_max: int = KEY_CHARS_MAX) -> str:
    """`value` as clean text of at most `chars_max` characters, for names and ids; None is empty. Never raises."""
    if type(value) is not str:
        value = "" if value is None else _key_text(bounded(value))
    try:
        if len(value) > chars_max:
            return clean_text(value[: chars_max + OVERLAP_CHARS])[:chars_max]
        return clean_text(value)
    except Exception:
        # Boundary: the stack or memory may end here.
        return UNREADABLE[:chars_max]


def _key_text(plain: Any) -> str:
    """The text of an already bounded value, as JSON writes it where it is a key."""
    if type(plain) is str:
        return plain
    if plain is None:
        return "null"
    if plain is True:
        return "true"
    if plain is False:
        return "false"
    if type(plain) is list:
        return "[" + ",".join(map(_key_text, plain)) + "]"
    if type(plain) is dict:
        return "{" + ",".join(f"{key}:{_key_text(item)}" for key, item in plain.items()) + "}"
    return repr(plain)


class _Walk:
    """One value's way through: what is left of the limits, and the containers that are open."""

    __slots__ = ("chars_left", "effort", "has_pairs", "names", "nodes_left", "path", "texts")

    def __init__(self) -> None:
        self.nodes_left = NODES_MAX
        self.chars_left = TEXT_CHARS_MAX
        self.path: set[int] = set()
        self.texts: list[str] = []
        self.names: list[str] = []  # those that are not known to be plain
        self.has_pairs = False  # of which one may be a name and its value
        self.effort = Effort()

    def value(self, value: Any, depth: int) -> Any:
        self.nodes_left -= 1
        kind = type(value)  # never isinstance(): that asks the value for its __class__
        if value is None or kind is bool:
            return value
        if kind is dict or kind is list:
            return self.container(value, kind, depth)
        if issubclass(kind, str):
            return self.text(value)
        if issubclass(kind, int):
            return _integer(int.__int__(value))
        if issubclass(kind, float):
            return _real(float.__float__(value))
        if issubclass(kind, (bytes, bytearray)):
            return self.binary(value)
        return self.container(value, kind, depth)

    def container(self, value: Any, kind: type, depth: int) -> Any:
        if depth >= DEPTH_MAX:
            return TOO_DEEP
        if id(value) in self.path:
            return CIRCULAR
        self.path.add(id(value))
        try:
            if issubclass(kind, dict):
                return self.mapping(islice(dict.items(value), KEYS_MAX), dict.__len__(value), depth)
            if issubclass(kind, list):
                return self.sequence(list.__iter__(value), list.__len__(value), depth)
            if issubclass(kind, tuple):
                return self.sequence(tuple.__iter__(value), tuple.__len__(value), depth)
            if issubclass(kind, set):
                return self.sequence(set.__iter__(value), set.__len__(value), depth)
            if issubclass(kind, frozenset):
                return self.sequence(frozenset.__iter__(value), frozenset.__len__(value), depth)
            return self.object(value, kind, depth)
        finally:
            self.path.discard(id(value))

    def mapping(self, pairs: Iterable[tuple[Any, Any]], length: int, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        taken = 0
        for key, item in list(pairs):  # copied in one step: another thread may be writing
            if self.nodes_left <= 0:
                break
            taken += 1
            if type(key) is str and key in plain_names and key not in result:
                self.chars_left -= len(key)
            else:
                key = self.key(key, result, depth)  # noqa: PLW2901 - the same key, as text
                self.names.append(key)
            result[key] = self.value(item, depth + 1)
        if taken < length:
            result["…"] = f"<{length - taken} more>"
        return result

    def sequence(self, items: Iterable[Any], length: int, depth: int) -> list[Any]:
        result: list[Any] = []
        for item in list(islice(items, max(0, self.nodes_left))):
            if self.nodes_left <= 0:
                break
            result.append(self.value(item, depth + 1))
        if len(result) < length:
            result.append(f"<{length - len(result)} more>")
        if len(result) == 2:
            self.has_pairs = True
        return result

    def key(self, key: Any, taken: dict[str, Any], depth: int) -> str:
        """A key's text; different keys of one dict stay different keys."""
        text = key if type(key) is str else _key_text(self.value(key, depth + 1))
        if len(text) > KEY_CHARS_MAX:
            has_effort = self.effort.left > 0
            kept = clean_text(text[: KEY_CHARS_MAX + OVERLAP_CHARS], self.effort) if has_effort else REDACTED
            text = kept[:KEY_CHARS_MAX] + f"…<cut {len(text) - KEY_CHARS_MAX}>"
        self.chars_left -= len(text)
        return f"{text}#{len(taken)}" if text in taken else text

    def text(self, value: str) -> str:
        length = str.__len__(value)
        room = min(STRING_CHARS_MAX, max(0, self.chars_left))
        self.chars_left -= min(length, room)
        if length > room:
            kept = clean_text(str.__getitem__(value, slice(0, room + OVERLAP_CHARS)), self.effort) if room else ""
            value = kept[:room] + f"…<cut {length - room}>"
        elif type(value) is not str:
            value = str.__getitem__(value, slice(0, length))
        self.texts.append(value)
        return value

    def binary(self, value: bytes | bytearray) -> str:
        base: Any = bytes if issubclass(type(value), bytes) else bytearray
        length = base.__len__(value)
        room = min(STRING_CHARS_MAX, max(0, self.chars_left))
        text = self.text(base.__getitem__(value, slice(0, room)).decode("utf-8", "replace"))
        return text if length <= room else f"{text}…<cut {length - room}>"

    def object(self, value: Any, kind: type, depth: int) -> Any:
        """What is none of JSON's own: an enum's value, a dataclass's fields, a known type's text, else its name."""
        self.nodes_left -= 1  # it takes the time of two
        if issubclass(kind, BaseException):
            return self.exception(value, kind)
        enum = _loaded("enum", "Enum")
        if enum is not None and issubclass(kind, enum):
            return self.value(_instance_dict(value, kind).get("_value_", _name(kind)), depth + 1)
        if any("__dataclass_fields__" in _type_dict(base) for base in _type_mro(kind)):
            fields = _dataclass_items(value, kind)
            return self.mapping(fields, len(fields), depth)
        for module, name, method in _CONVERSIONS:
            known = _loaded(module, name)
            if known is not None and issubclass(kind, known):
                try:
                    plain = getattr(known, method)(value)
                except Exception:
                    # Boundary: a caller's tzinfo, or a value that was never initialised.
                    return self.text(_name(kind))
                return self.value(plain, depth + 1)
        return self.text(_name(kind))

    def exception(self, value: BaseException, kind: type) -> str:
        args = _exception_args(value)
        if args and type(args[0]) is str:
            return f"{_type_name(kind)[:KEY_CHARS_MAX]}: {self.text(args[0])}"
        return self.text(_name(kind))


def _integer(value: int) -> int | str:
    """Exact, or as text: a reader with 64 bits must not change it in silence."""
    if INT_MIN <= value <= INT_MAX:
        return value
    bits = value.bit_length()
    return str(value) if bits <= INT_TEXT_BITS_MAX else f"<int of {bits} bits>"


def _real(value: float) -> float | str:
    if value - value == 0.0:
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124 - NaN's own test


def _name(kind: type) -> str:
    """`<module.Type>` without asking a metaclass."""
    module = _type_dict(kind).get("__module__")
    name = _type_name(kind)
    return f"<{module}.{name}>" if type(module) is str else f"<{name}>"


def _loaded(module: str, name: str) -> type | None:
    """The class of that name, if its module is loaded and whole."""
    found = getattr(sys.modules.get(module), name, None)
    return found if issubclass(type(found), type) else None


def _raw(value: Any, kind: type, name: str) -> Any:
    """An attribute that the interpreter itself keeps (a slot, `__dict__`), else None; properties do not run."""
    for base in _type_mro(kind):
        found = _type_dict(base).get(name)
        if found is not None:
            return found.__get__(value) if type(found) in _RAW_DESCRIPTORS else None
    return None


def _instance_dict(value: Any, kind: type) -> dict[str, Any]:
    found = _raw(value, kind, "__dict__")
    return found if type(found) is dict else {}


def _dataclass_items(value: Any, kind: type) -> list[tuple[str, Any]]:
    """A dataclass's stored fields, in order; a slot that was never set is left out."""
    stored = _instance_dict(value, kind)
    items = []
    for base in _type_mro(kind):
        fields = _type_dict(base).get("__dataclass_fields__")
        if type(fields) is dict:
            break
    for name in islice(fields if type(fields) is dict else (), KEYS_MAX):
        if name in stored:
            items.append((name, stored[name]))
            continue
        try:
            items.append((name, _raw(value, kind, name)))
        except AttributeError:
            continue
    return items
