"""`LEEWARD_…` variables → values by dotted name. A name that is not a setting is refused with the nearest one that is.

A table of a list is addressed by what it is called: `LEEWARD_GATEWAY__PROVIDERS__PRIMARY__API_KEY` is `api_key` of the
element of `[[gateway.providers]]` whose name is "primary"; what is neither letter nor digit in the name is an `_` here.
A variable changes and completes what the file has; which elements there are, and their names, only the file says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from leeward.errors import ConfigError
from leeward.settings.given import Element, Given
from leeward.settings.keys import Array
from leeward.settings.nearest import closest, did_you_mean, nearest
from leeward.settings.tree import ARRAYS, KEYS

__all__ = ["CLIENT_NAMES", "from_environment", "variable_of", "variable_of_element"]

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
_NOT_IN_NAMES: Final = re.compile(r"[^A-Z0-9]")


def variable_of(name: str) -> str:
    """The environment variable of a setting: server.port → LEEWARD_SERVER__PORT."""
    return PREFIX + name.upper().replace(".", "__")


def variable_of_element(array: Array, label: str, field: str) -> str:
    """The environment variable of a setting of one element."""
    return f"{variable_of(array.name)}__{_called(label)}__{field.upper()}"


_KNOWN: Final = {variable_of(name): name for name in KEYS}
_OF_ARRAYS: Final = {variable_of(name) + "__": array for name, array in ARRAYS.items()}


def from_environment(environ: Mapping[str, str], elements: Mapping[str, Element]) -> Iterator[tuple[str, Given]]:
    """The value of every variable that is a setting, of the file's elements too."""
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in CLIENT_NAMES or _is_of_a_service(variable, environ[variable]):
            continue
        name = _KNOWN.get(variable)
        if name is None:
            array = next((array for prefix, array in _OF_ARRAYS.items() if variable.startswith(prefix)), None)
            if array is None:
                raise _unknown(variable)
            name = _name_of(variable, array, [element for element in elements.values() if element.array is array])
        yield name, Given(environ[variable], variable, text=True)


def _is_of_a_service(variable: str, value: str) -> bool:
    return _OF_A_SERVICE.fullmatch(variable) is not None and (variable != "LEEWARD_PORT" or "://" in value)


def _called(label: str) -> str:
    return _NOT_IN_NAMES.sub("_", label.upper())


def _unknown(variable: str) -> ConfigError:
    clients = {name.removeprefix(PREFIX).lower(): name for name in CLIENT_NAMES}
    near = nearest(variable.removeprefix(PREFIX).lower().replace("__", "."), clients)
    if near in ARRAYS:
        return ConfigError(f"{variable} is not a setting", fix=f"lists stand in the file: [[{near}]]")
    meant = clients.get(near) or (variable_of(near) if near else "")
    return ConfigError(f"{variable} is not a setting", fix=did_you_mean(meant))


def _name_of(variable: str, array: Array, elements: list[Element]) -> str:
    """The dotted name of the element's setting that a variable means.

    Raises:
        ConfigError: there is no such element, or no such setting; or the variable means two elements.
    """
    called, _, field = variable.removeprefix(variable_of(array.name) + "__").rpartition("__")
    meant = [element for element in elements if _called(element.label) == called]
    if not meant:
        near = closest(called, [_called(element.label) for element in elements])
        add = f'add [[{array.name}]] with {array.label} = "{called.lower() or "…"}" to the file'
        cure = f"did you mean {variable_of(array.name)}__{near}__{field}? If not, {add}" if near else add
        raise ConfigError(f"{variable} means a table that [[{array.name}]] does not have", where=variable, fix=cure)
    if len(meant) > 1:
        both = " and ".join(element.name for element in meant)
        raise ConfigError(
            f"{variable} means two: {both}", where=variable, fix=f"give one of them another {array.label} in the file"
        )
    fields = {name.upper(): name for name in array.keys if name != array.label}
    if field not in fields:
        near = closest(field, fields)
        hint = variable_of_element(array, meant[0].label, fields[near]) if near else ""
        raise ConfigError(f"{variable} is not a setting", fix=did_you_mean(hint))
    return f"{meant[0].name}.{fields[field]}"
