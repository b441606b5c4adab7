"""The client's POST against real sockets: what leaves, what is heard, and that every way to fail ends in time."""

import os
import socket
import subprocess
import sys
import threading
from typing import NamedTuple

import pytest

import canned
from leeward.clock import SystemClock
from leeward.sender import address, connection as one, transport as http
from leeward.sender.answers import ANSWER_BYTES_MAX, AnswerParser
from leeward.sender.resolver import Resolver
from leeward.sender.sockets import network
from leeward.version import VERSION
from sender_helpers import HandClock

HEADERS = (("Content-Type", "application/json"), ("Authorization", "Bearer lw_secret"))
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
BLINK_S = 0.1  # for what only the kernel's clock can end


class Settings(NamedTuple):
    host: str
    app: str = "shop/1.2"


class Sender:
    """A transport, and how often it told of progress."""

    def __init__(self, host, clock=None, **options):
        self.progress = 0
        options = {"environ": {}, "resolver": Resolver(), **options}
        self.transport = http.HttpTransport(Settings(host), clock or SystemClock(), self.note, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.transport.close()

    def note(self):
        self.progress += 1

    def send(self, body=b"{}", path="/api/x"):
        return self.transport.send(path, HEADERS, body)

    @property
    def descriptor(self):
        return self.transport._connection._socket.fileno()


def send_once(host, **options):
    with Sender(host, **options) as sender:
        return sender.send()


def what(reply):
    return reply.status, reply.cause


@pytest.fixture
def server():
    with canned.Canned(canned.polite()) as server:
        yield server


@pytest.fixture
def sender(server):
    with Sender(server.host) as sender:
        yield sender


def test_requests_leave_over_one_kept_connection_and_tell_of_progress(server, sender):
    replies = [sender.send() for _ in range(3)]

    assert [(*what(reply), reply.content_type, reply.body) for reply in replies] == [
        (200, "", "application/json", b"{}")
    ] * 3
    assert server.connections == 1
    assert sender.progress == 4  # the connection, and three answers
    assert server.requests[0] == canned.Request(
        "POST /api/x HTTP/1.1",
        {
            "host": server.authority,
            "user-agent": f"shop/1.2 leeward/{VERSION}",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "authorization": "Bearer lw_secret",
            "content-length": "2",
        },
        b"{}",
        1,
    )


def test_a_large_body_is_packed_and_a_small_one_is_not(server, sender):
    import gzip

    body = b"x" * http.PACK_FROM_BYTES
    sender.send(body[1:])
    sender.send(body)

    assert "content-encoding" not in server.requests[0].headers
    assert server.requests[1].headers["content-encoding"] == "gzip"
    assert gzip.decompress(server.requests[1].body) == body


@pytest.mark.parametrize(
    ("host", "name", "port", "path", "authority"),
    [
        ("http://Example.com", "example.com", 80, "", "example.com"),
        ("HTTPS://example.com/", "example.com", 443, "", "example.com"),
        ("http://example.com:8080/a/b/?q#f", "example.com", 8080, "/a/b", "example.com:8080"),
        ("http://example.com:", "example.com", 80, "", "example.com:"),
        ("https://[::1]", "::1", 443, "", "[::1]"),
        ("http://[::1]:80/a", "::1", 80, "/a", "[::1]:80"),
    ],
)
def test_a_host_is_taken_apart(host, name, port, path, authority):
    found = address.parse(host)

    assert (found.name, found.port, found.path, found.authority) == (name, port, path, authority)
    assert found.https == host.lower().startswith("https")


@pytest.mark.parametrize(
    "host",
    ["example.com", "ftp://x", "http://", "http:///a", "http://:80", "http://x:y", "http://x:0", "http://x:65536",
     "http://x:8 0", "http://.x", "http://a..b", "http://a..", "http://" + "x" * 64, "http://b\xfc.x", "http://::1", "http://[::1", "http://[::1]80", "http://[]", "http://x:\xb2"],
)  # fmt: skip
def test_a_host_that_is_none_says_so(host):
    with pytest.raises(ValueError, match=r"address|port"):
        address.parse(host)


def test_a_path_in_the_host_leads_the_route(server):
    assert send_once(server.host + "/telemetry/").status == 200
    assert server.requests[0].line == "POST /telemetry/api/x HTTP/1.1"


def test_an_address_of_version_6_is_reached():
    with canned.Canned(canned.polite(), family=socket.AF_INET6) as server:
        assert send_once(server.host).status == 200
        assert server.requests[0].headers["host"] == f"[::1]:{server.port}"


@pytest.mark.parametrize("status", [302, 307, 400, 401, 413, 500, 503])
def test_c7_a_status_is_handed_on_and_no_redirect_is_followed(status):
    with canned.Canned(canned.polite()) as other:
        answer = f"HTTP/1.1 {status} No\r\nLocation: {other.host}/\r\nContent-Length: 1\r\n\r\nx".encode()
        with canned.Canned(canned.polite(answer)) as server:
            reply = send_once(server.host)

        assert (*what(reply), reply.body) == (status, "", b"x")
        assert other.connections == 0


def test_c6_a_wait_that_was_asked_for_is_a_date_of_the_wall_clock():
    date = b"Thu, 01 Jan 1970 00:17:10 GMT"  # 1030 s after 1970
    with canned.Canned(canned.says(b"HTTP/1.1 503 Later\r\nRetry-After: " + date + b"\r\n\r\n")) as server:
        assert send_once(server.host, clock=HandClock(1000.0)).retry_after_s == 30.0


@pytest.mark.parametrize(
    ("data", "more", "cause"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, "too_long"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536, "too_long"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000, "too_long"),
        (b"\x16\x03\x01\x02\x00", b"\x00" * 65536, "not_http"),
    ],
)
def test_c7_an_endless_answer_is_left_while_it_is_still_coming(data, more, cause):
    left = threading.Event()

    def serve(server, connection):
        server.read(connection)
        connection.sendall(data)
        try:
            while True:
                connection.sendall(more)
        finally:
            left.set()

    with canned.Canned(serve) as server, Sender(server.host) as sender:
        assert what(sender.send()) == (0, cause)
        assert left.wait(10)


