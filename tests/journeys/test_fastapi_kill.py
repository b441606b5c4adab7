"""A FastAPI application and leeward's real server, both of them killed: what an answer confirmed is there, once."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from typing import Self

import pytest

from programs import environment
from server_process import ServerProcess, free_port, until

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 is POSIX")
ANSWER_S = 20.0
BEFORE, WHILE_DOWN, AFTER = 40, 40, 20

APPLICATION = """
import sys

import uvicorn
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse

import leeward
from leeward.integrations.asgi import TelemetryMiddleware

leeward.init(app="journey/1.0")
app = FastAPI()
app.add_middleware(TelemetryMiddleware)
noted = []  # ids of events that were captured behind an answer; the next answers tell


def note(number):
    noted.append(leeward.capture("chat.noted", {"number": number}))


def answer(*ids):
    return {"ids": [*ids, *noted]}


@app.get("/chat/{number}")
async def chat(number: int, background: BackgroundTasks):
    background.add_task(note, number)
    with leeward.timed("plan.start", "plan.end"):
        return answer(leeward.capture("chat.sent", {"number": number}, distinct_id=f"person{number % 3}"))


@app.get("/thread/{number}")
def thread(number: int):
    return answer(leeward.log("WARN", "in a thread", {"number": number}), leeward.metric("number", number))


@app.get("/stream/{number}")
async def stream(number: int):
    async def parts():
        for part in range(3):
            yield leeward.capture("chat.part", {"number": number, "part": part}) + " "
    return StreamingResponse(parts())


@app.get("/fails/{number}")
async def fails(number: int):
    raise ValueError(f"number {number}")


@app.get("/flush")
def flush():
    result = leeward.flush(20)
    return {"spooled": result.spooled, "dropped": leeward.stats().dropped}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical", access_log=False)
"""


class Application:
    """The application as a process, and what its answers confirmed."""

    def __init__(self, server: ServerProcess, home) -> None:
        self.port = free_port()
        self.ids: list[str] = []  # of events
        self.failed: list[str] = []  # request ids of answers 500
        self.answered: list[str] = []  # request ids of answers that another answer followed: their spans are there
        self._last = ""
        self._home = home
        self._variables = {
            "LEEWARD_API_KEY": server.key("write"),
            "LEEWARD_HOST": f"http://127.0.0.1:{server.port}",
            "LEEWARD_SPOOL_DIR": str(home / "spool"),
        }
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> Self:
        with (self._home / "application.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", APPLICATION, str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(**self._variables),
            )
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        until(self._is_up, "the application answers")
        return self

    def _is_up(self) -> bool:
        assert self._process.poll() is None, (self._home / "application.log").read_text()
        try:
            return self.ask("/health")[0] == 404  # a path that the middleware leaves alone
        except OSError:
            self._connection.close()
            return False

    def kill(self) -> None:
        """SIGKILL; return when it is gone."""
        self._connection.close()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(ANSWER_S)
        self._last = ""

    def ask(self, path: str, request_id: str = "") -> tuple[int, bytes]:
        self._connection.request("GET", path, headers={"X-Request-Id": request_id} if request_id else {})
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def visit(self, number: int) -> None:
        """One request of a person; what it confirms is noted."""
        kind = ("chat", "thread", "stream", "fails")[number % 4]
        request_id = f"r{number}"
        status, body = self.ask(f"/{kind}/{number}", request_id)
        if kind == "fails":
            assert status == 500
            self.failed.append(request_id)
            self._connection.close()  # as uvicorn does behind an exception
        else:
            assert status == 200
            self.ids += body.decode().split() if kind == "stream" else json.loads(body)["ids"]
        if self._last:
            self.answered.append(self._last)
        self._last = request_id


@pytest.mark.parametrize("round_", range(10 if HEAVY else 1))
def test_c9_what_a_fastapi_application_confirmed_survives_its_kill_and_its_servers(tmp_path, round_):
    chance = random.Random(round_)
    with ServerProcess(tmp_path / "d") as server, Application(server, tmp_path) as application:
        numbers = iter(range(1000))
        for _ in range(BEFORE + chance.randrange(20)):
            application.visit(next(numbers))
        server.kill(group=True)
        for _ in range(WHILE_DOWN + chance.randrange(20)):
            application.visit(next(numbers))
        application.kill()
        application.start()
        for _ in range(AFTER):
            application.visit(next(numbers))
        server.start()
        application.visit(next(numbers))
        application.kill()
        application.start()
        until(lambda: json.loads(application.ask("/flush")[1]) == {"spooled": 0, "dropped": {}}, "all is delivered")
        events = server.query_all()

    times = Counter(event["id"] for event in events)
    assert set(times.values()) == {1}
    assert None not in application.ids
    assert set(application.ids) <= set(times)
    exceptions = Counter(event["correlation_id"] for event in events if event["kind"] == "exception")
    assert exceptions == dict.fromkeys(application.failed, 1)
    spans = Counter(event["correlation_id"] for event in events if event["kind"] == "span")
    assert set(application.answered) <= set(spans)
    assert set(spans.values()) == {1}
    assert "leeward" not in (tmp_path / "application.log").read_text()
    check_one_request(events)


def check_one_request(events) -> None:
    """What a request, a task behind its answer, and its exception captured belongs together."""
    first = {event["event_type"]: event for event in events if event["correlation_id"] == "r0"}
    span = first["GET /chat/{number}"]
    assert set(first) == {"chat.sent", "plan.start", "plan.end", "chat.noted", "GET /chat/{number}"}
    assert {event["trace_id"] for event in first.values()} == {span["trace_id"]}
    assert first["chat.noted"]["span_id"] == span["span_id"]
    (broken,) = [event for event in events if (event["correlation_id"], event["kind"]) == ("r3", "exception")]
    assert (broken["error"]["type"], broken["error"]["message"]) == ("ValueError", "number 3")
    assert broken["data"]["http.route"] == "/fails/{number}"
