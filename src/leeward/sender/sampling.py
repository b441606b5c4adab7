"""Which events are kept when not all shall be: decided by rate, stable by whom or what the event concerns.

Promises  the same `by` is kept or left by everyone, in every process and run, and whoever is kept at one rate is kept at
          every higher one. Nothing raises for texts as name and `by`, and no method of a caller's class runs in `keeps`:
          keys are only looked for in a dict. What is no rate keeps everything: an event too many is better than one that is silently missing.
Not here  exceptions: whoever captures one does not ask.
"""

from __future__ import annotations

from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

__all__ = ["Sampler", "rate_of"]

CRC_VALUES: Final = 2**32


class Sampler:
    """A general rate, and rates for event names and for events that have a property.

    Args:
        rate: Of all events, 0 to 1.
        rules: Rates by event name or property key. The name's own rule wins; else the smallest of those whose key is
            among the properties; else the general rate.
    """

    __slots__ = ("_rate", "_rules", "keeps_all")

    keeps_all: bool  # whoever asks often may look here first

    def __init__(self, rate: float = 1.0, rules: Mapping[str, float] | None = None) -> None:
        self._rate = rate_of(rate)
        self._rules = _rules(rules)
        self.keeps_all = min([self._rate, *self._rules.values()]) == 1.0

    def keeps(self, name: str, properties: Mapping[str, Any], by: str) -> bool:
        """Whether this event is kept. `by` is the distinct id, or what else the events of one story have in common."""
        if self.keeps_all:
            return True
        rate = self._rate_of(name, properties)
        return rate == 1.0 or crc32(by.encode("utf-8", "surrogatepass")) < rate * CRC_VALUES

    def _rate_of(self, name: str, properties: Mapping[str, Any]) -> float:
        rules = self._rules
        if name in rules:
            return rules[name]
        if not issubclass(type(properties), dict):
            return self._rate
        found = [rate for key, rate in rules.items() if dict.__contains__(properties, key)]
        return min(found) if found else self._rate


def rate_of(value: Any) -> float:
    """Between 0 and 1; what is no number is 1. A text is read as a number, as the environment has it."""
    kind = type(value)
    if kind is bool:
        return 1.0 if value else 0.0
    if issubclass(kind, str):
        try:
            value = float(str.__str__(value))
        except ValueError:
            return 1.0
        kind = float
    if issubclass(kind, int):
        return 1.0 if int.__ge__(value, 1) else 0.0
    if not issubclass(kind, float):
        return 1.0
    number = float.__float__(value)
    return max(0.0, number) if number < 1.0 else 1.0  # NaN is not smaller than anything


def _rules(rules: Any) -> dict[str, float]:
    """A copy of what has a text as its key."""
    if rules is None:
        return {}
    try:
        items = dict(rules).items()
    except Exception:
        # Boundary: no mapping, or one whose own methods fail; without rules the general rate counts.
        return {}
    return {key: rate_of(rate) for key, rate in items if type(key) is str}
