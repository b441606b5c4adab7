"""Every decoder of Sentry's wire, for fuzzing: each lets pass what is documented, and nothing else."""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections.abc import Callable

from leeward.errors import ProtocolError
from leeward.model import LEVELS, Dropped, Event
from leeward.wire.sentry.credentials import key_of_request, read_dsn
from leeward.wire.sentry.envelope import split
from leeward.wire.sentry.items import Mapped, map_envelope, map_store
from sentry_envelopes import EVENT_ID, RECEIVED_AT, RECORDED, SPAN_ID, TRACE_ID, as_bytes, envelope

TEXTS = {"name": 200, "distinct_id": 200, "session_id": 200, "device_id": 200, "service": 200, "provider": 200}
TEXTS |= {"model": 200, "unit": 200, "id": 128, "error_type": 200, "error_message": 65_536, "error_stack": 65_536}
TEXTS |= {"trace_id": 200, "span_id": 200, "parent_span_id": 200, "correlation_id": 200, "error_fingerprint": 200}


def check(mapped: Mapped) -> None:
    """What every mapped event keeps, whatever came in."""
    for event in mapped.events:
        if isinstance(event, Dropped):
            assert event.code
            assert event.error
            continue
        check_event(event)


def check_event(event: Event) -> None:
    assert event.id
    assert event.name
    assert event.level in {"", *LEVELS}
    assert isinstance(event.timestamp, int)
    for field, chars_max in TEXTS.items():
        assert len(getattr(event, field)) <= chars_max, field
    for number in (event.duration_ms, event.value):
        assert number is None or math.isfinite(number)
    for field in event.__struct_fields__:
        value = getattr(event, field)
        if isinstance(value, str):
            value.encode()
            assert "\0" not in value, field
    for text in (event.data, event.attributes or "{}", event.error_rest or "{}"):
        assert text.startswith("{")


def decode_envelope(data: bytes) -> None:
    try:
        mapped = map_envelope(data, split(data), project=1, received_at=RECEIVED_AT)
    except ProtocolError:
        return
    check(mapped)


def decode_store(data: bytes) -> None:
    try:
        mapped = map_store(data, project=1, received_at=RECEIVED_AT)
    except ProtocolError:
        return
    check(mapped)


def decode_credentials(data: bytes) -> None:
    half = len(data) // 2
    try:
        key_of_request(data[:half], [(b"x-sentry-auth", data[half:]), (b"authorization", data)])
    except ProtocolError:
        pass
    read_dsn(data.decode(errors="replace"))


def decode_all(data: bytes) -> None:
    """Give the same bytes to every decoder."""
    for decode, _ in TARGETS.values():
        decode(data)


EVENT = {
    "event_id": EVENT_ID,
    "timestamp": 1795353485.5,
    "exception": [None, {"type": "E", "value": "v", "stacktrace": {"frames": [None, {"function": "f", "lineno": 3}]}}],
    "message": {"formatted": "x", "params": [1]},
    "threads": {"values": [None, {"current": True, "stacktrace": {"frames": [{"function": "g"}]}}]},
    "tags": [["a", "b"], None, ["service", "s"]],
    "user": {"id": 7},
    "fingerprint": ["{{ default }}", "x"],
    "contexts": {"trace": {"trace_id": TRACE_ID, "span_id": SPAN_ID}},
}
SPAN = {"trace_id": TRACE_ID, "span_id": SPAN_ID, "start_timestamp": 1, "timestamp": 2, "data": {"a": 1}, "op": "db"}
SEEDS = [
    *RECORDED.values(),
    envelope(("event", EVENT), event_id=EVENT_ID, sent_at="2026-11-22T13:18:20Z", dsn="http://k@h/1"),
    envelope(("transaction", {"spans": [SPAN, None], "start_timestamp": 1, "timestamp": 2, "transaction": "t"})),
    envelope(("client_report", {"discarded_events": [{"reason": "x", "category": "error", "quantity": 2}]})),
    envelope(
        ("span", SPAN), ("log", {"items": [{"body": "é\u0000"}]}), ("trace_metric", {"name": "n", "value": 1e308})
    ),
    b'{}\n{"type":"event"}\n{"message":"no length"}\n\n{"type":"x","length":0}\n\n',
]
# Without lengths a wound stays in its payload, and the decoders behind the framing are reached.
SEEDS += [re.sub(rb', "length": \d+', b"", seed) for seed in SEEDS]
STORE_SEEDS = [as_bytes(EVENT), base64.b64encode(zlib.compress(as_bytes(EVENT))), as_bytes({"type": "transaction"})]
CREDENTIAL_SEEDS = [
    b"sentry_version=7&sentry_key=abc123&sentry_client=x",
    b'Sentry sentry_key="abc", sentry_version=7, sentry_client=sentry.python/2.75.0',
    b"https://abc123:secret@[::1]:9000/path/7",
]

TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "sentry_envelope": (decode_envelope, SEEDS),
    "sentry_store": (decode_store, STORE_SEEDS),
    "sentry_credentials": (decode_credentials, CREDENTIAL_SEEDS),
}
