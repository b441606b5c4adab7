"""One connection: whoever is to send the next byte has a limit on it. The timers are held by the test."""

from __future__ import annotations

import asyncio

import pytest
import uvicorn
from uvicorn.server import ServerState

from leeward.server.protocol import LimitedProtocol, limited_protocol

HEAD_S, BODY_S, IDLE_S = 3, 7, 5
HOST = b"Host: x\r\n"
POST = b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"


class HeldTimer:
    def __init__(self, at_s, call, arguments):
        self.at_s, self.call, self.arguments = at_s, call, arguments
        self.over = False

    def cancel(self):
        self.over = True


class HeldLoop:
    """The running loop, but for its timers."""

    def __init__(self, loop):
        self._loop = loop
        self._timers = []
        self._now_s = 0.0

    def create_task(self, coroutine):
        return self._loop.create_task(coroutine)

    def call_later(self, delay_s, call, *arguments):
        timer = HeldTimer(self._now_s + delay_s, call, arguments)
        self._timers.append(timer)
        return timer

    def pass_s(self, seconds):
        self._now_s += seconds
        for timer in list(self._timers):
            if not timer.over and timer.at_s <= self._now_s:
                timer.over = True
                timer.call(*timer.arguments)

    @property
    def waiting(self):
        return [timer for timer in self._timers if not timer.over]


class Transport:
    def __init__(self):
        self.sent = b""
        self.closed = False

    def write(self, data):
        self.sent += data

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def get_extra_info(self, name):
        return None

    unread = 0
    aborted = False

    def get_write_buffer_size(self):
        return self.unread

    def abort(self):
        self.aborted = self.closed = True

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


class Connection:
    """A protocol with an application that answers at once, or once it has read the body."""

    def __init__(self, loop, *, reads=False):
        self.loop = HeldLoop(loop)
        self.transport = Transport()
        self._reads = reads
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_S,
            ws="none",
        )
        config.load()
        kind = limited_protocol(head_timeout_s=HEAD_S, connections_max=10, body_timeout_s=BODY_S)
        self.protocol = kind(config=config, server_state=ServerState(), app_state={}, _loop=self.loop)
        self.protocol.connection_made(self.transport)

    async def _app(self, scope, receive, send):
        while self._reads and (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})

    async def send(self, data):
        self.protocol.data_received(data)
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def answers(self):
        return self.transport.sent.count(b"HTTP/1.1 401")


@pytest.fixture
def run():
    with asyncio.Runner() as runner:
        yield runner.run


def played(run, story, **how):
    async def play():
        await story(Connection(asyncio.get_running_loop(), **how))

    run(play())


@pytest.mark.parametrize("head", [POST, CHUNKED], ids=["length", "chunked"])
def test_i8_a_body_that_goes_on_after_its_answer_has_its_time_and_no_more(run, head):
    async def story(connection):
        await connection.send(head)
        assert connection.answers == 1
        for _ in range(1, BODY_S):
            connection.loop.pass_s(1)
            await connection.send(b"1")
            assert not connection.transport.closed
        connection.loop.pass_s(1)
        assert connection.transport.closed

    played(run, story)


def test_i8_a_body_that_stands_still_after_its_answer_ends_with_the_idle_time(run):
    async def story(connection):
        await connection.send(POST)
        connection.loop.pass_s(IDLE_S)
        assert connection.transport.closed

    played(run, story)


def test_i8_who_sends_the_whole_body_after_its_answer_and_then_nothing_is_not_kept(run):
    async def story(connection):
        await connection.send(POST)
        await connection.send(b"0123456789")
        connection.loop.pass_s(HEAD_S)
        assert connection.transport.closed
        assert connection.answers == 1

    played(run, story)


def test_a_body_that_ends_in_time_after_its_answer_leaves_a_connection_to_use(run):
    async def story(connection):
        await connection.send(POST + b"01234")
        connection.loop.pass_s(BODY_S - 3)
        await connection.send(b"56789" + GET)
        assert connection.answers == 2
        connection.loop.pass_s(3)  # the body's time would be over
        assert not connection.transport.closed

    played(run, story)


@pytest.mark.parametrize("drip", [b"\r\n", b"\r", b"\n"])
def test_i8_line_ends_between_requests_do_not_keep_a_connection(run, drip):
    async def story(connection):
        await connection.send(GET)
        for _ in range(IDLE_S * 2):
            if connection.transport.closed:
                break
            await connection.send(drip)
            connection.loop.pass_s(1)
        assert connection.transport.closed

    played(run, story)


def test_a_body_that_is_read_before_its_answer_has_its_readers_limit_alone(run):
    async def story(connection):
        await connection.send(POST)
        connection.loop.pass_s(1000)
        assert not connection.transport.closed
        await connection.send(b"0123456789")
        assert connection.answers == 1
        assert [timer.at_s for timer in connection.loop.waiting] == [1000 + IDLE_S], "it was read: no time of its own"
        connection.loop.pass_s(IDLE_S)
        assert connection.transport.closed

    played(run, story, reads=True)


def test_requests_that_wait_for_the_answer_before_them_have_no_timer(run):
    async def story(connection):
        await connection.send(POST + b"01234")
        await connection.send(b"56789" + POST + b"01")
        assert (connection.answers, connection.loop.waiting) == (1, [])
        await connection.send(b"23456789")
        assert connection.answers == 2
        connection.loop.pass_s(IDLE_S)
        assert connection.transport.closed

    played(run, story, reads=True)


def test_a_connection_that_is_gone_leaves_no_timer(run):
    async def story(connection):
        await connection.send(POST + b"0")
        connection.protocol.connection_lost(None)
        assert connection.loop.waiting == []

    played(run, story)


def test_i9_a_first_head_that_is_refused_ends_the_connection_without_a_timer(run):
    async def story(connection):
        await connection.send(b"GET /x HTTP/1.1\r\n\r\n")
        assert connection.transport.closed
        assert connection.transport.sent.startswith(b"HTTP/1.1 400")
        assert connection.loop.waiting == []

    played(run, story)


def test_limits_that_are_not_given_are_the_defaults():
    kind = limited_protocol(head_timeout_s=1, connections_max=2)

    assert issubclass(kind, LimitedProtocol)
    assert (kind.head_timeout_s, kind.connections_max, kind.body_timeout_s) == (1, 2, 10.0)


def test_g9_an_answer_that_nobody_reads_is_held_for_a_while_and_no_longer(run):
    async def story(connection):
        connection.transport.unread = 1_000
        await connection.send(GET)
        connection.transport.unread = 600
        connection.loop.pass_s(30)
        assert not connection.transport.aborted, "some of it was read"
        connection.loop.pass_s(30)
        assert connection.transport.aborted

    played(run, story)
