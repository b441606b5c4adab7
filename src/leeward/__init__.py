"""leeward: fail-safe telemetry for AI chat applications.

    import leeward

    leeward.init(api_key="lw_…", host="https://telemetry.example.com")
    leeward.capture("chat.sent", {"tokens": 12}, distinct_id="u1")

No call raises, blocks or prints. What `capture` returned an id for survives kill -9, and arrives exactly once.
"""

from leeward.sender.api import Client, capture, client, flush, init, shutdown, stats
from leeward.sender.config import VERSION as __version__  # noqa: N811 - what the field calls it
from leeward.sender.results import FlushResult, Stats

__all__ = [
    "Client",
    "FlushResult",
    "Stats",
    "__version__",
    "capture",
    "client",
    "flush",
    "init",
    "shutdown",
    "stats",
]
