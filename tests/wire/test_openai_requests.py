"""A caller's request: what is looked at, what is refused, and what a provider gets of it."""

from __future__ import annotations

import contextlib
import json
import re

import pytest
from hypothesis import given, settings, strategies as st

import json_strategies
from leeward.wire.chat import Needs, RequestInvalid
from leeward.wire.openai import OPENAI
from leeward.wire.openai_requests import (
    DEPTH_MAX,
    FORBIDDEN_FIELDS,
    RequestLimits,
    decode_request,
    encode_request,
    without_tools,
)

LIMITS = RequestLimits()
MESSAGES = [{"role": "user", "content": "Hello"}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def body(**fields):
    return json.dumps({"model": "chat", "messages": MESSAGES} | fields).encode()


def chat(**fields):
    return decode_request(body(**fields), "chat", LIMITS)


def refused(data, operation="chat", limits=LIMITS):
    with pytest.raises(RequestInvalid) as caught:
        decode_request(data, operation, limits)
    return caught.value


def nested(depth):
    """A field so deep that the request, an object itself, has that depth."""
    return b'{"model":"chat","messages":[{"role":"user"}],"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


# --- what is known of a request ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, {}),
        ({"tools": [TOOL]}, {"tools": True}),
        ({"tools": []}, {}),
        ({"functions": [{"name": "f"}]}, {"tools": True}),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {"json_schema": True}),
        ({"response_format": {"type": "json_object"}}, {}),
        ({"n": 3}, {"choices": 3}),
        ({"max_tokens": 7}, {"output_tokens": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 9}, {"output_tokens": 9}),
        ({"stream_options": {"include_usage": True}}, {"stream_usage": True}),
        ({"stream_options": {"include_usage": False}}, {}),
        ({"n": None, "tools": None, "max_tokens": None, "response_format": None, "stream_options": None}, {}),
    ],
)
def test_what_a_request_needs_is_known(fields, needs):
    expected = {"prompt_bytes": len(json.dumps(MESSAGES))} | needs

    assert chat(**fields).needs == Needs(**expected)


@pytest.mark.parametrize(
    ("content", "images"),
    [
        ("say image_url", False),
        ([{"type": "text", "text": "image_url"}], False),
        ([{"type": "text", "text": "see"}, IMAGE], True),
        (["image_url", None], False),
        (None, False),
    ],
)
def test_images_are_seen_where_they_are_and_not_in_words(content, images):
    assert chat(messages=[{"role": "user", "content": content}]).needs.images is images


@pytest.mark.parametrize(("stream", "expected"), [(True, True), (False, False), (None, False)])
def test_a_stream_is_asked_for_by_true_alone(stream, expected):
    assert chat(stream=stream).stream is expected


@pytest.mark.parametrize("prompt", ["Hello", ["a", "b"], [[1, 2]]])
def test_embeddings_have_a_model_and_an_input(prompt):
    data = json.dumps({"model": "small", "input": prompt}).encode()

    request = decode_request(data, "embeddings", LIMITS)

    assert (request.model, request.operation, request.stream) == ("small", "embeddings", False)
    assert request.needs == Needs(prompt_bytes=len(json.dumps(prompt)))
    assert OPENAI.path("embeddings") == "/embeddings"


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": {"role": "user"}}, "messages"),
        ({"messages": [*MESSAGES, "Hello"]}, "messages[1]"),
        ({"messages": [{"content": "Hello"}]}, "messages[0]"),
        ({"n": "3"}, "n"),
        ({"n": 0}, "n"),
        ({"n": 1.5}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": "many"}, "max_completion_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"tools": {}}, "tools"),
        ({"response_format": "json"}, "response_format"),
    ],
)
def test_a_wrong_type_is_told_with_the_field(fields, param):
    error = refused(body(**fields))

    assert (error.status, error.code, error.param) == (400, "invalid_request", param)
    assert error.message.startswith(f"`{param}` must be ")


