"""What stands in for an answer: step by step in the route's order, each saying what it is; tenants stay apart."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest

from gateways import data_of_all, request_of, rig, row_of, settings_of, text_of
from leeward.gateway.failures import AllFailed, RequestRefused, StreamCut, Unsupported
from leeward.gateway.faults import Fault
from resilience_clock import HandClock
from upstreams import CLOSE, answer, serving

TOOLS = [{"type": "function", "function": {"name": "clock", "parameters": {}}}]
STEPS = ("cache", "stale-cache", "smaller-model", "reduced", "static")
TTL_S, STALE_S = 100.0, 1000.0


def run(steps):
    asyncio.run(steps())


def configured(found, steps, **more):
    """`chat` at provider a with these steps, `small` at provider b."""
    return settings_of(
        row_of(found["a"]),
        row_of(found["b"], models={"small": "tiny"}),
        routes=[
            {"model": "chat", "providers": ["a"], "fallback": steps, "smaller_model": "small"},
            {"model": "small", "providers": ["b"]},
        ],
        cache={"ttl_s": TTL_S, "stale_s": STALE_S},
        breaker={"consecutive_failures": 1000, "failure_rate": 1.0, "min_calls": 100_000},
        **more,
    )


async def got(found, *, stream, tenant="", **fields):
    """Text, headers and x_leeward of an answer, in either way."""
    if stream:
        sink = await found.stream(request_of(stream=True, **fields), tenant=tenant)
        assert sink.is_done
        notes = [told["x_leeward"] for told in map(json.loads, sink.events[:-1]) if "x_leeward" in told]
        assert len(notes) <= 1
        return sink.text, sink.headers, notes[0] if notes else {}
    answered = await found.ask(request_of(**fields), tenant=tenant)
    body = json.loads(answered.body)
    headers = {name.decode(): value.decode() for name, value in answered.headers()}
    return body["choices"][0]["message"]["content"], headers, body.get("x_leeward", {})


def check(found, step, headers, note, provider="none"):
    assert headers["x-leeward-degraded"] == step
    assert headers["x-leeward-provider"] == provider
    assert (note["degraded"], note["provider"]) == (step, provider)
    record = found.notes.requests[-1]
    assert (record.outcome, record.degraded, record.provider) == ("degraded", step, provider)
    assert str(note["attempts"]) == headers["x-leeward-attempts"] == str(len(record.attempts))


both = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


@both
@pytest.mark.parametrize("first_stream", [False, True], ids=["kept-json", "kept-stream"])
def test_a_kept_answer_serves_while_it_is_fresh_and_then_as_a_stale_one_and_then_not(stream, first_stream):
    async def steps():
        clock = HandClock()
        async with rig("a", "b", clock=clock) as found:
            await found.core.reload(configured(found, ["cache", "stale-cache"]))
            original, headers, note = await got(found, stream=first_stream)
            assert "x-leeward-degraded" not in headers
            assert note == {}
            found["a"].fault = "malformed"
            clock.sleep(10)
            text, headers, note = await got(found, stream=stream)
            assert text == original
            check(found, "cache", headers, note)
            assert note["age_s"] == 10.0
            clock.sleep(TTL_S)
            text, headers, note = await got(found, stream=stream)
            assert text == original
            check(found, "stale-cache", headers, note)
            clock.sleep(STALE_S)
            with pytest.raises(AllFailed):
                await got(found, stream=stream)

    run(steps)


@both
def test_another_tenant_never_gets_it(stream):
    async def steps():
        async with rig("a", "b") as found:
            await found.core.reload(configured(found, ["cache"]))
            await got(found, stream=stream, tenant="one")
            found["a"].fault = "malformed"
            assert (await got(found, stream=stream, tenant="one"))[1]["x-leeward-degraded"] == "cache"
            for tenant in ("two", ""):
                with pytest.raises(AllFailed):
                    await got(found, stream=stream, tenant=tenant)
            with pytest.raises(AllFailed):
                await got(found, stream=stream, tenant="one", text="another question")

    run(steps)


@both
def test_a_smaller_model_answers_and_says_so(stream):
    async def steps():
        async with rig("a", "b") as found:
            await found.core.reload(configured(found, ["smaller-model"]))
            found["a"].fault = "malformed"
            text, headers, note = await got(found, stream=stream)
            assert text.startswith("Simulated answer from b")
            if stream:
                assert note
            check(found, "smaller-model", headers, note, "b")
            assert json.loads(found["b"].received[-1].body)["model"] == "tiny"

    run(steps)


@both
def test_reduced_asks_once_more_without_tools_and_only_who_asked_with_tools(stream):
    async def steps():
        async with rig("a", "b") as found:
            plain = {"name": "large", "tools": False}
            await found.core.reload(
                settings_of(
                    row_of(found["a"], models={"chat": plain}), routes=[{"model": "chat", "fallback": ["reduced"]}]
                )
            )
            text, headers, note = await got(found, stream=stream, tools=TOOLS, tool_choice="auto")
            assert text
            check(found, "reduced", headers, note, "a")
            sent = json.loads(found["a"].received[-1].body)
            assert not {"tools", "tool_choice"} & set(sent)
            found["a"].fault = "malformed"
            with pytest.raises(AllFailed):
                await got(found, stream=stream)
            assert found["a"].calls == 2, "the same is not asked again"
            with pytest.raises(Unsupported):
                await got(found, stream=stream, tools=TOOLS)

    run(steps)


@both
@pytest.mark.parametrize(("text", "language"), [("Closed.", "en"), ("", "de"), ("", "fr")])
def test_a_static_answer_is_an_answer_and_no_model_is_pretended(stream, text, language):
    async def steps():
        async with rig("a") as found:
            routes = [{"model": "chat", "fallback": ["static"], "static_answer": text}]
            await found.core.reload(settings_of(row_of(found["a"]), routes=routes, language=language))
            found["a"].fault = "malformed"
            said, headers, note = await got(found, stream=stream)
            check(found, "static", headers, note)
            assert said == text or {"de": "Sprachmodell", "fr": "modèle"}[language] in said

    run(steps)


@both
@pytest.mark.parametrize("order", list(itertools.permutations(STEPS))[::7])
def test_the_steps_are_gone_through_in_the_order_of_the_route(order, stream):
    """Each time one more step is made impossible: who comes next is the next of the route that is still possible."""

    async def steps():
        clock = HandClock()
        async with rig("a", "b", clock=clock) as found:
            await found.core.reload(configured(found, order))
            fields = {"tools": TOOLS}
            await got(found, stream=stream, **fields)
            found["a"].fault = "malformed"
            possible = {"cache", "stale-cache", "smaller-model", "static"}

            async def expect():
                text, headers, _ = await got(found, stream=stream, **fields)
                wanted = next(step for step in order if step in possible)
                assert headers["x-leeward-degraded"] == wanted
                assert text

            await expect()
            clock.sleep(TTL_S + 1)
            possible -= {"cache"}
            await expect()
            found["b"].fault = "malformed"
            possible -= {"smaller-model"}
            await expect()
            clock.sleep(STALE_S)
            possible -= {"stale-cache"}
            await expect()

    run(steps)


@both
def test_the_callers_own_mistake_gets_no_substitute(stream):
    async def steps():
        async with rig("a", "b") as found:
            await found.core.reload(configured(found, ["static"]))
            found["a"].fault = "400"
            with pytest.raises(RequestRefused):
                await got(found, stream=stream)

    run(steps)


def test_embeddings_get_no_substitute():
    async def steps():
        async with rig("a", "b") as found:
            await found.core.reload(configured(found, ["cache", "static"]))
            await found.ask(request_of(operation="embeddings"))
            found["a"].fault = "malformed"
            with pytest.raises(AllFailed):
                await found.ask(request_of(operation="embeddings"))

    run(steps)


def test_g3_a_smaller_model_that_breaks_off_says_so():
    async def steps():
        async with rig("a", "b") as found:
            await found.core.reload(configured(found, ["smaller-model", "static"]))
            found["a"].fault = "malformed"
            found["b"].fault = Fault(mode="cut", after_events=2)
            sink = await found.stream()
            assert sink.error["code"] == StreamCut.code
            assert not sink.is_done
            assert found.notes.requests[-1].outcome == "cut"

    run(steps)


def test_a_degraded_answer_is_never_kept():
    async def steps():
        async with rig("a", "b") as found:
            await found.core.reload(configured(found, ["cache", "smaller-model", "static"]))
            found["a"].fault = "malformed"
            for _ in range(2):
                assert (await got(found, stream=False))[1]["x-leeward-degraded"] == "smaller-model"
            assert found.core.cache.statistics().answers == 0

    run(steps)


def test_when_the_time_is_over_nobody_is_asked_for_something_easier():
    async def steps():
        async with rig("a", "b") as found:
            await found.core.reload(configured(found, ["smaller-model", "static"], deadline_s=0.1))
            found["a"].fault = "hang"
            _, headers, _ = await got(found, stream=False)
            assert headers["x-leeward-degraded"] == "static"
            assert found["b"].calls == 0

    run(steps)


def test_a_kept_stream_that_cannot_be_put_together_is_passed_over():
    """Its `logprobs` are no object: harmless to whoever passes it on, of no use to whoever wants it whole."""
    chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop",
                                                   "logprobs": 5}]}  # fmt: skip
    body = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
    good = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + body

    async def steps():
        async with serving([good, CLOSE], [answer(b"{}")]) as (_, endpoint), rig("a") as found:
            row = row_of(found["a"], base_url=f"http://127.0.0.1:{endpoint.origin.port}/v1")
            routes = [{"model": "chat", "fallback": ["cache", "static"]}]
            await found.core.reload(settings_of(row, routes=routes))
            sink = await found.stream()
            assert text_of(sink.body) == "Hi"
            assert len(data_of_all(sink.body)) == 2
            assert (await got(found, stream=False))[1]["x-leeward-degraded"] == "static"

    run(steps)
