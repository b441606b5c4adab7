"""Figures → Markdown: what each gateway came to, beside ours, and what of it leeward must reach."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.clients.report import number
from benchmarks.gateway.failures import FAULTS, Outcome, Storm, is_bounded
from benchmarks.gateway.gateways import Leeward
from benchmarks.gateway.packages import Installed
from benchmarks.ingest.report import verdict

Rounds = list[dict[str, float]]
Table = Mapping[str, Rounds]  # gateway → what each round came to
Outcomes = Mapping[tuple[str, bool], Mapping[str, Outcome]]  # fault, stream → gateway → outcome
Storms = Mapping[str, Storm]
OURS: Final = Leeward.name


class Line(NamedTuple):
    """A figure of the first table."""

    figure: str
    title: str
    scale: float = 1.0


LINES: Final = (
    Line("added_ms", "added latency, p50, c = 1, ms"),
    Line("first_token_ms", "added until the first token, p50, ms"),
    Line("cpu_us", "CPU a request, µs"),
    Line("per_s", "requests/s, one core, c = 32"),
    Line("token_us", "CPU a streamed token, 8 events a write, µs"),
    Line("paced_us", "CPU a streamed token, one event a segment, µs"),
    Line("tls_cpu_us", "CPU a request, TLS to the provider, µs"),
    Line("tls_per_s", "requests/s, TLS to the provider"),
    Line("connections", "new connections to the provider, for 1000 requests", 1000),
    Line("tls_connections", "the same over TLS to the provider", 1000),
    Line("calls", "calls to the provider for a request"),
    Line("ready_s", "start → first good answer, s"),
    Line("idle_mb", "resident then, MB"),
    Line("after_mb", "resident after the loads, MB"),
    Line("memory_growth", "growth over many requests, %", 100),
)


class Goal(NamedTuple):
    """What leeward must reach: a number, or so many times what a peer reaches in the same round."""

    title: str
    figure: str
    sign: str
    bound: float
    peer: str = ""
    scale: float = 1.0


GOALS: Final = (
    Goal("added p50, c = 1 : Ferro", "added_ms", "≤", 1, "ferro"),
    Goal("added until the first token : Ferro", "first_token_ms", "≤", 1, "ferro"),
    Goal("CPU a request : Ferro", "cpu_us", "≤", 0.5, "ferro"),
    Goal("CPU a request : LiteLLM", "cpu_us", "≤", 1 / 60, "litellm"),
    Goal("CPU a token, 8 events a write, µs", "token_us", "≤", 5),
    Goal("CPU a token, one event a segment : Ferro", "paced_us", "≤", 1, "ferro"),
    Goal("requests/s : Ferro", "per_s", "≥", 1.5, "ferro"),
    Goal("requests/s : LiteLLM", "per_s", "≥", 60, "litellm"),
    Goal("new connections over TLS, for 1000 requests", "tls_connections", "≤", 5, scale=1000),
    Goal("memory over many requests, growth in %", "memory_growth", "≤", 5, scale=100),
    Goal("start → first answer, s", "ready_s", "≤", 0.4),
    Goal("resident, MB", "idle_mb", "≤", 50),
)
PACKAGES_MAX: Final = 9
QUICK_FAILOVER_S: Final = 0.020
HITS_MAX: Final = 4
STORM_MAX: Final = 1.1
IN_PROCESS_MAX_US: Final = 150


def figure(rounds: Rounds, name: str) -> float | None:
    """The median of the rounds that have it."""
    values = [each[name] for each in rounds if name in each]
    return statistics.median(values) if values else None


def ratios(ours: Rounds, theirs: Rounds, name: str) -> list[float]:
    """Ours for one of theirs, within each round."""
    both = ((mine.get(name), other.get(name)) for mine, other in zip(ours, theirs, strict=False))
    return [mine / other for mine, other in both if mine is not None and other]


def costs(table: Table, packages: Mapping[str, Installed | None]) -> Iterator[str]:
    """The first table: a column for each gateway, and how many times Ferro leeward is."""
    names = list(table)
    peers = [name for name in names if name != OURS and OURS in table]
    yield _line(["measure", *names, *(f"leeward : {peer}" for peer in peers)])
    yield "|---" + "|---:" * (len(names) + len(peers)) + "|"
    for line in LINES:
        values = {name: figure(table[name], line.figure) for name in names}
        if any(value is not None for value in values.values()):
            cells = [number(None if value is None else value * line.scale) for value in values.values()]
            yield _line([line.title, *cells, *(_ratio(table[OURS], table[peer], line.figure) for peer in peers)])
    for title, pick in _PACKAGES:
        cells = [number(pick(found)) if found else "–" for found in (packages.get(name) for name in names)]
        yield _line([title, *cells, *("" for _ in peers)])


_PACKAGES: Final[tuple[tuple[str, Callable[[Installed], float]], ...]] = (
    ("packages", lambda found: found.packages),
    ("installed, MiB", lambda found: round(found.mib)),
)


def _ratio(ours: Rounds, theirs: Rounds, name: str) -> str:
    """The median of the rounds, and how far they lie apart."""
    found = ratios(ours, theirs, name)
    if not found or name == "memory_growth":
        return "–"
    apart = f" ({min(found):.2g}–{max(found):.2g})" if len(found) > 1 else ""
    return f"{statistics.median(found):.2g}{apart}"


def failures(outcomes: Outcomes) -> Iterator[str]:
    """The second table: what callers got while the first provider failed."""
    yield _line(["fault", "gateway", "good / n", "first, s", "p50, s", "worst, s", "primary hits", "answers"])
    yield "|---|---" + "|---:" * 5 + "|---|"
    titles = {fault.mode: fault.title for fault in FAULTS}
    for (mode, stream), gateways in outcomes.items():
        for name, one in gateways.items():
            yield _line(
                [
                    titles[mode] + (", stream" if stream else ""),
                    name,
                    f"{one.good}/{one.requests}",
                    f"{one.first_s:.3f}",
                    f"{one.p50_s:.4f}",
                    f"{one.worst_s:.3f}",
                    str(one.primary_hits),
                    ", ".join(f"{told} × {count}" for told, count in one.verdicts.items()),
                ]
            )


def storms(measured: Storms) -> Iterator[str]:
    """The third table: every provider answers 429."""
    yield _line(["all providers answer 429", "requests", "upstream calls", "calls : requests", "seconds"])
    yield "|---" + "|---:" * 4 + "|"
    for name, one in measured.items():
        share = f"{one.upstream_calls / one.requests:.2f}"
        yield _line([name, str(one.requests), str(one.upstream_calls), share, f"{one.seconds:.1f}"])


def goals(
    table: Table, packages: Mapping[str, Installed | None], outcomes: Outcomes, measured: Storms, call: Rounds
) -> Iterator[str]:
    """The last table: what leeward must reach, held against the median of the rounds."""
    yield _line(["goal", "leeward", "must reach", ""])
    yield "|---|---:|---:|---|"
    ours = table.get(OURS, [])
    for goal in GOALS:
        if goal.peer:
            found = ratios(ours, table.get(goal.peer, []), goal.figure)
            value = statistics.median(found) if found else None
        else:
            value = figure(ours, goal.figure)
        if value is not None:
            yield _goal(goal.title, value * goal.scale, goal.sign, goal.bound)
    if ours and (found_packages := packages.get(OURS)):
        yield _goal("packages", found_packages.packages, "≤", PACKAGES_MAX)
    yield from _goals_of_failures(outcomes)
    if OURS in measured:
        storm = measured[OURS]
        yield _goal("429 from all: upstream calls a request", storm.upstream_calls / storm.requests, "≤", STORM_MAX)
    bare, value = figure(call, "bare_us"), figure(call, "call_us")
    if bare is not None and value is not None:
        yield _goal(f"in-process call over a bare client ({number(bare)} µs), µs", value - bare, "≤", IN_PROCESS_MAX_US)


def calls(measured: Rounds) -> Iterator[str]:
    """A line: the library's calls."""
    bare, call, blocking = (number(figure(measured, name)) for name in ("bare_us", "call_us", "blocking_us"))
    yield f"- In process, p50: bare client {bare} µs, `chat` {call} µs, `chat_sync` from a thread without a loop {blocking} µs"


