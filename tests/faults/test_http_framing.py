"""I9: what cannot be read in one way only is refused once, and the connection is closed. Never two answers to one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from server_process import ServerProcess

HOST = b"Host: 127.0.0.1\r\n"
HIDDEN = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
"""A request that a reader of the body may never take for one."""

POST = b"POST /api/telemetry/ingest HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKED_BODY = b"5\r\nhello\r\n0\r\n\r\n"

REFUSED = {
    "length and chunked": POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n" + CHUNKED_BODY,
    "chunked and length": POST + CHUNKED + b"Content-Length: 5\r\n\r\n" + CHUNKED_BODY,
    "chunked twice": POST + CHUNKED + CHUNKED + b"\r\n" + CHUNKED_BODY,
    "chunked, chunked": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKED_BODY,
    "chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED_BODY,
    "identity": POST + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED_BODY,
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKED_BODY,
    "chunked behind a tab": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + CHUNKED_BODY,
    "space before the colon": POST + b"Content-Length : 5\r\n\r\nhello",
    "space before the coding's colon": POST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKED_BODY,
    "length +5": POST + b"Content-Length: +5\r\n\r\nhello",
    "length 0x5": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "length -1": POST + b"Content-Length: -1\r\n\r\nhello",
    "length 5, 5": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "length 5 6": POST + b"Content-Length: 5 6\r\n\r\nhello",
    "length 1_0": POST + b"Content-Length: 1_0\r\n\r\nhellohello",
    "no length at all": POST + b"Content-Length:\r\n\r\nhello",
    "length beyond 64 bits": POST + b"Content-Length: 18446744073709551621\r\n\r\nhello",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "the same length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "NUL in a value": POST + b"X-A: a\x00b\r\nContent-Length: 5\r\n\r\nhello",
    "NUL in a name": POST + b"X\x00A: b\r\nContent-Length: 5\r\n\r\nhello",
    "control character in a value": POST + b"X-A: a\x01b\r\nContent-Length: 5\r\n\r\nhello",
    "bare CR in a value": POST + b"X-A: a\rTransfer-Encoding: chunked\r\n\r\n" + CHUNKED_BODY,
    "bare CR after a line": POST + b"X-A: a\rContent-Length: 5\r\n\r\nhello",
    "line feeds only": b"POST /api/telemetry/ingest HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 5\n\nhello",
    "one bare line feed": POST + b"X-A: a\nContent-Length: 5\r\n\r\nhello",
    "folded line": POST + b"X-A: a\r\n b\r\nContent-Length: 5\r\n\r\nhello",
    "folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKED_BODY,
    "a header without a colon": POST + b"Content-Length\r\n\r\nhello",
    "an empty name": POST + b": 5\r\n\r\nhello",
    "a chunk's size is no number": POST + CHUNKED + b"\r\nxyz\r\nhello\r\n0\r\n\r\n",
    "a chunk's size is negative": POST + CHUNKED + b"\r\n-5\r\nhello\r\n0\r\n\r\n",
    "a chunk's size is 0x5": POST + CHUNKED + b"\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk's size is beyond 64 bits": POST + CHUNKED + b"\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
    "a chunk is longer than its size": POST + CHUNKED + b"\r\n3\r\nhello\r\n0\r\n\r\n",
    "a chunk's line ends with a line feed": POST + CHUNKED + b"\r\n5\nhello\n0\n\n",
    "no method": b" /livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method of 4,000 letters": b"G" * 4000 + b" /livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method in lower case": b"get /livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "no version": b"GET /livez\r\n" + HOST + b"\r\n",
    "version 2.0": b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n",
    "version 1.10": b"GET /livez HTTP/1.10\r\n" + HOST + b"\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "a TLS hello": bytes.fromhex("16030100fa010000f60303") + bytes(240),
    "a space within the path": b"GET /live z HTTP/1.1\r\n" + HOST + b"\r\n",
    "a control character in the path": b"GET /livez\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\n" + HOST + b"Host: elsewhere.example\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "an address of 1 MB": b"GET /livez?" + b"a" * 1_000_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "10,000 headers": b"GET /livez HTTP/1.1\r\n" + HOST + b"X-A: b\r\n" * 10_000 + b"\r\n",
    "a header of 1 MB": b"GET /livez HTTP/1.1\r\n" + HOST + b"X-A: " + b"b" * 1_000_000 + b"\r\n\r\n",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with ServerProcess(tmp_path_factory.mktemp("framing") / "d") as running:
        yield running
        assert [line["event"] for line in running.log_lines()] == ["ready"]


def statuses(received: bytes) -> list[int]:
    """The status of every answer in what came back."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", received)]


