"""Every decoder of the gateway's wire in OpenAI's dialect, for fuzzing: each lets pass what is documented, nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable

from chat_streams import CALLS, ERRORS, GARBAGE, STREAM_ERRORS, STREAMS, USAGE, completion
from leeward.wire.chat import BadAnswer, RequestInvalid
from leeward.wire.openai import read_models
from leeward.wire.openai_answers import read_answer
from leeward.wire.openai_errors import read_error
from leeward.wire.openai_requests import RequestLimits, decode_request, encode_request, without_tools
from leeward.wire.openai_stream import StreamReader
from leeward.wire.openai_whole import as_stream, assemble, with_x_leeward
from leeward.wire.sse import Events, event_of

LIMITS = RequestLimits()


def in_pieces(data: bytes) -> list[bytes]:
    """The same bytes cut at places that they say themselves."""
    step = 1 + data[len(data) // 2] % 37 if data else 1
    return [data[start : start + step] for start in range(0, len(data), step)]


def split_events(data: bytes) -> None:
    whole, pieces = Events(), Events()
    events = whole.feed(data)
    cut = [event for piece in in_pieces(data) for event in pieces.feed(piece)]
    told = [event_of(event) for event in events]
    assert [event for event in told if event[1] is not None] == [
        event for event in map(event_of, cut) if event[1] is not None
    ]
    assert b"".join(cut) == b"".join(events)
    assert (b"\xef\xbb\xbf" + data).find(b"".join(events)) >= 0
    assert pieces.cut == whole.cut


def read_stream(data: bytes) -> None:
    for withhold_usage in (False, True):
        whole = StreamReader(withhold_usage=withhold_usage, collect=True, event_bytes_max=16_384)
        pieces = StreamReader(withhold_usage=withhold_usage, collect=True, event_bytes_max=16_384)
        out = whole.feed(data)
        cut = b"".join([pieces.feed(piece) for piece in in_pieces(data)])
        assert out.startswith(cut) or cut.startswith(out)
        if whole.error is None or whole.error.message.find("bytes") < 0:
            assert cut == out
            assert (pieces.error, pieces.deltas, pieces.end()) == (whole.error, whole.deltas, whole.end())
        out.decode()
        assert (whole.end() == "error") == (whole.error is not None)
        assert len(out) <= len(data)


def assemble_stream(data: bytes) -> None:
    try:
        answer = assemble(data)
    except BadAnswer:
        return
    json.loads(answer)
    turn_answer(answer)


def turn_answer(data: bytes) -> None:
    try:
        stream = as_stream(data, {"x_leeward": {}}, with_usage=True)
    except BadAnswer:
        return
    assert StreamReader().feed(stream) in stream
    try:
        json.loads(assemble(stream))
    except BadAnswer:
        return


def decode_chat(data: bytes) -> None:
    _decode(data, "chat")


def decode_embeddings(data: bytes) -> None:
    _decode(data, "embeddings")


def check_refusal(error: RequestInvalid) -> None:
    assert error.status in {400, 413}
    assert str(error).isprintable()


def _decode(data: bytes, operation: str) -> None:
    try:
        request = decode_request(data, operation, LIMITS)
    except RequestInvalid as error:
        check_refusal(error)
        return
    assert 1 <= request.needs.choices <= LIMITS.choices_max
    assert (request.needs.output_tokens or 1) <= LIMITS.output_tokens_max
    sent = encode_request(without_tools(request), "m", add_usage=True, drop=frozenset({"seed"}), rename={"user": "u"})
    values = json.loads(sent)
    assert values["model"] == "m"
    assert not {"tools", "seed", "api_base"} & values.keys()


def decode_answer(data: bytes) -> None:
    for operation in ("chat", "embeddings"):
        try:
            answer = read_answer(data, operation)
        except BadAnswer:
            continue
        assert b"x_leeward" in with_x_leeward(answer.body, {"degraded": "cache"})
    turn_answer(data)


def decode_error(data: bytes) -> None:
    error = read_error(500, data)
    assert len(error.message) <= 2_000
    assert max(len(error.code), len(error.type), len(error.param)) <= 100
    try:
        read_models(data)
    except BadAnswer:
        return


def decode_all(data: bytes) -> None:
    """Give the same bytes to every decoder."""
    for target, _ in TARGETS.values():
        target(data)


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
PARTS = [{"type": "text", "text": "é"}, {"type": "image_url", "image_url": {"url": "data:"}}]
REQUEST = {"model": "chat", "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": PARTS}]}
REQUEST_SEEDS = [
    json.dumps(REQUEST, ensure_ascii=False).encode(),
    json.dumps({**REQUEST, "stream": True, "stream_options": {"include_usage": False}, "tools": TOOLS}).encode(),
    json.dumps({**REQUEST, "n": 2, "max_tokens": 7, "max_completion_tokens": 8, "user": "u", "seed": 1}).encode(),
    json.dumps({**REQUEST, "response_format": {"type": "json_schema"}, "temperature": 0.5, "api_base": "x"}).encode(),
]
EMBEDDING_SEEDS = [b'{"model":"m","input":"a"}', b'{"model":"m","input":[[1,2]],"dimensions":3}']
ANSWER_SEEDS = [
    completion({"content": "Good mörning 🌅"}),
    completion({"content": None, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}),
    completion({"content": [{"type": "text", "text": "a"}], "function_call": {"name": "f"}}, "length"),
    json.dumps({"data": [{"embedding": [0.1]}, {"embedding": "AAAA"}], "usage": USAGE}).encode(),
]
STREAM_SEEDS = [
    *STREAMS.values(),
    *(stream.replace(b"\n", b"\r\n") for stream in CALLS.values()),
    *(STREAMS["groq"][:200] + error for error, _ in STREAM_ERRORS.values()),
    *(garbage for garbage in GARBAGE.values() if len(garbage) < 1_000),
]

TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "chat_events": (split_events, STREAM_SEEDS),
    "chat_stream": (read_stream, STREAM_SEEDS),
    "chat_assemble": (assemble_stream, STREAM_SEEDS),
    "chat_request": (decode_chat, REQUEST_SEEDS),
    "chat_embeddings": (decode_embeddings, EMBEDDING_SEEDS),
    "chat_answer": (decode_answer, ANSWER_SEEDS),
    "chat_error": (decode_error, [body for _, body, _ in ERRORS.values() if len(body) < 1_000]),
}
