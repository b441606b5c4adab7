"""One request through its calls: what its headers say, what is kept of it, and whose time it is."""

from __future__ import annotations

import asyncio

import pytest

from gateways import request_of, rig
from leeward.gateway.failures import DeadlineExceeded
from leeward.gateway.faults import Fault
from leeward.gateway.run import CACHED_STREAM_BYTES_MAX, answer_headers
from upstreams import answer as refusal, serving

KEEPING = [{"model": "chat", "fallback": ["cache"]}]


def run(steps):
    asyncio.run(steps())


def test_an_answer_says_who_gave_it_and_after_how_many_calls():
    assert answer_headers("a", 2) == [(b"x-leeward-provider", b"a"), (b"x-leeward-attempts", b"2")]
    assert answer_headers("", 0, "static")[::2] == [
        (b"x-leeward-provider", b"none"),
        (b"x-leeward-degraded", b"static"),
    ]


@pytest.mark.parametrize(
    ("words", "routes", "answers"),
    [(10, KEEPING, 1), (10, [{"model": "chat"}], 0), (CACHED_STREAM_BYTES_MAX // 100, KEEPING, 0)],
    ids=["kept", "not-wanted", "too-large"],
)
def test_a_stream_is_kept_where_a_step_may_want_it_and_it_is_not_too_large(words, routes, answers):
    async def steps():
        async with rig("a", routes=routes, provider={"words": words, "events_per_write": 50}) as found:
            assert (await found.stream()).is_done
            assert found.core.cache.statistics().answers == answers

    run(steps)


def test_a_stream_that_was_cut_is_not_kept():
    async def steps():
        async with rig("a", routes=KEEPING) as found:
            found["a"].fault = Fault(mode="cut", after_events=3)
            await found.stream()
            assert found.core.cache.statistics().answers == 0

    run(steps)


def test_the_steps_that_stand_in_have_what_is_left_of_the_time():
    async def steps():
        routes = [
            {"model": "chat", "providers": ["a"], "fallback": ["smaller-model"], "smaller_model": "small"},
            {"model": "small", "providers": ["b"]},
        ]
        rows = {"b": {"models": {"small": "tiny"}}}
        limits = {"deadline_s": 0.3, "first_token_timeout_s": 0.2}
        async with rig("a", "b", rows=rows, routes=routes, **limits) as found:
            found["a"].fault = found["b"].fault = "hang"
            with pytest.raises(DeadlineExceeded):
                await found.ask()
            first, second = found.notes.attempts
            assert (first.provider, second.provider) == ("a", "b")
            assert second.duration_s < 0.19
            assert found.notes.requests[0].duration_s == pytest.approx(0.3, abs=0.1)

    run(steps)


def test_g14_what_a_provider_says_is_told_without_key_and_prompt():
    said = b'{"error": {"message": "The key sk-bad is not allowed to hear of your diaries", "type": "x"}}'

    async def steps():
        async with serving([refusal(said, status="401 No")]) as (_, endpoint):
            rows = {"bad": {"base_url": f"http://127.0.0.1:{endpoint.origin.port}/v1"}}
            async with rig("bad", "good", rows=rows) as found:
                await found.ask(request_of(text="my diaries"))
                assert "is not allowed to hear of your" in found.notes.whys[0]
                assert not any("sk-bad" in why or "diaries" in why for why in found.notes.whys)

    run(steps)
