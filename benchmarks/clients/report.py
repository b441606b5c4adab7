"""Figures → two Markdown tables: what each client came to, and what of it is promised.

Goals are ratios within one run wherever a machine's speed would show: to P (posthog) or to B, the best peer in that row.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.clients.subjects import NONE, OURS, version

Table = Mapping[str, Mapping[str, Sequence[float]]]  # client → figure → its repetitions
P = "posthog"


class Line(NamedTuple):
    """A row of the first table; `form` gets the figures by name."""

    title: str
    form: str
    figures: tuple[str, ...]


def _exit(title: str, name: str) -> Line:
    figures = tuple(f"exit_{name}_{part}" for part in ("s", "then", "after", "lines"))
    return Line(f"exit, 100 pending, {title}: s; arrived then → next start; stderr lines", "{}; {} → {}; {}", figures)


def _fork(title: str, name: str) -> Line:
    figures = tuple(f"fork_{name}_{part}" for part in ("then", "after", "repeated", "hangs"))
    return Line(f"fork, child {title}: of 150 then → next start; sent twice; hangs", "{} → {}; {}; {}", figures)


LINES = (
    Line("import: ms over bare python; modules", "{}; {}", ("import_ms", "modules")),
    Line("capture, tight: p50 / p99, µs", "{} / {}", ("tight_p50", "tight_p99")),
    Line("capture, tight: p99.9 / max, µs", "{} / {}", ("tight_p999", "tight_max")),
    Line("capture at 1 kHz: p50 / p99 / p99.9, µs", "{} / {} / {}", ("paced_p50", "paced_p99", "paced_p999")),
    Line("disabled by argument / by attribute, µs", "{} / {}", ("disabled_argument", "disabled_attribute")),
    Line("sustained, flushed before it drops: arrived of made", "{} of {}", ("delivered_count", "delivered_made")),
    Line("delivered events/s", "{}", ("delivered_per_s",)),
    Line("CPU s per 100k delivered", "{}", ("cpu_s",)),
    Line("bytes on the wire per event, with heads", "{}", ("wire_bytes",)),
    _exit("sink ok", "ok"),
    _exit("refused", "refuse"),
    _exit("black hole", "blackhole"),
    _exit("answers after 2 s", "slow"),
    Line(
        "kill -9 after 1000, sink 100 ms away: then → next start; sent twice; stored twice",
        "{} → {}; {}; {}",
        ("kill_then", "kill_after", "kill_repeated", "kill_twice"),
    ),
    Line("outage of {outage_s:.0f} s: arrived of 1000; stored twice", "{}; {}", ("outage", "outage_twice")),
    Line("outage of 10 min: arrived of 1000; stored twice", "{}; {}", ("outage_long", "outage_long_twice")),
    Line("burst of {burst:,}: arrived of made", "{} of {}", ("burst_delivered", "burst_made")),
    Line("burst: µs per capture; stderr lines", "{}; {}", ("burst_us", "burst_lines")),
    _fork("ends normally", "normal"),
    _fork("flush + `os._exit`", "flush"),
    _fork("`os._exit`", "exit"),
    Line("10 hostile values: raised; worst stall, ms", "{}; {}", ("hostile_raised", "hostile_ms")),
    Line("port closed, up to {memory:,}: RSS growth, MB; made", "{}; {}", ("memory_mb", "memory_made")),
    Line("port closed: mean µs; p50 µs; stderr lines", "{}; {}; {}", ("memory_us", "memory_p50", "memory_lines")),
)

# Where repetitions differ, a promise is held against the worst of them; times are medians.
WORST: dict[str, Callable[[Iterable[float]], float]] = {
    "after": min,
    "outage": min,
    "long": min,
    "twice": max,
    "repeated": max,
    "hangs": max,
    "lines": max,
    "raised": max,
}


class Goal(NamedTuple):
    """`figure` must be `sign` the `factor` (times `of`, which is P or B, if it is given)."""

    title: str
    figure: str
    sign: str
    factor: float
    of: str = ""

    def __str__(self) -> str:
        return f"{self.sign} {self.factor:g}{f' {self.of}' if self.of else ''}"


GOALS = (
    Goal("import, ms", "import_ms", "≤", 0.15, "B"),
    Goal("modules imported", "modules", "≤", 40),
    Goal("capture, tight, p50, µs", "tight_p50", "≤", 0.8, "B"),
    Goal("capture, tight, p99.9, µs", "tight_p999", "≤", 0.1, "B"),
    Goal("capture at 1 kHz, p50, µs", "paced_p50", "≤", 0.5, "B"),
    Goal("capture at 1 kHz, p99, µs", "paced_p99", "≤", 0.6, "B"),
    Goal("disabled by argument, µs", "disabled_argument", "≤", 0.3),
    Goal("disabled by attribute, µs", "disabled_attribute", "≤", 0.3),
    Goal("delivered events/s", "delivered_per_s", "≥", 2, "B"),
    Goal("CPU s per 100k delivered", "cpu_s", "≤", 0.4, "B"),
    Goal("bytes per event", "wire_bytes", "≤", 0.35, "P"),
    Goal("exit, sink ok, s", "exit_ok_s", "≤", 1.0, "B"),
    Goal("exit, refused, s", "exit_refuse_s", "≤", 0.15),
    Goal("exit, black hole, s", "exit_blackhole_s", "≤", 0.5),
    Goal("exit, answers after 2 s, s", "exit_slow_s", "≤", 2),
    Goal("exit, sink ok: of 100", "exit_ok_after", "≥", 100),
    Goal("exit, refused: of 100, next start", "exit_refuse_after", "≥", 100),
    Goal("exit, black hole: of 100, next start", "exit_blackhole_after", "≥", 100),
    Goal("exit, answers after 2 s: of 100, next start", "exit_slow_after", "≥", 100),
    Goal("kill -9: of 1000, next start", "kill_after", "≥", 1000),
    Goal("kill -9: stored twice", "kill_twice", "≤", 0),
    Goal("outage of {outage_s:.0f} s: of 1000", "outage", "≥", 1000),
    Goal("outage of 10 min: of 1000", "outage_long", "≥", 1000),
    Goal("burst of {burst:,}: lost", "burst_lost", "≤", 0),
    Goal("burst: spool, MB", "burst_spool_mb", "≤", 67.1),
    Goal("burst: stderr lines", "burst_lines", "≤", 0),
    Goal("fork, normal end: of 150", "fork_normal_after", "≥", 150),
    Goal("fork, normal end: sent twice", "fork_normal_repeated", "≤", 0),
    Goal("fork, flush + `os._exit`: of 150", "fork_flush_after", "≥", 150),
    Goal("fork, flush + `os._exit`: sent twice", "fork_flush_repeated", "≤", 0),
    Goal("fork, `os._exit`: of 150", "fork_exit_after", "≥", 150),
    Goal("fork, `os._exit`: sent twice", "fork_exit_repeated", "≤", 0),
    Goal("hostile values: raised", "hostile_raised", "≤", 0),
    Goal("hostile values: worst stall, ms", "hostile_ms", "≤", 5),
    Goal("port closed: of {memory:,} captures, not made", "memory_missing", "≤", 0),
    Goal("port closed: RSS growth, MB", "memory_mb", "≤", 8),
    Goal("port closed: stderr lines", "memory_lines", "≤", 0),
)


def figure(table: Table, client: str, name: str) -> float | None:
    """One client's figure over its repetitions."""
    taken = table.get(client, {}).get(name)
    if not taken:
        return None
    return WORST.get(name.rpartition("_")[2], statistics.median)(taken)


