"""Slow, silent and many connections, a full disk, a full log: each ends at its limit, and the others are served."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import resource
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server_process import HEAVY, Answer, ServerProcess, read_until_closed, until

HOST = b"Host: 127.0.0.1\r\n"
INGEST, BATCH = "/api/telemetry/ingest", "/api/telemetry/batch"
SMALL = {
    "server.head_timeout_s": 0.5,
    "server.body_timeout_s": 0.7,
    "server.idle_timeout_s": 1,
    "server.connections_max": 20,
}
LATE_S = 5.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with ServerProcess(tmp_path_factory.mktemp("limits") / "d", SMALL) as running:
        running.wait_store()
        yield running
        assert running.reported("request_failed") == []


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory):
    """One with its default limits. Tests may kill and start it; each uses names of its own."""
    with ServerProcess(tmp_path_factory.mktemp("roomy") / "d") as running:
        running.wait_store()
        yield running
        assert running.reported("request_failed") == []


def held(server: ServerProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=LATE_S)


def post_head(server: ServerProcess, length: int, *more: bytes) -> bytes:
    key = server.key("write").encode()
    fields = (b"Authorization: Bearer " + key, b"Content-Length: %d" % length, *more)
    return b"POST /api/telemetry/ingest HTTP/1.1\r\n" + HOST + b"\r\n".join(fields) + b"\r\n\r\n"


def test_i8_a_connection_without_a_byte_is_closed(server: ServerProcess):
    with held(server) as connection:
        assert read_until_closed(connection) == (b"", True)


def test_i8_a_head_that_drips_is_cut_off(server: ServerProcess):
    with held(server) as connection:
        sent = 0
        with contextlib.suppress(OSError):
            for byte in b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X-A: b\r\n" * 1000:
                connection.sendall(bytes([byte]))
                sent += 1
                time.sleep(0.02)
        received, closed = read_until_closed(connection)
    assert closed
    assert sent < 1000
    assert received.startswith(b"HTTP/1.1 408") or received == b""


def test_i8_a_second_head_that_never_ends_is_cut_off_as_well(server: ServerProcess):
    with held(server) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\nGET /livez")
        received, closed = read_until_closed(connection)
    assert closed
    assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", received)] == [200, 408]


@pytest.mark.parametrize("path", [INGEST, BATCH])
def test_i8_a_body_that_never_comes_gets_408_and_the_end(server: ServerProcess, path: str):
    head = post_head(server, 100).replace(INGEST.encode(), path.encode())
    with held(server) as connection:
        connection.sendall(head + b'{"event')
        received, closed = read_until_closed(connection)
    assert received.startswith(b"HTTP/1.1 408")
    assert b'"code":"timeout"' in received
    assert closed


def test_i8_a_body_that_drips_gets_408(server: ServerProcess):
    with held(server) as connection:
        connection.sendall(post_head(server, 100_000))
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b" ")
                time.sleep(0.02)
        received, _ = read_until_closed(connection)
    assert received.startswith(b"HTTP/1.1 408") or received == b""


REFUSED_EARLY = {
    "without a key": b"POST /api/telemetry/ingest HTTP/1.1\r\n",
    "at no address": b"POST /none HTTP/1.1\r\n",
    "with a method that takes no body": b"GET /livez HTTP/1.1\r\n",
}


@pytest.mark.parametrize("name", REFUSED_EARLY)
def test_i8_who_was_answered_before_the_body_came_is_not_kept_for_it(server: ServerProcess, name: str):
    with held(server) as connection:
        connection.sendall(REFUSED_EARLY[name] + HOST + b"Content-Length: 2\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 ")
        connection.sendall(b"{")
        connection.sendall(b"}")
        assert read_until_closed(connection) == (b"", True)


def test_i8_line_ends_between_requests_keep_no_connection(server: ServerProcess):
    with held(server) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.sendall(b"\r\n")
        _, closed = read_until_closed(connection)
    assert closed


def test_i8_a_connection_that_is_kept_but_not_used_is_closed(server: ServerProcess):
    with held(server) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        received, closed = read_until_closed(connection)
    assert received.startswith(b"HTTP/1.1 200")
    assert closed


def test_i8_expect_100_continue_is_answered_before_the_body_is_sent(server: ServerProcess):
    body = b'{"event_type":"expected"}'
    with held(server) as connection:
        connection.sendall(post_head(server, len(body), b"Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_i8_who_expects_100_continue_without_a_key_is_refused_without_it(server: ServerProcess):
    with held(server) as connection:
        connection.sendall(post_head(server, 10, b"Expect: 100-continue").replace(b"Bearer lw_", b"Bearer no_"))
        received = connection.recv(1000)
    assert received.startswith(b"HTTP/1.1 401")


def test_i8_beyond_the_cap_a_connection_gets_503_and_those_within_are_served(server: ServerProcess):
    inside = server.connect()
    assert inside.ask("GET", "/livez").status == 200
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(held(server)) for _ in range(40)]
        answers = [read_until_closed(other)[0] for other in others[25:]]
        assert all(answer.startswith(b"HTTP/1.1 503") for answer in answers)
        assert inside.ask("GET", "/health").status == 200
    inside.close()
    until(lambda: server.ask("GET", "/livez").status == 200, "there is room again")


def test_i8_a_client_that_goes_away_within_its_body_is_no_failure(server: ServerProcess):
    for cut in (0, 1, 50):
        with held(server) as connection:
            connection.sendall(post_head(server, 100) + b" " * cut)
    assert server.ask("GET", "/livez").status == 200
    assert server.reported("request_failed") == []


def test_i13_health_answers_while_large_bodies_are_decoded(roomy: ServerProcess):
    events = [{"event_type": "large", "data": {"text": "x" * 200, "numbers": list(range(20))}} for _ in range(1000)]
    more = [os.urandom(200).hex() + "y" * 18_600 for _ in events]  # packs well, and no more than is believed
    large = json.dumps(
        [{**event, "data": {**event["data"], "more": text}} for event, text in zip(events, more, strict=True)]
    ).encode()
    assert 18 << 20 < len(large) < 20 << 20
    slowest: list[float] = []
    done = threading.Event()

    def probe() -> None:
        connection = roomy.connect()
        while not done.is_set():
            began_s = time.monotonic()
            assert connection.ask("GET", "/health").status == 200
            slowest.append(time.monotonic() - began_s)
        connection.close()

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        for body, headers in ((large, {}), (gzip.compress(large, 1), {"Content-Encoding": "gzip"})):
            assert roomy.ask("POST", INGEST, body, key=roomy.key("write"), headers=headers).status == 200
    finally:
        done.set()
        thread.join(30)
    print(f"19 MiB bodies: health's slowest answer {max(slowest) * 1000:.0f} ms of {len(slowest)}")
    assert max(slowest) < 2.0


def limit_file_size(pid: int, soft: int) -> None:
    """Files of this process may not grow beyond *soft* bytes from now on."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))


