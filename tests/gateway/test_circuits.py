"""What is known of each provider's model, with time in the hand: circuits, health, limits, keys, reloads."""

from __future__ import annotations

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateways import settings_of
from leeward.gateway.circuits import Circuits
from leeward.gateway.outcomes import Outcome
from leeward.gateway.targets import routes_of
from leeward.settings.gateway import Breaker, Retry
from resilience_clock import HandClock

LIMIT_MAX_S = Retry().limit_max_s
CREDENTIALS_OPEN_S = Breaker().credentials_open_s


def rows(*names, **more):
    return [
        {
            "name": name,
            "kind": "openai",
            "base_url": f"http://127.0.0.1:1/{name}",
            "api_key": "sk-1",
            "models": {"chat": "large", "small": "small"},
            **more,
        }
        for name in names
    ]


class Rig:
    """Circuits of two providers with two models each."""

    def __init__(self, *names, **given):
        self.clock = HandClock()
        self.changes = []
        configured = settings_of(*rows(*(names or ("a", "b"))), **given)
        self.circuits = Circuits(
            configured,
            clock=self.clock,
            random=lambda: 0.5,
            on_change=lambda *change: self.changes.append(change),
        )
        self.know(configured)

    def know(self, configured):
        self.routes = routes_of(configured)
        self.circuits.know(self.routes)
        self.targets = self.routes.by_model["chat"].targets

    @property
    def now_s(self):
        return self.clock.now_s

    def admit(self, place=0):
        return self.circuits.admit(self.targets[place], self.now_s)

    def settle(self, kind, place=0, permit=None, **more):
        permit = permit or self.admit(place).permit
        assert permit is not None
        self.circuits.settle(self.targets[place], permit, Outcome(kind, at_s=self.now_s, **more))

    def status(self, place=0, model=0):
        return self.circuits.status(self.routes)[place].models[model]


def test_three_failures_in_a_row_open_it_and_it_is_told_once():
    rig = Rig()
    for kind in ("server_error", "timeout", "bad_answer"):
        rig.settle(kind)
    admission = rig.admit()
    assert (admission.permit, admission.why) == (None, "open")
    assert admission.wait_s == pytest.approx(5.0, rel=0.2)
    assert [change for change in rig.changes if change[2] == "breaker"] == [
        ("a", "large", "breaker", "open", "consecutive_failures")
    ]
    assert (rig.status().calls, rig.status().failures, rig.status().breaker) == (3, 3, "open")
    assert rig.status(0, 1).breaker == "closed", "each model has its own"


@pytest.mark.parametrize("kind", ["refused", "cancelled", "rate_limited"])
def test_what_is_not_the_providers_fault_opens_nothing(kind):
    rig = Rig()
    for _ in range(10):
        rig.clock.sleep(120)
        rig.settle(kind)
    assert rig.status().breaker == "closed"
    assert rig.status().failures == 0


def test_one_probe_decides():
    rig = Rig()
    for _ in range(3):
        rig.settle("server_error")
    rig.clock.sleep(6.1)
    probe = rig.admit().permit
    assert probe is not None
    assert (rig.admit().why, rig.admit().wait_s) == ("open", 1.0)
    rig.settle("ok", permit=probe, first_s=0.1)
    assert rig.status().breaker == "closed"
    assert [change[2:4] for change in rig.changes[-2:]] == [("breaker", "closed"), ("health", "healthy")]
    assert list(rig.circuits.order(rig.targets, rig.now_s)) == list(rig.targets), "it has its place again"


# -- limits


def test_g5_a_limit_has_its_own_time_and_is_no_failure():
    rig = Rig()
    rig.settle("rate_limited", retry_after_s=20.0)
    assert (rig.admit().why, rig.admit().wait_s) == ("limited", 20.0)
    rig.clock.sleep(19)
    assert rig.admit().wait_s == pytest.approx(1.0)
    assert (rig.status().breaker, rig.status().limited_for_s) == ("closed", 1.0)
    rig.clock.sleep(1)
    assert rig.admit().permit is not None


