"""C3: TLS against real servers on loopback, with certificates made here. Nothing is ever said in clear text."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
import trustme

import canned
from leeward.clock import SystemClock
from leeward.sender import tls
from leeward.sender.resolver import Resolver
from leeward.sender.transport import HttpTransport

LONG_AGO = datetime.now(UTC) - timedelta(days=10)
LATER = datetime.now(UTC) + timedelta(days=10)


class Settings(NamedTuple):
    host: str
    app: str = ""


class Sender:
    def __init__(self, host, timeout_s=15.0):
        self.progress = 0
        self.transport = HttpTransport(
            Settings(host), SystemClock(), self.note, resolver=Resolver(), timeout_s=timeout_s
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.transport.close()

    def note(self):
        self.progress += 1

    def send(self, body=b"{}"):
        return self.transport.send("/api/x", (("Authorization", "Bearer lw_k"),), body)


def what(reply):
    return reply.status, reply.cause


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def roots(authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "roots.pem")
    return str(tmp_path / "roots.pem")


@pytest.fixture
def trusted(roots, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", roots)


def serving(authority, *names, serve=None, **dates):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*(names or ("127.0.0.1", "localhost")), **dates).configure_cert(context)
    return canned.Canned(serve or canned.polite(), context=context)


@pytest.fixture
def server(authority):
    with serving(authority) as server:
        yield server


def cause_of(server, name="127.0.0.1"):
    with Sender(f"https://{name}:{server.port}") as sender:
        reply = sender.send()
        assert sender.progress == 0
    assert (reply.status, server.requests) == (0, [])
    return reply.cause


def test_c3_a_root_of_ssl_cert_file_is_trusted_over_one_kept_connection(server, trusted):
    with Sender(server.host) as sender:
        assert [what(sender.send()) for _ in range(3)] == [(200, "")] * 3
        assert sender.progress == 4
    assert server.connections == 1
    assert server.requests[0].headers["host"] == server.authority


def test_c3_a_name_is_checked_against_the_certificate(server, trusted):
    with Sender(f"https://localhost:{server.port}") as sender:
        assert sender.send().status == 200


def test_c3_a_root_of_requests_ca_bundle_is_trusted_too(server, roots, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", roots)

    with Sender(server.host) as sender:
        assert sender.send().status == 200


def hashed(roots, folder):
    """A folder of roots as OpenSSL reads it."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("the openssl command is not here, which names the files of such a folder")
    named = subprocess.run(
        [program, "x509", "-hash", "-noout", "-in", roots], capture_output=True, text=True, check=True
    )
    folder.mkdir()
    shutil.copy(roots, folder / f"{named.stdout.strip()}.0")
    return str(folder)


@pytest.mark.parametrize("name", ["SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
def test_c3_roots_may_stand_in_a_folder(server, roots, tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, hashed(roots, tmp_path / "roots"))

    with Sender(server.host) as sender:
        assert sender.send().status == 200


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_c3_requests_ca_bundle_adds_nothing_where_openssl_is_told_otherwise(server, roots, tmp_path, monkeypatch, name):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", roots)
    monkeypatch.setenv(name, str(tmp_path / "nothing"))

    assert cause_of(server) == "tls_untrusted"


def test_c3_a_bundle_that_cannot_be_read_changes_nothing(server, tmp_path, monkeypatch):
    (tmp_path / "garbage").write_text("no certificate")
    for name in ("missing", "garbage"):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / name))
        assert cause_of(server) == "tls_untrusted"


def test_c3_an_unknown_root_is_not_trusted(server):
    assert cause_of(server) == "tls_untrusted"


