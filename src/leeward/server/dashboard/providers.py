"""How providers are, and what callers got → what the page says. Decided here, in plain values; the template arranges it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from leeward.gateway.faults import FAULTS
from leeward.server.dashboard import text
from leeward.server.dashboard.view import Answer, Moment, Tone

if TYPE_CHECKING:
    from leeward.gateway.chaos import Chaos, ChaosState
    from leeward.gateway.circuits import ModelStatus, ProviderStatus
    from leeward.settings.gateway import Breaker

__all__ = ["FaultRow", "ProviderCard", "Providers", "ProvidersReading", "ProvidersView", "build"]

_SPACE: Final = "\N{NO-BREAK SPACE}"
_TIME: Final = "%H:%M:%S UTC"
_RANKS: Final[dict[Tone, int]] = {"good": 0, "plain": 0, "warn": 1, "bad": 2}
_ATTEMPTS: Final = {
    "rate_limited": "too many requests (429)",
    "server_error": "error of the provider (5xx)",
    "bad_answer": "no good answer",
    "timeout": "time-out",
    "network": "network",
    "busy": "no connection to it was free",
    "credentials": "key refused",
    "unavailable_model": "model not there",
    "refused": "request refused (400, 413, 422)",
    "declined": "declined (another 4xx)",
    "cut": "cut in mid-answer",
    "cancelled": "caller left",
}
_REQUESTS: Final = {
    "refused": "request refused",
    "failed": "every provider failed",
    "timeout": "time-out",
    "limited": "every provider had too many requests",
    "open": "every breaker open",
    "cut": "cut in mid-answer",
    "cancelled": "caller left",
}
_FOR: Final = (("60", "1 minute"), ("300", "5 minutes"), ("3600", "1 hour"))


class ProvidersReading(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway knows of its providers, and has counted since its start. Names come from the configuration."""

    providers: Sequence[ProviderStatus]
    breaker: Breaker
    attempts: Mapping[tuple[str, ...], int] = {}  # provider, outcome
    repeats: Mapping[str, int] = {}  # by provider
    tokens: Mapping[tuple[str, ...], int] = {}  # provider, input or output
    usd: Mapping[str, float] = {}  # by provider, where a price is known
    requests: Mapping[tuple[str, ...], int] = {}  # route, outcome, what stood in
    chaos: Sequence[ChaosState] = ()


class Providers(Protocol):
    """What the page asks of the gateway. Answers at once."""

    chaos: Chaos

    def reading(self) -> ProvidersReading:
        """How everything is at this moment."""
        ...


class State(msgspec.Struct, frozen=True):
    """A sentence with a time in it, and its tone."""

    tone: Tone
    words: str
    since: Moment | None = None
    more: str = ""

    @property
    def mark(self) -> str:
        """The tone as a sign."""
        return Answer(self.tone, "").mark


class ModelRow(msgspec.Struct, frozen=True):
    """One model of a provider."""

    name: str
    state: State
    calls: str
    failures: str
    p50: str
    p95: str


class ProviderCard(msgspec.Struct, frozen=True):
    """One provider. `failed` says what went wrong how often; `cost` is empty where no price is known."""

    name: str
    kind: str
    state: State
    models: tuple[ModelRow, ...]
    calls: str
    failed: tuple[tuple[str, str], ...]
    repeats: str
    tokens: str
    cost: str


class RouteRow(msgspec.Struct, frozen=True):
    """What became of the requests for one model."""

    model: str
    answered: str
    degraded: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str], ...]


class FaultRow(msgspec.Struct, frozen=True):
    """A provider that may be broken by hand: what it does now, in words, and whether that is a fault."""

    provider: str
    name: str
    broken: bool
    words: str


class ProvidersView(msgspec.Struct, frozen=True):
    """Everything that the page says."""

    state: Answer
    cards: tuple[ProviderCard, ...]
    routes: tuple[RouteRow, ...]
    breakable: tuple[FaultRow, ...]
    faults: tuple[tuple[str, str], ...]
    spans: tuple[tuple[str, str], ...]
    may_break: bool
    now: Moment


def build(reading: ProvidersReading, now_ms: int, *, may_break: bool) -> ProvidersView:
    """Say how the providers are. `may_break`: the reader may switch faults on."""
    cards = tuple(_card(provider, reading, now_ms) for provider in reading.providers)
    return ProvidersView(
        state=_state_of_all(cards),
        cards=cards,
        routes=_routes(reading.requests),
        breakable=tuple(map(_breakable, reading.chaos)),
        faults=tuple((mode, row.sentence) for mode, row in FAULTS.items()),
        spans=_FOR,
        may_break=may_break,
        now=_moment(now_ms),
    )


def _state_of_all(cards: Sequence[ProviderCard]) -> Answer:
    number = f"{text.count(len(cards))} provider" + ("" if len(cards) == 1 else "s")
    unwell = [card.name for card in cards if _RANKS[card.state.tone]]
    if not cards:
        return Answer("plain", "No providers yet")
    if not unwell:
        return Answer("good", f"{number}, all well")
    down = all(card.state.tone == "bad" for card in cards)
    return Answer("bad" if down else "warn", f"{number}, {text.count(len(unwell))} not well: {', '.join(unwell)}")


# One provider


