"""What is told of a provider's state to whoever looks: since when it is not closed, and when it is asked again."""

from __future__ import annotations

import pytest

from gateways import settings_of
from leeward.gateway.circuits import Circuits
from leeward.gateway.outcomes import Outcome
from leeward.gateway.targets import routes_of
from resilience_clock import HandClock

ROW = {"name": "a", "kind": "openai", "base_url": "http://127.0.0.1:1/a", "api_key": "sk-1", "models": {"chat": "chat"}}


@pytest.fixture
def rig():
    return Rig()


class Rig:
    """The circuits of one provider, and time in the hand."""

    def __init__(self) -> None:
        self.clock = HandClock()
        settings = settings_of(ROW)
        self.routes = routes_of(settings)
        self.circuits = Circuits(settings, clock=self.clock, random=lambda: 0.5, on_change=lambda *_: None)
        self.circuits.know(self.routes)
        (self.target,) = self.routes.targets()

    def settle(self, kind: str, times: int = 1) -> None:
        for _ in range(times):
            permit = self.circuits.admit(self.target, self.clock.now_s).permit
            self.circuits.settle(self.target, permit, Outcome(kind, at_s=self.clock.now_s))

    @property
    def model(self):
        return self.circuits.status(self.routes)[0].models[0]


def test_a_closed_one_is_closed_since_no_time(rig):
    rig.settle("server_error", 2)
    assert rig.model.not_closed_for_s is None


def test_it_is_said_since_when_it_is_not_closed_through_every_probe_that_fails(rig):
    rig.settle("server_error", 3)
    rig.clock.sleep(6.1)
    assert (rig.model.breaker, rig.model.not_closed_for_s) == ("half-open", 6.1)
    rig.circuits.looked("a", True, rig.clock.now_s)
    rig.settle("timeout")
    assert (rig.model.breaker, rig.model.why, rig.model.not_closed_for_s) == ("open", "probe_failed", 6.1)

    rig.clock.sleep(20)
    rig.settle("ok")
    assert (rig.model.breaker, rig.model.not_closed_for_s) == ("closed", None)

    rig.settle("server_error", 3)
    rig.clock.sleep(1)
    assert rig.model.not_closed_for_s == 1.0, "the next time begins anew"


def test_a_key_that_is_refused_is_so_since_the_first_refusal(rig):
    rig.settle("credentials")
    rig.clock.sleep(2)
    assert (rig.model.why, rig.model.not_closed_for_s) == ("credentials", 2.0)
