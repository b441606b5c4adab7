"""What the gateway counts, for Prometheus: plain numbers on the hot path, read when somebody asks.

Labels come from the configuration and from fixed sets, so there are only so many.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, get_args

from leeward.gateway.records import AttemptOutcome, RequestOutcome

if TYPE_CHECKING:
    from leeward.gateway.records import AttemptRecord, RequestRecord
    from leeward.gateway.targets import Routes

__all__ = ["BOUNDS_S", "GatewayMetrics", "Histogram"]

CHANGES: Final = (("breaker", "open"), ("credentials", "refused"), ("health", "unhealthy"), ("limit", "limited"))

BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


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
        self.requests: Counter[tuple[str, ...]] = Counter()  # route, outcome, degraded
        self.attempts: Counter[tuple[str, ...]] = Counter()  # provider, outcome
        self.repeats: Counter[str] = Counter()
        self.maybe_billed: Counter[str] = Counter()
        self.changes: Counter[tuple[str, ...]] = Counter()  # provider, what, state
        self.tokens: Counter[tuple[str, ...]] = Counter()  # provider, input or output
        self.usd: Counter[str] = Counter()
        self.durations: dict[str, Histogram] = {}  # of requests, by route
        self.attempt_durations: dict[str, Histogram] = {}  # by provider
        self.first_tokens: dict[str, Histogram] = {}  # of streams, by provider

    def know(self, routes: Routes) -> None:
        """Begin at 0 for what is configured: a rate needs a value before the first failure."""
        for provider in routes.providers:
            _begin(self.attempts, ((provider, outcome) for outcome in get_args(AttemptOutcome)))
            _begin(self.changes, ((provider, what, state) for what, state in CHANGES))
            _begin(self.tokens, ((provider, kind) for kind in ("input", "output")))
            self.repeats.setdefault(provider, 0)
            _of(self.attempt_durations, provider)
            _of(self.first_tokens, provider)
        for route in routes.by_model.values():
            _begin(self.requests, ((route.model, outcome, "") for outcome in get_args(RequestOutcome)))
            _begin(self.requests, ((route.model, "degraded", step) for step in route.fallback))
            _of(self.durations, route.model)

    def attempted(self, request: RequestRecord, attempt: AttemptRecord, why: str) -> None:  # noqa: ARG002 - as every observer
        """A call has ended."""
        provider = attempt.provider
        self.attempts[provider, attempt.outcome] += 1
        _of(self.attempt_durations, provider).add(attempt.duration_s)
        if attempt.maybe_billed:
            self.maybe_billed[provider] += 1
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


def _begin(counts: Counter[tuple[str, ...]], labels: Iterable[tuple[str, ...]]) -> None:
    for each in labels:
        counts.setdefault(each, 0)


def _of(found: dict[str, Histogram], name: str) -> Histogram:
    histogram = found.get(name)
    if histogram is None:
        histogram = found[name] = Histogram()
    return histogram
