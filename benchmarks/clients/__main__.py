"""The client beside its peers, in one run: python -m benchmarks.clients

    --only leeward,posthog   these clients (leeward, posthog, sentry, sentry-logs, otel, logfire, null)
    --rows import,kill       these measures (see measures.py); several with commas, or a beginning: `fork`
    --repeats 3              of the measures that are repeated
    --quick                  small sizes, no repetition: does it work? (two minutes)
    --full                   also the outage of ten minutes, and no peer is cut short
    --markdown FILE          write the tables there, too

Every measure runs in a fresh process per client, against sinks on loopback that share the machine's cores. Peers that
are not installed are left out: `make bench-clients` has an environment with all of them. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.clients import report
from benchmarks.clients.children import Failed
from benchmarks.clients.measures import DEFAULT, MEASURES, QUICK, Figures, Measure, Size, takes_part
from benchmarks.clients.sinks import SinkProcess
from benchmarks.clients.subjects import NONE, OURS, SUBJECTS, version

PATIENT = DEFAULT._replace(limit_s=300, delivered_limit_s=60, patience_s=60)
PEERS_AT_ONCE, PEERS_AT_ONCE_QUICK = 3, 6


def main() -> None:
    options = _options()
    repeats = 1 if options.quick else options.repeats
    size = QUICK if options.quick else PATIENT if options.full else DEFAULT
    at_once = PEERS_AT_ONCE_QUICK if options.quick else PEERS_AT_ONCE
    measures = {
        name: measure
        for name, measure in MEASURES.items()
        if name.startswith(options.rows) and (options.full or not measure.full)
    }
    began_s, load = time.monotonic(), os.getloadavg()[0]
    table: dict[str, dict[str, list[float]]] = {client: defaultdict(list) for client in options.only}
    with SinkProcess() as sinks:
        for name, measure in measures.items():
            print(f"{time.monotonic() - began_s:5.0f} s  {name}", file=sys.stderr, flush=True)
            for _ in range(repeats if measure.repeats else 1):
                for client, figures in _round(sinks, measure, options.only, size, at_once):
                    for key, value in figures.items():
                        table[client][key].append(value)
    text = "\n".join(_page(table, size, repeats, load))
    print(text)
    print(f"{time.monotonic() - began_s:5.0f} s in all", file=sys.stderr)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")


def _round(
    sinks: SinkProcess, measure: Measure, clients: Iterable[str], size: Size, at_once: int
) -> Iterator[tuple[str, Figures]]:
    """One repetition of one measure, client after client; peers that only wait do so together."""
    chosen = [client for client in clients if takes_part(client, measure)]
    together = [client for client in chosen if measure.waits and client not in {OURS, NONE}]
    for client in chosen:
        if client not in together:
            yield client, _taken(sinks, measure, client, size)
    with ThreadPoolExecutor(at_once) as pool:
        yield from zip(together, pool.map(lambda client: _taken(sinks, measure, client, size), together), strict=True)


def _taken(sinks: SinkProcess, measure: Measure, client: str, size: Size) -> Figures:
    """A peer that fails leaves a gap in the table; ours must not."""
    try:
        return measure.take(sinks, client, size)
    except Failed as failure:
        if client == OURS:
            raise
        print(failure, file=sys.stderr)
        return {}


def _page(table: report.Table, size: Size, repeats: int, load: float) -> Iterator[str]:
    for line in report.surroundings(table, repeats, load):
        yield f"{line}  "
    yield ""
    yield from report.lines(table, size._asdict())
    if OURS in table:
        yield ""
        yield from report.goals(table, size._asdict())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_clients, default=",".join(SUBJECTS))
    parser.add_argument("--rows", type=lambda text: tuple(text.split(",")), default=("",))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


def _clients(text: str) -> list[str]:
    """Those asked for that are installed, in the order of the table."""
    asked = text.split(",")
    if unknown := set(asked) - set(SUBJECTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: it can be {', '.join(SUBJECTS)}")
    missing = [client for client in asked if client not in {OURS, NONE} and not version(client)]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}", file=sys.stderr)
    return [client for client in SUBJECTS if client in asked and client not in missing]


if __name__ == "__main__":
    main()
