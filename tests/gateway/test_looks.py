"""G18: looks at providers without traffic are cheap, spread out, and never know better than the calls of users."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from control_helpers import HeldClock
from gateways import rig, settled
from leeward.gateway import home
from leeward.gateway.faults import Script

INTERVAL_S = 15.0
ACTIVE = {"active": True, "interval_s": INTERVAL_S}


@pytest.fixture(autouse=True)
def _quick_rounds(monkeypatch):
    monkeypatch.setattr(home, "LOOK_EVERY_S", 0.001)  # of real time; whether a look is due goes by the held clock


class Draws:
    """Numbers in [0, 1), and how often one was taken: each round of the looker takes one."""

    def __init__(self, *values):
        self.values = list(values)
        self.taken = 0
        self.otherwise = lambda: 0.5

    def __call__(self):
        self.taken += 1
        return self.values.pop(0) if self.values else self.otherwise()


async def rounds(draws, count=5):
    """Let the looker go round so often."""
    before = draws.taken
    await settled(lambda: draws.taken >= before + count)


def looked_at(work, *names, draws=None, **settings):
    clock, draws = HeldClock(), draws or Draws()

    async def main():
        async with rig(*(names or ("a",)), clock=clock, random=draws, health=ACTIVE, **settings) as gateway:
            await rounds(draws)  # each provider has drawn when it is looked at first
            await work(gateway, clock, draws)
            gateway.core.homes.running().looker.cancel()
            await asyncio.sleep(0)

    asyncio.run(main())


def state(gateway, name="a"):
    return next(each for each in gateway.core.providers() if each.name == name).health


def test_g18_a_look_is_a_list_of_models_and_never_a_chat_call():
    async def work(gateway, clock, draws):
        clock.pass_s(INTERVAL_S)
        await settled(lambda: gateway["a"].looks == 1)
        assert gateway["a"].calls == 0
        assert [(each.method, each.path) for each in gateway["a"].received] == [("GET", "/v1/models")]

    looked_at(work)


def test_g18_who_has_traffic_is_not_looked_at():
    async def work(gateway, clock, draws):
        for _ in range(6):
            await gateway.ask()
            clock.pass_s(INTERVAL_S / 2)
            await rounds(draws)
        assert gateway["a"].looks == 0

    looked_at(work)


def test_g18_looks_are_spread_out_by_chance():
    chance = random.Random(18)

    async def work(gateway, clock, draws):
        draws.otherwise = chance.random
        moments = {name: [] for name in "abcd"}
        assert [gateway[name].looks for name in moments] == [0, 0, 0, 0]  # not all at the start
        for second in range(250):
            clock.pass_s(1.0)
            before = {name: gateway[name].looks for name in moments}
            await rounds(draws, 3)
            for name, found in moments.items():
                found.extend([second] * (gateway[name].looks - before[name]))
        gaps = {after - before for found in moments.values() for before, after in itertools.pairwise(found)}
        assert len({found[0] for found in moments.values()}) >= 3
        assert min(gaps) <= 0.9 * INTERVAL_S < 1.1 * INTERVAL_S <= max(gaps)
        assert all(0.8 * INTERVAL_S - 2 <= gap <= 1.2 * INTERVAL_S + 3 for gap in gaps)  # rounds are not exact

    looked_at(work, "a", "b", "c", "d", draws=Draws(*(chance.random() for _ in range(100))))


@pytest.mark.parametrize("status", [401, 403, 404, 405, 429])
def test_g18_an_answer_that_says_nothing_of_its_health_is_no_sign(status, monkeypatch):
    async def work(gateway, clock, draws):
        provider = gateway["a"]

        def script(request):
            provider.looks += 1
            return Script([b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % status])

        monkeypatch.setattr(provider, "script", script)
        for _ in range(8):
            clock.pass_s(2 * INTERVAL_S)
            await rounds(draws)
        assert provider.looks >= 3
        assert state(gateway) == "healthy"
        told = []
        monkeypatch.setattr(gateway.core.circuits, "looked", lambda *sign: told.append(sign))
        clock.pass_s(2 * INTERVAL_S)
        await rounds(draws)
        assert told == []

    looked_at(work)


def test_g18_an_idle_provider_that_fails_its_looks_is_unhealthy_and_comes_back_by_them():
    async def work(gateway, clock, draws):
        gateway["a"].fault = "500"
        while state(gateway) != "unhealthy":
            clock.pass_s(1.0)
            await rounds(draws, 3)
        assert gateway["a"].looks >= 3
        assert gateway.notes.changes[-1][2:] == ("health", "unhealthy", "a look at it")
        gateway["a"].fault = None
        while state(gateway) != "healthy":
            clock.pass_s(1.0)
            await rounds(draws, 3)
        assert gateway["a"].calls == 0

    looked_at(work)


def test_g18_a_provider_whose_list_is_fine_and_whose_calls_fail_stays_unhealthy(monkeypatch):
    monkeypatch.setitem(ACTIVE, "interval_s", 1.0)

    async def work(gateway, clock, draws):
        gateway["a"].fault = "malformed"  # chat alone: the list of models is answered
        for _ in range(3):
            await gateway.ask()
        assert state(gateway) == "unhealthy"
        before = gateway["a"].looks
        for _ in range(7):  # within the window of the calls nothing that a look says counts
            clock.pass_s(1.3)
            await rounds(draws, 3)
        assert gateway["a"].looks - before >= 6
        assert state(gateway) == "unhealthy"
        while state(gateway) != "healthy":  # nobody calls it any more: looks may bring it back
            clock.pass_s(1.3)
            await rounds(draws, 3)
        await gateway.ask()  # and the first call that fails takes that back at once
        assert state(gateway) == "unhealthy"

    looked_at(work, "a", "b", breaker={"consecutive_failures": 100})


def test_g18_where_nobody_is_to_look_nobody_looks(monkeypatch):
    monkeypatch.setitem(ACTIVE, "active", False)

    async def work(gateway, clock, draws):
        for _ in range(3):
            clock.pass_s(2 * INTERVAL_S)
            await rounds(draws)
        assert gateway["a"].looks == 0

    looked_at(work)
