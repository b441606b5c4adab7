"""What is known of each provider's model: its circuit breaker, its health, the time until which it wants fewer calls.

One `Circuit` a target: the same address, key and model keep theirs over a reload. Decisions take the time as an argument;
what changes is told to `on_change`, once per change.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from leeward.gateway.latency import Latency
from leeward.gateway.outcomes import Outcome
from leeward.gateway.plan import Admission
from leeward.resilience.breaker import Breaker, BreakerRules, Permit
from leeward.resilience.health import Health

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.gateway.targets import Routes, Target
    from leeward.settings.gateway import Gateway as Settings, Health as HealthSettings

__all__ = ["Circuit", "Circuits", "ModelStatus", "ProviderStatus"]

TOLD_LIMIT_S: Final = 0.1  # at least, after a 429 that does say a time, and said so before; doubles likewise
TRIAL_S: Final = 2.0  # a refusal is quick; who has heard none by then may ask, however long the answer takes
PROBE_WAIT_S: Final = 1.0  # while somebody else's probe is under way
TRUSTED_S: Final = 60.0  # so long after a good answer, what may be a request's own fault is held to be that
ABANDONED_S: Final = 0.3
ABOUT_ONE_MODEL: Final = frozenset({402, 403})
LOOK_JITTER: Final = 0.2
LEASE_SPARE_S: Final = 5.0
_PHASES: Final = ("closed", "half-open", "open")
_RANKS: Final = {"healthy": 0, "degraded": 1, "unhealthy": 2}


class ModelStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model of a provider, as `GET /api/providers` tells it. Times in seconds from now."""

    model: str
    breaker: str
    health: str
    why: str = ""
    not_closed_for_s: float | None = None  # since its breaker was closed last
    opens_in_s: float | None = None  # until a probe may ask it again
    limited_for_s: float | None = None
    calls: int = 0
    failures: int = 0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None  # to the first content of a stream, to a whole JSON answer


class ProviderStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """One provider: as its worst model."""

    name: str
    kind: str
    health: str
    breaker: str
    models: list[ModelStatus]


class Ticket:
    """Leave to ask one provider once, as the plan holds it."""

    __slots__ = ("began_s", "permit")

    def __init__(self, permit: Permit, began_s: float) -> None:
        self.permit = permit
        self.began_s = began_s


class Circuit:
    """One target's state."""

    __slots__ = (
        "account",
        "answered_s",
        "asked_s",
        "breaker",
        "calls",
        "failures",
        "first_content",
        "health",
        "heard_s",
        "limited_at_s",
        "limited_until_s",
        "limits_in_a_row",
        "model",
        "not_closed_since_s",
        "provider",
        "slow_is_said",
        "slow_s",
        "told",
        "trial",
        "trying_until_s",
    )

    def __init__(self, target: Target, rules: BreakerRules) -> None:
        self.provider = target.provider.name
        self.model = target.model
        self.account = target.account
        self.breaker = Breaker(rules)
        self.health = Health()  # with the settings of `know`
        self.slow_s = math.inf
        self.slow_is_said = False
        self.limited_until_s = 0.0
        self.limits_in_a_row = 0
        self.not_closed_since_s: float | None = None
        self.limited_at_s = 0.0  # when that was said last: a call from before says nothing about it
        self.heard_s = -math.inf  # when it said something last
        self.asked_s = -math.inf
        self.answered_s = -math.inf
        self.trial: Ticket | None = None
        self.trying_until_s = 0.0  # the one call after a limit is under way, and keeps the others waiting until then
        self.calls = 0
        self.failures = 0
        self.first_content = Latency()
        self.told: dict[str, str] = {"breaker": "closed", "health": "healthy"}  # what was said of it last

    def is_slow_to_say_anything(self, waited_s: float) -> bool:
        """Whether a caller who left after so long, without a word from here, had waited longer than is usual."""
        usual_ms = self.first_content.quantile_ms(0.95)
        return waited_s > max(ABANDONED_S, min(self.slow_s, 3 * (usual_ms or 0.0) / 1000))

    def limited_for_s(self, now_s: float) -> float:
        """How long it wants no calls, in seconds; 0: it may be called."""
        if self.limits_in_a_row == 0:
            return 0.0
        return max(0.0, self.limited_until_s - now_s, self.trying_until_s - now_s)