def _goals_of_failures(outcomes: Outcomes) -> Iterator[str]:
    ours = {key: gateways[OURS] for key, gateways in outcomes.items() if OURS in gateways}
    plain = {mode: one for (mode, stream), one in ours.items() if not stream}
    if not plain:
        return
    yield _goal("JSON faults with every answer good and in time", sum(map(is_bounded, plain.values())), "≥", len(plain))
    quick = [plain[fault.mode].first_s for fault in FAULTS if fault.quick and fault.mode in plain]
    if quick:
        yield _goal("first answer of a fault that is quick, worst, ms", max(quick) * 1e3, "≤", QUICK_FAILOVER_S * 1e3)
    if "500" in plain:
        yield _goal("hits on a primary that answers 500", plain["500"].primary_hits, "≤", HITS_MAX)
    if "429" in plain:
        yield _goal("hits on a primary that asks for 20 s", plain["429"].primary_hits, "≤", 1)
    silent = sum(one.verdicts.get("silent-cut", 0) for (_, stream), one in ours.items() if stream)
    yield _goal("streams that break off without a word", silent, "≤", 0)


def surroundings(versions: Mapping[str, str], load: float, rounds: int) -> Iterator[str]:
    """What was measured, and where."""
    yield "; ".join(f"{name} {version}" for name, version in versions.items())
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    processor = cpu.partition("model name")[2].partition("\n")[0].strip("\t :")
    yield f"{os.cpu_count()} cores, {processor}, {platform.system()}, Python {platform.python_version()}"
    yield "the gateway on one core, providers and caller on another"
    yield f"load of the machine {load:.1f} when the run began; medians of {rounds} rounds, ratios within a round"
    yield f"{datetime.now(UTC):%Y-%m-%d}"


def _goal(title: str, value: float, sign: str, bound: float) -> str:
    return _line([title, number(value), f"{sign} {number(bound)}", verdict(value, sign, bound)])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
