import json

import pytest
from hypothesis import given, strategies as st

from anthropic_provider import event, events_of, message
from anthropic_requests import chat
from leeward.wire.anthropic.dialect import ANTHROPIC
from leeward.wire.anthropic.stream import StreamReader
from leeward.wire.chat import Delta, ToolCallDelta, Usage

NOW_S = 1_795_322_741
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome", "days": 2}}
THOUGHT = {"type": "thinking", "thinking": "Let me see.", "signature": "x"}
TEXT = {"type": "text", "text": "It is sunny — 20 °C."}


def reader(*, usage_wanted=False, collect=False):
    return StreamReader(NOW_S, usage_wanted=usage_wanted, collect=collect)


def read(data, **how):
    """A whole stream read at once: the reader, and what it gave out."""
    taken = reader(**how)
    return taken, taken.feed(data)


def chunks(out):
    """The chunks in what was given out; each is one event with one line of data."""
    assert out == b"" or out.endswith(b"\n\n")
    told = [piece for piece in out.split(b"\n\n") if piece]
    assert all(piece.startswith(b"data: ") and b"\n" not in piece for piece in told)
    return [json.loads(piece.removeprefix(b"data: ")) for piece in told]


def deltas(out):
    return [chunk["choices"][0]["delta"] for chunk in chunks(out) if chunk["choices"]]


def assembled(out):
    """A client's sum of chunks: its message, finish and usage."""
    said, finish, usage = {"role": None, "content": None, "refusal": None}, None, None
    calls = {}
    for chunk in chunks(out):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            finish = choice["finish_reason"] or finish
            for name, value in choice["delta"].items():
                if name != "tool_calls":
                    said[name] = (said.get(name) or "") + value
                    continue
                for piece in value:
                    call = calls.setdefault(piece["index"], {"function": {"name": "", "arguments": ""}})
                    call.update({key: piece[key] for key in ("id", "type") if key in piece})
                    call["function"]["name"] += piece["function"].get("name", "")
                    call["function"]["arguments"] += piece["function"]["arguments"]
    said["content"] = said["content"] or None
    if calls:
        assert list(calls) == list(range(len(calls)))
        said["tool_calls"] = list(calls.values())
    return said, finish, usage


def translated(whole):
    """The same of the whole answer."""
    document = json.loads(ANTHROPIC.read_answer(json.dumps(whole, ensure_ascii=False).encode(), "chat", chat()).body)
    choice = document["choices"][0]
    return choice["message"], choice["finish_reason"], document["usage"]


def parsed(said):
    """A message with the arguments of its calls as values: whitespace of JSON says nothing."""
    for one in said.get("tool_calls", ()):
        one["function"]["arguments"] = json.loads(one["function"]["arguments"])
    return said


def test_a_stream_becomes_chunks_of_one_id_and_the_role_comes_first():
    taken, out = read(b"".join(events_of(message([TEXT]), pieces=2)))
    assert deltas(out) == [
        {"role": "assistant", "content": ""},
        {"content": "It is sunny"[:10]},
        {"content": TEXT["text"][10:]},
        {},
    ]
    told = chunks(out)
    assert {chunk["id"] for chunk in told} == {"msg_01XFDUDYJgAACzvnptvVoYEL"}
    assert {(chunk["object"], chunk["created"], chunk["model"]) for chunk in told} == {
        ("chat.completion.chunk", NOW_S, "claude-haiku-5-5")
    }
    assert [chunk["choices"][0]["finish_reason"] for chunk in told] == [None, None, None, "stop"]
    assert (taken.end(), taken.finish, taken.content, taken.done) == ("", "stop", True, True)
    assert (taken.id, taken.model) == ("msg_01XFDUDYJgAACzvnptvVoYEL", "claude-haiku-5-5")


def test_calls_are_numbered_among_themselves_though_other_blocks_stand_before_them():
    second = {**CALL, "id": "toolu_2", "input": {}}
    _, out = read(b"".join(events_of(message([THOUGHT, TEXT, CALL, second], stop_reason="tool_use"), pieces=1)))
    assert [delta["tool_calls"] for delta in deltas(out) if "tool_calls" in delta] == [
        [{"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": '{"city":"Rome","days":2}'}}],
        [{"index": 1, "id": "toolu_2", "type": "function", "function": {"name": "weather", "arguments": ""}}],
        [{"index": 1, "function": {"arguments": "{}"}}],
    ]


def test_a_call_that_comes_whole_at_its_start_keeps_its_arguments():
    start, *_, delta, stop = events_of(message([], stop_reason="tool_use"))
    block = [event("content_block_start", index=0, content_block=CALL), event("content_block_stop", index=0)]
    said, _, _ = assembled(read(b"".join([start, *block, delta, stop]))[1])
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == CALL["input"]