def test_w4_a_full_disk_is_a_503_that_heals_by_itself(tmp_path: Path):
    with ServerProcess(tmp_path / "d", {"storage.log_segment_bytes": 1 << 20}) as server:
        server.wait_store()
        taken = [f"before{number}" for number in range(5)]
        for event_id in taken:
            assert server.send({"event_type": "full", "id": event_id}).status == 200
        limit_file_size(server.pid, 4096)
        for number in range(5):
            refused = server.send({"event_type": "full", "id": f"during{number}"})
            assert (refused.status, refused.code) == (503, "unavailable"), refused
            assert int(refused.headers["retry-after"]) >= 1
        batch = {"batch_id": "during", "events": [{"event_type": "full", "id": "batched"}]}
        assert server.send(batch, BATCH).status == 503
        assert server.health()["parts"]["log"]["status"] == "degraded"
        assert server.ask("GET", "/livez").status == 200
        assert {event["id"] for event in server.query_all("event_type=full&wait_ms=0")} <= set(taken)
        limit_file_size(server.pid, resource.RLIM_INFINITY)
        for number in range(5):
            answer = server.send({"event_type": "full", "id": f"during{number}"})
            assert (answer.status, answer.json()["duplicates"]) == (200, 0), "what was refused is new"
        assert server.send(batch, BATCH).json()["duplicates"] == 0
        expected = {*taken, "batched", *(f"during{number}" for number in range(5))}
        assert Counter(event["id"] for event in server.query_all("event_type=full")) == Counter(expected)
        assert server.health()["parts"]["log"]["status"] == "healthy"
        server.kill(group=True)
        server.start()
        assert Counter(event["id"] for event in server.query_all("event_type=full")) == Counter(expected)


