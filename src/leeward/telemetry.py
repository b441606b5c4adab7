"""The names of a bespoke telemetry module: `capture` around a piece of work, `capture_exception`, `client`.

    from leeward.telemetry import capture, capture_exception

    with capture("build_start", "build_end", {"target": "x"}):
        ...

They are the functions of `leeward.client`: configured by `leeward.init` or the environment, flushed at exit within two
seconds, silent, switched off by `client.disabled`, `LEEWARD_DISABLED` or `DO_NOT_TRACK`.
"""

from __future__ import annotations

from leeward.sender.api import capture_exception, client, flush
from leeward.sender.posthog_names import is_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from leeward.sender.blocks import Timed

__all__ = ["capture", "capture_exception", "client", "flush"]


class Captured:
    """One event that was captured at once; `id` is None if it was not kept. A `with` block around it does nothing."""

    __slots__ = ("id",)

    def __init__(self, id: str | None) -> None:
        self.id = id

    def __enter__(self) -> dict[str, Any]:
        return {}

    def __exit__(self, *_: object) -> None:
        return None


def capture(event_start: str, event_end: Any = None, properties: Mapping[str, Any] | None = None) -> Timed | Captured:
    """Capture a pair of events around a `with` block, or, without a second name, one event at once.

    Args:
        event_start: The event's name at the start of the block.
        event_end: The event's name at its end; it has `duration_ms`. If the block raises, the exception is captured in
            its place, and goes on. A mapping, or nothing, here: there is only one event, with these properties.
        properties: Of both events.

    Returns:
        A context manager, in either case.
    """
    if is_text(event_end):
        return client.timed(event_start, event_end, properties)
    return Captured(client.capture(event_start, properties if event_end is None else event_end))