def test_c7_an_answer_of_our_limit_is_read_whole():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 65000\r\n\r\n"
    with canned.Canned(canned.polite(head + b"x" * 65000)) as server, Sender(server.host) as sender:
        assert [len(sender.send().body) for _ in range(2)] == [65000, 65000]
        assert server.connections == 1
    assert ANSWER_BYTES_MAX >= 65000


# C8: kept connections


def test_c8_a_kept_connection_that_the_server_closed_is_replaced_before_anything_is_sent():
    closed, heard = threading.Event(), []

    def closes(server, connection):
        server.read(connection)
        connection.sendall(canned.OK)
        connection.shutdown(socket.SHUT_WR)
        closed.set()
        heard.append(connection.recv(100))

    with canned.Canned(canned.in_turn(closes, canned.polite())) as server, Sender(server.host) as sender:
        assert sender.send().status == 200
        assert closed.wait(10)
        assert sender.send().status == 200
        assert [request.connection for request in server.requests] == [1, 2]
    assert heard == [b""]


def test_c8_a_kept_connection_that_breaks_is_replaced_once_at_once():
    def answers_once(server, connection):
        server.read(connection)
        connection.sendall(canned.OK)
        server.read(connection)
        canned.reset(connection)

    with canned.Canned(canned.in_turn(answers_once, canned.polite())) as server, Sender(server.host) as sender:
        assert [sender.send().status for _ in range(2)] == [200, 200]
        assert [request.connection for request in server.requests] == [1, 1, 2]


def test_c8_the_replacement_is_not_replaced():
    def breaks(server, connection):
        server.read(connection)
        canned.reset(connection)

    def answers_once(server, connection):
        server.read(connection)
        connection.sendall(canned.OK)
        breaks(server, connection)

    with canned.Canned(canned.in_turn(answers_once, breaks)) as server, Sender(server.host) as sender:
        assert what(sender.send()) == (200, "")
        assert what(sender.send()) == (0, "reset")
        assert what(sender.send()) == (0, "reset")
        assert [request.connection for request in server.requests] == [1, 1, 2, 3]


def test_c8_what_comes_unasked_on_a_kept_connection_is_no_answer():
    """Balancers say 408 when they close an idle connection."""
    answered, said = threading.Event(), threading.Event()

    def serve(server, connection):
        server.read(connection)
        connection.sendall(canned.OK)
        answered.wait(10)
        connection.sendall(b"HTTP/1.1 408 Idle\r\nContent-Length: 0\r\n\r\n")
        said.set()
        server.read(connection)

    with canned.Canned(canned.in_turn(serve, canned.polite())) as server, Sender(server.host) as sender:
        assert sender.send().status == 200
        answered.set()
        assert said.wait(10)
        assert sender.send().status == 200
        assert server.connections == 2