def test_a_text_that_comes_at_the_start_of_its_block_is_not_lost():
    start, *_, delta, stop = events_of(message([]))
    block = [event("content_block_start", index=0, content_block=TEXT), event("content_block_stop", index=0)]
    assert assembled(read(b"".join([start, *block, delta, stop]))[1])[0]["content"] == TEXT["text"]


def test_the_usage_is_told_only_to_who_asked_for_it_and_known_to_the_reader_always():
    stream = b"".join(events_of(message([TEXT])))
    taken, out = read(stream)
    assert taken.usage == Usage(input_tokens=36, output_tokens=7, cached_tokens=20, reasoning_tokens=3)
    assert not any("usage" in chunk for chunk in chunks(out))
    *_, last = chunks(read(stream, usage_wanted=True)[1])
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 43


@pytest.mark.parametrize(
    ("asked", "withheld", "told"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_the_dialect_tells_the_usage_if_it_was_asked_for_and_is_not_withheld(asked, withheld, told):
    taken = ANTHROPIC.reader(chat(stream=True, stream_usage=asked), withhold_usage=withheld)
    assert (b'"usage"' in taken.feed(b"".join(events_of(message([TEXT]))))) is told


def test_a_later_count_of_tokens_leaves_standing_what_it_does_not_tell():
    *events, _, stop = events_of(message([TEXT]))
    brief = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9})
    told = read(b"".join([*events, brief, stop]))[0].usage
    assert told == Usage(input_tokens=36, output_tokens=9, cached_tokens=20, reasoning_tokens=3)


def test_what_a_cut_stream_had_cost_so_far_is_known():
    first, *_ = events_of(message([TEXT]))
    assert read(first)[0].usage == Usage(input_tokens=36, output_tokens=1, cached_tokens=20, reasoning_tokens=3)


def test_collected_steps_say_what_the_chunks_say():
    content = [THOUGHT, TEXT, CALL]
    taken, _ = read(b"".join(events_of(message(content, stop_reason="tool_use"), pieces=1)), collect=True)
    assert taken.deltas == [
        Delta(reasoning="Let me see."),
        Delta(content=TEXT["text"]),
        Delta(tool_calls=(ToolCallDelta(0, "toolu_1", "weather"),)),
        Delta(tool_calls=(ToolCallDelta(0, arguments='{"city":"Rome","days":2}'),)),
        Delta(finish="tool_calls"),
        Delta(usage=taken.usage),
    ]
    assert read(b"".join(events_of(message(content))))[0].deltas == []


def test_a_refusal_ends_the_stream_and_says_why():
    details = {"type": "refusal", "category": None, "explanation": "Against the policy."}
    whole = message([TEXT], stop_reason="refusal", stop_details=details)
    taken, out = read(b"".join(events_of(whole)), collect=True)
    assert (taken.end(), taken.finish) == ("", "content_filter")
    assert {"refusal": "Against the policy."} in deltas(out)
    assert Delta(refusal="Against the policy.") in taken.deltas


def test_pings_comments_and_events_that_are_new_give_nothing():
    start, ping, *rest = events_of(message([TEXT]))
    new = [event("content_block_rating", index=0, rating=5), b": keep-alive\n\n"]
    odd = [
        event("content_block_start", index=7, content_block={"type": "server_tool_use", "id": "s", "name": "w"}),
        event("content_block_delta", index=7, delta={"type": "input_json_delta", "partial_json": "{}"}),
        event("content_block_delta", index=7, delta={"type": "citations_delta", "citation": {}}),
        event("content_block_delta", index=7),
        event("content_block_stop", index=7),
        event("message_delta", delta={"stop_reason": None}),
    ]
    assert (
        read(b"".join([ping, ping, *new[1:], start, *new, *odd, start, *rest]))[1] == read(b"".join([start, *rest]))[1]
    )


def test_g3_nothing_at_or_behind_an_error_is_given_out_and_its_kind_is_known():
    start, ping, opened, piece, *_ = events_of(message([TEXT]))
    broken = event("error", error={"type": "overloaded_error", "message": "Overloaded"}, request_id="req_1")
    taken, out = read(b"".join([start, ping, opened, piece, broken, piece]))
    assert len(chunks(out)) == 2
    assert (taken.error.type, taken.error.code, taken.error.status) == ("overloaded_error", "overloaded", 0)
    assert taken.error.message == "Overloaded (request req_1)"
    assert taken.feed(piece) == b""
    assert taken.end() == "error"


def test_g2_an_error_may_be_all_there_is():
    taken, out = read(event("error", error={"type": "api_error", "message": ""}))
    assert (out, taken.error.code, taken.end(), taken.content) == (b"", "server_error", "error", False)
    assert read(event("error"))[0].end() == "error"


