"""File, environment and options → one frozen `Settings`, and where each value came from.

Rules     an option wins over the environment, that over the file, that over the default. A name that is not a setting
          is refused with the nearest one that is, in the file and among the LEEWARD_… variables alike. Every wrong
          value is refused with what is allowed. The first error is raised as a ConfigError with place and cure.
Promises  no secret is in an error, in `show` or in a `repr`. Nothing is written.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from leeward.errors import ConfigError
from leeward.settings import find
from leeward.settings.tree import KEYS, SECTIONS, Key, Settings
from leeward.settings.words import allowed, as_plain, as_toml, size_of

__all__ = ["CLIENT_NAMES", "Loaded", "load", "variable_of"]

PREFIX: Final = "LEEWARD_"
CLIENT_NAMES: Final = frozenset(
    {
        "LEEWARD_API_KEY",
        "LEEWARD_CONFIG",
        "LEEWARD_DEBUG",
        "LEEWARD_DISABLED",
        "LEEWARD_HOST",
        "LEEWARD_SAMPLE_RATE",
        "LEEWARD_SPOOL_DIR",
    }
)
# What Kubernetes puts into every pod for a service that is named leeward: no setting, and nobody's mistake.
_OF_A_SERVICE: Final = re.compile(r"LEEWARD_(?:SERVICE_(?:HOST|PORT)|PORT)(?:_\w+)?")
VALUE_CHARS_SHOWN_MAX: Final = 100
SEE_ALL: Final = "leeward config show lists all"
NEAR: Final = 0.6
_TOML_PLACE: Final = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")


class Loaded(NamedTuple):
    """The settings, and the origin of each by its dotted name: "leeward.toml:14", a variable, an option, "default"."""

    settings: Settings
    origins: dict[str, str]


class _Given(NamedTuple):
    """A value as someone wrote it. `text`: it comes from the environment, where everything is text."""

    value: Any
    origin: str
    text: bool = False


def load(options: Mapping[str, Any], environ: Mapping[str, str], file: str | Path | None) -> Loaded:
    """Merge and check everything. `options` has dotted names ("server.port"); a None among them was not given."""
    given: dict[str, _Given] = {}
    if file is not None:
        given.update(_from_file(Path(file)))
    given.update(_from_environment(environ))
    given.update(_from_options(options))
    values = {name: _checked(KEYS[name], one, environ) for name, one in given.items()}
    if not values.get("server.data_dir"):
        values["server.data_dir"] = _default_data_dir(environ)
    values["server.data_dir"] = _at_home(values["server.data_dir"])
    fields: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for name, value in values.items():
        fields[KEYS[name].section][KEYS[name].field] = value
    sections: dict[str, Any] = {name: SECTIONS[name](**fields[name]) for name in SECTIONS}
    return Loaded(Settings(**sections), {name: given[name].origin if name in given else "default" for name in KEYS})


def _default_data_dir(environ: Mapping[str, str]) -> str:
    folder = find.data_dir(environ)
    if folder is None:
        raise ConfigError(
            "there is no home directory to keep the data in",
            where="default",
            fix="leeward serve --data-dir FOLDER, or LEEWARD_SERVER__DATA_DIR=FOLDER",
        )
    return folder


def _at_home(path: str) -> str:
    """A path with `~` replaced; without such a home it stays as it is, and the file system says so."""
    return os.path.expanduser(path)  # noqa: PTH111 - pathlib's raises where this one leaves the path alone


def _from_options(options: Mapping[str, Any]) -> Iterator[tuple[str, _Given]]:
    for name, value in options.items():
        origin = "--" + name.rpartition(".")[2].replace("_", "-")
        if name not in KEYS:
            raise _unknown(name, origin)
        if value is not None:
            yield name, _Given(list(value) if isinstance(value, tuple) else value, origin)


def _is_of_a_service(variable: str, value: str) -> bool:
    return _OF_A_SERVICE.fullmatch(variable) is not None and (variable != "LEEWARD_PORT" or "://" in value)


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    known = {variable_of(name): name for name in KEYS}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in CLIENT_NAMES or _is_of_a_service(variable, environ[variable]):
            continue
        if variable not in known:
            clients = {name.removeprefix(PREFIX).lower(): name for name in CLIENT_NAMES}
            near = _nearest(variable.removeprefix(PREFIX).lower().replace("__", "."), clients)
            raise ConfigError(
                f"{variable} is not a setting",
                fix=f"did you mean {clients.get(near) or variable_of(near)}? ({SEE_ALL})" if near else SEE_ALL,
            )
        yield known[variable], _Given(environ[variable], variable, text=True)


def variable_of(name: str) -> str:
    """The environment variable of a setting: server.port → LEEWARD_SERVER__PORT."""
    return PREFIX + name.upper().replace(".", "__")


def _from_file(path: Path) -> Iterator[tuple[str, _Given]]:
    text = _read(path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _syntax_error(path, text, str(error)) from None
    lines = _lines_of(text)
    for section, table in document.items():
        place = f"{path.name}:{_line(lines, (section,))}"
        if section not in SECTIONS:
            raise _unknown(section, place)
        if not isinstance(table, dict):
            raise ConfigError(
                f"{section} is a section, not a value", where=place, fix=f"write [{section}] on its own line"
            )
        for field, value in table.items():
            name = f"{section}.{field}"
            place = f"{path.name}:{_line(lines, (section, field))}"
            if name not in KEYS:
                raise _unknown(name, place)
            yield name, _Given(value, place)


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


def _lines_of(text: str) -> dict[tuple[str, ...], int]:
    """Where each key and table stands. tomllib does not say, so each line's head is read once more by itself.

    A line inside a text of several lines could be taken for a key; the first place then wins, and no value depends on it.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip()
        head = bare if bare.startswith("[") else bare.partition("=")[0] + "=0"
        try:
            found = _only_path(tomllib.loads(head))
        except tomllib.TOMLDecodeError:
            continue
        if bare.startswith("["):
            table = found
        else:
            found = (*table, *found)
        for length in range(1, len(found) + 1):
            lines.setdefault(found[:length], number)
    return lines