def number(value: float | None) -> str:
    """Three digits, and whole thousands."""
    if value is None:
        return "–"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _of_size(text: str, size: Mapping[str, float]) -> str:
    return text.format(**size) if "{" in text else text


def lines(table: Table, size: Mapping[str, float]) -> Iterator[str]:
    clients = list(table)
    yield f"| measure | {' | '.join(clients)} |"
    yield f"|---|{'---:|' * len(clients)}"
    for line in LINES:
        rows = [[figure(table, client, name) for name in line.figures] for client in clients]
        if any(value is not None for values in rows for value in values):
            cells = (
                line.form.format(*map(number, values)) if any(v is not None for v in values) else "–" for values in rows
            )
            yield f"| {_of_size(line.title, size)} | {' | '.join(cells)} |"


def goals(table: Table, size: Mapping[str, float]) -> Iterator[str]:
    yield "| promise | leeward | P | B | of B | goal | |"
    yield "|---|---:|---:|---:|---:|---:|---|"
    for goal in GOALS:
        ours = figure(table, OURS, goal.figure)
        if ours is None:
            continue
        peers = {
            client: value
            for client in table
            if client not in {OURS, NONE} and (value := figure(table, client, goal.figure)) is not None
        }
        best = (max if goal.sign == "≥" else min)(peers, key=peers.__getitem__) if peers else ""
        base = {"P": peers.get(P), "B": peers.get(best), "": 1.0}[goal.of]
        cells = [
            _of_size(goal.title, size),
            number(ours),
            number(peers.get(P)),
            _best(peers, best),
            f"{ours / peers[best]:.2f}" if best and peers[best] else "–",
            str(goal),
            _verdict(goal, ours, base),
        ]
        yield f"| {' | '.join(cells)} |"


def _best(peers: Mapping[str, float], best: str) -> str:
    """With its name, if it is alone with it."""
    if not best:
        return "–"
    alone = list(peers.values()).count(peers[best]) == 1
    return f"{number(peers[best])} ({best})" if alone else number(peers[best])


def _verdict(goal: Goal, ours: float, base: float | None) -> str:
    if base is None:
        return "no peer"
    bound = goal.factor * base
    return "reached" if (ours >= bound if goal.sign == "≥" else ours <= bound) else "**missed**"


def surroundings(clients: Iterable[str], repeats: int, load: float) -> Iterator[str]:
    """What was compared, and where."""
    yield "; ".join(dict.fromkeys(filter(None, (version(client) for client in clients))))
    yield f"{os.cpu_count()} cores, {_processor()}, {platform.system()}, Python {platform.python_version()}; the sink shares them"
    yield f"load of the machine {load:.1f} when the run began"
    yield f"{datetime.now(UTC):%Y-%m-%d}; medians of {repeats}, counts and promises about loss: the worst"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
