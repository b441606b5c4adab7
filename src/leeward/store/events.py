"""What the server asks of its store, and the answers of ClickHouse, embedded or a cluster.

All calls are synchronous, may come from several threads, and raise `StoreUnavailable` or `StoreRefused`. A block is
loaded once, however often it is sent. Reads never show a row that has expired, to the millisecond, whatever is still on
disk. Values of callers travel as bound parameters; names of columns come from the fixed lists below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from leeward.model import Event
from leeward.store import clients
from leeward.store.clickhouse import ClickHouse
from leeward.store.clients import ClientAccounts
from leeward.store.retention import DAY_MS, Day, believed_now_ms, expired

if TYPE_CHECKING:
    from leeward.clock import Clock

__all__ = [
    "COLUMNS",
    "FILTERS",
    "ID_DAYS_MIN",
    "QUERY_ROWS_MAX",
    "BatchPlaces",
    "Block",
    "ClickHouseEventStore",
    "EventKey",
    "EventQuery",
    "EventStore",
    "Statistics",
    "id_days",
]

EventKey = tuple[int, str, str]
"""Project, kind, id: what makes an event the same event."""

BatchPlaces = dict[tuple[int, str], set[tuple[str, int]]]
"""Project and batch id → instance and position of each row that the batch has."""

QUERY_ROWS_MAX: Final = 1000
ID_DAYS_MIN: Final = 7
COLUMNS: Final = (*Event.__struct_fields__, "wal_position")
FILTERS: Final = (
    "name",
    "kind",
    "level",
    "error_category",
    "distinct_id",
    "session_id",
    "correlation_id",
    "trace_id",
    "batch_id",
)


class Block(msgspec.Struct, frozen=True):
    """Rows that are loaded together, once: positions `first` to `last` of a log, all received on one UTC day.

    `lines` are JSON lines of `events` with their `wal_…` fields, `batches` of `batches`. A block may have no lines,
    when all its events were repeats.
    """

    instance: str
    first: int
    last: int
    segment: int
    lines: list[bytes]
    batches: list[bytes] = []

    @property
    def token(self) -> str:
        """What the store knows the block by."""
        return f"{self.instance}:{self.first}-{self.last}"


class EventQuery(msgspec.Struct, frozen=True):
    """A page of events: received in [`start_ms`, `end_ms`), equal in every filter, behind `after` in its order."""

    project: int
    start_ms: int
    end_ms: int
    filters: Mapping[str, str] = {}
    order: str = "desc"
    limit: int = 100
    after: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Only known columns and bounded pages: both become part of a statement."""
        unknown = [name for name in self.filters if name not in FILTERS]
        if unknown or self.order not in {"desc", "asc"} or not 0 < self.limit <= QUERY_ROWS_MAX:
            raise ValueError(f"not a query of events: {unknown or (self.order, self.limit)}")


class Statistics(msgspec.Struct, frozen=True):
    """What lies in the store."""

    rows: int
    bytes_on_disk: int
    parts: int


class EventStore(Protocol):
    """What the server asks. `store/memory` answers the same, and both pass the same tests."""

    def load(self, block: Block) -> None:
        """Store the block: whole or not at all, once however often, on disk on return."""
        ...

    def loaded(self, instance: str, ranges: Sequence[tuple[int, int]], received_from_ms: int) -> list[bool]:
        """Which of these blocks, whose rows were received from then on, are stored. True means batches and all."""
        ...

    def known_ids(
        self, keys: Sequence[EventKey], since_ms: int, except_for: tuple[str, int, int] | None = None
    ) -> set[EventKey]:
        """Which of these events are stored, received since then, other than by the block (instance, first, last)."""
        ...

    def ids_since(self, since_ms: int) -> Iterator[list[EventKey]]:
        """Every event's key received since then, in chunks; some keys may come twice."""
        ...

    def query(self, query: EventQuery) -> list[dict[str, Any]]:
        """Rows with all of `COLUMNS`, ordered by (received_at, wal_position)."""
        ...

    def event_by_id(self, project: int, kind: str, event_id: str) -> dict[str, Any] | None:
        """The event's row, if it is stored and has not expired."""
        ...

    def batch(self, project: int, batch_id: str) -> dict[str, Any] | None:
        """The batch's row: received_at, answer (JSON text), wal_instance, wal_position, updated_at."""
        ...

    def batch_places(self, keys: Sequence[tuple[int, str]]) -> BatchPlaces:
        """Where in a log these batches (project, batch id) stand, of those that are stored."""
        ...

    def clients(self, project: int, limit: int) -> ClientAccounts:
        """The clients of which a batch has not expired: first those with losses or gaps, then the latest seen."""
        ...

    def minutes(self, project: int, start_ms: int, end_ms: int) -> list[tuple[int, int, int]]:
        """For each minute that has events: its start, how many there are, how many of them are errors."""
        ...

    def drop_expired(self, now_ms: int, retention_days: int) -> list[str]:
        """Free the disk of expired days and name them, as `table/YYYYMMDD`."""
        ...

    def statistics(self) -> Statistics:
        """Rows of events; bytes on disk and parts of everything."""
        ...


