"""Prepared events → the log, past the door: those accepted and those repeated are counted here.

Promises  Nothing is answered before it is on stable storage; that holds for the repeat of an event as well, since
          the repeat waits for the log too. What the log could not take is forgotten at the door and refused whole.
Belongs to the event loop; the log's own thread calls back through it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

import msgspec

from leeward.errors import LeewardError, ProtocolError, Unavailable
from leeward.journal.frame import NO_BATCH, Record
from leeward.model import Dropped, Event
from leeward.server.door import Door, event_key, key_code
from leeward.server.record import CODE_OF_KIND, RECORD_BYTES_GOAL, BatchHead, Head, pack, row

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.journal.commit import GroupCommit
    from leeward.server.counters import Counters
    from leeward.server.intake import Prepared
    from leeward.wire.client import ClientReport

__all__ = ["DATA", "Outcome", "Pipeline"]

DATA: Final = 1
_BACKWARD_STEP_MS_MAX: Final = 1000


class Outcome(msgspec.Struct, frozen=True):
    """What became of a request's events.

    `keys` and `ids` have an entry for each event, None where it was refused; `keys` is empty unless asked for.
    `refusals` are (index, code, sentence).
    """

    received_at: int
    total: int
    duplicates: int
    keys: list[str | None]
    ids: list[str | None]
    refusals: list[tuple[int, str, str]]

    @property
    def accepted(self) -> int:
        """Events taken now or before."""
        return self.total - len(self.refusals)


class _Admission(msgspec.Struct):
    """A request's events after the door: what goes into the log, and what to take back if that fails."""

    project: int
    received_at: int
    letters: list[str] = []
    ids: list[str] = []
    rows: list[bytes] = []
    entered: list[tuple[str, str]] = []  # (kind, id) of each row
    again: list[tuple[str, str]] = []  # (kind, id) of rows that repeat what is not on stable storage yet
    repeated: int = 0  # events that the door knew
    batch: BatchHead | None = None
    client: ClientReport | None = None
    records: int = 0
    size: int = 0  # payload bytes of the records
    counted: bool = True  # as accepted: not when it was before
    done: Any = None  # the future that the request waits for


