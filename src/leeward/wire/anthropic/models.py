"""What Claude models take and what they no longer take, by their names.

The families of 4.5 and 4.6 are named here; every later Claude follows the rule of the newest, so that a new name needs
no new line. A name that is not Claude's belongs to another server that speaks the same protocol: it gets everything.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

__all__ = ["OUTPUT_TOKENS", "Abilities", "abilities"]

OUTPUT_TOKENS: Final = 16_384
"""`max_tokens` where the caller says none: Messages asks for one. Every model in service can write more than that, and
an answer of this length still comes within the ten minutes that one without a stream may take."""


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes."""

    sampling: Literal["none", "one", "both"] = "none"  # of temperature and top_p
    prefill: bool = False  # a last turn of the assistant, to be continued
    effort: bool = True
    effort_max: Literal["high", "xhigh"] = "xhigh"
    thinks_always: bool = False  # refuses to be told not to


NEWEST: Final = Abilities()
ANY: Final = Abilities(sampling="both", prefill=True)
FAMILIES: Final[tuple[tuple[str, Abilities], ...]] = (
    ("claude-opus-4-5", Abilities(sampling="one", prefill=True, effort_max="high")),
    ("claude-sonnet-4-5", Abilities(sampling="one", prefill=True, effort=False)),
    ("claude-haiku-4-5", Abilities(sampling="one", prefill=True, effort=False)),
    ("claude-opus-4-6", Abilities(sampling="one", effort_max="high")),
    ("claude-sonnet-4-6", Abilities(sampling="one", effort_max="high")),
    ("claude-fable", Abilities(thinks_always=True)),
    ("claude-mythos", Abilities(thinks_always=True)),
    ("claude-", NEWEST),
)


def abilities(model: str) -> Abilities:
    """What the model of this name takes."""
    return next((ability for prefix, ability in FAMILIES if model.startswith(prefix)), ANY)
