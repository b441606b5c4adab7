"""Proxies: which one the environment names, and the way through a real one on loopback."""

import socket
import ssl
import threading
from base64 import b64decode
from typing import NamedTuple

import pytest
import trustme
from hypothesis import given, strategies as st

import canned
from leeward.clock import SystemClock
from leeward.sender import address, proxy
from leeward.sender.resolver import Resolver
from leeward.sender.transport import HttpTransport

HTTP, HTTPS = address.parse("http://api.example.com"), address.parse("https://api.example.com")


def found(environ, server=HTTP):
    between = proxy.find(environ, server)
    return None if between is None else (between.name, between.port)


@pytest.mark.parametrize(
    ("environ", "http", "https"),
    [
        ({}, None, None),
        ({"http_proxy": "http://a:1"}, ("a", 1), None),
        ({"HTTP_PROXY": "http://a:1"}, ("a", 1), None),
        ({"https_proxy": "http://a:1"}, None, ("a", 1)),
        ({"HTTPS_PROXY": "a:1"}, None, ("a", 1)),
        ({"all_proxy": "http://a:1/"}, ("a", 1), ("a", 1)),
        ({"ALL_PROXY": "http://a"}, ("a", 80), ("a", 80)),
        ({"http_proxy": "http://a:1", "HTTP_PROXY": "http://b:2"}, ("a", 1), None),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2"}, None, ("a", 1)),
        ({"all_proxy": "http://a:1", "ALL_PROXY": "http://b:2"}, ("a", 1), ("a", 1)),
        ({"https_proxy": " ", "HTTPS_PROXY": "http://b:2"}, None, ("b", 2)),
        ({"HTTPS_PROXY": "http://b:2", "all_proxy": "http://a:1"}, ("a", 1), ("b", 2)),
        ({"http_proxy": "HTTP://[::1]:3128"}, ("::1", 3128), None),
        ({"http_proxy": "http://u:p@a:1"}, ("a", 1), None),
        ({"HTTP_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, None, None),
        ({"http_proxy": "http://a:1", "REQUEST_METHOD": "GET"}, ("a", 1), None),
        ({"HTTPS_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, None, ("a", 1)),
        ({"all_proxy": "http://a:1", "no_proxy": "b, api.example.com"}, None, None),
    ],
)
def test_the_environment_names_the_proxy_as_it_does_for_curl(environ, http, https):
    assert (found(environ, HTTP), found(environ, HTTPS)) == (http, https)


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("*", "http://a.b", True),
        ("x,*", "http://a.b", True),
        ("", "http://a.b", False),
        (" , ,.", "http://a.b", False),
        ("a.b", "http://a.b", True),
        ("A.B.", "http://a.b", True),
        ("a.b", "http://a.b.", True),
        ("a.b", "http://x.a.b", True),
        (".a.b", "http://x.a.b", True),
        (".a.b", "http://a.b", True),
        ("a.b", "http://xa.b", False),
        ("x.a.b", "http://a.b", False),
        ("c d,e\ta.b", "http://a.b", True),
        ("a.b:80", "http://a.b", True),
        ("a.b:80", "http://x.a.b:80", True),
        ("a.b:81", "http://a.b", False),
        ("a.b:443", "https://a.b", True),
        ("a.b:x", "http://a.b", False),
        ("10.0.0.1", "http://10.0.0.1", True),
        ("10.0.0.1:80", "http://10.0.0.1", True),
        ("0.0.1", "http://10.0.0.1", False),
        (".1", "http://10.0.0.1", False),
        ("10.0.0.0/8", "http://10.9.9.9", True),
        ("10.0.0.0/8", "http://11.0.0.1", False),
        ("10.0.0.0/8", "http://ten.example", False),
        ("192.168.1.77/30", "http://192.168.1.79", True),
        ("192.168.1.77/30", "http://192.168.1.80", False),
        ("0.0.0.0/0", "http://8.8.8.8", True),
        ("8.8.8.8/32", "http://8.8.8.8", True),
        ("8.8.8.8/33", "http://8.8.8.8", False),
        ("8.8.8.8/", "http://8.8.8.8", False),
        ("8.8.8.8/\xb2", "http://8.8.8.8", False),
        ("x/8", "http://8.8.8.8", False),
        ("::1", "http://[::1]", True),
        ("[::1]", "http://[0:0::1]", True),
        ("[::1]:80", "http://[::1]", True),
        ("[::1]:81", "http://[::1]", False),
        ("fd00::/8", "http://[fd12::1]", True),
        ("[fd00::]/8", "http://[fd12::1]", True),
        ("fd00::/8", "http://[fe12::1]", False),
        ("fd00::/8", "http://10.0.0.1", False),
        ("fd00::/129", "http://[fd12::1]", False),
    ],
)
def test_no_proxy_makes_exceptions(no_proxy, host, direct):
    for name in ("no_proxy", "NO_PROXY"):
        environ = {"all_proxy": "http://proxy:1", name: no_proxy}
        assert (found(environ, address.parse(host)) is None) == direct


def test_no_proxy_in_lower_case_comes_first():
    environ = {"all_proxy": "http://proxy:1", "no_proxy": "other", "NO_PROXY": "*"}

    assert found(environ) == ("proxy", 1)


def test_loopback_is_no_exception_unless_it_is_made_one():
    assert found({"http_proxy": "http://proxy:1"}, address.parse("http://127.0.0.1")) == ("proxy", 1)


def refusal_of(environ, server):
    try:
        proxy.find(environ, server)
    except proxy.ProxyError as error:
        return str(error)
    return ""


@given(st.text(min_size=12, max_size=30), st.sampled_from(["http://a.b", "https://10.0.0.1", "http://[::1]:80"]))
def test_whatever_stands_in_the_environment_is_an_answer_that_does_not_repeat_it(text, host):
    server = address.parse(host)

    assert not refusal_of({"all_proxy": "http://proxy:1", "no_proxy": text}, server)
    assert text not in refusal_of({"all_proxy": text}, server)


@pytest.mark.parametrize(
    "url", ["https://a:1", "socks5://a:1", "socks5h://u:p@a:1", "http://a:x", "http://u:p@", "://a"]
)
def test_a_proxy_that_cannot_be_used_is_not_gone_around(url):
    with pytest.raises(proxy.ProxyError):
        found({"http_proxy": url})


@pytest.mark.parametrize(
    ("login", "pair"),
    [
        ("user:secret", b"user:secret"),
        ("user", b"user:"),
        (":", b":"),
        ("us%40er:se%3Acr%2fet", b"us@er:se:cr/et"),
        ("a@b:c@d", b"a@b:c@d"),
        ("100%:%zz%4", b"100%:%zz%4"),
        ("%", b"%:"),
        ("%C3%BC:\xfc", b"\xc3\xbc:\xc3\xbc"),
        ("%\xfc0:x", b"%\xc3\xbc0:x"),
    ],
)
def test_a_login_is_decoded_and_packed(login, pair):
    between = proxy.find({"http_proxy": f"http://{login}@a:1"}, HTTP)

    name, kind, packed = between.credentials.split()
    assert (name, kind, b64decode(packed)) == (b"Proxy-Authorization:", b"Basic", pair)
    assert between.credentials.endswith(b"\r\n")


def test_a_login_is_in_no_text():
    assert "secret" not in repr(proxy.find({"http_proxy": "http://u:secret@a:1"}, HTTP))
    for url in ("http://u:secret@a:secret", "socks5://u:secret@a:1"):
        with pytest.raises(proxy.ProxyError) as caught:
            found({"http_proxy": url})
        assert "secret" not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


# Through a real one


def forwarding(server, connection):
    """A proxy as it should be."""
    while (request := server.read(connection)) is not None:
        method, target, _ = request.line.split()
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as onward:
                connection.sendall(b"HTTP/1.0 200 Connection established\r\n\r\n")
                relay(connection, onward)
            return
        server_address = address.parse(target)
        headers = {name: value for name, value in request.headers.items() if name != "proxy-authorization"}
        lines = [f"POST {server_address.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        with socket.create_connection((server_address.name, server_address.port), timeout=10) as onward:
            onward.sendall("\r\n".join([*lines, "", ""]).encode() + request.body)
            connection.sendall(onward.recv(65536))


def relay(one, other):
    def copy(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return  # one of the two has gone

    back = threading.Thread(target=copy, args=(other, one), daemon=True)
    back.start()
    copy(one, other)
    back.join(10)


class Settings(NamedTuple):
    host: str
    app: str = ""


class Sender:
    def __init__(self, host, timeout_s=15.0, **environ):
        self.progress = 0
        self.environ = environ
        self.transport = HttpTransport(
            Settings(host), SystemClock(), self.note, environ=environ, resolver=Resolver(), timeout_s=timeout_s
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.transport.close()

    def note(self):
        self.progress += 1

    def send(self):
        return self.transport.send("/api/x", (("Authorization", "Bearer lw_k"),), b"{}")


def what(reply):
    return reply.status, reply.cause


@pytest.fixture
def between():
    with canned.Canned(forwarding) as between:
        yield between


@pytest.fixture
def server():
    with canned.Canned(canned.polite()) as server:
        yield server


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def secure(authority, tmp_path, monkeypatch):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "roots.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    with canned.Canned(canned.polite(), context=context) as server:
        yield server


def test_clear_text_goes_through_a_proxy_that_is_told_the_whole_url(between, server):
    with Sender(server.host + "/base", http_proxy=f"http://us%40er:pw@127.0.0.1:{between.port}") as sender:
        assert [what(sender.send()) for _ in range(2)] == [(200, "")] * 2
        assert sender.progress == 3

    assert between.connections == 1
    assert [request.line for request in between.requests] == [f"POST {server.host}/base/api/x HTTP/1.1"] * 2
    assert between.requests[0].headers["host"] == server.authority
    assert b64decode(between.requests[1].headers["proxy-authorization"].split()[1]) == b"us@er:pw"
    assert server.requests[0].headers["authorization"] == "Bearer lw_k"


def test_tls_goes_through_a_tunnel_and_the_proxy_sees_nothing(between, secure):
    with Sender(secure.host, https_proxy=f"http://user:pw@127.0.0.1:{between.port}") as sender:
        assert [what(sender.send()) for _ in range(2)] == [(200, "")] * 2

    assert [request.line for request in between.requests] == [f"CONNECT {secure.authority} HTTP/1.1"]
    assert between.requests[0].headers["host"] == secure.authority
    assert "authorization" not in between.requests[0].headers
    assert b64decode(between.requests[0].headers["proxy-authorization"].split()[1]) == b"user:pw"
    assert "proxy-authorization" not in secure.requests[0].headers
    assert secure.requests[0].line == "POST /api/x HTTP/1.1"
    assert secure.connections == 1


def test_a_tunnel_to_an_address_of_version_6_is_asked_for_in_brackets(between):
    with Sender("https://[::1]:9", https_proxy=between.host) as sender:
        sender.send()

    assert between.requests[0].line == "CONNECT [::1]:9 HTTP/1.1"


def test_the_environment_is_read_when_a_connection_is_made(between, server):
    with Sender(server.host) as sender:
        sender.send()
        sender.environ["http_proxy"] = between.host
        sender.send()
        assert between.connections == 0
        sender.transport.close()
        assert sender.send().status == 200
        assert between.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Away\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 No\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nbytes that the server never sent",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"",
    ],
)
def test_c1_a_proxy_that_opens_no_tunnel_is_the_cause(secure, answer):
    with canned.Canned(canned.says(answer)) as refusing, Sender(secure.host, https_proxy=refusing.host) as sender:
        assert what(sender.send()) == (0, "proxy")
        assert sender.progress == 0
    assert secure.connections == 0


def test_a_login_that_the_proxy_wants_is_no_answer_of_the_server(server):
    """A 4xx of the server would set the batch aside."""
    answer = b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n"
    with canned.Canned(canned.polite(answer)) as wanting, Sender(server.host, http_proxy=wanting.host) as sender:
        assert what(sender.send()) == (0, "proxy")


def test_c1_c11_a_proxy_that_hangs_costs_the_deadline_and_no_more(secure):
    with canned.Canned(canned.hangs) as hanging, Sender(secure.host, 0.1, https_proxy=hanging.host) as sender:
        assert what(sender.send()) == (0, "proxy")


@pytest.mark.parametrize("host", ["http://127.0.0.1:9", "https://127.0.0.1:9"])
def test_c1_a_proxy_that_cannot_be_reached_is_the_cause(host):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"

    with Sender(host, all_proxy=nobody) as sender:
        assert what(sender.send()) == (0, "proxy")


def test_another_kind_of_proxy_is_the_cause_and_the_server_is_not_reached_without_it(server, between):
    for kind in ("https", "socks5"):
        with Sender(server.host, http_proxy=f"{kind}://127.0.0.1:{between.port}") as sender:
            assert what(sender.send()) == (0, "proxy")
    assert server.connections == between.connections == 0
