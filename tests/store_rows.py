"""Rows, blocks and clocks for tests of the store and its callers."""

from collections.abc import Sequence

import msgspec

from leeward.model import Event
from leeward.store.events import Block

DAY_MS = 86_400_000
NOW_MS = 1_767_182_400_000  # 2025-12-31 12:00 UTC


class StillClock:
    """A clock that a test moves."""

    def __init__(self, wall_ms: int = NOW_MS) -> None:
        self.now_ms = wall_ms

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_s(self) -> float:
        return self.now_ms / 1000


def event(event_id: str = "e1", /, **fields) -> Event:
    given = {"project": 1, "kind": "event", "name": "n", "received_at": NOW_MS, "timestamp": NOW_MS - 5, **fields}
    return Event(id=event_id, **given)


def line(one: Event, position: int, instance: str = "log", segment: int = 1) -> bytes:
    wal = {"wal_instance": instance, "wal_segment": segment, "wal_position": position}
    return msgspec.json.encode(one)[:-1] + b"," + msgspec.json.encode(wal)[1:]


def block(events: Sequence[Event], first: int = 0, instance: str = "log", batches: Sequence[dict] = ()) -> Block:
    """Events at the positions from *first* on; batches stand at the last of them."""
    last = first + max(len(events) - 1, 0)
    at = {"wal_instance": instance, "wal_position": last}
    return Block(
        instance=instance,
        first=first,
        last=last,
        segment=1,
        lines=[line(one, first + index, instance) for index, one in enumerate(events)],
        batches=[
            msgspec.json.encode({"project": 1, "received_at": NOW_MS, "answer": "{}", **batch, **at})
            for batch in batches
        ],
    )
