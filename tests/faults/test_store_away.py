"""The store's process crashes, is killed or stands still: events are accepted all the same and are all there after."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server_process import HEAVY, Answer, ServerProcess, stopped, until

EVENTS_A_REQUEST = 100
REQUESTS_A_SECOND = 50 if HEAVY else 5
SECONDS = 60.0 if HEAVY else 4.0
CAUGHT_UP_S = 30.0


@pytest.fixture
def server(tmp_path: Path):
    with ServerProcess(tmp_path / "d") as running:
        running.wait_store()
        yield running


class Load(threading.Thread):
    """Batches at a steady rate, each under an id; what was answered is kept."""

    def __init__(self, server: ServerProcess, seconds: float = SECONDS) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._seconds = seconds
        self.answers: list[Answer] = []

    def run(self) -> None:
        connection, key = self._server.connect(), self._server.key("write")
        began_s = time.monotonic()
        for number in range(int(self._seconds * REQUESTS_A_SECOND)):
            time.sleep(max(0.0, began_s + number / REQUESTS_A_SECOND - time.monotonic()))
            self.answers.append(connection.ask("POST", "/api/telemetry/batch", batch_body(f"b{number}"), key=key))
        connection.close()

    def finish(self) -> None:
        self.join(self._seconds + 120)
        assert not self.is_alive()


def batch_body(batch_id: str, count: int = EVENTS_A_REQUEST) -> bytes:
    events = [{"event_type": "load", "id": f"{batch_id}-{index}"} for index in range(count)]
    return json.dumps({"batch_id": batch_id, "events": events}).encode()


def all_are_there_once(server: ServerProcess, load: Load) -> float:
    """Every event of the load is found exactly once; the seconds until a query saw them all."""
    began_s = time.monotonic()
    page = until(lambda: _seen(server), "the store has caught up", CAUGHT_UP_S)
    seconds = time.monotonic() - began_s
    assert page
    found = Counter(event["id"] for event in server.query_all("event_type=load&order=asc"))
    assert set(found.values()) == {1}
    assert len(found) == len(load.answers) * EVENTS_A_REQUEST
    return seconds


def _seen(server: ServerProcess) -> bool:
    answer = server.query("limit=1&wait_ms=1000")
    assert answer.status == 200 or (answer.status, answer.code) == (503, "store_behind"), answer
    return answer.status == 200


def status_of(server: ServerProcess, batch_id: str) -> str:
    return server.ask("GET", f"/api/telemetry/batch/{batch_id}", key=server.key("read")).json()["status"]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_w14_everything_is_accepted_while_the_store_is_killed_again_and_again(server: ServerProcess, number: int):
    load = Load(server)
    load.start()
    for kill in range(3):
        until(lambda least=kill * 4 + 2: len(load.answers) > least, "some are accepted")
        os.kill(server.store_pid, number)
    load.finish()
    assert {answer.status for answer in load.answers} == {200}
    seconds = all_are_there_once(server, load)
    print(f"{len(load.answers) * EVENTS_A_REQUEST} events, 3 kills, all visible {seconds:.2f} s after the last answer")
    assert 1 <= server.health()["parts"]["store"]["restarts"] <= 3  # a kill may meet one that is on its way out


def test_w14_everything_is_accepted_while_the_store_stands_still(server: ServerProcess):
    load = Load(server)
    with stopped(server.store_pid):
        load.start()
        load.finish()
        assert {answer.status for answer in load.answers} == {200}
        if not HEAVY:  # within a minute it is found to hang and is replaced: then nothing is behind any more
            behind = server.query("wait_ms=200")
            assert (behind.status, behind.code) == (503, "store_behind")
            assert int(behind.headers["retry-after"]) >= 1
            assert "bytes of the log" in behind.json()["error"]
    seconds = all_are_there_once(server, load)
    print(f"{len(load.answers) * EVENTS_A_REQUEST} events while it stood still, all visible {seconds:.2f} s after")


def test_w14_queries_say_that_the_store_is_behind_until_it_is_back(server: ServerProcess):
    assert server.send({"event_type": "before"}).status == 200
    server.wait_store()
    with Away(server):
        for query in ("", "wait_ms=0", "wait_ms=100"):
            answer = server.query(query)
            assert (answer.status, answer.code) == (503, "store_behind")
            assert b"/" not in answer.body, "paths of this machine are for the log"
    assert len(server.query_all("event_type=before")) == 1
    assert not server.reported("request_failed")


def test_w14_a_store_that_stays_still_is_replaced(server: ServerProcess):
    first = server.store_pid
    with stopped(first):
        assert server.ask("POST", "/api/telemetry/batch", batch_body("b"), key=server.key("write")).status == 200
        until(lambda: server.health()["status"] == "degraded", "health says so", 40)
        until(lambda: server.store_pid != first, "another is started", 60)
    assert len(server.query_all("event_type=load")) == EVENTS_A_REQUEST
    assert server.store_pid != first


def test_w14_reads_that_wait_for_a_still_store_do_not_keep_large_requests_waiting(server: ServerProcess):
    large = json.dumps([{"event_type": "large", "data": {"text": "x" * 30_000}}] * 20).encode()
    with ThreadPoolExecutor(40) as pool:
        with stopped(server.store_pid):
            reads = [pool.submit(server.query, "wait_ms=0") for _ in range(40)]
            time.sleep(0.3)
            began_s = time.monotonic()
            assert server.ask("POST", "/api/telemetry/ingest", large, key=server.key("write")).status == 200
            seconds = time.monotonic() - began_s
        assert {read.result().status for read in reads} <= {200, 429, 503}
    print(f"a large request took {seconds:.2f} s beside 40 reads")
    assert seconds < 3.0


def test_w13_a_batch_is_processing_while_the_store_is_away_and_completed_after(server: ServerProcess):
    with Away(server):
        answer = server.ask("POST", "/api/telemetry/batch", batch_body("b"), key=server.key("write"))
        assert answer.status == 200
        until(lambda: status_of(server, "b") == "processing", "the batch is being stored")
        again = server.ask("POST", "/api/telemetry/batch", batch_body("b"), key=server.key("write")).json()
        assert again == {**answer.json(), "status": "processing"}
        assert server.health()["status"] == "degraded"
        assert server.ask("GET", "/readyz").status == 200
    until(lambda: status_of(server, "b") == "completed", "the batch is stored")
    assert len(server.query_all("batch_id=b")) == EVENTS_A_REQUEST


class Away:
    """A store that cannot start: somebody else holds its directory."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server

    def __enter__(self) -> None:
        import fcntl

        self._file = (self._server.data_dir / "store" / "lock").open("a+")
        pid = self._server.store_pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: self._taken(fcntl), "its directory is ours")

    def _taken(self, fcntl) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        self._file.close()
