"""Past the door and into a real log: every event ends in one counted outcome, and nothing is answered before its sync."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from control_helpers import HeldClock
from leeward.errors import ProtocolError, Unavailable
from leeward.journal.commit import GroupCommit
from leeward.journal.files import OsFiles
from leeward.journal.frame import Record
from leeward.journal.log import Log
from leeward.server import pipeline as module
from leeward.server.counters import Counters
from leeward.server.door import Door, event_key, key_code
from leeward.server.intake import prepare_body
from leeward.server.pipeline import DATA, Pipeline
from leeward.server.record import Head, unpack, unpack_head
from leeward.wire.client import ClientReport

NOW = HeldClock().now_ms


class BreakingFiles(OsFiles):
    """The real files, until the disk is told to refuse."""

    broken = False

    def pwrite(self, fd, data, offset):
        if self.broken:
            raise OSError(28, "No space left on device")
        return super().pwrite(fd, data, offset)


class Road(SimpleNamespace):
    """A pipeline on a log in a directory. Groups are committed when the test says so."""

    pipeline: Pipeline
    commit: GroupCommit[Any]

    async def settled(self):
        """Commit what waits, and let the requests hear of it."""
        for _ in range(5):
            self.commit.run_once()
            await asyncio.sleep(0)

    async def run(self, request):
        """A request from its start to its answer."""
        task = asyncio.create_task(request)
        for _ in range(3):  # one that hands over several groups takes as many turns
            await asyncio.sleep(0)
            await self.settled()
        assert task.done()
        return await task

    def take(self, body, *, project=1, received_at=NOW, with_keys=True):
        prepared = prepare_body(body, project=project, received_at=received_at)
        return self.pipeline.take(prepared, project=project, received_at=received_at, with_keys=with_keys)

    def take_batch(self, body, batch_id="b-1", digest=b"one", *, project=1, client=None):
        prepared = prepare_body(body, project=project, received_at=NOW, batch_id=batch_id)
        return self.pipeline.take_batch(
            prepared, project=project, received_at=NOW, batch_id=batch_id, digest=digest, client=client
        )

    def records(self):
        return [(entry.type, *unpack(entry.payload)) for entry in self.log.read(0)]

    def stored_ids(self):
        return [event_id for _, head, _ in self.records() for event_id in head.ids]


@pytest.fixture
def on_a_road(tmp_path) -> Callable[..., Any]:
    def run(scenario):
        async def with_parts():
            clock, door, counters, files = HeldClock(), Door(), Counters(), BreakingFiles()
            log = Log.open(str(tmp_path / "log"), segment_bytes=1 << 20, files=files, clock=clock)
            pipeline = Pipeline(
                door=door,
                counters=counters,
                clock=clock,
            )
            commit = GroupCommit(log, on_group=pipeline.settle, clock=clock)
            pipeline.attach(commit)
            road = Road(
                clock=clock,
                door=door,
                counters=counters,
                files=files,
                log=log,
                pipeline=pipeline,
                commit=commit,
            )
            try:
                await scenario(road)
            finally:
                commit.close()
                await asyncio.sleep(0)
                log.close()

        asyncio.run(with_parts())

    return run


def test_w1_nothing_is_answered_before_the_log_is_synced(on_a_road):
    async def scenario(road):
        request = asyncio.create_task(road.take(b'[{"event_type":"a","id":"e1"},{"event_type":"b","id":"e2"}]'))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not request.done()
        assert road.counters.accepted == 0

        await road.settled()
        outcome = await request

        assert (outcome.accepted, outcome.total, outcome.duplicates, outcome.refusals) == (2, 2, 0, [])
        assert road.counters.accepted == 2
        assert road.log.synced_sequence == road.pipeline.acknowledged_sequence == 1
        assert road.pipeline.bytes_taken == len(road.log.read(0)[0].payload)

    on_a_road(scenario)


def test_the_record_holds_the_rows_as_they_were_made_and_what_identifies_them(on_a_road):
    async def scenario(road):
        body = b'[{"event_type":"a","id":"e1"},null,{"event_type":"s","kind":"span"}]'
        outcome = await road.run(road.take(body, project=4))

        [(kind, head, rows)] = road.records()
        assert (kind, head.project, head.received_at, head.kinds, head.batch) == (DATA, 4, NOW, "eS", None)
        assert head.ids == [event_id for event_id in outcome.ids if event_id]
        assert rows[0] == prepare_body(body, project=4, received_at=NOW).rows[0]
        assert outcome.keys == [
            event_key(NOW, key_code(4, "event", "e1")),
            None,
            event_key(NOW, key_code(4, "span", head.ids[1])),
        ]

    on_a_road(scenario)


def test_keys_are_made_only_when_asked_for(on_a_road):
    async def scenario(road):
        outcome = await road.run(road.take(b'{"event_type":"a","id":"e1"}', with_keys=False))

        assert (outcome.keys, outcome.ids) == ([], ["e1"])

    on_a_road(scenario)


def test_each_event_ends_in_one_counted_outcome(on_a_road):
    async def scenario(road):
        body = (
            b'[{"event_type":"a","id":"e1"},{"event_type":"a","id":"e1"},null,{"data":{}},{"event_type":"b","id":"e2"}]'
        )
        first = await road.run(road.take(body))
        second = await road.run(road.take(body, received_at=NOW + 9))

        assert (first.accepted, first.duplicates, [code for _, code, _ in first.refusals]) == (
            3,
            1,
            ["invalid_event", "missing_event_type"],
        )
        assert (second.accepted, second.duplicates) == (3, 3)
        assert first.keys == second.keys
        assert road.stored_ids() == ["e1", "e2"]
        assert road.counters.accepted == 2
        assert road.counters.duplicates_at_door == 4

    on_a_road(scenario)


def test_w1_the_repeat_of_an_event_waits_for_the_log_as_the_first_one_does(on_a_road):
    async def scenario(road):
        first = asyncio.create_task(road.take(b'{"event_type":"a","id":"e1"}'))
        repeat = asyncio.create_task(road.take(b'{"event_type":"a","id":"e1"}'))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not repeat.done()

        await road.settled()

        assert (await first).duplicates == 0
        assert (await repeat).duplicates == 1
        assert road.stored_ids() == ["e1", "e1"]  # each is answered for what it wrote; the load stores it once
        assert (await road.run(road.take(b'{"event_type":"a","id":"e1"}'))).duplicates == 1
        assert road.stored_ids() == ["e1", "e1"]

    on_a_road(scenario)


def test_w3_what_the_log_could_not_take_is_forgotten_and_refused_whole(on_a_road):
    async def scenario(road):
        road.files.broken = True
        first = asyncio.create_task(road.take(b'{"event_type":"a","id":"e1"}'))
        await asyncio.sleep(0)
        repeat = asyncio.create_task(road.take(b'[{"event_type":"a","id":"e1"},{"event_type":"b","id":"e2"}]'))
        await asyncio.sleep(0)
        epoch = road.door.epoch
        await road.settled()

        for request in (first, repeat):
            with pytest.raises(Unavailable) as refused:
                await request
            assert (refused.value.code, refused.value.retry_after_s) == ("unavailable", 1)
            assert "nothing of this request was kept" in refused.value.message
            assert "/" not in refused.value.message
        assert road.door.epoch != epoch
        assert road.counters.accepted == 0

        road.files.broken = False
        outcome = await road.run(road.take(b'[{"event_type":"a","id":"e1"},{"event_type":"b","id":"e2"}]'))

        assert (outcome.accepted, outcome.duplicates) == (2, 0)
        assert road.stored_ids() == ["e1", "e2"]

    on_a_road(scenario)


def test_w3_a_repeat_alone_is_refused_when_the_first_could_not_be_stored(on_a_road):
    async def scenario(road):
        road.files.broken = True
        road.commit._group_bytes_max = 1  # each request is a group of its own
        first = asyncio.create_task(road.take(b'{"event_type":"a","id":"e1"}'))
        await asyncio.sleep(0)
        repeat = asyncio.create_task(road.take(b'{"event_type":"a","id":"e1"}'))
        await asyncio.sleep(0)
        await road.settled()

        for request in (first, repeat):
            with pytest.raises(Unavailable):
                await request

    on_a_road(scenario)


def test_w3_a_log_that_is_closing_keeps_nothing_at_the_door(on_a_road):
    async def scenario(road):
        road.commit.close()

        for request in (road.take(b'{"event_type":"a","id":"e1"}'), road.take_batch(b'[{"event_type":"a","id":"e2"}]')):
            with pytest.raises(Unavailable, match="nothing of this request was kept"):
                await request

        assert road.door.first_seen(1, "event", "e1") is None
        assert road.door.first_seen(1, "event", "e2") is None
        assert road.door.batch(1, "b-1") is None

    on_a_road(scenario)


def test_a_client_that_has_gone_away_changes_nothing_for_its_events_and_those_beside_them(on_a_road):
    async def scenario(road):
        request = asyncio.create_task(road.take(b'{"event_type":"a","id":"e1"}'))
        await asyncio.sleep(0)
        request.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await request
        beside = await road.run(road.take(b'{"event_type":"b","id":"e2"}'))

        assert beside.accepted == 1
        assert road.stored_ids() == ["e1", "e2"]
        assert road.counters.accepted == 2
        assert road.door.first_seen(1, "event", "e1") == NOW

    on_a_road(scenario)


# Batches

BATCH = b'[{"event_type":"a","id":"e1"},{"event_type":"b"},null]'


def test_w9_the_same_batch_again_gets_the_same_answer_and_is_stored_once(on_a_road):
    async def scenario(road):
        assert await road.pipeline.known_batch(1, "b-1", b"one") is None
        first = await road.run(road.take_batch(BATCH))

        again = await road.run(road.pipeline.known_batch(1, "b-1", b"one"))

        assert again == first
        assert (first.total, first.duplicates, len(first.keys), len(first.refusals)) == (3, 0, 2, 1)
        [(_, head, rows)] = road.records()
        assert head.batch == first
        assert len(rows) == 2
        assert road.counters.duplicates_at_door == 2
        assert await road.pipeline.known_batch(2, "b-1", b"one") is None

    on_a_road(scenario)


def test_w9_the_same_batch_on_a_hundred_connections_at_once_is_stored_once(on_a_road):
    async def scenario(road):
        async def one_request():
            known = await road.pipeline.known_batch(1, "b-1", b"one")
            return known or await road.take_batch(BATCH)

        requests = [asyncio.create_task(one_request()) for _ in range(100)]
        await asyncio.sleep(0)
        assert not any(request.done() for request in requests)
        await road.settled()
        answers = [await request for request in requests]

        assert all(answer == answers[0] for answer in answers)
        assert len(road.stored_ids()) == 2

    on_a_road(scenario)


def test_w9_the_same_batch_id_with_other_events_is_a_conflict(on_a_road):
    async def scenario(road):
        await road.run(road.take_batch(BATCH))

        with pytest.raises(ProtocolError) as refused:
            await road.pipeline.known_batch(1, "b-1", b"other")

        assert (refused.value.status, refused.value.code) == (409, "batch_conflict")

    on_a_road(scenario)


def test_w9_a_batch_that_overlaps_another_stores_what_is_new(on_a_road):
    async def scenario(road):
        await road.run(road.take_batch(b'[{"event_type":"a","id":"e1"},{"event_type":"a","id":"e2"}]', "b-1"))
        second = await road.run(road.take_batch(b'[{"event_type":"a","id":"e2"},{"event_type":"a","id":"e3"}]', "b-2"))

        assert (second.total, second.duplicates, len(second.keys)) == (2, 1, 2)
        assert road.stored_ids() == ["e1", "e2", "e3"]

    on_a_road(scenario)


def test_w9_a_batch_of_known_events_is_a_record_without_rows(on_a_road):
    async def scenario(road):
        await road.run(road.take(b'{"event_type":"a","id":"e1"}'))
        batch = await road.run(road.take_batch(b'[{"event_type":"a","id":"e1"}]'))

        _, head, rows = road.records()[-1]
        assert (head.ids, rows, head.batch) == ([], [], batch)

    on_a_road(scenario)


def test_w9_what_the_log_holds_teaches_a_new_door_the_same_answers(on_a_road):
    async def scenario(road):
        first = await road.run(road.take_batch(BATCH))
        door = Door()
        for _, head, _ in road.records():
            door.learn(head)

        assert door.batch(1, "b-1") == first
        assert door.first_seen(1, "event", "e1") == NOW

    on_a_road(scenario)


def test_w3_a_batch_that_could_not_be_stored_is_unknown_to_those_who_waited_for_it_too(on_a_road):
    async def scenario(road):
        road.files.broken = True
        first = asyncio.create_task(road.take_batch(BATCH))
        await asyncio.sleep(0)
        again = asyncio.create_task(road.pipeline.known_batch(1, "b-1", b"one"))
        await asyncio.sleep(0)
        await road.settled()

        for request in (first, again):
            with pytest.raises(Unavailable):
                await request
        assert await road.pipeline.known_batch(1, "b-1", b"one") is None

    on_a_road(scenario)


def test_a_large_request_is_several_records_and_its_batch_stands_in_the_last(on_a_road, monkeypatch):
    monkeypatch.setattr(module, "RECORD_BYTES_GOAL", 200)

    async def scenario(road):
        body = b"[" + b",".join(b'{"event_type":"a","id":"e%d"}' % n for n in range(10)) + b"]"
        batch = await road.run(road.take_batch(body))

        records = road.records()
        assert len(records) > 2
        assert road.stored_ids() == [f"e{n}" for n in range(10)]
        assert [head.batch for _, head, _ in records] == [None] * (len(records) - 1) + [batch]
        assert records[-1][1].rows_before == 10 - len(records[-1][1].ids)
        assert road.pipeline.acknowledged_sequence == road.log.synced_sequence == len(records)
        assert len({entry.batch for entry in road.log.read(0)}) == 1
        assert road.log.read(0)[0].batch != bytes(16)

    on_a_road(scenario)


# What a client says of itself

CLIENT = ClientReport("p-1", 90, {"spool_full": 2})


def test_what_a_client_said_stands_in_the_log_beside_its_batch_and_not_in_the_doors_memory(on_a_road):
    async def scenario(road):
        batch = await road.run(road.take_batch(BATCH, client=CLIENT))

        [(_, head, _)] = road.records()
        assert (head.batch, head.client, head.rows_before) == (batch, CLIENT, 0)
        assert b"spool_full" not in road.door.snapshot()
        assert road.counters.client_lost == {"spool_full": 2}

    on_a_road(scenario)


def test_a_batch_of_known_events_alone_still_brings_its_clients_word(on_a_road):
    async def scenario(road):
        await road.run(road.take(b'{"event_type":"a","id":"e1"}'))
        await road.run(road.take_batch(b'[{"event_type":"a","id":"e1"}]', client=CLIENT))

        _, head, rows = road.records()[-1]
        assert (rows, head.client, head.rows_before) == ([], CLIENT, 0)

    on_a_road(scenario)


def test_w3_losses_are_counted_only_once_they_are_on_stable_storage(on_a_road):
    async def scenario(road):
        road.files.broken = True
        with pytest.raises(Unavailable):
            await road.run(road.take_batch(BATCH, client=CLIENT))
        assert road.counters.client_lost == {}

        road.files.broken = False
        await road.run(road.take_batch(BATCH, client=CLIENT))
        assert road.counters.client_lost == {"spool_full": 2}

    on_a_road(scenario)


def test_a_log_of_before_clients_were_counted_can_still_be_read():
    older = msgspec.msgpack.encode([1, NOW, "e", ["e1"], None])

    assert unpack_head(len(older).to_bytes(4, "little") + older) == Head(1, NOW, "e", ["e1"])


# Time


def test_w16_the_time_of_receipt_does_not_step_back_by_less_than_a_second(on_a_road):
    async def scenario(road):
        times = []
        for step_s in (0, -0.4, -0.6, 0.5, -1.1, 3600, -3600):
            road.clock.pass_s(step_s)
            times.append(road.pipeline.received_at() - NOW)

        assert times == [0, 0, 0, 0, -1600, 3_598_400, -1600]

    on_a_road(scenario)


# Others who use the log


def test_others_hand_records_to_the_same_log_and_get_their_sequence(on_a_road):
    async def scenario(road):
        told = []
        road.pipeline.on_durable = lambda: told.append(road.log.synced_sequence)
        seal: Future[int] = Future()
        road.commit.submit(Record(2, b"seal"), seal)
        await road.settled()

        assert seal.result(0) == 1
        assert told == [1]
        assert road.pipeline.acknowledged_sequence == 0

        road.files.broken = True
        refused: Future[int] = Future()
        road.commit.submit(Record(2, b"seal"), refused)
        await road.settled()
        with pytest.raises(Unavailable):
            refused.result(0)

    on_a_road(scenario)


def test_a_barrier_returns_when_all_that_came_before_is_synced(on_a_road):
    async def scenario(road):
        request = asyncio.create_task(road.take(b'{"event_type":"a","id":"e1"}'))
        await asyncio.sleep(0)
        barrier = asyncio.create_task(road.pipeline.barrier())
        await asyncio.sleep(0)
        assert not barrier.done()

        await road.settled()
        await barrier

        assert request.done()
        assert road.stored_ids() == ["e1"]

    on_a_road(scenario)


def test_w13_events_that_go_back_into_the_log_keep_their_ids_and_times_and_are_not_counted_again(on_a_road):
    async def scenario(road):
        prepared = prepare_body(
            b'[{"event_type":"a","id":"e1"},{"event_type":"b","id":"e2"}]', project=1, received_at=NOW - 5
        )
        later = prepare_body(b'{"event_type":"c","id":"e3"}', project=1, received_at=NOW)
        await road.run(road.pipeline.replay([*later.events, *prepared.events], project=1))

        assert [(head.received_at, head.ids, rows) for _, head, rows in road.records()] == [
            (NOW - 5, ["e1", "e2"], prepared.rows),
            (NOW, ["e3"], later.rows),
        ]
        assert road.counters.accepted == 0

    on_a_road(scenario)


def test_w9_a_repeat_whose_first_request_failed_after_all_is_stored_with_the_rest_of_its_own(on_a_road):
    """To refuse it would refuse a request of which a part is kept, and its events without an id would be doubled."""

    async def scenario(road):
        road.files.broken = True
        first = asyncio.create_task(road.take(b'{"event_type":"a","id":"e1"}'))
        await asyncio.sleep(0)
        second = asyncio.create_task(road.take(b'[{"event_type":"a","id":"e1"},{"event_type":"b","id":"e2"}]'))
        await asyncio.sleep(0)
        road.commit._group_bytes_max = 1  # each in a group of its own: the first fails, the second does not
        road.commit.run_once()
        road.files.broken = False
        for _ in range(5):
            await road.settled()

        with pytest.raises(Unavailable):
            await first
        outcome = await second
        assert (outcome.accepted, outcome.duplicates) == (2, 1)
        assert sorted(road.stored_ids()) == ["e1", "e2"]

    on_a_road(scenario)


def test_w9_a_repeat_is_not_answered_for_a_later_request_that_is_not_durable_either(on_a_road):
    async def scenario(road):
        road.commit._group_bytes_max = 1
        road.files.broken = True
        first = asyncio.create_task(road.take(b'{"event_type":"a","id":"e1"}'))
        await asyncio.sleep(0)
        second = asyncio.create_task(road.take(b'{"event_type":"a","id":"e1"}'))
        await asyncio.sleep(0)
        road.commit.run_once()
        for _ in range(3):
            await asyncio.sleep(0)
        third = asyncio.create_task(road.take(b'{"event_type":"a","id":"e1"}'))
        await asyncio.sleep(0)
        await road.settled()

        for request in (first, second, third):
            with pytest.raises(Unavailable):
                await request
        assert road.stored_ids() == []

    on_a_road(scenario)
