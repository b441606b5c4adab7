"""One stream on its way: what goes out when, what is held, and in which of its ways it ends."""

from __future__ import annotations

import asyncio
import gc
import json

import pytest

from gateways import Gathered
from leeward.gateway.exchange import TransportError
from leeward.gateway.stream import Stream
from leeward.wire.openai_stream import StreamReader
from resilience_clock import HandClock


class Exchange:
    """Stands for the connection: pushes what the test says, notes what the stream asks of it."""

    def __init__(self):
        self.asked = []

    def forward(self, on_data, on_end):
        self.on_data, self.on_end = on_data, on_end

    def set_content_by(self, at_s):
        self.asked.append(("content_by", at_s))

    def __getattr__(self, name):
        return lambda *_: self.asked.append(name)


def event(content=None, finish=None):
    choice = {"index": 0, "delta": {} if content is None else {"content": content}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c1", "model": "m", "choices": [choice]}).encode() + b"\n\n"


ROLE, HELLO, FINISH, DONE = event(""), event("Hello"), event(finish="stop"), b"data: [DONE]\n\n"
ERROR = b'data: {"error": {"message": "boom", "code": "server_error"}}\n\n'


class Rig:
    def __init__(self, *, keep_bytes_max=0):
        self.clock = HandClock()
        self.exchange, self.sink = Exchange(), Gathered()
        self.stream = Stream(
            self.exchange,
            StreamReader(),
            self.sink,
            lambda: [(b"x-from", b"a")],
            clock_s=self.clock.monotonic_s,
            began_s=self.clock.now_s,
            keep_bytes_max=keep_bytes_max,
        )
        self.stream.start(self.clock.now_s + 5)

    def say(self, *data):
        for each in data:
            self.exchange.on_data(each)

    @property
    def outcome(self):
        return self.stream.ended.result() if self.stream.ended.done() else None


def run(steps):
    async def main():
        steps()

    asyncio.run(main())


def test_g2_nothing_goes_out_before_the_first_content_and_then_all_of_it_at_once():
    def steps():
        rig = Rig()
        assert rig.exchange.asked == [("content_by", rig.clock.now_s + 5)]
        rig.say(b": hello\n\n", ROLE, ROLE[:5])
        assert (rig.sink.status, rig.sink.pieces, rig.stream.committed) == (0, [], False)
        rig.clock.sleep(1.5)
        rig.say(ROLE[5:] + HELLO)
        assert rig.sink.status == 200
        assert rig.sink.headers == {"x-from": "a"}
        assert rig.sink.pieces == [b": hello\n\n" + ROLE + ROLE + HELLO]
        assert rig.exchange.asked[-1] == ("content_by", None)
        rig.say(FINISH, DONE)
        assert rig.sink.body == b": hello\n\n" + ROLE + ROLE + HELLO + FINISH, "the driver says [DONE]"
        assert (rig.outcome.kind, rig.outcome.first_s, rig.outcome.streamed) == ("ok", 1.5, True)
        assert rig.exchange.asked[-1] == "drain"

    run(steps)


ENDINGS = [
    ((HELLO, FINISH), None, "ok", ""),
    ((HELLO, FINISH), "reset", "ok", ""),
    ((HELLO, FINISH), "truncated", "ok", ""),
    ((HELLO, FINISH), "stall", "ok", ""),
    ((HELLO, FINISH), "deadline", "ok", ""),
    ((HELLO,), None, "cut", "no_finish"),
    ((HELLO,), "reset", "cut", "reset"),
    ((HELLO, HELLO[:9]), None, "cut", "cut_event"),
    ((HELLO, ERROR), None, "cut", "error_event"),
    ((ROLE,), None, "bad_answer", "no_finish"),
    ((ROLE,), "reset", "network", "reset"),
    ((ROLE,), "head_timeout", "timeout", "head_timeout"),
    ((ROLE, ERROR), None, "bad_answer", "error_event"),
    ((HELLO + ERROR,), None, "bad_answer", "error_event"),
    ((ROLE, FINISH, DONE), None, "bad_answer", "no_content"),
    ((event(finish="length"), DONE), None, "ok", ""),
    ((), None, "bad_answer", "no_finish"),
]


@pytest.mark.parametrize(("said", "end", "kind", "detail"), ENDINGS)
def test_g3_a_stream_ends_as_an_answer_or_as_what_it_was(said, end, kind, detail):
    def steps():
        rig = Rig()
        rig.say(*said)
        if rig.outcome is None:
            rig.exchange.on_end(None if end is None else TransportError(end, sent=True))
        assert (rig.outcome.kind, rig.outcome.detail) == (kind, detail)
        assert b"boom" not in rig.sink.body
        assert bool(rig.sink.pieces) == (kind in {"ok", "cut"})

    run(steps)


def test_what_stands_before_an_error_in_the_same_read_still_goes_out():
    def steps():
        rig = Rig()
        rig.say(HELLO, event(" world") + ERROR + event("never"))
        assert rig.sink.text == "Hello world"
        assert rig.outcome.kind == "cut"
        assert rig.exchange.asked[-1] == "cancel"

    run(steps)


def test_what_comes_behind_the_end_is_nobodys():
    def steps():
        rig = Rig()
        rig.say(HELLO, FINISH + DONE, event("never"))
        rig.exchange.on_end(TransportError("reset", sent=True))
        assert rig.outcome.kind == "ok"
        assert rig.sink.text == "Hello"

    run(steps)


def test_g9_a_slow_reader_pauses_the_provider_and_its_room_wakes_it():
    def steps():
        rig = Rig()
        rig.sink.has_room = False
        rig.say(HELLO)
        assert rig.exchange.asked[-1] == "pause"
        rig.sink.on_room()
        assert rig.exchange.asked[-1] == "resume"
        rig.sink.has_room = True
        rig.say(FINISH, DONE)
        asked = list(rig.exchange.asked)
        rig.sink.on_room()
        assert rig.exchange.asked == asked, "a stream that is over is not woken"

    run(steps)


def test_g8_an_abandoned_stream_closes_the_connection():
    def steps():
        rig = Rig()
        rig.say(HELLO)
        rig.stream.abandon()
        assert rig.exchange.asked[-1] == "cancel"
        assert rig.outcome is None

    run(steps)


@pytest.mark.parametrize(("room", "kept"), [(0, b""), (10, b""), (10_000, ROLE + HELLO + FINISH)])
def test_what_the_caller_got_is_kept_if_it_is_not_too_much(room, kept):
    def steps():
        rig = Rig(keep_bytes_max=room)
        rig.say(ROLE, HELLO, FINISH, DONE)
        assert rig.stream.kept == kept

    run(steps)


def test_no_cycle_is_left():
    def steps():
        gc.collect()
        gc.disable()
        rig = Rig()
        rig.say(HELLO, FINISH, DONE)
        rig.exchange.on_data = rig.exchange.on_end = None  # as an exchange does at its end
        del rig
        found = gc.collect()
        gc.enable()
        assert found == 0

    run(steps)
