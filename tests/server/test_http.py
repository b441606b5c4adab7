"""Requests and answers in plain values; bodies read within their limits."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import threading

import msgspec
import pytest

from leeward.errors import ConfigError, LeewardError, ProtocolError, RateLimited, Unavailable
from leeward.server import http
from leeward.server.http import BodyLimits, ByteBudget, ClientGone, Request, error_response, json_response, read_body
from leeward.server.unpack import unpack

LIMITS = BodyLimits(packed_bytes_max=1000, unpacked_bytes_max=2000)


def request(*, headers=(), query=b"", receive=None, client=("192.0.2.1", 5)):
    scope = {"method": "POST", "path": "/x", "query_string": query, "headers": list(headers), "client": client}
    return Request(scope, receive, "r-1")


class Arriving:
    """A body that comes in these parts; after the last the client is still there, or gone, or silent."""

    def __init__(self, *parts, then="end"):
        self.messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        if then == "end":
            self.messages[-1]["more_body"] = False
        elif then == "gone":
            self.messages.append({"type": "http.disconnect"})
        self.taken = 0

    async def __call__(self):
        if self.taken == len(self.messages):
            await asyncio.Event().wait()
        self.taken += 1
        return self.messages[self.taken - 1]


def read(receive, *, headers=(), limits=LIMITS, budget=None):
    async def reading():
        with (budget or ByteBudget(1 << 30)).lease() as lease:
            return await read_body(request(headers=headers, receive=receive), limits, lease)

    return asyncio.run(reading())


def refusal(receive, **more):
    with pytest.raises(ProtocolError) as refused:
        read(receive, **more)
    return refused.value.status, refused.value.code


GZIP = [(b"content-encoding", b"gzip")]


def test_a_body_is_read_whole_however_it_is_divided():
    assert read(Arriving(b"one")) == b"one"
    assert read(Arriving(b"a", b"", b"bc", b"d")) == b"abcd"
    assert read(Arriving(b"")) == b""
    assert read(Arriving(gzip.compress(b"text")[:7], gzip.compress(b"text")[7:]), headers=GZIP) == b"text"


def test_i5_a_body_of_the_limit_is_taken_and_a_byte_more_refused():
    assert len(read(Arriving(b"x" * 2000))) == 2000, "plain, only the limit of what is unpacked counts"
    assert refusal(Arriving(b"x" * 2001)) == (413, "payload_too_large")
    assert refusal(Arriving(b"x" * 1001), headers=GZIP) == (413, "payload_too_large")


def test_i5_a_body_that_says_its_size_is_refused_before_any_of_it_is_read():
    for declared in (b"2001", b"9" * 5000):
        body = Arriving(b"x" * 2001)
        assert refusal(body, headers=[(b"content-length", declared)]) == (413, "payload_too_large")
        assert body.taken == 0


@pytest.mark.parametrize("declared", [b"+5", b"-1", b"", b"five", b"0x5"])
def test_i9_a_length_that_is_no_number_says_nothing(declared):
    assert read(Arriving(b"text"), headers=[(b"content-length", declared)]) == b"text"


def test_i5_reading_ends_with_the_part_that_is_too_much():
    body = Arriving(*[b"x" * 400] * 50)

    assert refusal(body) == (413, "payload_too_large")
    assert body.taken == 6


def test_i6_the_unpacked_limit_holds_with_and_without_an_encoding():
    narrow = BodyLimits(packed_bytes_max=1000, unpacked_bytes_max=100)

    assert refusal(Arriving(gzip.compress(bytes(101))), headers=GZIP, limits=narrow) == (413, "payload_too_large")
    assert refusal(Arriving(bytes(101)), limits=narrow) == (413, "payload_too_large")
    assert refusal(Arriving(b"x"), headers=[(b"content-encoding", b"lzma")]) == (415, "unsupported_encoding")


@pytest.mark.parametrize(("packed_bytes", "beside"), [(16 * 1024, False), (16 * 1024 + 1, True)])
def test_i13_what_may_become_large_is_unpacked_beside_the_event_loop(monkeypatch, packed_bytes, beside):
    threads = []

    def noted(packed, encoding, bytes_max):
        threads.append(threading.current_thread() is not threading.main_thread())
        return unpack(packed, encoding, bytes_max)

    monkeypatch.setattr(http, "unpack", noted)
    noise = os.urandom(packed_bytes)
    packed = next(p for cut in range(100) if len(p := gzip.compress(noise[cut:], mtime=0)) == packed_bytes)

    assert noise.endswith(read(Arriving(packed), headers=GZIP, limits=BodyLimits()))
    assert threads == [beside]


def test_i8_a_body_that_does_not_come_is_given_up():
    assert refusal(Arriving(b"x", then="silence"), limits=BodyLimits(timeout_s=0.001)) == (408, "timeout")


def test_a_client_that_leaves_is_not_answered():
    for body in (Arriving(b"x", then="gone"), Arriving(then="gone")):
        with pytest.raises(ClientGone):
            read(body)


def test_the_budget_of_all_requests_is_kept_while_reading_and_given_back():
    budget = ByteBudget(1500)
    held = budget.lease()
    held.grow(700)

    with pytest.raises(RateLimited) as refused:
        read(Arriving(b"x" * 500, b"x" * 301), budget=budget)
    assert refused.value.retry_after_s == 1
    assert budget.held == 700
    assert read(Arriving(b"x" * 800), budget=budget) == b"x" * 800
    assert budget.held == 700


def test_i6_unpacked_bytes_count_in_the_budget_too():
    budget = ByteBudget(500)

    with pytest.raises(RateLimited):
        read(Arriving(gzip.compress(bytes(600))), headers=GZIP, budget=budget)
    assert budget.held == 0


# Requests


def test_headers_are_found_by_name_and_the_peer_has_an_address():
    asked = request(headers=[(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])

    assert (asked.header(b"a"), asked.header(b"b"), asked.header(b"c")) == (b"1", b"2", b"")
    assert len(asked.headers) == 3
    assert asked.client_address == "192.0.2.1"
    assert request(client=None).client_address == ""


def test_a_query_string_is_read_as_a_form_is():
    assert request(query=b"").query() == {}
    assert request(query=b"a=1&b=&c=%C3%A9+x").query() == {"a": "1", "b": "", "c": "é x"}


@pytest.mark.parametrize("query", [b"a=1&a=2", b"a", b"a=1&", b"=&&", b"a=%ff", b"a=\xff", b"a=%C0%80"])
def test_a6_a_query_string_that_can_be_read_in_two_ways_is_refused(query):
    with pytest.raises(ProtocolError) as refused:
        request(query=query).query()
    assert (refused.value.status, refused.value.code) == (400, "invalid_query")


# Answers


def test_values_are_answered_as_json():
    answer = json_response({"a": 1}, 201, [(b"x", b"y")])

    assert (answer.status, answer.body) == (201, b'{"a":1}')
    assert answer.headers == [(b"content-type", b"application/json"), (b"x", b"y")]


@pytest.mark.parametrize(
    ("error", "status", "body", "header"),
    [
        (ProtocolError("No", code="c"), 400, {"error": "No", "code": "c"}, None),
        (ProtocolError("No", code="c", details=("d",)), 400, {"error": "No", "code": "c", "details": ["d"]}, None),
        (
            ProtocolError("No", code="c", status=401),
            401,
            {"error": "No", "code": "c"},
            (b"www-authenticate", b"Bearer"),
        ),
        (
            ProtocolError("No", code="c", status=405, details=("GET", "HEAD")),
            405,
            {"error": "No", "code": "c", "details": ["GET", "HEAD"]},
            (b"allow", b"GET, HEAD"),
        ),
        (
            RateLimited("Wait", retry_after_s=2.4),
            429,
            {"error": "Wait", "code": "rate_limited"},
            (b"retry-after", b"2"),
        ),
        (Unavailable("Wait"), 503, {"error": "Wait", "code": "unavailable"}, (b"retry-after", b"1")),
        (
            Unavailable("Wait", retry_after_s=0.01),
            503,
            {"error": "Wait", "code": "unavailable"},
            (b"retry-after", b"1"),
        ),
        (
            Unavailable("Wait", fix="do this"),
            503,
            {"error": "Wait", "code": "unavailable", "details": ["do this"]},
            (b"retry-after", b"1"),
        ),
    ],
)
def test_every_refusal_is_a_sentence_a_code_and_what_to_do(error, status, body, header):
    answer = error_response(error)

    assert (answer.status, msgspec.json.decode(answer.body)) == (status, body)
    assert header is None or header in answer.headers


@pytest.mark.parametrize("error", [ConfigError("the password is x", fix="type y"), LeewardError("SELECT secret")])
def test_i11_what_fails_inside_is_a_503_that_says_nothing_of_it(error):
    answer = error_response(error)

    assert answer.status == 503
    assert json.loads(answer.body) == {"error": "The server could not answer this request", "code": "unavailable"}
    assert (b"retry-after", b"1") in answer.headers


# Room for large requests


def in_order(scenario):
    """Run the scenario on a loop of its own; gives the notes that it left."""
    notes = []

    async def run():
        await asyncio.wait_for(scenario(notes), 10)

    asyncio.run(run())
    return notes


def test_i6_a_large_request_waits_until_others_have_ended_and_in_its_turn():
    async def scenario(notes):
        budget = ByteBudget(10 << 20)
        first = budget.lease()
        await first.reserve(8 << 20)

        async def another(name, size):
            with budget.lease() as lease:
                await lease.reserve(size)
                notes.append(name)

        waiting = [
            asyncio.create_task(another(*one)) for one in (("large", 9 << 20), ("next", 3 << 20), ("small", 1000))
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert notes == ["small"], "a small one need not wait behind large ones"
        first.shrink(8 << 20)
        await asyncio.gather(*waiting)
        assert budget.held == 0

    assert in_order(scenario) == ["small", "large", "next"]


def test_i6_a_request_that_finds_no_room_in_time_is_refused_and_holds_nothing(monkeypatch):
    monkeypatch.setattr("leeward.server.http.ROOM_WAIT_S", 0)

    async def scenario(notes):
        budget = ByteBudget(10 << 20)
        with budget.lease() as first:
            await first.reserve(9 << 20)
            with budget.lease() as lease:
                with pytest.raises(RateLimited):
                    await lease.reserve(5 << 20)
                notes.append(budget.held)
        notes.append(budget.held)

    assert in_order(scenario) == [9 << 20, 0]


@pytest.mark.parametrize("granted", [False, True])
def test_a_request_whose_client_leaves_while_it_waits_holds_nothing(granted):
    async def scenario(notes):
        budget = ByteBudget(10 << 20)
        first = budget.lease()
        await first.reserve(9 << 20)
        waiting = asyncio.create_task(budget.lease().reserve(5 << 20))
        await asyncio.sleep(0)
        if granted:
            first.shrink(9 << 20)  # its room is there, but it has not run yet
            waiting.cancel()
        else:
            waiting.cancel()
            first.shrink(9 << 20)
        await asyncio.gather(waiting, return_exceptions=True)
        notes.append(budget.held)

    assert in_order(scenario) == [0]


def test_no_request_asks_for_more_room_than_there_is():
    async def scenario(notes):
        budget = ByteBudget(10 << 20)
        with budget.lease() as lease:
            await lease.reserve(100 << 20)
            notes.append(budget.held)

    assert in_order(scenario) == [10 << 20]
