"""What a declared field is, read off the Structs once: single settings, tables, and lists of tables.

A list of tables (`[[gateway.providers]]`) is called by one field of its elements, the first: `gateway.providers.primary`.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Final, NamedTuple, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from leeward.settings.sections import Section

__all__ = ["REQUIRED", "Array", "Key", "arrays_of", "key_of", "keys_of", "sections_of"]

REQUIRED: Final = msgspec.NODEFAULT
_ITEM_PLACES: Final[dict[Any, int]] = {tuple: 0, dict: 1}
_LIMITS: Final = ("gt", "ge", "lt", "le", "pattern", "min_length", "max_length", "description", "extra")


class Key(NamedTuple):
    """One setting, as declared: what load, show, the sample file and the schema walk over."""

    name: str  # "server.port"; of an element "gateway.providers.primary.api_key"
    type: Any
    default: Any  # REQUIRED: there is none
    kind: Any  # its type without limits and without None: int, a Literal, tuple[…], dict[…]
    meta: Meta  # all limits that apply, and the description
    optional: bool = False  # None is a value of it: absent in the file

    @property
    def section(self) -> str:
        """The table that it stands in."""
        return self.name.rpartition(".")[0]

    @property
    def field(self) -> str:
        """Its name inside the table."""
        return self.name.rpartition(".")[2]

    @property
    def size(self) -> bool:
        """Whether it is a number of bytes."""
        return bool((self.meta.extra or {}).get("size"))

    @property
    def secret(self) -> bool:
        """Whether it is never shown whole."""
        return bool((self.meta.extra or {}).get("secret"))

    @property
    def item(self) -> Any:
        """The declared type of what a list or a table of names holds; None if it is neither."""
        place = _ITEM_PLACES.get(get_origin(self.kind))
        return None if place is None else get_args(self.kind)[place]

    @property
    def entry(self) -> type[Section] | None:
        """The table that an entry may be written as, in a table of names."""
        return next((kind for kind in get_args(self.item) if _is_section(kind)), None)


class Array(NamedTuple):
    """A list of tables, as declared. `keys`: its elements' settings by field; `label`: the field that they are called by."""

    name: str  # "gateway.providers"
    struct: type[Section]
    label: str
    keys: dict[str, Key]
    description: str

    def key(self, element: str, field: str) -> Key:
        """The setting of one element, under its full name."""
        return self.keys[field]._replace(name=f"{self.name}.{element}.{field}")


def sections_of(struct: type[Section], prefix: str = "") -> Iterator[tuple[str, type[Section]]]:
    """Every table with its dotted name, each before those inside it."""
    for field in msgspec.structs.fields(struct):
        if _is_section(field.type):
            yield prefix + field.name, field.type
            yield from sections_of(field.type, f"{prefix}{field.name}.")


def keys_of(struct: type[Section], section: str) -> Iterator[Key]:
    """The single settings that stand in a table itself."""
    for field in msgspec.structs.fields(struct):
        if not _is_section(field.type) and _element_of(field.type) is None:
            made = field.default_factory
            default = field.default if made is msgspec.NODEFAULT else made()
            yield key_of(f"{section}.{field.name}", field.type, default)


def key_of(name: str, declared: Any, default: Any) -> Key:
    """One setting from its annotation: what limits it may stand in several places of it."""
    kind, metas, optional = _bare(declared)
    limits = {limit: value for meta in metas for limit in _LIMITS if (value := getattr(meta, limit)) is not None}
    return Key(name, declared, default, kind, Meta(**limits), optional)


def arrays_of(struct: type[Section], section: str) -> Iterator[Array]:
    """The lists of tables that stand in a table itself."""
    for field in msgspec.structs.fields(struct):
        element = _element_of(field.type)
        if element is not None:
            name = f"{section}.{field.name}"
            keys = {key.field: key for key in keys_of(element, name)}
            yield Array(name, element, next(iter(keys)), keys, key_of(name, field.type, ()).meta.description or "")


def _bare(declared: Any) -> tuple[Any, tuple[Meta, ...], bool]:
    """An annotation without its wrappings, what they say, and whether None is allowed."""
    if get_origin(declared) is Annotated:
        inner, *metas = get_args(declared)
        kind, within, optional = _bare(inner)
        return kind, (*within, *metas), optional
    if get_origin(declared) in {Union, UnionType}:
        others = [kind for kind in get_args(declared) if kind is not NoneType]
        if len(others) == 1:
            kind, within, _ = _bare(others[0])
            return kind, within, True
    return declared, (), False


def _element_of(declared: Any) -> type[Section] | None:
    """The Struct of a list of tables; None if it is something else."""
    kind, _, _ = _bare(declared)
    first = get_args(kind)[0] if get_origin(kind) is tuple else None
    return first if _is_section(first) else None


def _is_section(kind: Any) -> Any:
    return isinstance(kind, type) and issubclass(kind, Section)