@pytest.mark.parametrize("fields", [{}, {"input": None}, {"input": 7}, {"input": ""}, {"input": []}])
def test_embeddings_without_an_input_are_refused(fields):
    assert refused(json.dumps({"model": "m", **fields}).encode(), "embeddings").param == "input"


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"[]", b'"x"', b"null", b'{"model":', b'{"n":NaN}', b'{"n":1e999}', b'{"a":1}{"b":2}', b"\xff"],
)
def test_what_is_no_json_object_is_refused(data):
    error = refused(data)

    assert (error.status, error.code, error.param) == (400, "invalid_json", "")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"n": 10**6}, "too_many_choices", "n"),
        ({"n": 9}, "too_many_choices", "n"),
        ({"max_tokens": 10**9}, "too_many_tokens", "max_tokens"),
        ({"max_completion_tokens": 200_001}, "too_many_tokens", "max_completion_tokens"),
        ({"max_tokens": 10**9, "max_completion_tokens": 5}, "too_many_tokens", "max_tokens"),
    ],
)
def test_g22_a_request_that_would_cost_too_much_is_refused(fields, code, param):
    error = refused(body(**fields))

    assert (error.status, error.code, error.param) == (400, code, param)


def test_g22_as_much_as_is_allowed_passes():
    needs = chat(n=8, max_tokens=200_000).needs

    assert (needs.choices, needs.output_tokens) == (8, 200_000)


def test_g22_a_request_of_too_many_bytes_is_refused_before_it_is_read():
    limits = RequestLimits(bytes_max=len(body()))

    assert decode_request(body(), "chat", limits).model == "chat"
    error = refused(body() + b"{", limits=limits)
    assert (error.status, error.code) == (413, "request_too_large")


@pytest.mark.parametrize("name", sorted(FORBIDDEN_FIELDS))
def test_g11_nobody_but_the_settings_says_who_is_called_and_with_which_key(name):
    error = refused(body(**{name: "http://169.254.169.254/"}))

    assert (error.status, error.code, error.param) == (400, "forbidden_field", name)


def test_g11_a_forbidden_field_written_with_escapes_is_the_same_field():
    assert refused(body().replace(b'{"model"', b'{"api\\u005fbase":1,"model"', 1)).param == "api_base"


@pytest.mark.parametrize("filling", [b"", b" " * 5_000])
def test_g10_depth_is_bounded_and_never_breaks_anything(filling):
    assert decode_request(nested(DEPTH_MAX) + filling, "chat", LIMITS).model == "chat"
    for depth in (DEPTH_MAX + 1, 500, 900, 90_000):
        assert refused(nested(depth) + filling).code == "too_deep"
    assert refused(nested(1_000_000) + filling).code == "too_many_members"


@pytest.mark.parametrize("piece", [b"[],", b"{},", b"0,"])
def test_g10_members_without_end_are_refused_before_they_are_made(piece):
    bomb = b'{"model":"m","messages":[],"x":[' + piece * 1_000_000 + b"0]}"
    assert refused(bomb).code == "too_many_members"


def test_g10_long_prose_is_not_taken_for_members():
    words = "one, two, " * 60_000
    assert decode_request(
        json.dumps({"model": "m", "messages": [{"role": "user", "content": words}]}).encode(), "chat", LIMITS
    )


def test_g10_depth_behind_broken_text_is_bounded_as_well():
    assert refused(nested(1_000_000).replace(b'"user"', b'"\xff"')).code in {"too_deep", "too_many_members"}


# --- what a provider gets ---------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.dictionaries(st.text(min_size=1, max_size=8).map(lambda name: "x" + name), json_strategies.values(), max_size=4)
)
def test_g11_unknown_fields_go_on_byte_for_byte(extra):
    members = [f"{json.dumps(name)}:{text}" for name, text in extra.items()]
    data = ("{" + ",".join(['"model":"chat"', '"messages":[ {"role":"user"} ]', *members]) + "}").encode()
    try:
        request = decode_request(data, "chat", LIMITS)
    except RequestInvalid:
        return  # a number that is out of range, or half a surrogate pair in a name

    sent = encode_request(request, "their-model")

    assert b'"messages":[ {"role":"user"} ]' in sent
    for text in extra.values():
        assert text.strip().encode() in sent
    assert list(json.loads(sent)) == list(json.loads(data))


