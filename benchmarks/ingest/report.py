"""Figures → Markdown: what each server came to in each row, and what of it leeward must reach."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.clients.report import number
from benchmarks.ingest.memory import CHILD_LIMIT_MB, Peak
from benchmarks.ingest.rows import ROWS, Figures
from benchmarks.ingest.servers import Leeward, bin_of

Table = Mapping[str, Mapping[str, Figures]]  # row → server → figures
DISTRIBUTIONS = {"leeward": "leeward", "mlflow": "mlflow", "phoenix": "arize-phoenix", "bugsink": "bugsink"}
HEADINGS = (
    "row",
    "server",
    "acknowledged/s",
    "stored/s",
    "p50 / p99, ms",
    "CPU s per 100k stored",
    "RSS idle / peak, MB",
    "ready, s",
    "disk B per item",
)
OURS = Leeward.name


def figure(figures: Figures, name: str) -> float:
    """The median of the repetitions."""
    return statistics.median(figures[name])


def lines(table: Table) -> Iterator[str]:
    """The first table: a line for each server in each row."""
    yield _line(HEADINGS)
    yield "|---|---" + "|---:" * (len(HEADINGS) - 2) + "|"
    for row, servers in table.items():
        for server, figures in servers.items():
            yield _line(
                [
                    ROWS[row].title,
                    server,
                    number(figure(figures, "acknowledged_per_s")),
                    number(figure(figures, "stored_per_s")) + _remark(figures),
                    f"{figure(figures, 'p50_ms'):.1f} / {figure(figures, 'p99_ms'):,.1f}",
                    number(figure(figures, "cpu_s")),
                    f"{figure(figures, 'idle_mb'):,.0f} / {figure(figures, 'peak_mb'):,.0f}",
                    f"{figure(figures, 'ready_s'):.2f}",
                    number(figure(figures, "disk_bytes")),
                ]
            )


def _remark(figures: Figures) -> str:
    """What must not be overlooked: acknowledged and not stored, refused. The worst repetition."""
    left, refused = max(figures["left"]), max(figures["refused"])
    remarks = [f"{left:,.0f} acknowledged not yet stored"] if left else []
    remarks += [f"{refused:,.0f} requests refused"] if refused else []
    return f" ({', '.join(remarks)})" if remarks else ""


def goals(table: Table) -> Iterator[str]:
    """The second table: leeward's goals, and how many times better or worse than its best peer it is."""
    yield _line(("goal", "leeward", "must reach", "", "best peer", "leeward : peer"))
    yield "|---|---:|---:|---|---:|---:|"
    for row, servers in table.items():
        wanted = ROWS[row].goals
        if wanted is None or OURS not in servers:
            continue
        for name, what, sign, bound in (
            ("stored_per_s", "stored/s", "≥", wanted.stored_per_s),
            ("p99_ms", "p99 acknowledgement, ms", "≤", wanted.p99_ms),
            ("cpu_s", "CPU s per 100k stored", "≤", wanted.cpu_s),
        ):
            ours = figure(servers[OURS], name)
            yield _line(
                [
                    f"{ROWS[row].title}: {what}",
                    number(ours),
                    f"{sign} {bound:,}",
                    verdict(ours, sign, bound),
                    *_beside(servers, name, sign, ours),
                ]
            )


def verdict(value: float, sign: str, bound: float) -> str:
    """Whether a goal is reached."""
    return "reached" if (value >= bound if sign == "≥" else value <= bound) else "**missed**"


def _beside(servers: Mapping[str, Figures], name: str, sign: str, ours: float) -> tuple[str, str]:
    theirs = {server: figure(figures, name) for server, figures in servers.items() if server != OURS}
    if not theirs:
        return "–", "–"
    best = (max if sign == "≥" else min)(theirs, key=theirs.__getitem__)
    return f"{number(theirs[best])} ({best})", f"{ours / theirs[best]:.3g}" if theirs[best] else "–"


def peaks(measured: Mapping[str, Peak]) -> Iterator[str]:
    """The third table: memory."""
    yield _line(
        ("memory", "server: before → at most, MB", "limit + 10 %", "", "store's child, at most", "limit + 10 %", "")
    )
    yield "|---|---:|---:|---|---:|---:|---|"
    for name, peak in measured.items():
        yield _line(
            [
                name,
                f"{peak.base_mb:.0f} → {peak.peak_mb:.0f}",
                f"{peak.limit_mb:.0f}",
                verdict(peak.peak_mb, "≤", peak.limit_mb) if peak.survived else "**it ended**",
                f"{peak.child_peak_mb:.0f}",
                f"{CHILD_LIMIT_MB:.0f}",
                verdict(peak.child_peak_mb, "≤", CHILD_LIMIT_MB),
            ]
        )
    yield ""
    for name, peak in measured.items():
        counted = ", ".join(f"{status} × {count:,}" for status, count in sorted(peak.answers.items()))
        yield f"- {name}: {peak.note}; answers: {counted}{'; **unexpected among them**' if peak.unexpected else ''}"


def surroundings(servers: Iterable[str], load: float, repeats: int) -> Iterator[str]:
    """What was measured, and where."""
    yield "; ".join(f"{DISTRIBUTIONS[server]} {_version(server)}" for server in servers)
    cpu = Path("/proc/cpuinfo").read_text()
    processor = cpu.partition("model name")[2].partition("\n")[0].strip("\t :")
    yield f"{os.cpu_count()} cores, {processor}, {platform.system()}, Python {platform.python_version()}; the load shares them"
    yield f"load of the machine {load:.1f} when the run began; 4 connections, closed loop"
    yield f"{datetime.now(UTC):%Y-%m-%d}; leeward: medians of {repeats}, peers: one longer run each"


def _version(server: str) -> str:
    if server == OURS:
        return version("leeward")
    ask = f"import importlib.metadata as m; print(m.version({DISTRIBUTIONS[server]!r}))"
    return subprocess.run(
        [bin_of(server) / "python", "-c", ask], capture_output=True, text=True, check=True
    ).stdout.strip()


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
