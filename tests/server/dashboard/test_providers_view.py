"""How providers are, arranged for a reader: plain values in, plain values out."""

from __future__ import annotations

import msgspec
import pytest

from leeward.gateway.chaos import ChaosState
from leeward.gateway.circuits import ModelStatus, ProviderStatus
from leeward.gateway.faults import FAULTS, Fault
from leeward.gateway.records import AttemptOutcome, RequestOutcome
from leeward.server.dashboard import providers
from leeward.server.dashboard.providers import ProvidersReading, build
from leeward.settings.gateway import Breaker

NOW = 1_800_000_000_000  # 08:00:00 UTC
WELL = ModelStatus("chat", "closed", "healthy", calls=5)
UNWELL = {"not_closed_for_s": 42.0, "opens_in_s": 3.2}


def provider(*models, name="primary"):
    return ProviderStatus(name, "simulated", "healthy", "closed", list(models))


def view(*rows, may_break=False, **reading):
    return build(ProvidersReading(providers=rows, breaker=Breaker(), **reading), NOW, may_break=may_break)


def sentence(**model):
    """How a model's state reads, and its tone."""
    (card,) = view(provider(msgspec.structs.replace(WELL, **model))).cards
    state = card.state
    return state.tone, f"{state.words}{state.since.utc if state.since else ''}{state.more}".replace(
        "\N{NO-BREAK SPACE}", " "
    )


@pytest.mark.parametrize(
    ("model", "tone", "words"),
    [
        ({}, "good", "healthy"),
        ({"calls": 0}, "good", "healthy, not called yet"),
        (
            {"breaker": "open", "why": "consecutive_failures", **UNWELL},
            "bad",
            "open since 07:59:18 UTC: 3 failures in a row; next probe in 4 s",
        ),
        (
            {"breaker": "open", "why": "failure_rate", **UNWELL},
            "bad",
            "open since 07:59:18 UTC: at least 50% of its calls failed; next probe in 4 s",
        ),
        (
            {"breaker": "open", "why": "slow_rate", **UNWELL},
            "bad",
            "open since 07:59:18 UTC: at least 80% of its calls were slow; next probe in 4 s",
        ),
        (
            {"breaker": "open", "why": "probe_failed", "opens_in_s": 90.0},
            "bad",
            "open: the probe failed, too; next probe in 1 min 30 s",
        ),
        (
            {"breaker": "open", "why": "probe_slow", **UNWELL},
            "bad",
            "open since 07:59:18 UTC: the probe was slow, too; next probe in 4 s",
        ),
        ({"breaker": "open", "why": "forced"}, "bad", "open: opened by hand; next probe when it is closed by hand"),
        (
            {"breaker": "half-open", "why": "consecutive_failures", "not_closed_for_s": 42.0},
            "warn",
            "half-open since 07:59:18 UTC: 3 failures in a row; the next call is a probe",
        ),
        (
            {"breaker": "open", "why": "credentials", **UNWELL},
            "bad",
            "key refused since 07:59:18 UTC; asked again in 4 s",
        ),
        ({"limited_for_s": 12.1}, "warn", "wants no calls for 13 s: too many requests (429)"),
        ({"health": "unhealthy"}, "bad", "unhealthy: its latest calls, or looks at it, failed"),
        ({"health": "degraded"}, "warn", "degraded: some of its latest calls failed or were slow"),
    ],
)
def test_a_state_is_a_sentence_that_says_since_when_why_and_what_comes_next(model, tone, words):
    assert sentence(**model) == (tone, words)


def test_a_breaker_that_opens_at_the_first_failure_says_so():
    rules = Breaker(consecutive_failures=1)
    model = msgspec.structs.replace(WELL, breaker="open", why="consecutive_failures", opens_in_s=1.0)
    reading = ProvidersReading(providers=(provider(model),), breaker=rules)

    assert build(reading, NOW, may_break=False).cards[0].state.more.startswith(": a call failed; ")


def test_a_provider_is_as_its_worst_model():
    limited, down = (
        msgspec.structs.replace(WELL, model="b", limited_for_s=3.0),
        msgspec.structs.replace(WELL, model="c", health="unhealthy"),
    )

    assert view(provider(WELL, limited)).cards[0].state.tone == "warn"
    assert view(provider(WELL, limited, down)).cards[0].state.tone == "bad"
    assert view(provider()).cards[0].state.words == "no models"


