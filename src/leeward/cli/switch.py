"""The demo's switch: cuts a provider and mends it, and says what became of answers meanwhile.

However a fault is switched, by key, page or command, it is noticed here and told. On a terminal the last line is drawn
anew as answers come; elsewhere each change is a line, and the first answers after it another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import click

from leeward.gateway.faults import FAULTS, Fault

if TYPE_CHECKING:
    from leeward.gateway.chaos import Chaos

__all__ = ["LOST", "Switch"]

LOST: Final = "lost"
LOOK_S: Final = 0.25
CUT: Final = Fault(mode="503")
CUT_S: Final = 86_400.0  # until it is mended, that is


class Switch:
    """Belongs to the loop that the gateway serves on.

    Args:
        chaos: The gateway's faults.
        answers: How many answers came so far, by who gave them; those that did not come, by `LOST`.
        provider: Whom `toggle` cuts.
        draws: Whether the last line may be drawn anew.
        now: The time of day, as text.
    """

    def __init__(
        self,
        chaos: Chaos,
        answers: Callable[[], Mapping[str, int]],
        provider: str,
        *,
        draws: bool,
        now: Callable[[], str],
    ) -> None:
        self._chaos = chaos
        self._answers = answers
        self._provider = provider
        self._draws = draws
        self._now = now
        self._faults: dict[str, str] = {}
        self._before: Mapping[str, int] | None = None  # what had come when a fault was switched last
        self._since = ""
        self._drawn = ""

    async def toggle(self) -> None:
        """Cut the provider, or mend it, and say so."""
        if self._now_broken().get(self._provider):
            await self._chaos.clear(self._provider)
        else:
            await self._chaos.set(self._provider, CUT, CUT_S)
        self.look()

    async def watch(self) -> None:
        """Look, until it is cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Tell what has changed."""
        faults = self._now_broken()
        if faults != self._faults:
            for name in sorted({*faults, *self._faults}):
                if faults.get(name) != self._faults.get(name):
                    self._say(_changed(name, faults.get(name)))
            self._faults = faults
            self._before, self._since = dict(self._answers()), self._now()
        if self._before is not None:
            self._tell(self._before)

    def end(self) -> None:
        """Leave the line that was drawn."""
        if self._drawn:
            self._drawn = ""
            _write("")

    def _now_broken(self) -> dict[str, str]:
        return {state.provider: state.fault.mode for state in self._chaos.state() if state.fault is not None}

    def _tell(self, before: Mapping[str, int]) -> None:
        came = {name: count - before.get(name, 0) for name, count in self._answers().items()}
        lost = came.pop(LOST, 0)
        line = _summary({name: count for name, count in came.items() if count}, lost, self._since)
        if self._draws:
            if line != self._drawn:
                _write(f"\r{line.ljust(len(self._drawn))}", end="")
                self._drawn = line
        elif lost or any(came.values()):
            self._before = None
            _write(line)

    def _say(self, text: str) -> None:
        self.end()
        _write(text)


def _write(text: str, end: str = "\n") -> None:
    try:
        click.echo(text + end, err=True, nl=False)
    except (OSError, ValueError):
        pass  # boundary: the terminal is gone; the demo has to stop in order all the same


def _changed(name: str, mode: str | None) -> str:
    if mode is None:
        return f'provider "{name}" is mended; the next probe finds that out'
    sentence = FAULTS[mode].sentence  # type: ignore[index]  # the mode of a Fault
    return f'provider "{name}" is broken on purpose: {sentence[:1].lower()}{sentence[1:].rstrip(".")}'


def _summary(came: Mapping[str, int], lost: int, since: str) -> str:
    count = sum(came.values())
    shares = ", ".join(f"{number:,} from {name}" for name, number in sorted(came.items(), key=lambda row: -row[1]))
    answers = "no answer yet" if not count else f"{count:,} answer{'' if count == 1 else 's'} ({shares})"
    return f"  since {since}: {answers}, {lost:,} lost"
