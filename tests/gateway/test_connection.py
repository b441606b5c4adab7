from __future__ import annotations

import math
import ssl

import pytest
from hypothesis import example, given, settings, strategies as st

from leeward.gateway.connection import HEAD_BYTES_MAX, IDLE_S
from leeward.gateway.exchange import DRAIN_S, Exchange, TransportError
from still_connection import BYTES_MAX, DEADLINE_S, HEAD_S, STALL_S, Call, cut
from upstreams import answer, chunked

HUGE = 10**9

WHOLE = [
    answer(b'{"a":1}', headers=b"X-One: 1\r\nx-two:2\r\n"),
    answer(b""),
    chunked(b"data: a\n\n", b"data: b\n\n", b"x" * 300),
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + answer(b"after hints"),
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\ntrailer: x\r\n\r\n",
    b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    answer(b"busy", status="503 Busy", headers=b"connection: close\r\nretry-after: 3\r\n"),
    answer(b"moved", status="302 Found", headers=b"location: http://169.254.169.254/\r\n"),
    answer(b"packed", status="502 Bad", headers=b"content-encoding: gzip\r\n"),
]
BROKEN = {  # bytes that are no answer → why not
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "protocol"),
    "HTTP/2's settings and GOAWAY": (b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0d\0\0\10\7\0\0\0\0\0\0\0\0\1\0\0\0\2", "protocol"),
    "HTTP/2 in words": (b"HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok", "protocol"),
    "HTTP/0.9": (b"HTTP/0.9 200 OK\r\ncontent-length: 2\r\n\r\nok", "protocol"),
    "status 99": (b"HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n", "protocol"),
    "status 600": (b"HTTP/1.1 600 High\r\ncontent-length: 0\r\n\r\n", "protocol"),
    "another protocol": (b"HTTP/1.1 101 Ok\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", "protocol"),
    "length and chunked": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "protocol",
    ),
    "chunked and length": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "protocol",
    ),
    "two lengths": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", "protocol"),
    "no number": (b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok", "protocol"),
    "other coding": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "protocol"),
    "folded header": (b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok", "protocol"),
    "bare line feeds": (b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok", "protocol"),
    "NUL in a header": (b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\nok", "protocol"),
    "no chunk": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n", "protocol"),
    "chunk too long": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n", "protocol"),
    "compressed": (answer(b"gzip", headers=b"Content-Encoding: gzip\r\n"), "protocol"),
    "a length over the limit": (b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\nok" % (BYTES_MAX + 1), "too_large"),
    "a length beyond numbers": (b"HTTP/1.1 200 OK\r\ncontent-length: %s\r\n\r\nok" % (b"9" * 40), "protocol"),
    "chunks over the limit": (chunked(b"x" * 600, b"x" * 600), "too_large"),
    "no end, over the limit": (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (BYTES_MAX + 1), "too_large"),
    "a header of 1 MB": (b"HTTP/1.1 200 OK\r\nx: " + b"y" * (1 << 20), "too_large"),
    "many headers": (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000, "too_large"),
    "endless hints": (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 4_000, "too_large"),
    "endless trailers": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + b"x: y\r\n" * 20_000,
        "too_large",
    ),
}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WHOLE), st.lists(st.integers(0, 500), max_size=8))
def test_any_pieces_of_an_answer_give_the_same_result(data, places):
    once, pieces = Call().feed(data), Call().feed(*cut(data, places))
    assert once.outcome == pieces.outcome
    assert once.outcome[2] == ""
    assert once.exchange.headers == pieces.exchange.headers
    assert once.owner.told == pieces.owner.told


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(BROKEN)), st.lists(st.integers(0, 500), max_size=8))
def test_g10_any_pieces_of_a_broken_answer_give_the_same_error(name, places):
    data, kind = BROKEN[name]
    pieces = Call().feed(*cut(data, places))
    assert pieces.outcome[2] == kind
    assert pieces.socket.aborted
    assert pieces.owner.told == ["made", "useless"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(WHOLE)), max_size=6), st.booleans())
@example([b"HTTP/1.1 200 OK\r\n\r\n"], True)
def test_any_bytes_end_in_an_answer_or_an_error_and_never_in_an_exception(parts, push):
    call = Call(push=push).feed(*parts)
    if not call.socket.aborted:
        call.connection.eof_received()
    call.connection.connection_lost(None)
    assert call.exchange.ended or not call.exchange.started
    assert call.owner.told[-2:] == ["useless", "gone"]
    assert call.owner.told.count("useless") == 1
    assert not call.loop.pending()


