"""The writer with a real log; the store is the one in memory, made to fail, to refuse or to be killed in a call."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import pytest

from leeward.errors import Unavailable
from leeward.journal.commit import GroupCommit
from leeward.journal.frame import Record
from leeward.journal.log import Log
from leeward.server.blocks import Seals
from leeward.server.counters import Counters
from leeward.server.dead_letters import DeadLetters
from leeward.server.pipeline import DATA
from leeward.server.record import BatchHead, Head, pack, row
from leeward.server.visibility import Visibility
from leeward.server.writer import BlockLimits, Writer
from leeward.store.clickhouse import StoreRefused, StoreUnavailable
from leeward.store.events import Block, EventQuery
from leeward.store.memory import MemoryEventStore
from store_rows import DAY_MS, NOW_MS, StillClock, event

ALL = EventQuery(project=1, start_ms=0, end_ms=NOW_MS + 2 * DAY_MS, limit=1000, order="asc")
STEPS_MAX = 200


class Killed(BaseException):
    """The process ends here."""


class Store(MemoryEventStore):
    """The store in memory. `faults` by the number of the load: raised before it, or after it was done."""

    def __init__(self, clock: StillClock) -> None:
        super().__init__(clock, 7)
        self.loads: list[Block] = []
        self.before: dict[int, BaseException] = {}
        self.after: dict[int, BaseException] = {}
        self.poison: tuple[bytes, ...] = ()
        self.asked: list[set[str]] = []
        self.filter_fails = False

    def load(self, block: Block) -> None:
        number = len(self.loads)
        self.loads.append(block)
        if number in self.before:
            raise self.before[number]
        if any(poison in line for poison in self.poison for line in block.lines):
            raise StoreRefused("a row cannot be parsed", clickhouse_code=27)
        super().load(block)
        if number in self.after:
            raise self.after[number]

    def known_ids(self, keys, since_ms, except_for=None):
        self.asked.append({key[2] for key in keys})
        return super().known_ids(keys, since_ms, except_for)

    def ids_since(self, since_ms):
        if self.filter_fails:
            raise StoreUnavailable("away")
        return super().ids_since(since_ms)


class Bench:
    """One data directory; `open` is a start of the server, `crash` its end by force."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = StillClock()
        self.store = Store(self.clock)
        self.saved: bytes | None = b"the door"
        self.reported: list[str] = []
        self.limits = BlockLimits(age_s_max=0.001)
        self.open()

    def open(self) -> None:
        self.log = Log.open(str(self.directory / "log"), segment_bytes=1 << 20)
        self.commit: GroupCommit = GroupCommit(self.log, on_group=answer)
        self.commit.start()
        self.counters = Counters()
        self.dead_letters = DeadLetters(self.directory / "dead-letters")
        self.loaded: list[int] = []
        self.pauses: list[float] = []
        self.writer = Writer(
            log=self.log,
            commit=self.commit,
            store=self.store,
            prepare=lambda: None,
            counters=self.counters,
            dead_letters=self.dead_letters,
            clock=self.clock,
            limits=self.limits,
            seals=learned(self.log),
            save_door=lambda: self.saved,
            on_loaded=self.loaded.append,
            report=lambda name, _: self.reported.append(name),
        )
        self.writer._pause = self.pauses.append

    def close(self) -> None:
        self.commit.close()
        self.log.close()

    def crash(self) -> None:
        """What is on disk stays, all else is gone."""
        self.close()
        self.open()

    def accept(self, *ids: str, received_at: int = NOW_MS, batch_id: str = "") -> None:
        """Put one request's events into the log."""
        events = [event(one, received_at=received_at, batch_id=batch_id) for one in ids]
        batch = BatchHead(batch_id, bytes(16), received_at, len(ids), 0, [f"key of {one}" for one in ids], [])
        head = Head(1, received_at, "e" * len(ids), list(ids), batch if batch_id else None)
        done: Future[int] = Future()
        self.commit.submit(Record(DATA, pack(head, [row(one) for one in events]), bytes(16)), done)
        done.result(10)

    def drain(self) -> None:
        """Load everything that is in the log."""
        for _ in range(STEPS_MAX):
            if self.writer.loaded_sequence >= self.log.synced_sequence:
                return
            self.writer.seal_now(self.log.synced_sequence)
            assert self.writer._step_safely()
        raise AssertionError("it does not come to an end")

    def drain_over_kills(self) -> None:
        """As `drain`, started again after each kill."""
        while True:
            try:
                self.drain()
            except Killed:
                self.crash()
            else:
                return

    def stored(self) -> list[str]:
        return [found["id"] for found in self.store.query(ALL)]

    def dead(self) -> list[str]:
        return [
            found.decode().partition('"id":"')[2].partition('"')[0]
            for letter in self.dead_letters.letters()
            for found in self.dead_letters.rows(letter.id)
        ]


def answer(group) -> None:
    for token, sequence, error in group:
        if error is None:
            token.set_result(sequence)
        else:
            token.set_exception(error)


