"""Figures of the main road, from acknowledgement to query, of a server in a process of its own.

    python -m benchmarks.road [--full]      --full: also with 10 million events already stored

The load generator shares the machine with the server, so every figure is a lower bound of what the server can do.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.loading import children, cpu_seconds, quantile, requests, resident_mb, send

ROWS_BEFORE = 10_000_000
ROWS_A_BLOCK = 100_000


class Server:
    """A real server on a free loopback port."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LEEWARD_")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else each start compiles leeward anew
        began_s = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "leeward", "serve", "--data-dir", str(self.data_dir), "--port", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        while not self._answers("/readyz"):
            time.sleep(0.005)
        self.ready_s = time.perf_counter() - began_s

    def wait_store(self) -> None:
        while json.loads(self.ask("GET", "/health")[1])["parts"]["store"]["status"] != "healthy":
            time.sleep(0.05)
        self.query()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    @property
    def pid(self) -> int:
        return self.process.pid

    def key(self, scope: str) -> str:
        return json.loads((self.data_dir / "first-keys.json").read_text())[scope]

    def ask(self, method: str, path: str, body: bytes | None = None, key: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {key}"} if key else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _answers(self, path: str) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask("GET", path)[0] == 200
        return False

    def query(self, filters: str = "limit=1") -> dict:
        while True:
            status, body = self.ask("GET", f"/api/telemetry/query?{filters}", key=self.key("read"))
            if status == 200:
                return json.loads(body)

    def metric(self, name: str) -> float:
        text = self.ask("GET", "/metrics", key=self.key("read"))[1].decode()
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))

    def drained(self, stored: float) -> None:
        while self.metric("leeward_events_stored_total") < stored:
            time.sleep(0.02)


@contextlib.contextmanager
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="leeward-bench-"))
    running = Server(folder / "data")
    try:
        running.wait_store()
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Rate:
    """Events per second, stored and drained, and what they cost."""

    def __init__(self, running: Server, batches: int, size: int, seed: int) -> None:
        made = requests(batches, size, running.key("write"), seed=seed, port=running.port)
        family = [running.pid, *children(running.pid)]
        count = batches * size
        before = running.metric("leeward_events_stored_total")
        cpu_before = [cpu_seconds(pid) for pid in family]
        began_s = time.perf_counter()
        sent = send(running.port, made)
        running.drained(before + count)
        seconds = time.perf_counter() - began_s
        spent = [cpu_seconds(pid) - cpu for pid, cpu in zip(family, cpu_before, strict=True)]
        assert set(sent.statuses) == {200}, sent.statuses
        self.acknowledged_per_s = count / sent.seconds
        self.stored_per_s = count / seconds
        self.p50_ms = quantile(sent.latencies_ms, 0.5)
        self.p99_ms = quantile(sent.latencies_ms, 0.99)
        self.server_us = spent[0] / count * 1e6
        self.store_us = sum(spent[1:]) / count * 1e6


def median(rates: list[Rate], name: str) -> float:
    return statistics.median(getattr(rate, name) for rate in rates)


def visible_ms(running: Server, rate_per_s: float) -> list[float]:
    """How long after its acknowledgement an event is in a query's answer, while others are sent at half the full rate."""
    import threading

    made = requests(int(rate_per_s / 100 * 6), 100, running.key("write"), seed=77, port=running.port)
    load = threading.Thread(target=send, args=(running.port, made), kwargs={"rate_per_s": rate_per_s / 100})
    load.start()
    took = []
    number = 0
    while load.is_alive():
        number += 1
        body = json.dumps({"event_type": "marker", "session_id": f"marker-{number}"}).encode()
        running.ask("POST", "/api/telemetry/ingest", body, running.key("write"))
        began_s = time.perf_counter()
        while running.query(f"session_id=marker-{number}")["count"] == 0:
            pass
        took.append((time.perf_counter() - began_s) * 1000)
    load.join()
    return took


def disk_bytes_per_event(running: Server) -> float:
    """The store's directory, once its merges have come to rest, by the events in it."""
    size, before = 0, -1
    while size != before:
        before = size
        time.sleep(3)
        size = sum(path.stat().st_size for path in (running.data_dir / "store").rglob("*") if path.is_file())
    return size / running.metric("leeward_events_stored_total")


