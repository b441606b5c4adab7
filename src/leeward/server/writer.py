"""Follows the log and puts every accepted event into the store, once.

    read → seal (a synced record says which rows are a block) → drop repeated ids → load with a token → checkpoint

Promises  A block that was sealed is loaded byte for byte the same after any crash, or found in the store already.
          A store that is away costs nothing but time: the log waits. A store that is there and refuses a block gets
          its halves, down to the row that it cannot take, and that waits in the dead-letter list.
Runs on a thread of its own; it is the only loader of its data directory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

import msgspec

from leeward.errors import ConfigError, LeewardError, Refused, Unavailable
from leeward.server.blocks import (
    Chunk,
    Range,
    Seals,
    batch_rows,
    dead_record,
    may_be_counted,
    new_rows,
    seal_record,
    split_record,
)
from leeward.server.id_filter import IdFilter
from leeward.server.pipeline import DATA
from leeward.server.record import KIND_OF_CODE, unpack
from leeward.store.events import Block, id_days
from leeward.store.retention import DAY_MS

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.journal.commit import GroupCommit
    from leeward.journal.frame import Record
    from leeward.journal.log import Entry, Log
    from leeward.server.counters import Counters
    from leeward.server.dead_letters import DeadLetters
    from leeward.store.events import BatchPlaces, EventKey, EventStore

__all__ = ["BlockLimits", "Writer", "WriterStatistics"]

_FILTER_FORGET_MS: Final = 600_000


class BlockLimits(msgspec.Struct, frozen=True):
    """When a block is sealed, how a refused load is repeated, how often the rest is done. Seconds and bytes."""

    rows_max: int = 100_000
    bytes_max: int = 32 << 20
    age_s_max: float = 0.8
    retry_delays_s: tuple[float, ...] = (0.1, 0.2, 0.4)
    retry_later_s: float = 2.0
    checkpoint_every_s: float = 30.0
    retention_every_s: float = 600.0
    retention_days: int = 7

    @property
    def id_window_ms(self) -> int:
        """How long an id is remembered in the store: one day longer than anybody may repeat it."""
        return id_days(self.retention_days) * DAY_MS


class WriterStatistics(msgspec.Struct, frozen=True):
    """Where the writer stands. `behind` says that a load is being repeated; `trouble` why, in a sentence."""

    loaded_sequence: int
    unloaded_bytes: int
    behind: bool
    trouble: str
    filter_ids: int
    filter_ready: bool


class Writer:
    """The loader. `start` it once the log is open; the store may come later."""

    def __init__(
        self,
        *,
        log: Log,
        commit: GroupCommit[Any],
        store: EventStore,
        prepare: Callable[[], None],
        counters: Counters,
        dead_letters: DeadLetters,
        clock: Clock,
        limits: BlockLimits,
        seals: Seals,
        save_door: Callable[[], bytes | None],
        on_loaded: Callable[[int], None],
        report: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._log = log
        self._commit = commit
        self._store = store
        self._prepare = prepare
        self._counters = counters
        self._dead_letters = dead_letters
        self._clock = clock
        self._limits = limits
        self._save_door = save_door
        self._on_loaded = on_loaded
        self._report = report
        self._wake = threading.Condition()
        self._stirred = False
        self._idle = False
        self._wanted_sequence = 0  # somebody waits until the log is loaded up to here
        self._stopping = False
        self._thread: threading.Thread | None = None
        # Where we stand.
        self.loaded_sequence = log.checkpoint_sequence
        self._read_sequence = log.checkpoint_sequence
        self._past_sequence = log.last_sequence  # of an earlier run: may be loaded, whatever its seals say
        self._pending: deque[Chunk] = deque()
        self._pending_rows = 0
        self._pending_bytes = 0
        self._pending_since_s = 0.0
        self._sealed = deque(seals.blocks(log.checkpoint_sequence))
        self._seals = seals
        self.bytes_loaded = 0
        self.waiting_since_ms: int | None = None  # receipt of the oldest event that was read and is not loaded
        self.trouble = ""
        # The filter of ids; until the one built from the store is merged in, the store is asked about every id.
        self._filter = IdFilter()
        self._rebuilt: Future[IdFilter] | None = None
        self._filter_ready = False
        self._next_checkpoint_s = clock.monotonic_s() + limits.checkpoint_every_s
        self._loaded_segment = self._checkpoint_segment = 0  # a segment that is loaded whole can be deleted
        self._next_retention_s = 0.0

    # -- from other threads ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="leeward-writer", daemon=True)
        self._thread.start()

    def stir(self) -> None:
        """There is something new in the log.

        Called for every group commit, so it wakes the thread only out of idleness: while a block fills, the thread
        sleeps until the block's age is reached and then reads all there is at once.
        """
        self._stirred = True
        if self._idle:
            with self._wake:
                self._wake.notify()

    def seal_now(self, sequence: int) -> None:
        """Somebody waits for what is in the log up to *sequence*: do not wait for a fuller block."""
        with self._wake:
            self._wanted_sequence = max(self._wanted_sequence, sequence)
            self._stirred = True
            self._wake.notify()

    def stop(self, timeout_s: float) -> bool:
        """Load what is in the log if the store is there, move the checkpoint, end the thread. False: it still runs."""
        with self._wake:
            self._stopping = True
            self._stirred = True
            self._wake.notify()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def statistics(self) -> WriterStatistics:
        """Where the writer stands."""
        return WriterStatistics(
            loaded_sequence=self.loaded_sequence,
            unloaded_bytes=self._pending_bytes,
            behind=bool(self.trouble),
            trouble=self.trouble,
            filter_ids=len(self._filter),
            filter_ready=self._filter_ready,
        )

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._insist(self._prepare, expected="the store is starting") is None:
            while self._step_safely():
                pass
        self._checkpoint()

    def _step_safely(self) -> bool:
        try:
            return self.step()
        except Exception as error:  # the one boundary of this thread: without it no event would ever be loaded again
            self._report("writer_failed", {"error": error})
            self.trouble = f"loading failed and is begun again: {type(error).__name__}"
            self._rewind()
            self._pause(self._limits.retry_later_s)
            return not self._stopping

    def _rewind(self) -> None:
        """Go back to what is known to be loaded, as after a crash: nothing that was read is taken for loaded."""
        self._pending.clear()
        self._count_pending()
        self._read_sequence = self.loaded_sequence
        self._sealed = deque(self._seals.blocks(self.loaded_sequence))

    def step(self) -> bool:
        """One round: read, load one block if there is one to load, look after the rest. False when stopped and done."""
        self._read()
        block = self._next_block()
        if block is not None:
            sealed_before, chunks = block
            if not self._put(chunks, sealed_before):
                return False
        elif not self._pending:
            self._skip_to_read()
        self._look_after()
        if block is None:
            if self._stopping and not self._pending:
                return False
            self._wait()
        return True

    def _wait(self) -> None:
        with self._wake:
            self._idle = not self._pending  # before `_stirred` is looked at: `stir` does it the other way round
            if self._pending:
                age_s = self._clock.monotonic_s() - self._pending_since_s
                self._wake.wait_for(self._is_pressed, max(self._limits.age_s_max - age_s, 0.001))
            elif not self._stirred:
                self._wake.wait(self._limits.checkpoint_every_s)
            self._idle = False
            self._stirred = False

    def _is_pressed(self) -> bool:
        return self._stopping or self._wanted_sequence > self.loaded_sequence

    def _read(self) -> None:
        while self._pending_rows < self._limits.rows_max and self._pending_bytes < self._limits.bytes_max:
            entries = self._log.read(self._read_sequence, bytes_max=self._limits.bytes_max)
            if not entries:
                return
            for entry in entries:
                self._take(entry)

    def _take(self, entry: Entry) -> None:
        self._read_sequence = entry.sequence
        if entry.type != DATA:
            return
        head, rows = unpack(entry.payload)
        if not self._pending:
            self._pending_since_s = self._clock.monotonic_s()
            self.waiting_since_ms = self.waiting_since_ms or head.received_at
        self._pending.append(Chunk(entry.sequence, entry.segment, head, rows, len(entry.payload)))
        self._pending_rows += len(rows)
        self._pending_bytes += len(entry.payload)

    def _next_block(self) -> tuple[Range | None, list[Chunk]] | None:
        """The chunks of the next block, with its range where the log has sealed it already."""
        if not self._pending:
            return None
        if self._sealed:
            return self._sealed_block()
        due = (
            self._is_pressed()
            or self._pending_rows >= self._limits.rows_max
            or self._pending_bytes >= self._limits.bytes_max
            or self._clock.monotonic_s() - self._pending_since_s >= self._limits.age_s_max
        )
        if not due:
            return None
        return None, self._take_chunks()

    def _take_chunks(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        rows = size = 0
        while self._pending and rows < self._limits.rows_max and size < self._limits.bytes_max:
            if chunks and self._pending[0].day != chunks[0].day:
                break
            chunk = self._pending.popleft()
            chunks.append(chunk)
            rows += len(chunk.rows)
            size += chunk.size
        self._count_pending()
        return chunks

    def _sealed_block(self) -> tuple[Range | None, list[Chunk]] | None:
        block = self._sealed[0]
        while self._pending and self._pending[-1].last < block.last:
            entries = self._log.read(self._read_sequence, bytes_max=self._limits.bytes_max)
            if not entries:
                break  # the rest of it was damaged: what is there is loaded
            for entry in entries:
                self._take(entry)
        self._sealed.popleft()
        chunks: list[Chunk] = []
        while self._pending and self._pending[0].first <= block.last:
            front, rest = self._pending.popleft().split_after(block.last)
            chunks.append(front)
            if rest is not None:
                self._pending.appendleft(rest)
        self._count_pending()
        return (block, chunks) if chunks else self._next_block()

    def _count_pending(self) -> None:
        self._pending_rows = sum(len(chunk.rows) for chunk in self._pending)
        self._pending_bytes = sum(chunk.size for chunk in self._pending)
        self._pending_since_s = self._clock.monotonic_s()

    def _skip_to_read(self) -> None:
        """Records that are not rows need no loading."""
        if self._read_sequence > self.loaded_sequence:
            self._loaded(self._read_sequence)

    # -- loading -----------------------------------------------------------------------------------------------------

    def _put(self, chunks: list[Chunk], sealed_before: Range | None) -> bool:
        """Bring a block into the store, whatever it takes. False: told to stop before it was there."""
        block = sealed_before or Range(chunks[0].first, chunks[-1].last)
        if sealed_before is None:
            if not self._write(seal_record(block)):
                return False
        elif self._seals.is_dead(block) or self._is_loaded(block, chunks):
            self._done(chunks)
            return True
        if self._stopping and self.trouble:
            return False
        if not self._load(block, chunks):
            return False
        self._done(chunks)
        return True

    def _load(self, block: Range, chunks: list[Chunk]) -> bool:
        built = self._build(block, chunks)
        if built is None:
            return False
        refusal = self._insist(lambda: self._store.load(built), may_refuse=True)
        if refusal is None:
            self._counters.stored += len(built.lines)
            self._counters.duplicates_at_load += sum(len(chunk.rows) for chunk in chunks) - len(built.lines)
            self._counters.blocks += 1
            return True
        if not isinstance(refusal, Refused):
            return False
        return self._halve(block, chunks, built, refusal)

    def _halve(self, block: Range, chunks: list[Chunk], built: Block, refusal: Exception) -> bool:
        """The store is there and refuses: find the rows that it cannot take."""
        positions = [chunk.first + index for chunk in chunks for index in range(len(chunk.rows))]
        if len(positions) <= 1:
            self._dead_letters.add(
                instance=self._log.instance,
                first=block.first,
                last=block.last,
                rows=list(built.lines or built.batches),
                reason=str(refusal),
                at=self._clock.wall_ms(),
            )
            self._counters.dead += len(built.lines)
            self._report("row_set_aside", {"position": block.first, "reason": str(refusal)})
            return self._write(dead_record(block))
        middle = positions[len(positions) // 2 - 1]
        if not self._write(split_record(block, middle)):
            return False
        front: list[Chunk] = []
        back: list[Chunk] = []
        for chunk in chunks:
            if chunk.last <= middle:
                front.append(chunk)
            elif chunk.first > middle:
                back.append(chunk)
            else:
                first, rest = chunk.split_after(middle)
                front.append(first)
                if rest is not None:
                    back.append(rest)
        return self._load(Range(block.first, middle), front) and self._load(Range(middle + 1, block.last), back)

    def _is_loaded(self, block: Range, chunks: list[Chunk]) -> bool:
        """After a crash: has the store this block?"""
        answer: list[bool] = []
        since = min(chunk.head.received_at for chunk in chunks)
        self._insist(lambda: answer.extend(self._store.loaded(self._log.instance, [(block.first, block.last)], since)))
        return bool(answer) and answer[0]

    def _build(self, block: Range, chunks: list[Chunk]) -> Block | None:
        """The block without the events that the store has already. None: told to stop while the store was away."""
        suspects = {chunk.key(index) for chunk in chunks for index in self._suspects(chunk)}
        repeated: set[EventKey] = set()
        if suspects:
            place = (self._log.instance, block.first, block.last)
            found: list[set[EventKey]] = []
            # Whatever the store still knows counts: a clock that jumped ahead must not make old ids new.
            if self._insist(lambda: found.append(self._store.known_ids(list(suspects), 0, except_for=place))):
                return None
            repeated = found[0]
        ids_to_look_at = {key[2] for key in suspects}
        lines: list[bytes] = []
        completing: list[tuple[Chunk, int]] = []
        in_block: set[EventKey] = set()
        for chunk in chunks:
            rows = new_rows(chunk, ids_to_look_at, repeated, in_block)
            lines += chunk.lines(self._log.instance, rows)
            if chunk.batch is not None:
                completing.append((chunk, len(chunk.rows) - len(rows)))
        batches = self._batch_rows(block, completing)
        if batches is None:
            return None
        return Block(
            instance=self._log.instance,
            first=block.first,
            last=block.last,
            segment=chunks[0].segment,
            lines=lines,
            batches=batches,
        )

    def _batch_rows(self, block: Range, completing: Sequence[tuple[Chunk, int]]) -> list[bytes] | None:
        """The rows of the batches that these chunks complete. None: told to stop while the store was away."""
        half = self._seals.is_half(block)
        doubtful = [chunk.batch_key for chunk, repeats in completing if may_be_counted(chunk, repeats, half=half)]
        found: list[BatchPlaces] = [{}]
        if doubtful and self._insist(lambda: found.append(self._store.batch_places(doubtful))):
            return None
        return batch_rows(completing, self._log.instance, found[-1], half=half)

    def _suspects(self, chunk: Chunk) -> list[int]:
        """Enter the chunk's ids into the filter; return the indices of those that the store must be asked about."""
        head, end = chunk.head, chunk.offset + len(chunk.rows)
        letters = head.kinds[chunk.offset : end]
        ids = head.ids[chunk.offset : end]
        suspects: list[int] = []
        kinds = set(letters.lower())
        for letter in kinds:
            of_kind: Sequence[int] = range(len(ids))
            if len(kinds) > 1:
                of_kind = [index for index, x in enumerate(letters.lower()) if x == letter]
            lane = (head.project, KIND_OF_CODE[letter])
            perhaps = self._filter.add_and_find(lane, [ids[index] for index in of_kind], head.received_at)
            suspects += [of_kind[index] for index in perhaps] if self._filter_ready else of_kind
        if chunk.sequence <= self._past_sequence:
            return suspects
        return [index for index in suspects if letters[index].islower()]  # upper case: the id was made here

    def _insist(
        self, call: Callable[[], object], *, expected: str = "", may_refuse: bool = False
    ) -> LeewardError | None:
        """Call the store until it answers. None: done; otherwise that we were told to stop.

        With *expected*, that it does not answer yet is no news: only what is wrong for good is reported. With
        *may_refuse*, a refusal is an answer, and is returned.
        """
        delays = iter(self._limits.retry_delays_s)
        while True:
            try:
                call()
            except (Unavailable, Refused, ConfigError) as error:
                if may_refuse and isinstance(error, Refused):
                    return error
                trouble = expected if expected and isinstance(error, Unavailable) else str(error)
                if trouble not in {self.trouble, expected}:
                    self._report("store_unavailable", {"reason": trouble, "fix": error.fix})
                self.trouble = trouble
                if self._stopping:
                    return error
                self._pause(next(delays, self._limits.retry_later_s))
            else:
                if self.trouble and self.trouble != expected:
                    self._report("store_back", {"was": self.trouble})
                self.trouble = ""
                return None

    def _pause(self, seconds: float) -> None:
        with self._wake:
            if not self._stopping:
                self._wake.wait_for(lambda: self._stopping, seconds)

    def _write(self, record: Record) -> bool:
        """Put a record of our own into the log and wait until it is synced. False: the log cannot take it now."""
        while True:
            done: Future[int] = Future()
            try:
                self._commit.submit(record, done, urgent=True)  # what drains the log may use its last room
                done.result()
            except LeewardError as error:
                self.trouble = f"the log cannot be written: {error}"
                if self._stopping:
                    return False
                self._pause(self._limits.retry_later_s)
            else:
                self._seals.learn(record.type, record.payload)
                return True

    def _done(self, chunks: list[Chunk]) -> None:
        self.bytes_loaded += sum(chunk.payload_bytes for chunk in chunks)
        last = chunks[-1]
        whole = last.offset + len(last.rows) >= len(last.head.ids)
        self._loaded_segment = last.segment
        self.waiting_since_ms = self._pending[0].head.received_at if self._pending else None
        self._loaded(last.sequence if whole else last.sequence - 1)

    def _loaded(self, sequence: int) -> None:
        if sequence > self.loaded_sequence:
            self.loaded_sequence = sequence
            self._on_loaded(sequence)

    # -- looking after the rest --------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        now_s = self._clock.monotonic_s()
        self._look_after_filter()
        if now_s >= self._next_checkpoint_s or self._loaded_segment > self._checkpoint_segment:
            self._next_checkpoint_s = now_s + self._limits.checkpoint_every_s
            self._checkpoint()
        if now_s >= self._next_retention_s and not self.trouble:
            self._next_retention_s = now_s + self._limits.retention_every_s
            self._drop_expired()

    def _look_after_filter(self) -> None:
        if self._rebuilt is None:
            self._rebuilt = Future()
            threading.Thread(target=self._rebuild_filter, name="leeward-filter", daemon=True).start()
        elif not self._filter_ready and self._rebuilt.done():
            self._filter.merge(self._rebuilt.result())
            self._filter_ready = True

    def _rebuild_filter(self) -> None:
        """Build a filter of all ids in the store, aside; ids loaded meanwhile are in the filter already."""
        assert self._rebuilt is not None
        while not self._stopping:
            try:
                rebuilt = self._filter_of_store()
            except Exception as error:  # this thread's boundary: until it succeeds, the store is asked about every id
                self._report("filter_waits", {"error": error})
                self._pause(self._limits.retry_later_s)
            else:
                if rebuilt is not None:
                    self._rebuilt.set_result(rebuilt)
                return

    def _filter_of_store(self) -> IdFilter | None:
        """All ids of the window. None: told to stop; a part of them would let repeats in."""
        now_ms = self._clock.wall_ms()
        rebuilt = IdFilter(self._store.statistics().rows)
        for keys in self._store.ids_since(0):
            for project, kind, event_id in keys:
                rebuilt.add((project, kind), (event_id,), now_ms)
            if self._stopping:
                return None
        return rebuilt

    def _checkpoint(self) -> None:
        self._checkpoint_segment = self._loaded_segment
        if self.loaded_sequence <= self._log.checkpoint_sequence:
            return
        sequence = self.loaded_sequence
        note = self._save_door()
        if note is None:
            return  # the door changed under the snapshot: the next round takes another
        try:
            self._log.checkpoint(sequence, note)
        except LeewardError as error:
            self._report("checkpoint_failed", {"reason": str(error)})
        else:
            self._seals.forget(sequence)

    def _drop_expired(self) -> None:
        now_ms = self._clock.wall_ms()
        try:
            dropped = self._store.drop_expired(now_ms, self._limits.retention_days)
        except (Unavailable, Refused) as error:
            self._report("retention_failed", {"reason": str(error)})
            return
        if dropped:  # which proves that the store believes the clock
            self._filter.forget_before(now_ms - self._limits.id_window_ms - _FILTER_FORGET_MS)
            self._report("expired_days_dropped", {"partitions": dropped})
