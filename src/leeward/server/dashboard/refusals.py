"""What was refused lately → what the page says of it. Decided here, in plain values; the template only arranges it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from leeward.server.dashboard import text
from leeward.server.dashboard.view import Moment

if TYPE_CHECKING:
    from leeward.server.refusals import Refusal

__all__ = ["RefusalRow", "RefusalsView", "build"]

_WIRES: Final = {"native": "leeward", "posthog": "PostHog", "otlp": "OpenTelemetry", "sentry": "Sentry"}
_TIME: Final = "%Y-%m-%d %H:%M:%S UTC"


class RefusalRow(msgspec.Struct, frozen=True):
    """One refusal, or a number of the same; `times` and `since` are empty for a single one."""

    last: Moment
    since: Moment | None
    times: str
    wire: str
    path: str
    code: str
    reason: str
    cure: str
    client: str
    key: str
    address: str


class RefusalsView(msgspec.Struct, frozen=True):
    """The page: its rows, the newest first, and what stands above them."""

    rows: tuple[RefusalRow, ...]
    total: str
    now: Moment


def build(refusals: Sequence[Refusal], now_ms: int) -> RefusalsView:
    """Arrange what was refused for a reader."""
    total = sum(refusal.count for refusal in refusals)
    return RefusalsView(tuple(map(_row, refusals)), text.count(total), _moment(now_ms))


def _row(refusal: Refusal) -> RefusalRow:
    several = refusal.count > 1
    return RefusalRow(
        last=_moment(refusal.at_ms),
        since=_moment(refusal.since_ms) if several and refusal.since_ms != refusal.at_ms else None,
        times=f"{text.count(refusal.count)} times" if several else "",
        wire=_WIRES.get(refusal.wire, refusal.wire),
        path=text.visible(refusal.path),
        code=refusal.code,
        reason=text.visible(refusal.reason),
        cure=refusal.cure,
        client=text.visible(refusal.client) or "not said",
        key=f"…{text.visible(refusal.key_tail)}" if refusal.key_tail else "–",
        address=text.visible(refusal.address),
    )


def _moment(time_ms: int) -> Moment:
    return Moment(text.iso(time_ms), text.utc(time_ms, _TIME))