@pytest.mark.parametrize("name", BROKEN)
def test_g10_bytes_that_are_no_answer_are_refused_with_a_reason_and_the_connection_is_closed(name):
    data, kind = BROKEN[name]
    whole, bytewise = Call().feed(*cut(data)), Call()
    assert whole.outcome[2] == kind
    assert str(whole.ends[0]).startswith(kind + ": ")
    assert whole.ends[0].sent
    assert whole.socket.aborted
    bytewise.feed(*(data[place : place + 1] for place in range(min(len(data), 2 * HEAD_BYTES_MAX))))
    assert bytewise.outcome[2] == kind


@pytest.mark.parametrize("surplus", [answer(b"second"), b"junk", b"HTTP/1.1 "])
@pytest.mark.parametrize("first", [answer(b"one"), chunked(b"one"), answer(b"one", headers=b"connection: close\r\n")])
def test_g10_bytes_behind_an_answer_spoil_it_in_the_same_read_and_the_connection_in_the_next(first, surplus):
    at_once = Call().feed(first + surplus)
    assert at_once.outcome == (200, b"one", "protocol")
    later = Call().feed(first, surplus)
    assert later.outcome == (200, b"one", "")
    assert at_once.socket.aborted
    assert later.socket.aborted
    assert later.owner.told[-1] == "useless"


def test_g10_a_head_over_the_limit_is_refused_though_it_comes_in_one_read_with_the_body():
    headers = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 1000) for number in range(66))
    assert Call().feed(answer(b"ok", headers=headers)).outcome[2] == "too_large"


def test_a_long_stream_of_small_chunks_is_not_taken_for_a_large_head():
    call = Call(bytes_max=HUGE).feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(HEAD_BYTES_MAX):
        call.feed(b"1\r\n", b"x", b"\r\n")
    assert call.feed(b"0\r\n\r\n").outcome == (200, b"x" * HEAD_BYTES_MAX, "")


def test_what_one_read_brought_is_pushed_in_one_piece():
    call = Call().feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n", b"1\r\nd\r\n")
    assert call.data == [b"abc", b"d"]


