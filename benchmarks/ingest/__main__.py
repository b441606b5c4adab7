"""The four wires beside their peers, in one run: python -m benchmarks.ingest

    --rows spans-100 sentry-1   these rows (see rows.py), `bombs` `full` `flood` among them; or beginnings: `spans`
    --peers none                or some of: mlflow phoenix bugsink
    --repeats 3                 of leeward's rows
    --quick                     one short run of everything: does it work?
    --markdown FILE             write the tables there, too

Servers run one after the other, on the machine's own cores, which they share with the load. Peers have environments of
their own, which `make bench-ingest` installs; one that is missing or does not start is named with its reason.
Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.ingest import report
from benchmarks.ingest.bombs import corpus, largest
from benchmarks.ingest.memory import Peak, under_bombs, under_flood
from benchmarks.ingest.rows import OURS, QUICK, ROWS, THEIRS, Figures, item_bytes, measure
from benchmarks.ingest.servers import PEERS, Leeward, Unavailable

QUICK_SHARE: Final = 0.1  # of the limits
PEAKS: Final = {
    "bombs": "bombs on all wires",
    "full": "the largest requests that are taken",
    "flood": "ten times the load",
}


def main() -> None:
    options = _options()
    began_s, load = time.monotonic(), os.getloadavg()[0]
    table: dict[str, dict[str, Figures]] = defaultdict(dict)
    missing: dict[str, str] = {}
    for row, server in _runs(options.rows, options.peers):
        print(f"{time.monotonic() - began_s:5.0f} s  {row}: {server}", file=sys.stderr, flush=True)
        ours = server == Leeward.name
        effort = QUICK if options.quick else OURS._replace(repeats=options.repeats) if ours else THEIRS
        try:
            table[row][server] = measure(ROWS[row], server, effort)
        except Unavailable as reason:
            missing[f"{row}: {server}"] = str(reason)
            print(f"        {reason}", file=sys.stderr)
    peaks: dict[str, Peak] = {}
    for name, title in PEAKS.items():
        if name in options.rows:
            print(f"{time.monotonic() - began_s:5.0f} s  {name}", file=sys.stderr, flush=True)
            peaks[title] = _peak(name, quick=options.quick)
    text = "\n".join(_page(table, peaks, missing, load, 1 if options.quick else options.repeats))
    print(text)
    print(f"{time.monotonic() - began_s:5.0f} s in all", file=sys.stderr)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")


def _runs(rows: list[str], peers: list[str]) -> Iterator[tuple[str, str]]:
    for row in rows:
        if row in ROWS:
            yield row, Leeward.name
            yield from ((row, peer) for peer in ROWS[row].peers if peer in peers)


def _peak(name: str, *, quick: bool) -> Peak:
    rounds, share = (1, QUICK_SHARE) if quick else (2, 1.0)
    if name == "flood":
        return under_flood(3, 25) if quick else under_flood(30, 100)
    make = corpus if name == "bombs" else largest
    return under_bombs(lambda key: make(key, share=share), rounds)


def _page(
    table: dict[str, dict[str, Figures]], peaks: dict[str, Peak], missing: dict[str, str], load: float, repeats: int
) -> Iterator[str]:
    servers = dict.fromkeys(server for figures in table.values() for server in figures)
    for line in report.surroundings(servers or [Leeward.name], load, repeats):
        yield f"{line}  "
    if table:
        sizes = ", ".join(f"{row} {item_bytes(ROWS[row]):.0f}" for row in table)
        yield f"bytes an item, unpacked: {sizes}  "
        yield from ("", *report.lines(table), "", *report.goals(table))
    if peaks:
        yield from ("", *report.peaks(peaks))
    if missing:
        yield from ("", *(f"- Not measured: {what}: {reason}" for what, reason in missing.items()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=_rows, default=[[*ROWS, *PEAKS]])
    parser.add_argument("--peers", nargs="+", choices=[*PEERS, "none"], default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=OURS.repeats)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    options.rows = list(dict.fromkeys(row for rows in options.rows for row in rows))
    return options


def _rows(text: str) -> list[str]:
    """The one of that name, or all that begin so."""
    rows = (*ROWS, *PEAKS)
    if found := [text] if text in rows else [row for row in rows if row.startswith(text)]:
        return found
    raise argparse.ArgumentTypeError(f"{text}: it can be {', '.join(rows)}")


if __name__ == "__main__":
    main()
