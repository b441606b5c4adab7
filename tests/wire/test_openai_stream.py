"""Streamed answers of all providers that speak as OpenAI does: what goes on, what is learnt, what is a failure."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings, strategies as st

from chat_streams import CALLS, DONE, GARBAGE, ROLE, STREAM_ERRORS, STREAMS, TEXT, USAGE, chunk, event
from leeward.wire.chat import Delta, Usage
from leeward.wire.openai_stream import StreamReader

STARTED = chunk(ROLE) + chunk({"content": "Good "})


def read(stream, **options):
    reader = StreamReader(**options)
    return reader, reader.feed(stream)


def cut(stream, places):
    places = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(places)]


@pytest.mark.parametrize("provider", STREAMS)
def test_every_provider_s_stream_goes_on_byte_for_byte_but_for_its_end(provider):
    reader, out = read(STREAMS[provider])

    assert out == STREAMS[provider].removesuffix(DONE)
    assert reader.end() == ""
    assert (reader.content, reader.finish, reader.done, reader.error) == (True, "stop", True, None)
    assert (reader.id, reader.model) == ("chatcmpl-1", "m")


@pytest.mark.parametrize("provider", STREAMS)
def test_every_provider_s_text_is_collected_where_it_is_asked_for(provider):
    reader, _ = read(STREAMS[provider], collect=True)

    assert "".join(delta.content for delta in reader.deltas) == "Good mörning 🌅"
    thoughts = "".join(delta.reasoning for delta in reader.deltas)
    assert thoughts == ("A greeting." if provider in {"deepseek", "vllm", "magistral"} else "")
    assert [delta.finish for delta in reader.deltas if delta.finish] == ["stop"]


@pytest.mark.parametrize("provider", ["openai", "mistral", "groq", "deepseek", "openrouter", "together"])
def test_the_usage_is_found_where_a_provider_tells_it(provider):
    assert read(STREAMS[provider])[0].usage == Usage(12, 5, 8, 2)


def test_the_last_of_many_usages_counts():
    assert read(STREAMS["vllm"])[0].usage == Usage(12, 5)


def test_a_caller_who_did_not_ask_for_the_usage_does_not_get_it_and_it_is_known_all_the_same():
    reader, out = read(STREAMS["openai"], withhold_usage=True, collect=True)

    assert out == TEXT
    assert reader.usage == Usage(12, 5, 8, 2)
    assert reader.deltas[-1] == Delta(usage=Usage(12, 5, 8, 2))


def test_the_second_half_of_a_withheld_event_s_line_end_is_withheld_too():
    reader = StreamReader(withhold_usage=True)

    assert reader.feed(chunk(choices=[], usage=USAGE).replace(b"\n", b"\r\n")[:-1]) == b""
    assert reader.feed(b"\n" + STARTED) == STARTED


def test_a_usage_beside_a_choice_is_not_withheld():
    assert read(STREAMS["mistral"], withhold_usage=True)[1] == STREAMS["mistral"].removesuffix(DONE)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([*STREAMS.values(), *CALLS.values(), *(TEXT[:300] + error for error, _ in STREAM_ERRORS.values())]),
    st.lists(st.integers(0, 1_500), max_size=12),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
    st.booleans(),
)
def test_any_split_of_a_stream_forwards_the_same_bytes_and_tells_the_same(stream, places, line_end, withhold_usage):
    stream = stream.replace(b"\n", line_end)
    whole, out = read(stream, withhold_usage=withhold_usage, collect=True)
    pieces = StreamReader(withhold_usage=withhold_usage, collect=True)

    outs = [pieces.feed(piece) for piece in cut(stream, places)]

    assert b"".join(outs) == out
    for name in ("content", "finish", "done", "error", "usage", "id", "model", "events", "deltas"):
        assert getattr(pieces, name) == getattr(whole, name), name
    assert pieces.end() == whole.end()


def test_nothing_goes_on_but_whole_events():
    reader = StreamReader()

    for byte in range(len(TEXT)):
        out = reader.feed(TEXT[byte : byte + 1])
        assert out == b"" or out.endswith(b"\n\n")


# --- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream",
    [
        chunk(ROLE),
        chunk({"role": "assistant"}),
        chunk({"content": None, "tool_calls": [], "refusal": ""}),
        b": keep-alive\n\n" * 3,
        event({"choices": [], "prompt_filter_results": []}),
        event({"choices": None, "usage": USAGE}),
        event({"choices": [{"index": 0, "finish_reason": None}]}),
    ],
)
def test_what_says_nothing_is_no_content_and_no_failure(stream):
    reader, out = read(stream)

    assert out == stream
    assert not reader.content
    assert reader.error is None
    assert reader.end() == "no_finish"


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"refusal": "I cannot."},
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]},
        {"function_call": {"name": "f"}},
        {"audio": {"data": "AAAA"}},
        {"images": [{"type": "image_url"}]},
        {"content": [{"type": "text", "text": "a"}]},
    ],
)
def test_text_a_refusal_and_calls_are_an_answer(delta):
    reader, _ = read(chunk(delta))
    assert reader.content

    reader.feed(chunk(finish="stop"))
    assert reader.end() == ""


@pytest.mark.parametrize(
    "delta", [{"reasoning": "Hm."}, {"reasoning_content": "Hm."}, {"content": [{"thinking": [{"text": "Hm."}, 1]}, 1]}]
)
def test_thoughts_are_content_but_alone_they_are_no_answer(delta):
    reader, _ = read(chunk(delta) + chunk(finish="stop"))

    assert reader.content
    assert reader.end() == "no_content"


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "end"),
    [
        (b"", "no_finish"),
        (DONE, "no_finish"),
        (STARTED, "no_finish"),
        (STARTED + DONE, "no_finish"),
        (STARTED + DONE + b"data: [", "no_finish"),
        (STARTED + b"data: {", "cut_event"),
        (STARTED + b"\n", "no_finish"),
        (chunk(ROLE) + chunk(finish="stop"), "no_content"),
        (chunk(finish="length"), ""),
        (chunk(finish="content_filter"), ""),
        (STARTED + chunk(finish=""), "no_finish"),
        (STARTED + chunk(finish="stop"), ""),  # some never say [DONE]
        (STARTED + chunk(finish="stop") + b"data: [DONE]\n", ""),
        (STARTED + chunk({"content": "b"}, index=1) + chunk(finish="stop"), "no_finish"),
        (STARTED + chunk({"content": "b"}, index=1) + chunk(finish="stop") + chunk(finish="stop", index=1), ""),
        (STARTED + event({"error": {"code": "x"}}), "error"),
    ],
)
def test_g3_a_stream_is_whole_only_with_a_reason_to_end_for_every_choice_and_something_said(stream, end):
    assert read(stream)[0].end() == end


def test_nothing_behind_the_end_goes_on():
    reader, out = read(TEXT + DONE + TEXT)

    assert out == TEXT
    assert reader.done
    assert reader.feed(TEXT) == b""


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", STREAM_ERRORS)
@pytest.mark.parametrize("before", [b"", STARTED])
def test_g2_an_error_within_a_stream_is_one_in_whatever_shape_and_nothing_of_it_goes_on(shape, before):
    error, code = STREAM_ERRORS[shape]

    reader, out = read(before + error + b": comment\n\n" + TEXT + DONE)

    assert out == before
    assert reader.error is not None
    assert reader.error.code == code
    assert reader.end() == "error"
    assert reader.feed(TEXT) == b""


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("before", [b"", STARTED])
def test_g3_garbage_is_an_error_and_nothing_at_or_behind_it_goes_on(kind, before):
    reader, out = read(before + GARBAGE[kind] + b": comment\n\n" + TEXT)

    assert out == before
    assert reader.error is not None
    assert reader.error.code in {"bad_event", ""}
    assert reader.error.message
    assert reader.end() == "error"


@pytest.mark.parametrize("kind", ["no UTF-8", "no UTF-8 in a comment", "half of a character"])
def test_g3_text_that_is_no_utf_8_is_an_error_also_when_it_comes_in_pieces(kind):
    reader = StreamReader()
    stream = STARTED + GARBAGE[kind]

    out = b"".join(reader.feed(stream[byte : byte + 1]) for byte in range(len(stream)))

    assert out == STARTED
    assert reader.error is not None


def test_a_character_that_is_cut_between_two_pieces_is_none():
    reader = StreamReader()
    stream = chunk({"content": "🌅"})
    middle = stream.index("🌅".encode()) + 2

    assert reader.feed(stream[:middle]) == b""
    assert reader.feed(stream[middle:]) == stream


def test_g10_an_event_without_an_end_is_given_up_at_its_bound():
    reader = StreamReader(event_bytes_max=1_000)

    outs = [reader.feed(STARTED + b"data: "), *(reader.feed(b"a" * 100) for _ in range(20))]

    assert b"".join(outs) == STARTED
    assert reader.error is not None
    assert "1000 bytes" in reader.error.message


def test_half_a_surrogate_pair_in_an_event_is_no_failure_for_clients_can_read_it():
    halves = b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83c"}}]}\n\n'

    reader, out = read(halves, collect=True)

    assert out == halves
    assert reader.content
    assert reader.deltas[0].content == "\ufffd"


@pytest.mark.parametrize(
    "kind",
    [b"data:{%s}\n\n", b"data: {%s}\r\n\r\n", b"event: message\nid: 7\ndata: {%s}\n\n", b"data: {\ndata: %s}\n\n"],
)
def test_an_event_may_be_written_in_any_way_that_the_format_allows(kind):
    stream = kind % b'"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]'

    reader, out = read(stream)

    assert out == stream
    assert (reader.end(), reader.events) == ("", 1)


@pytest.mark.parametrize("usage", [{"prompt_tokens": "12"}, [1], "none"])
def test_a_usage_that_cannot_be_read_is_none_and_no_failure(usage):
    reader, _ = read(STARTED + chunk(finish="stop", usage=usage))

    assert reader.usage is None
    assert reader.end() == ""


def test_calls_are_collected_with_their_numbers():
    reader, _ = read(CALLS["gemini"], collect=True)

    assert [(call.index, call.id, call.name) for call in reader.deltas[0].tool_calls] == [
        (0, "c1", "weather"),
        (1, "c2", "time"),
    ]
