"""A streamed answer on its way out: written at once, kept while the reader is slow, never lost, never waited for."""

from __future__ import annotations

import asyncio

import pytest

from leeward.server.http import Request
from leeward.server.push import PushSink


class Flow:
    write_paused = False


class Transport:
    aborted = False

    def abort(self):
        self.aborted = True


class Connection:
    """A connection whose buffer is as full as the test says; `fills` is full after so many writes."""

    def __init__(self, fills=None):
        self.flow = Flow()
        self.transport = Transport()
        self.on_room = None
        self.fills = fills
        self.sent = []

    async def send(self, message):
        assert not self.flow.write_paused, "a full connection makes `send` wait"
        self.sent.append(message)
        if self.fills is not None and len(self.sent) >= self.fills:
            self.flow.write_paused = True

    def drain(self):
        self.fills = None
        self.flow.write_paused = False
        if self.on_room is not None:
            self.on_room()

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent)


def sink_on(connection, **more):
    scope = {"method": "POST", "path": "/", "query_string": b"", "headers": [], "leeward.connection": connection}
    request = Request(scope, None, "1", connection.send)
    return PushSink(request, [(b"x-request-id", b"1")], **{"reader_timeout_s": 30.0, **more})


def run(steps):
    asyncio.run(steps())


def test_the_head_goes_out_with_the_first_data_and_the_end_ends_it():
    async def steps():
        connection = Connection()
        sink = sink_on(connection)
        sink.head(200, [(b"content-type", b"text/event-stream")])
        assert connection.sent == []
        assert sink.data(b"one")
        assert sink.data(b"two")
        sink.end()
        assert [message["type"] for message in connection.sent] == [
            "http.response.start",
            *["http.response.body"] * 3,
        ]
        assert connection.body == b"onetwo"
        assert connection.sent[-1]["more_body"] is False

    run(steps)


@pytest.mark.parametrize("fills", [2, 3, 4])
def test_g9_the_piece_that_fills_the_buffer_asks_to_be_told_of_room(fills):
    async def steps():
        connection = Connection(fills=fills)
        sink = sink_on(connection)
        rooms = []
        sink.on_room = lambda: rooms.append(True)
        sink.head(200, [])
        taken = [sink.data(b"%d" % number) for number in range(fills - 1)]
        assert taken == [True] * (fills - 2) + [False], "and nothing more comes: the provider is paused"
        connection.drain()
        assert rooms == [True]
        assert connection.body == b"0123"[: fills - 1]
        sink.end()
        await sink.flushed()
        assert connection.sent[-1]["more_body"] is False

    run(steps)


def test_g9_an_answer_that_begins_behind_a_full_buffer_waits_for_room():
    async def steps():
        connection = Connection()
        connection.flow.write_paused = True
        sink = sink_on(connection)
        sink.head(200, [])
        assert not sink.data(b"one")
        sink.end()
        assert connection.sent == []
        flushed = asyncio.ensure_future(sink.flushed())
        connection.drain()
        await flushed
        assert connection.body == b"one"

    run(steps)


def test_g9_a_reader_who_takes_nothing_loses_the_connection():
    async def steps():
        connection = Connection(fills=2)
        sink = sink_on(connection, reader_timeout_s=0.0)
        sink.head(200, [])
        sink.data(b"one")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert connection.transport.aborted
        sink.close()

    run(steps)