def learned(log: Log) -> Seals:
    """What a start learns of the log behind the checkpoint."""
    seals, sequence = Seals(), log.checkpoint_sequence
    while entries := log.read(sequence):
        for entry in entries:
            if entry.type != DATA:
                seals.learn(entry.type, entry.payload)
        sequence = entries[-1].sequence
    return seals


@pytest.fixture
def bench(tmp_path: Path):
    made = Bench(tmp_path)
    yield made
    made.close()


def test_w10_a_block_that_was_sealed_before_a_crash_is_loaded_byte_for_byte_the_same(bench: Bench):
    bench.accept("a", "b")
    bench.accept("c", batch_id="x")
    bench.store.before[0] = Killed()
    with pytest.raises(Killed):
        bench.drain()
    bench.crash()
    bench.accept("d")
    bench.drain()
    first, again, rest = bench.store.loads
    assert again == first
    assert [again.token, rest.token] == [first.token, rest.token]
    assert bench.stored() == ["a", "b", "c", "d"]


def test_w10_a_block_whose_answer_was_lost_is_found_and_not_loaded_again(bench: Bench):
    bench.accept("a", "b")
    bench.store.after[0] = Killed()
    with pytest.raises(Killed):
        bench.drain()
    bench.crash()
    bench.drain()
    assert len(bench.store.loads) == 1
    assert bench.stored() == ["a", "b"]


def test_w10_the_whole_log_may_be_replayed_into_a_store_that_has_it(bench: Bench):
    bench.saved = None  # so that no checkpoint moves
    for number in range(20):
        bench.accept(f"a{number}", f"b{number}")
    bench.drain()
    before = bench.stored()
    for _ in range(3):
        bench.crash()
        bench.drain()
    assert bench.stored() == before
    assert len(before) == 40


def test_w1_every_kill_around_every_load_leaves_each_event_once(bench: Bench, tmp_path: Path):
    for number in range(12):
        for when in ("before", "after"):
            one = Bench(tmp_path / f"{when}{number}")
            one.limits = BlockLimits(age_s_max=0.001, rows_max=2)
            one.crash()
            one.store.poison = (b'"id":"bad',)
            getattr(one.store, when)[number] = Killed()
            one.accept("a", "b", "bad1")
            one.accept("c", batch_id="x")
            one.accept("bad2", "a", "d")
            one.accept("e", "f", "g", "bad3")
            one.drain_over_kills()
            assert Counter(one.stored()) == Counter("abcdefg"), (when, number)
            assert sorted(one.dead()) == ["bad1", "bad2", "bad3"], (when, number)
            one.close()


def test_an_unavailable_store_is_tried_after_100_200_and_400_ms_and_then_in_the_background(bench: Bench):
    for number in range(6):
        bench.store.before[number] = StoreUnavailable("away")
    bench.accept("a")
    bench.drain()
    assert bench.pauses == [0.1, 0.2, 0.4, 2.0, 2.0, 2.0]
    assert bench.stored() == ["a"]
    assert bench.writer.trouble == ""
    assert bench.reported == ["store_unavailable", "store_back"]


def test_the_writer_says_what_is_wrong_while_it_tries(bench: Bench):
    seen: list[str] = []
    bench.writer._pause = lambda _: seen.append(bench.writer.statistics().trouble)
    bench.store.before[0] = StoreUnavailable("the store is away")
    bench.accept("a")
    bench.drain()
    assert seen == ["the store is away"]


def test_w13_a_row_that_the_store_refuses_is_isolated_and_the_others_flow(bench: Bench):
    bench.store.poison = (b'"id":"bad"',)
    bench.accept(*(f"a{number}" for number in range(50)), "bad", *(f"b{number}" for number in range(50)))
    bench.drain()
    assert len(bench.stored()) == 100
    assert bench.dead() == ["bad"]
    assert (bench.counters.stored, bench.counters.dead) == (100, 1)
    assert len(bench.store.loads) <= 2 * 8, "by halving"


def test_w13_a_batch_with_a_refused_row_is_known_to_have_failed(bench: Bench):
    bench.store.poison = (b'"id":"bad"',)
    bench.accept("a", "bad", "b", batch_id="x")
    bench.drain()
    assert bench.dead_letters.holds_batch(1, "x")
    assert bench.stored() == ["a", "b"]


def test_w13_a_refused_row_is_not_tried_again_at_the_next_start(bench: Bench):
    bench.saved = None
    bench.store.poison = (b'"id":"bad"',)
    bench.accept("a", "bad", "b")
    bench.drain()
    tried = len(bench.store.loads)
    bench.crash()
    bench.drain()
    assert [line for block in bench.store.loads[tried:] for line in block.lines if b'"bad"' in line] == []
    assert bench.dead() == ["bad"]
    assert bench.stored() == ["a", "b"]


