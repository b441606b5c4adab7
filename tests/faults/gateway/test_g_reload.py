"""G17: the configuration changes while requests run. Each keeps the one it began with; what is known of providers stays."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings, strategies as st

from gateways import Gathered, request_of, rig, row_of, settings_of, settled
from leeward.errors import ConfigError
from leeward.gateway.failures import AllFailed, GatewayError, ModelNotFound
from leeward.gateway.faults import Fault


def run(steps):
    asyncio.run(steps())


def version(found, number, *names, **more):
    """A configuration whose every part bears its number: models, keys, static answer."""
    rows = [
        row_of(
            found[name],
            api_key=f"sk-{name}-{number}",
            models={"chat": f"{name}-v{number}", "small": f"{name}-small-v{number}"},
        )
        for name in names
    ]
    routes = [
        {"model": "chat", "providers": names, "fallback": ["smaller-model", "static"], "smaller_model": "small",
         "static_answer": f"static v{number}"},
        {"model": "small", "providers": names},
    ]  # fmt: skip
    return settings_of(*rows, routes=routes, **more)


def versions_on_the_wire(provider):
    """Of each call: the version of its key and of its model."""
    return [
        (request.header("authorization").rpartition("-")[2], json.loads(request.body)["model"].rpartition("v")[2])
        for request in provider.received
    ]


# asyncio itself drops a connection that is accepted while its loop comes to an end.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=8), st.randoms())
@settings(max_examples=25)
def test_g17_no_request_sees_a_mix_of_two_configurations(plan, dice):
    """Requests and reloads in any order; half of the calls fail, so that requests live through reloads."""

    async def steps():
        async with rig("a", "b", "c", provider={"received_max": 10_000}) as found:
            for name in "abc":
                found[name].fault = Fault(mode="slow", delay_s=0.002)
            await found.core.reload(version(found, 0, "a", "b"))
            asked, number = [], 0
            for fails, streams, reloads in plan:
                for name in "abc":
                    found[name].fault = Fault(mode="503", share=0.5) if fails else Fault(mode="slow", delay_s=0.002)
                asked += [asyncio.ensure_future(outcome_of(found, stream=streams)) for _ in range(4)]
                for _ in range(dice.randrange(30)):
                    await asyncio.sleep(0)
                if reloads:
                    number += 1
                    await found.core.reload(version(found, number, *dice.sample("abc", 2)))
            answers = await asyncio.gather(*asked)
            for provider in found.providers.values():
                assert all(key == model for key, model in versions_on_the_wire(provider))
            for attempts, text in answers:
                numbers = {model.rpartition("v")[2] for model in attempts}
                if text.startswith("static"):
                    numbers.add(text.removeprefix("static v"))
                assert len(numbers) == 1, (attempts, text)

    async def outcome_of(found, *, stream):
        sink = Gathered()
        if stream:
            record = await found.core.respond_stream(request_of(stream=True), found.caller(), sink)
            return [attempt.model for attempt in record.attempts], sink.text
        caller = found.caller()
        answered = await found.core.respond(request_of(), caller)
        record = next(each for each in found.notes.requests if each.caller is caller)
        text = json.loads(answered.body)["choices"][0]["message"]["content"]
        return [attempt.model for attempt in record.attempts], text

    run(steps)


def test_g17_a_smaller_model_is_that_of_the_configuration_the_request_began_with():
    async def steps():
        async with rig("a", "b", provider={"received_max": 100}) as found:
            await found.core.reload(version(found, 1, "a"))
            found["a"].fault = Fault(mode="slow", delay_s=0.05)
            asked = asyncio.ensure_future(found.ask())
            await settled(lambda: found["a"].calls == 1)
            found["a"].fault = "401"  # for the next call
            await found.core.reload(version(found, 2, "b"))
            assert (await asked).provider == "a"
            found["b"].fault = Fault(mode="malformed")
            found["a"].fault = None  # it would answer, if anybody asked it
            asked = asyncio.ensure_future(found.ask())
            await asyncio.sleep(0)
            await found.core.reload(version(found, 3, "a"))
            answered = await asked
            assert answered.degraded == "static"
            assert json.loads(answered.body)["choices"][0]["message"]["content"] == "static v2"
            assert {model for _, model in versions_on_the_wire(found["b"])} == {"2"}

    run(steps)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_g17_the_requests_of_a_removed_provider_finish(stream):
    async def steps():
        async with rig("old", "new") as found:
            await found.core.reload(version(found, 1, "old"))
            found["old"].fault = Fault(mode="slow", delay_s=0.1)
            asked = asyncio.ensure_future(found.answer(stream=stream))
            await settled(lambda: found["old"].calls == 1)
            await found.core.reload(version(found, 2, "new"))
            assert (await found.ask()).provider == "new"
            assert (await asked)[1] == "old"
            assert [status.name for status in found.core.providers()] == ["new"]

    run(steps)


def test_g17_the_same_address_key_and_model_keep_their_circuit_and_a_new_key_gets_a_new_one():
    async def steps():
        async with rig("a") as found:
            found["a"].fault = "500"
            for _ in range(3):
                with pytest.raises(GatewayError):
                    await found.ask()
            assert found.core.providers()[0].breaker == "open"
            await found.core.reload(settings_of(row_of(found["a"]), language="de"))
            assert found.core.providers()[0].breaker == "open"
            await found.core.reload(settings_of(row_of(found["a"], api_key="sk-new")))
            assert found.core.providers()[0].breaker == "closed"
            await found.core.reload(settings_of(row_of(found["a"], api_key="sk-new", models={"chat": "other"})))
            assert found.core.providers()[0].breaker == "closed"

    run(steps)


def test_g17_a_provider_that_did_not_change_keeps_its_connections():
    async def steps():
        async with rig("a") as found:
            for number in range(5):
                await found.ask()
                await found.core.reload(settings_of(row_of(found["a"], api_key=f"sk-{number}")))
            assert found["a"].connections == 1

    run(steps)


def test_g17_a_configuration_that_cannot_be_used_changes_nothing():
    async def steps():
        async with rig("a") as found:
            before = found.core.routes
            bad = [
                settings_of(row_of(found["a"], base_url="http://169.254.169.254/v1")),
                settings_of(row_of(found["a"], api_key="sk with spaces")),
                settings_of(row_of(found["a"], kind="simulated", base_url=""), row_of(found["a"], api_key="\n")),
            ]
            for settings_ in bad:
                with pytest.raises(ConfigError):
                    await found.core.reload(settings_)
            assert found.core.routes is before
            assert found.core.homes.simulated == {}, "nothing was started for it"
            assert (await found.ask()).provider == "a"

    run(steps)


def test_g17_kept_answers_and_the_budget_outlive_a_reload():
    async def steps():
        async with rig("a") as found:
            row = row_of(found["a"])
            routes = [{"model": "chat", "fallback": ["cache"]}]
            await found.core.reload(settings_of(row, routes=routes))
            await found.ask()
            await found.core.reload(settings_of(row, routes=routes, retry={"budget": 0.5}, cache={"ttl_s": 10.0}))
            assert found.core.budget.statistics().requests == 1
            assert found.core.budget.ratio == 0.5
            found["a"].fault = "malformed"
            assert (await found.ask()).degraded == "cache"

    run(steps)


def test_g17_a_route_that_is_gone_is_gone_at_once():
    async def steps():
        async with rig("a") as found:
            await found.core.reload(settings_of(row_of(found["a"], models={"other": "m"})))
            with pytest.raises(ModelNotFound, match="other"):
                await found.ask()
            found["a"].fault = "malformed"
            with pytest.raises(AllFailed):
                await found.ask(model="other")

    run(steps)
