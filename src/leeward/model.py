"""The values that everyone on the server's side shares. One wide `Event` that every wire maps to.

A field is a column of the store's `events` table, with the same name, and comes out of a query under the native
event's name. An empty string, or None for a number, means absent.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["KINDS", "LEVELS", "Dropped", "Event"]

KINDS: Final = ("event", "exception", "span", "log", "metric")
LEVELS: Final = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One accepted item: an event, exception, span, log record or metric point.

    Times are milliseconds since 1970 UTC. `data`, `attributes` and `error_rest` are JSON texts of objects; `data`
    is the sender's own bytes unless a rule changed them, and then `attributes` lists the changes under
    `leeward.changed`. `received_at` is set once, at the door, and rules retention and partitions.

    Build it by keyword; only a decoder's hot path may go by position (32 keywords cost ten times as much).
    """

    project: int
    kind: str
    id: str
    name: str
    received_at: int
    timestamp: int
    data: str = "{}"
    level: str = ""
    status: str = ""
    distinct_id: str = ""
    session_id: str = ""
    device_id: str = ""
    correlation_id: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    service: str = ""
    provider: str = ""
    model: str = ""
    duration_ms: float | None = None
    value: float | None = None
    unit: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    error_type: str = ""
    error_message: str = ""
    error_stack: str = ""
    error_category: str = ""
    error_fingerprint: str = ""
    error_rest: str = ""
    batch_id: str = ""
    attributes: str = ""


class Dropped(msgspec.Struct, frozen=True):
    """Why an item does not become an event: a stable code and a sentence for the sender."""

    code: str
    error: str
