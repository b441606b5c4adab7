"""A recorded stream, cut at any of its bytes: nothing is spliced, nothing said twice, and no cut is ever silent."""

from __future__ import annotations

import asyncio
import json
import os
import random

import pytest

from gateways import rig
from upstreams import CLOSE, HANG, RESET, serving

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"
OFFSETS = 100


def event(delta, finish=None, **more) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk | more, ensure_ascii=False).encode() + b"\n\n"


WORDS = ["Grüß", " dich", ", 世界", "! 🚢", " \u2028", "ende"]
EVENTS = [
    event({"role": "assistant", "content": ""}),
    b": keep-alive\n\n",
    *(event({"content": word}) for word in WORDS),
    event({}, "stop"),
    event({}, usage={"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}, choices=[]),
    b"data: [DONE]\n\n",
]
BODY = b"".join(EVENTS[:-2])  # what the caller gets of it: nobody asked for the usage


def framed(framing: str) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    if framing == "chunked":
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in EVENTS)
        return head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    body = b"".join(EVENTS)
    length = b"" if framing == "close" else b"content-length: %d\r\n" % len(body)
    return head + length + b"connection: close\r\n\r\n" + body


def offsets_of(recorded: bytes) -> list[int]:
    every = range(len(recorded) + 1)
    return list(every) if HEAVY else sorted(random.Random(14).sample(every, OFFSETS))


@pytest.mark.parametrize("end", [CLOSE, RESET, HANG])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_g3_a_stream_cut_at_any_byte_is_whole_elsewhere_or_says_that_it_is_not(framing, end):
    recorded = framed(framing)
    offsets = offsets_of(recorded)
    if end == HANG:  # each waits for a time-out
        offsets = offsets[:: 11 if HEAVY else 12]
    scripts = [[recorded[:offset], end] for offset in offsets]

    async def steps():
        async with serving(*scripts) as (_, endpoint):
            rows = {"bad": {"base_url": f"http://127.0.0.1:{endpoint.origin.port}/v1"}}
            patient = {"consecutive_failures": 1000, "failure_rate": 1.0, "min_calls": 100_000}
            limits = {"first_token_timeout_s": 0.05, "stall_timeout_s": 0.05}
            async with rig("bad", "good", rows=rows, breaker=patient, **(limits if end == HANG else {})) as found:
                found.core.circuits.order = lambda targets, _: targets  # its health would put it last
                wholes = cuts = elsewhere = 0
                for offset in offsets:
                    sink = await found.stream()
                    assert sink.ended == 1
                    if sink.headers["x-leeward-provider"] == "good":
                        elsewhere += 1
                        assert sink.is_done
                        assert sink.text.startswith("Simulated answer from good: ")
                        assert sink.text.count("Simulated") == 1
                        assert "Gr" not in sink.text
                        continue
                    said = b"".join(piece for piece in sink.pieces if not is_ours(piece))
                    assert BODY.startswith(said), offset
                    assert said.endswith(b"\n\n")
                    assert "".join(WORDS).startswith(sink.text)
                    if sink.is_done:
                        wholes += 1
                        assert said == BODY
                    else:
                        cuts += 1
                        assert sink.error["code"] == "stream_interrupted"
                        assert list(json.loads(sink.events[-1])) == ["error"]
                        assert b"[DONE]" not in sink.body
                assert wholes + cuts + elsewhere == len(offsets)
                if end != RESET:  # a RST may overtake what was written before it
                    assert min(cuts, elsewhere) > 0

    asyncio.run(steps())


def is_ours(piece: bytes) -> bool:
    return piece.startswith(b'data: {"error"') or piece == b"data: [DONE]\n\n"
