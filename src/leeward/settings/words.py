"""Settings in words: sizes, values as the file and the environment write them, and what a setting may be."""

from __future__ import annotations

import json
import re
from datetime import date, time
from typing import Any, Final, Literal, get_args, get_origin

import msgspec

from leeward.settings.keys import Key, key_of

__all__ = ["SIZE_PATTERN", "allowed", "as_plain", "as_toml", "size_of"]

SIZE_PATTERN: Final = r"^\d{1,15}(KiB|MiB|GiB|TiB)?$"
DECIMAL_BITS_MAX: Final = 1_024  # the interpreter refuses to write much longer numbers out
DEPTH_MAX: Final = 4
_BARE_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
UNITS: Final = {"TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10}


def size_of(text: str) -> int | None:
    """Bytes from "64MiB" or "67108864"; None if it is no size."""
    size = re.match(SIZE_PATTERN, text.strip(), re.ASCII)
    if size is None:
        return None
    return int(size[0].removesuffix(size[1])) * UNITS[size[1]] if size[1] else int(size[0])


def size_text(size: int) -> str:
    """Bytes in the largest unit that divides them: 67108864 → 64MiB."""
    for unit, factor in UNITS.items():
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def as_toml(value: Any, *, size: bool = False, depth: int = 0) -> str:
    """A value as the configuration file writes it; "none" for what is absent there, "…" for what lies too deep."""
    if value is None:
        return "none"
    if depth > DEPTH_MAX:
        return "…"
    if isinstance(value, msgspec.Struct):
        value = _said(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(as_toml(one, depth=depth + 1) for one in value) + "]"
    if isinstance(value, dict):
        inside = ", ".join(f"{_name(name)} = {as_toml(one, depth=depth + 1)}" for name, one in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, str):
        return json.dumps(value.encode("utf-8", "replace").decode(), ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _whole(value, size=size)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, (date, time)) else str(value)


def _said(table: msgspec.Struct) -> dict[str, Any]:
    """What of a table differs from its defaults."""
    fields = msgspec.structs.fields(table)
    return {field.name: one for field in fields if (one := getattr(table, field.name)) != field.default}


def _whole(number: int, *, size: bool) -> str:
    if size:
        return f'"{size_text(number)}"'
    return hex(number) if number.bit_length() > DECIMAL_BITS_MAX else str(number)


def _name(name: str) -> str:
    return name if _BARE_NAME.fullmatch(name) else as_toml(name)


def as_plain(key: Key) -> str:
    """A default as the environment writes it."""
    if isinstance(key.default, tuple):
        return ",".join(map(str, key.default))
    return "" if key.item is not None else as_toml(key.default, size=key.size).strip('"')


def allowed(key: Key) -> str:
    """What a setting may be."""
    if key.entry is not None:
        return 'a table of names, such as { chat = "gpt-4o-mini" }; in a variable chat=gpt-4o-mini'
    if key.item is not None:
        item = key_of("", key.item, None)
        if get_origin(item.kind) is Literal:
            return f"a list out of {_choices(item.kind, ', ')}"
        return "a list of " + _words({str: "texts", int: "whole numbers"}[item.kind], _limits(item))
    if get_origin(key.kind) is Literal:
        return _choices(key.kind, " or ")
    if key.kind is bool:
        return "true or false"
    if key.size:
        return f'a size such as "64MiB", {_limits(key)}'
    return _words({str: "a text", int: "a whole number", float: "a number"}[key.kind], _limits(key))


def _words(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _choices(kind: Any, joiner: str) -> str:
    return joiner.join(as_toml(choice) for choice in get_args(kind))


def _limits(key: Key) -> str:
    meta = key.meta
    if key.kind is str:
        if meta.extra and "form" in meta.extra:
            return f"of {meta.extra['form']}"
        if meta.max_length is not None:
            return f"of at most {meta.max_length} characters"
        return "that is not empty" if meta.min_length else ""
    if key.size:
        return f"from {size_text(int(meta.ge or 0))} to {size_text(int(meta.le or 0))}"
    low = f"from {meta.ge} to" if meta.ge is not None else f"above {meta.gt} and up to"
    return f"{low} {meta.le}"
