"""What a program in the same process gets: whole replies, and chunks that wait for their reader."""

from __future__ import annotations

import asyncio
import json

import msgspec

from leeward.gateway.core import Answered
from leeward.gateway.replies import CHUNKS_WAITING_MAX, Chunk, ChunkStream, Reply


def reply_of(message=None, **answered):
    body = {"choices": [] if message is None else [{"message": message}]}
    return Reply(Answered(msgspec.json.encode(body), **{"provider": "a", "attempts": 1, **answered}))


def event(content, **more):
    return b"data: " + json.dumps({"choices": [{"delta": {"content": content}}], **more}).encode() + b"\n\n"


def test_a_reply_has_its_text_its_message_and_all_of_it():
    reply = reply_of({"content": "Hello"}, degraded="cache", age_s=3.0)
    assert (reply.content, reply.message, reply.provider, reply.attempts) == ("Hello", {"content": "Hello"}, "a", 1)
    assert reply.data == {"choices": [{"message": {"content": "Hello"}}]}
    assert repr(reply) == "Reply('Hello', provider='a', degraded='cache')"
    assert (reply.degraded, reply.age_s) == ("cache", 3.0)


def test_a_reply_without_text_has_none():
    assert reply_of({"content": None, "tool_calls": [{}]}).content == ""
    assert reply_of().message == {}
    assert reply_of({"content": [{"type": "text"}]}).content == ""


def test_a_chunk_has_what_is_new():
    chunk = Chunk({"choices": [{"delta": {"content": "Hi"}}]}, "a", "")
    assert (chunk.content, chunk.delta, repr(chunk)) == ("Hi", {"content": "Hi"}, "Chunk('Hi')")
    assert Chunk({"choices": []}, "a", "").content == ""


def test_chunks_come_in_order_with_who_said_them():
    async def steps():
        chunks = ChunkStream()
        chunks.head(200, [(b"x-leeward-provider", b"a"), (b"x-leeward-degraded", b"cache")])
        assert chunks.data(event("a") + event("b"))
        chunks.data(b": comment\n\n" + event("c")[:9])
        chunks.data(event("c")[9:])
        chunks.data(b'data: {"error": {"message": "x"}}\n\n')  # the caller gets that as an exception
        chunks.data(b"data: [DONE]\n\n")
        chunks.end()
        got = [(chunk.content, chunk.provider, chunk.degraded) async for chunk in chunks]
        assert got == [("a", "a", "cache"), ("b", "a", "cache"), ("c", "a", "cache")]

    asyncio.run(steps())


def test_g9_a_reader_who_does_not_read_stops_the_provider_and_one_who_reads_wakes_it():
    async def steps():
        chunks = ChunkStream()
        woken = []
        chunks.on_room = lambda: woken.append(len(chunks._waiting))
        had_room = [chunks.data(event(str(number))) for number in range(CHUNKS_WAITING_MAX)]
        assert had_room == [True] * (CHUNKS_WAITING_MAX - 1) + [False]
        chunks.end()
        got = [chunk.content async for chunk in chunks]
        assert got == [str(number) for number in range(CHUNKS_WAITING_MAX)]
        assert woken == [CHUNKS_WAITING_MAX // 2]

    asyncio.run(steps())


def test_a_reader_who_waits_is_woken_by_what_comes_and_by_the_end():
    async def steps():
        chunks = ChunkStream()

        async def read():
            return [chunk.content async for chunk in chunks]

        reading = asyncio.ensure_future(read())
        for number in range(3):
            await asyncio.sleep(0)
            chunks.data(event(str(number)))
        await asyncio.sleep(0)
        chunks.end()
        assert await reading == ["0", "1", "2"]

    asyncio.run(steps())


def test_a_task_that_ended_without_a_word_ends_the_reading_and_its_error_is_seen():
    async def steps():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        chunks = ChunkStream()

        async def fail():
            raise ZeroDivisionError

        task = asyncio.ensure_future(fail())
        task.add_done_callback(chunks.finished)
        assert [chunk async for chunk in chunks] == []
        del task
        await asyncio.sleep(0)
        assert told == []

    asyncio.run(steps())
