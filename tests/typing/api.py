"""Calls that must type-check: what users write. Read by mypy only; nothing here runs."""

from __future__ import annotations

import datetime
import uuid

import leeward
from leeward.errors import ConfigError, LeewardError, Unavailable

leeward.init()
leeward.init(api_key="lw_x", host="http://127.0.0.1:5330", disabled=False, spool_dir="/tmp/spool", mode="memory")
leeward.init(sample_rate=0.5)
event_id: str | None = leeward.capture("chat.sent", {"tokens": 12}, distinct_id="u1")
leeward.capture("bare")
leeward.capture(
    "when", timestamp=1_795_322_741_463, uuid=uuid.uuid4(), session_id="s", correlation_id="c", level="WARN"
)
leeward.capture("when", timestamp=datetime.datetime.now(datetime.UTC), uuid="id")
leeward.capture("when", timestamp="2026-01-02T03:04:05Z", groups={"company": "c1"})
result: leeward.FlushResult = leeward.flush(timeout_s=1.0)
counts: tuple[int, int, int] = (result.delivered, result.spooled, result.dropped)
snapshot: leeward.Stats = leeward.stats()
captured: int = snapshot.captured
leeward.shutdown()

client: leeward.Client = leeward.Client("lw_x", host="http://127.0.0.1:5330", flush_at=5)
client.capture("signup", {"plan": "pro"}, distinct_id="u1")
client.disabled = True
leeward.client.capture("from.the.module.level.client")


def handle(error: LeewardError) -> str:
    if isinstance(error, Unavailable):
        return f"again in {error.retry_after_s} s"
    if isinstance(error, ConfigError):
        return f"{error.where}: {error.fix}"
    return error.code


leeward.init(wire="posthog", sample_rules={"chat.token": 0.01}, before_send=lambda event: event, device_id=False)
failed: str | None = leeward.capture_exception(ValueError("no"), {"stage": "plan"}, distinct_id="u1")
leeward.log("WARN", "retrying", {"attempt": 2}, correlation_id="c")
leeward.metric("queue.length", 7, unit="1", properties={"queue": "q"})
leeward.set_context(session_id="s", correlation_id="c", plan="pro")
leeward.flush_soon(hint_s=5)
deleted: int = leeward.delete_pending()
length: int = leeward.in_context(len)("text")
with leeward.timed("build_start", "build_end", {"target": "x"}) as added, leeward.busy(), leeward.idle():
    added["files"] = 3
with leeward.span("plan", {"step": 1}) as span:
    span.set("tokens", 12)
    header: str = span.traceparent


async def work() -> str:
    async with leeward.span("work") as inner:
        return inner.trace_id


leeward.Client("phc_x").capture("u1", "signup", {"plan": "pro"})
