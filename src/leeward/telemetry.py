"""The names of a bespoke telemetry module: `capture` around a piece of work, `capture_exception`, `client`.

    from leeward.telemetry import capture, capture_exception

    with capture("build_start", "build_end", {"target": "x"}):
        ...

They are the functions of `leeward.client`: configured by `leeward.init` or the environment, flushed at exit within two
seconds, silent, switched off by `client.disabled`, `LEEWARD_DISABLED` or `DO_NOT_TRACK`.
"""

from __future__ import annotations

from leeward.sender.api import capture_exception, client, flush

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["capture", "capture_exception", "client", "flush"]


def capture(event_start: str, event_end: Any = None, properties: Mapping[str, Any] | None = None) -> Any:
    """Capture a pair of events around a `with` block, or, without a second name, one event at once.

    Args:
        event_start: The event's name at the start of the block.
        event_end: The event's name at its end; it has `duration_ms`. If the block raises, the exception is captured in
            its place, and goes on. A mapping, or nothing, here: there is only one event, with these properties.
        properties: Of both events.

    Returns:
        A context manager; for a single event its id, or None.
    """
    if type(event_end) is str:
        return client.timed(event_start, event_end, properties)
    return client.capture(event_start, properties if event_end is None else event_end)
