"""How batches travel on each wire, as plain values: records → a request, an answer → what it means. Pure.

Promises  only an answer that the other side's software gives after taking a batch is an acknowledgement: a page of
          something in between (a captive portal, a proxy) is none, whatever its status. An answer is hostile input:
          nothing in it makes this raise, and no more events count as refused than were sent. The key is added here
          and stands in no record.
Expects   the records that this wire's encoder made. The worker's thread imports this, not the program.
"""

from __future__ import annotations

import json

from leeward.sender.plan import Answer
from leeward.version import VERSION
from leeward.wire import native_encode
from leeward.wire.instants import iso_utc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Final

    from leeward.sender.transport import Reply

__all__ = ["WIRES", "NativeWire", "OtlpWire", "PosthogWire", "Request", "Wire"]

CODE_CHARS_MAX: Final = 40
JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
SPANS, LOGS, METRICS, TRACES_REQUEST, LOGS_REQUEST, METRICS_REQUEST = range(2, 8)  # the record types of OTLP


class Request:
    """What is posted: a path below the host's own, headers that the wire wants, and a body that nobody packed yet."""

    __slots__ = ("body", "headers", "path")

    def __init__(self, path: str, body: bytes, *, content_type: str = JSON, bearer: str = "") -> None:
        self.path = path
        self.body = body
        self.headers: tuple[tuple[str, str], ...] = (("Content-Type", content_type), ("Accept", content_type))
        if bearer:
            self.headers += (("Authorization", f"Bearer {bearer}"),)


class Wire:
    """One row: how a batch is asked for, and what the answers mean."""

    name: str
    statuses: tuple[int, ...] = (200,)  # of answers that may acknowledge

    def request(
        self,
        record_type: int,
        batch_id: str,
        events: Sequence[bytes],
        /,
        *,
        key: str,
        client: bytes | None,
        sent_at_ms: int,
        app: str,
    ) -> Request:
        """The request for a batch of records of one type. `client` is the sender's report, on the native wire only."""
        raise NotImplementedError

    def answer(self, reply: Reply, _record_type: int, batch_id: str, events: int, /) -> Answer:
        """What a reply to a batch of so many events means."""
        if reply.status == 0:
            return Answer(0, reply.cause)
        if reply.status not in self.statuses:
            return Answer(reply.status, f"http_{reply.status}", retry_after_s=reply.retry_after_s)
        refused = self.refused(reply, batch_id, events)
        if refused is None:
            return Answer(reply.status, "not_ours")
        return Answer(reply.status, "", acknowledged=True, refused=refused)

    def refused(self, reply: Reply, batch_id: str, events: int, /) -> dict[str, int] | None:
        """The events that were not taken, code → count; None if this is no acknowledgement."""
        raise NotImplementedError


class NativeWire(Wire):
    """leeward's own: the answer names the batch."""

    name = "native"

    def request(
        self,
        _record_type: int,
        batch_id: str,
        events: Sequence[bytes],
        /,
        *,
        key: str,
        client: bytes | None,
        **_: object,
    ) -> Request:
        """A batch with its id; see `native_encode.batch`."""
        return Request("/api/telemetry/batch", native_encode.batch(batch_id, events, client), bearer=key)

    def refused(self, reply: Reply, batch_id: str, events: int, /) -> dict[str, int] | None:
        """The answer's `errors`."""
        answer = _object(reply.body)
        if answer is None or answer.get("batch_id") != batch_id:
            return None
        if answer.get("status") not in ("completed", "processing", "failed"):  # in all three they are the server's now
            return None
        errors = answer.get("errors")
        return _by_code(errors[:events]) if isinstance(errors, list) else {}


class PosthogWire(Wire):
    """PostHog's: batches to `/batch/`; one event alone to `/capture/`, which every version has, if `capture` says so."""

    name = "posthog"

    def __init__(self, *, capture: bool = True) -> None:
        self._capture = capture

    def request(
        self,
        _record_type: int,
        _batch_id: str,
        events: Sequence[bytes],
        /,
        *,
        key: str,
        sent_at_ms: int,
        **_: object,
    ) -> Request:
        """The events with the project's key, and when they left, so that a wrong clock can be seen."""
        api_key = json.dumps(key).encode()
        if self._capture and len(events) == 1:
            # A single event has no field for when it left; the query has.
            return Request(f"/capture/?_={sent_at_ms}", b'{"api_key":%s,%s' % (api_key, events[0][1:]))
        sent_at = (iso_utc(sent_at_ms) or "").encode()
        return Request("/batch/", b'{"api_key":%s,"sent_at":"%s","batch":[%s]}' % (api_key, sent_at, b",".join(events)))

    def refused(self, reply: Reply, _batch_id: str, events: int, /) -> dict[str, int] | None:
        """All, when a quota is used up: which of them were over it is not said."""
        answer = _object(reply.body)
        if answer is None or answer.get("status") not in (1, "1", "ok", "Ok", "OK"):
            return None
        limited = answer.get("quota_limited")
        return {"quota_limited": events} if isinstance(limited, list) and limited else {}


