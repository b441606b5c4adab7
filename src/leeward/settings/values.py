"""A value as it was written → in its declared type and range, a reference resolved; or why not, and what it may be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import msgspec

from leeward.errors import ConfigError
from leeward.settings.given import Given
from leeward.settings.keys import REQUIRED, Key, key_of, keys_of
from leeward.settings.nearest import closest, did_you_mean
from leeward.settings.sections import Section
from leeward.settings.words import allowed, as_plain, as_toml, size_of

__all__ = ["at_home", "checked", "missing"]

VALUE_CHARS_SHOWN_MAX: Final = 100


def checked(key: Key, given: Given, environ: Mapping[str, str] | None) -> Any:
    """The value in its declared type and range, a reference resolved; without an environment it stays a reference.

    Raises:
        ConfigError: it is something else. No secret is in it.
    """
    value = given.value
    if given.text and key.optional and not value.strip():
        return None
    if key.secret and isinstance(value, str) and environ is not None:
        value = _resolved(key, given, environ)
    if key.size and isinstance(value, str):
        size = size_of(value)
        value = value if size is None else size
    if given.text:
        value = _parted(key, value)
    if key.entry is not None and isinstance(value, dict):
        value = {name: _entry(key, name, one, given, environ) for name, one in value.items()}
    try:
        return msgspec.convert(value, key.type, strict=not given.text)
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise _wrong(key, given) from None


def missing(key: Key, where: str) -> ConfigError:
    """The refusal of a table without something that it must have."""
    return ConfigError(f"{key.section} has no {key.field}", where=where, fix=f"add {key.field} = …  ({_meaning(key)})")


def at_home(path: str) -> str:
    """A path with `~` replaced; without such a home it stays as it is, and the file system says so."""
    return os.path.expanduser(path)  # noqa: PTH111 - pathlib's raises where this one leaves the path alone


def _parted(key: Key, text: Any) -> Any:
    """A variable's text as the list or table of names that it writes with commas: "a,b", "chat=gpt-4o,small=mini"."""
    if key.item is None:
        return text
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if key.entry is None:
        return parts
    pairs = [part.partition("=") for part in parts]
    return {name.strip(): value.strip() for name, _, value in pairs} if all(pair[1] for pair in pairs) else text


def _entry(key: Key, name: str, value: Any, given: Given, environ: Mapping[str, str] | None) -> Any:
    """One entry of a table of names: a text, or a table of its own."""
    place = given.place(name)
    try:
        msgspec.convert(name, get_args(key.kind)[0])
    except (msgspec.ValidationError, UnicodeEncodeError):
        must = allowed(key_of("", get_args(key.kind)[0], REQUIRED))
        raise ConfigError(
            f"{as_toml(name)[:VALUE_CHARS_SHOWN_MAX]} in {key.name} is no name", where=place, fix=f"it must be {must}"
        ) from None
    if isinstance(value, dict) and key.entry is not None:
        return _table(key.entry, f"{key.name}.{name}", value, given, name, environ)
    text: Any = Annotated[next(kind for kind in get_args(key.item) if kind is not key.entry), key.meta]
    return checked(key_of(f"{key.name}.{name}", text, REQUIRED), Given(value, place, given.text), environ)


def _table(
    struct: type[Section],
    section: str,
    table: dict[str, Any],
    given: Given,
    name: str,
    environ: Mapping[str, str] | None,
) -> Section:
    """An entry that is a table, checked field by field as every other table is."""
    keys = {key.field: key for key in keys_of(struct, section)}
    for field in table:
        if field not in keys:
            raise ConfigError(
                f"unknown setting {section}.{field}",
                where=given.place(name, field),
                fix=did_you_mean(closest(field, keys)),
            )
    for key in keys.values():
        if key.default is REQUIRED and key.field not in table:
            raise missing(key, given.place(name))
    return struct(
        **{field: checked(keys[field], Given(one, given.place(name, field)), environ) for field, one in table.items()}
    )


def _wrong(key: Key, given: Given) -> ConfigError:
    name = given.origin if given.text else key.name
    shown = "of another type" if key.secret else as_toml(given.value)
    shown = shown if len(shown) <= VALUE_CHARS_SHOWN_MAX else shown[:VALUE_CHARS_SHOWN_MAX] + "…"
    if key.default is REQUIRED or key.entry is not None:
        fix = _meaning(key)
    elif key.default is None:
        fix = f"{name if given.text else key.field} may be left out"
    else:
        example = f"{name}={as_plain(key)}" if given.text else f"{key.field} = {as_toml(key.default, size=key.size)}"
        fix = f"{example} is the default"
    return ConfigError(f"{name} is {shown}, but must be {allowed(key)}", where=given.origin, fix=fix)


def _meaning(key: Key) -> str:
    return (key.meta.description or allowed(key)).rstrip(".")


def _resolved(key: Key, given: Given, environ: Mapping[str, str]) -> str:
    """A secret, read from where it says that it is: `env:NAME` or `file:PATH`."""
    value: str = given.value
    scheme, _, place = value.partition(":")
    if scheme == "env" and place:
        if not environ.get(place):
            raise ConfigError(
                f"{key.name} is env:{place}, but {place} is not set", where=given.origin, fix=f"export {place}=…"
            )
        return environ[place]
    if scheme == "file" and place:
        try:
            return Path(at_home(place)).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError):
            raise ConfigError(
                f"{key.name} is file:{place}, which cannot be read as text", where=given.origin, fix=f"look at {place}"
            ) from None
    return value