def test_the_model_is_the_provider_s_name_for_it_and_stays_in_its_place():
    assert encode_request(chat(), "gpt-4o-mini") == body().replace(b'"chat"', b'"gpt-4o-mini"').replace(
        b'"model": ', b'"model":'
    ).replace(b', "messages": ', b',"messages":')


def test_of_a_field_that_stands_twice_the_last_one_is_judged_and_goes_on():
    data = b'{"model":"a","n":1000,"messages":[{"role":"user"}],"n":2,"model":"b"}'

    request = decode_request(data, "chat", LIMITS)

    assert (request.model, request.needs.choices) == ("b", 2)
    assert encode_request(request, "m") == b'{"model":"m","n":2,"messages":[{"role":"user"}]}'


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"stream": True}, {"include_usage": True}),
        ({"stream": True, "stream_options": None}, {"include_usage": True}),
        ({"stream": True, "stream_options": {"include_usage": False, "x": [1]}}, {"include_usage": True, "x": [1]}),
        ({"stream": True, "stream_options": {"include_usage": True, "x": 1}}, {"include_usage": True, "x": 1}),
        ({"stream": False}, None),
        ({}, None),
    ],
)
def test_a_stream_is_asked_for_its_usage_beside_what_the_caller_asked_for(fields, options):
    sent = json.loads(encode_request(chat(**fields), "m", add_usage=True))

    assert sent.get("stream_options") == options


def test_a_caller_who_asked_for_the_usage_has_asked_in_the_same_bytes():
    data = body(stream=True, stream_options=7).replace(b"7", b'{"include_usage":  true}')

    assert b'{"include_usage":  true}' in encode_request(decode_request(data, "chat", LIMITS), "m", add_usage=True)


def test_fields_that_a_provider_does_not_take_or_calls_otherwise_are_left_out_or_renamed():
    request = chat(max_completion_tokens=5, seed=7, stream=True)

    sent = OPENAI.encode(
        request,
        "m",
        add_usage=True,
        drop=frozenset({"seed", "stream_options", "absent"}),
        rename={"max_completion_tokens": "max_tokens"},
    )

    assert json.loads(sent) == {"model": "m", "messages": MESSAGES, "max_tokens": 5, "stream": True}
    assert list(request.fields) == ["model", "messages", "max_completion_tokens", "seed", "stream"]


def test_g16_a_request_without_tools_is_the_same_but_for_them():
    request = chat(
        tools=[TOOL], tool_choice="auto", parallel_tool_calls=True, functions=[], function_call="none", top_p=1
    )

    reduced = without_tools(request)

    assert json.loads(encode_request(reduced, "m")) == {"model": "m", "messages": MESSAGES, "top_p": 1}
    assert not reduced.needs.tools
    assert request.needs.tools


@pytest.mark.parametrize("broken", [b"\xff", b"\\ud800", b"\xed\xa0\x80"])
def test_broken_text_has_a_replacement_in_its_place(broken):
    request = decode_request(body(user="@").replace(b"@", broken), "chat", LIMITS)

    assert re.fullmatch("\ufffd+", json.loads(encode_request(request, "m"))["user"])


@settings(deadline=None)
@given(json_strategies.values() | st.text(max_size=20))
def test_whatever_comes_in_is_a_request_or_refused(text):
    for data in (text.encode(), b'{"model":"m","messages":' + text.encode() + b"}"):
        for operation in ("chat", "embeddings"):
            with contextlib.suppress(RequestInvalid):
                assert decode_request(data, operation, LIMITS).model
