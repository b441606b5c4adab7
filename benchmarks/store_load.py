"""What loading costs in the embedded store: rows a second, processor time of the child, bytes on disk, id look-ups.

    python -m benchmarks.store_load [--blocks 100] [--rows 10000] [--per-query 50,1000,5000]

A row is a native event of about 500 bytes: random id, one of 20,000 people, a session, 180 bytes of random words.
With `--blocks 1000` it ends with ten million rows.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import uuid
from pathlib import Path

import msgspec

from leeward.clock import SystemClock
from leeward.model import Event
from leeward.store.embedded import EmbeddedEngine
from leeward.store.events import Block, ClickHouseEventStore, EventQuery
from leeward.store.migrate import migrate, verify

_ENCODE = msgspec.json.Encoder().encode
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def block(number: int, rows: int, now_ms: int, words: list[str]) -> tuple[Block, list[str]]:
    chance = random.Random(number)
    first, lines, ids = number * rows, [], []
    for index in range(rows):
        note = " ".join(chance.choices(words, k=30))[:180]
        at_ms = now_ms + (first + index) // 40
        event_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        ids.append(event_id)
        event = Event(
            project=1,
            kind="event",
            id=event_id,
            name=chance.choice(("chat.sent", "page.view", "signup", "tool.call")),
            received_at=at_ms,
            timestamp=at_ms - chance.randrange(3000),
            data=_ENCODE({"plan": "pro", "tokens": chance.randrange(4000), "note": note}).decode(),
            distinct_id=f"u-{chance.randrange(20_000)}",
            session_id=str(uuid.UUID(int=chance.randrange(1000) * 10**30 + first // 5000)),
        )
        wal = b',"wal_instance":"a1b2c3d4","wal_segment":1,"wal_position":%d}' % (first + index)
        lines.append(_ENCODE(event)[:-1] + wal)
    return Block("a1b2c3d4", first, first + rows - 1, 1, lines), ids


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def resident_mb(pid: int) -> int:
    return next(
        int(line.split()[1]) // 1024
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )


def timed_ms(call, times: int = 5) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return sorted(took)[len(took) // 2] * 1000


def look_up(store: ClickHouseEventStore, known: list[str], size: int) -> float:
    """Half of the keys are known."""
    chance = random.Random(f"look-up of {size}")  # blocks are made from small seeds: not the same ids again
    keys = [(1, "event", event_id) for event_id in chance.sample(known, size // 2)]
    keys += [(1, "event", str(uuid.UUID(int=chance.getrandbits(128), version=4))) for _ in range(size - size // 2)]
    assert len(store.known_ids(keys, 0)) == size // 2
    return timed_ms(lambda: store.known_ids(keys, 0))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=100)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--per-query", default="50,1000,5000")
    chosen = parser.parse_args(arguments)
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 10))) for _ in range(3000)]
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        engine = EmbeddedEngine(Path(directory))
        engine.start()
        assert engine.wait_ready(60), engine.reason
        ready_ms = (time.perf_counter() - began) * 1000
        client = engine.client()
        migrate(client)
        verify(client)
        store = ClickHouseEventStore(client, SystemClock(), 7)
        pid = engine.pid
        assert pid is not None
        time.sleep(1)
        idle_mb, cpu_before_s = resident_mb(pid), cpu_s(pid)
        now_ms, load_s, own_s, known = SystemClock().wall_ms() - 3_600_000, 0.0, 0.0, []
        for number in range(chosen.blocks):
            one, ids = block(number, chosen.rows, now_ms, words)
            known += ids[:: max(1, chosen.blocks // 20)]
            size = sum(map(len, one.lines)) / len(one.lines)
            own = time.process_time()
            start = time.perf_counter()
            store.load(one)
            load_s += time.perf_counter() - start
            own_s += time.process_time() - own
        rows = chosen.blocks * chosen.rows
        loaded_cpu_s, before_rest = cpu_s(pid) - cpu_before_s, store.statistics()
        time.sleep(5)
        merged_cpu_s, peak_mb = cpu_s(pid) - cpu_before_s, resident_mb(pid)
        after = store.statistics()
        print(f"{rows:,} rows of {size:.0f} bytes in {chosen.blocks} blocks of {chosen.rows:,}")
        print(f"  ready after                {ready_ms:8.0f} ms")
        print(f"  resident idle / loaded     {idle_mb:8} / {peak_mb} MB")
        print(
            f"  loaded                     {rows / load_s:8,.0f} rows/s ({load_s / chosen.blocks * 1000:.0f} ms a block)"
        )
        print(
            f"  child's processor time     {loaded_cpu_s / rows * 1e6:8.2f} µs/row, {merged_cpu_s / rows * 1e6:.2f} with merges"
        )
        print(f"  our own processor time     {own_s / rows * 1e6:8.2f} µs/row")
        print(
            f"  on disk                    {after.bytes_on_disk / rows:8.1f} B/row in {after.parts} parts ({before_rest.parts} at once)"
        )
        for size_of_query in map(int, chosen.per_query.split(",")):
            took_ms = look_up(store, known, size_of_query)
            print(
                f"  known_ids of {size_of_query:6}       {took_ms:8.1f} ms ({took_ms / size_of_query * 1000:.1f} µs a key)"
            )
        page = EventQuery(project=1, start_ms=0, end_ms=2**62, limit=100)
        print(f"  newest 100                 {timed_ms(lambda: store.query(page)):8.1f} ms")
        by_session = msgspec.structs.replace(page, filters={"session_id": store.query(page)[0]["session_id"]})
        print(f"  100 of one session         {timed_ms(lambda: store.query(by_session)):8.1f} ms")
        start = time.perf_counter()
        count = sum(map(len, store.ids_since(0)))
        print(f"  all {count:,} ids          {time.perf_counter() - start:8.2f} s")
        engine.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
