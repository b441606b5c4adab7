"""Bytes to a reply: what counts as an answer, what never does, and that neither pieces nor garbage matter."""

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from leeward.sender.answers import ANSWER_BYTES_MAX, AnswerParser

INTERIM = b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
NOW_S = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


def parsed(*pieces, closed=True, tunnel=False):
    answer = AnswerParser(tunnel=tunnel)
    for piece in pieces:
        if not answer.done:
            answer.feed(piece)
    if closed and not answer.done:
        answer.end()
    return answer


def reply_of(*pieces, **options):
    return parsed(*pieces, **options).reply(NOW_S)


def fields(reply):
    return (reply.status, reply.cause, reply.content_type, reply.body, reply.retry_after_s)


@pytest.mark.parametrize(
    ("data", "status", "body", "keep"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", True),
        (b"HTTP/1.1 200 \r\nCONTENT-LENGTH:2\r\n\r\n{}", 200, b"{}", True),
        (b"HTTP/1.1 200\r\nContent-Length:\t002 \r\n\r\n{}", 200, b"{}", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", True),
        (b"HTTP/1.1 200 \xc3\xbc\r\nX-\x7e: \xff\r\nContent-Length: 1\r\n\r\n\x00", 200, b"\x00", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\n{\n\r\n01;x=y\r\n}\r\n0\r\n\r\n", 200, b"{\n}", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA \r\n0123456789\r\n0\r\nX: y\r\n\r\n", 200, b"0123456789", True),
        (b"HTTP/1.1 200 OK\r\n\r\nall of it", 200, b"all of it", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1", 200, b"{}", False),
        (b"HTTP/1.1 204 No\r\nContent-Length: 7\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 304 Same\r\n\r\n", 304, b"", True),
        (INTERIM + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", True),
    ],
)  # fmt: skip
def test_an_answer_is_read_in_every_framing_there_is(data, status, body, keep):
    answer = parsed(data)
    reply = answer.reply(NOW_S)

    assert (reply.status, reply.cause, reply.body, answer.keep) == (status, "", body, keep)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x00\x01\x02 hello",
        b"H\r\n",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 20\xb2 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n X: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\n{\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno trailer\r\n\r\n",
    ],
)
def test_c7_what_has_two_readings_or_none_is_no_http(data):
    assert fields(reply_of(data)) == (0, "not_http", "", b"", None)


def test_another_protocol_is_known_before_its_line_ends():
    assert reply_of(b"220", closed=False).cause == "not_http"


@pytest.mark.parametrize(
    ("head", "more"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n", b"x" * 1024),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 200),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1024),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 200),
        (b"HTTP/1.1 500 No\r\nX: ", b"y" * 1024),
        (b"HTTP/1.1 200 ", b"y" * 1024),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
    ],
)
def test_c7_an_endless_answer_is_given_up_at_the_limit(head, more):
    answer = AnswerParser()
    read = len(head)
    answer.feed(head)
    while not answer.done:
        assert read <= ANSWER_BYTES_MAX
        answer.feed(more)
        read += len(more)

    assert answer.reply(NOW_S).cause == "too_long"
    assert not answer.keep


def test_an_answer_may_be_as_long_as_the_limit_and_not_a_byte_longer():
    for much, status in ((0, 200), (1, 0)):
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 65482\r\nX: " + b"y" * (7 + much) + b"\r\n\r\n"
        data = head + b"b" * 65482
        assert len(data) == ANSWER_BYTES_MAX + much
        assert reply_of(data).status == reply_of(data[:100], data[100:]).status == status


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 1000000\r\n\r\n<html>",
        b"Transfer-Encoding: chunked\r\n\r\nffffff\r\n<html>",
        b"Content-Length: 50000\r\n\r\n<html>",
        b"\r\n" + b"x" * 100_000,
    ],
)
@pytest.mark.parametrize("status", [302, 413, 503])
def test_c5_a_refusal_counts_by_its_head_whatever_becomes_of_its_page(status, body):
    answer = parsed(b"HTTP/1.1 %d No\r\nRetry-After: 3\r\n%s" % (status, body))

    assert answer.reply(NOW_S).status == status
    assert not answer.keep


def test_c1_every_cut_of_an_acknowledgement_is_a_reset():
    for data in (
        b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"a": "bcd"}',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ):  # fmt: skip
        assert reply_of(data).status == 200
        for end in range(len(data)):
            assert fields(reply_of(data[:end])) == (0, "reset", "", b"", None), end