def _card(provider: ProviderStatus, reading: ProvidersReading, now_ms: int) -> ProviderCard:
    name = provider.name
    rows = tuple(_model(model, reading.breaker, now_ms) for model in provider.models)
    worst = max((row.state for row in rows), key=lambda state: _RANKS[state.tone], default=State("plain", "no models"))
    outcomes = {outcome: count for (own, outcome), count in reading.attempts.items() if own == name and count}
    taken, given = reading.tokens.get((name, "input"), 0), reading.tokens.get((name, "output"), 0)
    usd = reading.usd.get(name)
    return ProviderCard(
        name=text.visible(name),
        kind=text.visible(provider.kind),
        state=worst,
        models=rows,
        calls=_calls(sum(outcomes.values()), outcomes.pop("ok", 0)),
        failed=_named(outcomes, _ATTEMPTS),
        repeats=text.count(reading.repeats.get(name, 0)),
        tokens=f"{text.count(taken)} in, {text.count(given)} out" if taken or given else "none counted",
        cost="" if usd is None else f"${usd:,.4f}",
    )


def _calls(calls: int, good: int) -> str:
    if not calls:
        return "none yet"
    return f"{text.count(calls)}, all good" if calls == good else f"{text.count(calls)}, {text.count(good)} good"


def _model(model: ModelStatus, rules: Breaker, now_ms: int) -> ModelRow:
    return ModelRow(
        name=text.visible(model.model),
        state=_state(model, rules, now_ms),
        calls=text.count(model.calls),
        failures=text.count(model.failures),
        p50=_latency(model.latency_p50_ms),
        p95=_latency(model.latency_p95_ms),
    )


def _latency(duration_ms: float | None) -> str:
    return "–" if duration_ms is None else text.duration(duration_ms / 1000)


def _state(model: ModelStatus, rules: Breaker, now_ms: int) -> State:
    """In words: open since 10:42: 3 failures in a row; next probe in 4 s."""
    since = None if model.not_closed_for_s is None else _moment(now_ms - round(model.not_closed_for_s * 1000))
    if model.why == "credentials":
        return State("bad", _since("key refused", since), since, f"; asked again {_in(model.opens_in_s)}")
    if model.breaker == "open":
        return State(
            "bad", _since("open", since), since, f": {_why(model.why, rules)}; next probe {_in(model.opens_in_s)}"
        )
    if model.breaker == "half-open":
        return State("warn", _since("half-open", since), since, f": {_why(model.why, rules)}; the next call is a probe")
    if model.limited_for_s:
        return State("warn", f"wants no calls for {_seconds(model.limited_for_s)}: too many requests (429)")
    if model.health == "unhealthy":
        return State("bad", "unhealthy: its latest calls, or looks at it, failed")
    if model.health == "degraded":
        return State("warn", "degraded: some of its latest calls failed or were slow")
    return State("good", "healthy" if model.calls else "healthy, not called yet")


def _since(state: str, since: Moment | None) -> str:
    return state if since is None else f"{state} since "


def _why(why: str, rules: Breaker) -> str:
    failures = rules.consecutive_failures
    return {
        "consecutive_failures": f"{failures} failures in a row" if failures > 1 else "a call failed",
        "failure_rate": f"at least {rules.failure_rate:.0%} of its calls failed",
        "slow_rate": f"at least {rules.slow_rate:.0%} of its calls were slow",
        "probe_failed": "the probe failed, too",
        "probe_slow": "the probe was slow, too",
    }.get(why, "opened by hand")


def _in(seconds: float | None) -> str:
    return "when it is closed by hand" if seconds is None else f"in {_seconds(seconds)}"


def _seconds(seconds: float) -> str:
    return f"{math.ceil(seconds)}{_SPACE}s" if seconds <= 60 else text.duration(seconds)


# What callers got


def _routes(requests: Mapping[tuple[str, ...], int]) -> tuple[RouteRow, ...]:
    rows = []
    for model in sorted({route for route, _, _ in requests}):
        ended: dict[str, int] = {}
        stood_in: dict[str, int] = {}
        for (route, outcome, step), count in requests.items():
            if route == model and count:
                counts, key = (stood_in, step) if outcome == "degraded" else (ended, outcome)
                counts[key] = counts.get(key, 0) + count
        answered = ended.pop("ok", 0)
        rows.append(RouteRow(text.visible(model), text.count(answered), _named(stood_in), _named(ended, _REQUESTS)))
    return tuple(rows)


def _named(counts: Mapping[str, int], names: Mapping[str, str] | None = None) -> tuple[tuple[str, str], ...]:
    """Each count with its name, the largest first."""
    ordered = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    return tuple((text.visible((names or {}).get(name, name)), text.count(count)) for name, count in ordered)


# What is broken by hand


def _breakable(state: ChaosState) -> FaultRow:
    fault = state.fault
    if fault is None:
        words = "does nothing wrong on purpose"
    else:
        ends = "" if state.ends_in_s is None else f"; ends in {_seconds(state.ends_in_s)}"
        share = "" if fault.share == 1 else f" ({fault.share:.0%} of its calls)"
        words = f"{fault.mode} is switched on{share}: {_small(FAULTS[fault.mode].sentence)}{ends}"
    if not state.simulated:
        words += " (real: a stand-in answers in its place meanwhile)"
    return FaultRow(state.provider, text.visible(state.provider), fault is not None, words)


def _small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _moment(time_ms: int) -> Moment:
    return Moment(text.iso(time_ms), text.utc(time_ms, _TIME))
