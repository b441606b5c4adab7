"""What someone wrote, before it is checked: a value and where it stands; and which elements the file's lists have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from leeward.settings.keys import Array, Key

__all__ = ["Element", "Given", "Written"]


class Given(NamedTuple):
    """A value as someone wrote it. `text`: it comes from the environment, where everything is text."""

    value: Any
    origin: str
    text: bool = False
    within: Callable[[tuple[str, ...]], str] | None = None  # the place of what stands inside the value

    def place(self, *path: str) -> str:
        """Where something inside the value stands, as far as that is known."""
        return self.within(path) if self.within is not None else self.origin


class Element(NamedTuple):
    """One table of a list of tables. `label`: what it is called by, its number if it does not say."""

    array: Array
    label: str
    origin: str

    @property
    def name(self) -> str:
        """Its dotted name: gateway.providers.primary."""
        return f"{self.array.name}.{self.label}"

    def keys(self) -> dict[str, Key]:
        """Its settings by their full names."""
        return {key.name: key for field in self.array.keys if (key := self.array.key(self.label, field))}


class Written(NamedTuple):
    """All that the file says: values by their dotted names, and the elements of its lists in their order."""

    given: dict[str, Given]
    elements: dict[str, Element]
