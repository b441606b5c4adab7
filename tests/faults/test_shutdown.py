"""I12: a signal ends the server in order: what runs gets its answer, what was acknowledged is kept, the exit code is 0."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from server_process import ServerProcess, read_until_closed, stopped, until

EXIT_S = 10.0
NO_ANSWER = (OSError, http.client.HTTPException)


@pytest.fixture
def server(tmp_path: Path):
    with ServerProcess(tmp_path / "d") as running:
        running.wait_store()
        yield running


class Traffic(threading.Thread):
    """One connection that sends numbered events until the server is gone."""

    def __init__(self, server: ServerProcess, name: str) -> None:
        super().__init__(daemon=True)
        self._server, self._name = server, name
        self.acknowledged: list[str] = []
        self.statuses: Counter[int] = Counter()

    def run(self) -> None:
        connection, key = self._server.connect(), self._server.key("write")
        number = 0
        try:
            while True:
                event_id = f"{self._name}-{number}"
                number += 1
                body = json.dumps({"event_type": "last", "id": event_id}).encode()
                answer = connection.ask("POST", "/api/telemetry/ingest", body, key=key)
                self.statuses[answer.status] += 1
                if answer.status == 200:
                    self.acknowledged.append(event_id)
        except NO_ANSWER:
            connection.close()


def end(server: ServerProcess, *numbers: int) -> float:
    """Send the signals one after another; the seconds until it ended, which must be with exit code 0."""
    began_s = time.monotonic()
    for number in numbers:
        server.signal(number)
        time.sleep(0.05)
    assert server.wait_end() == 0, server.stderr
    return time.monotonic() - began_s


@pytest.mark.parametrize("numbers", [(signal.SIGTERM,), (signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM)])
def test_i12_a_signal_during_requests_loses_nothing_that_was_acknowledged(
    server: ServerProcess, numbers: tuple[int, ...]
):
    senders = [Traffic(server, f"t{number}") for number in range(8)]
    for sender in senders:
        sender.start()
    until(lambda: sum(len(sender.acknowledged) for sender in senders) > 200, "events are acknowledged")
    store = server.store_pid
    seconds = end(server, *numbers)
    for sender in senders:
        sender.join(30)
    assert seconds < EXIT_S
    assert not Path(f"/proc/{store}").exists(), "the store's process ended with it"
    assert not server.reported("request_failed")
    assert all(b"Traceback" not in line for line in server.stderr)
    server.start()
    stored = Counter(event["id"] for event in server.query_all("event_type=last"))
    assert {event_id for sender in senders for event_id in sender.acknowledged} <= stored.keys()
    assert set(stored.values()) == {1}
    print(f"{numbers}: exit 0 after {seconds:.2f} s, {len(stored)} events kept")


def test_i12_a_request_that_runs_is_answered_before_the_end(server: ServerProcess):
    body = json.dumps({"event_type": "running", "id": "r"}).encode()
    head = (
        f"POST /api/telemetry/ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.key('write')}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as connection:
        connection.sendall(head + body[:5])
        until(lambda: server.ask("GET", "/livez").status == 200, "the head was read")
        server.signal(signal.SIGTERM)
        until(lambda: not _listens(server), "no new connections are taken")
        connection.sendall(body[5:])
        received, closed = read_until_closed(connection)
    assert received.startswith(b"HTTP/1.1 200"), received
    assert closed
    assert server.wait_end() == 0
    server.start()
    assert len(server.query_all("event_type=running")) == 1


def _listens(server: ServerProcess) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("numbers", [(signal.SIGTERM,), (signal.SIGTERM, signal.SIGTERM)])
def test_i12_a_request_that_never_ends_does_not_keep_the_server(tmp_path: Path, numbers: tuple[int, ...]):
    with ServerProcess(tmp_path / "d", {"server.shutdown_timeout_s": 2}) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=15) as connection:
            connection.sendall(
                f"POST /api/telemetry/ingest HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.key('write')}\r\n"
                "Content-Length: 100\r\n\r\n".encode()
            )
            until(lambda: server.ask("GET", "/livez").status == 200, "the head was read")
            assert end(server, *numbers) < EXIT_S
        assert all(b"Traceback" not in line for line in server.stderr), server.stderr


def test_i12_idle_connections_do_not_keep_the_server(server: ServerProcess):
    connections = [socket.create_connection(("127.0.0.1", server.port), timeout=15) for _ in range(50)]
    kept = server.connect()
    assert kept.ask("GET", "/livez").status == 200
    assert end(server, signal.SIGTERM) < EXIT_S
    for connection in connections:
        connection.close()
    kept.close()


def test_i12_a_store_that_stands_still_does_not_keep_the_server(server: ServerProcess):
    with stopped(server.store_pid):
        assert server.send({"event_type": "still", "id": "s"}).status == 200
        assert end(server, signal.SIGTERM) < 2 * EXIT_S
    assert server.reported("writer_left")
    server.start()
    assert [event["id"] for event in server.query_all("event_type=still")] == ["s"]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGWINCH])
def test_i12_a_stray_signal_does_not_end_the_server_or_loses_nothing(server: ServerProcess, number: int):
    assert server.send({"event_type": "stray", "id": "x"}).status == 200
    server.signal(number)
    time.sleep(0.2)
    if not server.running:
        server.start()
    assert len(server.query_all("event_type=stray")) == 1
    if number in {signal.SIGPIPE, signal.SIGWINCH}:
        assert len(server.start_seconds) == 1


def test_i12_a_signal_while_it_starts_ends_it_as_well(tmp_path: Path):
    with ServerProcess(tmp_path / "d") as server:
        assert server.send({"event_type": "early", "id": "x"}).status == 200
        assert server.terminate() == 0
        for wait_s in (0.05, 0.2, 0.4, 0.6):
            server.start(wait=False)
            time.sleep(wait_s)
            server.signal(signal.SIGTERM)
            server.wait_end()
            assert all(b"Traceback" not in line for line in server.stderr), (wait_s, server.stderr)
        server.start()
        assert len(server.query_all("event_type=early")) == 1


def test_the_server_lives_on_when_nobody_reads_its_log(server: ServerProcess):
    assert server.terminate() == 0
    server.start(deaf=True)
    os.kill(server.store_pid, signal.SIGKILL)  # the writer reports it, and cannot
    assert server.send({"event_type": "unheard"}).status == 200
    assert len(server.query_all("event_type=unheard")) == 1
    os.kill(server.store_pid, signal.SIGKILL)
    assert server.query("wait_ms=0").status in {200, 503}
    assert server.send({"event_type": "unheard"}).status == 200
    assert len(server.query_all("event_type=unheard")) == 2
    assert server.terminate() == 0