class Pipeline:
    """Takes prepared events past the door and into the log."""

    def __init__(
        self,
        *,
        door: Door,
        counters: Counters,
        clock: Clock,
    ) -> None:
        self._door = door
        self._counters = counters
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._commit: GroupCommit[Any] | None = None
        self.newest_received_ms = 0
        self.on_durable: Callable[[], None] = lambda: None  # called from the log's thread after each group
        self.trouble = ""  # why the log refused the last records; empty once it takes some again
        self.acknowledged_sequence = 0  # the last record of events that is on stable storage
        self.synced_ms: int | None = None  # when the log was last synced for events
        self.bytes_taken = 0  # payload bytes of all records of events in the log

    def attach(self, commit: GroupCommit[Any]) -> None:
        """Connect the log's committer; its `on_group` is `settle`."""
        self._commit = commit

    def received_at(self) -> int:
        """The time of receipt for a request that has just come, in milliseconds.

        It does not go back by less than a second, so that a clock being trimmed cannot reorder a page of results.
        """
        now = self._clock.wall_ms()
        if now < self.newest_received_ms <= now + _BACKWARD_STEP_MS_MAX:
            return self.newest_received_ms
        self.newest_received_ms = now
        return now

    async def take(self, prepared: Prepared, *, project: int, received_at: int, with_keys: bool) -> Outcome:
        """Take one request's events; return when they are on stable storage.

        Raises:
            Unavailable: the log could not take them; nothing is kept.
        """
        admission, outcome = self._admit(prepared, project, received_at, with_keys=with_keys)
        await self._append(admission)
        self._count(outcome)
        return outcome

    async def take_batch(
        self,
        prepared: Prepared,
        *,
        project: int,
        received_at: int,
        batch_id: str,
        digest: bytes,
        client: ClientReport | None = None,
    ) -> BatchHead:
        """Take a batch under its id, with what its sender said of itself. `known_batch` must have been asked before.

        Raises:
            Unavailable: the log could not take it; nothing is kept.
        """
        admission, outcome = self._admit(prepared, project, received_at, with_keys=True)
        batch = BatchHead(
            batch_id=batch_id,
            digest=digest,
            received_at=received_at,
            total=outcome.total,
            duplicates=outcome.duplicates,
            keys=[key for key in outcome.keys if key is not None],
            refusals=outcome.refusals,
        )
        admission.batch = batch
        admission.client = client
        self._door.remember_batch(project, batch)
        await self._append(admission)
        self._count(outcome)
        return batch

    async def known_batch(self, project: int, batch_id: str, digest: bytes) -> BatchHead | None:
        """The batch of that id if the door knows it, once it is on stable storage.

        Raises:
            ProtocolError: 409 `batch_conflict`: that id was accepted with other events.
            Unavailable: the log cannot be written.
        """
        while (batch := self._door.batch(project, batch_id)) is not None:
            if batch.digest != digest:
                raise ProtocolError(
                    f"Batch {batch_id} was accepted before with other events", code="batch_conflict", status=409
                )
            if await self._is_durable(project, batch):
                self._counters.duplicates_at_door += len(batch.keys)
                return batch
        return None

    async def durable_batch(self, project: int, batch_id: str) -> BatchHead | None:
        """The batch of that id if the door knows it, once it is on stable storage."""
        while (batch := self._door.batch(project, batch_id)) is not None:
            if await self._is_durable(project, batch):
                return batch
        return None

    async def _is_durable(self, project: int, batch: BatchHead) -> bool:
        """Wait until the log has said what became of the batch. False: it was taken back; another may stand there."""
        await self.barrier()
        return self._door.batch(project, batch.batch_id) is batch

    async def barrier(self) -> None:
        """Return once everything that was handed to the log before is on stable storage.

        Raises:
            Unavailable: the log cannot write.
        """
        await self._append(_Admission(0, 0))

    async def replay(self, events: Sequence[Event], *, project: int) -> None:
        """Put events that were accepted before back into the log. They keep their ids and times; the store decides.

        Raises:
            Unavailable: the log could not take them.
        """
        for received_at in sorted({event.received_at for event in events}):
            of_then = [event for event in events if event.received_at == received_at]
            admission = _Admission(
                project,
                received_at,
                letters=[CODE_OF_KIND[event.kind] for event in of_then],
                ids=[event.id for event in of_then],
                rows=[row(event) for event in of_then],
                counted=False,
            )
            await self._append(admission)

    def count_client_field_ignored(self) -> None:
        """Count a batch whose sender's account of itself could not be read."""
        self._counters.client_fields_ignored += 1

    def settle(self, group: Sequence[tuple[Any, int | None, LeewardError | None]]) -> None:
        """The log's word on a group of submissions. Called from the log's thread.

        Submitters other than this pipeline give a concurrent `Future` as their token.
        """
        for token, sequence, error in group:
            if isinstance(token, Future):
                if error is None:
                    token.set_result(sequence)
                else:
                    token.set_exception(error)
        self.on_durable()
        self._loop.call_soon_threadsafe(self._settle, [entry for entry in group if isinstance(entry[0], _Admission)])

    def _settle(self, group: Sequence[tuple[_Admission, int | None, LeewardError | None]]) -> None:
        for admission, sequence, error in group:
            if sequence is not None and admission.records:
                self.acknowledged_sequence = sequence + admission.records - 1
                self.bytes_taken += admission.size
                self.synced_ms = self._clock.wall_ms()
                self.trouble = ""
            if error is not None:
                # At once, before anybody is told: a request that comes now must find these ids new.
                self._take_back(admission)
                self.trouble = str(error)
            else:
                self._door.confirm(admission.project, admission.entered, admission.received_at)
                self._door.confirm(admission.project, admission.again, admission.received_at)
                if admission.counted:
                    self._counters.accepted += len(admission.entered)
                if admission.client is not None:
                    self._counters.count_client_lost(admission.client.lost)
            if not admission.done.done():  # done already: the client has gone away
                if error is None:
                    admission.done.set_result(None)
                else:
                    admission.done.set_exception(_not_kept(error))

    def _take_back(self, admission: _Admission) -> None:
        self._door.forget(admission.project, admission.entered)
        if admission.batch is not None:
            self._door.forget_batch(admission.project, admission.batch.batch_id)

    def _admit(
        self, prepared: Prepared, project: int, received_at: int, *, with_keys: bool
    ) -> tuple[_Admission, Outcome]:
        admission = _Admission(project, received_at)
        admit = self._door.admit
        keys: list[str | None] = []
        ids: list[str | None] = []
        refusals: list[tuple[int, str, str]] = []
        own: set[tuple[str, str]] = set()
        for index, event in enumerate(prepared.events):
            if isinstance(event, Dropped):
                refusals.append((index, event.code, event.error))
                ids.append(None)
                keys.append(None)
                continue
            kind, event_id = event.kind, event.id
            seen = admit(project, kind, event_id, received_at)
            to_write = True
            if seen is None:
                admission.entered.append((kind, event_id))
            else:
                admission.repeated += 1
                own.update(admission.entered)
                # Not durable: its first request may still fail. This one is answered only for what it wrote itself.
                to_write = seen < 0 and (kind, event_id) not in own
                if to_write:
                    admission.again.append((kind, event_id))
                    own.add((kind, event_id))
            if to_write:
                letter = CODE_OF_KIND[kind]
                admission.letters.append(letter.upper() if prepared.made_here[index] else letter)
                admission.ids.append(event_id)
                admission.rows.append(prepared.rows[index])
            ids.append(event_id)
            if with_keys:
                first_at = received_at if seen is None else abs(seen)
                keys.append(event_key(first_at, key_code(project, kind, event_id)))
        outcome = Outcome(received_at, len(prepared.events), admission.repeated, keys, ids, refusals)
        return admission, outcome

    async def _append(self, admission: _Admission) -> None:
        """Hand the admission to the log and wait until everything up to it is on stable storage."""
        assert self._commit is not None
        admission.done = self._loop.create_future()
        records = _records(admission)
        admission.records = len(records)
        admission.size = sum(len(record.payload) for record in records)
        try:
            self._commit.submit(records, admission)
        except LeewardError as error:
            self._take_back(admission)
            raise _not_kept(error) from None
        await admission.done

    def _count(self, outcome: Outcome) -> None:
        self._counters.duplicates_at_door += outcome.duplicates