class OtlpWire(Wire):
    """OTLP over HTTP: JSON for what our encoder made, protobuf for what OpenTelemetry's exporters made."""

    name = "otlp"
    statuses = (200, 202, 204)  # the specification has 200; backends that only queue say the others

    def request(
        self,
        record_type: int,
        _batch_id: str,
        events: Sequence[bytes],
        /,
        *,
        key: str,
        app: str,
        **_: object,
    ) -> Request:
        """Spans, log records or metrics below one resource and scope, or the export requests as one."""
        path, resources, scopes, items = _SIGNALS[record_type]
        if record_type >= TRACES_REQUEST:
            # Serialized messages one after the other are the message with all their repeated fields.
            return Request(path, b"".join(events), content_type=PROTOBUF, bearer=key)
        head = {"resource": {"attributes": _resource(app)}}
        scope = {"scope": {"name": "leeward", "version": VERSION}}
        body = b'{"%s":[{%s,"%s":[{%s,"%s":[%s]}]}]}' % (
            resources,
            _inside(head),
            scopes,
            _inside(scope),
            items,
            b",".join(events),
        )
        return Request(path, body, bearer=key)

    def refused(self, reply: Reply, _batch_id: str, events: int, /) -> dict[str, int] | None:
        """The partial success's count. An empty answer is a full success."""
        if not reply.body:
            return {}
        content_type = reply.content_type.partition(";")[0].strip().lower()
        if content_type == JSON:
            count = _rejected_in_json(reply.body)
        elif content_type == PROTOBUF:
            count = _rejected_in_protobuf(reply.body)
        else:
            count = None
        if count is None:
            return None
        return {"rejected": min(count, events)} if count > 0 else {}


WIRES: Final[Mapping[str, Wire]] = {wire.name: wire for wire in (NativeWire(), PosthogWire(), OtlpWire())}

_SIGNALS: Final = {
    SPANS: ("/v1/traces", b"resourceSpans", b"scopeSpans", b"spans"),
    LOGS: ("/v1/logs", b"resourceLogs", b"scopeLogs", b"logRecords"),
    METRICS: ("/v1/metrics", b"resourceMetrics", b"scopeMetrics", b"metrics"),
    TRACES_REQUEST: ("/v1/traces", b"", b"", b""),
    LOGS_REQUEST: ("/v1/logs", b"", b"", b""),
    METRICS_REQUEST: ("/v1/metrics", b"", b"", b""),
}
_REJECTED: Final = ("rejectedSpans", "rejectedLogRecords", "rejectedDataPoints")


def _object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that a body is, or None."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _by_code(errors: Iterable[object]) -> dict[str, int]:
    """Code → count. A code comes from outside and goes into logs: what is no plain word is `refused`."""
    refused: dict[str, int] = {}
    for error in errors:
        code = error.get("code") if isinstance(error, dict) else None
        plain = isinstance(code, str) and len(code) <= CODE_CHARS_MAX and code.isascii() and code.isidentifier()
        name = str(code) if plain else "refused"
        refused[name] = refused.get(name, 0) + 1
    return refused


def _resource(app: str) -> list[dict[str, Any]]:
    service, _, version = app.partition("/")
    texts = {
        "service.name": service or "unknown_service",
        "service.version": version,
        "telemetry.sdk.name": "leeward",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": VERSION,
    }
    return [{"key": key, "value": {"stringValue": text}} for key, text in texts.items() if text]


def _inside(fields: dict[str, Any]) -> bytes:
    """A JSON object without its braces."""
    return json.dumps(fields, separators=(",", ":")).encode()[1:-1]


def _rejected_in_json(body: bytes) -> int | None:
    answer = _object(body)
    if answer is None:
        return None
    partial = answer.get("partialSuccess")
    if not isinstance(partial, dict):
        return 0
    return max(_count(partial.get(name)) for name in _REJECTED)


def _count(value: object) -> int:
    """A 64-bit integer of protobuf's JSON, written as a text or a number."""
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) <= 19 else 0
    return value if type(value) is int else 0


def _rejected_in_protobuf(body: bytes) -> int | None:
    """Of an Export…ServiceResponse `{1: {1: rejected, 2: message}}`, or None if the bytes are no such message."""
    fields = _protobuf_fields(body)
    if fields is None:
        return None
    rejected = 0
    for number, value in fields:
        if number != 1:
            continue
        partial = _protobuf_fields(value) if isinstance(value, bytes) else None
        if partial is None:
            return None
        for inner, count in partial:
            if inner == 1 and isinstance(count, int):
                rejected = count if count < 2**63 else 0  # negative
    return rejected


def _protobuf_fields(data: bytes) -> list[tuple[int, int | bytes]] | None:
    """The fields of a serialized message as (number, value), or None if it is none."""
    fields: list[tuple[int, int | bytes]] = []
    at = 0
    try:
        while at < len(data):
            tag, at = _varint(data, at)
            number, kind = tag >> 3, tag & 7
            if number == 0:
                return None
            if kind == 0:
                value, at = _varint(data, at)
                fields.append((number, value))
                continue
            length = 8 if kind == 1 else 4 if kind == 5 else -1
            if kind == 2:
                length, at = _varint(data, at)
            if not 0 <= length <= len(data) - at:
                return None
            fields.append((number, data[at : at + length]))
            at += length
    except IndexError:
        return None
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint of at most ten bytes and where it ends; IndexError if it does not end."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise IndexError(at)
