"""What is told of clients, over the whole road: door, log, writer and store, in any order, with repeats and crashes."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from leeward.journal.commit import GroupCommit
from leeward.journal.log import Log
from leeward.server.access import Identity
from leeward.server.blocks import Seals
from leeward.server.counters import Counters
from leeward.server.dead_letters import DeadLetters
from leeward.server.door import Door
from leeward.server.http import Request
from leeward.server.pipeline import DATA, Pipeline
from leeward.server.record import unpack_head
from leeward.server.wires.native import Ingest
from leeward.server.writer import BlockLimits, Writer
from leeward.store.clickhouse import StoreRefused, StoreUnavailable
from leeward.store.memory import MemoryEventStore
from quiet_road import quiet_road
from store_rows import StillClock

EXAMPLES = 300 if os.environ.get("LEEWARD_TEST_HEAVY") == "1" else 30
EVENTS = 24
REASONS = ("spool_full", "too_old")


class Store(MemoryEventStore):
    """The store in memory; it refuses events by id, and may go away for a while."""

    refused: tuple[bytes, ...] = ()
    away = 0
    asked = 0

    def load(self, block):
        if not any(one in line for one in self.refused for line in block.lines):
            super().load(block)
            return
        super().load(type(block)(block.instance, block.first, block.last, block.segment, [], block.batches))
        raise StoreRefused("a row cannot be parsed", clickhouse_code=27)

    def batch_places(self, keys):
        self.asked += 1
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        return super().batch_places(keys)


class Server:
    """The road from a request's body to the store, in one directory. `restart` may forget what the door knew."""

    def __init__(self, directory: Path, *, door_ids_max: int = 200_000) -> None:
        self.directory = directory
        self.door_ids_max = door_ids_max
        self.clock = StillClock()
        self.store = Store(self.clock, 7)

    async def start(self, *, learn: bool = True) -> None:
        self.counters = Counters()
        self.log = Log.open(str(self.directory / "log"), segment_bytes=1 << 20)
        self.door = Door(self.door_ids_max)
        self.pipeline = Pipeline(door=self.door, counters=self.counters, clock=self.clock)
        if learn and self.log.checkpoint_note:
            assert self.door.restore(self.log.checkpoint_note)
        seals, sequence = Seals(), self.log.checkpoint_sequence
        while entries := self.log.read(sequence):
            for entry in entries:
                if entry.type != DATA:
                    seals.learn(entry.type, entry.payload)
                elif learn:
                    self.door.learn(unpack_head(entry.payload))
            sequence = entries[-1].sequence
        self.commit: GroupCommit[Any] = GroupCommit(self.log, on_group=self.pipeline.settle)
        self.pipeline.attach(self.commit)
        self.commit.start()
        self.writer = Writer(
            log=self.log,
            commit=self.commit,
            store=self.store,
            prepare=lambda: None,
            counters=self.counters,
            dead_letters=DeadLetters(self.directory / "dead-letters"),
            clock=self.clock,
            limits=BlockLimits(age_s_max=0.001, rows_max=7),
            seals=seals,
            save_door=self.door.snapshot,
            on_loaded=lambda _: None,
            report=lambda *_: None,
        )
        self.writer._pause = lambda _: None
        road = quiet_road(self.pipeline, counters=self.counters, clock=self.clock)
        self.handler = Ingest(road, retention_seconds=1, batch_state=lambda *_: "completed")

    async def stop(self) -> None:
        await asyncio.to_thread(self.commit.close)
        self.log.close()
        await asyncio.sleep(0)

    async def restart(self, *, learn: bool) -> None:
        await self.stop()
        await self.start(learn=learn)

    async def send(self, ids, *, batch_id="", client=None) -> dict:
        events = [{"event_type": "n", "id": one} if isinstance(one, str) else one for one in ids]
        fields = {"events": events, **({"batch_id": batch_id} if batch_id else {}), "client": client}
        body = json.dumps(fields).encode()

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        request = Request({"method": "POST", "path": "/", "query_string": b"", "headers": []}, receive, "r")
        request.identity = Identity(1, "write", "k_write", "")
        return json.loads((await self.handler.batch(request)).body)

    async def load(self) -> None:
        def drain() -> None:
            for _ in range(500):
                if self.writer.loaded_sequence >= self.log.synced_sequence:
                    return
                self.writer.seal_now(self.log.synced_sequence)
                assert self.writer._step_safely()
            raise AssertionError("it does not come to an end")

        await asyncio.to_thread(drain)

    def told(self, process="p") -> tuple[int, int, dict[str, int], int]:
        [one] = [one for one in self.store.clients(1, 10).accounts if one.process == process]
        return one.highest, one.received, one.lost, one.missing


def on_a_server(scenario, **options):
    directory = Path(tempfile.mkdtemp())

    async def run() -> None:
        server = Server(directory, **options)
        await server.start()
        try:
            await scenario(server)
        finally:
            await server.stop()

    try:
        asyncio.run(run())
    finally:
        shutil.rmtree(directory)


def client(first, last, process="p", **lost):
    losses = [{"reason": reason, "count": count} for reason, count in lost.items()]
    return {"process": process, "first": first, "last": last, "lost": losses}


def test_numbers_that_never_came_are_missing_unless_the_client_says_that_it_lost_them():
    async def scenario(server):
        await server.send(["e1", "e2"], client=client(1, 2))
        await server.send(["e7", "e8"], client=client(7, 8, spool_full=3))
        await server.load()
        assert server.told() == (8, 4, {"spool_full": 3}, 1)

        await server.send(["e5"], client=client(5, 5))
        await server.load()
        assert server.told() == (8, 5, {"spool_full": 3}, 0)

    on_a_server(scenario)


