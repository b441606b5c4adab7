"""Reads what a client sent: bodies of four wires → the marks of the events in them, each with the id it was sent under.

Done after a measurement, not during it. An id is what a receiver can tell a repetition by; a wire without one (log
records) has None.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

Item = tuple[str, str | None]  # mark, id


class Tally(NamedTuple):
    """What arrived of one run.

    distinct      events that arrived at least once
    repeated      of those: sent more than once, whether or not the receiver can tell
    stored_twice  of those: sent under different ids, or under none, so that nobody can tell
    """

    distinct: int
    repeated: int
    stored_twice: int


class UnknownEncodingError(Exception):
    """A client compresses in a way that this sink does not read."""


def unpack(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    if encoding not in {"", "identity"}:
        raise UnknownEncodingError(f"a client sent content-encoding {encoding!r}, which this sink does not read")
    return body


def readable(path: str, body: bytes, encoding: str) -> list[Item]:
    """The marked events of one request as it came; none if it cannot be read.

    That happens: two processes that share a connection after a fork write into each other's requests.
    """
    try:
        return list(items(path, unpack(body, encoding)))
    except UnknownEncodingError:
        raise  # a gap in this sink, which must not pass for a loss
    except Exception:  # whatever the decoders of four wires say to garbage
        return []


def items(path: str, body: bytes) -> Iterator[Item]:
    """The marked events of one request."""
    if path.startswith("/api/telemetry/"):
        yield from _native(json.loads(body))
    elif path.startswith("/batch"):
        yield from _posthog(json.loads(body))
    elif path.endswith("/envelope/"):
        yield from _sentry(body)
    elif path.endswith("/v1/traces"):
        yield from _otlp_spans(body)
    elif path.endswith("/v1/logs"):
        yield from _otlp_logs(body)


def tally(found: Iterable[Item], run: str) -> Tally:
    """Count the events of one run."""
    ids: dict[str, list[str | None]] = defaultdict(list)
    prefix = f"{run}-"
    for mark, event_id in found:
        if mark.startswith(prefix):
            ids[mark].append(event_id)
    repeated = [sent for sent in ids.values() if len(sent) > 1]
    unknown = [sent for sent in repeated if None in sent or len(set(sent)) > 1]
    return Tally(len(ids), len(repeated), len(unknown))


def _native(batch: dict[str, Any]) -> Iterator[Item]:
    for event in batch["events"]:
        if mark := event.get("data", {}).get("mark"):
            yield mark, event["id"]


def _posthog(batch: dict[str, Any]) -> Iterator[Item]:
    for event in batch["batch"]:
        if mark := event.get("properties", {}).get("mark"):
            yield mark, event["uuid"]


def _sentry(body: bytes) -> Iterator[Item]:
    position = body.index(b"\n") + 1  # the envelope's own head
    while position < len(body):
        end = body.index(b"\n", position)
        head = json.loads(body[position:end])
        length = head.get("length")
        stop = body.find(b"\n", end + 1) if length is None else end + 1 + length
        stop = len(body) if stop < 0 else stop
        payload = body[end + 1 : stop]
        position = stop + 1
        if head["type"] == "event":
            event = json.loads(payload)
            if mark := event.get("extra", {}).get("mark"):
                yield mark, event["event_id"]
        elif head["type"] == "log":
            for record in json.loads(payload)["items"]:
                if mark := record["attributes"].get("mark"):
                    yield mark["value"], None


def _otlp_spans(body: bytes) -> Iterator[Item]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield from ((mark, span.span_id.hex()) for mark in _marks(span.attributes))


def _otlp_logs(body: bytes) -> Iterator[Item]:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                yield from ((mark, None) for mark in _marks(record.attributes))


def _marks(attributes: Any) -> Iterator[str]:
    return (attribute.value.string_value for attribute in attributes if attribute.key == "mark")
