"""What leeward's memory comes to at most: under bombs on all wires, and under ten times the load it can take.

The server's own process is held against what it had after ordinary requests plus `[server] inflight_bytes_max`, and a
tenth more; the store's child has a limit of its own, `[storage] store_memory_bytes_max`.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from benchmarks.ingest import processes
from benchmarks.ingest.bombs import Bomb
from benchmarks.ingest.generator import Generator, Job, Sent
from benchmarks.ingest.rows import settle
from benchmarks.ingest.servers import Leeward, running

from leeward.settings.tree import Server as ServerLimits, Storage

SENDERS: Final = 8
SLOWEST: Final = 3
ORDINARY: Final = (("native", 100), ("spans", 100), ("logs", 100), ("posthog", 100), ("sentry", 1))
FLOOD: Final = (("native", 1000), ("spans", 2000), ("posthog", 1000), ("sentry", 1))
POLITE: Final = frozenset({"200", "400", "408", "413", "415", "429", "503"})
IMPOLITE: Final = "no answer"


class Peak(NamedTuple):
    """Memory of the server's process and of its child, before and at most, and how requests were answered."""

    base_mb: float
    peak_mb: float
    child_peak_mb: float
    answers: Counter[str]
    survived: bool
    note: str

    @property
    def limit_mb(self) -> float:
        """What the server may come to."""
        return (self.base_mb + ServerLimits().inflight_bytes_max / (1 << 20)) * 1.1

    @property
    def unexpected(self) -> dict[str, int]:
        """Answers that no request may get."""
        return {status: count for status, count in self.answers.items() if status not in POLITE}


CHILD_LIMIT_MB: Final = Storage().store_memory_bytes_max / (1 << 20) * 1.1


def under_bombs(make: Callable[[str], list[Bomb]], rounds: int) -> Peak:
    """Every bomb that *make* gives for a key so often, some at once."""
    with running(Leeward) as server:
        bombs = make(server.key) * rounds
        random.Random(1).shuffle(bombs)
        base_mb = _warmed(server)
        answers: Counter[str] = Counter()
        took_s: dict[str, float] = {}
        lock = threading.Lock()

        def sender() -> None:
            while True:
                with lock:
                    if not bombs:
                        return
                    bomb = bombs.pop()
                thrown_s = time.perf_counter()
                answer = _thrown(server.port, bomb)
                with lock:
                    answers[answer] += 1
                    took_s[bomb.name] = max(took_s.get(bomb.name, 0), time.perf_counter() - thrown_s)

        threads = [threading.Thread(target=sender) for _ in range(SENDERS)]
        count, began_s = len(bombs), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        slowest = sorted(took_s, key=took_s.__getitem__)[-SLOWEST:]
        note = (
            f"{count} requests, {SENDERS} at a time, in {time.perf_counter() - began_s:.0f} s; the slowest: "
            + ", ".join(f"{name} {took_s[name]:.1f} s" for name in reversed(slowest))
        )
        return _peak(server, base_mb, answers, note)


def under_flood(seconds: float, connections: int) -> Peak:
    """Large batches on all wires at once, over so many connections each, and none of them rests when it is refused."""
    with running(Leeward) as server:
        base_mb = _warmed(server)
        stored_before = server.stored()
        generators = [
            Generator(
                Job(
                    server.port,
                    load,
                    items,
                    server.key,
                    seconds=seconds,
                    connections=connections,
                    refused_pause_s=0.0,
                    seed=100 + number,
                )
            )
            for number, (load, items) in enumerate(FLOOD)
        ]
        sent = [generator.wait() for generator in generators]
        acknowledged = sum(one.acknowledged for one in sent)
        settled_s, stored_after = settle(server, stored_before + acknowledged, 60)
        rate = (stored_after - stored_before) / (settled_s - min(one.began_s for one in sent))
        note = (
            f"{connections * len(FLOOD)} connections, {seconds:.0f} s: {rate:,.0f} items/s stored, "
            f"{acknowledged - (stored_after - stored_before):,} acknowledged not yet stored; "
            f"{sum(one.refused for one in sent):,} requests refused, 99 of 100 of them within "
            f"{max(one.refused_p99_ms for one in sent):.0f} ms"
        )
        return _peak(server, base_mb, _answers(sent), note)


def _warmed(server: Leeward) -> float:
    """The memory of the server's process once each wire has had ordinary requests."""
    for number, (load, items) in enumerate(ORDINARY):
        Generator(Job(server.port, load, items, server.key, seconds=1, seed=number)).wait()
    time.sleep(2)
    pids = server.pids()
    processes.forget_peaks(pids)
    return processes.memory(pids[:1]).now_mb


def _peak(server: Leeward, base_mb: float, answers: Counter[str], note: str) -> Peak:
    first, *others = server.pids()
    survived = server.is_running() and server.ask("/livez")[0] == 200
    return Peak(base_mb, processes.memory([first]).peak_mb, processes.memory(others).peak_mb, answers, survived, note)


def _answers(sent: list[Sent]) -> Counter[str]:
    answers: Counter[str] = Counter()
    for one in sent:
        answers.update(one.statuses)
        answers[IMPOLITE] += one.broken
    return +answers


def _thrown(port: int, bomb: Bomb) -> str:
    """The status of the answer. A server may answer before the body is read, and end the connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", bomb.path, bomb.body, bomb.headers)
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return f"{IMPOLITE} ({type(error).__name__}) to {bomb.name}"
    finally:
        connection.close()