def test_c3_an_unknown_root_that_the_server_sends_along_is_not_trusted(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = authority.issue_cert("127.0.0.1")
    chain = b"".join(blob.bytes() for blob in (certificate.private_key_pem, *certificate.cert_chain_pems))
    with trustme.Blob(chain + authority.cert_pem.bytes()).tempfile() as path:
        context.load_cert_chain(path)
    with canned.Canned(canned.polite(), context=context) as server:
        assert cause_of(server) == "tls_untrusted"


def test_c3_an_expired_certificate_is_not_accepted(authority, trusted):
    with serving(authority, not_before=LONG_AGO, not_after=LONG_AGO + timedelta(days=1)) as server:
        assert cause_of(server) == "tls_expired"


def test_c3_a_certificate_of_the_future_is_not_accepted(authority, trusted):
    with serving(authority, not_before=LATER, not_after=LATER + timedelta(days=1)) as server:
        assert cause_of(server) == "tls_expired"


def test_c3_a_self_signed_certificate_is_not_accepted(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with trustme.Blob(authority.private_key_pem.bytes() + authority.cert_pem.bytes()).tempfile() as path:
        context.load_cert_chain(path)
    with canned.Canned(canned.polite(), context=context) as server:
        assert cause_of(server) == "tls_self_signed"


@pytest.mark.parametrize(
    ("names", "called"), [(["localhost"], "127.0.0.1"), (["other.example", "127.0.0.1"], "localhost")]
)
def test_c3_a_certificate_of_another_host_is_not_accepted(authority, trusted, names, called):
    with serving(authority, *names) as server:
        assert cause_of(server, called) == "tls_host_name"


def test_c3_a_handshake_that_stalls_costs_the_deadline_and_no_more(trusted):
    with canned.Canned(canned.hangs) as server, Sender(f"https://127.0.0.1:{server.port}", timeout_s=0.1) as sender:
        assert what(sender.send()) == (0, "timeout")


def test_c3_a_server_without_tls_is_not_spoken_to_in_clear_text(trusted):
    heard = []

    def serve(server, connection):
        heard.append(connection.recv(65536))
        connection.sendall(canned.OK)

    with canned.Canned(serve) as server:
        assert cause_of(server) == "tls"
    assert len(heard) == 1
    assert b"lw_k" not in heard[0]


def test_c3_a_server_that_closes_in_the_handshake_is_a_reset(trusted):
    with canned.Canned(lambda _, connection: connection.recv(65536)) as server:
        assert cause_of(server) == "reset"


def test_c3_a_client_certificate_that_the_server_wants_is_a_matter_of_tls(authority, trusted):
    with serving(authority) as server:
        server._context.verify_mode = ssl.CERT_REQUIRED
        with Sender(server.host) as sender:
            reply = sender.send()
    assert (reply.status, server.requests) == (0, [])
    assert reply.cause in {"tls", "reset"}  # the alert, or the end of the connection that follows it


def test_c3_roots_that_are_put_right_are_believed_without_a_new_start(server, authority, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    with Sender(server.host) as sender:
        assert sender.send().cause == "tls_untrusted"
        authority.cert_pem.write_to_path(tmp_path / "roots.pem")
        assert sender.send().status == 200


def test_the_context_is_built_once(server, trusted):
    with Sender(server.host) as sender:
        sender.send()
        context = sender.transport._tls
        sender.transport.close()
        sender.send()
        assert sender.transport._tls is context


def test_a_context_checks_chain_and_name():
    context = tls.client_context({})

    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("politely", [True, False])
def test_c8_a_kept_connection_that_the_server_closed_is_replaced_at_once(authority, trusted, politely):
    closed = threading.Event()

    def serve(server, connection):
        server.read(connection)
        connection.sendall(canned.OK)
        (connection.unwrap if politely else connection.close)()
        closed.set()

    with serving(authority, serve=canned.in_turn(serve, canned.polite())) as server, Sender(server.host) as sender:
        assert sender.send().status == 200
        if not politely:
            assert closed.wait(10)
        assert sender.send().status == 200
        assert server.connections == 2


def test_c8_a_kept_connection_that_breaks_is_replaced_once_at_once(authority, trusted):
    def answers_once(server, connection):
        server.read(connection)
        connection.sendall(canned.OK)
        server.read(connection)
        canned.reset(connection)

    with serving(authority, serve=canned.in_turn(answers_once, canned.polite())) as server:
        with Sender(server.host) as sender:
            assert [sender.send().status for _ in range(2)] == [200, 200]
        assert [request.connection for request in server.requests] == [1, 1, 2]


def test_c5_an_answer_that_comes_before_the_body_was_sent_is_heard(authority, trusted):
    def serve(server, connection):
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        server.closing.wait(60)

    with serving(authority, serve=serve) as server, Sender(server.host) as sender:
        assert sender.send(os.urandom(5_000_000)).status == 413


def test_c26_a_number_that_is_another_socket_by_now_is_neither_written_nor_closed(server, trusted):
    ours, other = socket.socketpair()
    with Sender(server.host) as sender, ours, other:
        sender.send()
        descriptor = sender.transport._connection._socket.fileno()
        os.dup2(ours.fileno(), descriptor)

        assert sender.send().status == 200
        os.close(descriptor)
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)
    assert server.connections == 2


FORKS = """
import os, sys
from leeward.clock import SystemClock
from leeward.sender.transport import HttpTransport

class Settings:
    host, app = sys.argv[1], ""

transport = HttpTransport(Settings, SystemClock(), lambda: None, timeout_s=10)
send = lambda: transport.send("/", (), b"{}").status
print(send(), flush=True)
child = os.fork()
if not child:
    transport.abandon()
    print(send(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(send())
"""


def test_c14_a_forked_child_says_no_farewell_on_its_parents_connection(server, roots):
    ended = subprocess.run(
        [sys.executable, "-c", FORKS, server.host],
        env={"PYTHONPATH": os.pathsep.join(sys.path), "SSL_CERT_FILE": roots},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ended.stdout.split(), ended.stderr) == (["200"] * 3, "")
    assert [request.connection for request in server.requests] == [1, 2, 1]


def test_c14_abandoning_puts_no_byte_on_the_wire(authority, trusted):
    ends = []

    def serve(server, connection):
        server.read(connection)
        connection.sendall(canned.OK)
        raw = socket.socket(fileno=connection.detach())
        with raw:
            ends.append(raw.recv(100))

    with serving(authority, serve=serve) as server, Sender(server.host) as sender:
        sender.send()
        sender.transport.abandon()
    assert ends == [b""]
