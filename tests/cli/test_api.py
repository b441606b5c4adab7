"""What a server may answer, from a small real one that answers what the test says."""

from __future__ import annotations

import http.server
import json
import socket
import threading

import pytest

from leeward.cli import api
from leeward.cli.api import Answer, Api, checked_address, masked_key
from leeward.errors import BadCredentials, LeewardError, RateLimited, Refused, Unavailable

KEY = "lw_" + "k" * 28 + "x9Qd"


@pytest.fixture
def answering():
    """Start a server that gives this answer to everything; the requests that it got are listed."""
    servers = []

    def start(status: int, body: bytes, **headers: str):
        got = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def _answer(self):
                length = int(self.headers.get("content-length") or 0)
                got.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - http.server's own names

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}", got

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def _error(code: str, sentence: str, *details: str) -> bytes:
    return json.dumps({"error": sentence, "code": code, "details": details}).encode()


def test_a_question_carries_key_and_parameters_and_gives_the_document(answering):
    url, got = answering(200, b'{"count": 1}')

    assert Api(url + "/", KEY).get("/api/x", {"a": "b c&d"}).document() == {"count": 1}
    method, path, headers, _ = got[0]
    assert (method, path) == ("GET", "/api/x?a=b+c%26d")
    assert headers["Authorization"] == f"Bearer {KEY}"


def test_an_address_with_a_path_keeps_it(answering):
    url, got = answering(200, b"{}")

    Api(f"{url}/leeward/", "").post("/api/x", {"a": 1})

    assert got[0][1] == "/leeward/api/x"
    assert got[0][3] == b'{"a": 1}'
    assert "Authorization" not in got[0][2]


@pytest.mark.parametrize(
    ("status", "kind"), [(400, Refused), (403, BadCredentials), (404, Refused), (429, RateLimited), (503, Unavailable)]
)
def test_a_refusal_is_the_servers_sentence_with_its_code_and_details(answering, status, kind):
    url, _ = answering(status, _error("some_code", "It was not good.", "do this", "or that"))

    with pytest.raises(kind) as refused:
        Api(url, KEY, "--key").get("/")

    error = refused.value
    assert (error.message, error.code, error.fix) == ("It was not good", "some_code", "do this; or that")


def test_a_key_that_is_not_accepted_is_shown_by_its_end_only(answering):
    url, _ = answering(401, _error("unauthorized", "no"))

    with pytest.raises(BadCredentials) as refused:
        Api(url, KEY, "LEEWARD_API_KEY").get("/")

    assert refused.value.message.endswith("does not accept the key …x9Qd")
    assert refused.value.where == "LEEWARD_API_KEY"
    assert KEY not in str(vars(refused.value))


def test_when_to_come_again_is_kept(answering):
    url, _ = answering(503, _error("unavailable", "later"), retry_after="7")

    with pytest.raises(Unavailable) as refused:
        Api(url).get("/")
    assert refused.value.retry_after_s == 7


def test_the_first_verdict_on_events_is_the_reason(answering):
    body = {
        "accepted": 0,
        "results": [{"success": False, "code": "missing_event_type", "error": "event_type is required"}],
    }
    url, _ = answering(400, json.dumps(body).encode())

    with pytest.raises(Refused) as refused:
        Api(url).post("/", {})
    assert (refused.value.code, refused.value.message) == ("missing_event_type", "event_type is required")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"", b"\xff"])
def test_who_is_not_leeward_is_said_so(answering, body):
    url, _ = answering(500, body)

    with pytest.raises(Refused, match="what answers there is not leeward"):
        Api(url).get("/")


def test_a_failure_of_the_server_points_at_its_log(answering):
    url, _ = answering(500, b"{}")

    with pytest.raises(Unavailable) as refused:
        Api(url).get("/")
    assert refused.value.fix == "look at the server's log"


def test_nobody_there_is_said_with_the_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unavailable) as refused:
        Api(f"http://127.0.0.1:{port}").get("/")

    assert refused.value.message == f"no answer from http://127.0.0.1:{port}: nobody listens there"
    assert refused.value.code == "server_unreachable"


@pytest.mark.parametrize(
    ("says", "reason"), [(b"SSH-2.0-x\r\n", "does not speak HTTP"), (None, "nothing came within"), (b"", "HTTP")]
)
def test_who_says_nothing_or_nonsense_is_no_server(monkeypatch, says, reason):
    monkeypatch.setattr(api, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            with listener.accept()[0] as connection:
                connection.recv(4096)
                if says is None:
                    connection.recv(1)
                connection.sendall(says or b"")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unavailable) as refused:
            Api(f"http://127.0.0.1:{listener.getsockname()[1]}").get("/")
        thread.join()

    assert reason in refused.value.message or says == b""


def test_a_name_that_does_not_exist_is_no_answer():
    with pytest.raises(Unavailable, match=r"no answer from http://nowhere\.invalid"):
        Api("http://nowhere.invalid").get("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "127.0.0.1:5330",
        "ftp://x",
        "http://",
        "http://u:p@x",
        "http://x:0",
        "http://x:99999",
        "http://x?y",
        "http://x/\n",
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_is_sent(url):
    with pytest.raises(LeewardError) as refused:
        Api(url)
    assert refused.value.code == "bad_address"


def test_of_a_short_key_nothing_is_shown():
    assert masked_key("secret") == "…"
    assert masked_key(KEY) == "…x9Qd"


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ("localhost", "it begins with http:// or https://: http://localhost:5330"),
        ("127.0.0.1:6001", "it begins with http:// or https://: http://127.0.0.1:6001"),
        ("telemetry.example.com", "it begins with http:// or https://: https://telemetry.example.com"),
        ("local host", "it looks like http://127.0.0.1:5330 or https://telemetry.example.com"),
        ("host:port", "it looks like http://127.0.0.1:5330 or https://telemetry.example.com"),
        ("ftp://localhost", "it looks like http://127.0.0.1:5330 or https://telemetry.example.com"),
    ],
)
def test_an_address_without_a_scheme_is_told_the_one_that_was_meant(given, fix):
    with pytest.raises(LeewardError) as refused:
        checked_address(given)
    assert refused.value.fix == fix


def test_a_spare_key_takes_over_once_where_the_first_may_not(monkeypatch):
    used = []

    def refuse(self, *_):
        used.append(self._key)
        return Answer(403, {}, b'{"error": "no", "code": "forbidden", "details": ["ask someone"]}')

    monkeypatch.setattr(Api, "exchange", refuse)
    with pytest.raises(LeewardError) as refused:
        Api("http://x", "one", "here", ("two", "there")).get("/")

    assert used == ["one", "two"]
    assert (refused.value.where, refused.value.fix) == ("there", "ask someone")