def starts(running: Server) -> list[float]:
    """Seconds from the start of the process to `/readyz`, the log drained."""
    took = []
    for _ in range(5):
        running.stop()
        running.start()
        took.append(running.ready_s)
    return took


def table(full: bool) -> Iterator[tuple[str, str, str]]:
    with server() as running:
        time.sleep(2)
        idle = resident_mb(running.pid), sum(resident_mb(pid) for pid in children(running.pid))
        yield (
            "resident memory idle: server / with the store's child",
            f"{idle[0]:.0f} / {sum(idle):.0f} MB",
            "≤ 80 / ≤ 450 MB",
        )
        Rate(running, 500, 100, 1)  # warm up
        batches = [Rate(running, 3000, 100, 10 + i) for i in range(3)]
        stored = median(batches, "stored_per_s")
        yield "stored events/s, batches of 100, drained", f"{stored:,.0f}", "≥ 40,000"
        cpu = f"{median(batches, 'server_us'):.1f} + {median(batches, 'store_us'):.1f} µs"
        yield "CPU per event: server + store's child", cpu, "≤ 15 µs"
        yield (
            "p50 / p99 acknowledgement, batches of 100",
            f"{median(batches, 'p50_ms'):.1f} / {median(batches, 'p99_ms'):.1f} ms",
            "",
        )
        singles = [Rate(running, 10_000, 1, 20 + i) for i in range(3)]
        rate = f"{median(singles, 'acknowledged_per_s'):,.0f}; {median(singles, 'p99_ms'):.1f} ms"
        yield "acknowledged and fsynced/s, single events; p99", rate, "≥ 2,500; ≤ 12 ms"
        took = visible_ms(running, stored / 2)
        yield (
            "acknowledged → visible, at half load: p50 / worst",
            f"{quantile(took, 0.5):.0f} / {max(took):.0f} ms",
            "≤ 1,000 ms",
        )
        yield "disk per event once loaded", f"{disk_bytes_per_event(running):.0f} B", "≤ 330 B"
        yield "start with a drained log → ready, median of 5", f"{statistics.median(starts(running)):.2f} s", "≤ 0.8 s"
    if full:
        with server() as running:
            running.stop()
            fill(running.data_dir)
            running.start()
            running.wait_store()
            while json.loads(running.ask("GET", "/health")[1])["parts"]["writer"]["filter_ids"] < ROWS_BEFORE:
                time.sleep(0.5)
            Rate(running, 500, 100, 2)  # warm up
            again = [Rate(running, 3000, 100, 40 + i) for i in range(3)]
            after = median(again, "stored_per_s")
            yield "stored events/s with 10 M stored; ratio", f"{after:,.0f}; {after / stored:.2f}", "≥ 0.8"


def fill(data_dir: Path) -> None:
    """Put events straight into the store: the server, which is not running, would take minutes."""
    from leeward.clock import SystemClock
    from leeward.store.embedded import EmbeddedEngine
    from leeward.store.events import Block, ClickHouseEventStore

    engine = EmbeddedEngine(data_dir / "store")
    engine.start()
    assert engine.wait_ready(60)
    store = ClickHouseEventStore(engine.client(), SystemClock(), 7)
    began_s = time.perf_counter()
    note = "the answer came late but it came and nobody noticed that one provider had been away for a minute " * 3
    for first in range(0, ROWS_BEFORE, ROWS_A_BLOCK):
        at = SystemClock().wall_ms()
        lines = [
            b'{"wal_instance":"bench","wal_segment":1,"wal_position":%d,"project":1,"kind":"event","id":"%s",'
            b'"name":"message_sent","received_at":%d,"timestamp":%d,"distinct_id":"user-%d","data":"{\\"note\\":\\"%s\\"}"}'
            % (number, os.urandom(16).hex().encode(), at, at, number % 10_000, note.encode())
            for number in range(first, first + ROWS_A_BLOCK)
        ]
        store.load(Block(instance="bench", first=first, last=first + ROWS_A_BLOCK - 1, segment=1, lines=lines))
    print(f"  {ROWS_BEFORE:,} events put into the store in {time.perf_counter() - began_s:.0f} s", file=sys.stderr)
    engine.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    print(
        f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}; 4 connections, load on the same machine\n"
    )
    print("| measure | here | goal |\n|---|---|---|")
    for row in table(options.full):
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
