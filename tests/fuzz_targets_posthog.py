"""Every decoder of PostHog's wire, for fuzzing: each lets pass what is documented, and nothing else."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Callable
from urllib.parse import quote

from leeward.errors import ProtocolError
from leeward.model import LEVELS, Dropped, Event
from leeward.server.unpack import unpack
from leeward.wire.posthog import v1
from leeward.wire.posthog.body import LZ64, Payload
from leeward.wire.posthog.columns import Received, to_events
from leeward.wire.posthog.events import decode
from leeward.wire.posthog.lz import lz_unpack
from leeward.wire.text import repair

RECEIVED_AT = 1_795_322_741_463
UUID = "8deedea6-6f4b-41f8-89c1-502e28b53433"
BYTES_MAX = 1 << 20
TEXTS = {"name": 200, "distinct_id": 200, "session_id": 200, "device_id": 200, "service": 200, "provider": 200}
TEXTS |= {"model": 200, "unit": 200, "id": 128, "error_type": 200, "error_message": 65_536, "error_stack": 65_536}
TEXTS |= {"trace_id": 200, "span_id": 200, "parent_span_id": 200, "correlation_id": 200, "error_fingerprint": 200}
TEXTS |= {"status": 200}


def unwrapped(body: bytes, **told: bytes) -> bytes:
    """The JSON inside a body, as the server's handler gets at it."""
    payload = Payload(body, **told)
    while encoding := payload.peel():
        if encoding == LZ64:
            payload.data = lz_unpack(payload.data, BYTES_MAX)
        else:
            payload.data = unpack(payload.data, encoding, BYTES_MAX)
    return payload.data


def items_of(text: bytes) -> list[Event | Dropped]:
    """The events of a request's JSON, and why those are refused that are."""
    text, _ = repair(text)
    batch = decode(text)
    return to_events(batch.events, Received(1, RECEIVED_AT, batch.token.encode(), batch.sent_at, batch.historical))


def events_of(text: bytes) -> list[Event]:
    """The same where none is refused."""
    items = items_of(text)
    assert not [item for item in items if isinstance(item, Dropped)]
    return items


def check_event(event: Event) -> None:
    """What every mapped event keeps, whatever came in."""
    assert event.name
    assert event.distinct_id or json.loads(event.data)["$lib"] == "leeward"
    assert event.level in {"", *LEVELS}
    assert -(2**63) <= event.timestamp < 2**63
    for field, chars_max in TEXTS.items():
        assert len(getattr(event, field)) <= chars_max, field
    for number in (event.duration_ms, event.value):
        assert number is None or math.isfinite(number)
    for count in (event.input_tokens, event.output_tokens):
        assert count is None or 0 <= count < 2**63
    for field in event.__struct_fields__:
        value = getattr(event, field)
        if isinstance(value, str):
            value.encode()
            assert "\0" not in value, field
    for text in (event.data, event.attributes or "{}", event.error_rest or "{}"):
        assert text.startswith("{")


def check_items(items: list[Event | Dropped]) -> None:
    for item in items:
        if isinstance(item, Dropped):
            assert item.code
            assert item.error
        else:
            check_event(item)


def decode_body(data: bytes) -> None:
    half = len(data) // 2
    for told in (
        {},
        {"content_type": b"application/x-www-form-urlencoded"},
        {"query_string": b"compression=lz64"},
        {"query_string": data[:half], "content_encoding": data[half : half + 8]},
    ):
        try:
            text = unwrapped(data, **told)
        except ProtocolError:
            continue
        decode_batch(text)


def decode_batch(data: bytes) -> None:
    try:
        items = items_of(data)
    except ProtocolError:
        return
    check_items(items)


def decode_v1(data: bytes) -> None:
    text, _ = repair(data)
    try:
        batch = v1.decode(text)
        items = v1.to_events(batch, Received(1, RECEIVED_AT, b"phc_k", zone_needed=True), sdk_info="posthog-python/7")
    except ProtocolError:
        return
    check_items(items)


def decode_lz(data: bytes) -> None:
    try:
        lz_unpack(data, 1000)
    except ProtocolError:
        pass


def decode_all(data: bytes) -> None:
    """Give the same bytes to every decoder."""
    for target, _ in TARGETS.values():
        target(data)


