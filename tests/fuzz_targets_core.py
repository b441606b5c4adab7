"""Fuzz targets of what every request goes through: the native wire, repair, bounds, the scrubber, the log's frames."""

from __future__ import annotations

import json

import msgspec

from leeward.errors import ProtocolError
from leeward.journal import frame
from leeward.model import Dropped
from leeward.scrub.bounds import bound
from leeward.scrub.raw import PATHS_MAX, clean_column, clean_json
from leeward.wire import native
from leeward.wire.client import decode_client
from leeward.wire.text import has_replacement, repair

EVENT = {
    "event_type": "checkout", "id": "550e8400-e29b-41d4-a716-446655440000", "timestamp": 1735689600123,
    "data": {"plan": "pro", "seats": 3, "url": "https://u:hunter22@host/x?token=abc", "deep": [[{"a": [1.5, None]}]]},
    "level": "WARN", "status": 503, "provider": "openai", "model": "m", "duration_ms": 1.25, "input_tokens": 5,
    "error": {"type": "ValueError", "message": "bad", "stack": "at x\nat y", "more": {"x": 1}},
    "attributes": {"a": "b"}, "unknown": ["é", "\u20ac", "\U0001f600"],
}  # fmt: skip
CLIENT = {"process": "a-1", "first": 1, "last": 9, "lost": [{"reason": "spool_full", "count": 3}]}
SALT = 7
SECRETS = {
    "user": {"password": "canary", "name": "x"},
    "headers": [["Cookie", "a=b"], {"name": "X-Api-Key", "value": "k"}, {"value": {"s": "v"}, "key": "db.password"}],
    "modules": {"PyJWT": "2.8.0"},
    "body": json.dumps({"token": "abc", "text": "Authorization: Bearer abcdef123456"}),
    "note": "sk-" + "a1B2" * 10,
    "session_id": "abc",
    "numbers": [1, -0.0, 1e5, 123456789012345678901234567890],
}


def _bytes(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _repaired(data: bytes) -> bytes | None:
    """Well-formed JSON in valid UTF-8 within bounds, as it is when it comes to be cleaned; None for anything else."""
    text, _ = repair(data)
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    bounded = bound(text)
    return None if isinstance(bounded, Dropped) else bounded[0]


def decode_events(data: bytes) -> None:
    """A native body, mapped to events."""
    text, _ = repair(data)
    try:
        events = native.decode_events(text)
    except ProtocolError:
        return
    for event in events:
        if isinstance(event, Dropped):
            continue
        try:
            attributes = native.attributes(event)
        except ProtocolError:
            attributes = b""
        sent = bytes(event.data) or b"{}"
        bounded = bound(b"{}" if sent == b"null" else sent)
        if not isinstance(bounded, Dropped):
            native.to_event(
                event, project=1, received_at=1, event_id="x", data=bounded[0], attributes=attributes, batch_id=""
            )


def decode_batch(data: bytes) -> None:
    """The envelope of a native batch."""
    try:
        batch = native.decode_batch(repair(data)[0])
        native.decode_events(bytes(batch.events) or b"[]")
    except ProtocolError:
        return


def decode_report(data: bytes) -> None:
    """A client's account of itself, as it stands in a batch."""
    try:
        batch = native.decode_batch(b'{"client":' + repair(data)[0] + b"}")
    except ProtocolError:
        return
    decode_client(bytes(batch.client))


def decode_frame(data: bytes) -> None:
    """A record of the log: what is read is what was written."""
    found = frame.decode(data, 0, len(data), SALT)
    if found is not None:
        record = frame.Record(found.type, found.payload, found.batch, found.flags)
        assert frame.encode_header(record, found.sequence, SALT) + found.payload == data[: found.end]
        assert frame.length_needed(data, 0) == found.end


def repair_text(data: bytes) -> None:
    """What was repaired is valid, and repairing it again changes nothing."""
    text, changed = repair(data)
    text.decode()
    assert repair(text) == (text, False)
    assert changed is (text != data)
    assert has_replacement(text) or not changed


def bound_json(data: bytes) -> None:
    """What is within bounds is still JSON, and stays as it is."""
    bounded = _repaired(data)
    if bounded is not None:
        msgspec.json.decode(bounded)
        assert bound(bounded) == (bounded, [])


def clean(data: bytes) -> None:
    """What is clean is JSON with the same brackets and numbers, and stays as it is."""
    bounded = _repaired(data)
    if bounded is None:
        return
    cleaned, paths = clean_json(bounded)
    assert _shape(bounded) == _shape(cleaned)
    assert bool(paths) is (cleaned is not bounded)
    assert len(paths) <= PATHS_MAX
    assert clean_json(cleaned) == (cleaned, [])
    text = bounded.decode()
    assert clean_column(clean_column(text)[0])[1] is False


def _shape(raw: bytes) -> object:
    """The value with all strings alike; members stay pairs, as a name may be there twice."""
    return _alike(json.loads(raw, object_pairs_hook=tuple, parse_int=str.encode, parse_float=str.encode))


def _alike(value: object) -> object:
    if isinstance(value, str):
        return ""
    if isinstance(value, (list, tuple)):
        return type(value)(_alike(item) for item in value)
    return value


_EVENTS = [_bytes(EVENT), _bytes([EVENT, {"event_type": "a"}, 1]), b"{}", b"[]", b"null"]
_VALUES = [_bytes(SECRETS), _bytes(EVENT), json.dumps(EVENT).encode(), b'{"a":1}', b"[[]]", b'"text"']

TARGETS = {
    "native-events": (decode_events, _EVENTS),
    "native-batch": (decode_batch, [_bytes({"events": [EVENT], "batch_id": "b", "client": CLIENT}), b"{}"]),
    "native-client": (decode_report, [_bytes(CLIENT), b"null"]),
    "frame": (
        decode_frame,
        [frame.encode_small(1, b"payload", 5, SALT), frame.encode_small(200, b"", 2**64 - 1, SALT)],
    ),
    "repair": (repair_text, [*_VALUES, b'"\\ud800"', b'"\\u0000"', b"\xff\xfe", b'"\xed\xa0\x80"']),
    "bound": (bound_json, [*_VALUES, b"[" * 70 + b"]" * 70]),
    "clean": (clean, _VALUES),
}
