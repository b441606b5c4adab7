"""The gateway beside its peers, in one run: python -m benchmarks.gateway

    --peers ferro               or some of: ferro litellm portkey; or none
    --only-peers                leave leeward out
    --rows costs faults         or some of: costs tls memory faults storm inprocess
    --rounds 3                  of costs
    --full                      100,000 requests while memory is looked at, and longer loads
    --quick                     one short run of everything: does it work?
    --markdown FILE             write the tables there, too

The gateway has one core, the simulated providers and the caller another. Every measure starts its gateway afresh, and in
a round they take turns. Peers have environments of their own, which `make bench-gateway` installs; one that is missing or
does not start is named with its reason. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Final, TypeVar

from benchmarks.gateway import report
from benchmarks.gateway.costs import FULL, QUICK, USUAL, Effort, Measured, costs, direct, memory, over_tls
from benchmarks.gateway.failures import FAULTS, Outcome, Storm, outcome, storm
from benchmarks.gateway.gateways import PEERS, Leeward, Unavailable, on_core
from benchmarks.gateway.inprocess import in_process
from benchmarks.gateway.packages import installed
from benchmarks.gateway.provider import Providers

ROWS: Final = ("costs", "tls", "memory", "faults", "storm", "inprocess")
CALLER_CORE: Final = 0
Result = TypeVar("Result")


class Run:
    """One run: what is measured so far, and what could not be."""

    def __init__(self, providers: Providers, gateways: list[str], effort: Effort) -> None:
        self._providers, self._gateways, self._effort = providers, gateways, effort
        self._began_s = time.monotonic()
        self.table: dict[str, list[Measured]] = {name: [{} for _ in range(effort.rounds)] for name in gateways}
        self.bare: Measured = {}
        self.outcomes: dict[tuple[str, bool], dict[str, Outcome]] = defaultdict(dict)
        self.storms: dict[str, Storm] = {}
        self.calls: list[Measured] = []
        self.missing: dict[str, str] = {}

    def measure(self, rows: list[str]) -> None:
        """These rows of all gateways."""
        parts = {
            "costs": self._costs,
            "tls": self._tls,
            "memory": self._memory,
            "faults": self._faults,
            "storm": self._storm,
            "inprocess": self._inprocess,
        }
        for row in rows:
            parts[row]()

    def seconds(self) -> float:
        return time.monotonic() - self._began_s

    def _costs(self) -> None:
        self.bare = direct(self._providers, self._effort)
        self._rounds("costs", costs)

    def _tls(self) -> None:
        self._rounds("tls", over_tls)

    def _rounds(self, what: str, measure: Callable[..., Measured]) -> None:
        """All gateways in turn, so that what slows a round down meets them alike."""
        for number in range(self._effort.rounds):
            for name in self._gateways:
                self.table[name][number].update(self._try(f"{what}, round {number + 1}", name, measure) or {})

    def _memory(self) -> None:
        for name in self._gateways:
            self.table[name][0].update(self._try("memory", name, memory) or {})

    def _faults(self) -> None:
        for stream, fault, name in product((False, True), FAULTS, self._gateways):
            title = fault.title + (", stream" if stream else "")
            if (found := self._try(title, name, outcome, fault, stream=stream)) is not None:
                self.outcomes[fault.mode, stream][name] = found

    def _storm(self) -> None:
        for name in self._gateways:
            if (found := self._try("storm", name, storm)) is not None:
                self.storms[name] = found

    def _inprocess(self) -> None:
        if Leeward.name in self._gateways:
            found = self._try("in process", Leeward.name, in_process)
            self.calls += [found] if found else []

    def _try(
        self, what: str, name: str, measure: Callable[..., Result], *arguments: object, **options: object
    ) -> Result | None:
        """The result, or None and a line that says why there is none."""
        print(f"{self.seconds():5.0f} s  {what}: {name}", file=sys.stderr, flush=True)
        try:
            return measure(self._providers, name, self._effort, *arguments, **options)
        except Unavailable as reason:
            self.missing[f"{what}: {name}"] = str(reason)
            print(f"         {reason}", file=sys.stderr)
            return None


def main() -> None:
    options = _options()
    load = os.getloadavg()[0]
    effort = QUICK if options.quick else (FULL if options.full else USUAL)
    if options.rounds:
        effort = effort._replace(rounds=options.rounds)
    ours = [] if options.only_peers else [Leeward.name]
    gateways = ours + [peer for peer in PEERS if peer in options.peers]
    with on_core(CALLER_CORE), Providers() as providers:
        run = Run(providers, gateways, effort)
        run.measure(options.rows)
    text = "\n".join(_page(run, gateways, load, effort.rounds))
    print(text)
    print(f"{run.seconds():5.0f} s in all", file=sys.stderr)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")


def _page(run: Run, gateways: list[str], load: float, rounds: int) -> Iterator[str]:
    packages = {name: installed(name) for name in gateways}
    versions = {name: found.version for name, found in packages.items() if found}
    for line in report.surroundings(versions, load, rounds):
        yield f"{line}  "
    if run.bare:
        yield f"without a gateway: {run.bare['per_s']:,.0f} requests/s, {run.bare['tokens_per_s']:,.0f} tokens/s  "
    if any(any(each) for each in run.table.values()):
        yield from ("", *report.costs(run.table, packages))
    if run.outcomes:
        yield from ("", *report.failures(run.outcomes))
    if run.storms:
        yield from ("", *report.storms(run.storms))
    if run.calls:
        yield from ("", *report.calls(run.calls))
    yield from ("", *report.goals(run.table, packages, run.outcomes, run.storms, run.calls))
    if run.missing:
        yield from ("", *(f"- Not measured: {what}: {reason}" for what, reason in run.missing.items()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--peers", nargs="+", choices=[*PEERS, "none"], default=["ferro"])
    parser.add_argument("--only-peers", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
