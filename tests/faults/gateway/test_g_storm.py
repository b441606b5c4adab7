"""Crowds: storms of 429, providers that flap or crawl, looks that lie. What the providers get is counted on the wire."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateways import request_of, rig, settled
from leeward.gateway import home
from leeward.gateway.failures import AllCircuitsOpen, AllFailed, AllLimited, GatewayError, Unsupported
from leeward.gateway.faults import Fault
from resilience_clock import HandClock


def run(steps):
    asyncio.run(steps())


async def all_of(found, count, *, at_a_time=32, stream=False):
    """So many requests, some at a time: answers and errors."""
    room = asyncio.Semaphore(at_a_time)

    async def one():
        async with room:
            try:
                return await (found.stream() if stream else found.ask())
            except GatewayError as error:
                return error

    return await asyncio.gather(*(one() for _ in range(count)))


# -- G5


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("retry_after_s", [0, 20])
def test_g5_a_storm_of_429_is_not_made_worse(retry_after_s, stream):
    async def steps():
        async with rig("a", "b", "c") as found:
            for provider in found.providers.values():
                provider.fault = Fault(mode="429", retry_after_s=retry_after_s)
            async with asyncio.timeout(15):  # nobody sits out a Retry-After of 20 s
                results = await all_of(found, 300, at_a_time=1, stream=stream)
            assert {type(result) for result in results} == {AllLimited}
            assert found.calls <= 1.1 * 300 + 3 + 3  # each provider once, and what the budget has to begin with

    run(steps)


def test_g5_when_all_are_limited_the_answer_is_429_at_once_with_the_smallest_retry_after_and_no_call():
    async def steps():
        async with rig("a", "b", deadline_s=5.0) as found:
            found["a"].fault = Fault(mode="429", retry_after_s=20)
            found["b"].fault = Fault(mode="429", retry_after_s=10)
            with pytest.raises(AllLimited) as caught:
                await found.ask()
            assert caught.value.retry_after_s == pytest.approx(10, abs=0.5)
            calls = found.calls
            for stream in (False, True):
                with pytest.raises(AllLimited) as caught:
                    await found.answer(stream=stream)
                assert (caught.value.status, caught.value.code) == (429, "rate_limited")
                assert caught.value.retry_after_s == pytest.approx(10, abs=0.5)
                assert caught.value.attempts == 0
            assert found.calls == calls

    run(steps)


def test_g5_a_provider_that_is_limited_is_not_asked_while_another_is_well():
    async def steps():
        async with rig("limited", "well") as found:
            found["limited"].fault = Fault(mode="429", retry_after_s=20)
            for _ in range(200):
                assert (await found.ask()).provider == "well"
            assert found["limited"].calls == 1
            assert [change[2:4] for change in found.notes.changes] == [("limit", "limited")]

    run(steps)


def test_g5_a_storm_from_many_at_once_costs_each_provider_no_more_than_those_that_were_on_their_way():
    async def steps():
        async with rig("limited", "well") as found:
            found["limited"].fault = Fault(mode="429", retry_after_s=20)
            results = await all_of(found, 200, at_a_time=200)
            assert {result.provider for result in results} == {"well"}
            assert found["limited"].calls <= 200
            before = found["limited"].calls
            await all_of(found, 200, at_a_time=200)
            assert found["limited"].calls == before

    run(steps)


def test_g5_after_the_wait_one_call_goes_first_and_the_others_follow_when_it_was_answered():
    async def steps():
        async with rig("a", "b") as found:
            found["a"].fault = Fault(mode="429", retry_after_s=0.05)
            await found.ask()
            found["a"].fault = Fault(mode="slow", delay_s=0.1)
            await asyncio.sleep(0.06)
            results = await all_of(found, 50, at_a_time=50)
            assert sum(result.provider == "a" for result in results) == 1
            assert (await found.ask()).provider == "a"

    run(steps)


def test_g5_a_stream_that_goes_on_for_long_does_not_keep_the_others_waiting_after_a_limit():
    async def steps():
        async with rig("only", provider={"pace_s": 0.02}, retry={"max_attempts": 1}) as found:
            found["only"].fault = Fault(mode="429", retry_after_s=0.0)
            with pytest.raises(AllLimited):
                await found.ask(request_of())
            found["only"].fault = None
            begun = asyncio.ensure_future(found.stream())
            await settled(lambda: found.notes.changes[-1][2:4] == ("limit", "over"))
            assert not begun.done()
            assert (await found.ask()).provider == "only"
            assert (await begun).is_done

    run(steps)


def test_g5_a_short_wait_is_waited_out_where_the_time_allows_it():
    async def steps():
        async with rig("only", retry={"cap_s": 0.05}) as found:
            found["only"].fault = Fault(mode="429", retry_after_s=0.05)
            asked = asyncio.ensure_future(found.ask())
            await settled(lambda: found.notes.attempts)
            found["only"].fault = None
            assert (await asked).attempts == 2

    run(steps)


# -- G6


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("mode", ["500", "reset", "malformed"])
def test_g6_three_failures_in_a_row_open_the_circuit_and_200_requests_hit_it_no_more(mode, stream):
    async def steps():
        async with rig("bad", "well") as found:
            found["bad"].fault = mode
            for _ in range(200):
                _, provider, _ = await found.answer(stream=stream)
                assert provider == "well"
            assert found["bad"].calls <= 4 + found.transport.statistics().races
            assert ("bad", "bad-large", "breaker", "open") in [change[:4] for change in found.notes.changes]

    run(steps)


def test_g6_one_probe_at_a_time_asks_whether_it_is_well_again_and_then_all_come_back():
    async def steps():
        clock = HandClock()
        async with rig("bad", "well", clock=clock) as found:
            found["bad"].fault = "500"
            await all_of(found, 20, at_a_time=1)
            found["bad"].fault = Fault(mode="slow", delay_s=0.15)
            calls = found["bad"].calls
            clock.sleep(6.5)
            results = await all_of(found, 50, at_a_time=50)
            assert found["bad"].calls == calls + 1
            assert sum(result.provider == "bad" for result in results) == 1
            states = [change[3] for change in found.notes.changes if change[2] == "breaker"]
            assert states == ["open", "closed"]
            found["bad"].fault = None
            assert (await found.ask()).provider == "bad"

    run(steps)


def test_g6_the_last_provider_is_never_left_alone_in_silence():
    async def steps():
        async with rig("only", breaker={"open_s": 0.25, "open_max_s": 0.25}) as found:
            found["only"].fault = "500"
            results = await all_of(found, 10, at_a_time=1)
            assert {type(result) for result in results} == {AllFailed, AllCircuitsOpen}
            refused = [result for result in results if type(result) is AllCircuitsOpen]
            assert all(error.retry_after_s >= 1 for error in refused)
            found["only"].fault = None
            async with asyncio.timeout(5):
                while True:
                    try:
                        await found.ask()
                        break
                    except AllCircuitsOpen:
                        await asyncio.sleep(0.005)
            assert ("breaker", "forced-probe") in [change[2:4] for change in found.notes.changes]
            assert (await found.ask()).provider == "only"

    run(steps)


def test_g6_forced_probes_are_one_at_a_time_and_cost_no_budget():
    async def steps():
        async with rig("only", breaker={"open_s": 5.0}) as found:
            found["only"].fault = "500"
            await all_of(found, 5, at_a_time=1)
            calls, taken = found.calls, found.core.budget.statistics().taken
            results = await all_of(found, 100, at_a_time=100)
            assert {type(result) for result in results} == {AllCircuitsOpen}
            assert found.calls == calls
            assert found.core.budget.statistics().taken == taken

    run(steps)


# -- G7


def test_g7_a_provider_that_crawls_is_left_and_the_others_are_as_quick_as_ever():
    async def steps():
        breaker = {"slow_s": 0.01, "min_calls": 5}
        async with rig(
            "slow",
            "well",
            breaker=breaker,
            routes=[
                {"model": "chat", "providers": ["slow", "well"]},
            ],
        ) as found:
            found["slow"].fault = Fault(mode="slow", delay_s=0.03)
            for _ in range(20):
                await found.ask()
            assert found["slow"].calls <= 7
            assert ("breaker", "open", "slow_rate") in [change[2:] for change in found.notes.changes]
            assert (await found.ask()).provider == "well"

    run(steps)


def test_g7_a_provider_that_hangs_takes_nothing_from_the_others():
    async def steps():
        rows = {"hangs": {"connections_max": 5, "models": {"one": "m"}}, "well": {"models": {"two": "m"}}}
        async with rig("hangs", "well", rows=rows) as found:
            found["hangs"].fault = "hang"
            hanging = [asyncio.ensure_future(found.ask(model="one")) for _ in range(5)]
            await settled(lambda: found["hangs"].calls == 5)
            for _ in range(50):
                assert (await found.ask(model="two")).provider == "well"
            for _ in range(5):
                with pytest.raises(AllCircuitsOpen) as busy:
                    await found.ask(model="one")
                assert busy.value.retry_after_s == 1.0
            assert {(each.outcome, each.detail) for each in found.notes.attempts[50:]} == {("busy", "pool_full")}
            assert [status.breaker for status in found.core.providers()] == ["closed", "closed"]
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)

    run(steps)


# -- G16


def test_g16_a_provider_that_cannot_do_it_is_not_asked_and_the_answer_says_who_served():
    tool = {"type": "function", "function": {"name": "clock", "parameters": {}}}
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}]}
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
    long = [{"role": "user", "content": "word " * 4000}]
    needs = {
        "tools": {"tools": [tool]},
        "images": {"messages": [image]},
        "response_format": {"response_format": schema},
        "messages": {"messages": long},
    }

    async def steps():
        plain = {"name": "plain-model", "tools": False, "images": False, "json_schema": False, "context_tokens": 1000}
        rows = {"plain": {"models": {"chat": plain}}}
        async with rig("plain", "able", rows=rows) as found:
            assert (await found.ask()).provider == "plain"
            for fields in needs.values():
                for stream in (False, True):
                    request = request_of(stream=stream, **fields)
                    provider = (
                        (await found.stream(request)).headers["x-leeward-provider"]
                        if stream
                        else (await found.ask(request)).provider
                    )
                    assert provider == "able"
            assert found["plain"].calls == 1
        async with rig("plain", rows=rows) as found:
            for field, fields in needs.items():
                with pytest.raises(Unsupported) as caught:
                    await found.ask(request_of(**fields))
                assert (caught.value.status, caught.value.param) == (400, field)
            assert found.calls == 0
            assert [request.outcome for request in found.notes.requests] == ["refused"] * 4

    run(steps)


def test_g16_the_answer_names_the_model_that_served():
    async def steps():
        async with rig("bad", "well") as found:
            found["bad"].fault = "500"
            answered = await found.ask()
            assert json.loads(answered.body)["model"] == "well-large"
            assert found.notes.attempts[-1].answered_model == "well-large"

    run(steps)


# -- G18


def test_g18_a_look_that_lies_changes_nothing_for_those_who_are_failed(monkeypatch):
    """GET /models is answered well throughout; the calls are not."""

    async def steps():
        async with rig("liar", "well", health={"active": True, "interval_s": 0.02}) as found:
            found["liar"].fault = Fault(mode="malformed")
            async with asyncio.timeout(10):
                while found["liar"].looks < 10:
                    assert (await found.ask()).provider == "well"
                    await asyncio.sleep(0.005)
            status = found.core.providers()[0]
            assert status.health == "unhealthy"
            assert status.breaker == "open"
            assert found["liar"].calls <= 4

    monkeypatch.setattr(home, "LOOK_EVERY_S", 0.01)
    run(steps)


def test_g18_nobody_looks_where_there_is_traffic(monkeypatch):
    async def steps():
        async with rig("busy", "idle", health={"active": True, "interval_s": 0.3}) as found:
            async with asyncio.timeout(10):
                while found["idle"].looks < 2:
                    await found.ask()
                    await asyncio.sleep(0.002)
            assert found["busy"].looks == 0
            assert found["idle"].calls == 0, "a look is no call"

    monkeypatch.setattr(home, "LOOK_EVERY_S", 0.01)
    run(steps)
