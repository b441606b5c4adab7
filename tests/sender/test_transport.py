"""The wire against a strict server on loopback: what is sent, what counts as an answer, and what never does."""

import contextlib
import json
import os
import socket
import threading

import pytest

import recorder
from leeward.clock import SystemClock
from leeward.sender import transport as http
from leeward.sender.config import VERSION, configure
from leeward.wire import native_encode
from sender_helpers import HandClock

EVENT = native_encode.event("a", {"n": 1}, id=native_encode.uuid7(1, bytes(10)), timestamp_ms=1)


@pytest.fixture
def server():
    with recorder.Recorder() as server:
        yield server
        assert server.broken == []


class Sender:
    """A transport, its clock, and how often it told of progress."""

    def __init__(self, host, clock=None, **settings):
        self.progress = 0
        config = configure({"HOME": "/nowhere"}, **{"api_key": recorder.KEY, "host": host, **settings})
        self.transport = http.HttpTransport(config, clock or SystemClock(), self.note)

    def note(self):
        self.progress += 1

    def send(self, events=(EVENT,), batch_id="b-1"):
        return self.transport.send(native_encode.batch(batch_id, events), batch_id)


def send_once(host, clock=None):
    sender = Sender(host, clock)
    try:
        return sender.send()
    finally:
        sender.transport.close()


@pytest.fixture
def sender(server):
    sender = Sender(server.host, app="shop/1.2")
    yield sender
    sender.transport.close()


def test_a_batch_is_acknowledged_over_one_kept_connection(server, sender):
    answers = [sender.send() for _ in range(3)]

    assert [answer.acknowledged for answer in answers] == [True, True, True]
    assert server.connections == 1
    assert sender.progress == 4  # the connection, and three answers
    assert server.requests[0].headers["user-agent"] == f"shop/1.2 leeward/{VERSION}"


def test_a_large_body_is_packed_and_a_small_one_is_not(server, sender):
    sender.send()
    sender.send([EVENT] * 50)

    assert "content-encoding" not in server.requests[0].headers
    assert server.requests[1].headers["content-encoding"] == "gzip"
    assert len(server.requests[1].body) < 500


def test_refused_events_are_counted_by_code(server, sender):
    server.script.append(recorder.refuse({0: "too_deep", 2: "too_deep", 1: "event_too_large"}))

    answer = sender.send([EVENT] * 4)

    assert answer.acknowledged
    assert answer.refused == {"too_deep": 2, "event_too_large": 1}


@pytest.mark.parametrize("errors", [None, 1, [1, {"code": 5}, {}], "x"])
def test_c7_a_list_of_refusals_may_hold_anything(server, sender, errors):
    server.script.append(recorder.status(200, value={"batch_id": "b-1", "status": "completed", "errors": errors}))

    answer = sender.send()

    assert answer.acknowledged
    assert answer.refused == ({"refused": 3} if isinstance(errors, list) else {})


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ("Retry-After: 3\r\n", 3.0),
        ("Retry-After: 1e9\r\n", 300.0),
        ("Retry-After: -5\r\n", None),
        ("Retry-After: soon\r\n", None),
        ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", 0.0),
        ("", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_c6_retry_after_is_read_and_bounded(server, sender, status, headers, wait_s):
    server.script.append(recorder.status(status, headers))

    answer = sender.send()

    assert (answer.status, answer.cause, answer.retry_after_s) == (status, f"http_{status}", wait_s)


@pytest.mark.parametrize(
    "value",
    [
        {"batch_id": "another", "status": "completed"},
        {"batch_id": "b-1"},
        {"batch_id": "b-1", "status": "ok"},
        ["b-1"],
        b"<html>Please sign in to the hotel's network</html>",
        b"",
        b"\x1f\x8b\x08\x00" + bytes(100),
        b"[" * 60_000,
    ],
)
def test_c7_a_200_that_is_not_our_servers_is_no_acknowledgement(server, sender, value):
    server.script.append(recorder.status(200, value=value))

    answer = sender.send()

    assert (answer.acknowledged, answer.status, answer.cause) == (False, 200, "not_ours")


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 200_000, "not_http"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 40_000, "not_http"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not_http"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000, "not_http"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, "not_http"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, "not_http"),
        (b"\x00\x01\x02 hello\r\n\r\n", "not_http"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "not_http"),
        (b"", "reset"),
    ],
)
def test_c7_an_answer_that_is_endless_or_no_http_is_given_up(server, sender, data, cause):
    server.always = recorder.raw(data)

    answer = sender.send()

    assert (answer.acknowledged, answer.status) == (False, 0)
    assert answer.cause in {cause, "reset"}  # the rest of what the server wrote may come back as a reset


def test_c7_a_redirect_is_not_followed(server, sender):
    with recorder.Recorder() as other:
        server.script.append(recorder.status(307, f"Location: {other.host}/api/telemetry/batch\r\n"))

        answer = sender.send()

        assert (answer.acknowledged, answer.status) == (False, 307)
        assert other.requests == []


def test_c8_a_kept_connection_that_the_server_closed_is_replaced_at_once(server, sender):
    sender.send()
    server.script.append(recorder.reset)

    answer = sender.send()

    assert answer.acknowledged
    assert server.connections == 2