def test_c28_a_connection_that_lay_idle_for_long_is_not_trusted(server):
    clock = HandClock()
    with Sender(server.host, clock) as sender:
        for pause_s, connections in ((0, 1), (one.IDLE_MAX_S, 1), (one.IDLE_MAX_S + 1, 2)):
            clock.now_s += pause_s
            assert sender.send().status == 200
            assert server.connections == connections


def test_a_connection_that_the_server_wants_closed_is_closed():
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    with canned.Canned(canned.polite(answer)) as server, Sender(server.host) as sender:
        assert [sender.send().status for _ in range(2)] == [200, 200]
        assert server.connections == 2


# C5: answers before the request has been read


def exchanged(serve, *, deadline_s=2000.0, clock=None):
    """What comes of a request that no buffer can hold, with `serve(other)` at the other end."""
    ours, other = socket.socketpair()
    connection = one.Connection(ours, clock or HandClock())
    answer = AnswerParser()
    with other:
        thread = threading.Thread(target=serve, args=(other,))
        thread.start()
        kept = connection.exchange(bytes(16_000_000), answer, deadline_s)
        connection.close()
        thread.join(10)
    assert not kept
    return what(answer.reply(0.0))


def test_c5_an_answer_that_comes_before_the_body_was_sent_is_heard():
    """A proxy with a small limit answers 413, and reads no further."""
    assert exchanged(lambda other: other.sendall(TOO_LARGE)) == (413, "")


def test_c5_an_answer_is_heard_though_the_server_has_closed():
    ours, other = socket.socketpair()
    with other:
        other.sendall(TOO_LARGE)
    connection = one.Connection(ours, HandClock())
    answer = AnswerParser()

    assert not connection.exchange(b"POST", answer, deadline_s=2000.0)
    connection.close()
    assert answer.status == 413


def test_c5_an_early_answer_ends_the_use_of_a_connection():
    """On the old one the server still waits for the rest."""

    def serve(server, connection):
        connection.sendall(TOO_LARGE)
        server.closing.wait(60)

    with canned.Canned(canned.in_turn(serve, canned.polite())) as server, Sender(server.host) as sender:
        assert sender.send(os.urandom(8_000_000)).status == 413
        assert sender.send().status == 200
        assert server.connections == 2


def test_c5_an_answer_is_heard_though_the_server_breaks_off():
    def serve(server, connection):
        connection.recv(1000)
        connection.sendall(TOO_LARGE)  # then closes with bytes unread, which is a reset

    with canned.Canned(serve) as server, Sender(server.host) as sender:
        assert sender.send(os.urandom(1_000_000)).status == 413


def test_c1_a_server_that_closes_before_the_body_was_sent_is_a_reset():
    assert exchanged(lambda other: other.shutdown(socket.SHUT_WR)) == (0, "reset")


def test_c1_a_server_that_breaks_off_before_the_body_was_sent_is_a_reset():
    assert exchanged(lambda other: other.close()) == (0, "reset")


def test_c1_a_server_that_stops_reading_is_left_at_the_deadline():
    clock = SystemClock()

    assert exchanged(lambda _: None, clock=clock, deadline_s=clock.monotonic_s() + BLINK_S) == (0, "timeout")


# C1: servers that fail


def test_c1_a_server_that_does_not_listen_refuses():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    assert what(send_once(f"http://127.0.0.1:{port}")) == (0, "refused")


def test_c1_c11_a_black_hole_costs_the_deadline_and_no_more():
    """A full backlog drops what knocks, as a firewall does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(4)]
        for knock in waiting:
            knock.setblocking(False)
            knock.connect_ex(listener.getsockname())
        try:
            host = f"http://127.0.0.1:{listener.getsockname()[1]}"
            assert what(send_once(host, timeout_s=BLINK_S)) == (0, "timeout")
        finally:
            for knock in waiting:
                knock.close()


def test_c1_c11_a_half_open_connection_costs_the_deadline_and_no_more():
    with canned.Canned(canned.hangs) as server, Sender(server.host, timeout_s=BLINK_S) as sender:
        assert what(sender.send()) == (0, "timeout")
        assert sender.progress == 1


def test_c1_a_server_that_drips_is_left_at_the_deadline():
    """Each byte comes in time, all together do not: the clock passes the deadline while they come."""
    clock = HandClock()

    def drip(server, connection):
        server.read(connection)
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{":
            clock.now_s += 1
            connection.sendall(bytes([byte]))
        server.closing.wait(60)

    with canned.Canned(drip) as server:
        assert what(send_once(server.host, clock=clock)) == (0, "timeout")


def test_c1_a_reset_at_any_byte_of_the_answer_is_a_reset_or_the_whole_answer():
    ends = iter(range(len(canned.OK) + 1))

    def serve(server, connection):
        server.read(connection)
        connection.sendall(canned.OK[: next(ends)])
        canned.reset(connection)

    with canned.Canned(serve) as server:
        replies = [what(send_once(server.host)) for _ in range(len(canned.OK) + 1)]

    assert replies[:-1] == [(0, "reset")] * len(canned.OK)
    assert replies[-1] in {(200, ""), (0, "reset")}
    assert server.connections == len(canned.OK) + 1  # a fresh connection that breaks is not repeated


def test_c1_no_network_at_all_is_an_answer():
    assert what(send_once("http://255.255.255.255:9")) == (0, "network")


# C2: names


def resolving_to(*places):
    """A resolver that gives these addresses for any name."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in places]
    return Resolver(lambda *_: found)


