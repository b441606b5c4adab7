"""Faults on purpose: simulated providers do them themselves, real ones are stood in for."""

from __future__ import annotations

import asyncio

import pytest

from control_helpers import HeldClock
from leeward.errors import ProtocolError
from leeward.gateway.chaos import Chaos, ChaosState
from leeward.gateway.faults import Fault
from leeward.gateway.simulated import SimulatedProvider
from simulated_calls import asked, call


class Parts:
    """A simulated provider, a real one, and what was told of changes."""

    def __init__(self):
        self.clock = HeldClock()
        self.changes = []
        self.dice = 0.0
        self.simulated = SimulatedProvider("primary", clock=self.clock)
        self.chaos = Chaos(
            self.clock,
            endpoint_at=lambda address: address,
            random=lambda: self.dice,
            on_change=lambda *change: self.changes.append(change),
        )

    async def know(self, *, real=("openai",), real_may=True):
        await self.chaos.know({"primary": self.simulated}, real, real_may=real_may)


def run(steps, **known):
    """Run the steps; afterwards nothing may listen any more."""

    async def all_steps():
        parts = Parts()
        await parts.know(**known)
        try:
            return await steps(parts)
        finally:
            await parts.chaos.know({}, (), real_may=False)

    return asyncio.run(all_steps())


def port_of(endpoint):
    return int(endpoint.rpartition(":")[2].partition("/")[0])


def test_a_simulated_provider_does_it_itself_and_ends_by_itself():
    async def steps(parts):
        state = await parts.chaos.set("primary", Fault(mode="503"), 60)
        assert state == ChaosState("primary", simulated=True, fault=Fault(mode="503"), ends_in_s=60)
        assert parts.chaos.endpoint_for("primary") is None
        parts.clock.pass_s(59)
        assert parts.simulated.fault == Fault(mode="503")
        parts.clock.pass_s(1)
        assert parts.simulated.fault is None
        assert parts.chaos.state()[1] == ChaosState("primary", simulated=True)

    run(steps)


def test_a_real_provider_is_stood_in_for_while_its_fault_lasts():
    async def steps(parts):
        assert parts.chaos.endpoint_for("openai") is None
        state = await parts.chaos.set("openai", Fault(mode="503"), 60)
        assert state == ChaosState("openai", simulated=False, fault=Fault(mode="503"), ends_in_s=60)
        came = await call(port_of(parts.chaos.endpoint_for("openai")), asked())
        assert (came.status, came.header("x-simulated")) == (503, "openai")
        assert parts.chaos.state()[0].calls == 1
        parts.clock.pass_s(60)
        assert parts.chaos.endpoint_for("openai") is None
        assert parts.chaos.state()[0].fault is None

    run(steps)


def test_a_stand_in_keeps_nothing_of_what_it_was_sent():
    async def steps(parts):
        await parts.chaos.set("openai", Fault(mode="503"), 60)
        await call(port_of(parts.chaos.endpoint_for("openai")), asked())
        return len(parts.chaos._stand_ins["openai"].server.received)

    assert run(steps) == 0


def test_another_fault_takes_the_place_of_the_one_before_at_the_same_address():
    async def steps(parts):
        await parts.chaos.set("openai", Fault(mode="503"), 60)
        before = parts.chaos.endpoint_for("openai")
        await parts.chaos.set("openai", Fault(mode="429"), 60)
        assert parts.chaos.endpoint_for("openai") == before
        assert (await call(port_of(before), asked())).status == 429

    run(steps)


def test_of_a_share_of_the_calls_the_others_go_to_the_real_provider_and_all_of_the_share_fail():
    async def steps(parts):
        await parts.chaos.set("openai", Fault(mode="500", share=0.25), 60)
        parts.dice = 0.25
        assert parts.chaos.endpoint_for("openai") is None
        parts.dice = 0.24
        port = port_of(parts.chaos.endpoint_for("openai"))
        assert {(await call(port, asked())).status for _ in range(20)} == {500}
        assert parts.chaos.state()[0].fault.share == 0.25

    run(steps)


def test_a_fault_is_cleared_and_the_stand_in_listens_no_more():
    async def steps(parts):
        for name in ("openai", "primary"):
            await parts.chaos.set(name, Fault(mode="500"), 60)
        port = port_of(parts.chaos.endpoint_for("openai"))
        for name in ("openai", "primary", "primary"):
            assert (await parts.chaos.clear(name)).fault is None
        assert parts.chaos.endpoint_for("openai") is None
        assert parts.simulated.fault is None
        with pytest.raises(ConnectionRefusedError):
            await call(port, asked())
        assert await parts.chaos.clear("openai") == ChaosState("openai", simulated=False)

    run(steps)


def test_every_change_is_told_and_nothing_that_is_none():
    async def steps(parts):
        await parts.chaos.clear("primary")
        await parts.chaos.set("primary", Fault(mode="429", share=0.5), 30)
        await parts.chaos.clear("primary")
        return parts.changes

    assert run(steps) == [
        ("primary", "", "chaos", {"fault": "429", "for_s": 30, "share": 0.5}),
        ("primary", "", "chaos", {"fault": "", "was": "429"}),
    ]


def test_a_real_provider_is_left_alone_where_the_settings_do_not_allow_it():
    async def steps(parts):
        with pytest.raises(ProtocolError) as refused:
            await parts.chaos.set("openai", Fault(mode="503"), 60)
        assert parts.chaos.endpoint_for("openai") is None
        return refused.value, [state.provider for state in parts.chaos.state()]

    error, listed = run(steps, real_may=False)
    assert (error.code, error.status, error.details) == ("chaos_off", 409, ("set [gateway] chaos = true",))
    assert listed == ["primary"]


@pytest.mark.parametrize("now", [{"real": ()}, {"real_may": False}])
def test_a_reload_that_takes_the_provider_or_the_leave_away_ends_its_fault(now):
    async def steps(parts):
        await parts.chaos.set("openai", Fault(mode="503"), 60)
        port = port_of(parts.chaos.endpoint_for("openai"))
        await parts.know()
        assert parts.chaos.endpoint_for("openai") is not None
        await parts.know(**now)
        assert parts.chaos.endpoint_for("openai") is None
        with pytest.raises(ConnectionRefusedError):
            await call(port, asked())

    run(steps)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("primray", "did you mean primary? known here: openai, primary"), ("x", "known here: openai, primary")],
)
def test_a_provider_that_there_is_not_is_refused_with_the_nearest(name, hint):
    async def steps(parts):
        for act in (parts.chaos.set(name, Fault(mode="503"), 60), parts.chaos.clear(name)):
            with pytest.raises(ProtocolError) as refused:
                await act
        return refused.value

    error = run(steps)
    assert (error.message, error.status, error.details) == (f"There is no provider {name!r}", 404, (hint,))


def test_without_any_provider_the_settings_are_named():
    async def steps():
        chaos = Chaos(HeldClock(), endpoint_at=str, random=float)
        with pytest.raises(ProtocolError) as refused:
            await chaos.clear("primary")
        return refused.value.details

    assert asyncio.run(steps()) == ("no providers are configured: see [[gateway.providers]]",)
