"""What is set, for people and editors: the values with their origins, a sample file, a JSON Schema."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from leeward.settings.load import Loaded
from leeward.settings.tree import KEYS, SECTIONS, Settings, masked
from leeward.settings.words import SIZE_PATTERN, as_toml

__all__ = ["Row", "json_schema", "sample", "show"]


class Row(NamedTuple):
    """One setting as `leeward config show` prints it; values are texts, and no secret is whole."""

    name: str
    value: str
    origin: str
    description: str
    default: str


def show(loaded: Loaded) -> list[Row]:
    """Every setting in the order of the sample file."""
    rows = []
    for name, key in KEYS.items():
        value = getattr(getattr(loaded.settings, key.section), key.field)
        shown = as_toml(masked(value) if key.secret else value, size=key.size)
        rows.append(
            Row(name, shown, loaded.origins[name], key.meta.description or "", as_toml(key.default, size=key.size))
        )
    return rows


def sample() -> str:
    """A commented configuration file with every default in force."""
    lines = ["# leeward.toml: every setting with its default. The environment and options win over this file.", ""]
    for section, struct in SECTIONS.items():
        lines += [f"# {(struct.__doc__ or '').strip()}", f"[{section}]"]
        for key in KEYS.values():
            if key.section == section:
                lines += [f"# {key.meta.description}", f"{key.field} = {as_toml(key.default, size=key.size)}"]
        lines.append("")
    return "\n".join(lines)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration file, for editors; a size may be a number or a text with its unit."""
    schema: dict[str, Any] = msgspec.to_builtins(msgspec.json.schema(Settings))
    for key in KEYS.values():
        if key.size:
            declared = schema["$defs"][SECTIONS[key.section].__name__]["properties"][key.field]
            declared.update(type=["integer", "string"], pattern=SIZE_PATTERN)
    return schema
