"""Every request through the core: routes, records, headers, the start for many at once, faults of our own."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings

import pytest

from gateways import Gathered, Notes, request_of, rig, row_of, settings_of
from leeward.clock import SystemClock
from leeward.gateway.core import Core
from leeward.gateway.failures import AllFailed, ModelNotFound
from leeward.gateway.faults import Fault
from leeward.gateway.records import Caller, RequestRecord
from leeward.gateway.simulated import SimulatedProvider


def run(steps):
    return asyncio.run(steps())


def simulated(*names):
    """A core whose providers run in it."""
    rows = [{"name": name, "kind": "simulated", "models": {"chat": "m"}} for name in names]
    notes = Notes()
    return Core(settings_of(*rows), observer=notes, clock=SystemClock(), random=lambda: 0.5), notes


# -- the start


def test_many_first_requests_at_once_find_one_home():
    async def steps():
        core, notes = simulated("a", "b")
        answers = await asyncio.gather(*(core.respond(request_of(), Caller(f"r{n}")) for n in range(50)))
        assert {answered.provider for answered in answers} == {"a"}
        assert {attempt.outcome for attempt in notes.attempts} == {"ok"}, "nobody called an address that was none yet"
        assert core.homes.running().transport.statistics().requests == 50
        await core.close()

    run(steps)


def test_a_first_caller_who_leaves_takes_nobodys_home_away():
    async def steps():
        core, _ = simulated("a")
        first = asyncio.ensure_future(core.respond(request_of(), Caller("r1")))
        second = asyncio.ensure_future(core.respond(request_of(), Caller("r2")))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).provider == "a"
        assert first.cancelled()
        await core.close()

    run(steps)


def test_a_start_that_fails_can_be_tried_again(monkeypatch):
    async def steps():
        core, _ = simulated("a")
        real = SimulatedProvider.start

        async def fail(self, *args, **kwargs):
            raise OSError("no more sockets")

        monkeypatch.setattr(SimulatedProvider, "start", fail)
        with pytest.raises(OSError, match="sockets"):
            await core.start()
        monkeypatch.setattr(SimulatedProvider, "start", real)
        assert (await core.respond(request_of(), Caller("r1"))).provider == "a"
        await core.close()

    run(steps)


def test_a_second_start_changes_nothing():
    async def steps():
        core, _ = simulated("a")
        await core.start()
        home, routes = core.homes.running(), core.routes
        await core.start()
        assert core.homes.running() is home
        assert core.routes is routes
        await core.close()

    run(steps)


def test_one_loop_after_the_other_has_a_home_of_its_own():
    def three_loops():
        core, notes = simulated("a")

        async def steps():
            return await core.respond(request_of(), Caller("r"))

        assert [run(steps).provider for _ in range(3)] == ["a"] * 3
        assert [attempt.outcome for attempt in notes.attempts] == ["ok"] * 3

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # nobody closes anything: that the loops are over is the point
        three_loops()
        gc.collect()


def test_after_a_close_it_begins_anew():
    async def steps():
        core, _ = simulated("a")
        for _ in range(2):
            assert (await core.respond(request_of(), Caller("r"))).provider == "a"
            await core.close()
        assert core.homes.simulated == {}

    run(steps)


# -- what is not configured


def test_a_model_that_is_no_route_is_named_with_the_nearest_and_its_name_stays_out_of_the_records():
    async def steps():
        async with rig("a") as found:
            for stream in (False, True):
                with pytest.raises(ModelNotFound, match=r'"chatt".*Closest: chat') as caught:
                    await found.answer(stream=stream, model="chatt")
                assert (caught.value.status, caught.value.param) == (404, "model")
            assert {record.route for record in found.notes.requests} == {"other"}
            assert {record.code for record in found.notes.requests} == {"model_not_found"}
            with pytest.raises(ModelNotFound) as caught:
                await found.ask(model="x" * 10_000)
            assert len(str(caught.value)) < 300

    run(steps)


def test_without_providers_it_says_what_to_do():
    async def steps():
        core = Core(settings_of(), observer=Notes(), clock=SystemClock(), random=lambda: 0.5)
        with pytest.raises(ModelNotFound, match=r"gateway\.providers"):
            await core.respond(request_of(), Caller("r"))
        await core.close()

    run(steps)


# -- records


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_request_and_its_calls_are_told_once_each_with_what_became_of_them(stream):
    async def steps():
        prices = {"name": "large", "input_price": 1.0, "output_price": 2.0}
        rows = {name: {"models": {"chat": prices}} for name in "ab"}
        async with rig("a", "b", rows=rows) as found:
            found["a"].fault = "500"
            await found.answer(stream=stream)
            (record,) = found.notes.requests
            assert record.attempts == found.notes.attempts
            bad, good = record.attempts
            assert (record.outcome, record.provider, record.route, record.stream) == ("ok", "b", "chat", stream)
            assert (bad.provider, bad.outcome, bad.status, bad.detail) == ("a", "server_error", 500, "status_500")
            assert (good.outcome, good.status, good.finish) == ("ok", 200, "stop")
            assert good.usage is not None
            assert good.usage.output_tokens > 0
            assert record.usage == good.usage
            assert record.tokens == good.usage.input_tokens + good.usage.output_tokens
            usage = good.usage
            assert record.cost == pytest.approx((usage.input_tokens + 2 * usage.output_tokens) / 1e6)
            assert record.duration_s >= good.duration_s + bad.duration_s
            assert (record.first_token_s is not None) == stream
            assert "Simulated: the server had an error" in found.notes.whys[0]

    run(steps)


def test_records_do_not_share_their_lists():
    made = [RequestRecord(Caller("r"), "chat", "chat", False, 0) for _ in range(2)]
    made[0].attempts.append("x")
    assert made[1].attempts == []


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_g23_a_failure_is_told_with_its_code(stream):
    async def steps():
        async with rig("a") as found:
            found["a"].fault = "malformed"
            with pytest.raises(AllFailed):
                await found.answer(stream=stream)
            (record,) = found.notes.requests
            assert (record.outcome, record.code, record.provider) == ("failed", "all_providers_failed", "")

    run(steps)


# -- faults of our own


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_fault_of_our_own_is_counted_and_no_permit_is_lost(stream, monkeypatch):
    async def steps():
        async with rig("a") as found:

            def broken(*args, **kwargs):
                raise ZeroDivisionError

            with monkeypatch.context() as patch:
                patch.setattr("leeward.gateway.attempt.of_status", broken)
                found["a"].fault = "500"
                with pytest.raises(ZeroDivisionError):
                    await found.answer(stream=stream)
            assert found.permits.open == 0
            assert [request.outcome for request in found.notes.requests] == ["failed"]
            assert found.notes.outcomes == ["cancelled"]

    run(steps)


# -- embeddings


def test_embeddings_go_the_same_road():
    async def steps():
        async with rig("a", "b") as found:
            found["a"].fault = "empty"
            answered = await found.ask(request_of(operation="embeddings"))
            assert answered.provider == "b"
            assert json.loads(answered.body)["data"][0]["embedding"]
            assert found.notes.requests[0].operation == "embeddings"

    run(steps)


# -- the budget


def test_repeats_cost_of_the_budget_and_first_tries_do_not():
    async def steps():
        async with rig("a", "b") as found:
            found["a"].fault = "500"
            for _ in range(20):
                await found.ask()
            assert found.core.budget.statistics().taken == 0
            assert found.core.budget.statistics().requests == 20

    run(steps)


def test_g5_an_outage_is_not_made_worse_by_repeats():
    async def steps():
        breaker = {"consecutive_failures": 1000, "failure_rate": 1.0, "min_calls": 100_000}
        async with rig("only", breaker=breaker) as found:
            found["only"].fault = "503"
            for _ in range(300):
                with pytest.raises(AllFailed):
                    await found.ask()
            assert found["only"].calls <= 1.1 * 300 + 4

    run(steps)


def test_a_stream_that_nobody_reads_to_its_end_in_time_is_told_as_cut():
    async def steps():
        async with rig("a", deadline_s=0.2, provider={"words": 5_000, "pace_s": 0.01}) as found:
            sink = await found.stream(sink=Gathered())
            assert sink.error["code"] == "stream_interrupted"
            assert found.notes.attempts[0].detail == "deadline"

    run(steps)


def test_reload_knows_simulated_providers_that_come_and_go():
    async def steps():
        core, _ = simulated("a")
        await core.respond(request_of(), Caller("r"))
        rows = [{"name": name, "kind": "simulated", "models": {"chat": "m"}} for name in "bc"]
        await core.reload(settings_of(*rows))
        assert set(core.homes.simulated) == {"b", "c"}
        core.homes.simulated["b"].fault = Fault(mode="500")
        assert (await core.respond(request_of(), Caller("r"))).provider == "c"
        await core.close()

    run(steps)


def test_the_row_of_a_provider_is_of_no_use_to_another():
    async def steps():
        async with rig("a", "b") as found:
            await found.core.reload(settings_of(row_of(found["a"]), row_of(found["b"])))
            found["a"].fault = "500"
            await found.ask()
            assert found["a"].received[-1].header("authorization") == "Bearer sk-a"
            assert found["b"].received[-1].header("authorization") == "Bearer sk-b"

    run(steps)
