"""A load generator for the ingest road: requests are built before the clock runs, a few connections send them in turn."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import uuid
from pathlib import Path
from typing import NamedTuple

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


class Sent(NamedTuple):
    """What a run of requests came to: seconds, answers by status, and how long each took in milliseconds."""

    seconds: float
    statuses: dict[int, int]
    latencies_ms: list[float]


def event(number: int, chance: random.Random) -> dict:
    """A native event of about 500 bytes, as a chat backend sends it; most of it differs from event to event."""
    return {
        "event_type": chance.choice(("message_sent", "message_received", "tool_called", "session_started")),
        "id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "timestamp": 1_790_000_000_000 + number,
        "distinct_id": f"user-{chance.randrange(10_000)}",
        "session_id": f"session-{chance.getrandbits(40):x}",
        "data": {
            "provider": chance.choice(("openai", "anthropic", "mistral")),
            "model": chance.choice(("gpt-4o-mini", "claude-sonnet", "mistral-large")),
            "latency_ms": round(chance.uniform(80, 4000), 1),
            "input_tokens": chance.randrange(2000),
            "output_tokens": chance.randrange(800),
            "path": "/v1/chat/completions",
            "ok": True,
            "note": " ".join(chance.choice(WORDS) for _ in range(26)),
        },
    }


WORDS = [
    "the",
    "answer",
    "came",
    "late",
    "but",
    "it",
    "came",
    "and",
    "nobody",
    "noticed",
    "that",
    "one",
    "provider",
    "had",
    "been",
    "away",
    "for",
    "a",
    "minute",
    "while",
    "the",
    "other",
    "took",
    "over",
    "with",
    "the",
    "same",
    "question",
    "and",
    "the",
    "same",
    "context",
    "so",
    "the",
    "person",
    "typing",
    "saw",
    "three",
    "dots",
    "and",
    "then",
    "a",
    "reply",
]


def requests(batches: int, size: int, key: str, *, seed: int = 1, port: int = 5330) -> list[bytes]:
    """Whole HTTP requests of *size* events each, every event with an id of its own."""
    chance = random.Random(seed)
    made = []
    for batch in range(batches):
        events = [event(batch * size + i, chance) for i in range(size)]
        body = json.dumps(events if size > 1 else events[0], separators=(",", ":")).encode()
        head = (
            f"POST /api/telemetry/ingest HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


async def _connection(port: int, queue: list[bytes], statuses: dict[int, int], latencies: list[float], pace_s: float):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    next_s = time.perf_counter()
    while queue:
        request = queue.pop()
        if pace_s:
            next_s += pace_s
            await asyncio.sleep(max(0.0, next_s - time.perf_counter()))
        start = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        latencies.append((time.perf_counter() - start) * 1000)
        status = int(head[9:12])
        statuses[status] = statuses.get(status, 0) + 1
    writer.close()


def send(port: int, made: list[bytes], *, connections: int = 4, rate_per_s: float = 0.0) -> Sent:
    """Send the requests over some connections; with a rate, evenly paced."""

    async def run() -> Sent:
        queue = list(made)
        statuses: dict[int, int] = {}
        latencies: list[float] = []
        start = time.perf_counter()
        pace_s = connections / rate_per_s if rate_per_s else 0.0
        await asyncio.gather(*(_connection(port, queue, statuses, latencies, pace_s) for _ in range(connections)))
        return Sent(time.perf_counter() - start, statuses, latencies)

    return asyncio.run(run())


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_mb(pid: int) -> float:
    """Resident memory of a process, its share of shared pages counted by proportion, in MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def children(pid: int) -> list[int]:
    """Process ids of a process's children."""
    return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] or [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if (path / "stat").exists() and path.joinpath("stat").read_text().rpartition(")")[2].split()[1] == str(pid)
    ]


def quantile(values: list[float], share: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