def test_what_came_before_the_push_is_delivered_first_and_so_is_the_end():
    call = Call(push=False).feed(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nab", b"cd")
    call.exchange.forward(call.data.append, call.ends.append)
    assert (call.data, call.ends) == ([b"abcd"], [])
    call.feed(b"ef")
    assert (call.data, call.ends) == ([b"abcd", b"ef"], [None])
    late = Call(push=False).feed(answer(b"all"))
    late.exchange.forward(late.data.append, late.ends.append)
    assert (late.data, late.ends) == ([b"all"], [None])


def test_a_compressed_refusal_counts_by_its_status_and_its_body_is_dropped():
    assert Call().feed(answer(b"packed", status="429 Slow", headers=b"content-encoding: br\r\n")).outcome == (
        429,
        b"",
        "",
    )


def test_a_body_without_a_length_ends_where_the_connection_ends():
    call = Call().feed(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd")
    assert call.outcome[2] is None
    call.connection.eof_received()
    assert call.outcome == (200, b"abcd", "")
    assert call.owner.told[-1] == "useless"


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ([], "reset"),
        ([b"HT"], "truncated"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"], "truncated"),
        ([chunked(b"data")[:-5]], "truncated"),
    ],
)
def test_an_end_before_the_end_of_the_answer_is_an_error(parts, kind):
    call = Call().feed(*parts)
    call.connection.eof_received()
    assert call.outcome[2] == kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [(None, "reset"), (ConnectionResetError(), "reset"), (TimeoutError(), "reset"), (ssl.SSLError(), "tls")],
)
def test_a_lost_connection_is_told_by_its_cause(error, kind):
    call = Call().feed(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")
    call.connection.connection_lost(error)
    assert call.outcome == (200, b"ab", kind)
    assert call.owner.told == ["made", "useless", "gone"]


def test_a_connection_serves_one_request_after_the_other():
    call = Call().feed(answer(b"one"))
    call.begin()
    call.feed(chunked(b"two"))
    call.begin()
    call.feed(answer(b"three"))
    assert call.outcome == (200, b"three", "")
    assert call.owner.told == ["made", "free", "free", "free"]
    assert call.socket.sent == b"HEADBODY" * 3


@pytest.mark.parametrize(
    "data",
    [
        answer(b"bye", headers=b"connection: close\r\n"),
        b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nbye",
    ],
)
def test_a_connection_that_the_answer_closes_is_not_used_again(data):
    call = Call().feed(data)
    assert call.outcome == (200, b"bye", "")
    assert call.socket.aborted
    assert call.owner.told == ["made", "useless"]


def test_a_connection_is_not_used_again_while_some_of_its_request_is_unsent():
    call = Call()
    call.socket.unsent = 1
    assert call.feed(answer(b"too early")).outcome == (200, b"too early", "")
    assert call.owner.told == ["made", "useless"]


def test_a_large_body_is_written_without_being_copied():
    call = Call().feed(answer())
    writes = []
    call.socket.write = writes.append
    body = b"x" * 100_000
    call.connection.send(Exchange(bytes_max=1, limit_s=math.inf, stall_s=1.0), b"HEAD", body, HEAD_S)
    assert writes == [b"HEAD", body]
    assert writes[1] is body


def test_a_request_on_a_lost_connection_fails_as_reset():
    call = Call().feed(answer())
    call.connection.connection_lost(None)
    call.begin()
    assert call.outcome[2] == "reset"
    assert not call.loop.pending()


@pytest.mark.parametrize(
    ("parts", "waits_s", "kind"),
    [
        ([], HEAD_S, "head_timeout"),
        ([b"HTTP/1.1 200 OK\r\nx: "], HEAD_S, "head_timeout"),
        ([b"HTTP/1.1 103 Early Hints\r\n\r\n"], HEAD_S, "head_timeout"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"], STALL_S, "stall"),
    ],
)
def test_silence_ends_the_exchange_at_its_limit_and_not_before(parts, waits_s, kind):
    call = Call().feed(*parts)
    call.loop.advance(waits_s - 0.01)
    assert call.ends == []
    call.loop.advance(0.02)
    assert call.outcome[2] == kind
    assert call.socket.aborted
    assert not call.loop.pending()


def test_bytes_before_the_head_is_whole_do_not_extend_the_time_for_it():
    call = Call()
    for _ in range(9):
        call.loop.advance(1.0)
        call.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    call.loop.advance(1.0)
    assert call.outcome[2] == "head_timeout"


def test_the_deadline_holds_though_bytes_keep_coming():
    call = Call(bytes_max=HUGE).feed(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(int(DEADLINE_S) - 1):
        call.loop.advance(1.0)
        call.feed(b"x")
    assert call.ends == []
    call.loop.advance(1.0)
    assert call.outcome[2] == "deadline"


def test_a_stream_sets_few_timers_however_many_reads_it_has():
    call = Call(bytes_max=HUGE).feed(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(1000):
        call.loop.advance(0.01)
        call.feed(b"x")
    assert len(call.loop.pending()) == 1
    assert call.loop.set <= 6  # ten seconds of a limit of five


def test_requests_on_a_kept_connection_set_few_timers():
    call = Call().feed(answer())
    for _ in range(100):
        call.begin()
        call.feed(answer())
    assert len(call.loop.pending()) == 1
    assert call.loop.set == 1


def test_content_must_come_by_the_moment_that_was_set_unless_it_is_lifted():
    call = Call(bytes_max=HUGE).feed(b"HTTP/1.1 200 OK\r\n\r\n")
    call.exchange.set_content_by(7.0)
    for _ in range(6):
        call.loop.advance(1.0)
        call.feed(b": keep-alive\n\n")
    assert call.ends == []
    call.loop.advance(1.0)
    assert call.outcome[2] == "head_timeout"
    lifted = Call(bytes_max=HUGE).feed(b"HTTP/1.1 200 OK\r\n\r\n")
    lifted.exchange.set_content_by(3.0)
    lifted.exchange.set_content_by(None)
    lifted.loop.advance(4.0)
    assert lifted.ends == []


def test_the_stall_limit_can_be_changed_and_lifted():
    call = Call().feed(b"HTTP/1.1 200 OK\r\n\r\n")
    call.exchange.set_stall(1.0)
    call.loop.advance(1.0)
    assert call.outcome[2] == "stall"
    lifted = Call().feed(b"HTTP/1.1 200 OK\r\n\r\n")
    lifted.exchange.set_stall(None)
    lifted.loop.advance(DEADLINE_S - 1.0)
    assert lifted.ends == []


def test_a_paused_answer_cannot_stall_but_keeps_its_deadline():
    call = Call().feed(b"HTTP/1.1 200 OK\r\n\r\n")
    call.exchange.pause()
    call.exchange.pause()
    assert not call.socket.reads
    call.loop.advance(DEADLINE_S - 1.0)
    assert call.ends == []
    call.exchange.resume()
    assert call.socket.reads
    call.loop.advance(1.0)
    assert call.outcome[2] == "deadline"
    resumed = Call().feed(b"HTTP/1.1 200 OK\r\n\r\n")
    resumed.exchange.pause()
    resumed.loop.advance(20.0)
    resumed.exchange.resume()
    resumed.loop.advance(STALL_S)
    assert resumed.outcome[2] == "stall"


def test_a_connection_goes_back_reading_though_its_last_exchange_was_paused():
    call = Call().feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
    call.exchange.pause()
    call.feed(b"ok")  # TLS may still hold bytes that were read before
    assert call.socket.reads
    assert call.owner.told == ["made", "free"]


def test_a_closing_connection_is_neither_paused_nor_resumed():
    call = Call().feed(b"HTTP/1.1 200 OK\r\n\r\n")
    call.exchange.pause()
    call.socket.aborted = True
    call.exchange.resume()
    assert not call.socket.reads
    call.exchange.pause()
    assert not call.connection.is_usable()


def test_a_cancelled_exchange_closes_its_connection_and_says_nothing_more():
    call = Call().feed(b"HTTP/1.1 200 OK\r\n\r\nab")
    call.exchange.cancel()
    assert call.socket.aborted
    assert (call.data, call.ends) == ([b"ab"], [])
    assert not call.loop.pending()
    call.exchange.cancel()
    call.connection.data_received(b"cd")
    call.connection.connection_lost(None)
    assert call.owner.told == ["made", "useless", "gone"]


@pytest.mark.parametrize("rest", [b"", b"cd", b"cd and more than was announced"])
def test_an_exchange_may_be_cancelled_from_its_own_push(rest):
    call = Call(push=False)
    call.exchange.forward(lambda _: call.exchange.cancel(), call.ends.append)
    call.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab" + rest)
    assert call.ends == []
    assert call.exchange.ended
    assert call.owner.told == (["made", "free"] if rest == b"cd" else ["made", "useless"])


def test_controls_of_an_ended_exchange_do_not_touch_the_next_one():
    call = Call().feed(answer())
    ended = call.exchange
    call.begin()
    call.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
    ended.pause()
    ended.resume()
    ended.set_stall(0.0)
    ended.set_content_by(0.0)
    ended.drain()
    ended.cancel()
    call.loop.advance(1.0)
    assert call.feed(b"ok").outcome == (200, b"ok", "")


def test_a_drained_exchange_keeps_its_connection_if_the_end_comes_soon():
    call = Call().feed(chunked(b"[DONE]")[:-5])
    call.exchange.pause()
    call.exchange.drain()
    call.feed(b"0\r\n\r\n")
    assert (call.data, call.ends) == ([b"[DONE]"], [])
    assert call.owner.told == ["made", "free"]
    slow = Call().feed(chunked(b"[DONE]")[:-5])
    slow.exchange.drain()
    slow.loop.advance(DRAIN_S)
    assert slow.socket.aborted


def test_an_idle_connection_closes_when_it_is_old_or_the_other_side_speaks_or_leaves():
    old, spoken, left = (Call().feed(answer()) for _ in range(3))
    old.loop.advance(IDLE_S - 1.0)
    assert not old.socket.aborted
    old.loop.advance(1.0)
    spoken.feed(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    left.connection.eof_received()
    for call in (old, spoken, left):
        assert call.socket.aborted
        assert call.owner.told == ["made", "free", "useless"]
        call.connection.measure()
        call.connection.end_within(1.0)
        assert not call.loop.pending()


def test_headers_are_found_by_their_lower_case_name():
    exchange = Call().feed(answer(headers=b"Retry-After: 3\r\nretry-after: 4\r\n")).exchange
    assert exchange.header(b"retry-after") == b"3"
    assert exchange.header(b"x-none") == b""


def test_an_error_says_its_kind_and_what_was_wrong():
    error = TransportError("stall", sent=True, detail="the answer stopped")
    assert (error.kind, error.sent, error.detail, str(error)) == (
        "stall", True, "the answer stopped", "stall: the answer stopped",
    )  # fmt: skip
    assert str(TransportError("dns", sent=False)) == "dns"