def test_g5_after_the_wait_one_goes_first_and_the_others_wait_for_it():
    rig = Rig()
    rig.settle("rate_limited", retry_after_s=20.0)
    rig.clock.sleep(20)
    first = rig.admit().permit
    assert rig.admit().why == "limited"
    rig.settle("ok", permit=first)
    assert rig.admit().permit is not None
    assert [change[3] for change in rig.changes if change[2] == "limit"] == ["limited", "over"]


@pytest.mark.parametrize("kind", ["cancelled", "server_error", "refused"])
def test_g5_one_that_went_first_and_found_nothing_out_lets_the_next_go(kind):
    rig = Rig()
    rig.settle("rate_limited", retry_after_s=20.0)
    rig.clock.sleep(20)
    rig.settle(kind)
    assert rig.admit().permit is not None


def test_g5_one_that_went_first_and_hangs_keeps_the_others_for_its_lease_only():
    rig = Rig()
    rig.settle("rate_limited", retry_after_s=1.0)
    rig.clock.sleep(1)
    assert rig.admit().permit is not None
    assert rig.admit().why == "limited"
    rig.clock.sleep(35.1)
    assert rig.admit().permit is not None


def test_g5_a_stream_that_says_something_ends_the_limit():
    rig = Rig()
    rig.settle("rate_limited", retry_after_s=1.0)
    rig.clock.sleep(1)
    trial = rig.admit().permit
    rig.clock.sleep(0.01)
    rig.circuits.heard(rig.targets[0], trial)
    assert rig.admit().permit is not None


def test_g5_a_call_from_before_the_limit_says_nothing_about_it():
    rig = Rig()
    early, refused = rig.admit().permit, rig.admit().permit
    rig.clock.sleep(1)
    rig.settle("rate_limited", permit=refused, retry_after_s=20.0)
    rig.circuits.heard(rig.targets[0], early)
    rig.settle("ok", permit=early)
    assert rig.admit().wait_s == 20.0


def test_g5_without_a_time_the_wait_doubles_with_each_that_was_let_through():
    rig = Rig()
    waits = []
    for _ in range(9):
        rig.settle("rate_limited")
        waits.append(rig.admit().wait_s)
        rig.clock.sleep(waits[-1])
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, LIMIT_MAX_S, LIMIT_MAX_S, LIMIT_MAX_S])
    rig.settle("ok")
    rig.settle("rate_limited")
    assert rig.admit().wait_s == 1.0


def test_g5_who_says_at_once_and_means_it_not_is_asked_less_and_less():
    rig = Rig()
    waits = []
    for _ in range(5):
        rig.settle("rate_limited", retry_after_s=0.0)
        waits.append(rig.circuits.of(rig.targets[0]).limited_for_s(rig.now_s))
        rig.clock.sleep(waits[-1])
    assert waits == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8])


@pytest.mark.parametrize("retry_after_s", [None, 1.0])
def test_g5_calls_that_were_on_their_way_do_not_make_the_wait_longer(retry_after_s):
    rig = Rig()
    permits = [rig.admit().permit for _ in range(50)]
    for permit in permits:
        rig.settle("rate_limited", permit=permit, retry_after_s=retry_after_s)
    assert rig.admit().wait_s == 1.0


def test_g5_a_wait_that_was_asked_for_is_never_shortened():
    rig = Rig()
    permits = [rig.admit().permit for _ in range(2)]
    rig.settle("rate_limited", permit=permits[0], retry_after_s=20.0)
    rig.settle("rate_limited", permit=permits[1], retry_after_s=1.0)
    assert rig.admit().wait_s == 20.0


# -- keys


