"""What the gateway counts, for Prometheus: plain numbers on the hot path, read when somebody asks.

Labels come from the configuration and from fixed sets, so there are only so many.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prometheus_client import Metric

    from leeward.gateway.circuits import ProviderStatus
    from leeward.gateway.records import AttemptRecord, RequestRecord
    from leeward.resilience.budget import BudgetStatistics

__all__ = ["BOUNDS_S", "GatewayMetrics", "Histogram"]

BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_STATES: Final = {"closed": 0, "half-open": 1, "open": 2}
_HEALTH: Final = {"healthy": 0, "degraded": 1, "unhealthy": 2}


class Histogram:
    """Durations, in buckets by their upper bound."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus has them: how many up to each bound."""
        total = 0.0
        buckets = []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, total))
        return buckets


class GatewayMetrics:
    """An observer that counts."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()  # route, outcome, degraded
        self.attempts: Counter[tuple[str, str]] = Counter()  # provider, outcome
        self.repeats: Counter[str] = Counter()
        self.changes: Counter[tuple[str, str, str]] = Counter()  # provider, what, state
        self.tokens: Counter[tuple[str, str]] = Counter()  # provider, input or output
        self.usd: Counter[str] = Counter()
        self.durations: dict[str, Histogram] = {}  # of requests, by route
        self.attempt_durations: dict[str, Histogram] = {}  # by provider
        self.first_tokens: dict[str, Histogram] = {}  # of streams, by provider

    def attempted(self, request: RequestRecord, attempt: AttemptRecord, why: str) -> None:  # noqa: ARG002 - as every observer
        """A call has ended."""
        provider = attempt.provider
        self.attempts[provider, attempt.outcome] += 1
        _of(self.attempt_durations, provider).add(attempt.duration_s)
        if attempt.repeat:
            self.repeats[provider] += 1
        if attempt.first_token_s is not None:
            _of(self.first_tokens, provider).add(attempt.first_token_s)
        if attempt.usage is not None:
            self.tokens[provider, "input"] += attempt.usage.input_tokens
            self.tokens[provider, "output"] += attempt.usage.output_tokens
        if attempt.cost is not None:
            self.usd[provider] += attempt.cost  # type: ignore[assignment]  # a Counter of dollars

    def ended(self, request: RequestRecord) -> None:
        """A request has ended."""
        self.requests[request.route, request.outcome, request.degraded] += 1
        _of(self.durations, request.route).add(request.duration_s)

    def changed(self, provider: str, model: str, what: str, state: str, why: str) -> None:  # noqa: ARG002 - as every observer
        """Something about a provider changed."""
        self.changes[provider, what, state] += 1

    def collect(
        self,
        providers: Callable[[], list[ProviderStatus]],
        budget: Callable[[], BudgetStatistics],
    ) -> Iterator[Metric]:
        """Everything, for prometheus-client."""
        from prometheus_client.core import (  # noqa: PLC0415 - only a scraper needs it
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        def counter(name: str, text: str, labels: list[str], counts: Counter[tuple[str, ...]]) -> Metric:
            family = CounterMetricFamily(name, text, labels=labels)
            for values, count in sorted(counts.items()):
                family.add_metric(list(values), count)
            return family

        def histogram(name: str, text: str, label: str, found: dict[str, Histogram]) -> Metric:
            family = HistogramMetricFamily(name, text, labels=[label])
            for value, each in sorted(found.items()):
                family.add_metric([value], each.buckets(), each.sum_s)
            return family

        by_outcome: Counter[tuple[str, ...]] = Counter()
        degraded: Counter[tuple[str, ...]] = Counter()
        for (route, outcome, step), count in self.requests.items():
            by_outcome[(outcome,)] += count
            if step:
                degraded[route, step] += count
        yield counter("leeward_gateway_requests", "Requests, by how they ended.", ["outcome"], by_outcome)
        yield counter("leeward_gateway_degraded", "Degraded answers, by what stood in.", ["route", "step"], degraded)
        yield counter(
            "leeward_gateway_attempts", "Calls to providers, by how they ended.", ["provider", "outcome"], _tuples(self.attempts)
        )
        yield counter(
            "leeward_gateway_repeats", "Calls to a provider that had been asked before.", ["provider"], _single(self.repeats)
        )
        yield counter(
            "leeward_gateway_changes", "Changes of providers.", ["provider", "what", "state"], _tuples(self.changes)
        )
        yield counter("leeward_gateway_tokens", "Tokens, as providers count them.", ["provider", "kind"], _tuples(self.tokens))
        yield counter("leeward_gateway_cost_usd", "US dollars, by known prices.", ["provider"], _single(self.usd))
        yield histogram(
            "leeward_gateway_request_duration_seconds", "Requests, from end to end.", "route", self.durations
        )
        yield histogram("leeward_gateway_attempt_duration_seconds", "Calls.", "provider", self.attempt_durations)
        yield histogram("leeward_gateway_first_token_seconds", "Calls that stream, to the first content.", "provider", self.first_tokens)
        state = GaugeMetricFamily("leeward_gateway_breaker_state", "0 closed, 1 half-open, 2 open.", labels=["provider", "model"])
        health = GaugeMetricFamily("leeward_gateway_health", "0 healthy, 1 degraded, 2 unhealthy.", labels=["provider", "model"])
        for provider in providers():
            for model in provider.models:
                state.add_metric([provider.name, model.model], _STATES[model.breaker])
                health.add_metric([provider.name, model.model], _HEALTH[model.health])
        yield state
        yield health
        left = budget()
        yield GaugeMetricFamily("leeward_gateway_retry_budget", "Repeats that may be made now.", value=left.tokens)
        yield CounterMetricFamily("leeward_gateway_retry_budget_refused", "Repeats that were not made.", value=left.refused)


def _of(found: dict[str, Histogram], name: str) -> Histogram:
    histogram = found.get(name)
    if histogram is None:
        histogram = found[name] = Histogram()
    return histogram


def _tuples(counts: Counter[tuple[str, str]] | Counter[tuple[str, str, str]]) -> Counter[tuple[str, ...]]:
    return Counter({tuple(key): count for key, count in counts.items()})


def _single(counts: Counter[str]) -> Counter[tuple[str, ...]]:
    return Counter({(key,): count for key, count in counts.items()})