def dead_place():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()


def test_c2_a_name_that_does_not_resolve_is_an_answer():
    def fail(*_):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    assert what(send_once("http://telemetry.invalid", resolver=Resolver(fail))) == (0, "dns")


def test_c2_a_name_is_resolved_for_real(server):
    assert send_once(f"http://localhost:{server.port}").status == 200


def test_c2_a_dead_address_leaves_time_for_the_living_one(server):
    resolver = resolving_to(dead_place(), ("127.0.0.1", server.port))

    assert send_once("http://two.addresses", resolver=resolver).status == 200


def test_c2_a_slow_resolver_leaves_no_time_to_connect(server):
    clock = HandClock()

    def slow(*_):
        clock.now_s += 30
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port))]

    assert what(send_once("http://slow.resolver", clock=clock, resolver=Resolver(slow))) == (0, "timeout")
    assert server.connections == 0


def test_c2_each_address_of_a_name_gets_its_share_of_the_time(monkeypatch):
    timeouts_s = []

    class Dead(socket.socket):
        def settimeout(self, timeout_s):
            timeouts_s.append(timeout_s)

        def connect(self, place):
            raise TimeoutError

    monkeypatch.setattr(socket, "socket", Dead)
    resolver = resolving_to(*[("127.0.0.1", 1)] * 2)

    assert send_once("http://two.addresses", clock=HandClock(), resolver=resolver).cause == "timeout"
    assert timeouts_s == [http.CONNECT_TIMEOUT_S / 2, http.CONNECT_TIMEOUT_S]


def test_c2_a_short_deadline_is_shared_by_the_addresses_too(monkeypatch):
    timeouts_s = []
    monkeypatch.setattr(one.Connection, "connect", lambda _, place, timeout_s: timeouts_s.append(timeout_s))

    resolver = resolving_to(("127.0.0.1", 1))
    send_once("http://one.address", clock=HandClock(), resolver=resolver, timeout_s=2.0)

    assert timeouts_s == [2.0]


# C14, C26, C27, C28: what the host program does to us


def test_c14_an_inherited_connection_is_given_back_without_a_word(server, sender):
    sender.send()
    descriptor = sender.descriptor
    copy = os.dup(descriptor)  # the parent's

    sender.transport.abandon()
    sender.transport.abandon()

    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)
    with socket.socket(fileno=copy) as parents:  # still open for the parent, and nothing was said on it
        parents.settimeout(10)
        parents.sendall(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert parents.recv(12) == b"HTTP/1.1 200"
    assert [request.connection for request in server.requests] == [1, 1]


@pytest.fixture(params=["file", "socket"])
def foreign(request, tmp_path):
    """Put another file or socket in the place of a descriptor, as a host does that closes what it does not know."""
    ours, other = socket.socketpair()
    file = os.open(tmp_path / "foreign", os.O_RDWR | os.O_CREAT)
    replaced = []

    def replace(descriptor):
        os.dup2(file if request.param == "file" else ours.fileno(), descriptor)
        replaced.append(descriptor)

    with ours, other:
        yield replace
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)
        assert (tmp_path / "foreign").read_bytes() == b""
        for descriptor in (*replaced, file):
            os.close(descriptor)  # fails if somebody else has closed it


def test_c26_a_number_that_is_another_file_by_now_is_neither_written_nor_closed(server, sender, foreign):
    sender.send()
    foreign(sender.descriptor)

    assert sender.send().status == 200
    assert server.connections == 2


@pytest.mark.parametrize("end", ["close", "abandon"])
def test_c26_a_connection_is_not_closed_by_a_number_that_is_not_its_own(sender, foreign, end):
    sender.send()
    foreign(sender.descriptor)

    getattr(sender.transport, end)()


