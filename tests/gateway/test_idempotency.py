"""`Idempotency-Key`: one asks, all get the answer; what failed is tried again; what is kept is bounded."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from control_helpers import HeldClock
from leeward.gateway.idempotency import (
    ANSWER_BYTES_MAX,
    OVERHEAD_BYTES,
    REPLAYED,
    Claim,
    Idempotency,
    Replay,
    StillRunning,
    request_digest,
)
from leeward.wire.chat import RequestInvalid

KEPT_S = 600
JSON = (b"content-type", b"application/json")


@pytest.fixture
def clock():
    return HeldClock()


@pytest.fixture
def book(clock):
    return Idempotency(KEPT_S, 8 << 20, clock=clock)


def ended(coroutine):
    """What it comes to; where nobody is woken, it does not wait for ever."""

    async def bounded():
        async with asyncio.timeout(10):
            return await coroutine

    return asyncio.run(bounded())


async def turns(count=5):
    """Let the other tasks run until they wait."""
    for _ in range(count):
        await asyncio.sleep(0)


async def claim(book, key="k", body=b"{}", *, who="a", wait_s=60.0):
    return await book.claim(who, key, request_digest("/v1/chat/completions", body), wait_s=wait_s)


def replay(body, status=200, *, is_stream=False):
    return Replay(status, [JSON, REPLAYED], body, is_stream)


class Reader:
    """The sink of a caller."""

    def __init__(self):
        self.on_room = None
        self.told = []
        self.has_room = True

    def head(self, status, headers):
        self.told.append((status, headers))

    def data(self, data):
        self.told.append(data)
        return self.has_room

    def end(self):
        self.told.append("end")


# Answers


async def _later(book):
    first = await claim(book)
    assert isinstance(first, Claim)
    first.finish(200, [JSON], b'{"a":1}')
    return await claim(book)


def test_a_repeat_gets_the_same_answer_and_is_told_that_it_is_one(book):
    assert ended(_later(book)) == replay(b'{"a":1}')
    statistics = book.statistics()
    assert (statistics.running, statistics.kept, statistics.replayed) == (0, 1, 1)


def test_who_comes_while_it_runs_waits_and_gets_the_same_answer(book):
    async def run():
        first = await claim(book)
        waiting = [asyncio.ensure_future(claim(book)) for _ in range(3)]
        await turns()
        assert not any(each.done() for each in waiting)
        first.finish(200, [JSON], b"{}")
        return await asyncio.gather(*waiting)

    assert ended(run()) == [replay(b"{}")] * 3


def test_an_answer_is_kept_for_its_time(book, clock):
    async def run():
        (await claim(book)).finish(200, [JSON], b"{}")
        clock.pass_s(KEPT_S - 1)
        assert isinstance(await claim(book), Replay)
        clock.pass_s(1)
        return await claim(book)

    assert isinstance(ended(run()), Claim)
    assert book.statistics().bytes == 0


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_failure_that_may_pass_is_kept_for_nobody_and_the_next_tries_again(book, status):
    async def run():
        (await claim(book)).finish(status, [JSON], b"{}")
        return await claim(book)

    assert isinstance(ended(run()), Claim)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_refusal_of_the_request_itself_is_an_answer(book, status):
    async def run():
        (await claim(book)).finish(status, [JSON], b"{}")
        return await claim(book)

    assert ended(run()) == replay(b"{}", status)


def test_of_those_who_wait_for_a_failure_the_first_tries_again_and_the_others_wait_for_it(book):
    async def run():
        first = await claim(book)
        waiting = [asyncio.ensure_future(claim(book)) for _ in range(3)]
        await turns()
        first.finish(503, [JSON], b"{}")
        await turns()
        assert [each.done() for each in waiting] == [True, False, False]
        second = await waiting[0]
        assert isinstance(second, Claim)
        second.finish(200, [JSON], b"{}")
        return await asyncio.gather(*waiting[1:])

    assert ended(run()) == [replay(b"{}")] * 2


def test_an_owner_that_is_cancelled_leaves_it_to_the_next(book):
    async def own():
        with await claim(book):
            await asyncio.Event().wait()

    async def run():
        owner = asyncio.ensure_future(own())
        await turns()
        waiting = asyncio.ensure_future(claim(book))
        await turns()
        owner.cancel()
        return await waiting

    assert isinstance(ended(run()), Claim)


def test_one_that_waits_and_is_cancelled_takes_nobody_with_it(book):
    async def run():
        first = await claim(book)
        gone, stays = (asyncio.ensure_future(claim(book)) for _ in range(2))
        await turns()
        assert book.statistics().waiting == 2
        gone.cancel()
        await turns()
        assert book.statistics().waiting == 1
        first.finish(200, [JSON], b"{}")
        return gone.cancelled(), await stays

    assert ended(run()) == (True, replay(b"{}"))


@pytest.mark.parametrize("cancelled_first", [True, False])
def test_one_that_is_cancelled_in_the_moment_of_the_answer_takes_nobody_with_it(book, cancelled_first):
    async def run():
        first = await claim(book)
        gone, stays = (asyncio.ensure_future(claim(book)) for _ in range(2))
        await turns()
        at_once = [gone.cancel, first.abandon]
        for each in at_once if cancelled_first else reversed(at_once):
            each()
        return await stays

    assert isinstance(ended(run()), Claim)


def test_leaving_a_claim_that_is_finished_changes_nothing(book):
    async def run():
        with await claim(book) as first:
            first.finish(200, [JSON], b"1")
            first.finish(200, [JSON], b"2")
        return await claim(book)

    assert ended(run()).body == b"1"


def test_who_has_waited_for_long_enough_is_told_to_come_later(book):
    async def run():
        first = await claim(book)
        with pytest.raises(StillRunning) as refused:
            await claim(book, wait_s=0)
        first.finish(200, [JSON], b"{}")
        return refused.value

    error = ended(run())
    assert (error.status, error.code, error.param) == (409, "idempotency_in_progress", "Idempotency-Key")
    assert error.retry_after_s > 0


# Whose key, and which request


def test_the_same_key_of_somebody_else_is_another_key(book):
    async def run():
        (await claim(book, who="a")).finish(200, [JSON], b"{}")
        return await claim(book, who="b")

    assert isinstance(ended(run()), Claim)


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "running"])
def test_the_same_key_with_another_body_is_refused_while_it_runs_and_later(book, finished):
    async def run():
        first = await claim(book, body=b'{"a":1}')
        if finished:
            first.finish(200, [JSON], b"{}")
        with pytest.raises(RequestInvalid) as refused:
            await claim(book, body=b'{"a":2}')
        return refused.value

    error = ended(run())
    assert (error.status, error.code, error.param) == (409, "idempotency_conflict", "Idempotency-Key")
    assert book.statistics().conflicts == 1


def test_the_path_belongs_to_the_request():
    assert request_digest("/a", b"b") != request_digest("/ab", b"")


@pytest.mark.parametrize("key", ["", "a" * 256, "a b", "a\x7f", "ä", "\x00", "a\n"])
def test_a_key_that_is_none_is_refused(book, key):
    with pytest.raises(RequestInvalid) as refused:
        ended(claim(book, key))
    error = refused.value
    assert (error.status, error.code, error.param) == (400, "idempotency_key_invalid", "Idempotency-Key")


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255))
def test_any_visible_ascii_is_a_key(key):
    assert isinstance(ended(claim(Idempotency(1, 1 << 20, clock=HeldClock()), key)), Claim)


# Streams


def test_a_stream_is_passed_on_at_once_and_replayed_whole(book):
    async def run():
        reader = Reader()
        first = await claim(book)
        recording = first.recording(reader)
        recording.head(200, [JSON])
        assert recording.data(b"data: 1\n\n") is True
        assert reader.told == [(200, [JSON]), b"data: 1\n\n"]
        waiting = asyncio.ensure_future(claim(book))
        await turns()
        recording.data(b"data: [DONE]\n\n")
        recording.end()
        recording.finish()
        assert reader.told[-1] == "end"
        return await waiting, await claim(book)

    assert ended(run()) == (replay(b"data: 1\n\ndata: [DONE]\n\n", is_stream=True),) * 2


def test_a_slow_reader_is_felt_through_the_recording(book):
    async def run():
        reader = Reader()
        reader.has_room = False
        recording = (await claim(book)).recording(reader)
        recording.on_room = called = []
        assert reader.on_room is called
        assert recording.on_room is called
        return recording.data(b"x")

    assert ended(run()) is False


def test_a_stream_that_is_cut_is_kept_for_nobody(book):
    async def run():
        with await claim(book) as first:
            recording = first.recording(Reader())
            recording.head(200, [JSON])
            recording.data(b"data: 1\n\n")
        return await claim(book)

    assert isinstance(ended(run()), Claim)
    assert book.statistics().bytes == 0


def test_a_stream_that_never_began_is_kept_for_nobody(book):
    async def run():
        (await claim(book)).recording(Reader()).finish()
        return await claim(book)

    assert isinstance(ended(run()), Claim)


def test_a_stream_too_large_to_keep_goes_on_and_its_repeats_are_told_to_come_later(book):
    async def run():
        reader = Reader()
        with await claim(book) as first:
            recording = first.recording(reader)
            recording.head(200, [JSON])
            waiting = asyncio.ensure_future(claim(book))
            await turns()
            for _ in range(3):
                recording.data(b"x" * (ANSWER_BYTES_MAX // 2))
            with pytest.raises(StillRunning):
                await waiting
            with pytest.raises(StillRunning):
                await claim(book)
            recording.end()
            recording.finish()
        return reader.told, await claim(book)

    told, after = ended(run())
    assert len(told) == 5
    assert isinstance(after, Claim)
    assert book.statistics().bytes == 0


def test_a_whole_answer_too_large_to_keep_reaches_those_who_wait_and_throws_nobody_out(book):
    large = b"x" * ANSWER_BYTES_MAX

    async def run():
        (await claim(book, "other")).finish(200, [JSON], b"{}")
        first = await claim(book)
        waiting = asyncio.ensure_future(claim(book))
        await turns()
        first.finish(200, [JSON], large)
        return await waiting, await claim(book), await claim(book, "other")

    waited, after, other = ended(run())
    assert waited.body == large
    assert isinstance(after, Claim)
    assert isinstance(other, Replay)


# Bounds


def test_without_room_the_answer_kept_first_goes_first(clock):
    book = Idempotency(KEPT_S, 10 * OVERHEAD_BYTES, clock=clock, answers_max=3)

    async def run():
        for each in "abcd":
            (await claim(book, each)).finish(200, [JSON], b"")
        kept = [isinstance(await claim(book, each), Replay) for each in "bcda"]
        (await claim(book, "e")).finish(200, [JSON], b"x" * (8 * OVERHEAD_BYTES))
        return kept, book.statistics()

    kept, statistics = ended(run())
    assert kept == [True, True, True, False]
    assert (statistics.kept, statistics.bytes) == (2, 10 * OVERHEAD_BYTES)


def test_what_is_recorded_counts_and_makes_room_but_what_is_under_way_is_never_thrown_out(clock):
    book = Idempotency(KEPT_S, 4 * OVERHEAD_BYTES, clock=clock)

    async def run():
        (await claim(book, "kept")).finish(200, [JSON], b"x" * OVERHEAD_BYTES)
        one, two = [(await claim(book, each)).recording(Reader()) for each in ("one", "two")]
        for each in (one, two):
            each.head(200, [JSON])
        one.data(b"x" * 3 * OVERHEAD_BYTES)
        assert book.statistics().kept == 0
        two.data(b"x" * 2 * OVERHEAD_BYTES)
        assert book.statistics().bytes == 3 * OVERHEAD_BYTES
        for each in (one, two):
            each.end()
            each.finish()
        return await claim(book, "one"), await claim(book, "two")

    one, two = ended(run())
    assert isinstance(one, Replay)
    assert isinstance(two, Claim)


class KeysBesideTheirModel(RuleBasedStateMachine):
    """For a few keys: at most one owner at a time, everyone else waits, and all hear of the same end."""

    BYTES_MAX = 8 * OVERHEAD_BYTES

    @initialize()
    def begin(self):
        self.loop = asyncio.new_event_loop()
        self.clock = HeldClock()
        self.book = Idempotency(30, self.BYTES_MAX, clock=self.clock, answers_max=4)
        self.owners = {}  # key → claim
        self.waiting = {}  # key → tasks, in order
        self.kept = {}  # key → (body, ends_s); what was kept first stands first
        self.number = 0

    def teardown(self):
        if hasattr(self, "loop"):
            for each in [task for tasks in self.waiting.values() for task in tasks]:
                each.cancel()
            self.settle_down()
            self.loop.close()

    def settle_down(self):
        self.loop.run_until_complete(turns(8))

    @rule(seconds=st.integers(1, 20))
    def pass_time(self, seconds):
        self.clock.pass_s(seconds)

    @rule(key=st.sampled_from("abcdef"))
    def ask(self, key):
        task = self.loop.create_task(claim(self.book, key, key.encode()))
        self.settle_down()
        self.kept = {each: held for each, held in self.kept.items() if held[1] > self.clock.monotonic_s()}
        if key in self.owners:
            assert not task.done()
            self.waiting.setdefault(key, []).append(task)
        elif key in self.kept:
            assert task.result() == replay(self.kept[key][0])
        else:
            self.owners[key] = task.result()
            assert isinstance(task.result(), Claim)

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), size=st.integers(0, 3 * OVERHEAD_BYTES))
    def answer(self, data, size):
        key = data.draw(st.sampled_from(sorted(self.owners)))
        self.number += 1
        body = b"%d" % self.number + b"x" * size
        self.owners.pop(key).finish(200, [JSON], body)
        self.settle_down()
        for task in self.waiting.pop(key, []):
            assert task.result() == replay(body)
        self.kept[key] = (body, self.clock.monotonic_s() + 30)
        while len(self.kept) > 4 or self.kept_bytes() > self.BYTES_MAX:
            del self.kept[next(iter(self.kept))]

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), status=st.sampled_from([0, 429, 503]))
    def fail(self, data, status):
        key = data.draw(st.sampled_from(sorted(self.owners)))
        owner = self.owners.pop(key)
        if status:
            owner.finish(status, [], b"")
        else:
            owner.abandon()
        self.settle_down()
        waiting = self.waiting.pop(key, [])
        if waiting:
            self.owners[key] = waiting[0].result()
            assert isinstance(self.owners[key], Claim)
            assert not any(each.done() for each in waiting[1:])
            self.waiting[key] = waiting[1:]

    @precondition(lambda self: any(self.waiting.values()))
    @rule(data=st.data())
    def leave(self, data):
        key = data.draw(st.sampled_from(sorted(key for key, tasks in self.waiting.items() if tasks)))
        place = data.draw(st.integers(0, len(self.waiting[key]) - 1))
        self.waiting[key].pop(place).cancel()
        self.settle_down()

    @precondition(lambda self: hasattr(self, "book"))
    @invariant()
    def counted(self):
        statistics = self.book.statistics()
        assert statistics.running == len(self.owners)
        assert statistics.bytes <= self.BYTES_MAX

    def kept_bytes(self):
        return sum(len(body) + OVERHEAD_BYTES for body, _ in self.kept.values())


TestKeysBesideTheirModel = KeysBesideTheirModel.TestCase
