"""The demo's switch: what it says of faults, however they are switched, and of the answers meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from leeward.cli.switch import LOST, Switch
from leeward.clock import SystemClock
from leeward.gateway.chaos import Chaos
from leeward.gateway.faults import Fault
from leeward.gateway.simulated import SimulatedProvider


class Rig:
    """A switch over two simulated providers, with answers as the test counts them."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *, draws: bool) -> None:
        self.answers = {"primary": 5}
        self.chaos = Chaos(SystemClock(), endpoint_at=lambda _: None, random=lambda: 0.5)
        known = {name: SimulatedProvider(name) for name in ("primary", "secondary")}
        asyncio.run(self.chaos.know(known, (), real_may=False))
        self.switch = Switch(self.chaos, lambda: self.answers, "primary", draws=draws, now=lambda: "10:42:00")
        self._capsys = capsys

    def toggle(self) -> str:
        asyncio.run(self.switch.toggle())
        return self._said()

    def look(self) -> str:
        self.switch.look()
        return self._said()

    def _said(self) -> str:
        out, err = self._capsys.readouterr()
        assert out == ""
        return err


@pytest.fixture
def piped(capsys):
    return Rig(capsys, draws=False)


@pytest.fixture
def drawn(capsys):
    return Rig(capsys, draws=True)


def broken(rig):
    return [state.provider for state in rig.chaos.state() if state.fault is not None]


def test_without_a_fault_nothing_is_said(drawn):
    drawn.answers = {"primary": 9}

    assert drawn.look() == ""


def test_the_key_cuts_the_provider_and_the_same_key_mends_it(piped):
    assert piped.toggle() == 'provider "primary" is broken on purpose: answers 503\n'
    assert broken(piped) == ["primary"]

    assert piped.toggle() == 'provider "primary" is mended; the next probe finds that out\n'
    assert broken(piped) == []


def test_a_fault_that_somebody_else_switched_on_is_told_and_mended_by_the_key(piped):
    asyncio.run(piped.chaos.set("primary", Fault(mode="hang"), 60.0))

    assert piped.look() == 'provider "primary" is broken on purpose: takes the request and never answers\n'
    asyncio.run(piped.chaos.set("secondary", Fault(mode="429"), 60.0))
    assert "secondary" in piped.look()
    assert 'provider "primary" is mended' in piped.toggle()
    assert broken(piped) == ["secondary"]


def test_piped_the_first_answers_since_then_are_one_line(piped):
    piped.toggle()
    assert piped.look() == ""
    piped.answers = {"primary": 5, "secondary": 3}
    assert piped.look() == "  since 10:42:00: 3 answers (3 from secondary), 0 lost\n"
    piped.answers = {"primary": 5, "secondary": 9}
    assert piped.look() == ""


def test_piped_an_answer_that_did_not_come_is_told_too(piped):
    piped.toggle()
    piped.answers = {"primary": 5, LOST: 1}

    assert piped.look() == "  since 10:42:00: no answer yet, 1 lost\n"


def test_on_a_terminal_the_line_is_drawn_anew_and_left_behind_by_the_next_change(drawn):
    assert drawn.toggle().endswith("answers 503\n\r  since 10:42:00: no answer yet, 0 lost")
    drawn.answers = {"primary": 6, "secondary": 12, "cache": 2}
    assert drawn.look() == "\r  since 10:42:00: 15 answers (12 from secondary, 2 from cache, 1 from primary), 0 lost"
    assert drawn.look() == "", "nothing new, nothing drawn"

    said = drawn.toggle()
    assert said.startswith('\nprovider "primary" is mended')
    drawn.answers = {"primary": 7, "secondary": 12, "cache": 2}
    shorter = drawn.look()
    assert shorter.strip("\r ") == "since 10:42:00: 1 answer (1 from primary), 0 lost"


def test_a_shorter_line_covers_the_longer_one_before_it(drawn):
    drawn.toggle()
    drawn.answers = {"primary": 6, "secondary": 3}
    longer = drawn.look()
    drawn.answers = {"primary": 6}

    assert len(drawn.look()) == len(longer)


def test_the_end_leaves_the_drawn_line_once(drawn):
    drawn.toggle()
    drawn.switch.end()
    drawn.switch.end()

    assert drawn._said() == "\n"


def test_a_terminal_that_is_gone_hinders_nobody(drawn, monkeypatch):
    def gone(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("leeward.cli.switch.click.echo", gone)

    drawn.toggle()
    drawn.switch.end()
    assert broken(drawn) == ["primary"]


def test_it_looks_until_it_is_cancelled(piped):
    async def watched():
        task = asyncio.create_task(piped.switch.watch())
        await asyncio.sleep(0)
        await piped.chaos.set("secondary", Fault(mode="503"), 60.0)
        while "secondary" not in piped.switch._faults:  # noqa: ASYNC110 - nothing tells that it has looked
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(asyncio.wait_for(watched(), 20))
    assert "secondary" in piped._said()
