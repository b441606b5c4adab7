"""What is not a setting, with the nearest name that is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from leeward.errors import ConfigError
from leeward.settings.given import Element
from leeward.settings.tree import ARRAYS, KEYS, SECTIONS

__all__ = ["SEE_ALL", "closest", "did_you_mean", "nearest", "unknown"]

SEE_ALL: Final = "leeward config show lists all"
NEAR: Final = 0.6


def unknown(name: str, where: str, element: Element | None = None) -> ConfigError:
    """The refusal of a name in a file or an option; `element`: the table of a list that it stands in."""
    if element is not None:
        near = closest(name.removeprefix(f"{element.name}."), element.array.keys)
    else:
        near = nearest(name)
        section = name.rpartition(".")[0]
        near = near.removeprefix(f"{section}.") if section else near
        near = near or _in_a_list(name.rpartition(".")[2])
    return ConfigError(f"unknown setting {name}", where=where, fix=did_you_mean(near))


def _in_a_list(field: str) -> str:
    """Where a setting of a list's tables belongs, if it is one."""
    return next((f"{field} in [[{array.name}]]" for array in ARRAYS.values() if field in array.keys), "")


def did_you_mean(near: str) -> str:
    """The cure of a misspelt name."""
    return f"did you mean {near}? ({SEE_ALL})" if near else SEE_ALL


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like this one; empty if none is like it."""
    return next(iter(difflib.get_close_matches(word, known, 1, NEAR)), "")


def nearest(name: str, others: Iterable[str] = ()) -> str:
    """The known name that is meant, or nothing: misspelt in its section, in a wrong one, or with a wrong one."""
    section, _, field = name.rpartition(".")
    fields = {key.field: key.name for key in reversed(KEYS.values())}
    if section in SECTIONS:
        every = (*KEYS, *SECTIONS, *ARRAYS)
        near = closest(field, [own.rpartition(".")[2] for own in every if own.rpartition(".")[0] == section])
        if near:
            return f"{section}.{near}"
    if field in fields:
        return fields[field]
    if section in SECTIONS:
        return fields.get(closest(field, fields), "")
    return closest(name, [*KEYS, *SECTIONS, *ARRAYS, *others])
