"""`GET /api/telemetry/query`: filters and a cursor in, one page of events out, everything acknowledged before it in it."""

from __future__ import annotations

import base64
import binascii
import datetime
import difflib
import hashlib
import hmac
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from leeward.errors import ProtocolError, Unavailable
from leeward.model import KINDS, LEVELS
from leeward.server.door import event_key, key_code
from leeward.server.http import Request, Response, json_response
from leeward.server.routes import QUERY_PARAMETERS
from leeward.server.schemas import QueryAnswer
from leeward.store.clickhouse import StoreUnavailable
from leeward.store.events import EventQuery
from leeward.store.retention import DAY_MS

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.server.reads import Run
    from leeward.store.events import EventStore

__all__ = [
    "LIMIT_MAX",
    "WAIT_MS_MAX",
    "Cursors",
    "Query",
    "ReadBarrier",
    "behind",
    "check_names",
    "event_out",
    "whole_number",
]

WAIT_MS_MAX: Final = 5000
LIMIT_MAX: Final = 1000
_COLUMN_OF_FILTER: Final = {
    "event_type": "name",
    "kind": "kind",
    "level": "level",
    "category": "error_category",
    "distinct_id": "distinct_id",
    "session_id": "session_id",
    "correlation_id": "correlation_id",
    "trace_id": "trace_id",
    "batch_id": "batch_id",
}
_VALUES: Final = {"kind": KINDS, "level": LEVELS}
_PARAMETERS: Final = frozenset(name for name, _ in QUERY_PARAMETERS)
_PLACE: Final = struct.Struct("<qQq")
_MAC_BYTES: Final = 12
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND: Final = datetime.timedelta(milliseconds=1)


class ReadBarrier(Protocol):
    """What a reader needs of the writer."""

    async def wait_loaded(self, wait_s: float) -> bool:
        """Wait until all that is acknowledged now is in the store. False when it took longer than *wait_s*."""
        ...

    def lag(self) -> str:
        """How far the store is behind, in words."""
        ...


