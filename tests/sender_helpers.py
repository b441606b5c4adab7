"""Parts for the client's tests: a clock that a test moves, and a transport that answers from a list."""

from __future__ import annotations

import json
from collections import deque

from leeward.sender.plan import Answer


class HandClock:
    """Time that only the test moves."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def wall_ms(self) -> int:
        return int(self.now_s * 1000)

    def monotonic_s(self) -> float:
        return self.now_s


class ScriptedTransport:
    """Answers from `script`, then acknowledges; keeps what was sent."""

    def __init__(self) -> None:
        self.script: deque[Answer] = deque()
        self.sent: list[tuple[str, list[dict]]] = []
        self.closed = False
        self.abandoned = False

    def __call__(self, on_progress):
        return self

    def send(self, body: bytes, batch_id: str) -> Answer:
        batch = json.loads(body)
        assert batch["batch_id"] == batch_id
        self.sent.append((batch_id, batch["events"]))
        return self.script.popleft() if self.script else Answer(200, "", acknowledged=True)

    def close(self) -> None:
        self.closed = True

    def abandon(self) -> None:
        self.abandoned = True

    @property
    def ids(self) -> list[str]:
        return [batch_id for batch_id, _ in self.sent]

    @property
    def sizes(self) -> list[int]:
        return [len(events) for _, events in self.sent]