def _only_path(document: Any) -> tuple[str, ...]:
    path: tuple[str, ...] = ()
    while isinstance(document, dict) and document:
        name, document = next(iter(document.items()))
        path = (*path, name)
    return path


def _line(lines: Mapping[tuple[str, ...], int], path: tuple[str, ...]) -> int:
    return lines.get(path) or lines.get(path[:1]) or 1


def _unknown(name: str, where: str) -> ConfigError:
    """What is not a setting, with the nearest that is."""
    near = _nearest(name, SECTIONS)
    section = name.rpartition(".")[0]
    if section and near:
        near = near.removeprefix(f"{section}.")
    return ConfigError(
        f"unknown setting {name}", where=where, fix=f"did you mean {near}? ({SEE_ALL})" if near else SEE_ALL
    )


def _nearest(name: str, others: Iterable[str]) -> str:
    """The known name that is meant, or nothing: misspelt in its section, in a wrong one, or with a wrong one."""
    section, _, field = name.rpartition(".")
    fields = {key.field: key.name for key in KEYS.values()}
    if section in SECTIONS:
        own = [key.field for key in KEYS.values() if key.section == section]
        for near in difflib.get_close_matches(field, own, 1, NEAR):
            return f"{section}.{near}"
    if field in fields:
        return fields[field]
    if section in SECTIONS:
        return next((fields[near] for near in difflib.get_close_matches(field, fields, 1, NEAR)), "")
    return next(iter(difflib.get_close_matches(name, [*KEYS, *others], 1, NEAR)), "")


def _checked(key: Key, given: _Given, environ: Mapping[str, str]) -> Any:
    """The value in its declared type and range, a reference resolved."""
    value = given.value
    if key.secret and isinstance(value, str):
        value = _resolved(key, given, environ)
    if key.size and isinstance(value, str):
        size = size_of(value)
        value = value if size is None else size
    if given.text and isinstance(key.default, tuple):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.convert(value, key.type, strict=not given.text)
    except (msgspec.ValidationError, UnicodeEncodeError):
        seen = "of another type" if key.secret else _short(as_toml(given.value))
        name = given.origin if given.text else key.name
        example = f"{name}={as_plain(key)}" if given.text else f"{key.field} = {as_toml(key.default, size=key.size)}"
        raise ConfigError(
            f"{name} is {seen}, but must be {allowed(key)}", where=given.origin, fix=f"{example} is the default"
        ) from None


def _short(text: str) -> str:
    return text if len(text) <= VALUE_CHARS_SHOWN_MAX else text[:VALUE_CHARS_SHOWN_MAX] + "…"


def _resolved(key: Key, given: _Given, environ: Mapping[str, str]) -> str:
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
            return Path(_at_home(place)).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise ConfigError(
                f"{key.name} is file:{place}, which cannot be read as text", where=given.origin, fix=f"look at {place}"
            ) from None
    return value
