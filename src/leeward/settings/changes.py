"""What differs between two settings, in lines for people: what a reload says. No secret is whole in them."""

from __future__ import annotations

from typing import Any

from leeward.settings.keys import Key
from leeward.settings.show import elements_of, settings_of, value_text
from leeward.settings.tree import Settings

__all__ = ["changes"]


def changes(old: Settings, new: Settings) -> list[str]:
    """One line a change: `gateway.retry.max_attempts 3 → 5`; tables of lists that came, went, or stand in another order."""
    before, after = _by_name(old), _by_name(new)
    elements_before, elements_after = elements_of(old), elements_of(new)
    lines = []
    for name, (key, value) in after.items():
        if name in before and before[name][1] != value:
            lines.append(_changed(key, before[name][1], value))
    for array, labels in elements_after.items():
        former = elements_before[array]
        lines += [f"{array}.{label} is new" for label in labels if label not in former]
        lines += [f"{array}.{label} is gone" for label in former if label not in labels]
        if [label for label in former if label in labels] != [label for label in labels if label in former]:
            lines.append(f"{array} has another order: {', '.join(labels)}")
    return lines


def _by_name(settings: Settings) -> dict[str, tuple[Key, Any]]:
    return {key.name: (key, value) for key, value in settings_of(settings)}


def _changed(key: Key, old: Any, new: Any) -> str:
    shown = value_text(key, old), value_text(key, new)
    return f"{key.name} {shown[0]} → {shown[1]}" if shown[0] != shown[1] else f"{key.name} is another {shown[1]}"