@pytest.mark.parametrize(
    "garbage",
    [
        *(b"data: {\n\n", b"data: []\n\n", b"data: \xff\n\n", b"data: [DONE]\n\n", b'data: {"choices":[]}\n\n'),
        *(
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": 7}),
            event("message_start", message={}),
        ),
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)
def test_g3_an_event_of_another_shape_is_an_error(garbage):
    start, *rest = events_of(message([TEXT]))
    taken, out = read(b"".join([start, garbage, *rest]))
    assert (len(chunks(out)), taken.error.code, taken.end()) == (1, "bad_answer", "error")


def test_a_stream_that_does_not_begin_with_its_start_is_an_error():
    _, _, *rest = events_of(message([TEXT]))
    taken, out = read(b"".join(rest))
    assert (out, taken.end()) == (b"", "error")


def test_g10_an_event_without_end_is_an_error_before_the_memory_is_full():
    taken = reader()
    taken.feed(next(iter(events_of(message([TEXT])))))
    for _ in range(20):
        taken.feed(b"data: " + b"x" * (1 << 20))
    assert taken.end() == "error"


def test_g3_a_stream_that_just_ends_was_no_answer():
    events = list(events_of(message([TEXT])))
    for count in range(len(events)):
        assert read(b"".join(events[:count]))[0].end() == "no_finish", count
    assert read(b"".join(events))[0].end() == ""


def test_a_stream_that_ends_within_an_event_was_no_answer():
    events = b"".join(events_of(message([TEXT])))
    for size in range(len(events) - 1):
        taken, _ = read(events[:size])
        assert taken.end() in ("no_finish", "cut_event"), size
    assert read(events[:-20])[0].end() == "cut_event"


def test_a_stop_without_a_reason_was_no_answer():
    *events, _, stop = events_of(message([TEXT]))
    assert read(b"".join([*events, stop]))[0].end() == "no_finish"


@pytest.mark.parametrize(("reason", "ends"), [("end_turn", "no_content"), ("max_tokens", ""), ("refusal", "")])
def test_a_stream_without_content_is_an_answer_only_where_it_can_be_one(reason, ends):
    assert read(b"".join(events_of(message([], stop_reason=reason))))[0].end() == ends


def test_what_follows_the_stop_is_not_looked_at():
    taken, out = read(b"".join(events_of(message([TEXT]))) + b"data: garbage\n\ndata: more")
    assert (taken.end(), taken.feed(b"data: garbage\n\n")) == ("", b"")
    assert len(chunks(out)) == 5


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
inputs = st.dictionaries(words, st.one_of(words, st.integers(-99, 99), st.booleans(), st.none()), max_size=3)
blocks = st.one_of(
    st.builds(lambda words: {"type": "text", "text": words}, words),
    st.builds(lambda words: {"type": "thinking", "thinking": words, "signature": "x"}, words),
    st.builds(lambda told: {**CALL, "input": told}, inputs),
)
reasons = st.sampled_from(["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"])
ends = {"\n": b"\n", "\r\n": b"\r\n", "\r": b"\r"}
answers = st.builds(
    lambda blocks, reason: message([TEXT, *blocks], stop_reason=reason), st.lists(blocks, max_size=4), reasons
)


@given(answers, st.integers(1, 7))
def test_the_chunks_of_a_stream_are_together_the_translated_whole_answer(whole, pieces):
    taken, out = read(b"".join(events_of(whole, pieces=pieces)), usage_wanted=True)
    said, finish, usage = assembled(out)
    expected, expected_finish, expected_usage = translated(whole)
    assert taken.end() == ""
    assert parsed(said) == parsed(expected)
    assert (finish, usage) == (expected_finish, expected_usage)


@given(answers, st.sampled_from(sorted(ends)), st.lists(st.integers(1, 60), max_size=60), st.booleans())
def test_however_a_stream_is_cut_into_pieces_the_same_chunks_come_out(whole, end, sizes, with_error):
    events = list(events_of(whole))
    if with_error:
        events[-2:] = [event("error", error={"type": "api_error", "message": "x"})]
    stream = b"".join(events).replace(b"\n", ends[end])
    once, out = read(stream, usage_wanted=True, collect=True)
    taken, pieces = reader(usage_wanted=True, collect=True), []
    for size in [*sizes, len(stream)]:
        pieces.append(taken.feed(stream[:size]))
        stream = stream[size:]
    assert all(piece == b"" or piece.endswith(b"\n\n") for piece in pieces)
    assert b"".join(pieces) == out
    for name in ("content", "finish", "done", "error", "usage", "model", "id", "events", "deltas"):
        assert getattr(taken, name) == getattr(once, name), name
    assert taken.end() == once.end()
