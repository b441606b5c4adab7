"""The gateway's counts as a scraper reads them: parsed by Prometheus's own client, bounded, and there before a failure."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateways import settings_of
from leeward.gateway.circuits import ModelStatus, ProviderStatus
from leeward.gateway.exposition import exposition
from leeward.gateway.metrics import BOUNDS_S, GatewayMetrics
from leeward.gateway.records import AttemptOutcome, AttemptRecord, Caller, RequestOutcome, RequestRecord
from leeward.gateway.targets import routes_of
from leeward.resilience.budget import RetryBudget
from leeward.wire.chat import Usage

ROW = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "sk-1", "models": {"chat": "large"}}
ROUTES = routes_of(
    settings_of(
        {"name": "a", **ROW}, {"name": "b", **ROW}, routes=[{"model": "chat", "fallback": ["stale-cache", "static"]}]
    )
)


def scraped(metrics, providers=(), **more):
    """Each sample's value by name and labels, and the families."""

    class Collector:
        def collect(self):
            return exposition(metrics, list(providers), RetryBudget().statistics(), **more)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    samples = {(each.name, *sorted(each.labels.items())): each.value for one in families for each in one.samples}
    return samples, {family.name: family.type for family in families}


def known():
    metrics = GatewayMetrics()
    metrics.know(ROUTES)
    return metrics


def test_what_is_configured_is_there_from_the_start_with_0():
    samples, _ = scraped(known())

    for outcome in get_args(AttemptOutcome):
        assert samples["leeward_gateway_attempts_total", ("outcome", outcome), ("provider", "b")] == 0
    for outcome in get_args(RequestOutcome):
        assert samples["leeward_gateway_requests_total", ("outcome", outcome)] == 0
    assert samples["leeward_gateway_degraded_total", ("route", "chat"), ("step", "static")] == 0
    assert samples["leeward_gateway_repeats_total", ("provider", "a")] == 0
    assert samples["leeward_gateway_first_token_seconds_count", ("provider", "a")] == 0
    assert samples["leeward_gateway_request_duration_seconds_count", ("route", "chat")] == 0
    assert ("leeward_gateway_changes_total", ("provider", "a"), ("state", "open"), ("what", "breaker")) in samples
    assert samples["leeward_gateway_telemetry_lost_total",] == 0


def test_to_know_the_same_again_changes_no_count():
    metrics = known()
    metrics.attempts["a", "ok"] += 3
    metrics.know(ROUTES)

    assert metrics.attempts["a", "ok"] == 3


def test_requests_and_calls_are_counted_by_how_they_ended():
    metrics = known()
    bad = AttemptRecord("a", "large", 0, 0.3, "rate_limited")
    good = AttemptRecord("b", "large", 0, 1.2, "ok", usage=Usage(10, 20), first_token_s=0.4, repeat=True, cost=0.5)
    request = RequestRecord(Caller("r"), "chat", "chat", True, 0, 1.6, "degraded", degraded="static")
    for attempt in (bad, good):
        metrics.attempted(request, attempt, "")
    metrics.ended(request)
    metrics.changed("a", "large", "limit", "limited", "")
    samples, types = scraped(metrics, telemetry_lost=4, reports={"sent": 2})

    assert samples["leeward_gateway_attempts_total", ("outcome", "rate_limited"), ("provider", "a")] == 1
    assert samples["leeward_gateway_attempts_total", ("outcome", "ok"), ("provider", "b")] == 1
    assert samples["leeward_gateway_requests_total", ("outcome", "degraded")] == 1
    assert samples["leeward_gateway_degraded_total", ("route", "chat"), ("step", "static")] == 1
    assert samples["leeward_gateway_repeats_total", ("provider", "b")] == 1
    assert samples["leeward_gateway_tokens_total", ("kind", "output"), ("provider", "b")] == 20
    assert samples["leeward_gateway_cost_usd_total", ("provider", "b")] == 0.5
    assert samples["leeward_gateway_telemetry_lost_total",] == 4
    assert samples["leeward_gateway_reports_total", ("outcome", "sent")] == 2
    assert samples["leeward_gateway_attempt_duration_seconds_bucket", ("le", "0.25"), ("provider", "a")] == 0
    assert samples["leeward_gateway_attempt_duration_seconds_bucket", ("le", "0.5"), ("provider", "a")] == 1
    assert samples["leeward_gateway_attempt_duration_seconds_sum", ("provider", "b")] == 1.2
    assert types["leeward_gateway_requests"] == "counter"
    assert types["leeward_gateway_first_token_seconds"] == "histogram"
    assert types["leeward_gateway_breaker_state"] == "gauge"


@pytest.mark.parametrize(
    ("breaker", "health", "values"), [("closed", "healthy", (0, 0)), ("half-open", "degraded", (1, 1)), ("open", "unhealthy", (2, 2))]
)  # fmt: skip
def test_how_a_provider_is_is_a_number(breaker, health, values):
    status = ProviderStatus("a", "openai", health, breaker, [ModelStatus("large", breaker, health)])
    samples, _ = scraped(known(), [status])

    labels = (("model", "large"), ("provider", "a"))
    assert (samples["leeward_gateway_breaker_state", *labels], samples["leeward_gateway_health", *labels]) == values


def test_without_a_project_there_is_no_family_of_reports():
    assert "leeward_gateway_reports" not in scraped(known())[1]


@given(st.lists(st.floats(0, 200), max_size=50))
def test_a_histogram_never_falls_and_ends_with_all(seconds):
    metrics = GatewayMetrics()
    for each in seconds:
        metrics.ended(RequestRecord(Caller("r"), "chat", "chat", False, 0, each, "ok"))
    samples, _ = scraped(metrics)

    if seconds:
        name = "leeward_gateway_request_duration_seconds"
        found = [samples[f"{name}_bucket", ("le", bound), ("route", "chat")] for bound in (*map(str, BOUNDS_S), "+Inf")]
        assert found == sorted(found)
        assert found[-1] == samples[f"{name}_count", ("route", "chat")] == len(seconds)


def test_g23_names_with_signs_of_the_format_stay_one_label():
    status = ProviderStatus("a", "openai", "healthy", "closed", [ModelStatus('x"}\\y{', "closed", "healthy")])
    samples, _ = scraped(known(), [status])

    assert samples["leeward_gateway_health", ("model", 'x"}\\y{'), ("provider", "a")] == 0
