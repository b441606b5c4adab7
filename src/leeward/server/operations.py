"""`/livez`, `/readyz`, `/health` and `/metrics`: how the process and its parts are. Health never waits for the store.

Promises  Whoever asks without a key is told fixed sentences and figures: no path, address or text of an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec

from leeward.server.http import Request, Response, json_response
from leeward.server.schemas import Health

if TYPE_CHECKING:
    from prometheus_client import Metric

    from leeward.server.counters import Counters

__all__ = ["Operations", "PartState", "event_metrics", "public", "request_metrics", "worst_state"]

State = Literal["healthy", "degraded", "unhealthy"]
_RANK: tuple[State, ...] = ("healthy", "degraded", "unhealthy")


Detail = Literal[
    "",
    "the log cannot be written: new events get 503",
    "the log is full: new events get 503 until the store catches up",
    "the log did not take the last events: they got 503",
    "damaged records were set aside",
    "the store is not ready: events wait in the log",
    "events cannot be loaded into the store just now: they wait in the log",
    "the store refuses some events: see /api/dead-letters",
    "the store is behind: events wait in the log",
    "less than 1 GiB of disk is free",
    "some providers do not answer as they should",
    "no provider answers",
]
_DETAILS: Final = frozenset(get_args(Detail))


class PartState(msgspec.Struct, frozen=True):
    """One part: its state, a sentence when it is not healthy, and its figures.

    `detail` is for everybody, so it is one of a few; `cause` says what was found, in any words and with places, and is
    for those who signed in.
    """

    state: State
    detail: Detail = ""
    figures: dict[str, float] = {}
    cause: str = ""


def public(parts: Mapping[str, PartState]) -> dict[str, dict[str, Any]]:
    """What everybody may know of the parts: state, fixed sentence, figures."""
    shown: dict[str, dict[str, Any]] = {}
    for name, part in parts.items():
        shown[name] = {"status": part.state}
        if part.detail:
            shown[name]["detail"] = part.detail if part.detail in _DETAILS else "see the server's log"
        shown[name].update(part.figures)
    return shown


def worst_state(parts: Mapping[str, PartState]) -> State:
    """The state of the whole: that of its worst part."""
    return max((part.state for part in parts.values()), key=_RANK.index, default="healthy")


class Operations:
    """The handlers. `parts` gives the state of each part, by name."""

    def __init__(
        self,
        *,
        parts: Callable[[], dict[str, PartState]],
        ready: Callable[[], bool],
        collectors: Sequence[Callable[[], Iterator[Metric]]],
        provider: Callable[[str], PartState],
    ) -> None:
        self._parts = parts
        self._ready = ready
        self._collectors = collectors
        self._provider = provider

    async def livez(self, request: Request) -> Response:  # noqa: ARG002 - every handler is given its request
        """The process answers."""
        return json_response({"status": "alive"})

    async def readyz(self, request: Request) -> Response:  # noqa: ARG002 - see livez
        """Events are accepted."""
        ready = self._ready()
        return json_response({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    async def health(self, request: Request) -> Response:
        """Every part; with `?provider=` one provider."""
        asked = request.query().get("provider") if request.query_string else None
        parts = self._parts() if asked is None else {asked: self._provider(asked)}
        worst = worst_state(parts)
        return json_response(Health(worst, public(parts)), 503 if worst == "unhealthy" else 200)

    async def metrics(self, request: Request) -> Response:  # noqa: ARG002 - see livez
        """Counters and gauges in Prometheus's text format."""
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - only a scraper needs it
        from prometheus_client.exposition import CONTENT_TYPE_LATEST  # noqa: PLC0415 - see above

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector((*self._collectors, lambda: part_metrics(self._parts()))))
        return Response(200, generate_latest(registry), [(b"content-type", CONTENT_TYPE_LATEST.encode())])


class _Collector:
    """What prometheus-client asks: the counters are read now, so the hot path pays an integer addition."""

    def __init__(self, collectors: Sequence[Callable[[], Iterator[Metric]]]) -> None:
        self._collectors = collectors

    def collect(self) -> Iterator[Metric]:
        for collector in self._collectors:
            yield from collector()


def part_metrics(parts: Mapping[str, PartState]) -> Iterator[Metric]:
    """How every part is, and its figures."""
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - see Operations.metrics

    state = GaugeMetricFamily("leeward_part_state", "0 healthy, 1 degraded, 2 unhealthy.", labels=["part"])
    for name, part in parts.items():
        state.add_metric([name], _RANK.index(part.state))
        for figure, value in part.figures.items():
            yield GaugeMetricFamily(f"leeward_{name}_{figure}", f"{name}: {figure.replace('_', ' ')}.", value=value)
    yield state


def request_metrics(counters: Counters) -> Iterator[Metric]:
    """Requests answered, whatever they wanted."""
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - see Operations.metrics

    requests = CounterMetricFamily("leeward_http_requests", "HTTP requests answered.", labels=["status"])
    for status, count in sorted(counters.requests.items()):
        requests.add_metric([str(status)], count)
    yield requests


def event_metrics(counters: Counters) -> Iterator[Metric]:
    """What became of events."""
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - see Operations.metrics

    yield CounterMetricFamily(
        "leeward_events_accepted", "Events acknowledged on stable storage, each once.", value=counters.accepted
    )
    yield CounterMetricFamily("leeward_events_stored", "Events loaded into the store.", value=counters.stored)
    yield CounterMetricFamily(
        "leeward_events_duplicate",
        "Repeated events that were not stored again.",
        value=counters.duplicates_at_door + counters.duplicates_at_load,
    )
    refused = CounterMetricFamily(
        "leeward_events_refused", "Events refused, and whole requests that brought some.", labels=["reason"]
    )
    for reason, count in sorted(counters.refused.items()):
        refused.add_metric([reason], count)
    yield refused
    lost = CounterMetricFamily(
        "leeward_client_events_lost", "Events that clients say they lost by themselves.", labels=["reason"]
    )
    for reason, count in sorted(counters.client_lost.items()):
        lost.add_metric([reason], count)
    yield lost
    yield CounterMetricFamily(
        "leeward_client_fields_ignored",
        "Batches whose client field could not be read; their events were taken.",
        value=counters.client_fields_ignored,
    )
    items = CounterMetricFamily(
        "leeward_wire_items",
        "What requests brought, by protocol and outcome: accepted, duplicate, why refused, or what is not kept.",
        labels=["wire", "outcome"],
    )
    for (wire, outcome), count in sorted(counters.wire_items.items()):
        items.add_metric([wire, outcome], count)
    yield items
    yield CounterMetricFamily("leeward_blocks_stored", "Blocks loaded into the store.", value=counters.blocks)
