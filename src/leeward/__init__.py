"""leeward: fail-safe telemetry for AI chat applications.

    import leeward

    leeward.init(api_key="lw_…", host="https://telemetry.example.com")
    leeward.capture("chat.sent", {"tokens": 12}, distinct_id="u1")

No call raises, blocks or prints. What `capture` returned an id for survives kill -9, and arrives exactly once.
"""

from leeward.sender.api import (
    busy,
    capture,
    capture_exception,
    client,
    delete_pending,
    flush,
    flush_soon,
    idle,
    in_context,
    init,
    log,
    metric,
    set_context,
    shutdown,
    span,
    stats,
    timed,
)
from leeward.sender.client import Client
from leeward.sender.results import FlushResult, Stats
from leeward.version import VERSION as __version__  # noqa: N811 - what the field calls it

__all__ = [
    "Client",
    "FlushResult",
    "Stats",
    "__version__",
    "busy",
    "capture",
    "capture_exception",
    "client",
    "delete_pending",
    "flush",
    "flush_soon",
    "idle",
    "in_context",
    "init",
    "log",
    "metric",
    "set_context",
    "shutdown",
    "span",
    "stats",
    "timed",
]
