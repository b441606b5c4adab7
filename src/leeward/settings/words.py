"""Settings in words: sizes, values as the file and the environment write them, and what a setting may be."""

from __future__ import annotations

import json
import re
from typing import Any, Final, get_args

from leeward.settings.tree import Key

__all__ = ["SIZE_PATTERN", "allowed", "as_plain", "as_toml", "size_of"]

SIZE_PATTERN: Final = r"^\d{1,15}(KiB|MiB|GiB|TiB)?$"
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


def as_toml(value: Any, *, size: bool = False) -> str:
    """A value as the configuration file writes it."""
    if size and type(value) is int:
        return f'"{size_text(value)}"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value.encode("utf-8", "replace").decode(), ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def as_plain(key: Key) -> str:
    """A default as the environment writes it."""
    if isinstance(key.default, tuple):
        return ",".join(map(str, key.default))
    return as_toml(key.default, size=key.size).strip('"')


def allowed(key: Key) -> str:
    """What a setting may be."""
    low, high = key.meta.ge, key.meta.le
    if key.size:
        return f'a size such as "64MiB", from {size_text(int(low or 0))} to {size_text(int(high or 0))}'
    kind = get_args(key.type)[0]
    if kind is int:
        return f"a whole number from {low} to {high}"
    if kind is float:
        return f"a number from {low} to {high}"
    if kind is bool:
        return "true or false"
    if kind is str:
        return "a text that is not empty" if key.meta.min_length else "a text"
    item = get_args(kind)[0]
    if item is str:
        return "a list of texts"
    limits = get_args(item)[1]
    return f"a list of whole numbers from {limits.ge} to {limits.le}"
