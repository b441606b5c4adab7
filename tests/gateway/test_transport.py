from __future__ import annotations

import asyncio
import contextlib
import gc
import socket

import pytest
from hypothesis import given, settings, strategies as st

from leeward.gateway.origin import Endpoint, Origin
from leeward.gateway.transport import TransportError, header_lines
from upstreams import CLOSE, HANG, HEADERS, LOOPS, RESET, Caller, answer, chunked, run, serving, until

SOON_S = 0.02


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def loop(request):
    return request.param


async def error_of(awaitable) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await awaitable
    return caught.value


def test_a_request_goes_out_whole_and_its_answer_comes_back(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer(b'{"ok":true}', headers=b"X-Request-Id: r1\r\n")]) as (upstream, endpoint):
            exchange = await caller.begin(endpoint, b'{"model":"m"}')
            assert (exchange.status, exchange.header(b"x-request-id")) == (200, b"r1")
            assert await exchange.read() == b'{"ok":true}'
            assert await exchange.read() == b'{"ok":true}'
            port = endpoint.origin.port
            assert upstream.requests == [
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept-encoding: identity\r\n"
                b"authorization: Bearer sk-test\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n"
                b'{"model":"m"}' % port
            ]

    run(loop, work)


def test_a_get_has_no_body_and_a_post_without_one_says_so(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer(b"[]")]) as (upstream, endpoint):
            await caller.read(endpoint, b"", method=b"GET", target=b"/v1/models")
            await caller.read(endpoint, b"")
            assert upstream.requests[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
            assert b"content-length" not in upstream.requests[0]
            assert b"content-length: 0\r\n" in upstream.requests[1]

    run(loop, work)


def test_a_hundred_calls_take_one_connection(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer()], [chunked(b"a", b"b")], [answer(status="500 Bad")]) as (upstream, endpoint):
            for _ in range(100):
                await caller.read(endpoint)
            assert upstream.connections == 1
            statistics = caller.transport.statistics()
            assert (statistics.connections_opened, statistics.requests, statistics.reused) == (1, 100, 99)
            assert (statistics.open, statistics.idle, statistics.races) == (1, 1, 0)

    run(loop, work)


