"""The demo's traffic: a small chat application that asks the gateway, and reports what it does through the real client.

Every event carries `demo: true`. Its threads are daemons, and `stop` ends them: what is not delivered then stays in the
client's spool and is sent by the next demo.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from leeward.cli.switch import LOST
from leeward.sender.client import Client

__all__ = ["MODEL", "Answer", "Door", "Traffic"]

MODEL: Final = "chat"
ASKERS: Final = 2
BURST: Final = 10  # conversations at once, so that the page has something to show
PAUSE_S: Final = 0.6
FLUSH_S: Final = 2.0
STOP_S: Final = 0.3
TIMEOUT_S: Final = 30.0
_PEOPLE: Final = tuple(f"person-{number}" for number in range(1, 13))
_PROMPTS: Final = (
    "What is the weather like at sea?",
    "Explain a circuit breaker to a child.",
    "Write a haiku about a harbour.",
    "Summarise our last three messages.",
    "Which of these two plans is cheaper?",
    "Translate “fair winds” into Spanish.",
    "How do I reset my password?",
    "Suggest a name for a small boat.",
)


class Answer(NamedTuple):
    """What came of a question. `by`: the provider, or what stood in for one; empty when no answer came."""

    by: str
    degraded: bool = False
    code: str = ""  # of the error, when no answer came


class Door:
    """Asks the gateway over HTTP, as an application does."""

    def __init__(self, url: str, key: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask(self, prompt: str, *, stream: bool, leave: Callable[[], bool]) -> Answer:
        """Ask, and read the answer to its end; `leave` says in mid-stream whether to go away instead."""
        body = {"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": prompt}]}
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), self._headers)
            with connection.getresponse() as response:
                return _read(response, stream=stream, leave=leave)
        except (OSError, http.client.HTTPException) as error:
            return Answer("", code=type(error).__name__)
        finally:
            connection.close()


def _read(response: http.client.HTTPResponse, *, stream: bool, leave: Callable[[], bool]) -> Answer:
    degraded = response.getheader("x-leeward-degraded", "")
    good = Answer(degraded or response.getheader("x-leeward-provider", ""), bool(degraded))
    if response.status != 200:
        return Answer("", code=_code(response.read()))
    if not stream:
        response.read()
        return good
    for line in response:
        if line.startswith(b"data: [DONE]"):
            return good
        if leave():
            break
    return Answer("", code="cut")


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, LookupError, TypeError):
        return "no_answer"


class Traffic:
    """The application, in threads of its own."""

    def __init__(self, client: Client, ask: Callable[..., Answer], chance: random.Random) -> None:
        self._client = client
        self._ask = ask
        self._chance = chance
        self._told: bool = False
        self._stopping = threading.Event()
        self._counting = threading.Lock()
        self._answers: Counter[str] = Counter()
        self._running = ASKERS
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"leeward-demo-{number}", daemon=True)
            for number in range(ASKERS)
        ]

    def start(self) -> None:
        """Begin: some conversations at once, so that the page has something to show, then a trickle."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Tell it to end; does not wait, and may be called where a signal is handled.

        A second signal may come while the first sets the event, whose lock is held then: only the first sets it.
        """
        if not self._told:
            self._told = True
            self._stopping.set()

    def join(self) -> None:
        """Wait for its end."""
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def answers(self) -> Mapping[str, int]:
        """How many answers came, by who gave them; those that did not come, by `LOST`."""
        with self._counting:
            return dict(self._answers)

    def _run(self, number: int) -> None:
        if number == 0:
            for _ in range(BURST):
                self._talk(stream=False)
            self._client.flush(FLUSH_S)  # who opens the page now should not wait for the client's next batch
        while not self._stopping.wait(self._chance.expovariate(1 / PAUSE_S)):
            self._talk(stream=self._chance.random() < 0.7)
        with self._counting:
            self._running -= 1
            is_last = self._running == 0
        if is_last:
            self._client.shutdown(STOP_S)

    def _talk(self, *, stream: bool) -> None:
        """One question and its answer, with what a person makes of it."""
        if self._stopping.is_set():
            return
        person, prompt = self._chance.choice(_PEOPLE), self._chance.choice(_PROMPTS)
        self._say("chat.sent", person, {"characters": len(prompt)})
        began_s = time.monotonic()
        answer = self._ask(prompt, stream=stream, leave=self._stopping.is_set)
        if not answer.by and self._stopping.is_set():
            return  # broken off by the demo's own end: nobody waits for it
        with self._counting:
            self._answers[answer.by or LOST] += 1
        about = {"latency_ms": round((time.monotonic() - began_s) * 1000), "streamed": stream}
        if not answer.by:
            self._say("chat.failed", person, {**about, "code": answer.code})
            return
        self._say("chat.answered", person, {**about, "by": answer.by, "degraded": answer.degraded})
        if self._chance.random() < 0.15:
            self._say("answer.rated", person, {"stars": self._chance.choice((1, 3, 4, 5, 5))})

    def _say(self, name: str, person: str, properties: dict[str, Any]) -> None:
        self._client.capture(name, {"demo": True, **properties}, distinct_id=person)
