"""What is set, for people and editors: the values with their origins, a sample file, a JSON Schema."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from leeward.settings.keys import REQUIRED, Array, Key
from leeward.settings.load import Loaded
from leeward.settings.sections import Section, masked
from leeward.settings.tree import ARRAYS, KEYS, SECTIONS, Settings
from leeward.settings.words import SIZE_PATTERN, as_toml

__all__ = ["Row", "elements_of", "json_schema", "sample", "settings_of", "show", "value_text"]

# One element of each list, as the sample file shows it: commented out, and right when the comment signs are taken away.
EXAMPLES: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "server.keys": ({"name": "app", "sha256": "0" * 64, "scope": "chat"},),
    "gateway.providers": (
        {
            "name": "primary",
            "kind": "openai",
            "api_key": "env:OPENAI_API_KEY",
            "models": {"chat": "gpt-4o-mini"},
        },
        {
            "name": "local",
            "kind": "ollama",
            "base_url": "http://127.0.0.1:11434/v1",
            "models": {"chat": {"name": "llama3.2", "images": False}},
        },
    ),
    "gateway.routes": (
        {
            "model": "chat",
            "providers": ["primary", "local"],
            "fallback": ["cache", "stale-cache", "static"],
            "static_answer": "I cannot reach my language model right now. Please try again in a minute.",
        },
    ),
}


class Row(NamedTuple):
    """One setting as `leeward config show` prints it; values are texts, and no secret is whole."""

    name: str
    value: str
    origin: str
    description: str
    default: str


def show(loaded: Loaded) -> list[Row]:
    """Every setting in the order of the sample file; what stands in lists of tables, element by element."""
    return [
        Row(
            key.name,
            value_text(key, value),
            loaded.origins[key.name],
            key.meta.description or "",
            "" if key.default is REQUIRED else as_toml(key.default, size=key.size),
        )
        for key, value in settings_of(loaded.settings)
    ]


def settings_of(settings: Settings) -> Iterator[tuple[Key, Any]]:
    """Every single setting with its value, in the order of the sample file."""
    for section, struct in SECTIONS.items():
        table = _at(settings, section)
        for field in struct.__struct_fields__:
            name = f"{section}.{field}"
            if name in KEYS:
                yield KEYS[name], getattr(table, field)
        for array in _arrays_in(section):
            for label, element in _labelled(array, settings):
                yield from ((array.key(label, field), getattr(element, field)) for field in array.keys)


def elements_of(settings: Settings) -> dict[str, list[str]]:
    """What the elements of each list of tables are called, in their order: their names, else their numbers."""
    return {array.name: [label for label, _ in _labelled(array, settings)] for array in ARRAYS.values()}


def _arrays_in(section: str) -> Iterator[Array]:
    return (array for array in ARRAYS.values() if array.name.rpartition(".")[0] == section)


def _labelled(array: Array, settings: Settings) -> Iterator[tuple[str, Section]]:
    for number, element in enumerate(_at(settings, array.name), 1):
        yield getattr(element, array.label) or str(number), element


def _at(settings: Settings, name: str) -> Any:
    """What stands under a dotted name."""
    return functools.reduce(getattr, name.split("."), settings)


def value_text(key: Key, value: Any) -> str:
    """A value as it may be shown."""
    return as_toml(masked(value) if key.secret else value, size=key.size)


def sample() -> str:
    """A commented configuration file with every default in force, and examples of what has none."""
    lines = [
        "# leeward.toml: every setting with its default. The environment and options win over this file.",
        "# Editors help with `#:schema ./leeward.schema.json` as the first line; leeward config schema prints that file.",
        "",
    ]
    for section, struct in SECTIONS.items():
        lines += [f"# {(struct.__doc__ or '').strip()}", f"[{section}]"]
        for key in KEYS.values():
            if key.section == section:
                line = f"{key.field} = {as_toml(key.default, size=key.size)}"
                lines += [f"# {key.meta.description}", line if key.default is not None else f"# {key.field} = …"]
        lines.append("")
        for array in _arrays_in(section):
            lines += _examples(array)
    return "\n".join(lines)


def _examples(array: Array) -> Iterator[str]:
    """A list of tables in the sample file: examples in comments, and what else an element may say."""
    yield f"# {array.description} For example:"
    said: set[str] = set()
    for example in EXAMPLES[array.name]:
        yield f"# [[{array.name}]]"
        yield from (f"# {field} = {as_toml(value)}" for field, value in example.items())
        said.update(example)
    yield f"# It may also say {', '.join(field for field in array.keys if field not in said)}."
    yield ""


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration file, for editors; a size may be a number or a text with its unit."""
    schema: dict[str, Any] = msgspec.to_builtins(msgspec.json.schema(Settings))
    for key in KEYS.values():
        if key.size:
            declared = schema["$defs"][SECTIONS[key.section].__name__]["properties"][key.field]
            declared.update(type=["integer", "string"], pattern=SIZE_PATTERN)
    return schema
