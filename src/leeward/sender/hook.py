"""Asking the program's `before_send` about an event, on its caller's thread, before the event is encoded.

The hook gets a dict in the words of PostHog's: `event`, `uuid`, `timestamp`, `distinct_id`, `properties`, and ours:
`kind`, `level`, `session_id`, `correlation_id`, `error`. What it returns is taken: another name, other properties, other
ids. None means: do not send. Anything else is a failure, and so is an exception: the event is dropped and counted.
What it put in is bounded and scrubbed like everything else. The hook runs on the program's time: one that blocks, blocks.
"""

from __future__ import annotations

from leeward.scrub.values import bounded, bounded_text
from leeward.sender.given import event_id_of, level_of, timestamp_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["ask"]

_IDS = ("distinct_id", "session_id", "correlation_id")


def ask(
    hook: Callable[[dict[str, Any]], Any], kind: str, name: str, data: dict[str, Any], values: dict[str, Any]
) -> tuple[str, dict[str, Any]] | None:
    """Name and properties as the hook wants them; None if it wants none. Changes `values` in place.

    Raises:
        TypeError: The hook returned what is no event.
        Exception: Whatever the hook raises.
    """
    answer = hook(
        {
            "event": name,
            "kind": kind,
            "uuid": values["id"],
            "timestamp": values["timestamp_ms"],
            "level": values["level"],
            "properties": data,
            "error": values.get("error"),
            **{name: values[name] for name in _IDS},
        }
    )
    if answer is None:
        return None
    if type(answer) is not dict:
        raise TypeError(f"before_send returned {type(answer).__name__}, not a dict or None")
    for key in _IDS:
        values[key] = bounded_text(answer.get(key))
    values["id"] = event_id_of(answer.get("uuid")) or values["id"]
    values["level"] = level_of(answer.get("level"))
    time = timestamp_of(answer.get("timestamp"))
    values["timestamp_ms"] = values["timestamp_ms"] if time is None else time
    if "error" in values:
        error = bounded(answer.get("error"))
        if type(error) is not dict:
            raise TypeError("before_send returned an exception without its error")
        values["error"] = {**values["error"], **error}
    properties = bounded(answer.get("properties") or {})
    if type(properties) is not dict:
        raise TypeError("before_send returned properties that are no dict")
    return bounded_text(answer.get("event")) or name, properties
