"""Bodies that are small on the wire and large in memory, for each protocol, just within its limits and far beyond them.

A body that unpacks to gigabytes must be left at its limit. One within the limit is worse: millions of empty values, each
of which a decoder would make an object of a hundred bytes. Those within are packed with fixed codes, to a 150th at most:
no server can tell them from repetitive honest events by how well they pack.
"""

from __future__ import annotations

import gzip
import json
import secrets
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from benchmarks.loading import WORDS

from leeward.settings.tree import Server as Limits

MIB: Final = 1 << 20
BEYOND_BYTES: Final = 256 * MIB
SLACK_BYTES: Final = 4096  # for what stands around the filling


class Bomb(NamedTuple):
    """One request's path, headers and body as it travels."""

    name: str
    path: str
    headers: dict[str, str]
    body: bytes


class _Wire(NamedTuple):
    """A path, how requests there say who they are, and how large a body may be when unpacked."""

    name: str
    path: str
    headers: dict[str, str]
    bytes_max: int


def corpus(key: str, *, share: float = 1.0) -> list[Bomb]:
    """All of them; with a share, of limits that much lower, to be made sooner."""
    return [
        Bomb(f"{wire.name}: {name}", wire.path, {**wire.headers, "content-encoding": coding}, body)
        for wire in _wires(key, share)
        for name, coding, body in (*_beyond(share), *_within(wire, key))
    ]


def _wires(key: str, share: float) -> Iterator[_Wire]:
    limits = Limits()
    plain = int(limits.body_unpacked_bytes_max * share)
    otlp = int(limits.otlp_body_unpacked_bytes_max * share)
    sentry = int(limits.sentry_body_unpacked_bytes_max * share)
    bearer = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    yield _Wire("native", "/api/telemetry/ingest", bearer, plain)
    yield _Wire("posthog", "/batch/", {"content-type": "application/json"}, plain)
    for signal in ("traces", "logs", "metrics"):
        yield _Wire(f"otlp {signal} json", f"/v1/{signal}", bearer, otlp)
        yield _Wire(f"otlp {signal}", f"/v1/{signal}", {**bearer, "content-type": "application/x-protobuf"}, otlp)
    head = {"x-sentry-auth": f"Sentry sentry_key={key}, sentry_version=7"}
    yield _Wire("sentry", "/api/1/envelope/", {**head, "content-type": "application/x-sentry-envelope"}, sentry)
    yield _Wire("sentry store", "/api/1/store/", {**head, "content-type": "application/json"}, sentry)