async def garbage_of(work) -> list[object]:
    """What only the collector of cycles could free after `work`."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await work()
        gc.collect()
        return list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.enable()
        gc.garbage.clear()


def test_two_hundred_requests_on_a_kept_connection_leave_no_garbage(loop):
    async def work(caller: Caller) -> None:
        async with serving(*[[chunked(b"data: 1\n\n")], [answer(b"x" * 10)]] * 101) as (_, endpoint):

            async def requests() -> None:
                for _ in range(200):
                    await caller.read(endpoint)

            await caller.read(endpoint)
            assert await garbage_of(requests) == []

    run(loop, work)


@pytest.mark.parametrize("script", [[answer(headers=b"connection: close\r\n")], [CLOSE], [RESET], [b"junk"]])
def test_new_connections_and_failures_leave_no_garbage_either(loop, script):
    async def work(caller: Caller) -> None:
        async with serving(script) as (_, endpoint):

            async def requests() -> None:
                for _ in range(50):
                    with contextlib.suppress(TransportError):
                        await caller.read(endpoint)
                await until(lambda: not caller.transport._pool.sockets)

            garbage = await garbage_of(requests)  # the server of the test leaves some
            assert [thing for thing in garbage if type(thing).__module__.startswith(("leeward", "httptools"))] == []

    run(loop, work)


def test_requests_at_the_same_time_take_a_connection_each_and_the_last_used_is_used_first(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer()]) as (upstream, endpoint):
            await asyncio.gather(*(caller.read(endpoint) for _ in range(5)))
            assert upstream.connections == 5
            assert caller.transport.statistics().idle == 5
            host = caller.transport._pool.hosts[endpoint]
            last = host.idle[-1]
            await caller.read(endpoint)
            assert host.idle[-1] is last

    run(loop, work)


def test_more_connections_than_allowed_are_refused_at_once(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer(), HANG]) as (upstream, shown):
            endpoint = Endpoint(shown.origin, connections_max=1)
            first = await caller.begin(endpoint)
            await first.read()
            upstream.scripts = [[HANG]]
            busy = asyncio.ensure_future(caller.begin(endpoint))
            await asyncio.sleep(0)
            error = await error_of(caller.begin(endpoint))
            assert (error.kind, error.sent) == ("pool_full", False)
            busy.cancel()
            await asyncio.wait([busy])

    run(loop, work)


def test_endpoints_do_not_share_connections(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer()]) as (upstream, endpoint):
            await caller.read(endpoint)
            await caller.read(Endpoint(endpoint.origin))
            assert upstream.connections == 2

    run(loop, work)


def test_g12_redirects_are_answers_and_nobody_follows_them(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer()]) as (target, endpoint_of_target):
            location = b"location: http://127.0.0.1:%d/\r\n" % endpoint_of_target.origin.port
            async with serving([answer(status="307 Temporary Redirect", headers=location)]) as (_, endpoint):
                assert (await caller.begin(endpoint)).status == 307
            assert target.connections == 0

    run(loop, work)


def test_a_stream_is_pushed_as_it_comes(loop):
    async def work(caller: Caller) -> None:
        events = [b"data: %d\n\n" % number for number in range(50)]
        async with serving([chunked(*events)]) as (_, endpoint):
            exchange = await caller.begin(endpoint)
            data, ended = [], asyncio.get_running_loop().create_future()
            exchange.forward(data.append, ended.set_result)
            assert await ended is None
            assert b"".join(data) == b"".join(events)

    run(loop, work)


def test_a_slow_reader_holds_the_provider_back(loop):
    async def work(caller: Caller) -> None:
        size = 30_000_000
        async with serving([answer(b"x" * size)]) as (_, endpoint):
            exchange = await caller.begin(endpoint, bytes_max=size)
            loop, got, ended = asyncio.get_running_loop(), [], asyncio.get_running_loop().create_future()

            def take(data: bytes) -> None:
                got.append(len(data))
                exchange.pause()
                loop.call_soon(exchange.resume)

            exchange.forward(take, ended.set_result)
            assert await ended is None
            assert sum(got) == size
            assert len(got) > 20

    run(loop, work)


@pytest.mark.parametrize("place", ["head", "body", "push"])
def test_a_cancelled_call_closes_its_connection_and_leaves_nothing(loop, place):
    async def work(caller: Caller) -> None:
        head = b"" if place == "head" else b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsome"
        async with serving([head, HANG]) as (upstream, endpoint):
            if place == "push":
                exchange = await caller.begin(endpoint)
                exchange.forward(lambda _: None, lambda _: pytest.fail("said something"))
                exchange.cancel()
            else:
                calling = asyncio.ensure_future(caller.read(endpoint))
                await until(lambda: upstream.requests and (place == "head" or _is_reading(caller)))
                calling.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await calling
            await until(lambda: upstream.ended)
            statistics = caller.transport.statistics()
            assert (statistics.open, statistics.idle) == (0, 0)

    run(loop, work)


def _is_reading(caller: Caller) -> bool:
    """Whether the head is there and the body is waited for."""
    (connection,) = caller.transport._pool.sockets
    exchange = connection._exchange
    return exchange is not None and exchange.status and not exchange.waiter.done()


def test_a_call_cancelled_while_it_connects_leaves_nothing(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer()]) as (_, endpoint):
            for turns in range(6):
                calling = asyncio.ensure_future(caller.read(endpoint))
                for _ in range(turns):
                    await asyncio.sleep(0)
                if calling.cancel():
                    with pytest.raises(asyncio.CancelledError):
                        await calling
            await until(lambda: len(caller.transport._pool.sockets) <= caller.transport.statistics().idle)
            statistics = caller.transport.statistics()
            assert statistics.open == statistics.idle

    run(loop, work)


@pytest.mark.parametrize(
    ("script", "changes", "kind"),
    [
        ([HANG], {"head_timeout_s": SOON_S}, "head_timeout"),
        ([HANG], {"deadline_in_s": SOON_S}, "deadline"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nx", HANG], {"stall_timeout_s": SOON_S}, "stall"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nx", CLOSE], {"stall_timeout_s": None}, "truncated"),
        ([CLOSE], {}, "reset"),
    ],
)
def test_g1_an_answer_that_does_not_come_is_an_error_that_says_why(loop, script, changes, kind):
    async def work(caller: Caller) -> None:
        async with serving(script) as (upstream, endpoint):
            error = await error_of(caller.read(endpoint, **changes))
            assert (error.kind, error.sent) == (kind, True)
            assert upstream.connections == 1

    run(loop, work)


def test_a_call_after_its_deadline_sends_nothing(loop):
    async def work(caller: Caller) -> None:
        async with serving() as (upstream, endpoint):
            error = await error_of(caller.begin(endpoint, deadline_in_s=0.0))
            assert (error.kind, error.sent) == ("deadline", False)
            assert upstream.connections == 0

    run(loop, work)


def test_g1_a_refused_connection_is_told_at_once_and_nothing_was_sent(loop):
    async def work(caller: Caller) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            endpoint = Endpoint(Origin.of(f"http://127.0.0.1:{unused.getsockname()[1]}"))
            error = await error_of(caller.begin(endpoint))
        assert (error.kind, error.sent, error.detail) == ("connect_refused", False, "ECONNREFUSED")
        assert caller.transport._pool.hosts == {}

    run(loop, work)


@pytest.mark.parametrize(("changes", "kind"), [({}, "connect_timeout"), ({"deadline_in_s": SOON_S}, "deadline")])
def test_g1_a_server_that_takes_no_connection_is_a_time_out(loop, changes, kind):
    async def work(caller: Caller) -> None:
        with socket.socket() as full, socket.socket() as first:  # a backlog of nobody, and it is taken
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            first.connect(full.getsockname())
            endpoint = Endpoint(Origin.of(f"http://127.0.0.1:{full.getsockname()[1]}"))
            changed = changes or {"connect_timeout_s": SOON_S}
            error = await error_of(caller.begin(endpoint, **changed))
        assert (error.kind, error.sent) == (kind, False)
        assert caller.transport.statistics().open == 0

    run(loop, work)


def test_localhost_is_found_without_asking_anyone(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer(b"here")]) as (_, endpoint):
            assert await caller.read(Endpoint(Origin.of(f"http://localhost:{endpoint.origin.port}"))) == b"here"

    run(loop, work, resolver=_Nobody())


class _Nobody:
    async def addresses(self, name, port):
        raise AssertionError(name)


def test_a_closed_transport_fails_what_is_under_way_and_begins_nothing(loop):
    async def work(caller: Caller) -> None:
        async with serving([HANG]) as (upstream, endpoint):
            calling = asyncio.ensure_future(caller.begin(endpoint))
            await until(lambda: upstream.requests)
            await caller.transport.close()
            assert (await error_of(calling)).kind == "reset"
            error = await error_of(caller.begin(endpoint))
            assert (error.kind, error.sent) == ("reset", False)

    run(loop, work)


def test_a_transport_that_is_closed_while_it_connects_gives_no_connection_out(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer()]) as (_, endpoint):
            calling = asyncio.ensure_future(caller.begin(endpoint))
            await asyncio.sleep(0)
            await caller.transport.close()
            error = await error_of(calling)
            assert (error.kind, error.sent) == ("reset", False)
            assert caller.transport.statistics().open == 0

    run(loop, work)


def test_a_transport_belongs_to_one_event_loop():
    caller = Caller()

    async def first() -> None:
        async with serving([answer()]) as (_, endpoint):
            await caller.read(endpoint)
            await caller.transport.close()

    asyncio.run(first())
    with pytest.raises(RuntimeError, match="one for each loop"):
        asyncio.run(first())


def test_small_writes_are_not_held_back(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer()]) as (_, endpoint):
            await caller.read(endpoint)
            (connection,) = caller.transport._pool.sockets
            assert connection._socket.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(loop, work)


def test_g13_headers_are_made_of_what_headers_are_made_of():
    lines = header_lines([("Authorization", "Bearer k"), ("x-a", ""), ("anthropic-beta", "a,\tb")])
    assert lines == b"authorization: Bearer k\r\nx-a: \r\nanthropic-beta: a,\tb\r\n"
    assert header_lines([]) == b""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "a\r\nhost: b"), ("x", "a\nb"), ("x", "a\rb"), ("x", "a\0b"), ("x", "ä"), ("x", "a\x7f"), ("x", " a"),
        ("x", "a\x85b"), ("x", "a\u2028b"), ("x: y\r\nz", "a"), ("", "a"), ("x y", "a"), ("ä", "a"), ("x:", "a"),
        ("Host", "a"), ("Content-Length", "3"), ("transfer-encoding", "chunked"), ("Connection", "close"), ("te", "x"),
        ("Keep-Alive", "x"), ("upgrade", "h2c"), ("Proxy-Authorization", "x"), ("trailer", "x"), ("expect", "100"),
        ("Accept-Encoding", "gzip"), ("AUTHORIZATION", "Bearer of another"),
    ],
)  # fmt: skip
def test_g13_a_header_that_would_be_another_or_is_not_the_caller_s_is_refused(name, value):
    with pytest.raises(ValueError, match="header") as refused:
        header_lines([("authorization", "Bearer k"), (name, value)])
    assert not value or value.strip() not in str(refused.value).replace(repr(name), "") or len(value) < 5


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=12)), max_size=4))
def test_g13_any_texts_make_one_line_a_field_or_are_refused(fields):
    try:
        lines = header_lines(fields)
    except ValueError:
        return
    assert lines.count(b"\n") == lines.count(b"\r") == lines.count(b"\r\n") == len(fields)
    assert lines.isascii()


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (b"/v1/x\r\nhost: evil", HEADERS), (b"/v1/x y", HEADERS), (b"/v1/\0", HEADERS), (b"/\xc3\xa4", HEADERS),
        (b"", HEADERS), (b"http://evil.example/", HEADERS), (b"*", HEADERS),
        (b"/", b"x: a\n"), (b"/", b"x: a\r"), (b"/", b"x: a"), (b"/", b"x: a\r\n\r\n"), (b"/", b"\r\nx: a\r\n"),
        (b"/", b"x: a\0\r\n"), (b"/", b"x: \xff\r\n"), (b"/", b"x: a\n\r\r\n"), (b"/", b"x: a\r\n\r\nGET / HTTP/1.1\r\n"),
    ],
)  # fmt: skip
def test_g13_what_would_break_out_of_the_head_is_refused_before_anything_is_sent(target, headers):
    async def work(caller: Caller) -> None:
        async with serving() as (upstream, endpoint):
            with pytest.raises(ValueError, match=r"target|headers"):
                await caller.begin(endpoint, target=target, headers=headers)
            assert upstream.connections == 0
            assert caller.transport._pool.hosts == {}

    run(asyncio.new_event_loop, work)