def test_a_key_that_is_refused_shuts_all_models_of_its_account_for_long_and_is_told_once_each():
    rig = Rig()
    rig.settle("credentials")
    assert [rig.status(0, model).breaker for model in (0, 1)] == ["open", "open"]
    assert rig.status(1).breaker == "closed"
    assert rig.admit().wait_s == CREDENTIALS_OPEN_S
    assert rig.status().why == "credentials"
    assert [change[1:4] for change in rig.changes if change[2] == "credentials"] == [
        ("large", "credentials", "refused"),
        ("small", "credentials", "refused"),
    ]


def test_a_key_that_is_still_refused_shuts_it_for_as_long_again():
    rig = Rig()
    rig.settle("credentials")
    for _ in range(3):
        rig.clock.sleep(CREDENTIALS_OPEN_S + 1)
        rig.settle("credentials")
        assert rig.admit().wait_s == CREDENTIALS_OPEN_S
    assert sum(change[2] == "credentials" for change in rig.changes) == 2, "nothing new is told"


def test_a_key_that_is_accepted_again_opens_the_way():
    rig = Rig()
    rig.settle("credentials")
    rig.clock.sleep(CREDENTIALS_OPEN_S + 1)
    rig.settle("ok")
    assert rig.status().breaker == "closed"
    assert ("a", "large", "breaker", "closed") in [change[:4] for change in rig.changes]


def test_g17_an_old_key_that_is_refused_does_not_shut_out_the_new_one():
    rig = Rig()
    old, permit = rig.targets[0], rig.admit().permit
    rig.know(settings_of(*rows("a", "b", api_key="sk-2")))
    rig.circuits.settle(old, permit, Outcome("credentials", at_s=rig.now_s))
    assert rig.status().breaker == "closed"
    assert rig.admit().permit is not None


# -- reloads


def test_g17_what_is_known_stays_with_address_key_and_model():
    rig = Rig()
    for _ in range(3):
        rig.settle("server_error")
    rig.know(settings_of(*rows("a", "b"), breaker={"open_s": 1.0}))
    assert rig.status().breaker == "open"
    for change in ({"api_key": "sk-2"}, {"base_url": "http://127.0.0.1:2/a"}, {"models": {"chat": "other"}}):
        rig.know(settings_of(*rows("a", "b", **change)))
        assert rig.status().breaker == "closed"


def test_g17_a_call_to_what_is_configured_no_more_is_settled_all_the_same():
    rig = Rig()
    old, permit = rig.targets[0], rig.admit().permit
    rig.know(settings_of(*rows("b")))
    rig.circuits.settle(old, permit, Outcome("server_error", at_s=rig.now_s))
    assert [status.name for status in rig.circuits.status(rig.routes)] == ["b"]


# -- the last one standing


def test_g6_a_probe_is_forced_at_the_one_that_is_due_soonest_and_is_told():
    rig = Rig()
    for _ in range(3):
        rig.settle("server_error", 0)
    rig.clock.sleep(1)
    for _ in range(3):
        rig.settle("server_error", 1)
    rig.clock.sleep(1)
    target, permit = rig.circuits.force(rig.targets, rig.now_s)
    assert target is rig.targets[0]
    other = rig.circuits.force(rig.targets, rig.now_s)
    assert other is not None
    assert other[0] is rig.targets[1]
    assert rig.circuits.force(rig.targets, rig.now_s) is None
    rig.settle("ok", 0, permit)
    assert rig.status().breaker == "closed"
    told = [change[3] for change in rig.changes if change[2] == "breaker"]
    assert told == ["open", "open", "forced-probe", "forced-probe", "closed"]


def test_g6_who_asked_for_fewer_calls_is_not_probed():
    rig = Rig("a")
    for _ in range(3):
        rig.settle("server_error")
    rig.clock.sleep(6.1)
    rig.settle("rate_limited", retry_after_s=60.0)
    assert rig.circuits.force(rig.targets, rig.now_s) is None


