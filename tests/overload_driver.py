"""An open-loop load generator in a process of its own: requests leave at their times, answered or not, as far as the
connections allow. What it is told of waiting it ignores.

    python overload_driver.py PORT KEY EVENTS_PER_REQUEST CONNECTIONS REQUESTS_PER_S SECONDS

A rate of 0 is as fast as answers come. Gives one JSON document: answers by status, latencies in ms, refusals without a
Retry-After.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from typing import Any


def request(port: int, key: str, size: int) -> bytes:
    """A whole HTTP request of events of about 450 bytes. They have no ids, so each time they are new events."""
    chance = random.Random(size)
    events = [
        {
            "event_type": "overload",
            "distinct_id": f"user-{chance.randrange(1000)}",
            "data": {"number": number, "text": "".join(chance.choices("abcdefgh ", k=380))},
        }
        for number in range(size)
    ]
    body = json.dumps(events).encode()
    head = (
        f"POST /api/telemetry/ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"User-Agent: overload\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Drive:
    """What came back."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.latencies_ms: dict[int, list[float]] = {}
        self.without_retry_after = 0

    async def connection(self, port: int, sent: bytes, pace_s: float, end_s: float) -> None:
        """Send again and again, each at its time, or at once when that has passed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due_s = time.perf_counter() + random.random() * pace_s
        while (now_s := time.perf_counter()) < end_s:
            if due_s > now_s:
                await asyncio.sleep(due_s - now_s)
            due_s += pace_s
            began_s = time.perf_counter()
            writer.write(sent)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            status = int(head[9:12])
            self.statuses[status] += 1
            self.latencies_ms.setdefault(status, []).append((time.perf_counter() - began_s) * 1000)
            if status in {429, 503} and b"\r\nretry-after: " not in head:
                self.without_retry_after += 1
        writer.close()

    def told(self, seconds: float) -> dict[str, Any]:
        """The document."""
        return {
            "seconds": seconds,
            "statuses": self.statuses,
            "without_retry_after": self.without_retry_after,
            "latencies_ms": {
                status: {share: ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))] for share in (50, 99)}
                for status, latencies in self.latencies_ms.items()
                for ordered in (sorted(latencies),)
            },
        }


async def drive(port: int, key: str, size: int, connections: int, rate: float, seconds: float) -> dict[str, Any]:
    """All connections, until the time is over and what is under way is answered."""
    done, sent = Drive(), request(port, key, size)
    began_s = time.perf_counter()
    pace_s = connections / rate if rate else 0.0
    await asyncio.gather(*(done.connection(port, sent, pace_s, began_s + seconds) for _ in range(connections)))
    return done.told(time.perf_counter() - began_s)


if __name__ == "__main__":
    port, key, size, connections, rate, seconds = sys.argv[1:]
    json.dump(asyncio.run(drive(int(port), key, int(size), int(connections), float(rate), float(seconds))), sys.stdout)
