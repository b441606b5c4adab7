"""Time as an argument: the two clocks that the rest of leeward is given, so that a test can hold them in its hand."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Clock(Protocol):
        """What a part needs of time."""

        def wall_ms(self) -> int:
            """Milliseconds since 1970 UTC. May jump."""
            ...

        def monotonic_s(self) -> float:
            """Seconds that only ever go forward. The zero is arbitrary."""
            ...


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC. May jump."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds that only ever go forward."""
        return time.monotonic()
