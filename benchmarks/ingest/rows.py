"""The rows of the table: a server under one load, and what came of it.

A row gets a server of its own with an empty folder: started, left to rest, warmed up, then loaded several times in turn.
Each time the clock runs until all that was acknowledged is stored, or its count has come to rest.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Final, NamedTuple

from benchmarks.ingest import processes
from benchmarks.ingest.generator import Generator, Job
from benchmarks.ingest.loads import LOADS
from benchmarks.ingest.servers import PEERS, Leeward, Server, Unavailable, running

Figures = dict[str, list[float]]  # figure → its repetitions

REST_S: Final = 2.0  # after the start, before the idle memory is read
POLL_S: Final = 0.05


class Goals(NamedTuple):
    """What leeward must reach in a row: items stored/s, 99 of 100 acknowledgements, CPU for 100,000 items."""

    stored_per_s: float
    p99_ms: float
    cpu_s: float


class Row(NamedTuple):
    """What is sent, and which peers take it."""

    title: str
    load: str
    items: int
    peers: tuple[str, ...] = ()
    goals: Goals | None = None


class Effort(NamedTuple):
    """How long everything takes."""

    seconds: float
    warm_s: float
    drain_s: float  # at most, after the load
    repeats: int


OURS: Final = Effort(seconds=7, warm_s=3, drain_s=45, repeats=3)
THEIRS: Final = Effort(seconds=15, warm_s=5, drain_s=45, repeats=1)
QUICK: Final = Effort(seconds=1.5, warm_s=0.5, drain_s=12, repeats=1)

ROWS: Final[dict[str, Row]] = {
    "spans-100": Row("OTLP spans, batches of 100", "spans", 100, ("mlflow", "phoenix"), Goals(30_000, 60, 6)),
    "spans-1": Row("OTLP spans, one a request", "spans", 1, ("mlflow", "phoenix"), Goals(2_000, 12, 50)),
    "logs-100": Row("OTLP log records, batches of 100", "logs", 100),
    "posthog-100": Row("PostHog events, batches of 100", "posthog", 100, (), Goals(30_000, 60, 6)),
    "posthog-100-gzip": Row("PostHog events, batches of 100, gzip", "posthog_gzip", 100),
    "sentry-1": Row("Sentry errors, one an envelope", "sentry", 1, ("bugsink",), Goals(1_500, 12, 50)),
    "native-100": Row("native events, batches of 100", "native", 100),
}


def item_bytes(row: Row) -> float:
    """What one item takes in a body, unpacked."""
    load = LOADS[row.load](row.items, "k" * 35, "1")
    return sum(template.size for template in load.templates) / len(load.templates) / row.items


def measure(row: Row, name: str, effort: Effort) -> Figures:
    """The figures of one server in one row.

    Raises:
        Unavailable: it is not installed, does not start, or takes nothing.
    """
    figures: Figures = defaultdict(list)
    with running({**PEERS, Leeward.name: Leeward}[name]) as server:
        figures["ready_s"].append(server.ready_s)
        time.sleep(REST_S)
        figures["idle_mb"].append(processes.memory(server.pids()).now_mb)
        disk_before = server.disk_bytes()
        _load(server, row, effort._replace(seconds=effort.warm_s), seed=0)
        processes.forget_peaks(server.pids())
        for repeat in range(effort.repeats):
            for figure, value in _load(server, row, effort, seed=repeat + 1).items():
                figures[figure].append(value)
        figures["peak_mb"].append(processes.memory(server.pids()).peak_mb)
        stored = server.stored()
        server.stop()
        figures["disk_bytes"].append((server.disk_bytes() - disk_before) / stored)
    return figures


def _load(server: Server, row: Row, effort: Effort, *, seed: int) -> dict[str, float]:
    job = Job(
        server.port,
        row.load,
        row.items,
        server.key,
        server.project,
        dict(server.headers),
        seconds=effort.seconds,
        seed=seed,
    )
    stored_before, cpu_before = server.stored(), processes.cpu_s(server.pids())
    sent = Generator(job).wait()
    if not sent.acknowledged:
        raise Unavailable(f"{server.name} took nothing: {sent.said or 'no answer'}")
    settled_s, stored_after = settle(server, stored_before + sent.acknowledged, effort.drain_s)
    stored = stored_after - stored_before
    cpu_s = processes.cpu_s(server.pids()) - cpu_before
    return {
        "acknowledged_per_s": sent.acknowledged / sent.seconds,
        "stored_per_s": stored / (settled_s - sent.began_s),
        "p50_ms": sent.p50_ms,
        "p99_ms": sent.p99_ms,
        "cpu_s": cpu_s / max(1, stored) * 100_000,
        "left": sent.acknowledged - stored,
        "refused": sent.refused + sent.broken,
    }


def settle(server: Server, wanted: int, drain_s: float) -> tuple[float, int]:
    """Wait until so much is stored, or until the count has come to rest: since when it stands, and where."""
    began_s = changed_s = time.perf_counter()
    count = server.stored()
    while count < wanted:
        time.sleep(POLL_S if isinstance(server, Leeward) else 10 * POLL_S)
        now_s, fresh = time.perf_counter(), server.stored()
        if fresh != count:
            count, changed_s = fresh, now_s
        if now_s - changed_s > server.settle_s or now_s - began_s > drain_s:
            break
    else:
        changed_s = time.perf_counter()
    return changed_s, count
