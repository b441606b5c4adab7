"""Callers that leave, in every moment, by the thousand; and what is left of requests when they are over: nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import random
from pathlib import Path

import pytest
import uvloop

from gateways import Gathered, request_of, rig, settled
from leeward.gateway.failures import AllFailed
from leeward.gateway.faults import Fault

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run(steps, loop="asyncio"):
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(steps())


async def leave(task: asyncio.Future) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- G8


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("mode", ["hang", "stall", "slow-first-token"])
def test_g8_a_caller_who_leaves_takes_the_call_along(mode, stream, loop):
    async def steps():
        async with rig("a", "b") as found:
            found["a"].fault = Fault(mode=mode, delay_s=30.0)
            asked = asyncio.ensure_future(found.answer(stream=stream))
            await settled(lambda: found["a"].calls == 1)
            await asyncio.sleep(0.01)
            await leave(asked)
            await settled(lambda: not found["a"].open, within_s=0.1)
            assert found["a"].cancelled == 1
            assert found["b"].calls == 0
            assert found.permits.open == 0
            assert found.notes.outcomes == ["cancelled"]
            assert [request.outcome for request in found.notes.requests] == ["cancelled"]
            assert [model.failures for each in found.core.providers() for model in each.models] == [0, 0]

    run(steps, loop)


def test_g8_a_caller_who_leaves_a_running_stream_stops_the_provider():
    async def steps():
        async with rig("a", provider={"words": 10_000, "pace_s": 0.001}) as found:
            sink = Gathered()
            asked = asyncio.ensure_future(found.stream(sink=sink))
            await settled(lambda: len(sink.pieces) > 5)
            await leave(asked)
            await settled(lambda: not found["a"].open)
            pieces = len(sink.pieces)
            await asyncio.sleep(0.01)
            assert len(sink.pieces) == pieces
            assert found.notes.attempts[0].first_token_s is not None

    run(steps)


def test_g8_a_caller_who_leaves_while_we_connect_leaves_nothing():
    async def steps():
        rows = {"a": {"base_url": "http://127.0.0.1:1/v1"}}
        async with rig("a", "b", rows=rows) as found:
            for passes in range(6):
                asked = asyncio.ensure_future(found.ask())
                for _ in range(passes):
                    await asyncio.sleep(0)
                if not asked.done():
                    asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
                await found.assert_still()

    run(steps)


def test_g8_a_caller_who_leaves_while_a_repeat_is_waited_for_leaves_nothing():
    async def steps():
        async with rig("a", retry={"cap_s": 60.0}) as found:
            found["a"].fault = Fault(mode="429", retry_after_s=30)
            asked = asyncio.ensure_future(found.ask())
            await settled(lambda: found.notes.attempts)
            await asyncio.sleep(0.01)
            await leave(asked)
            assert found.notes.outcomes == ["rate_limited"]
            assert found.notes.requests[0].outcome == "cancelled"

    run(steps)


def test_g8_a_probe_that_its_caller_gave_up_lets_the_next_one_probe():
    async def steps():
        async with rig("a", "b", breaker={"open_s": 0.02, "open_max_s": 0.02}) as found:
            found["a"].fault = "500"
            for _ in range(3):
                await found.ask()
            found["a"].fault = "hang"
            await asyncio.sleep(0.03)
            before = found["a"].calls
            for probe in range(1, 4):
                asked = asyncio.ensure_future(found.ask())
                await settled(lambda count=before + probe: found["a"].calls == count)
                await leave(asked)

    run(steps)


@pytest.mark.parametrize("loop", LOOPS)
def test_g8_a_thousand_disconnects_leave_no_task_socket_or_permit(loop):
    """At random moments, a few dozen at a time, whole answers and streams, while providers fail now and then."""
    rounds, at_a_time = (10_000 if HEAVY else 1_000) // 50, 50
    dice = random.Random(8)

    async def one(found):
        asked = asyncio.ensure_future(found.answer(stream=dice.random() < 0.7))
        for _ in range(dice.randrange(1, 60)):  # a task that never began would never have been a request
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    async def steps():
        breaker = {"consecutive_failures": 1000, "failure_rate": 1.0}
        async with rig("a", "b", breaker=breaker, provider={"words": 30}) as found:
            before = descriptors()
            found["a"].fault = Fault(mode="reset-mid", share=0.2, after_events=5)
            for _ in range(rounds):
                await asyncio.gather(*(one(found) for _ in range(at_a_time)))
            await found.assert_still()
            assert len(found.notes.requests) == rounds * at_a_time
            assert {request.outcome for request in found.notes.requests} >= {"cancelled", "ok"}
            found["a"].fault = None
            assert (await found.stream()).is_done
            idle = found.transport.statistics().idle
            await settled(lambda: found["a"].open + found["b"].open == idle)
            assert descriptors() <= before + 2 * idle

    run(steps, loop)


def descriptors() -> int:
    table = Path("/proc/self/fd")
    return len(list(table.iterdir())) if table.is_dir() else 0


# -- many at once


@pytest.mark.parametrize("loop", LOOPS)
def test_200_requests_at_once_get_each_their_own_answer(loop):
    async def steps():
        async with rig("a", "b") as found:
            found["a"].fault = Fault(mode="reset", share=0.3)
            embedded = [found.ask(request_of(operation="embeddings", text=f"text {n}")) for n in range(20)]
            whole = [found.answer(stream=False, text=f"question {n}") for n in range(90)]
            streamed = [found.answer(stream=True, text=f"question {n}") for n in range(90)]
            results = await asyncio.gather(*embedded, *whole, *streamed)
            assert len(results) == 200
            assert all(text for text, _, _ in results[20:])
            assert {request.outcome for request in found.notes.requests} == {"ok"}

    run(steps, loop)


# -- a slow reader


def test_g9_a_reader_who_is_slow_holds_the_provider_back():
    async def steps():
        async with rig("a", provider={"words": 50_000, "events_per_write": 50}) as found:
            sink = Gathered()
            sink.has_room = False
            asked = asyncio.ensure_future(found.stream(sink=sink))
            await settled(lambda: sink.pieces)
            await asyncio.sleep(0.1)
            size = len(sink.body)
            await asyncio.sleep(0.1)
            assert len(sink.body) == size
            assert size < 2_000_000
            sink.has_room = True
            sink.on_room()
            await asked
            assert sink.is_done
            assert len(sink.events) > 50_000

    run(steps)


# -- nothing is left


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("mode", [None, "500", "429", "malformed", "reset"])
def test_200_requests_leave_no_object_for_the_collector(mode, stream):
    """Reference cycles would have to be found; without them memory is flat though nobody looks."""

    async def steps():
        async with rig("a", "b") as found:
            found["a"].fault = mode
            for _ in range(20):  # imports, caches, the circuit's opening
                await found.answer(stream=stream)
            found.core.observer = found.notes.__class__()
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                for _ in range(200):
                    await found.answer(stream=stream)
                gc.collect()
                left = [type(each).__name__ for each in gc.garbage]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert left == []

    run(steps)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("mode", ["500", "malformed", "reset", "cut"])
def test_200_failures_leave_no_object_for_the_collector(mode, stream):
    async def steps():
        breaker = {"consecutive_failures": 1000, "failure_rate": 1.0, "min_calls": 100_000}
        async with rig("a", "b", breaker=breaker) as found:
            for name in "ab":
                found[name].fault = Fault(mode=mode, after_events=1)

            async def fail():
                try:
                    await found.answer(stream=stream)
                except (AllFailed, AssertionError):  # a stream that was cut says so, and is not done
                    pass

            for _ in range(20):
                await fail()
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                for _ in range(200):
                    await fail()
                gc.collect()
                left = [type(each).__name__ for each in gc.garbage]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert left == []

    run(steps, "uvloop")  # asyncio's own transports are cycles once they are closed
