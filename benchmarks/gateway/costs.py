"""What a gateway costs while all is well: latency it adds, CPU, throughput, memory. Each run has a gateway started afresh.

`added` is the median of the answers through the gateway less that of the answers without it, measured in the same run.
CPU is user and system time of all its processes over all requests of a load.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import trustme
from benchmarks.gateway.driver import Door, Load, Reply, in_turn, load
from benchmarks.gateway.gateways import Gateway, Unavailable, Upstreams, running
from benchmarks.gateway.provider import MODEL, NAMES, Providers

Measured = dict[str, float]  # figure → what one run came to

LANES: Final = 32
STREAMS: Final = 8
TOKENS: Final = 200
PACE_S: Final = 0.002
MARKS: Final = 10  # looks at the memory
MICRO: Final = 1e6
GATEWAY_CORE: Final = 1


class Effort(NamedTuple):
    """How much is done."""

    rounds: int
    seconds: float  # of a load
    in_turn: int  # requests at concurrency 1
    streams: int  # streams at concurrency 1
    memory: int  # requests, while the memory is looked at
    cell_s: float  # a fault, at most, and one answer more
    faults: int  # requests of a fault


USUAL: Final = Effort(rounds=3, seconds=2.5, in_turn=300, streams=60, memory=10_000, cell_s=10, faults=200)
FULL: Final = USUAL._replace(rounds=5, seconds=4, memory=100_000)
QUICK: Final = Effort(rounds=1, seconds=0.4, in_turn=40, streams=8, memory=600, cell_s=1, faults=20)


def plain(providers: Providers) -> Upstreams:
    """The providers of this run, without TLS."""
    primary, secondary = (f"http://127.0.0.1:{providers.ports[name]}/v1" for name in NAMES)
    return Upstreams(primary, secondary, providers.telemetry)


def direct(providers: Providers, effort: Effort) -> Measured:
    """No gateway: the floor of every figure, and how much the caller and the providers can do on their core.

    Raises:
        Unavailable: the providers do not answer well.
    """
    door = Door(providers.ports["primary"], MODEL)
    providers.become()
    rate = _well(load(door, LANES, seconds=effort.seconds), "direct")
    providers.become(words=TOKENS, events_per_write=8)
    eights = _well(load(door, STREAMS, seconds=effort.seconds / 2, stream=True), "direct")
    return {"per_s": rate.requests / rate.seconds, "tokens_per_s": eights.events / eights.seconds}


def costs(providers: Providers, name: str, effort: Effort) -> Measured:
    """The figures of one gateway in one round.

    Raises:
        Unavailable: it is not installed, does not start, or does not answer well.
    """
    providers.become()
    with running(name, plain(providers), GATEWAY_CORE) as gateway:
        measured = {"ready_s": gateway.ready_s, "idle_mb": gateway.resident_mb()}
        door, bare = gateway.door(), Door(providers.ports["primary"], MODEL)
        _well(load(door, LANES, seconds=effort.seconds / 4), name)
        measured["added_ms"] = _added_ms(bare, door, effort.in_turn, stream=False)
        measured["first_token_ms"] = _added_ms(bare, door, effort.streams, stream=True)
        before = providers.count("primary")
        rate, cpu_s = _costed(gateway, LANES, effort.seconds, stream=False)
        after = providers.count("primary")
        measured["per_s"] = rate.requests / rate.seconds
        measured["cpu_us"] = cpu_s / rate.requests * MICRO
        measured["connections"] = (after.connections - before.connections) / rate.requests
        measured["calls"] = (after.calls - before.calls) / rate.requests
        for figure, shape in (
            ("token_us", {"events_per_write": 8, "pace_s": 0.0}),
            ("paced_us", {"events_per_write": 1, "pace_s": PACE_S}),
        ):
            providers.become(words=TOKENS, **shape)
            in_turn(door, 4, stream=True)  # connections to the one that was here before are gone
            streamed, cpu_s = _costed(gateway, STREAMS, effort.seconds, stream=True)
            measured[figure] = cpu_s / streamed.events * MICRO
        measured["after_mb"] = gateway.resident_mb()
    return measured


def over_tls(providers: Providers, name: str, effort: Effort) -> Measured:
    """The same load with TLS between gateway and provider: CPU of a request, and new connections for one.

    Raises:
        Unavailable: it is not installed, does not start, or does not answer well over TLS.
    """
    with tempfile.TemporaryDirectory(prefix="gateway-tls-") as folder:
        certificate, roots = Path(folder) / "provider.pem", Path(folder) / "roots.pem"
        authority = trustme.CA()
        authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        authority.cert_pem.write_to_path(str(roots))
        address = f"https://127.0.0.1:{providers.use_tls(certificate)}/v1"
        with running(name, Upstreams(address, address, providers.telemetry, roots), GATEWAY_CORE) as gateway:
            _well(load(gateway.door(), LANES, seconds=effort.seconds / 4), name)
            before = providers.count("tls")
            rate, cpu_s = _costed(gateway, LANES, effort.seconds, stream=False)
            after = providers.count("tls")
    return {
        "tls_cpu_us": cpu_s / rate.requests * MICRO,
        "tls_per_s": rate.requests / rate.seconds,
        "tls_connections": (after.connections - before.connections) / rate.requests,
    }


def memory(providers: Providers, name: str, effort: Effort) -> Measured:
    """Resident memory over many requests, streams among them: after a tenth of them, and at most after that.

    Raises:
        Unavailable: it is not installed, does not start, or does not answer well.
    """
    providers.become()
    with running(name, plain(providers), GATEWAY_CORE) as gateway:
        marks = []
        for _ in range(MARKS):
            streams = effort.memory // MARKS // 10
            _well(load(gateway.door(), LANES, count=effort.memory // MARKS - streams), name)
            _well(load(gateway.door(), STREAMS, count=streams, stream=True), name)
            marks.append(gateway.resident_mb())
    return {"memory_first_mb": marks[0], "memory_last_mb": marks[-1], "memory_growth": max(marks[1:]) / marks[0] - 1}


def _added_ms(bare: Door, door: Door, count: int, *, stream: bool) -> float:
    """Half without, all with, and the other half without: what slows the machine down then falls on both."""
    without = in_turn(bare, count // 2, stream=stream)
    through = in_turn(door, count, stream=stream)
    without += in_turn(bare, count // 2, stream=stream)
    return (_median_s(through, stream=stream) - _median_s(without, stream=stream)) * 1e3


def _median_s(replies: list[Reply], *, stream: bool) -> float:
    good = [reply.first_s if stream else reply.total_s for reply in replies if reply.verdict == "ok"]
    if len(good) < len(replies) * 0.99:
        raise Unavailable(f"{len(replies) - len(good)} of {len(replies)} answers were not good")
    return statistics.median(good)


def _costed(gateway: Gateway, lanes: int, seconds: float, *, stream: bool) -> tuple[Load, float]:
    before_s = gateway.cpu_s()
    run = load(gateway.door(), lanes, seconds=seconds, stream=stream)
    return _well(run, gateway.name), gateway.cpu_s() - before_s


def _well(run: Load, name: str) -> Load:
    """A load counts only if its answers were good.

    Raises:
        Unavailable: they were not.
    """
    if run.good < run.requests * 0.99:
        raise Unavailable(f"{name}: {run.requests - run.good} of {run.requests} answers were not good")
    return run