def _not_kept(cause: LeewardError) -> Unavailable:
    """What a caller is told when the log refuses; the log's own sentence names files of this machine."""
    refusal = Unavailable("The log cannot be written just now; nothing of this request was kept", retry_after_s=1)
    refusal.__cause__ = cause
    return refusal


def _records(admission: _Admission) -> list[Record]:
    """As few records as the size of one allows; the batch stands in the last."""
    records: list[Record] = []
    rows = admission.rows
    tag = _batch_tag(admission)
    start = 0
    size = 0
    for index, line in enumerate(rows):
        size += len(line)
        last = index == len(rows) - 1
        if size >= RECORD_BYTES_GOAL or last:
            records.append(_record(admission, slice(start, index + 1), tag, with_batch=last))
            start, size = index + 1, 0
    if not rows and admission.batch is not None:
        records.append(_record(admission, slice(0, 0), tag, with_batch=True))
    return records


def _record(admission: _Admission, part: slice, tag: bytes, *, with_batch: bool) -> Record:
    head = Head(
        admission.project,
        admission.received_at,
        "".join(admission.letters[part]),
        admission.ids[part],
        admission.batch if with_batch else None,
        admission.client if with_batch else None,
        part.start if with_batch else 0,
    )
    return Record(DATA, pack(head, admission.rows[part]), tag)


def _batch_tag(admission: _Admission) -> bytes:
    if admission.batch is None:
        return NO_BATCH
    return hashlib.sha256(f"{admission.project}\0{admission.batch.batch_id}".encode()).digest()[:16]
