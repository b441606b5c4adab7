"""On which line of a TOML text each key and table stands. tomllib does not say, so each line's head is read once more.

Limits    a line inside a text of several lines could be taken for a key; the first place then wins, and no value depends
          on it. What stands inside an inline table or a list of several lines has the line of the whole.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

__all__ = ["Path", "line_of", "lines_of"]

Path = tuple[str | int, ...]  # ("gateway", "providers", 0, "api_key"): a number is the place in a list of tables


def lines_of(text: str) -> dict[Path, int]:
    """Each path that the text names, with the line where it does so first."""
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip()
        is_table = bare.startswith("[")
        try:
            named, is_element = _only_path(tomllib.loads(bare if is_table else bare.partition("=")[0] + "=0"))
        except tomllib.TOMLDecodeError:
            continue
        if not is_table:
            found: Path = (*table, *named)
        else:
            if is_element:
                array = _numbered(named[:-1], counts) + named[-1:]
                counts[array] = counts.get(array, 0) + 1
            found = table = _numbered(named, counts)
        for length in range(1, len(found) + 1):
            lines.setdefault(found[:length], number)
    return lines


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of a path, else that of what it stands in."""
    return next((lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in lines), 1)


def _numbered(named: tuple[str, ...], counts: Mapping[Path, int]) -> Path:
    """A path as a heading writes it → with the number of the list element that it means: the last one so far."""
    path: Path = ()
    for part in named:
        path = (*path, part)
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _only_path(document: Any) -> tuple[tuple[str, ...], bool]:
    """The one path of a line's head, and whether it is the heading of a list element."""
    path: tuple[str, ...] = ()
    while isinstance(document, dict) and document:
        name, document = next(iter(document.items()))
        path = (*path, name)
    return path, isinstance(document, list)