def _beyond(share: float) -> Iterator[tuple[str, str, bytes]]:
    """Far more than any limit, in each of two codings, and in many members."""
    size = max(MIB, int(BEYOND_BYTES * share))
    yield "beyond, gzip", "gzip", _packed(b" ", size, wbits=31)
    yield "beyond, deflate", "deflate", _packed(b" ", size, wbits=15)
    yield "beyond, members", "gzip", gzip.compress(b" " * (size // 16), 9) * 64


def _within(wire: _Wire, key: str) -> Iterator[tuple[str, str, bytes]]:
    """Just below the limit, and as many values as fit."""
    room = wire.bytes_max - SLACK_BYTES
    for name, before, filling, after in _fillings(wire, key, room):
        count = (room - len(before) - len(after)) // len(filling)
        body = _packed(filling, count * len(filling), wbits=31, before=before, after=after, strategy=zlib.Z_FIXED)
        yield f"within, {name}", "gzip", body


def largest(key: str, *, share: float = 1.0) -> list[Bomb]:
    """No bombs: requests that are taken, as large as they may be."""
    return [
        Bomb(f"{wire.name}: full", wire.path, {**wire.headers, "content-encoding": "gzip"}, _full(wire, item, key))
        for wire in _wires(key, share)
        if (item := _FULL.get(wire.name))
    ]


def _full(wire: _Wire, item: tuple[int, bytes, bytes, bytes], key: str) -> bytes:
    """As many different events as a request may have, each as long as they all may be."""
    count, before, event, after = item
    before = before.replace(b"KEY", key.encode())
    note = (b" ".join(word.encode() for word in WORDS) * 100)[: wire.bytes_max // count - len(event) - 64]
    run = secrets.token_hex(4).encode()
    stream = zlib.compressobj(1, zlib.DEFLATED, 31, strategy=zlib.Z_FIXED)
    packed = [stream.compress(before)]
    for number in range(count):
        place = b"%024d" % number
        packed.append(
            stream.compress((b"," if number else b"") + event.replace(b"ID", run + place).replace(b"NOTE", note))
        )
    packed += [stream.compress(after), stream.flush()]
    return b"".join(packed)


def _fillings(wire: _Wire, key: str, room: int) -> Iterator[tuple[str, bytes, bytes, bytes]]:
    """What a body is filled with, and what stands before and after it."""
    kind = wire.name.split()[0]
    if kind == "native":
        yield "events", b"[", b"{},", b"{}]"
        yield "values", b'[{"event_type":"x","data":{"v":[', b"[],", b"[]]}}]"
        yield "one text", b'[{"event_type":"x","data":{"v":"', b"x", b'"}}]'
        yield "depth", b'[{"event_type":"x","data":{"v":', b"[", b""
    elif kind == "posthog":
        head = json.dumps({"api_key": key})[:-1].encode()
        event = b'{"event":"x","distinct_id":"u","properties":{"v":'
        yield "events", head + b',"batch":[', b"{},", b"{}]}"
        yield "values", head + b',"batch":[' + event + b"[", b"[],", b"[]]}}]}"
        yield "one text", head + b',"batch":[' + event + b'"', b"x", b'"}}]}'
        yield "unknown members", head + b',"other":[', b"{},", b'{}],"batch":[]}'
    elif kind == "otlp" and wire.name.endswith("json"):
        name = wire.name.split()[1]
        outer, inner, item = _OTLP_NAMES[name]
        yield "groups", b'{"%s":[' % outer, b"{},", b"{}]}"
        yield "items", b'{"%s":[{"%s":[{"%s":[' % (outer, inner, item), b"{},", b"{}]}]}]}"
        yield "attributes", b'{"%s":[{"%s":[{"%s":[{"attributes":[' % (outer, inner, item), b"{},", b"{}]}]}]}]}"
        yield (
            "values",
            b'{"%s":[{"resource":{"attributes":[{"key":"a","value":{"arrayValue":{"values":[' % outer,
            b"{},",
            b"{}]}}}]}}]}",
        )
    elif kind == "otlp":
        # Empty messages of two bytes: groups (field 1), their scopes (2), their items (2), attributes of the resource (1).
        yield "groups", b"", b"\x0a\x00", b""
        yield "scopes", _opened(room, 1), b"\x12\x00", b""
        yield "items", _opened(room, 1, 2), b"\x12\x00", b""
        yield "resource attributes", _opened(room, 1, 1), b"\x0a\x00", b""
        yield "item's attributes", _opened(room, 1, 2, 2), _ATTRIBUTE[wire.name.split()[1]], b""
        yield "unknown fields", _opened(room, 1, 2, 2), _UNKNOWN[wire.name.split()[1]], b""
    elif wire.name == "sentry":
        yield "items", b"{}\n", b'{"type":"x"}\n\n', b""
        yield "exceptions", _item("event") + b'{"exception":{"values":[', b"{},", b"{}]}}"
        yield "log records", _item("log") + b'{"items":[', b"{},", b"{}]}"
        yield "spans", _item("transaction") + b'{"spans":[', b"{},", b"{}]}"
        yield "values", _item("event") + b'{"extra":{"v":[', b"[],", b"[]]}}"
    else:
        yield "values", b'{"extra":{"v":[', b"[],", b"[]]}}"
        yield "exceptions", b'{"exception":{"values":[', b"{},", b"{}]}}"


# How many, what stands before them, one (ID: 32 hex digits), what stands after them.
_FULL: Final = {
    "native": (1000, b"[", b'{"event_type":"x","id":"ID","data":{"note":"NOTE"}}', b"]"),
    "posthog": (
        10_000,
        b'{"api_key":"KEY","batch":[',
        b'{"event":"x","distinct_id":"ID","properties":{"note":"NOTE"}}',
        b"]}",
    ),
    "otlp traces json": (
        10_000,
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[',
        b'{"traceId":"ID","spanId":"0123456789abcdef","attributes":[{"key":"note","value":{"stringValue":"NOTE"}}]}',
        b"]}]}]}",
    ),
    "otlp logs json": (
        10_000,
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[',
        b'{"traceId":"ID","body":{"stringValue":"NOTE"}}',
        b"]}]}]}",
    ),
}

_OTLP_NAMES: Final = {
    "traces": (b"resourceSpans", b"scopeSpans", b"spans"),
    "logs": (b"resourceLogs", b"scopeLogs", b"logRecords"),
    "metrics": (b"resourceMetrics", b"scopeMetrics", b"metrics"),
}
# Heads of empty messages in an item: its attributes (a metric's metadata), and what it has no such field for.
_ATTRIBUTE: Final = {"traces": b"\x4a\x00", "logs": b"\x32\x00", "metrics": b"\x62\x00"}
_UNKNOWN: Final = {"traces": b"\x52\x00", "logs": b"\x22\x00", "metrics": b"\x22\x00"}


def _item(name: str) -> bytes:
    """The heads of an envelope with one item, which goes to the end of its line."""
    return b'{"event_id":"%s"}\n{"type":"%s"}\n' % (b"0" * 32, name.encode())


def _opened(room: int, *fields: int) -> bytes:
    """Heads of messages, each inside the one before; the innermost ends with the body."""
    heads = [b""]
    left = room - room % 2
    for field in fields:
        head = bytes([field << 3 | 2]) + _varint5(left - 6)
        left -= 6
        heads.append(head)
    return b"".join(heads)


def _varint5(number: int) -> bytes:
    """In five bytes, whatever it is: heads have one length then."""
    return bytes([(number >> shift & 0x7F) | (0x80 if shift < 28 else 0) for shift in range(0, 35, 7)])


def _packed(
    filling: bytes,
    size: int,
    *,
    wbits: int,
    before: bytes = b"",
    after: bytes = b"",
    strategy: int = zlib.Z_DEFAULT_STRATEGY,
) -> bytes:
    """*size* bytes of a filling, packed a piece at a time: the whole never lies in memory here."""
    piece = filling * max(1, MIB // len(filling))
    stream = zlib.compressobj(1, zlib.DEFLATED, wbits, strategy=strategy)
    packed = [stream.compress(before)]
    whole, rest = divmod(size, len(piece))
    packed += [stream.compress(piece) for _ in range(whole)]
    packed += [stream.compress(piece[:rest]), stream.compress(after), stream.flush()]
    return b"".join(packed)
