"""How long an append takes: the client's two candidates, and the server's log with its sync.

    python -m benchmarks.journal_append [directory]

The client's spool was chosen by this: a copy into a mapped file (`SpoolHome`) against one O_APPEND write per record,
each alone and beside a thread that computes without pause.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from itertools import count
from pathlib import Path

from leeward.journal import frame
from leeward.journal.log import Log, Record
from leeward.journal.spool import SpoolHome

RECORD_BYTES = 600
RECORDS = 50_000
RECORDS_BUSY = 5_000  # a write may cost 5 ms there
GROUP = 4


def percentiles_us(times_ns: list[int]) -> str:
    times_ns.sort()
    chosen = [times_ns[int(len(times_ns) * part)] / 1000 for part in (0.5, 0.99, 0.999)]
    return " / ".join(f"{us:,.1f}" for us in chosen)


def timed(append, arguments: tuple, records: int, between=lambda: None) -> list[int]:
    times = []
    for _ in range(records):
        between()
        started = time.perf_counter_ns()
        append(*arguments)
        times.append(time.perf_counter_ns() - started)
    return times


def mapped(directory: str, records: int) -> list[int]:
    """Append while a worker delivers and lays out segments, as in a client."""
    home = SpoolHome.create(directory)
    reader = home.readers[1]
    stop = threading.Event()

    def deliver():
        while not stop.wait(0.005):
            home.prepare()
            while taken := reader.take(bytes_max=1 << 20, count_max=500).payloads:
                reader.acknowledge(len(taken))

    worker = threading.Thread(target=deliver)
    worker.start()
    times = timed(home.rest.append, (os.urandom(RECORD_BYTES), 1, 1), records)
    stop.set()
    worker.join()
    home.finish()
    return times


def mapped_alone(directory: str, records: int) -> list[int]:
    home = SpoolHome.create(directory)
    # What the worker does in a client, untimed: here it must not take turns with the appender.
    times = timed(home.rest.append, (os.urandom(RECORD_BYTES), 1, 1), records, home.prepare)
    home.close()
    return times


def written(directory: str, records: int) -> list[int]:
    fd = os.open(Path(directory) / "written", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sequences = count()

    def append(payload):
        os.write(fd, frame.encode_small(1, payload, next(sequences), 1))

    times = timed(append, (os.urandom(RECORD_BYTES),), records)
    os.close(fd)
    return times


class Busy:
    """A thread that computes without pause."""

    def __enter__(self):
        self._stop = False
        self._thread = threading.Thread(target=self._compute)
        self._thread.start()

    def __exit__(self, *_):
        self._stop = True
        self._thread.join()

    def _compute(self):
        while not self._stop:
            sum(range(1000))


def synced(directory: str, payload_bytes: int, groups: int) -> str:
    log = Log.open(directory)
    group = [Record(1, os.urandom(payload_bytes)) for _ in range(GROUP)]
    log.append(group)
    log.sync()
    times = []
    for _ in range(groups):
        started = time.perf_counter_ns()
        log.append(group)
        log.sync()
        times.append(time.perf_counter_ns() - started)
    log.close()
    rate = GROUP * groups / (sum(times) / 1e9)
    return f"{rate:10,.0f} records/s   {percentiles_us(times)}"


def main(directory: str) -> None:
    print(f"client, {RECORD_BYTES}-byte records                        p50 / p99 / p99.9, microseconds")
    print(f"  mapped, alone                    {percentiles_us(mapped_alone(directory + '/a', RECORDS))}")
    print(f"  written, alone                   {percentiles_us(written(directory, RECORDS))}")
    with Busy():
        print(f"  mapped, beside a busy thread     {percentiles_us(mapped_alone(directory + '/b', RECORDS_BUSY))}")
        print(f"  written, beside a busy thread    {percentiles_us(written(directory, RECORDS_BUSY))}")
    print(f"  mapped, beside its own worker    {percentiles_us(mapped(directory + '/c', RECORDS))}")
    print("server, append + fdatasync of a group of 4        group: p50 / p99 / p99.9, microseconds")
    for payload_bytes, groups in ((700, 2000), (70_000, 500)):
        print(f"  4 x {payload_bytes:6,} bytes   {synced(f'{directory}/log{payload_bytes}', payload_bytes, groups)}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as scratch:
        main(scratch)
