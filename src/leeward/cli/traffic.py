"""The demo's traffic: a small chat application that reports what it does, through the real client.

Every event carries `demo: true`. The thread is a daemon, and `stop` ends it: what is not delivered then stays in the
client's spool and is sent by the next demo.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any, Final

from leeward.sender.client import Client

__all__ = ["Traffic", "chat_events"]

BURST_EVENTS: Final = 40
PAUSE_S: Final = 0.25
FLUSH_S: Final = 2.0
STOP_S: Final = 0.3
_PEOPLE: Final = tuple(f"person-{number}" for number in range(1, 13))
_MODELS: Final = (("primary", "chat-large"), ("primary", "chat-small"), ("secondary", "chat-large"))

_Event = tuple[str, str, dict[str, Any]]


def chat_events(chance: random.Random) -> Iterator[_Event]:
    """What happens in the application, without end: name, person, properties."""
    while True:
        person = chance.choice(_PEOPLE)
        provider, model = chance.choice(_MODELS)
        asked = chance.randint(12, 900)
        yield "chat.sent", person, {"demo": True, "characters": asked * 4}
        if chance.random() < 0.06:
            problem = chance.choice(("rate limited", "no answer in 30 s", "connection reset"))
            yield "provider.failed", person, {"demo": True, "provider": provider, "model": model, "problem": problem}
            provider = "secondary"
        yield (
            "chat.answered",
            person,
            {
                "demo": True,
                "provider": provider,
                "model": model,
                "latency_ms": round(chance.lognormvariate(6.2, 0.5)),
                "input_tokens": asked,
                "output_tokens": chance.randint(20, 600),
            },
        )
        if chance.random() < 0.15:
            yield "answer.rated", person, {"demo": True, "stars": chance.choice((1, 3, 4, 5, 5))}


class Traffic:
    """The application in a thread of its own."""

    def __init__(self, client: Client, chance: random.Random) -> None:
        self._client = client
        self._events = chat_events(chance)
        self._chance = chance
        self._told = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leeward-demo", daemon=True)

    def start(self) -> None:
        """Begin: some events at once, so that the page has something to show, then a trickle."""
        self._thread.start()

    def stop(self) -> None:
        """Tell it to end; does not wait, and may be called where a signal is handled.

        A second signal may come while the first sets the event, whose lock is held then: only the first sets it.
        """
        if not self._told:
            self._told = True
            self._stopping.set()

    def join(self) -> None:
        """Wait for its end."""
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        for _ in range(BURST_EVENTS):
            self._capture()
        self._client.flush(FLUSH_S)  # who opens the page now should not wait for the client's next batch
        while not self._stopping.wait(self._chance.expovariate(1 / PAUSE_S)):
            self._capture()
        self._client.shutdown(STOP_S)

    def _capture(self) -> None:
        name, person, properties = next(self._events)
        self._client.capture(name, properties, distinct_id=person)
