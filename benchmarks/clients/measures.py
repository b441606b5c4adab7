"""Every measure, as a function from a client to named figures. One call is one repetition.

Figures that are times are taken while nothing else of the benchmark runs. Measures that mostly wait (for an outage to
pass, for a client to give up) are marked `waits`: there the peers are measured a few at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from benchmarks.clients.children import Place
from benchmarks.clients.programs import RUN
from benchmarks.clients.sinks import BLACKHOLE, OK, REFUSE, Behaviour, Sink, SinkProcess
from benchmarks.clients.subjects import NONE, OURS

Figures = dict[str, float]


class Size(NamedTuple):
    """How much is done. What takes a peer longer than `limit_s` is cut there, and its figures say of how many."""

    imports: int = 3
    captures: int = 20_000
    captures_limit_s: float = 3
    paced: int = 2_000
    delivered: int = 30_000
    delivered_limit_s: float = 4
    burst: int = 100_000
    memory: int = 1_000_000
    limit_s: float = 15
    limit_ours_s: float = 120  # its goals are about the whole number
    outage_s: float = 10
    patience_s: float = 15  # after an outage


DEFAULT = Size()
QUICK = Size(
    imports=2,
    captures=3_000,
    paced=500,
    delivered=3_000,
    delivered_limit_s=2,
    burst=10_000,
    memory=20_000,
    limit_s=1,
    limit_ours_s=10,
    outage_s=2,
    patience_s=4,
)
LONG_OUTAGE_S = 600.0
SENDING = "sending"


class Measure(NamedTuple):
    """How a measure is taken.

    repeats  takes part in the repetitions; else it is done once
    waits    see the module
    clients  "all", "sending" (not the null client), or ours alone
    full     with --full only
    """

    take: Callable[[SinkProcess, str, Size], Figures]
    repeats: bool = False
    waits: bool = False
    clients: str = "all"
    full: bool = False


def importing(_: SinkProcess, client: str, size: Size) -> Figures:
    with Place(client) as place:
        place.imported()  # compiles
        ended = [place.imported() for _ in range(size.imports)]
    return {"import_ms": median(end.said["ms"] for end in ended), "modules": ended[0].said["modules"]}


def tight(sinks: SinkProcess, client: str, size: Size) -> Figures:
    with Place(client) as place, sinks.open() as sink:
        said = place.run("tight", sink, count=size.captures, limit_s=size.captures_limit_s).said
    return {f"tight_{name}": value for name, value in said.items()}


def paced(sinks: SinkProcess, client: str, size: Size) -> Figures:
    with Place(client) as place, sinks.open() as sink:
        said = place.run("paced", sink, count=size.paced).said
    return {f"paced_{name}": value for name, value in said.items()}


def disabled(sinks: SinkProcess, client: str, _: Size) -> Figures:
    with Place(client) as place, sinks.open() as sink:
        given = {"url": sink.url, "spool_dir": place.spool_dir}
        return {
            f"disabled_{how}": place.run("disabled", sink, how=how, **given).said["p50"]
            for how in ("argument", "attribute")
        }


def delivered(sinks: SinkProcess, client: str, size: Size) -> Figures:
    with Place(client) as place, sinks.open() as sink:
        said = place.run("deliver", sink, count=size.delivered, limit_s=size.delivered_limit_s).said
        received = sink.received(RUN)
    count = received.events.distinct
    if not count:
        return {}
    return {
        "delivered_made": said["made"],
        "delivered_count": count,
        "delivered_per_s": count / (received.last_at_s - said["began_s"]),
        "cpu_s": said["cpu_s"] / count * 100_000,
        "wire_bytes": received.wire_bytes / received.events_all,
    }


def leaving(behaviour: Behaviour, name: str) -> Callable[[SinkProcess, str, Size], Figures]:
    """From the last of 100 captures to the end of the process; what had arrived by then, and after the next start."""

    def take(sinks: SinkProcess, client: str, _: Size) -> Figures:
        with Place(client) as place, sinks.open(behaviour) as sink:
            ended = place.run("leave", sink, count=100, watch_s=40)
            seconds = ended.at_s - ended.said["last_at_s"]
            then, after, twice = _then_and_after(place, sink)
        return {
            f"exit_{name}_s": seconds,
            f"exit_{name}_then": then,
            f"exit_{name}_after": after,
            f"exit_{name}_twice": twice,
            f"exit_{name}_lines": ended.stderr_lines,
        }

    return take


def killed(sinks: SinkProcess, client: str, _: Size) -> Figures:
    with Place(client) as place, sinks.open(Behaviour(delay_s=0.1)) as sink:
        place.run("kill", sink, count=1000)
        then, after, twice = _then_and_after(place, sink)
        repeated = sink.received(RUN).events.repeated
    return {"kill_then": then, "kill_after": after, "kill_twice": twice, "kill_repeated": repeated}


def _then_and_after(place: Place, sink: Sink) -> tuple[int, int, int]:
    time.sleep(0.2)  # what was sent is still being read
    then = sink.received(RUN).events.distinct
    sink.become(OK)
    if place.left():
        place.run("again", sink)
        time.sleep(0.2)
    after = sink.received(RUN).events
    return then, after.distinct, after.stored_twice


def outage(long: bool) -> Callable[[SinkProcess, str, Size], Figures]:
    """1000 captures into an outage; the program lives on until all arrived, or patience ends, and then ends normally."""

    def take(sinks: SinkProcess, client: str, size: Size) -> Figures:
        outage_s = LONG_OUTAGE_S if long else size.outage_s
        with Place(client) as place, sinks.open(Behaviour(outage_s=outage_s)) as sink:
            until_s = time.monotonic() + outage_s + size.patience_s

            def wait() -> None:
                while sink.received(RUN).events.distinct < 1000 and time.monotonic() < until_s:
                    time.sleep(0.5)

            place.run("outage", sink, count=1000, until=wait, watch_s=outage_s + size.patience_s + 40)
            time.sleep(0.2)
            events = sink.received(RUN).events
        name = "outage_long" if long else "outage"
        return {name: events.distinct, f"{name}_twice": events.stored_twice}

    return take


def burst(sinks: SinkProcess, client: str, size: Size) -> Figures:
    limit_s = size.limit_ours_s if client == OURS else size.limit_s
    with Place(client) as place, sinks.open() as sink:
        given = {"count": size.burst, "limit_s": limit_s, "spool_dir": place.spool_dir}
        ended = place.run("burst", sink, **given, watch_s=limit_s + 90)
        time.sleep(0.2)
        events = sink.received(RUN).events
    return {
        "burst_made": ended.said["made"],
        "burst_delivered": events.distinct,
        "burst_lost": ended.said["made"] - events.distinct,
        "burst_us": ended.said["mean_us"],
        "burst_spool_mb": ended.said["spool_mb"],
        "burst_lines": ended.stderr_lines,
    }


def forked(ending: str) -> Callable[[SinkProcess, str, Size], Figures]:
    def take(sinks: SinkProcess, client: str, _: Size) -> Figures:
        with Place(client) as place, sinks.open() as sink:
            ended = place.run("fork", sink, ending=ending)
            repeated = sink.received(RUN).events.repeated
            then, after, twice = _then_and_after(place, sink)
        return {
            f"fork_{ending}_then": then,
            f"fork_{ending}_after": after,
            f"fork_{ending}_repeated": repeated,
            f"fork_{ending}_twice": twice,
            f"fork_{ending}_hangs": ended.said.get("child_hangs", 0) + ended.hung,
        }

    return take


def hostile(sinks: SinkProcess, client: str, _: Size) -> Figures:
    with Place(client) as place, sinks.open() as sink:
        said = place.run("hostility", sink).said
    return {"hostile_raised": said["raised"], "hostile_ms": said["worst_ms"]}


def memory(sinks: SinkProcess, client: str, size: Size) -> Figures:
    limit_s = size.limit_ours_s if client == OURS else size.limit_s
    with Place(client) as place, sinks.open(REFUSE) as sink:
        ended = place.run("memory", sink, count=size.memory, limit_s=limit_s, watch_s=limit_s + 60)
    return {
        "memory_made": ended.said["made"],
        "memory_missing": size.memory - ended.said["made"],
        "memory_mb": ended.said["growth_mb"],
        "memory_us": ended.said["mean_us"],
        "memory_p50": ended.said["p50"],
        "memory_lines": ended.stderr_lines,
    }


MEASURES: dict[str, Measure] = {
    "import": Measure(importing, repeats=True),
    "tight": Measure(tight, repeats=True),
    "paced": Measure(paced, repeats=True),
    "disabled": Measure(disabled, repeats=True, clients=OURS),
    "delivered": Measure(delivered, repeats=True, clients=SENDING),
    "exit-ok": Measure(leaving(OK, "ok"), repeats=True),
    "exit-refuse": Measure(leaving(REFUSE, "refuse"), repeats=True, waits=True),
    "exit-blackhole": Measure(leaving(BLACKHOLE, "blackhole"), waits=True),
    "exit-slow": Measure(leaving(Behaviour(delay_s=2), "slow"), waits=True),
    "kill": Measure(killed, repeats=True, waits=True, clients=SENDING),
    "outage": Measure(outage(long=False), waits=True, clients=SENDING),
    "outage-long": Measure(outage(long=True), waits=True, full=True, clients=SENDING),
    "burst": Measure(burst),
    "fork-normal": Measure(forked("normal"), waits=True, clients=SENDING),
    "fork-flush": Measure(forked("flush"), waits=True, clients=SENDING),
    "fork-exit": Measure(forked("exit"), waits=True, clients=SENDING),
    "hostile": Measure(hostile),
    "memory": Measure(memory),
}


def takes_part(client: str, measure: Measure) -> bool:
    if measure.clients == SENDING:
        return client != NONE
    return measure.clients in {"all", client}