def test_c1_a_reset_on_a_fresh_connection_is_an_answer_of_its_own(server, sender):
    server.script.append(recorder.reset)

    assert sender.send().cause == "reset"
    assert len(server.requests) == 1


def test_a_connection_that_lay_idle_for_long_is_not_trusted(server):
    clock = HandClock()
    sender = Sender(server.host, clock)
    sender.send()

    clock.now_s += http.IDLE_MAX_S + 1
    sender.send()
    sender.transport.close()

    assert server.connections == 2


def test_a_connection_that_the_server_wants_closed_is_closed(server, sender):
    value = {"batch_id": "b-1", "status": "completed", "errors": []}
    server.script.append(recorder.status(200, "Connection: close\r\n", value))

    assert sender.send().acknowledged
    assert sender.send().acknowledged
    assert server.connections == 2


def test_c1_a_server_that_does_not_listen_refuses():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    assert send_once(f"http://127.0.0.1:{port}").cause == "refused"


def test_c1_a_server_that_says_nothing_is_left_when_the_exchange_has_lasted_long_enough(server, monkeypatch):
    monkeypatch.setattr(http, "EXCHANGE_TIMEOUT_S", 0.05)
    server.always = recorder.hang

    assert send_once(server.host).cause == "timeout"


def test_c1_a_server_that_drips_is_left_when_the_exchange_has_lasted_long_enough():
    """Each byte comes in time, all together do not: the clock passes the deadline while they come."""
    clock = HandClock()

    def drip(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):  # the sender has had enough
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n":
                    clock.now_s += 1
                    connection.sendall(bytes([byte]))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        sender = Sender(f"http://127.0.0.1:{listener.getsockname()[1]}", clock)

        assert sender.send().cause in {"timeout", "reset"}
        thread.join()


def test_c2_a_name_that_does_not_resolve_is_an_answer(monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    assert send_once("http://telemetry.invalid").cause == "dns"


def test_c2_a_dead_address_leaves_time_for_the_living_one(server, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = taken.getsockname()
    port = int(server.host.rpartition(":")[2])
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in (dead, ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)

    assert send_once("http://two.addresses").acknowledged


def test_c2_a_name_without_addresses_or_time_is_an_answer(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    assert send_once("http://nowhere").cause == "network"

    clock = HandClock()

    def slow(*_, **__):
        clock.now_s += 30
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    assert send_once("http://slow.resolver", clock).cause == "network"


def test_c3_a_server_without_tls_is_not_spoken_to_in_clear_text(server):
    answer = send_once(server.host.replace("http:", "https:"))

    assert answer.cause in {"tls", "reset", "timeout"}
    assert server.requests == []


class Broken:
    """A socket whose other side answered and closed while we were still sending; or one that cannot connect."""

    def __init__(self, *_):
        self.answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
        self.timeouts_s = []
        made.append(self)

    def settimeout(self, timeout_s):
        self.timeouts_s.append(timeout_s)

    def connect(self, address):
        raise TimeoutError

    def sendall(self, data):
        raise BrokenPipeError

    def recv_into(self, buffer):
        count = min(len(buffer), len(self.answer))
        buffer[:count], self.answer = self.answer[:count], self.answer[count:]
        return count

    def close(self):
        pass


made = []


def test_c5_an_answer_that_comes_before_the_body_was_sent_is_heard():
    """A proxy with a small limit answers 413 and closes while we are still sending."""
    sender = Sender("http://127.0.0.1:1", HandClock(0.0))
    sender.transport._socket = Broken()

    assert sender.send().status == 413


def test_c2_each_address_of_a_name_gets_its_share_of_the_time(monkeypatch):
    made.clear()
    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address] * 2)
    monkeypatch.setattr(socket, "socket", Broken)

    assert send_once("http://two.addresses", HandClock()).cause == "timeout"
    limit_s = http.CONNECT_TIMEOUT_S
    assert [one.timeouts_s for one in made] == [[limit_s / 2], [limit_s]]


def test_c14_an_inherited_connection_is_given_back_without_a_word(server, sender):
    sender.send()
    connection = sender.transport._socket
    copy = os.dup(connection.fileno())  # the parent's

    sender.transport.abandon()
    sender.transport.abandon()

    assert connection.fileno() == -1
    with socket.socket(fileno=copy) as parents:  # still open for the parent, and nothing was said on it
        parents.settimeout(10)
        parents.sendall(sender.transport._request(native_encode.batch("b-2", [EVENT])))
        assert parents.recv(12) == b"HTTP/1.1 200"


def test_a_path_in_the_host_leads_the_route():
    seen = []

    def answer(listener):
        connection, _ = listener.accept()
        with connection:
            seen.append(connection.recv(65536).split(b"\r\n")[:2])
            body = json.dumps({"batch_id": "b-1", "status": "processing"}).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()

        sender = Sender(f"http://127.0.0.1:{port}/telemetry/")
        acknowledged = sender.send().acknowledged
        sender.transport.close()
        thread.join()

    assert acknowledged
    assert seen == [[b"POST /telemetry/api/telemetry/batch HTTP/1.1", b"Host: 127.0.0.1:%d" % port]]