@pytest.mark.parametrize("size", [300_001, 20_000, 600_000, 1_040_000][: 4 if HEAVY else 1])
def test_w4_a_disk_that_fills_while_events_come_loses_none_that_were_acknowledged(tmp_path: Path, size: int):
    with ServerProcess(tmp_path / "d", {"storage.log_segment_bytes": 1 << 20}) as server:
        server.wait_store()
        assert server.send({"event_type": "filling", "id": "first"}).status == 200  # there is a segment now
        limit_file_size(server.pid, size)
        acknowledged = {"first"}
        statuses: Counter[int] = Counter()
        for number in range(60):
            events = [
                {"event_type": "filling", "id": f"f{number}-{index}", "data": {"t": "x" * 900}} for index in range(40)
            ]
            answer = server.send(events)
            statuses[answer.status] += 1
            if answer.status == 200:
                acknowledged |= {event["id"] for event in events}
        assert set(statuses) == {200, 503}
        limit_file_size(server.pid, resource.RLIM_INFINITY)
        assert server.send({"event_type": "filling", "id": "after"}).status == 200
        server.kill(group=True)
        server.start()
        stored = Counter(event["id"] for event in server.query_all("event_type=filling"))
        assert acknowledged | {"after"} <= stored.keys()
        assert set(stored.values()) == {1}
        print(f"limit {size}: {dict(statuses)}")


def test_w4_without_free_descriptors_the_server_lives_on(roomy: ServerProcess):
    open_now = len(list(Path(f"/proc/{roomy.pid}/fd").iterdir()))
    before = resource.prlimit(roomy.pid, resource.RLIMIT_NOFILE)
    kept = roomy.connect()
    assert kept.ask("GET", "/livez").status == 200
    resource.prlimit(roomy.pid, resource.RLIMIT_NOFILE, (open_now + 2, before[1]))
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(held(roomy))
        body = json.dumps({"event_type": "few files"}).encode()
        assert kept.ask("POST", INGEST, body, key=roomy.key("write")).status in {200, 503}
        assert roomy.running
    resource.prlimit(roomy.pid, resource.RLIMIT_NOFILE, before)
    until(lambda: _accepts(roomy), "connections are accepted again")
    assert roomy.send({"event_type": "few files", "id": "after"}).status == 200
    kept.close()


def _accepts(server: ServerProcess) -> bool:
    try:
        return server.ask("GET", "/livez", timeout_s=2).status == 200
    except OSError:
        return False


def batch_of(*ids: str, batch_id: str, name: str) -> bytes:
    return json.dumps({"batch_id": batch_id, "events": [{"event_type": name, "id": one} for one in ids]}).encode()


def without_status(answer: Answer) -> str:
    """A batch's answer but for its status, which is today's."""
    return json.dumps({**answer.json(), "status": ""})


def test_w9_the_same_batch_on_fifty_connections_at_once_is_stored_once(roomy: ServerProcess):
    body, key = batch_of(*(f"e{number}" for number in range(100)), batch_id="fifty", name="fifty"), roomy.key("write")
    together = threading.Barrier(50)

    def send(_: int) -> Answer:
        connection = roomy.connect()
        together.wait(30)
        answer = connection.ask("POST", BATCH, body, key=key)
        connection.close()
        return answer

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(send, range(50)))
    assert {answer.status for answer in answers} == {200}
    assert len({without_status(answer) for answer in answers}) == 1, "everybody gets the first one's answer"
    assert len(roomy.query_all("event_type=fifty")) == 100
    again = roomy.ask("POST", BATCH, body, key=key)
    roomy.kill(group=True)
    roomy.start()
    after = roomy.ask("POST", BATCH, body, key=key)
    assert without_status(answers[0]) == without_status(again) == without_status(after)
    assert len(roomy.query_all("event_type=fifty")) == 100