@pytest.mark.parametrize(
    ("rows", "tone", "words"),
    [
        ((), "plain", "No providers yet"),
        ((provider(WELL),), "good", "1 provider, all well"),
        ((provider(WELL), provider(WELL, name="b")), "good", "2 providers, all well"),
        (
            (provider(WELL), provider(msgspec.structs.replace(WELL, health="unhealthy"), name="b")),
            "warn",
            "2 providers, 1 not well: b",
        ),
        ((provider(msgspec.structs.replace(WELL, health="unhealthy")),), "bad", "1 provider, 1 not well: primary"),
    ],
)
def test_the_first_line_answers_whether_anything_is_broken(rows, tone, words):
    answer = view(*rows).state

    assert (answer.tone, answer.words) == (tone, words)


def test_what_was_counted_of_a_provider_is_its_own_and_the_largest_comes_first():
    (card, other) = view(
        provider(msgspec.structs.replace(WELL, latency_p50_ms=412.0, latency_p95_ms=1240.0)),
        provider(WELL, name="secondary"),
        attempts={
            ("primary", "ok"): 1200,
            ("primary", "timeout"): 3,
            ("primary", "server_error"): 4,
            ("primary", "cut"): 0,
            ("secondary", "ok"): 7,
        },
        repeats={"primary": 2},
        tokens={("primary", "input"): 1500, ("primary", "output"): 20},
        usd={"primary": 0.125},
    ).cards

    assert card.calls == "1,207, 1,200 good"
    assert card.failed == (("error of the provider (5xx)", "4"), ("time-out", "3"))
    assert (card.repeats, card.tokens, card.cost) == ("2", "1,500 in, 20 out", "$0.1250")
    assert [row.replace("\N{NO-BREAK SPACE}", " ") for row in (card.models[0].p50, card.models[0].p95)] == [
        "412 ms",
        "1.24 s",
    ]
    assert (other.calls, other.failed, other.repeats, other.tokens, other.cost) == (
        "7, all good",
        (),
        "0",
        "none counted",
        "",
    )
    assert (other.models[0].p50, other.models[0].p95) == ("–", "–")


def test_callers_are_told_apart_by_model_with_what_stood_in_and_what_did_not_come():
    rows = view(
        provider(WELL),
        requests={
            ("chat", "ok", ""): 10,
            ("chat", "degraded", "cache"): 2,
            ("chat", "degraded", "static"): 3,
            ("chat", "timeout", ""): 1,
            ("other", "refused", ""): 4,
        },
    ).routes

    assert [row.model for row in rows] == ["chat", "other"]
    assert rows[0].answered == "10"
    assert rows[0].degraded == (("static", "3"), ("cache", "2"))
    assert rows[0].failed == (("time-out", "1"),)
    assert (rows[1].answered, rows[1].degraded, rows[1].failed) == ("0", (), (("request refused", "4"),))


def test_every_outcome_that_is_not_good_has_words():
    assert set(providers._ATTEMPTS) == set(AttemptOutcome.__args__) - {"ok"}
    assert set(providers._REQUESTS) == set(RequestOutcome.__args__) - {"ok", "degraded"}


def test_who_may_be_broken_is_said_with_what_it_does_now():
    rows = view(
        provider(WELL),
        may_break=True,
        chaos=(
            ChaosState("a", True),
            ChaosState("b", True, Fault(mode="503", share=0.5), 41.2),
            ChaosState("c", False, Fault(mode="hang")),
        ),
    )

    assert [row.words.replace("\N{NO-BREAK SPACE}", " ") for row in rows.breakable] == [
        "does nothing wrong on purpose",
        "503 is switched on (50% of its calls): answers 503; ends in 42 s",
        "hang is switched on: takes the request and never answers (real: a stand-in answers in its place meanwhile)",
    ]
    assert [row.broken for row in rows.breakable] == [False, True, True]
    assert rows.faults == tuple((mode, row.sentence) for mode, row in FAULTS.items())
    assert rows.may_break
