"""The gateway's counts as Prometheus wants them. Imports its library only when a scraper asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prometheus_client import Metric

    from leeward.gateway.circuits import ProviderStatus
    from leeward.gateway.metrics import GatewayMetrics, Histogram
    from leeward.resilience.budget import BudgetStatistics

__all__ = ["exposition"]

_BREAKER: Final = {"closed": 0, "half-open": 1, "open": 2}
_HEALTH: Final = {"healthy": 0, "degraded": 1, "unhealthy": 2}
_Counts = Mapping[tuple[str, ...], float]


def exposition(
    metrics: GatewayMetrics,
    providers: list[ProviderStatus],
    budget: BudgetStatistics,
    *,
    telemetry_lost: int = 0,
    reports: Mapping[str, int] | None = None,
) -> Iterator[Metric]:
    """Everything, for prometheus-client.

    Args:
        metrics: what was counted.
        providers: how they are.
        budget: of repeats.
        telemetry_lost: spans that found no place.
        reports: what became of those to Sentry, by outcome.
    """
    by_outcome: Counter[tuple[str, ...]] = Counter()
    degraded: Counter[tuple[str, ...]] = Counter()
    for (route, outcome, step), count in metrics.requests.items():
        by_outcome[outcome,] += count
        if step:
            degraded[route, step] += count
    yield _counter("requests", "Requests, by how they ended.", "outcome", by_outcome)
    yield _counter("degraded", "Degraded answers, by what stood in.", "route step", degraded)
    yield _counter("attempts", "Calls to providers, by how they ended.", "provider outcome", metrics.attempts)
    yield _counter("repeats", "Calls to a provider that had been asked before.", "provider", _alone(metrics.repeats))
    yield _counter(
        "maybe_billed", "Calls without an answer that may be billed.", "provider", _alone(metrics.maybe_billed)
    )
    yield _counter("changes", "Changes of providers.", "provider what state", metrics.changes)
    yield _counter("tokens", "Tokens, as providers count them.", "provider kind", metrics.tokens)
    yield _counter("cost_usd", "US dollars, by known prices.", "provider", _alone(metrics.usd))
    yield _counter("retry_budget_refused", "Repeats that the budget did not allow.", "", {(): float(budget.refused)})
    yield _counter("telemetry_lost", "Spans of the gateway that found no place.", "", {(): float(telemetry_lost)})
    if reports is not None:
        yield _counter("reports", "Reports to Sentry, by what became of them.", "outcome", _alone(reports))
    yield _histogram("request_duration_seconds", "Requests, from end to end.", "route", metrics.durations)
    yield _histogram("attempt_duration_seconds", "Calls to providers.", "provider", metrics.attempt_durations)
    yield _histogram("first_token_seconds", "Streams, to their first content.", "provider", metrics.first_tokens)
    models = [(each.name, model) for each in providers for model in each.models]
    yield _gauge(
        "breaker_state",
        "0 closed, 1 half-open, 2 open.",
        "provider model",
        {(name, model.model): _BREAKER[model.breaker] for name, model in models},
    )
    yield _gauge(
        "health",
        "0 healthy, 1 degraded, 2 unhealthy.",
        "provider model",
        {(name, model.model): _HEALTH[model.health] for name, model in models},
    )
    yield _gauge("retry_budget", "Repeats that may be made now.", "", {(): budget.tokens})


def _counter(name: str, text: str, labels: str, counts: _Counts) -> Metric:
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - only a scraper needs it

    family = CounterMetricFamily(f"leeward_gateway_{name}", text, labels=labels.split())
    for values, count in sorted(counts.items()):
        family.add_metric(list(values), count)
    return family


def _gauge(name: str, text: str, labels: str, values: _Counts) -> Metric:
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - see above

    family = GaugeMetricFamily(f"leeward_gateway_{name}", text, labels=labels.split())
    for each, value in sorted(values.items()):
        family.add_metric(list(each), value)
    return family


def _histogram(name: str, text: str, label: str, found: Mapping[str, Histogram]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415 - see above

    family = HistogramMetricFamily(f"leeward_gateway_{name}", text, labels=[label])
    for value, each in sorted(found.items()):
        family.add_metric([value], each.buckets(), each.sum_s)
    return family


def _alone(counts: Mapping[str, float]) -> _Counts:
    return {(key,): count for key, count in counts.items()}
