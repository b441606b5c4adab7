"""File, environment and options → one frozen `Settings`, and where each value came from.

Rules     an option wins over the environment, that over the file, that over the default. A name that is not a setting
          is refused with the nearest one that is, in the file and among the LEEWARD_… variables alike. Every wrong
          value is refused with what is allowed. The first error is raised as a ConfigError with place and cure.
Promises  no secret is in an error, in `show` or in a `repr`. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from leeward.errors import ConfigError
from leeward.settings import find
from leeward.settings.environment import CLIENT_NAMES, from_environment, variable_of
from leeward.settings.file import read_file
from leeward.settings.gateway_checks import check_gateway, check_keys
from leeward.settings.given import Element, Given, Written
from leeward.settings.keys import REQUIRED
from leeward.settings.nearest import unknown
from leeward.settings.sections import Section
from leeward.settings.tree import ARRAYS, KEYS, SECTIONS, Settings
from leeward.settings.values import at_home, checked, missing

__all__ = ["CLIENT_NAMES", "Loaded", "load", "variable_of"]

_NO_FILE: Final = Written({}, {})


class Loaded(NamedTuple):
    """The settings, and the origin of each by its dotted name: "leeward.toml:14", a variable, an option, "default".

    What stands in a list of tables has the name of its table: gateway.providers.primary.base_url.
    """

    settings: Settings
    origins: dict[str, str]


def load(
    options: Mapping[str, Any], environ: Mapping[str, str], file: str | Path | None, *, references: bool = True
) -> Loaded:
    """Merge and check everything. `options` has dotted names ("server.port"); a None among them was not given.

    Without `references`, secrets that stand elsewhere (`env:NAME`, `file:PATH`) are not read: for a command that only
    looks for the server, and may run where nobody has set them.
    """
    written = _NO_FILE if file is None else read_file(Path(file))
    given = dict(written.given)
    given.update(from_environment(environ, written.elements))
    given.update(_from_options(options))
    keys = dict(KEYS)
    for element in written.elements.values():
        keys.update(element.keys())
    values = {name: checked(keys[name], one, environ if references else None) for name, one in given.items()}
    if not values.get("server.data_dir"):
        values["server.data_dir"] = _default_data_dir(environ)
    values["server.data_dir"] = at_home(values["server.data_dir"])
    sections: dict[str, Any] = {name: _built(name, values, written.elements) for name in SECTIONS if "." not in name}
    settings = Settings(**sections)
    origins = {name: given[name].origin if name in given else "default" for name in keys}
    check_gateway(settings.gateway, origins)
    check_keys(settings.server.keys, origins)
    return Loaded(settings, origins)


def _built(section: str, values: Mapping[str, Any], elements: Mapping[str, Element]) -> Section:
    """A section with all that stands in it."""
    fields: dict[str, Any] = {}
    for field in SECTIONS[section].__struct_fields__:
        name = f"{section}.{field}"
        if name in values:
            fields[field] = values[name]
        elif name in SECTIONS:
            fields[field] = _built(name, values, elements)
        elif name in ARRAYS:
            fields[field] = tuple(_element(one, values) for one in elements.values() if one.array.name == name)
    return SECTIONS[section](**fields)


def _element(element: Element, values: Mapping[str, Any]) -> Section:
    keys = element.keys()
    for name, key in keys.items():
        if key.default is REQUIRED and name not in values:
            raise missing(key, element.origin)
    return element.array.struct(**{key.field: values[name] for name, key in keys.items() if name in values})


def _default_data_dir(environ: Mapping[str, str]) -> str:
    folder = find.data_dir(environ)
    if folder is None:
        raise ConfigError(
            "there is no home directory to keep the data in",
            where="default",
            fix="leeward serve --data-dir FOLDER, or LEEWARD_SERVER__DATA_DIR=FOLDER",
        )
    return folder


def _from_options(options: Mapping[str, Any]) -> Iterator[tuple[str, Given]]:
    for name, value in options.items():
        origin = "--" + name.rpartition(".")[2].replace("_", "-")
        if name not in KEYS:
            raise unknown(name, origin)
        if value is not None:
            yield name, Given(list(value) if isinstance(value, tuple) else value, origin)