def test_c26_a_connection_that_is_taken_away_in_the_middle_of_an_answer_is_a_reset(foreign):
    ours, other = socket.socketpair()

    class TakenAway(AnswerParser):
        def feed(self, data):
            super().feed(data)
            foreign(ours.fileno())

    connection = one.Connection(ours, HandClock())
    answer = TakenAway()
    with other:
        other.sendall(b"HTTP/1.1 200 OK\r\n")
        assert not connection.exchange(b"POST", answer, deadline_s=2000.0)
        connection.close()

    assert answer.problem == "reset"


ALONE = """
import os, sys
from leeward.clock import SystemClock
from leeward.sender import transport as http

class Settings:
    host, app = sys.argv[1], ""

transport = http.HttpTransport(Settings, SystemClock(), lambda: None, timeout_s=10)
send = lambda: transport.send("/", (), b"{}")
"""


def run_alone(server, program, **environ):
    """Run `program` in a process of its own; returns what it printed."""
    ended = subprocess.run(
        [sys.executable, "-c", ALONE + program, server.host],
        env={"PYTHONPATH": os.pathsep.join(sys.path), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.split()


def test_c26_a_host_that_closes_every_descriptor_costs_one_connection(server, tmp_path):
    printed = run_alone(
        server,
        f"""
print(send().status)
os.closerange(3, 4096)
import socket
pairs = [socket.socketpair() for _ in range(10)]
files = [os.open({str(tmp_path / "mine")!r}, os.O_RDWR | os.O_CREAT) for _ in range(10)]
print(send().status, send().status)
for one, other in pairs:
    one.close()
    print(len(other.recv(100)))
    other.close()
for file in files:
    os.close(file)
""",
    )

    assert printed == ["200"] * 3 + ["0"] * 10
    assert server.connections == 2
    assert (tmp_path / "mine").read_bytes() == b""


def test_c27_no_descriptor_left_is_an_answer_and_heals(server):
    """The first time not even the socket module can be read, the second time there is no descriptor for a socket."""
    printed = run_alone(
        server,
        """
import resource
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
for _ in range(2):
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    print(send().cause, send().cause)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    print(send().status)
    transport.close()
""",
    )

    assert printed == ["network", "network", "200"] * 2


FORKS = """
print(send().status, flush=True)
child = os.fork()
if not child:
    transport.abandon()
    print(send().status, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(send().status)
"""


def test_c14_a_forked_child_makes_its_own_connection_and_the_parents_goes_on(server):
    assert run_alone(server, FORKS) == ["200"] * 3
    assert [request.connection for request in server.requests] == [1, 2, 1]


def test_c28_an_answer_that_came_while_the_process_was_stopped_is_heard():
    """The deadline passed meanwhile; asking again would send the batch twice."""
    ours, other = socket.socketpair()
    clock = HandClock()
    connection = one.Connection(ours, clock)
    other.sendall(canned.OK)
    answer = AnswerParser()
    with other:
        assert connection.exchange(b"POST", answer, deadline_s=clock.now_s - 3600)
        connection.close()

    assert answer.status == 200


def test_c28_an_answer_that_came_while_a_read_was_stopped_is_heard():
    ours, other = socket.socketpair()

    class Stopped:
        """A socket whose wait ends as one does that was stopped: too late, with the answer there."""

        fileno, settimeout, close = ours.fileno, ours.settimeout, ours.close

        def __init__(self):
            self.waits = [TimeoutError("timed out")]

        def send(self, data):
            return len(data)

        def recv(self, count):
            if self.waits:
                raise self.waits.pop()
            return ours.recv(count)

    connection = one.Connection(Stopped(), HandClock())
    answer = AnswerParser()
    with other:
        other.sendall(canned.OK)
        connection.exchange(b"POST", answer, deadline_s=2000.0)
        connection.close()

    assert answer.status == 200


# What it costs to import


def test_the_worker_imports_neither_http_client_nor_the_socket_module_nor_ssl(server):
    printed = run_alone(
        server,
        """
print(send().status)
heavy = {"http.client", "email", "urllib", "urllib.parse", "ssl", "socket", "selectors", "enum", "re", "json", "encodings.idna"}
print(*sorted(heavy & set(sys.modules)))
""",
    )

    assert printed == ["200"]


def test_a_program_that_has_loaded_or_patched_socket_gets_its_own(monkeypatch):
    assert network() is socket

    monkeypatch.delitem(sys.modules, "socket")
    import _socket

    assert network() is _socket