_IDS_PER_LOOKUP: Final = 1000
_ID_CHARS_PER_LOOKUP: Final = 50_000  # a cluster takes form fields up to 128 KiB
_COLUMN_LIST: Final = ", ".join(COLUMNS)
_ORDERS: Final = {"desc": ("DESC", "<"), "asc": ("ASC", ">")}
_TEXTS: Final = msgspec.json.Decoder(tuple[str])
_ID_ROW: Final = msgspec.json.Decoder(tuple[int, str])
_MINUTE: Final = msgspec.json.Decoder(tuple[int, int, int])
_PLACE: Final = msgspec.json.Decoder(tuple[str, str, int])


class ClickHouseEventStore:
    """The event store over ClickHouse."""

    def __init__(self, client: ClickHouse, clock: Clock, retention_days: int, *, ids_per_chunk: int = 50_000) -> None:
        self._client = client
        self._ids_per_chunk = ids_per_chunk
        self._clock = clock
        self._retention_ms = retention_days * DAY_MS

    def load(self, block: Block) -> None:
        """Batches first: a block whose events are there is then known to be there whole."""
        if block.batches:
            self._client.insert("batches", block.batches, token=block.token)
        if block.lines:
            self._client.insert("events", block.lines, token=block.token)

    def loaded(self, instance: str, ranges: Sequence[tuple[int, int]], received_from_ms: int) -> list[bool]:
        """A block is there when its events are and as many ids.

        Events and ids are a part each, and a crash may fall between the two. Loading such a block again adds what is
        missing: the events' window knows the token, the ids' does not.
        """
        if not ranges:
            return []
        rows = self._client.select_bytes(
            "SELECT arrayFirstIndex(r -> wal_position BETWEEN r.1 AND r.2, {ranges:Array(Tuple(UInt64, UInt64))}) AS range,"
            " sum(event) AS events, sum(NOT event) AS ids FROM"
            " (SELECT wal_position, 1 AS event FROM events WHERE wal_instance = {instance:String}"
            " AND received_at >= {from:Int64} AND wal_position BETWEEN {first:UInt64} AND {last:UInt64}"
            " UNION ALL SELECT wal_position, 0 AS event FROM event_ids WHERE wal_instance = {instance:String}"
            " AND received_at >= {from:Int64} AND wal_position BETWEEN {first:UInt64} AND {last:UInt64})"
            " GROUP BY range HAVING events = ids",
            {
                "ranges": ranges,
                "instance": instance,
                "from": received_from_ms,
                "first": min(first for first, _ in ranges),
                "last": max(last for _, last in ranges),
            },
        )
        found = {index for index, *_ in msgspec.json.Decoder(tuple[int, int, int]).decode_lines(rows)}
        return [index in found for index in range(1, len(ranges) + 1)]

    def known_ids(
        self, keys: Sequence[EventKey], since_ms: int, except_for: tuple[str, int, int] | None = None
    ) -> set[EventKey]:
        """Point look-ups by primary key, some hundreds of ids at a time."""
        instance, first, last = except_for or ("", 1, 0)
        known: set[EventKey] = set()
        for (project, kind), group in groupby(sorted(set(keys)), key=lambda key: key[:2]):
            for ids in _lookups(key[2] for key in group):
                rows = self._client.select_bytes(
                    "SELECT DISTINCT id FROM event_ids WHERE project = {project:UInt32} AND kind = {kind:String}"
                    " AND id IN {ids:Array(String)} AND received_at >= {since:Int64}"
                    " AND NOT (wal_instance = {instance:String} AND wal_position BETWEEN {first:UInt64} AND {last:UInt64})",
                    {
                        "project": project,
                        "kind": kind,
                        "ids": ids,
                        "since": since_ms,
                        "instance": instance,
                        "first": first,
                        "last": last,
                    },
                )
                known.update((project, kind, event_id) for (event_id,) in _TEXTS.decode_lines(rows))
        return known

    def ids_since(self, since_ms: int) -> Iterator[list[EventKey]]:
        """Pages along the primary key, so that neither side holds the window in memory."""
        lanes = self._client.select_bytes(
            "SELECT DISTINCT project, kind FROM event_ids WHERE received_at >= {since:Int64}", {"since": since_ms}
        )
        for project, kind in _ID_ROW.decode_lines(lanes):
            after, more = "", True  # no id is empty
            while more:
                rows = self._client.select_bytes(
                    "SELECT id FROM event_ids WHERE project = {project:UInt32} AND kind = {kind:String}"
                    " AND id > {after:String} AND received_at >= {since:Int64}"
                    " ORDER BY project, kind, id LIMIT {limit:UInt32}",
                    {"project": project, "kind": kind, "since": since_ms, "after": after, "limit": self._ids_per_chunk},
                )
                ids = [event_id for (event_id,) in _TEXTS.decode_lines(rows)]
                more = len(ids) == self._ids_per_chunk
                if ids:
                    after = ids[-1]
                    yield [(project, kind, event_id) for event_id in ids]

    def query(self, query: EventQuery) -> list[dict[str, Any]]:
        """A page along the primary key; the cursor is the last row's place, so nothing is skipped or shown twice."""
        direction, beyond = _ORDERS[query.order]
        where = [
            "project = {project:UInt32}",
            "received_at >= {start:Int64}",
            "received_at < {end:Int64}",
            *(f"{name} = {{{name}:String}}" for name in query.filters),
        ]
        params: dict[str, Any] = {
            "project": query.project,
            "start": max(query.start_ms, self._alive_from_ms()),
            "end": query.end_ms,
            "limit": query.limit,
            **query.filters,
        }
        if query.after is not None:
            params["at"], params["position"] = query.after
            where += [  # the first is implied by the second, but only the first prunes by the primary key
                f"received_at {beyond}= {{at:Int64}}",
                f"(received_at {beyond} {{at:Int64}} OR wal_position {beyond} {{position:UInt64}})",
            ]
        return self._client.select(
            f"SELECT {_COLUMN_LIST} FROM events WHERE {' AND '.join(where)}"  # noqa: S608 - names from fixed lists
            f" ORDER BY project {direction}, received_at {direction}, wal_position {direction} LIMIT {{limit:UInt32}}",
            params,
        )

    def event_by_id(self, project: int, kind: str, event_id: str) -> dict[str, Any] | None:
        """The id table knows the place, the events' primary key leads to it."""
        rows = self._client.select(
            f"SELECT {_COLUMN_LIST} FROM events WHERE project = {{project:UInt32}} AND kind = {{kind:String}}"  # noqa: S608 - names from a fixed list
            " AND id = {id:String} AND (received_at, wal_position) IN (SELECT received_at, wal_position FROM event_ids"
            " WHERE project = {project:UInt32} AND kind = {kind:String} AND id = {id:String}"
            " AND received_at >= {alive:Int64}) AND received_at >= {alive:Int64}"
            " ORDER BY received_at, wal_position LIMIT 1",
            {"project": project, "kind": kind, "id": event_id, "alive": self._alive_from_ms()},
        )
        return rows[0] if rows else None

    def batch(self, project: int, batch_id: str) -> dict[str, Any] | None:
        """The last word on a batch."""
        rows = self._client.select(
            "SELECT received_at, answer, wal_instance, wal_position, updated_at FROM batches"
            " WHERE project = {project:UInt32} AND batch_id = {batch_id:String} AND received_at >= {alive:Int64}"
            " ORDER BY updated_at DESC, wal_position DESC LIMIT 1",
            {"project": project, "batch_id": batch_id, "alive": self._alive_from_ms()},
        )
        return rows[0] if rows else None

    def batch_places(self, keys: Sequence[tuple[int, str]]) -> BatchPlaces:
        """Point look-ups by primary key."""
        places: BatchPlaces = {}
        for project, group in groupby(sorted(set(keys)), key=lambda key: key[0]):
            for batch_ids in _lookups(key[1] for key in group):
                rows = self._client.select_bytes(
                    "SELECT batch_id, wal_instance, wal_position FROM batches"
                    " WHERE project = {project:UInt32} AND batch_id IN {ids:Array(String)}",
                    {"project": project, "ids": batch_ids},
                )
                for batch_id, instance, position in _PLACE.decode_lines(rows):
                    places.setdefault((project, batch_id), set()).add((instance, position))
        return places

    def clients(self, project: int, limit: int) -> ClientAccounts:
        """From the table of sums: the batches themselves are not read."""
        return clients.read(self._client, project, self._alive_from_ms(), limit)

    def minutes(self, project: int, start_ms: int, end_ms: int) -> list[tuple[int, int, int]]:
        """Counted in the store, from the two narrow columns that say what an error is."""
        rows = self._client.select_bytes(
            "SELECT intDiv(received_at, 60000) * 60000 AS minute, count(),"
            " countIf(kind = 'exception' OR level IN ('ERROR', 'FATAL')) FROM events"
            " WHERE project = {project:UInt32} AND received_at >= {start:Int64} AND received_at < {end:Int64}"
            " GROUP BY minute ORDER BY minute",
            {"project": project, "start": max(start_ms, self._alive_from_ms()), "end": end_ms},
        )
        return _MINUTE.decode_lines(rows)

    def drop_expired(self, now_ms: int, retention_days: int) -> list[str]:
        """Whole partitions, chosen by `store/retention`; ids outlive their events, so that late repeats are seen."""
        dropped = []
        for table, keep_days in (
            ("events", retention_days),
            ("batches", retention_days),
            ("event_ids", id_days(retention_days)),
        ):
            days = self._client.select(
                "SELECT _partition_id AS name, min(received_at) AS first_ms, max(received_at) AS last_ms"  # noqa: S608 - names from the list above
                f" FROM {table} GROUP BY name"
            )
            for name in expired(msgspec.convert(days, list[Day]), now_ms, keep_days):
                self._client.command(f"ALTER TABLE {table} DROP PARTITION ID {{name:String}}", {"name": name})
                dropped.append(f"{table}/{name}")
            believed_ms = believed_now_ms(msgspec.convert(days, list[Day]), now_ms) if table == "batches" else None
            if believed_ms is not None:
                clients.forget(self._client, believed_ms)
        return dropped

    def statistics(self) -> Statistics:
        """As ClickHouse's own list of parts says."""
        rows = self._client.select(
            "SELECT toInt64(sumIf(rows, table = 'events')) AS rows, toInt64(sum(p.bytes_on_disk)) AS bytes_on_disk,"
            " toInt64(count()) AS parts FROM system.parts AS p WHERE active AND database = currentDatabase()"
        )
        return msgspec.convert(rows[0], Statistics)

    def _alive_from_ms(self) -> int:
        return self._clock.wall_ms() - self._retention_ms + 1


def id_days(retention_days: int) -> int:
    """For how many days an event's id is remembered: longer than any client keeps what it has not delivered."""
    return max(retention_days, ID_DAYS_MIN) + 1


def _lookups(ids: Iterable[str]) -> Iterator[list[str]]:
    """Ids in groups that fit a form field."""
    group: list[str] = []
    chars = 0
    for event_id in ids:
        group.append(event_id)
        chars += len(event_id) + 3
        if len(group) >= _IDS_PER_LOOKUP or chars >= _ID_CHARS_PER_LOOKUP:
            yield group
            group, chars = [], 0
    if group:
        yield group