FRAME = {"filename": "a.py", "function": "f", "lineno": 3, "in_app": True, "context_line": "x"}
EXCEPTION = {
    "$exception_list": [
        {
            "type": "E",
            "value": "v",
            "module": None,
            "mechanism": {"handled": False, "source": "cause"},
            "stacktrace": {"frames": [FRAME, None]},
        },
        None,
    ],
    "$exception_level": "fatal",
    "$exception_fingerprint": "mine",
}
OLD_EXCEPTION = {
    "$exception_type": "E",
    "$exception_message": "m",
    "$exception_stack_trace_raw": json.dumps([FRAME]),
    "$exception_lineno": 7,
    "$exception_handled": True,
}
AI = {
    "$ai_trace_id": "t",
    "$ai_model": "gpt",
    "$ai_latency": 1.5,
    "$ai_input_tokens": 3,
    "$ai_is_error": True,
    "$ai_error": {"message": "no", "type": "T"},
}
OURS = {
    "$lib": "leeward",
    "$leeward_id": "a:b",
    "$span_name": "s",
    "level": "INFO",
    "duration_ms": 2.5,
    "value": 1e308,
    "status": 200,
    "$process_person_profile": False,
    **EXCEPTION,
}


def seed_event(name: str, properties: object, **fields: object) -> dict[str, object]:
    return {"event": name, "distinct_id": "u1", "uuid": UUID, "properties": properties, **fields}


def seed_batch(*events: object, **fields: object) -> bytes:
    return json.dumps({"api_key": "phc_k", "batch": events, **fields}, separators=(",", ":")).encode()


BATCH_SEEDS = [
    seed_batch(
        seed_event("a", {"a": 1, "token": "phc_k"}, timestamp="2026-11-22T04:45:41Z"), sent_at="2026-11-22T04:45:42Z"
    ),
    seed_batch(seed_event("$exception", EXCEPTION), seed_event("$exception", OLD_EXCEPTION), historical_migration=True),
    seed_batch(seed_event("$ai_generation", AI), seed_event("$span", OURS), seed_event("$log", OURS)),
    json.dumps([seed_event("a", {"token": "phc_k"}, offset=12, **{"$set": {"plan": "x"}})]).encode(),
    json.dumps({**seed_event("é\u0000", {"value": "x", "level": 3}), "token": "phc_k", "odd": [1]}).encode(),
]
V1_EVENT = {
    "event": "a",
    "uuid": UUID,
    "distinct_id": "u1",
    "timestamp": "2026-11-22T04:45:41.486420+00:00",
    "session_id": "s",
    "window_id": "w",
    "options": {"process_person_profile": "true", "cookieless_mode": 0, "product_tour_id": "p"},
    "properties": {"a": 1},
}
V1_SEEDS = [
    json.dumps({"created_at": "x", "historical_migration": False, "batch": [V1_EVENT]}).encode(),
    json.dumps({"batch": [{**V1_EVENT, "event": "$exception", "properties": EXCEPTION, "options": None}]}).encode(),
]
LZ_SEEDS = [
    b"N4IgpgbmB2AuIC4QEMQBoQBMCWBnW20AxrAPraaIgCuIAvkA",
    "\u1be1\u0849\u40fc\u6096\u0191\xd8\u2041\u4421\u50a0\u1322\u2c2c\u75d6\u6826\u1ae0\u1f7b\u26a8\u4035\u6220\u5f40 ".encode(),
]
_PLAIN = BATCH_SEEDS[0]
_BASE64 = base64.b64encode(_PLAIN)
BODY_SEEDS = [
    _PLAIN,
    gzip.compress(_PLAIN),
    _BASE64,
    b"data=" + quote(_BASE64, safe="").encode(),
    b"compression=gzip-js&data=" + quote(_PLAIN).encode(),
    base64.b64encode(gzip.compress(_PLAIN)),
    *LZ_SEEDS,
]

TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "posthog_body": (decode_body, BODY_SEEDS),
    "posthog_batch": (decode_batch, BATCH_SEEDS),
    "posthog_v1": (decode_v1, V1_SEEDS),
    "posthog_lz": (decode_lz, LZ_SEEDS),
}