class Cursors:
    """Signed places in a result, bound to the project, order and filters of the query.

    A place is (received_at, row position), and where the query's window began: "the last 24 hours" of the first page
    are those of all its pages, or rows would slip out at the far end while somebody reads.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, query: EventQuery, received_at: int, position: int) -> str:
        """The cursor behind that row."""
        place = _PLACE.pack(received_at, position, query.start_ms)
        return base64.urlsafe_b64encode(place + self._mac(query, place)).decode()

    def read(self, query: EventQuery, cursor: str) -> tuple[tuple[int, int], int]:
        """The place that the cursor names, and where the window began.

        Raises:
            ProtocolError: 400 `invalid_query`: not made here, or for another query.
        """
        try:
            raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raw = b""
        place, mac = raw[: _PLACE.size], raw[_PLACE.size :]
        if len(place) != _PLACE.size or not hmac.compare_digest(mac, self._mac(query, place)):
            raise ProtocolError("cursor: is not one that this query gave", code="invalid_query")
        received_at, position, start_ms = _PLACE.unpack(place)
        return (received_at, position), start_ms

    def _mac(self, query: EventQuery, place: bytes) -> bytes:
        bound = msgspec.json.encode((query.project, query.order, sorted(query.filters.items())))
        return hmac.new(self._secret, place + bound, hashlib.sha256).digest()[:_MAC_BYTES]


class Query:
    """The handler."""

    def __init__(
        self,
        store: EventStore,
        *,
        barrier: ReadBarrier,
        cursors: Cursors,
        clock: Clock,
        retention_ms: int,
        run: Run,
        newest_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store = store
        self._barrier = barrier
        self._cursors = cursors
        self._clock = clock
        self._retention_ms = retention_ms
        self._run = run
        self._newest_ms = newest_ms

    async def query(self, request: Request) -> Response:
        """One page of events."""
        parameters = request.query()
        query = self._read(parameters, request.project)
        wait_s = whole_number(parameters, "wait_ms", WAIT_MS_MAX, 0, WAIT_MS_MAX) / 1000
        if wait_s and not await self._barrier.wait_loaded(wait_s):
            raise behind(self._barrier, "Ask again, or with wait_ms=0 for what is there")
        try:
            rows = await self._run(self._store.query, query)
        except StoreUnavailable:
            raise behind(self._barrier, "It does not answer just now. Ask again") from None
        cursor = None
        if len(rows) == query.limit:
            last = rows[-1]
            cursor = self._cursors.make(query, last["received_at"], last["wal_position"])
        return json_response(QueryAnswer(len(rows), [event_out(row, self._retention_ms) for row in rows], cursor))

    def _read(self, parameters: Mapping[str, str], project: int) -> EventQuery:
        check_names(parameters, _PARAMETERS)
        now_ms = self._clock.wall_ms()
        # What was received before the clock was set back is no less there.
        end_ms = _time(parameters, "end", max(now_ms, self._newest_ms()) + 1000)
        start_ms = _time(parameters, "start", end_ms - DAY_MS)
        if start_ms >= end_ms:
            raise ProtocolError("start: must lie before end", code="invalid_query")
        order = parameters.get("order", "desc")
        if order not in {"desc", "asc"}:
            raise ProtocolError("order: must be desc or asc", code="invalid_query")
        filters = {column: parameters[name] for name, column in _COLUMN_OF_FILTER.items() if name in parameters}
        for name, allowed in _VALUES.items():
            if filters.get(name, allowed[0]) not in allowed:
                raise ProtocolError(f"{name}: must be one of {', '.join(allowed)}", code="invalid_query")
        query = EventQuery(
            project=project,
            start_ms=max(start_ms, now_ms - self._retention_ms),
            end_ms=end_ms,
            filters=filters,
            order=order,
            limit=whole_number(parameters, "limit", 100, 1, LIMIT_MAX),
            after=None,
        )
        if "cursor" in parameters:
            after, began_ms = self._cursors.read(query, parameters["cursor"])
            start_ms = query.start_ms if "start" in parameters else max(began_ms, now_ms - self._retention_ms)
            query = msgspec.structs.replace(query, after=after, start_ms=start_ms)
        return query


def behind(barrier: ReadBarrier, advice: str) -> Unavailable:
    """The refusal of a read that the store cannot answer yet."""
    return Unavailable(f"The store is behind: {barrier.lag()}. {advice}", code="store_behind", retry_after_s=2)


def check_names(parameters: Mapping[str, str], known: frozenset[str]) -> None:
    """Refuse a parameter that is none: a filter that was misspelt must not be taken for no filter.

    Raises:
        ProtocolError: 400 `invalid_query`.
    """
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ProtocolError(
                f"{name[:100]}: is not a filter" + (f"; did you mean {near[0]}?" if near else ""),
                code="invalid_query",
            )


def whole_number(parameters: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """A parameter's number, or its default.

    Raises:
        ProtocolError: 400 `invalid_query`: it is none, or out of bounds.
    """
    text = parameters.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > len(str(most)) or not least <= int(text) <= most:
        raise ProtocolError(f"{name}: must be a whole number from {least} to {most}", code="invalid_query")
    return int(text)


def _time(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ProtocolError(
            f"{name}: must be milliseconds since 1970 or an RFC 3339 time", code="invalid_query"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) // _MILLISECOND


_PLAIN: Final = (
    "level",
    "status",
    "distinct_id",
    "session_id",
    "device_id",
    "correlation_id",
    "trace_id",
    "span_id",
    "parent_span_id",
    "service",
    "provider",
    "model",
    "duration_ms",
    "value",
    "unit",
    "input_tokens",
    "output_tokens",
)


def event_out(row: Mapping[str, Any], retention_ms: int) -> dict[str, Any]:
    """A row of the store as the native event: absent fields left out, payloads byte for byte."""
    received_at = row["received_at"]
    event: dict[str, Any] = {
        "key": event_key(received_at, key_code(row["project"], row["kind"], row["id"])),
        "id": row["id"],
        "event_type": row["name"],
        "kind": row["kind"],
        "timestamp": row["timestamp"],
        "received_at": received_at,
    }
    for name in _PLAIN:
        value = row[name]
        if value is not None and value != "":
            event[name] = value
    error = _error_out(row)
    if error:
        event["error"] = error
    if row["batch_id"]:
        event["batch_id"] = row["batch_id"]
    event["expires_at"] = received_at + retention_ms
    event["data"] = msgspec.Raw(row["data"].encode())
    if row["attributes"]:
        event["attributes"] = msgspec.Raw(row["attributes"].encode())
    return event


def _error_out(row: Mapping[str, Any]) -> dict[str, Any]:
    error = {
        name: row[f"error_{name}"]
        for name in ("type", "message", "stack", "category", "fingerprint")
        if row[f"error_{name}"]
    }
    if row["error_rest"]:
        error.update(msgspec.json.decode(row["error_rest"], type=dict[str, msgspec.Raw]))
    return error
