"""The module-level client and its functions: what `import leeward` offers to a program that needs only one."""

from __future__ import annotations

import os

from leeward.sender.client import Client
from leeward.sender.config import configure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = [
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

client = object.__new__(Client)  # not initialised: it waits for `init`, or for its first use
client._begin_anew()
busy = client.busy
capture = client.capture
capture_exception = client.capture_exception
delete_pending = client.delete_pending
flush = client.flush
flush_soon = client.flush_soon
idle = client.idle
in_context = client.in_context
log = client.log
metric = client.metric
set_context = client.set_context
shutdown = client.shutdown
span = client.span
stats = client.stats
timed = client.timed


def init(
    api_key: str | None = None,
    host: str | None = None,
    *,
    wire: str | None = None,
    sample_rate: float | None = None,
    sample_rules: Mapping[str, float] | None = None,
    disabled: bool | None = None,
    spool_dir: str | None = None,
    mode: str = "durable",
    app: str | None = None,
    device_id: str | bool | None = None,
    before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
    **ignored: Any,
) -> Client:
    """Configure `leeward.client`; see `Client` for the arguments. May be called again; never raises."""
    client._configure(
        configure(
            os.environ,
            api_key=api_key or ignored.pop("project_api_key", None),
            host=host,
            wire=wire,
            sample_rate=sample_rate,
            sample_rules=sample_rules,
            disabled=True if ignored.pop("send", True) is False else disabled,
            spool_dir=spool_dir,
            mode=mode,
            app=app,
            device_id=device_id,
            before_send=before_send,
        ),
        ignored,
    )
    return client
