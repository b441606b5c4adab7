import itertools
import json

import pytest
from hypothesis import given, strategies as st

from anthropic_provider import checked
from anthropic_requests import HI, IMAGE, TOOL, call, chat, sent
from leeward.wire.anthropic.dialect import ANTHROPIC
from leeward.wire.anthropic.messages import tool_id
from leeward.wire.chat import RequestInvalid

PDF = "data:application/pdf;base64,JVBERi0="


def turns(*messages):
    """The turns that become of messages."""
    return sent(list(messages), tools=[TOOL])["messages"]


def user(*parts):
    """A message of a user in parts."""
    return {"role": "user", "content": list(parts)}


def text(words):
    return {"type": "text", "text": words}


def refused(*messages, model="claude-haiku-4-5"):
    """The place for which messages are refused."""
    with pytest.raises(RequestInvalid) as caught:
        ANTHROPIC.encode(chat(list(messages), model=model), model)
    return caught.value.param


def test_system_and_developer_messages_are_joined_at_the_top_wherever_they_stand():
    said = [{"role": "system", "content": "Be kind."}, *HI, {"role": "developer", "content": [text("Be brief.")]}]
    body = sent(said)
    assert body["system"] == "Be kind.\nBe brief."
    assert body["messages"] == HI


def test_a_system_prompt_that_is_to_be_cached_stays_in_blocks():
    marked = {**text("Long."), "cache_control": {"type": "ephemeral"}}
    assert sent([{"role": "system", "content": [marked]}, *HI])["system"] == [marked]


def test_a_conversation_keeps_its_turns():
    talk = [*HI, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "bye"}]
    assert sent(talk)["messages"] == talk


def test_neighbours_of_one_role_are_one_turn():
    assert turns(*HI, *HI) == [{"role": "user", "content": [text("hi"), text("hi")]}]


def test_calls_of_tools_and_their_results_are_translated():
    assert turns(
        *HI,
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call("c1"), call("c2", arguments="")]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": [text("rain"), text("wind")]},
        {"role": "user", "content": "thanks"},
    )[1:] == [
        {
            "role": "assistant",
            "content": [
                text("Let me look."),
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"}},
                {"type": "tool_use", "id": "c2", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "sunny"},
                {"type": "tool_result", "tool_use_id": "c2", "content": [text("rain"), text("wind")]},
                text("thanks"),
            ],
        },
    ]


def test_a_result_may_be_empty_an_error_or_an_image():
    calls = {"role": "assistant", "content": "", "tool_calls": [call("a"), call("b"), call("c")]}
    image = {"type": "image_url", "image_url": {"url": IMAGE}}
    _, _, results = turns(
        *HI,
        calls,
        {"role": "tool", "tool_call_id": "a", "content": ""},
        {"role": "tool", "tool_call_id": "b", "content": "no such city", "is_error": True},
        {"role": "tool", "tool_call_id": "c", "content": [image]},
    )
    empty, failed, seen = results["content"]
    assert empty == {"type": "tool_result", "tool_use_id": "a"}
    assert failed["is_error"] is True
    assert seen["content"][0]["source"]["media_type"] == "image/png"


def test_an_id_of_another_provider_is_made_one_that_anthropic_takes_on_both_sides():
    _, called, result = turns(
        *HI,
        {"role": "assistant", "tool_calls": [call("functions.weather:0")]},
        {"role": "tool", "tool_call_id": "functions.weather:0", "content": "x"},
    )
    assert called["content"][0]["id"] == result["content"][0]["tool_use_id"] == "functions_weather_0"


def test_the_arguments_of_a_call_pass_byte_for_byte():
    arguments = '{"n": 1.50, "big": 123456789012345678901234567890, "ü": "\\u00fc"}'
    talk = [*HI, {"role": "assistant", "tool_calls": [call("a", arguments=arguments)]}]
    body = ANTHROPIC.encode(chat([*talk, {"role": "tool", "tool_call_id": "a", "content": "x"}], tools=[TOOL]), "m")
    assert arguments.encode() in body


@pytest.mark.parametrize("arguments", ['{"a":' * 100_000, "{", "[]", "null", '"x"', '{"a":1}}', '{"a":tru}'])
def test_arguments_that_are_no_object_are_refused_at_their_place(arguments):
    said = {"role": "assistant", "tool_calls": [call("a"), call("b", arguments=arguments)]}
    assert refused(*HI, said) == "messages[1].tool_calls[1].function.arguments"


