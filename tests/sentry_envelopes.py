"""Envelopes as Sentry's SDKs write them, for tests; and what unmodified SDKs have sent."""

from __future__ import annotations

import json
from pathlib import Path

from leeward.wire.sentry.envelope import split
from leeward.wire.sentry.items import Mapped, map_envelope

RECORDED = {
    path.stem: path.read_bytes() for path in sorted((Path(__file__).parent / "wire/sentry/recorded").glob("*.envelope"))
}
RECEIVED_AT = 1_795_354_545_000  # a few seconds after they were recorded
RECEIVED = "2026-11-22T13:35:45Z"
EVENT_ID = "80ff1e335f4a4921a4b5cd54d09ecee6"
TRACE_ID = "6cf173d587eb48568a9b2e12dcfbea52"
SPAN_ID = "438f40bd3b4a41ee"


def as_bytes(payload) -> bytes:
    return payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()


def envelope(*items, **headers) -> bytes:
    """An envelope of (type, payload) items; each length is right."""
    lines = [json.dumps(headers).encode()]
    for kind, payload in items:
        raw = as_bytes(payload)
        lines += [json.dumps({"type": kind, "length": len(raw)}).encode(), raw]
    return b"\n".join(lines) + b"\n"


def mapped(body: bytes, *, received_at: int = RECEIVED_AT, shed=()) -> Mapped:
    return map_envelope(body, split(body), project=7, received_at=received_at, shed=shed)


def only(kind, payload, **headers):
    """The one event, or refusal, that an envelope with one item becomes."""
    [event] = mapped(envelope((kind, payload), **headers)).events
    return event