def test_w9_other_events_under_the_same_id_are_a_conflict(roomy: ServerProcess):
    key = roomy.key("write")
    assert roomy.ask("POST", BATCH, batch_of("a", "b", batch_id="other", name="other"), key=key).status == 200
    for changed in (
        batch_of("a", "c", batch_id="other", name="other"),
        batch_of("a", batch_id="other", name="other"),
        batch_of("b", "a", batch_id="other", name="other"),
    ):
        answer = roomy.ask("POST", BATCH, changed, key=key)
        assert (answer.status, answer.code) == (409, "batch_conflict")
    assert {event["id"] for event in roomy.query_all("event_type=other")} == {"a", "b"}


def test_w9_batches_that_overlap_by_half_store_each_event_once(roomy: ServerProcess):
    key = roomy.key("write")
    first = [f"o{number}" for number in range(100)]
    second = [f"o{number}" for number in range(50, 150)]
    assert roomy.ask("POST", BATCH, batch_of(*first, batch_id="half1", name="half"), key=key).json()["duplicates"] == 0
    answer = roomy.ask("POST", BATCH, batch_of(*second, batch_id="half2", name="half"), key=key).json()
    assert (answer["accepted"], answer["duplicates"]) == (100, 50)
    roomy.kill(group=True)
    roomy.start()
    answer = roomy.ask("POST", BATCH, batch_of(*first, *second[50:], batch_id="half3", name="half"), key=key).json()
    assert (answer["accepted"], answer["duplicates"]) == (150, 150)
    assert Counter(event["id"] for event in roomy.query_all("event_type=half")) == Counter({*first, *second})


def test_w9_a_batch_without_event_ids_is_stored_once_however_often_it_comes(roomy: ServerProcess):
    body = json.dumps(
        {"batch_id": "nameless", "events": [{"event_type": "nameless", "data": {"n": n}} for n in range(10)]}
    ).encode()
    key = roomy.key("write")
    first = roomy.ask("POST", BATCH, body, key=key).json()
    roomy.kill(group=True)
    roomy.start()
    assert roomy.ask("POST", BATCH, body, key=key).json()["events"] == first["events"]
    assert len(roomy.query_all("event_type=nameless")) == 10


def test_w11_two_batches_of_the_same_bytes_are_two_batches(roomy: ServerProcess):
    body = json.dumps([{"event_type": "honest", "data": {"a": 1}}] * 3).encode()
    for _ in range(2):
        assert roomy.ask("POST", INGEST, body, key=roomy.key("write")).status == 200
    assert len(roomy.query_all("event_type=honest")) == 6


def test_w15_a_second_server_on_the_same_directory_refuses_and_names_the_first(roomy: ServerProcess):
    second = ServerProcess(roomy.data_dir)
    try:
        second.start(wait=False)
        assert second.wait_end() != 0
        said = b"".join(second.stderr)
        assert str(roomy.pid).encode() in said, said
        assert b"Traceback" not in said
    finally:
        second.stop()
    assert roomy.send({"event_type": "still here"}).status == 200
    assert roomy.query_all("event_type=still%20here")


def test_a13_files_are_the_owners_alone_and_the_address_is_loopback(roomy: ServerProcess):
    assert roomy.send({"event_type": "private"}).status == 200
    roomy.query_all("")
    wrong = []
    for folder, folders, files in os.walk(roomy.data_dir):
        for name in (".", *folders, *files):
            path = Path(folder) / name
            if path.is_symlink() or path.is_relative_to(roomy.data_dir / "store" / "data"):
                continue  # the engine's own files lie behind a directory that is private
            allowed = 0o700 if path.is_dir() or path.is_socket() else 0o600
            if path.lstat().st_mode & 0o777 & ~allowed:
                wrong.append((str(path), oct(path.lstat().st_mode)))
    assert wrong == []
    assert listening_addresses(roomy.port) == {"0100007F"}


def listening_addresses(port: int) -> set[str]:
    """The local addresses, as the kernel writes them, that listen on a port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            address, _, hexadecimal = line.split()[1].rpartition(":")
            if line.split()[3] == "0A" and int(hexadecimal, 16) == port:
                found.add(address)
    return found
