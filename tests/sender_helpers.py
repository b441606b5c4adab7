"""Parts for the client's tests: a clock that a test moves, and a transport that answers from a list."""

from __future__ import annotations

import json
from collections import deque

from leeward.sender.answers import Reply
from leeward.sender.loading import Loading
from leeward.sender.plan import Answer


def cut_off() -> Loading:
    """As a child sees it that was forked in the middle of its parent's import."""
    loading = Loading()
    loading._under_way.append((-1, -1))
    return loading


class HandClock:
    """Time that only the test moves."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def wall_ms(self) -> int:
        return int(self.now_s * 1000)

    def monotonic_s(self) -> float:
        return self.now_s


class ScriptedTransport:
    """Answers from `script`, then acknowledges; keeps what was sent. Speaks the native wire."""

    def __init__(self) -> None:
        self.script: deque[Answer] = deque()
        self.sent: list[tuple[str, list[dict]]] = []
        self.clients: list[dict] = []
        self.timeout_s = 0.0
        self.closed = False
        self.abandoned = False

    def __call__(self, on_progress, timeout_s):
        self.timeout_s = timeout_s
        return self

    def send(self, path: str, headers, body: bytes) -> Reply:
        batch = json.loads(body)
        self.sent.append((batch["batch_id"], batch["events"]))
        self.clients.append(batch["client"])
        answer = self.script.popleft() if self.script else Answer(200, "", acknowledged=True)
        return reply_of(answer, batch["batch_id"])

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


def reply_of(answer: Answer, batch_id: str) -> Reply:
    """The reply that means this answer to the batch."""
    errors = [{"code": code} for code, count in answer.refused.items() for _ in range(count)]
    acknowledgement = {"batch_id": batch_id, "status": "completed", "errors": errors}
    body = json.dumps(acknowledgement).encode() if answer.acknowledged else b"<html>sign in</html>"
    return Reply(answer.status, answer.cause, body=body, retry_after_s=answer.retry_after_s)