def test_w13_a_dead_letter_that_cannot_be_written_doubles_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.store.poison = (b'"id":"bad"',)
    add, fails = bench.dead_letters.add, [OSError(28, "No space left on device")] * 2

    def fail_first(**arguments) -> None:
        if fails:
            raise fails.pop()
        add(**arguments)

    monkeypatch.setattr(bench.dead_letters, "add", fail_first)
    bench.accept("a", "b", "c", "bad")
    bench.accept("d")
    bench.drain()
    assert bench.reported.count("writer_failed") == 2
    assert Counter(bench.stored()) == Counter("abcd")
    assert bench.dead() == ["bad"]
    assert bench.counters.dead == 1


def test_w12_a_block_never_crosses_midnight(bench: Bench):
    midnight = (NOW_MS // DAY_MS + 1) * DAY_MS
    bench.accept("a", received_at=midnight - 1)
    bench.accept("b", received_at=midnight)
    bench.drain()
    assert [len(block.lines) for block in bench.store.loads] == [1, 1]
    assert bench.store.loads[0].token != bench.store.loads[1].token


def test_w9_an_id_that_comes_twice_is_stored_once_within_a_block_and_beyond_it(bench: Bench):
    bench.accept("a", "b", "a")
    bench.accept("b", "c")
    bench.drain()
    bench.accept("c", "d")
    bench.drain()
    assert bench.stored() == ["a", "b", "c", "d"]
    assert bench.counters.duplicates_at_load == 3


def test_w9_until_the_filter_is_there_the_store_is_asked_about_every_id(bench: Bench):
    bench.accept("old")
    bench.drain()
    bench.close()
    for path in (bench.directory / "log").glob("*"):
        if path.is_file():
            path.unlink()  # a new log: nothing but the store knows of the event
    bench.store.filter_fails = True
    bench.open()
    bench.accept("old", "new")
    bench.drain()
    assert {"old", "new"} in bench.store.asked
    assert bench.stored() == ["old", "new"]


def test_the_checkpoint_follows_the_load_and_carries_the_doors_memory(bench: Bench):
    bench.accept("a")
    bench.store.before[0] = Killed()
    with pytest.raises(Killed):
        bench.drain()
    assert bench.log.checkpoint_sequence == 0
    bench.crash()
    bench.drain()
    bench.clock.now_ms += 60_000
    bench.writer.seal_now(bench.log.synced_sequence)
    bench.writer.step()
    assert bench.log.checkpoint_sequence == bench.writer.loaded_sequence
    assert bench.log.checkpoint_note == b"the door"


def test_without_a_sound_snapshot_of_the_door_there_is_no_checkpoint(bench: Bench):
    bench.saved = None
    bench.accept("a")
    bench.drain()
    bench.clock.now_ms += 60_000
    bench.writer.seal_now(bench.log.synced_sequence)
    bench.writer.step()
    assert bench.log.checkpoint_sequence == 0


def test_a_stop_loads_what_is_there_and_a_stop_without_a_store_waits_for_nobody(bench: Bench):
    bench.accept("a")
    bench.writer.start()
    assert bench.writer.stop(10.0)
    assert bench.stored() == ["a"]
    bench.crash()
    bench.accept("b")
    bench.store.before.update({number: StoreUnavailable("away") for number in range(1, 1000)})
    bench.writer.start()
    assert bench.writer.stop(10.0)
    bench.store.before.clear()
    bench.crash()
    bench.drain()
    assert bench.stored() == ["a", "b"]


def test_a_reader_sees_what_was_acknowledged_before_it_asked(bench: Bench):
    async def ask() -> list[str]:
        visibility = Visibility(acknowledged=lambda: noted, seal_now=bench.writer.seal_now, describe_lag=lambda: "far")
        bench.writer._on_loaded = visibility.loaded
        bench.writer.start()
        assert await visibility.wait_loaded(10.0)
        return bench.stored()

    bench.limits = BlockLimits(age_s_max=3600.0)  # nobody but the reader makes it seal
    bench.crash()
    bench.accept("a", "b")
    noted = bench.log.synced_sequence
    assert asyncio.run(ask()) == ["a", "b"]
    bench.writer.stop(10.0)


def test_a_reader_is_told_when_it_takes_too_long(bench: Bench):
    async def ask() -> bool:
        visibility = Visibility(acknowledged=lambda: 7, seal_now=lambda _: None, describe_lag=lambda: "far")
        return await visibility.wait_loaded(0.01)

    assert not asyncio.run(ask())


def test_a_reader_after_a_restart_does_not_wait_for_what_an_earlier_run_has_loaded():
    async def ask() -> bool:
        visibility = Visibility(
            acknowledged=lambda: 7, seal_now=lambda _: None, describe_lag=lambda: "far", loaded_sequence=7
        )
        return await visibility.wait_loaded(0.01)

    assert asyncio.run(ask())


def test_w4_a_log_that_cannot_take_a_seal_holds_the_block_back_and_loses_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    bench.accept("a")
    append, fails = bench.log.append, [Unavailable("no space")] * 3

    def fail_first(records, *, urgent=False):
        if fails:
            raise fails.pop()
        return append(records, urgent=urgent)

    monkeypatch.setattr(bench.log, "append", fail_first)
    bench.drain()
    assert bench.stored() == ["a"]
    assert len(bench.store.loads) == 1
