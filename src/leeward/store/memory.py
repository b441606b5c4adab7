"""The event store in memory, for tests of its callers: it passes the same tests as the one over ClickHouse."""

from __future__ import annotations

import datetime
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from leeward.model import Event
from leeward.store.clickhouse import StoreRefused
from leeward.store.clients import CLIENT_DAYS, REASONS_MAX, ClientAccount, ClientAccounts, by_reason
from leeward.store.events import COLUMNS, BatchPlaces, Block, EventKey, EventQuery, Statistics, id_days
from leeward.store.retention import DAY_MS, Day, believed_now_ms, expired

if TYPE_CHECKING:
    from leeward.clock import Clock

__all__ = ["MemoryEventStore"]


class _Row(Event, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    wal_instance: str
    wal_segment: int
    wal_position: int


class _Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    project: int
    batch_id: str
    received_at: int
    answer: str
    wal_instance: str
    wal_position: int
    updated_at: int = 0
    client_process: str = ""
    client_highest: int = 0
    client_received: int = 0
    client_lost: dict[str, int] = {}


class _Client(msgspec.Struct):
    """The sums of one process."""

    first_seen: int
    last_seen: int
    highest: int = 0
    received: int = 0
    lost: Counter[str] = msgspec.field(default_factory=Counter)


class _Id(msgspec.Struct, frozen=True):
    key: EventKey
    received_at: int
    wal_instance: str
    wal_position: int


class MemoryEventStore:
    """Everything in lists under one lock."""

    def __init__(self, clock: Clock, retention_days: int) -> None:
        self._clock = clock
        self._retention_ms = retention_days * DAY_MS
        self._lock = threading.Lock()
        self._tokens: set[tuple[str, str]] = set()
        self._events: list[_Row] = []
        self._ids: list[_Id] = []
        self._batches: list[_Batch] = []
        self._clients: dict[tuple[int, str], _Client] = {}

    def load(self, block: Block) -> None:
        """Store the block, whole or not at all, once however often."""
        with self._lock:
            if block.batches and ("batches", block.token) not in self._tokens:
                now_ms = self._clock.wall_ms()
                batches = _decode(block.batches, _Batch)
                self._batches += [
                    msgspec.structs.replace(batch, updated_at=batch.updated_at or now_ms) for batch in batches
                ]
                for batch in batches:
                    self._sum_up(batch)
                self._tokens.add(("batches", block.token))
            if block.lines and ("events", block.token) not in self._tokens:
                rows = _decode(block.lines, _Row)
                self._events += rows
                self._ids += [
                    _Id((row.project, row.kind, row.id), row.received_at, row.wal_instance, row.wal_position)
                    for row in rows
                ]
                self._tokens.add(("events", block.token))

    def _sum_up(self, batch: _Batch) -> None:
        if not batch.client_process:
            return
        at_ms = batch.received_at
        client = self._clients.setdefault((batch.project, batch.client_process), _Client(at_ms, at_ms))
        client.first_seen = min(client.first_seen, at_ms)
        client.last_seen = max(client.last_seen, at_ms)
        client.highest = max(client.highest, batch.client_highest)
        client.received += batch.client_received
        client.lost.update(batch.client_lost)

    def loaded(self, instance: str, ranges: Sequence[tuple[int, int]], received_from_ms: int) -> list[bool]:
        """Which of these blocks are stored."""
        with self._lock:
            positions = [
                row.wal_position
                for row in self._events
                if row.wal_instance == instance and row.received_at >= received_from_ms
            ]
        return [any(first <= position <= last for position in positions) for first, last in ranges]

    def known_ids(
        self, keys: Sequence[EventKey], since_ms: int, except_for: tuple[str, int, int] | None = None
    ) -> set[EventKey]:
        """Which of these events are stored other than by the block *except_for*."""
        instance, first, last = except_for or ("", 1, 0)
        wanted = set(keys)
        with self._lock:
            return {
                row.key
                for row in self._ids
                if row.key in wanted
                and row.received_at >= since_ms
                and not (row.wal_instance == instance and first <= row.wal_position <= last)
            }

    def ids_since(self, since_ms: int) -> Iterator[list[EventKey]]:
        """Every event's key received since then."""
        with self._lock:
            keys = [row.key for row in self._ids if row.received_at >= since_ms]
        if keys:
            yield keys

    def query(self, query: EventQuery) -> list[dict[str, Any]]:
        """A page of events."""
        start_ms = max(query.start_ms, self._alive_from_ms())
        with self._lock:
            rows = [
                row
                for row in self._events
                if row.project == query.project
                and start_ms <= row.received_at < query.end_ms
                and all(getattr(row, name) == value for name, value in query.filters.items())
            ]
        descending = query.order == "desc"
        if query.after is not None:
            at = query.after
            rows = [row for row in rows if (_place(row) < at if descending else _place(row) > at)]
        rows.sort(key=_place, reverse=descending)
        return [_out(row) for row in rows[: query.limit]]

    def event_by_id(self, project: int, kind: str, event_id: str) -> dict[str, Any] | None:
        """The event's row."""
        alive_from_ms = self._alive_from_ms()
        with self._lock:
            rows = [
                row
                for row in self._events
                if (row.project, row.kind, row.id) == (project, kind, event_id) and row.received_at >= alive_from_ms
            ]
        return _out(min(rows, key=_place)) if rows else None

    def batch(self, project: int, batch_id: str) -> dict[str, Any] | None:
        """The batch's row."""
        alive_from_ms = self._alive_from_ms()
        with self._lock:
            rows = [
                row
                for row in self._batches
                if (row.project, row.batch_id) == (project, batch_id) and row.received_at >= alive_from_ms
            ]
        if not rows:
            return None
        row = msgspec.structs.asdict(max(rows, key=lambda row: (row.updated_at, row.wal_position)))
        return {name: row[name] for name in ("received_at", "answer", "wal_instance", "wal_position", "updated_at")}

    def batch_places(self, keys: Sequence[tuple[int, str]]) -> BatchPlaces:
        """Where these batches stand."""
        wanted = set(keys)
        places: BatchPlaces = {}
        with self._lock:
            for row in self._batches:
                if (row.project, row.batch_id) in wanted:
                    places.setdefault((row.project, row.batch_id), set()).add((row.wal_instance, row.wal_position))
        return places

    def clients(self, project: int, limit: int) -> ClientAccounts:
        """The accounts of clients."""
        alive_from_ms = self._alive_from_ms()
        with self._lock:
            accounts = [
                _account(process, client)
                for (of_project, process), client in self._clients.items()
                if of_project == project and client.last_seen >= alive_from_ms
            ]
        accounts.sort(key=lambda one: (not (one.lost or one.missing), -one.last_seen, one.process))
        return ClientAccounts(
            accounts[:limit],
            len(accounts),
            sum(sum(one.lost.values()) for one in accounts),
            sum(one.missing for one in accounts),
        )

    def minutes(self, project: int, start_ms: int, end_ms: int) -> list[tuple[int, int, int]]:
        """Counts by minute."""
        start_ms = max(start_ms, self._alive_from_ms())
        counts: Counter[int] = Counter()
        errors: Counter[int] = Counter()
        with self._lock:
            for row in self._events:
                if row.project == project and start_ms <= row.received_at < end_ms:
                    minute = row.received_at // 60_000 * 60_000
                    counts[minute] += 1
                    errors[minute] += row.kind == "exception" or row.level in {"ERROR", "FATAL"}
        return [(minute, counts[minute], errors[minute]) for minute in sorted(counts)]

    def drop_expired(self, now_ms: int, retention_days: int) -> list[str]:
        """Drop expired days."""
        tables: tuple[tuple[str, list[Any], int], ...] = (
            ("events", self._events, retention_days),
            ("batches", self._batches, retention_days),
            ("event_ids", self._ids, id_days(retention_days)),
        )
        dropped = []
        with self._lock:
            days_of_batches = _days([row.received_at for row in self._batches])
            for table, rows, keep_days in tables:
                gone = expired(_days([row.received_at for row in rows]), now_ms, keep_days)
                rows[:] = [row for row in rows if _day(row.received_at) not in gone]
                dropped += [f"{table}/{name}" for name in gone]
            believed_ms = believed_now_ms(days_of_batches, now_ms)
            if believed_ms is not None:
                before_ms = believed_ms - CLIENT_DAYS * DAY_MS
                self._clients = {key: one for key, one in self._clients.items() if one.last_seen >= before_ms}
        return dropped

    def statistics(self) -> Statistics:
        """Rows; what lies in memory has neither bytes on disk nor parts."""
        with self._lock:
            return Statistics(len(self._events), 0, 0)

    def _alive_from_ms(self) -> int:
        return self._clock.wall_ms() - self._retention_ms + 1


def _decode(lines: list[bytes], kind: type[Any]) -> list[Any]:
    try:
        return [msgspec.json.decode(line, type=kind) for line in lines]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreRefused(f"Cannot parse a row: {error}", clickhouse_code=27) from None


def _account(process: str, client: _Client) -> ClientAccount:
    most = sorted(client.lost.items(), key=lambda reason: (reason[1], reason[0]), reverse=True)[:REASONS_MAX]
    gone = client.lost.total()
    missing = max(0, client.highest - client.received - gone)
    lost = by_reason(most, gone)
    return ClientAccount(process, client.first_seen, client.last_seen, client.highest, client.received, lost, missing)


def _place(row: _Row) -> tuple[int, int]:
    return row.received_at, row.wal_position


def _out(row: _Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in COLUMNS}


def _day(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).strftime("%Y%m%d")


def _days(times_ms: list[int]) -> list[Day]:
    days: dict[str, list[int]] = {}
    for at_ms in times_ms:
        days.setdefault(_day(at_ms), []).append(at_ms)
    return [Day(name, min(times), max(times)) for name, times in days.items()]
