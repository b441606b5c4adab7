"""`leeward.toml` → values by dotted name with file and line, and the elements of its lists. Unknown names are refused."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from leeward.errors import ConfigError
from leeward.settings import toml_lines
from leeward.settings.given import Element, Given, Written
from leeward.settings.keys import Array
from leeward.settings.nearest import unknown
from leeward.settings.tree import ARRAYS, KEYS, SECTIONS

__all__ = ["read_file"]

_TOML_PLACE: Final = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")


def read_file(path: Path) -> Written:
    """All that the file says.

    Raises:
        ConfigError: it cannot be read, is no TOML, or names something that is not a setting.
    """
    text = _read(path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _syntax_error(path, text, str(error)) from None
    reader = _Reader(path.name, toml_lines.lines_of(text))
    given = dict(reader.table("", document, ()))
    return Written(given, reader.elements)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path.name} is not UTF-8 text", where=str(path), fix="save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(
            f"{path.name} cannot be read: {(error.strerror or 'unknown reason').lower()}",
            where=str(path),
            fix="leeward serve --print-config > leeward.toml makes one",
        ) from None


def _syntax_error(path: Path, text: str, message: str) -> ConfigError:
    place = _TOML_PLACE.search(message)
    line = int(place[1]) if place and place[1] else text.count("\n") + 1
    reason = _TOML_PLACE.sub("", message)
    return ConfigError(
        f"{path.name} is not valid TOML: {reason[:1].lower()}{reason[1:]}",
        where=f"{path.name}:{line}",
        fix='a line is name = value, a text stands in "quotes", a section in [brackets]',
    )


class _Reader:
    """Walks the document along the declared tables; gathers the elements of lists on its way."""

    def __init__(self, file_name: str, lines: dict[toml_lines.Path, int]) -> None:
        self.elements: dict[str, Element] = {}
        self._file_name = file_name
        self._lines = lines

    def _place(self, path: toml_lines.Path) -> str:
        return f"{self._file_name}:{toml_lines.line_of(self._lines, path)}"

    def table(self, section: str, table: dict[str, Any], path: toml_lines.Path) -> Iterator[tuple[str, Given]]:
        """The settings of a table, and of those inside it."""
        for field, value in table.items():
            here = (*path, field)
            name = f"{section}.{field}" if section else field
            if "." in field:  # in quotes: a single name, which only looks like a path
                raise unknown(name, self._place(here))
            if name in SECTIONS:
                if not isinstance(value, dict):
                    kind = "a list" if isinstance(value, list) else "a value"
                    raise ConfigError(
                        f"{name} is a section, not {kind}",
                        where=self._place(here),
                        fix=f"write [{name}] on its own line",
                    )
                yield from self.table(name, value, here)
            elif name in ARRAYS:
                yield from self._array(ARRAYS[name], value, here)
            elif name in KEYS:
                yield name, self._given(value, here)
            else:
                raise unknown(name, self._place(here))

    def _given(self, value: Any, here: toml_lines.Path) -> Given:
        return Given(value, self._place(here), within=lambda inner: self._place((*here, *inner)))

    def _array(self, array: Array, value: Any, path: toml_lines.Path) -> Iterator[tuple[str, Given]]:
        """The settings of each element; a second one of the same name is refused."""
        if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
            raise ConfigError(
                f"{array.name} is a list of tables",
                where=self._place(path),
                fix=f"write [[{array.name}]] on its own line, once for each",
            )
        for number, table in enumerate(value):
            here = (*path, number)
            element = Element(array, _label(array, table, number + 1), self._place(here))
            first = self.elements.setdefault(element.name, element)
            if first is not element:
                raise ConfigError(
                    f"{element.name} is there twice",
                    where=self._place((*here, array.label)),
                    fix=f"the first is at {first.origin}; delete one, or give it another {array.label}",
                )
            for field, one in table.items():
                name = f"{element.name}.{field}"
                if field not in array.keys:
                    raise unknown(name, self._place((*here, field)), element)
                yield name, self._given(one, (*here, field))


def _label(array: Array, table: dict[str, Any], number: int) -> str:
    """What an element is called by: its name if that is one, else its number."""
    try:
        return msgspec.convert(table.get(array.label), array.keys[array.label].type, strict=True) or str(number)
    except msgspec.ValidationError:
        return str(number)
