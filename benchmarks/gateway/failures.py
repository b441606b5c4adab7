"""What becomes of answers when the first provider fails, and the second is well; and of providers when both refuse.

Each fault meets a gateway that was started afresh and has answered a few requests. Requests follow each other on one
connection, until there are enough, or time is up.
"""

from __future__ import annotations

import statistics
from collections import Counter
from typing import Final, NamedTuple

from benchmarks.gateway.costs import GATEWAY_CORE, Effort, plain
from benchmarks.gateway.driver import Reply, in_turn, load
from benchmarks.gateway.gateways import ATTEMPT_S, Unavailable, running
from benchmarks.gateway.provider import NAMES, Providers

RETRY_AFTER_S: Final = 20.0
STORM_RETRY_AFTER_S: Final = 1.0
STORM_LANES: Final = 8
WARM: Final = 4
STREAM_SHARE: Final = 0.3  # of the requests that a fault gets as JSON


class Mishap(NamedTuple):
    """A fault as it is measured: `quick` ones fail at once, so that leaving the provider can be quick, too."""

    mode: str
    title: str
    numbers: dict[str, float]
    quick: bool = True


FAULTS: Final = (
    Mishap("500", "500", {}),
    Mishap("503", "503", {}),
    Mishap("429", f"429, Retry-After {RETRY_AFTER_S:.0f}", {"retry_after_s": RETRY_AFTER_S}),
    Mishap("hang", "hang", {}, quick=False),
    Mishap("reset", "reset", {}),
    Mishap("malformed", "malformed", {}),
    Mishap("empty", "empty", {}),
    Mishap("reset-mid", "reset in the answer", {}, quick=False),
    Mishap("401", "401", {}),
)


class Outcome(NamedTuple):
    """A fault's cell: good answers of all, what callers waited for, who was asked."""

    good: int
    requests: int
    first_s: float
    p50_s: float
    worst_s: float
    primary_hits: int
    verdicts: dict[str, int]


class Storm(NamedTuple):
    """Both refuse with 429: how often they were asked."""

    upstream_calls: int
    requests: int
    seconds: float


def outcome(providers: Providers, name: str, effort: Effort, fault: Mishap, *, stream: bool) -> Outcome:
    """One gateway under one fault.

    Raises:
        Unavailable: it is not installed, does not start, or does not answer while all is well.
    """
    for provider in NAMES:
        providers.become(name=provider)
    with running(name, plain(providers), GATEWAY_CORE) as gateway:
        door = gateway.door()
        if {reply.verdict for reply in in_turn(door, WARM, stream=stream)} != {"ok"}:
            raise Unavailable("no good answers while all is well")
        before = providers.count("primary").calls
        providers.fail("primary", fault.mode, **fault.numbers)
        count = int(effort.faults * STREAM_SHARE) if stream else effort.faults
        replies = in_turn(door, count, stream=stream, seconds=effort.cell_s)
        hits = providers.count("primary").calls - before
    return _outcome(replies, hits)


def _outcome(replies: list[Reply], hits: int) -> Outcome:
    waits = [reply.total_s for reply in replies]
    verdicts = Counter(reply.verdict for reply in replies)
    return Outcome(
        verdicts["ok"], len(replies), waits[0], statistics.median(waits), max(waits), hits, dict(verdicts.most_common())
    )


def storm(providers: Providers, name: str, effort: Effort) -> Storm:
    """Every provider refuses every call with 429.

    Raises:
        Unavailable: it is not installed, does not start, or no longer answers.
    """
    for provider in NAMES:
        providers.become(name=provider)
    with running(name, plain(providers), GATEWAY_CORE) as gateway:
        before = sum(providers.count(provider).calls for provider in NAMES)
        for provider in NAMES:
            providers.fail(provider, "429", retry_after_s=STORM_RETRY_AFTER_S)
        run = load(gateway.door(), STORM_LANES, seconds=effort.cell_s, count=effort.faults)
        calls = sum(providers.count(provider).calls for provider in NAMES) - before
    return Storm(calls, run.requests, run.seconds)


def is_bounded(outcome: Outcome) -> bool:
    """Every answer good, none later than a provider's time and a moment more."""
    return outcome.good == outcome.requests and outcome.worst_s <= ATTEMPT_S + 0.2