def test_g6_a_forced_probe_with_a_refused_key_tells_nothing_twice():
    rig = Rig("a")
    rig.settle("credentials")
    for _ in range(3):
        rig.clock.sleep(2)
        forced = rig.circuits.force(rig.targets, rig.now_s)
        assert forced is not None
        rig.settle("credentials", permit=forced[1])
    assert sum(change[2] == "credentials" for change in rig.changes) == 2
    assert rig.status().breaker == "open"


# -- order and health


def test_the_healthier_come_first_and_equals_as_configured():
    rig = Rig("a", "b", "c")
    assert list(rig.circuits.order(rig.targets, rig.now_s)) == list(rig.targets)
    for _ in range(5):
        rig.settle("ok", 0)
    rig.settle("server_error", 0)
    rig.settle("ok", 0)
    a, b, c = rig.targets
    assert rig.status().health == "degraded"
    assert list(rig.circuits.order(rig.targets, rig.now_s)) == [b, c, a]
    assert rig.circuits.order((a,), rig.now_s) == (a,)


def test_one_that_is_due_for_a_probe_keeps_its_place():
    rig = Rig()
    for _ in range(3):
        rig.settle("server_error")
    assert list(rig.circuits.order(rig.targets, rig.now_s)) == list(rig.targets)


def test_looks_tell_of_health_and_of_nothing_else():
    rig = Rig()
    for _ in range(3):
        rig.clock.sleep(20)
        rig.circuits.looked("a", False, rig.now_s)
    assert rig.status().health == "unhealthy"
    assert rig.status().breaker == "closed"
    assert ("a", "large", "health", "unhealthy", "a look at it") in rig.changes
    assert rig.circuits.is_due("unknown", rig.now_s, 1.0) is False


def test_g7_slow_answers_open_it_when_somebody_said_what_slow_is():
    rig = Rig(breaker={"slow_s": 1.0, "min_calls": 5})
    for _ in range(5):
        rig.settle("ok", first_s=2.0)
    assert (rig.status().breaker, rig.status().why) == ("open", "slow_rate")
    rig = Rig(breaker={"min_calls": 5})
    for _ in range(5):
        rig.settle("ok", first_s=20.0)
    assert rig.status().breaker == "closed", "a long answer that comes whole is no slow one"
    for _ in range(30):
        if rig.admit().permit is None:
            break
        rig.settle("ok", first_s=20.0, streamed=True)
    assert rig.status().why == "slow_rate"


def test_latency_is_told_of_the_latest_answers():
    rig = Rig()
    assert rig.status().latency_p50_ms is None
    for ms in range(1, 101):
        rig.settle("ok", first_s=ms / 1000)
    assert (rig.status().latency_p50_ms, rig.status().latency_p95_ms) == (51.0, 96.0)


# -- against a model


class Permits(RuleBasedStateMachine):
    """In any order: a limited one is not asked, and one that nobody asks any more can always be asked later."""

    def __init__(self):
        super().__init__()
        self.rig = Rig("a")
        self.out = []
        self.not_before_s = 0.0

    @rule()
    def ask(self):
        admission = self.rig.admit()
        if admission.permit is not None:
            assert self.rig.now_s >= self.not_before_s
            self.out.append(admission.permit)
        else:
            assert admission.wait_s > 0

    @rule(
        kind=st.sampled_from(["ok", "server_error", "rate_limited", "cancelled", "credentials", "cut"]),
        retry_after_s=st.none() | st.floats(0, 30),
        data=st.data(),
    )
    def end(self, kind, retry_after_s, data):
        if self.out:
            permit = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
            self.rig.settle(kind, permit=permit, retry_after_s=retry_after_s)
            if kind == "rate_limited" and retry_after_s is not None:
                self.not_before_s = max(self.not_before_s, self.rig.now_s + retry_after_s)
            if kind == "ok":
                self.not_before_s = 0.0

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds):
        self.rig.clock.sleep(seconds)

    @invariant()
    def its_status_can_be_told(self):
        status = self.rig.status()
        assert status.calls >= status.failures

    def teardown(self):
        for permit in self.out:
            self.rig.settle("cancelled", permit=permit)
        self.rig.clock.sleep(1_000)
        assert self.rig.admit().permit is not None