def test_an_event_that_the_server_refuses_has_arrived_and_is_not_missing():
    async def scenario(server):
        answer = await server.send(["e1", {"event_type": ""}, "e3"], client=client(1, 3))
        await server.load()

        assert answer["accepted"] == 2
        assert server.told() == (3, 3, {}, 0)

    on_a_server(scenario)


def test_w9_a_batch_is_the_same_by_its_events_whatever_its_client_says_and_is_counted_once():
    async def scenario(server):
        first = await server.send(["e1", "e2"], batch_id="b", client=client(1, 2, too_old=1))
        for other in (client(1, 9, too_old=5), client(2, 2, "q"), None, "rubbish"):
            assert await server.send(["e1", "e2"], batch_id="b", client=other) == first
        await server.load()

        assert server.told() == (2, 2, {"too_old": 1}, 0)
        assert server.store.clients(1, 10).total == 1
        assert server.counters.client_lost == {"too_old": 1}
        assert server.counters.client_fields_ignored == 0

    on_a_server(scenario)


@pytest.mark.parametrize("rubbish", ["x", 7, [], {}, {"process": "p"}, {**client(1, 2), "first": 3}])
def test_i1_rubbish_in_the_place_of_the_clients_word_is_counted_and_the_events_are_taken(rubbish):
    async def scenario(server):
        answer = await server.send(["e1"], client=rubbish)
        await server.send(["e2"], client=None)
        await server.load()

        assert (answer["accepted"], answer["errors"]) == (1, [])
        assert server.counters.client_fields_ignored == 1
        assert server.store.clients(1, 10).total == 0

    on_a_server(scenario)


def test_w9_events_that_come_again_in_another_batch_are_counted_once_also_when_the_door_has_forgotten_them():
    async def scenario(server):
        await server.send(["e1", "e2"], batch_id="b1", client=client(1, 2))
        await server.load()
        for forgotten in (False, True):
            await server.restart(learn=not forgotten)
            batch_id = f"again-{forgotten}"
            answer = await server.send(["e1", "e2", "e3"], batch_id=batch_id, client=client(1, 3, too_old=1))
            assert answer["duplicates"] == (0 if forgotten else 2)
            await server.load()
        assert server.told() == (3, 3, {"too_old": 2}, 0)

    on_a_server(scenario)


def test_w9_a_batch_that_the_door_has_forgotten_counts_nothing_again_though_the_store_is_away_when_it_is_asked():
    async def scenario(server):
        for forgotten in range(3):
            await server.send(["e1", {"event_type": ""}], batch_id="b", client=client(1, 5, too_old=2))
            server.store.away = forgotten
            await server.load()
            await server.restart(learn=False)
        assert server.told() == (5, 2, {"too_old": 2}, 1)
        assert server.store.asked == 0 + 2 + 3

    on_a_server(scenario)


@pytest.mark.parametrize("bad", ["e1", "e2", "e3"])
def test_w13_a_batch_whose_block_is_refused_and_halved_is_counted_once(bad):
    async def scenario(server):
        server.store.refused = (b'"id":"%s"' % bad.encode(),)
        for number, batch in enumerate((["e1", "e2", "e3"], ["e4", "e5"])):
            await server.send(batch, client=client(1, 5, too_old=1), batch_id=f"b{number}")
        await server.load()

        assert server.told() == (5, 5, {"too_old": 2}, 0)

    on_a_server(scenario)


# A client's numbers under every order, overlap and repeat.

BATCHES = st.lists(
    st.tuples(
        st.sets(st.integers(1, EVENTS), min_size=1, max_size=8),
        st.dictionaries(st.sampled_from(REASONS), st.integers(1, 3), max_size=2),
    ),
    min_size=1,
    max_size=8,
)
STEPS = st.lists(st.one_of(st.integers(0, 7), st.sampled_from(["load", "restart", "forget"])), min_size=1, max_size=20)


@settings(deadline=None, max_examples=EXAMPLES)
@given(BATCHES, STEPS, st.sampled_from([2, 5, 200_000]))
def test_w9_the_account_is_exact_whatever_order_overlaps_repeats_and_restarts_there_are(batches, steps, door_ids_max):
    """Only what came counts: the highest of its numbers, each event once, what was said to be lost once a batch."""

    async def scenario(server):
        arrived: set[int] = set()
        losses: dict[int, dict[str, int]] = {}
        for step in steps:
            if step == "load":
                await server.load()
            elif isinstance(step, str):
                await server.restart(learn=step == "restart")
            else:
                numbers, lost = batches[step % len(batches)]
                word = client(min(numbers), max(numbers), **lost)
                await server.send(
                    [f"e{number}" for number in sorted(numbers)], batch_id=f"b{step % len(batches)}", client=word
                )
                arrived |= numbers
                losses[step % len(batches)] = lost
        await server.load()

        if not arrived:
            assert server.store.clients(1, 10).total == 0
            return
        lost = {reason: count for reason in REASONS if (count := sum(one.get(reason, 0) for one in losses.values()))}
        missing = max(0, max(arrived) - len(arrived) - sum(lost.values()))
        assert server.told() == (max(arrived), len(arrived), lost, missing)

    on_a_server(scenario, door_ids_max=door_ids_max)


def test_two_processes_and_two_projects_have_accounts_of_their_own():
    async def scenario(server):
        for process, count in itertools.product(("p", "q"), (1, 2)):
            await server.send([f"{process}{count}"], client=client(count, count, process))
        await server.load()

        assert [server.told(process) for process in "pq"] == [(2, 2, {}, 0)] * 2
        assert server.store.clients(2, 10).total == 0

    on_a_server(scenario)
