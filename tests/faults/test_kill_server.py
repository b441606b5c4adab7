"""SIGKILL at random moments: nothing acknowledged is lost, nothing is stored twice, every start is a good one.

SIGKILL keeps the page cache, so this proves the order of things, not the fsync: that is for the journal's own tests.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from server_process import HEAVY, Answer, ServerProcess, until

SENDERS = 3
SEED = 20
START_S_MAX = 15.0
REPEATED_SHARE = 0.15
NO_ANSWER = (OSError, http.client.HTTPException)
VICTIMS = ("server", "server", "group", "store", "recovery")


class Sent(NamedTuple):
    """A request, and under which ids its events must be found."""

    path: str
    body: bytes
    headers: dict[str, str]
    ids: list[str]


def native(first: int, count: int, key: str, chance: random.Random) -> Sent:
    ids = [f"n{number}" for number in range(first, first + count)]
    events = [{"event_type": "numbered", "id": event_id} for event_id in ids]
    headers = {"Authorization": f"Bearer {key}"}
    if chance.random() < 0.5:
        return Sent("/api/telemetry/ingest", json.dumps(events if count > 1 else events[0]).encode(), headers, ids)
    batch_id = {"batch_id": f"b{first}"} if chance.random() < 0.7 else {}
    return Sent("/api/telemetry/batch", json.dumps({**batch_id, "events": events}).encode(), headers, ids)


def posthog(first: int, count: int, key: str, chance: random.Random) -> Sent:
    ids = [str(uuid.UUID(int=number + (1 << 120))) for number in range(first, first + count)]
    events = [{"event": "numbered", "distinct_id": "u", "uuid": event_id} for event_id in ids]
    body = json.dumps({"api_key": key, "batch": events}).encode()
    return Sent("/batch/", gzip.compress(body) if chance.random() < 0.5 else body, {}, ids)


def otlp(first: int, count: int, key: str, chance: random.Random) -> Sent:
    spans = [
        {"traceId": "ab" * 16, "spanId": f"{number + 1:016x}", "name": "numbered", "startTimeUnixNano": "7"}
        for number in range(first, first + count)
    ]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return Sent("/v1/traces", body, headers, [f"{span['traceId']}:{span['spanId']}:7" for span in spans])


def sentry(first: int, count: int, key: str, chance: random.Random) -> Sent:
    ids = [f"{number + 1:032x}" for number in range(first, first + count)]
    items = b"".join(
        b'{"type":"event"}\n{"message":"numbered","event_id":"%b"}\n' % event_id.encode() for event_id in ids
    )
    return Sent("/api/1/envelope/", b"{}\n" + items, {"X-Sentry-Auth": f"Sentry sentry_key={key}"}, ids)


WIRES: dict[str, tuple[Callable[[int, int, str, random.Random], Sent], tuple[int, ...], int]] = {
    # how a request is made, how many events it may have, how many rounds
    "native": (native, (1, 1, 10, 100), 60 if HEAVY else 20),
    "posthog": (posthog, (1, 1, 10, 100), 50 if HEAVY else 2),
    "otlp": (otlp, (1, 1, 10, 100), 50 if HEAVY else 2),
    "sentry": (sentry, (1,), 50 if HEAVY else 2),
}


class Ledger:
    """What was sent, what was answered, what must be sent again. Shared by the senders."""

    def __init__(self, wire: str, key: str) -> None:
        self.make, self.counts, _ = WIRES[wire]
        self.key = key
        self.lock = threading.Lock()
        self.sent = 0
        self.acknowledged: set[str] = set()
        self.answered: list[Sent] = []
        self.unanswered: list[Sent] = []
        self.refused: list[Answer] = []
        self.requests_acknowledged = 0

    def next_request(self, chance: random.Random) -> Sent:
        """A new request of numbered events, or one that was answered before."""
        with self.lock:
            if self.answered and chance.random() < REPEATED_SHARE:
                return chance.choice(self.answered)
            count = chance.choice(self.counts)
            first = self.sent
            self.sent += count
        return self.make(first, count, self.key, chance)

    def note(self, request: Sent, answer: Answer | None) -> None:
        with self.lock:
            if answer is None:
                self.unanswered.append(request)
            elif answer.status == 200:
                self.answered.append(request)
                self.acknowledged.update(request.ids)
                self.requests_acknowledged += 1
            else:
                self.refused.append(answer)
                self.unanswered.append(request)


def send_until(stop: threading.Event, server: ServerProcess, ledger: Ledger, chance: random.Random) -> None:
    """One connection, until told to stop or the server is gone."""
    connection = server.connect()
    while not stop.is_set():
        request = ledger.next_request(chance)
        try:
            answer = connection.ask("POST", request.path, request.body, headers=request.headers)
        except NO_ANSWER:
            ledger.note(request, None)
            break
        ledger.note(request, answer)
    connection.close()


@contextlib.contextmanager
def senders(server: ServerProcess, ledger: Ledger, chance: random.Random):
    """Several connections that send as fast as they can."""
    stop = threading.Event()
    seeds = [random.Random(chance.random()) for _ in range(SENDERS)]
    threads = [threading.Thread(target=send_until, args=(stop, server, ledger, seed), daemon=True) for seed in seeds]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def resend(server: ServerProcess, ledger: Ledger) -> None:
    """What a client does with a request that got no answer: the very same again."""
    unanswered, ledger.unanswered = ledger.unanswered, []
    for request in unanswered:
        answer = until(lambda one=request: _answered(server, one), "a request is taken in the end")
        ledger.note(request, answer)


def _answered(server: ServerProcess, request: Sent) -> Answer | None:
    connection = server.connect()
    answer = connection.ask("POST", request.path, request.body, headers=request.headers)
    connection.close()
    assert answer.status in {200, 429, 503}, answer
    return answer if answer.status == 200 else None


def one_round(server: ServerProcess, ledger: Ledger, chance: random.Random) -> None:
    """Traffic, one kill at a random moment, a start, and the repeats."""
    victim = chance.choice(VICTIMS)
    target = ledger.requests_acknowledged + chance.randrange(1, 120)
    store_pid = server.store_pid if victim == "store" else 0
    with senders(server, ledger, chance):
        until(lambda: ledger.requests_acknowledged >= target, "requests are acknowledged")
        time.sleep(chance.choice((0.0, 0.0, chance.random() * 0.4)))  # also between a load and its checkpoint
        if victim == "store":
            with contextlib.suppress(ProcessLookupError):
                os.kill(store_pid, signal.SIGKILL)
            until(lambda: ledger.requests_acknowledged >= target + 20, "it accepts while the store is away")
        else:
            server.kill(group=victim == "group")
    if victim == "recovery":
        server.start(wait=False)
        time.sleep(chance.random() * 0.8)
        server.kill()
    if victim != "store":
        server.start()
    resend(server, ledger)


@pytest.mark.parametrize("wire", WIRES)
def test_w1_no_acknowledged_event_is_lost_or_doubled_by_kills_at_random_moments(tmp_path: Path, wire: str):
    rounds = WIRES[wire][2]
    with ServerProcess(tmp_path / "d") as server:
        chance, ledger = random.Random(SEED), Ledger(wire, server.key("write"))
        for _ in range(rounds):
            one_round(server, ledger, chance)
        stored = Counter(event["id"] for event in server.query_all("order=asc"))
        lost = ledger.acknowledged - stored.keys()
        doubled = [event_id for event_id, count in stored.items() if count > 1]
        print(
            f"{wire}: rounds {rounds}, seed {SEED}, sent {ledger.sent}, acknowledged {len(ledger.acknowledged)}, "
            f"stored {len(stored)}, lost {len(lost)}, doubled {len(doubled)}, "
            f"slowest start {max(server.start_seconds):.2f} s"
        )
        assert (sorted(lost), doubled) == ([], [])
        assert len(stored) == ledger.sent, "what was not acknowledged at first was repeated until it was"
        assert max(server.start_seconds) < START_S_MAX
        assert not ledger.refused
        assert not server.reported("request_failed")


def test_w1_an_event_is_there_when_the_server_dies_right_after_its_answer(tmp_path: Path):
    with ServerProcess(tmp_path / "d") as server:
        for number in range(3):
            assert server.send({"event_type": "last words", "id": f"e{number}"}).status == 200
            server.kill(group=True)
            server.start()
        assert [event["id"] for event in server.query_all("order=asc")] == ["e0", "e1", "e2"]


def test_w1_a_restart_without_a_new_event_answers_queries_at_once(tmp_path: Path):
    with ServerProcess(tmp_path / "d") as server:
        assert server.send({"event_type": "old", "id": "e"}).status == 200
        assert server.query().status == 200
        assert server.terminate() == 0
        server.start()
        server.wait_store()
        answer = server.query("wait_ms=300")
        assert (answer.status, answer.json().get("count")) == (200, 1)


def test_w1_the_store_dies_with_its_server_so_that_nobody_keeps_its_directory(tmp_path: Path):
    with ServerProcess(tmp_path / "d") as server:
        store = server.store_pid
        server.kill()
        until(lambda: not Path(f"/proc/{store}").exists() or _is_zombie(store), "the store's process ends")


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return stat[stat.rfind(b")") + 2 :][:1] == b"Z"
    return True


@pytest.mark.parametrize("path", ["/api/telemetry/ingest", "/api/telemetry/batch"])
def test_p3_the_whole_log_of_requests_may_be_sent_again_after_a_kill(tmp_path: Path, path: str):
    with ServerProcess(tmp_path / "d") as server:
        chance, ledger = random.Random(SEED), Ledger("native", server.key("write"))
        with senders(server, ledger, chance):
            until(lambda: ledger.requests_acknowledged > 60, "requests are acknowledged")
            server.kill()
        server.start()
        resend(server, ledger)
        for request in [request for request in ledger.answered if request.path == path]:
            assert _answered(server, request)
        stored = Counter(event["id"] for event in server.query_all("order=asc"))
        assert set(stored.values()) == {1}
        assert len(stored) == ledger.sent


ADOPTER_ROUNDS = 12 if HEAVY else 2


def numbered_batch(process: str, first: int, numbers: list[int], batch_id: str, lost: int) -> bytes:
    """A batch as a client sends it: events by number, and what it says of itself."""
    losses = [{"reason": "no_room", "count": lost}] if lost else []
    said = {"process": process, "first": first, "last": max(numbers), "lost": losses}
    events = [{"event_type": "n", "id": f"{process}-{number}"} for number in numbers]
    return json.dumps({"batch_id": batch_id, "events": events, "client": said}).encode()


def test_w1_what_is_told_of_clients_is_exact_over_kills_repeats_and_regrouped_batches(tmp_path: Path):
    """Each round a client sends, the server is killed, and what had no answer comes again: some of it in other batches."""
    chance = random.Random(SEED)
    with ServerProcess(tmp_path / "d") as server:
        server.wait_store()
        key = server.key("write")
        sent: dict[str, int] = {}
        said_lost = 0
        for number in range(ADOPTER_ROUNDS):
            process, numbers = f"run{number}", list(range(1, 601))
            gone = {n for n in numbers if chance.random() < 0.02}
            left = [n for n in numbers if n not in gone]
            parts = [left[at : at + 50] for at in range(0, len(left), 50)]
            chance.shuffle(parts)
            bodies = [
                numbered_batch(process, part[0], part, f"{process}-{at}", len(gone) if at == 0 else 0)
                for at, part in enumerate(parts)
            ]
            last = chance.randrange(3, len(bodies))
            for body in bodies[:last]:
                assert server.ask("POST", "/api/telemetry/batch", body, key=key).status == 200
            time.sleep(chance.random() * 0.8)  # before, in and behind a load
            server.kill(group=number % 2 == 0)
            server.start()
            for body in bodies:  # the client has lost its place: everything again
                assert server.ask("POST", "/api/telemetry/batch", body, key=key).status == 200
            regrouped = sorted(parts[0] + parts[-1])
            body = numbered_batch(process, regrouped[0], regrouped, f"{process}-adopted", 0)
            assert server.ask("POST", "/api/telemetry/batch", body, key=key).json()["duplicates"] == len(regrouped)
            sent[process] = len(left)
            said_lost += len(gone)
        last_gap = numbered_batch("gap", 1, [1, 2, 9], "gap", 4)
        assert server.ask("POST", "/api/telemetry/batch", last_gap, key=key).status == 200

        answer = until(lambda: clients_of(server), "the store has caught up")

        told = {client["process"]: client for client in answer["clients"]}
        assert (told.pop("gap")["missing"], answer["missing"], answer["lost"]) == (2, 2, said_lost + 4)
        assert {process: client["received"] for process, client in told.items()} == sent
        assert {client["missing"] for client in told.values()} == {0}


def clients_of(server: ServerProcess) -> dict[str, Any] | None:
    answer = server.ask("GET", "/api/telemetry/clients", key=server.key("read"))
    return answer.json() if answer.status == 200 else None