TestPermits = Permits.TestCase
TestPermits.settings = settings(max_examples=60, stateful_step_count=30)


def test_a_stream_that_probes_lets_the_others_in_with_its_first_word_and_may_still_be_cut():
    rig = Rig()
    for _ in range(3):
        rig.settle("server_error")
    rig.clock.sleep(7)
    probe = rig.admit().permit
    assert rig.admit().permit is None
    rig.circuits.heard(rig.targets[0], probe)
    assert rig.status().breaker == "closed"
    assert rig.admit().permit is not None
    rig.settle("cut", permit=probe)
    assert rig.status().failures == 4


def test_a_probe_that_takes_long_does_not_keep_the_last_provider_from_everybody():
    rig = Rig()
    for _ in range(3):
        rig.settle("server_error")
    rig.clock.sleep(7)
    assert rig.admit().permit is not None
    assert rig.circuits.force(rig.targets[:1], rig.now_s) is None
    rig.clock.sleep(1.1)
    forced = rig.circuits.force(rig.targets[:1], rig.now_s)
    assert forced is not None
    rig.circuits.settle(*forced, Outcome("server_error", at_s=rig.now_s))
    assert rig.status().breaker == "half-open"


def test_callers_who_leave_a_silent_provider_prefer_another_and_shut_nothing():
    rig = Rig()
    for _ in range(3):
        began_s, ticket = rig.now_s, rig.admit().permit
        rig.clock.sleep(0.5)
        rig.circuits.settle(rig.targets[0], ticket, Outcome("cancelled", at_s=began_s))
    assert rig.status().breaker == "closed"
    assert rig.status().health == "unhealthy"
    assert list(rig.circuits.order(rig.targets, rig.now_s)) == [rig.targets[1], rig.targets[0]]


def test_callers_who_leave_while_others_are_answered_say_nothing():
    rig = Rig()
    for _ in range(5):
        began_s, ticket = rig.now_s, rig.admit().permit
        rig.clock.sleep(0.5)
        rig.settle("ok", first_s=0.1)
        rig.circuits.settle(rig.targets[0], ticket, Outcome("cancelled", at_s=began_s))
    assert rig.status().health == "healthy"


@pytest.mark.parametrize(
    "told",
    [
        {"kind": "credentials", "status": 403},
        {"kind": "credentials", "status": 402},
        {"kind": "unavailable_model", "status": 404},
        {"kind": "bad_answer", "detail": "no_content"},
    ],
    ids=str,
)
def test_what_one_request_can_bring_about_is_not_held_against_a_provider_that_answers_others(told):
    rig = Rig()
    rig.settle("ok", first_s=0.1)
    for _ in range(5):
        rig.settle(**told)
    assert rig.status().breaker == "closed"
    assert rig.status().health == "healthy"
    rig.clock.sleep(61)
    for _ in range(3):
        if rig.admit().permit is not None:
            rig.settle(**told)
    assert rig.status().breaker == "open"


def test_a_model_that_is_forbidden_takes_no_other_model_along():
    rig = Rig()
    rig.settle("credentials", status=403)
    assert [model.breaker for model in rig.circuits.status(rig.routes)[0].models] == ["open", "closed"]


def test_one_that_others_are_preferred_to_is_asked_first_now_and_then():
    rig = Rig()
    for _ in range(3):
        rig.circuits.looked("a", False, rig.now_s)
    rig.admit()
    assert list(rig.circuits.order(rig.targets, rig.now_s)) == [rig.targets[1], rig.targets[0]]
    rig.clock.sleep(10)
    assert list(rig.circuits.order(rig.targets, rig.now_s)) == list(rig.targets)