def test_images_come_by_data_or_by_address():
    plain = {"type": "image_url", "image_url": IMAGE}
    linked = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}}
    jpg = {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}}
    assert [block["source"] for block in turns(user(plain, linked, jpg))[0]["content"]] == [
        {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
        {"type": "url", "url": "https://example.com/a.png"},
        {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"},
    ]


@pytest.mark.parametrize(
    "url", ["http://example.com/a.png", "file:///etc/passwd", "data:image/tiff;base64,AAAA", "data:image/png,raw", ""]
)
def test_an_image_that_anthropic_does_not_take_is_refused_at_its_place(url):
    part = {"type": "image_url", "image_url": {"url": url}}
    assert refused(user(text("see"), part)) == "messages[0].content[1].image_url"


def test_a_pdf_is_a_document_and_another_file_is_refused():
    assert turns(user({"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}}))[0]["content"] == [
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            "title": "a.pdf",
        }
    ]
    assert turns(user({"type": "file", "file": {"file_data": PDF}}))[0]["content"][0].keys() == {"type", "source"}
    assert refused(user({"type": "file", "file": {"file_id": "file-1"}})) == "messages[0].content[0].file"


def test_sound_and_whatever_else_is_not_known_is_refused_at_its_place():
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    assert refused(user(text("hear"), sound)) == "messages[0].content[1].type"


def test_only_text_stands_in_messages_of_the_system_and_the_assistant():
    image = {"type": "image_url", "image_url": IMAGE}
    assert refused({"role": "system", "content": [text("a"), image]}, *HI) == "messages[0].content[1]"
    assert refused(*HI, {"role": "assistant", "content": [image]}) == "messages[1].content[0]"


def test_what_an_earlier_answer_was_besides_text_is_passed_over_and_its_refusal_is_text():
    earlier = {"content": [{"type": "refusal", "refusal": "No."}], "annotations": [], "audio": None, "name": "bot"}
    said = {"role": "assistant", **earlier, "reasoning_content": "hm", "function_call": None}
    assert turns(*HI, said, *HI)[1] == {"role": "assistant", "content": "No."}


def test_empty_text_is_left_out_with_the_message_that_has_nothing_else():
    empty = {"role": "assistant", "content": None}
    assert turns(user(text("a"), text(" "), text("b")), empty, {"role": "user", "content": "\n"}) == [
        {"role": "user", "content": [text("a"), text("b")]}
    ]


@pytest.mark.parametrize("messages", [[], [{"role": "system", "content": "s"}], [{"role": "user", "content": ""}]])
def test_a_conversation_without_a_word_is_refused(messages):
    assert refused(*messages) == "messages"


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "function", "name": "f", "content": "x"}, "messages[1].role"),
        ({"content": "x"}, "messages[1]"),
        ({"role": "user", "content": 7}, "messages[1].content"),
        ({"role": "user", "content": [7]}, "messages[1].content[0]"),
        ({"role": "tool", "content": "x"}, "messages[1].tool_call_id"),
        ({"role": "assistant", "tool_calls": [{"id": "a"}]}, "messages[1].tool_calls[0]"),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": ""}}, "messages[1].function_call"),
    ],
)
def test_a_message_of_another_shape_is_refused_at_its_place(message, place):
    assert refused(*HI, message) == place


def test_a_conversation_that_ends_with_the_assistant_is_continued_only_where_the_model_can():
    begun = [*HI, {"role": "assistant", "content": "The answer is \n"}]
    assert sent(begun)["messages"][-1]["content"] == "The answer is"
    parts = {"role": "assistant", "content": [text("The answer"), text("is ")]}
    assert sent([*HI, parts])["messages"][-1]["content"][-1] == text("is")
    assert refused(*begun, model="claude-opus-4-6") == "messages"
    assert refused(*begun, model="claude-opus-5-5") == "messages"


def test_marks_for_the_cache_stay_on_their_parts():
    marked = {**text("long"), "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert turns(user(marked, text("short")))[0]["content"] == [marked, text("short")]
    assert turns(user({**text("long"), "cache_control": None}))[0]["content"] == "long"


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
parts = st.lists(st.one_of(st.builds(text, words), st.just({"type": "image_url", "image_url": IMAGE})), max_size=3)
ids = st.text("abc.:-_", min_size=1, max_size=6)


@st.composite
def conversations(draw):
    """Conversations as clients hold them: every call of a tool has its result."""
    talk = []
    for kind in draw(st.lists(st.sampled_from(["user", "parts", "system", "assistant", "tools"]), max_size=8)):
        if kind == "tools":
            called = draw(st.lists(ids, min_size=1, max_size=3, unique_by=tool_id))
            calls = [call(one) for one in called]
            talk.append({"role": "assistant", "content": draw(words | st.none()), "tool_calls": calls})
            talk += [{"role": "tool", "tool_call_id": one, "content": draw(words | parts)} for one in called]
        else:
            role = "user" if kind == "parts" else kind
            talk.append({"role": role, "content": draw(parts if kind == "parts" else words)})
    return [*talk, {"role": "user", "content": "and now?"}]


@given(conversations(), st.booleans())
def test_every_conversation_of_a_client_is_one_that_anthropic_takes(talk, with_tools):
    fields = {"tools": [TOOL]} if with_tools else {}
    body = checked(ANTHROPIC.encode(chat(talk, **fields), "claude-haiku-4-5"))
    wanted = [m["content"] for m in talk if m["role"] == "system" and m["content"].strip()]
    assert body.get("system", "") == "\n".join(wanted)
    roles = [turn["role"] for turn in body["messages"]]
    assert all(before != after for before, after in itertools.pairwise(roles))
    assert json.dumps(body).count('"tool_result"') == sum(m["role"] == "tool" for m in talk)