def test_a_cut_says_why_and_only_once():
    answer = parsed(b"HTTP/1.1 200 OK\r\n\r\nhalf", closed=False)
    answer.cut("timeout")
    answer.cut("reset")
    answer.feed(b"more")
    answer.end()

    assert fields(answer.reply(NOW_S)) == (0, "timeout", "", b"", None)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        (b"Retry-After: 3\r\n", 3.0),
        (b"Retry-After: 0.5\r\n", 0.5),
        (b"Retry-After: 1e9\r\n", 300.0),
        (b"Retry-After: -5\r\n", None),
        (b"Retry-After: soon\r\n", None),
        (b"Retry-After: \xb2\xff\r\n", None),
        (b"Retry-After: Wed, 21 Oct 2015 07:29:00 GMT\r\n", 60.0),
        (b"Retry-After: Wed, 21 Oct 2015 07:27:00 GMT\r\n", 0.0),
        (b"Retry-After: Wed, 99 Oct 99999 07:28:00 GMT\r\n", None),
        (b"Retry-After: 3\r\nRetry-After: 4\r\n", 3.0),
        (b"", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_c6_retry_after_is_read_and_bounded(status, header, wait_s):
    reply = reply_of(b"HTTP/1.1 %d Later\r\n%sContent-Length: 0\r\n\r\n" % (status, header))

    assert (reply.status, reply.retry_after_s) == (status, wait_s)


def test_a_success_asks_for_no_wait():
    assert reply_of(b"HTTP/1.1 200 OK\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n").retry_after_s is None


def test_c7_an_encoded_body_is_handed_on_as_it_came():
    bomb = b"\x1f\x8b\x08\x00" + bytes(1000)
    reply = reply_of(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Type: x\r\nContent-Encoding: gzip\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(bomb), bomb)
    )

    assert (reply.content_type, reply.body) == ("text/html", bomb)


def test_a_tunnel_is_open_when_the_head_has_ended():
    for head in (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n", b"HTTP/1.0 200 Established\r\n"):
        answer = parsed(head + b"\r\n", closed=False, tunnel=True)
        assert (answer.status, answer.done, answer.keep) == (200, True, True)
    assert not parsed(b"HTTP/1.1 200 OK\r\n\r\nsmuggled", tunnel=True).keep
    assert parsed(b"HTTP/1.1 407 Login\r\nContent-Length: 1\r\n\r\nx", tunnel=True).reply(NOW_S).body == b"x"


LINES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.0 503 Later", b"HTTP/1.1 204 None", b"Content-Length: 3",
        b"Content-Length: 70000", b"Transfer-Encoding: chunked", b"Connection: close", b"Retry-After: 9", b"", b"3", b"0",
        b"abc", b"X: y", b" folded", b"Content-Type: a/b", b"y" * 40_000,
    ]
)  # fmt: skip
ANSWERS = st.one_of(
    st.binary(max_size=200),
    st.lists(LINES, max_size=12).map(b"\r\n".join),
    st.tuples(st.just(b"HTTP/1.1 200 OK\r\n"), st.lists(LINES, max_size=10).map(b"\r\n".join)).map(b"".join),
    st.tuples(st.lists(LINES, max_size=10).map(b"\n".join), st.binary(max_size=20)).map(b"".join),
)


@given(data=ANSWERS, cuts=st.lists(st.integers(0, 100_000), max_size=8))
def test_the_same_bytes_in_any_pieces_are_the_same_reply(data, cuts):
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [data[start:end] for start, end in pairwise(places)]

    assert fields(reply_of(*pieces)) == fields(reply_of(data))


@settings(max_examples=30)
@given(data=ANSWERS.filter(lambda data: len(data) < 2000))
def test_the_same_bytes_one_by_one_are_the_same_reply(data):
    assert fields(reply_of(*(data[place : place + 1] for place in range(len(data))))) == fields(reply_of(data))


@given(data=ANSWERS, tunnel=st.booleans())
def test_c7_no_bytes_raise_and_a_problem_has_no_status(data, tunnel):
    reply = reply_of(data, tunnel=tunnel)

    assert bool(reply.cause) == (reply.status == 0)
    assert len(reply.body) <= ANSWER_BYTES_MAX


@given(body=st.binary(max_size=300), sizes=st.lists(st.integers(1, 50), max_size=20))
def test_a_chunked_body_is_what_was_packed_into_chunks(body, sizes):
    data, rest = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", body
    for size in [*sizes, 1000]:
        if rest:
            data += b"%x\r\n%s\r\n" % (len(rest[:size]), rest[:size])
            rest = rest[size:]

    assert reply_of(data + b"0\r\n\r\n").body == body
