"""G8 and G19: what calls may cost whose answer nobody got. It is counted and estimated; repeats are known as such."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from gateways import Gathered, rig, settled
from leeward.gateway.failures import AllFailed, GatewayError
from leeward.gateway.faults import Fault
from leeward.gateway.metrics import GatewayMetrics
from leeward.gateway.simulated import SimulatedProvider

SHORT = {"first_token_timeout_s": 0.15, "stall_timeout_s": 0.15, "connect_timeout_s": 0.15, "deadline_s": 10.0}
PRICED = {"bad": {"models": {"chat": {"name": "m", "input_price": 1.0, "output_price": 4.0}}}}
PROMPT = "word " * 400
PROMPT_TOKENS = len(PROMPT) // 4


def run(steps):
    asyncio.run(steps())


def counted(notes) -> Counter[str]:
    """Calls that may be billed, by provider, as the metrics have them."""
    metrics = GatewayMetrics()
    for request in notes.requests:
        for attempt in request.attempts:
            metrics.attempted(request, attempt, "")
    return metrics.maybe_billed


@pytest.mark.parametrize("mode", ["hang", "reset", "malformed", "cut"])
def test_g19_a_call_that_left_and_brought_no_answer_is_counted_as_one_that_may_be_billed(mode):
    async def steps():
        async with rig("bad", "good", **SHORT) as found:
            found["bad"].fault = mode
            assert (await found.ask()).provider == "good"
            assert counted(found.notes) == {"bad": 1}

    run(steps)


@pytest.mark.parametrize("mode", ["400", "401", "429", "500"])
def test_g19_a_call_that_was_refused_is_not_counted(mode):
    async def steps():
        async with rig("bad") as found:
            found["bad"].fault = Fault(mode=mode, retry_after_s=0)
            with pytest.raises(GatewayError):
                await found.ask()
            assert found.notes.attempts
            assert counted(found.notes) == {}

    run(steps)


def test_g19_a_call_that_never_left_costs_nothing():
    async def steps():
        unused = SimulatedProvider("bad")
        await unused.start()
        port = unused.port
        await unused.stop()
        async with rig("bad", "good", rows={"bad": {"base_url": f"http://127.0.0.1:{port}/v1"}}) as found:
            await found.ask()
            lost, _ = found.notes.attempts
            assert (lost.billed, lost.estimate) == (None, None)
            assert counted(found.notes) == {}

    run(steps)


def test_g19_a_call_that_ran_out_of_time_is_estimated_by_its_prompt_and_stands_in_the_sums():
    async def steps():
        async with rig("bad", "good", rows=PRICED, **SHORT) as found:
            found["bad"].fault = "hang"
            await found.ask(text=PROMPT)
            (request,) = found.notes.requests
            lost, good = request.attempts
            assert lost.usage is None
            assert PROMPT_TOKENS <= lost.billed.input_tokens <= PROMPT_TOKENS + 20
            assert lost.cost == pytest.approx(lost.billed.input_tokens / 1_000_000)
            told = good.usage.input_tokens + good.usage.output_tokens
            assert request.tokens == lost.billed.input_tokens + told

    run(steps)


def test_g8_a_stream_that_its_caller_leaves_is_estimated_by_what_had_come():
    async def steps():
        async with rig("bad", rows=PRICED, provider={"words": 10_000, "pace_s": 0.001}) as found:
            sink = Gathered()
            asked = asyncio.ensure_future(found.stream(sink=sink, text=PROMPT))
            await settled(lambda: len(sink.pieces) > 5)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            (left,) = found.notes.attempts
            assert left.outcome == "cancelled"
            assert PROMPT_TOKENS <= left.billed.input_tokens <= PROMPT_TOKENS + 20
            assert left.billed.output_tokens >= len(sink.events) > 5
            assert left.cost == pytest.approx((left.billed.input_tokens + 4 * left.billed.output_tokens) / 1_000_000)
            assert counted(found.notes) == {"bad": 1}

    run(steps)


def test_g19_all_calls_of_a_request_bear_one_idempotency_key_and_those_of_another_request_another():
    async def steps():
        breaker = {"consecutive_failures": 1000, "failure_rate": 1.0}
        async with rig("a", "b", breaker=breaker, retry={"budget": 1.0}) as found:
            keys = []
            for _ in range(2):
                for name in "ab":
                    found[name].received.clear()
                    found[name].fault = Fault(mode="503", retry_after_s=0)
                with pytest.raises(AllFailed):
                    await found.ask()
                calls = [*found["a"].received, *found["b"].received]
                assert len(calls) > 2, "somebody was asked again"
                keys.append({each.header("idempotency-key") for each in calls})
            assert [len(some) for some in keys] == [1, 1]
            assert keys[0] != keys[1]
            assert "" not in keys[0] | keys[1]

    run(steps)