def ask(server: ServerProcess, data: bytes) -> tuple[list[int], bool, bytes]:
    """Statuses, whether the server closed, and all that came back."""
    import contextlib
    import socket

    from server_process import read_until_closed

    with socket.create_connection(("127.0.0.1", server.port), timeout=1.0) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
        received, closed = read_until_closed(connection)
    return statuses(received), closed, received


@pytest.mark.parametrize("name", REFUSED)
def test_i9_what_can_be_read_in_two_ways_is_refused_once_and_the_connection_closed(server: ServerProcess, name: str):
    answers, closed, received = ask(server, REFUSED[name] + HIDDEN * 2)
    assert closed, received
    # A peer that was still sending when we closed may have lost the answer with the connection.
    assert answers in ([400], [431], [501], [505]) or (not answers and len(REFUSED[name]) > 60_000)
    assert b"alive" not in received
    assert server.ask("GET", "/livez").status == 200


def test_i9_a_refusal_says_nothing_of_what_is_inside(server: ServerProcess):
    _, _, received = ask(server, REFUSED["xchunked"])
    assert b"Traceback" not in received
    assert b"uvicorn" not in received.lower()
    assert b"python" not in received.lower()


@pytest.mark.parametrize(
    ("name", "body"),
    {
        "a chunk's extension": b'2b;name=value;q="x"\r\n'
        + b'{"event_type":"chunked","id":"%s"}' % (b"x" * 11)
        + b"\r\n0\r\n\r\n",
        "trailers": b'2b\r\n{"event_type":"chunked","id":"%s"}' % (b"y" * 11) + b"\r\n0\r\nX-After: 1\r\n\r\n",
    }.items(),
)
def test_i9_a_well_formed_chunked_body_is_one_request(server: ServerProcess, name: str, body: bytes):
    key = b"Authorization: Bearer " + server.key("write").encode() + b"\r\n"
    answers, _, received = ask(server, POST + key + CHUNKED + b"\r\n" + body + HIDDEN)
    assert answers == [200, 200], received
    assert b"alive" in received.partition(b"accepted")[2]


def test_i9_trailers_are_no_headers(server: ServerProcess):
    trailer = b"Authorization: Bearer " + server.key("write").encode() + b"\r\n"
    answers, _, _ = ask(server, POST + CHUNKED + b"\r\n2\r\n{}\r\n0\r\n" + trailer + b"\r\n")
    assert answers == [401]


def test_requests_that_are_sent_at_once_are_answered_in_their_order(server: ServerProcess):
    paths = [b"/livez", b"/readyz", b"/none", b"/livez", b"/openapi.json"] * 6
    asked = b"".join(b"GET %b HTTP/1.1\r\n%b\r\n" % (path, HOST) for path in paths)
    answers, _, _ = ask(server, asked)
    assert answers == [404 if path == b"/none" else 200 for path in paths]


def test_events_that_are_sent_at_once_are_all_answered_and_stored(server: ServerProcess):
    key = b"Authorization: Bearer " + server.key("write").encode() + b"\r\n"
    bodies = [b'{"event_type":"piped","id":"p%02d"}' % number for number in range(50)]
    asked = b"".join(POST + key + b"Content-Length: %d\r\n\r\n%b" % (len(body), body) for body in bodies)
    answers, _, _ = ask(server, asked)
    assert answers == [200] * 50
    assert len(server.query_all("event_type=piped")) == 50


def test_a_request_cut_into_single_bytes_is_read_as_one(server: ServerProcess):
    import socket

    from server_process import read_until_closed

    with socket.create_connection(("127.0.0.1", server.port), timeout=1.0) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in HIDDEN:
            connection.sendall(bytes([byte]))
        received, _ = read_until_closed(connection)
    assert statuses(received) == [200]


def test_i9_a_refused_request_leaves_its_body_unread_and_says_so(server: ServerProcess):
    body = b'{"event_type":"a"}'
    answers, _, received = ask(server, POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body) + HIDDEN)
    assert answers in ([401], [401, 200]), received


def test_i9_a_refusal_is_never_sent_in_the_place_of_an_earlier_answer(server: ServerProcess):
    body = b'{"event_type":"first","id":"first"}'
    key = b"Authorization: Bearer " + server.key("write").encode() + b"\r\n"
    first = POST + key + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    answers, closed, received = ask(server, first + b"nonsense\r\n\r\n")
    assert answers in ([], [200], [200, 400]), received
    assert closed


def test_http_1_0_gets_one_answer_and_the_end(server: ServerProcess, tmp_path: Path):
    answers, closed, _ = ask(server, b"GET /livez HTTP/1.0\r\n\r\n" + HIDDEN)
    assert (answers, closed) == ([200], True)