class Circuits:
    """All of a gateway. Belongs to the event loops that use it."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        random: Callable[[], float],
        on_change: Callable[[str, str, str, str, str], None],
    ) -> None:
        self._clock = clock
        self._random = random
        self._on_change = on_change
        self._circuits: dict[Hashable, Circuit] = {}
        self._by_target: dict[Target, Circuit] = {}
        self._called_s: dict[str, float] = {}  # by provider: its last call
        self._look_at_s: dict[str, float] = {}  # by provider: when to look at it next
        self._lock = threading.RLock()  # loops of several threads may share a gateway
        self._settings = settings
        self._rules = _rules(settings)

    def know(self, routes: Routes) -> None:
        """Go over to the targets of another configuration. Same address, key and model: same state."""
        settings = self._settings = routes.settings
        self._rules = _rules(settings)
        before, self._circuits, self._by_target = self._circuits, {}, {}
        for target in routes.targets():
            circuit = self._circuits.get(target.circuit_key) or before.get(target.circuit_key)
            if circuit is None:
                circuit = Circuit(target, self._rules)
            circuit.breaker = circuit.breaker.with_rules(self._rules)
            _set_health(circuit.health, settings.health)
            circuit.slow_is_said = settings.breaker.slow_s is not None
            circuit.slow_s = settings.breaker.slow_s or target.first_token_s / 2
            self._circuits[target.circuit_key] = circuit
            self._by_target[target] = circuit

    def of(self, target: Target) -> Circuit:
        """Its state. A request that began before a reload still has its own."""
        circuit = self._by_target.get(target)
        if circuit is None:
            circuit = self._circuits.get(target.circuit_key) or Circuit(target, self._rules)
            self._by_target[target] = circuit
        return circuit

    # what the plan asks

    def order(self, targets: Sequence[Target], now_s: float) -> Sequence[Target]:
        """The healthier before the others, else as configured. One whose circuit is due for a probe keeps its place."""
        if len(targets) < 2:
            return targets
        ranks = [self._rank(self.of(target), now_s) for target in targets]
        if not any(ranks):
            return targets
        return [target for _, target in sorted(zip(ranks, targets, strict=True), key=_first)]

    def _rank(self, circuit: Circuit, now_s: float) -> int:
        if circuit.breaker.circuit.phase != "closed" or circuit.limits_in_a_row:
            return 0  # it is only asked when it is due, and then to see whether it is well again
        if now_s - circuit.asked_s >= self._settings.health.try_every_s:
            return 0  # else one that is held to be unwell would never be asked, and never be found to be well
        return _RANKS[circuit.health.state(now_s)]

    def wait_s(self, target: Target, now_s: float) -> float:
        """How long it wants no calls, in seconds."""
        return self.of(target).limited_for_s(now_s)

    def admit(self, target: Target, now_s: float) -> Admission:
        """Leave to ask it, or why not and for how long."""
        with self._lock:
            return self._admit(self.of(target), now_s)

    def _admit(self, circuit: Circuit, now_s: float) -> Admission:
        if circuit.limits_in_a_row:
            wait_s = circuit.limited_for_s(now_s)
            if wait_s > 0:
                return Admission(None, "limited", wait_s)
        circuit.breaker, permit = circuit.breaker.admit(now_s)
        if permit is None:
            return Admission(None, "open", max(0.0, circuit.breaker.open_until_s - now_s) or PROBE_WAIT_S)
        ticket = Ticket(permit, now_s)
        circuit.asked_s = now_s
        if circuit.limits_in_a_row:  # the others wait until this one knows
            circuit.trial = ticket
            circuit.trying_until_s = now_s + TRIAL_S
        return Admission(ticket)

    def force(self, targets: Sequence[Target], now_s: float) -> tuple[Target, object] | None:
        """A probe of the one that is due soonest, though all are open."""
        with self._lock:
            return self._force(targets, now_s)

    def _force(self, targets: Sequence[Target], now_s: float) -> tuple[Target, object] | None:
        due = sorted(targets, key=lambda target: self.of(target).breaker.open_until_s)
        for target in due:
            circuit = self.of(target)
            if circuit.limited_for_s(now_s) > 0:
                continue
            circuit.breaker, permit = circuit.breaker.force_probe(now_s)
            if permit is not None:
                self._tell(circuit, "breaker", "forced-probe", "every provider of the route is open")
                if circuit.told["breaker"] != "refused":
                    circuit.told["breaker"] = "open"
                circuit.asked_s = now_s
                return target, Ticket(permit, now_s)
            if circuit.breaker.state(now_s) == "half-open" and now_s - circuit.asked_s >= self._rules.open_s / 5:
                # A probe is under way, perhaps for long: one more now and then, whose verdict the breaker does not hear.
                circuit.asked_s = now_s
                return target, Ticket(Permit(circuit.breaker.circuit.permit.era), now_s)
        return None

    def heard(self, target: Target, ticket: object) -> None:
        """Its stream says something: it takes calls again, however long this one goes on."""
        assert isinstance(ticket, Ticket)
        with self._lock:
            circuit = self.of(target)
            now_s = circuit.heard_s = self._clock.monotonic_s()
            self._unlimit(circuit, ticket)
            if circuit.breaker.circuit.phase != "closed":  # a probe has shown what it was for; the others need not wait
                slow = now_s - ticket.began_s > circuit.slow_s
                circuit.breaker = circuit.breaker.succeeded(ticket.permit, now_s, self._random, slow=slow)
                if circuit.breaker.circuit.phase == "closed":
                    ticket.permit = circuit.breaker.circuit.permit  # a cut may still come, and counts as of any call
                self._look(circuit, now_s, "a probe is being answered")

    def settle(self, target: Target, permit: object, outcome: Outcome) -> None:
        """What came of a call."""
        assert isinstance(permit, Ticket)
        with self._lock:
            self._settle(self.of(target), permit, outcome)

    def _settle(self, circuit: Circuit, ticket: Ticket, outcome: Outcome) -> None:
        permit = ticket.permit
        now_s = outcome.at_s
        if outcome.kind == "cancelled":  # the plan did not learn when
            now_s = self._clock.monotonic_s()
        self._called_s[circuit.provider] = now_s
        circuit.calls += 1
        if outcome.kind == "ok":
            self._answered(circuit, ticket, outcome, now_s)
        elif outcome.kind == "cancelled" and self._was_left(circuit, ticket, now_s):
            # Callers less patient than we are would else be sent to a provider that hangs, for ever. It is no proof, and
            # any caller could bring it about: so others are preferred, but nothing is shut.
            circuit.health.seen(False, now_s)
            circuit.breaker = circuit.breaker.released(permit)
        elif outcome.may_be_the_request and now_s - circuit.answered_s < TRUSTED_S:
            circuit.breaker = circuit.breaker.released(permit)
        elif outcome.is_failure:
            circuit.failures += 1
            circuit.health.seen(False, now_s)
            if outcome.kind == "credentials":
                circuit.breaker = circuit.breaker.released(permit)
                self._shut(circuit, now_s, whole_account=outcome.status not in ABOUT_ONE_MODEL)
            else:
                circuit.breaker = circuit.breaker.failed(permit, now_s, self._random)
        else:
            circuit.breaker = circuit.breaker.released(permit)
            if outcome.kind == "rate_limited":
                self._limit(circuit, ticket, outcome, now_s)
        if circuit.trial is ticket:
            circuit.trial, circuit.trying_until_s = None, 0.0
        if outcome.kind != "ok" or circuit.told["breaker"] != "closed" or circuit.told["health"] != "healthy":
            self._look(circuit, now_s, outcome.detail)

    def _was_left(self, circuit: Circuit, ticket: Ticket, now_s: float) -> bool:
        """Whether a caller left because nothing came: nobody has heard anything from it since."""
        return circuit.heard_s < ticket.began_s and circuit.is_slow_to_say_anything(now_s - ticket.began_s)

    def _answered(self, circuit: Circuit, ticket: Ticket, outcome: Outcome, now_s: float) -> None:
        first_s = outcome.first_s or 0.0
        # A long answer that comes whole is no slow one, unless somebody has said what slow is.
        slow = first_s > circuit.slow_s and (outcome.streamed or circuit.slow_is_said)
        circuit.breaker = circuit.breaker.succeeded(ticket.permit, now_s, self._random, slow=slow)
        circuit.heard_s = circuit.answered_s = now_s
        circuit.health.seen(True, now_s, slow=slow)
        circuit.first_content.add(first_s)
        self._unlimit(circuit, ticket)
        if slow:
            self._look(circuit, now_s, "slow")

    def _unlimit(self, circuit: Circuit, ticket: Ticket) -> None:
        """It takes calls again, if one that began after it had asked for fewer says so."""
        if circuit.limits_in_a_row and ticket.began_s > circuit.limited_at_s:
            circuit.limits_in_a_row = 0
            circuit.limited_until_s = circuit.trying_until_s = 0.0
            self._tell(circuit, "limit", "over", "")

    def _limit(self, circuit: Circuit, ticket: Ticket, outcome: Outcome, now_s: float) -> None:
        """It wants fewer calls: none until then. What it said before is never shortened.

        Only the first, and each one call that was let through after the wait, count: not those that were on their way.
        """
        retry = self._settings.retry
        in_a_row = circuit.limits_in_a_row
        wait_s = outcome.retry_after_s
        circuit.limited_at_s = now_s
        if in_a_row == 0 or circuit.trial is ticket:
            circuit.limits_in_a_row += 1
            if wait_s is None:
                wait_s = min(retry.limit_max_s, retry.limit_s * 2.0 ** min(in_a_row, 10))
            elif in_a_row:
                wait_s = max(wait_s, min(retry.limit_max_s, TOLD_LIMIT_S * 2.0 ** min(in_a_row - 1, 10)))
        circuit.limited_until_s = max(circuit.limited_until_s, now_s + (wait_s or 0.0))
        self._tell(circuit, "limit", "limited", f"{circuit.limited_until_s - now_s:.1f} s")

    def _shut(self, refused: Circuit, now_s: float, *, whole_account: bool) -> None:
        """The key is refused: so it is for every model that is called with it, and for none with a newer one.

        403 may be said of one model only.
        """
        # What may be said of one request only is believed for long when it is said again.
        breaker = self._settings.breaker
        for_s = breaker.credentials_open_s if whole_account or refused.told["breaker"] != "closed" else breaker.open_s
        same = [each for each in self._circuits.values() if whole_account and each.account == refused.account]
        for circuit in same if refused in same else [refused, *same]:
            if circuit.told["breaker"] != "refused" or circuit.breaker.state(now_s) != "open":
                circuit.breaker = circuit.breaker.force_open(now_s, for_s)
            if circuit.told["breaker"] != "refused":
                if circuit.told["breaker"] == "closed":
                    circuit.not_closed_since_s = now_s
                circuit.told["breaker"] = "refused"
                self._tell(circuit, "credentials", "refused", "the provider does not accept the key")

    def looked(self, provider: str, ok: bool, now_s: float) -> None:
        """Somebody looked whether a provider is there."""
        for circuit in self._circuits.values():
            if circuit.provider == provider:
                circuit.health.probed(ok, now_s)
                self._look(circuit, now_s, "a look at it")

    def is_due(self, provider: str, now_s: float, interval_s: float) -> bool:
        """Whether a provider has been without traffic for so long that somebody should look. Who is told True looks."""
        next_s = self._look_at_s.get(provider)
        if next_s is None:  # the first: anywhere in the interval, so that not all look at the start
            self._look_at_s[provider] = now_s + interval_s * self._random()
            return False
        if now_s < max(next_s, self._called_s.get(provider, -math.inf) + interval_s):
            return False
        self._look_at_s[provider] = now_s + interval_s * (1 + LOOK_JITTER * (2 * self._random() - 1))
        return True

    def _look(self, circuit: Circuit, now_s: float, why: str) -> None:
        """Tell what has changed."""
        phase = circuit.breaker.state(now_s)
        if phase != circuit.told["breaker"] and not (circuit.told["breaker"] == "refused" and phase == "open"):
            if phase == "closed":  # a probe has shown that it is well; what was counted before is over
                circuit.health = Health()
                _set_health(circuit.health, self._settings.health)
            if phase == "closed" or circuit.told["breaker"] == "closed":
                circuit.not_closed_since_s = None if phase == "closed" else now_s
            circuit.told["breaker"] = phase
            self._tell(circuit, "breaker", phase, circuit.breaker.why or why)
        health = circuit.health.state(now_s)
        if health != circuit.told["health"]:
            circuit.told["health"] = health
            self._tell(circuit, "health", health, why)

    def _tell(self, circuit: Circuit, what: str, state: str, why: str) -> None:
        self._on_change(circuit.provider, circuit.model, what, state, why)

    # what pages and metrics ask

    def status(self, routes: Routes) -> list[ProviderStatus]:
        """Every provider of a configuration, in its order."""
        now_s = self._clock.monotonic_s()
        found: dict[str, list[ModelStatus]] = {name: [] for name in routes.providers}
        for circuit in self._circuits.values():
            if circuit.provider in found:
                found[circuit.provider].append(_status(circuit, now_s))
        return [
            ProviderStatus(
                name,
                routes.providers[name].kind.name,
                max((model.health for model in models), key=_RANKS.__getitem__, default="healthy"),
                max((model.breaker for model in models), key=_PHASES.index, default="closed"),
                models,
            )
            for name, models in found.items()
        ]


def _status(circuit: Circuit, now_s: float) -> ModelStatus:
    phase = circuit.breaker.state(now_s)
    until_s = circuit.breaker.open_until_s
    limited_s = circuit.limited_for_s(now_s)
    since_s = circuit.not_closed_since_s
    return ModelStatus(
        model=circuit.model,
        breaker=phase,
        health=circuit.health.state(now_s),
        why="credentials" if circuit.told["breaker"] == "refused" and phase != "closed" else circuit.breaker.why,
        not_closed_for_s=None if since_s is None else round(now_s - since_s, 1),
        opens_in_s=round(until_s - now_s, 1) if phase == "open" and until_s != math.inf else None,
        limited_for_s=round(limited_s, 1) or None,
        calls=circuit.calls,
        failures=circuit.failures,
        latency_p50_ms=circuit.first_content.quantile_ms(0.5),
        latency_p95_ms=circuit.first_content.quantile_ms(0.95),
    )


def _set_health(health: Health, settings: HealthSettings) -> None:
    health.window_s = settings.window_s
    health.min_calls = settings.min_calls
    health.degraded_rate = min(settings.degraded_rate, settings.unhealthy_rate)
    health.unhealthy_rate = settings.unhealthy_rate
    health.slow_rate = settings.slow_rate
    health.down = settings.down_failures
    health.up = settings.up_calls


def _rules(settings: Settings) -> BreakerRules:
    breaker = settings.breaker
    longest_s = max([settings.first_token_timeout_s, *(each.first_token_timeout_s or 0 for each in settings.providers)])
    return BreakerRules(
        consecutive_failures=breaker.consecutive_failures,
        failure_rate=breaker.failure_rate,
        slow_rate=breaker.slow_rate,
        window_s=breaker.window_s,
        min_calls=breaker.min_calls,
        open_s=breaker.open_s,
        open_max_s=max(breaker.open_s, breaker.open_max_s),
        probes=breaker.probes,
        lease_s=longest_s + LEASE_SPARE_S,
    )


def _first(pair: tuple[int, Target]) -> int:
    return pair[0]
