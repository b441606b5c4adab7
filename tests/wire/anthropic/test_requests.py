import json

import msgspec
import pytest

from anthropic_requests import HI, TOOL, call, chat, sent
from leeward.wire.anthropic.dialect import ANTHROPIC
from leeward.wire.anthropic.models import OUTPUT_TOKENS
from leeward.wire.anthropic.requests import IGNORED
from leeward.wire.chat import RequestInvalid

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


def refused(messages=HI, *, model="claude-haiku-4-5", **fields):
    """The field for which a request is refused."""
    with pytest.raises(RequestInvalid) as caught:
        ANTHROPIC.encode(chat(messages, model=model, **fields), model)
    assert caught.value.status == 400
    return caught.value.param


def test_the_least_request_gets_a_limit_of_tokens_since_messages_asks_for_one():
    assert sent() == {"model": "claude-haiku-4-5", "max_tokens": OUTPUT_TOKENS, "messages": HI}


def test_the_model_is_called_by_the_providers_name_for_it():
    assert json.loads(ANTHROPIC.encode(chat(model="small"), "claude-opus-5-5"))["model"] == "claude-opus-5-5"


def test_either_limit_of_tokens_is_taken_and_the_newer_one_first():
    assert sent(max_tokens=7)["max_tokens"] == 7
    assert sent(max_completion_tokens=8)["max_tokens"] == 8
    assert sent(max_completion_tokens=8, max_tokens=7)["max_tokens"] == 8
    assert refused(max_tokens=0) == "max_tokens"
    assert refused(max_completion_tokens="many") == "max_completion_tokens"


def test_a_stream_is_asked_for_as_one_and_its_options_are_not_sent():
    request = chat(stream=True, stream_options={"include_usage": True})
    body = json.loads(ANTHROPIC.encode(request, "claude-opus-5-5", add_usage=True))
    assert body["stream"] is True
    assert "stream_options" not in body


def test_a_temperature_over_one_is_one_and_one_out_of_openais_range_is_refused():
    assert sent(temperature=0.3)["temperature"] == 0.3
    assert sent(temperature=2)["temperature"] == 1.0
    assert refused(temperature=2.1) == "temperature"
    assert refused(temperature=-0.1) == "temperature"
    assert refused(top_p=1.1) == "top_p"


def test_each_model_gets_of_the_sampling_what_it_takes():
    both = {"top_p": 0.9, "temperature": 0.5}
    assert "top_p" not in sent(**both)
    assert sent(top_p=0.9)["top_p"] == 0.9
    assert sent(model="claude-sonnet-4-6", **both)["temperature"] == 0.5
    for newer in ("claude-opus-4-7", "claude-opus-5-5", "claude-something-9"):
        assert not sent(model=newer, **both).keys() & both.keys()
    assert sent(model="deepseek-chat", **both).items() >= both.items()


def test_stop_is_a_list_and_mere_space_is_refused():
    assert sent(stop="END")["stop_sequences"] == ["END"]
    assert sent(stop=["a", "b"])["stop_sequences"] == ["a", "b"]
    assert "stop_sequences" not in sent(stop=[])
    assert refused(stop=["a", "\n"]) == "stop"
    assert refused(stop=3) == "stop"


def test_a_user_becomes_the_user_of_the_metadata():
    assert sent(user="u-1")["metadata"] == {"user_id": "u-1"}
    assert sent(safety_identifier="s-1", user="u-1")["metadata"] == {"user_id": "s-1"}
    assert "metadata" not in sent(user="", metadata={"team": "x"})


def test_tools_are_translated_with_all_that_is_known_of_them():
    function = {"name": "weather", "description": "Of a city.", "parameters": SCHEMA, "strict": True}
    bare = {"type": "function", "function": {"name": "now"}}
    marked = {**TOOL, "cache_control": {"type": "ephemeral"}}
    assert sent(tools=[{"type": "function", "function": function}, bare, marked])["tools"] == [
        {"name": "weather", "description": "Of a city.", "input_schema": SCHEMA, "strict": True},
        {"name": "now", "input_schema": {"type": "object", "properties": {}}},
        {"name": "weather", "input_schema": TOOL["function"]["parameters"], "cache_control": {"type": "ephemeral"}},
    ]
    assert "tools" not in sent(tools=[])


def test_a_tool_of_another_type_is_refused_at_its_place():
    assert refused(tools=[TOOL, {"type": "custom", "custom": {"name": "x"}}]) == "tools[1].type"
    assert refused(tools=[{"type": "function"}]) == "tools[0].type"
    assert refused(tools=[{"type": "function", "function": {"name": 7}}]) == "tools[0].function.name"


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}),
    ],
)
def test_every_choice_of_a_tool_has_its_counterpart(choice, told):
    assert sent(tools=[TOOL], tool_choice=choice)["tool_choice"] == told


@pytest.mark.parametrize("choice", ["any", {"type": "allowed_tools", "allowed_tools": {}}, {"type": "function"}, 1])
def test_another_choice_of_a_tool_is_refused(choice):
    assert refused(tools=[TOOL], tool_choice=choice) == "tool_choice"


def test_one_tool_at_a_time_is_said_within_the_choice():
    one = {"tools": [TOOL], "parallel_tool_calls": False}
    assert sent(**one)["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert sent(**one, tool_choice="required")["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert sent(**one, tool_choice="none")["tool_choice"] == {"type": "none"}
    assert "tool_choice" not in sent(tools=[TOOL], parallel_tool_calls=True)


def test_a_choice_without_tools_is_dropped_unless_it_asks_for_one():
    for choice in ("auto", "none"):
        assert "tool_choice" not in sent(tool_choice=choice)
    assert "tool_choice" not in sent(parallel_tool_calls=False)
    assert refused(tool_choice="required") == "tool_choice"
    assert refused(tool_choice={"type": "function", "function": {"name": "weather"}}) == "tool_choice"


def test_tools_that_were_called_earlier_are_told_though_none_may_be_called_now():
    talk = [
        *HI,
        {"role": "assistant", "tool_calls": [call("c1")]},
        {"role": "tool", "tool_call_id": "c1", "content": "x"},
    ]
    body = sent(talk)
    assert body["tools"] == [{"name": "weather", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


def test_a_schema_for_the_answer_is_passed_on():
    form = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}
    assert sent(response_format=form)["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert "output_config" not in sent(response_format={"type": "text"})


@pytest.mark.parametrize(
    "form", [{"type": "json_object"}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {"name": "a"}}]
)
def test_json_without_a_schema_is_refused(form):
    assert refused(response_format=form) == "response_format"


@pytest.mark.parametrize(
    ("model", "effort", "told"),
    [
        ("claude-opus-5-5", "minimal", "low"),
        ("claude-opus-5-5", "medium", "medium"),
        ("claude-opus-5-5", "xhigh", "xhigh"),
        ("claude-opus-4-6", "xhigh", "high"),
        ("claude-opus-4-5", "low", "low"),
        ("claude-fable-5-2", "none", "low"),
    ],
)
def test_an_effort_is_told_in_the_words_of_the_model(model, effort, told):
    assert sent(model=model, reasoning_effort=effort)["output_config"] == {"effort": told}


def test_a_model_that_knows_no_effort_is_told_none_and_no_effort_switches_thinking_off():
    assert "output_config" not in sent(model="claude-haiku-4-5", reasoning_effort="high")
    assert sent(model="claude-opus-5-5", reasoning_effort="none")["thinking"] == {"type": "disabled"}
    assert refused(reasoning_effort="furious") == "reasoning_effort"


def test_effort_and_schema_stand_side_by_side():
    form = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    told = sent(model="claude-opus-5-5", reasoning_effort="low", response_format=form)["output_config"]
    assert told == {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}


def test_anthropics_own_fields_pass():
    thinking = {"type": "adaptive", "display": "summarized"}
    body = sent(model="claude-opus-5-5", thinking=thinking, cache_control={"type": "ephemeral"})
    assert body["thinking"] == thinking
    assert body["cache_control"] == {"type": "ephemeral"}
    assert sent(top_k=5)["top_k"] == 5


def test_what_changes_nothing_that_is_relied_on_is_left_out():
    harmless = dict.fromkeys(IGNORED - {"model", "messages", "stream", "stream_options"}, "x")
    nothing = {"n": 1, "logprobs": False, "top_logprobs": 0, "logit_bias": {}, "modalities": ["text"]}
    nulls = dict.fromkeys(("functions", "audio", "temperature", "tools", "stop", "web_search_options"))
    assert sent(**harmless, **nothing, **nulls).keys() == {"model", "max_tokens", "messages"}


@pytest.mark.parametrize(
    "field",
    [
        *({"n": 2}, {"logprobs": True}, {"top_logprobs": 3}, {"logit_bias": {"50256": -100}}),
        *({"modalities": ["text", "audio"]}, {"audio": {"voice": "alloy"}}, {"web_search_options": {}}),
        *({"functions": [{"name": "f"}]}, {"function_call": "auto"}, {"never_heard_of": 1}),
    ],
)
def test_what_would_give_another_answer_is_refused_by_its_name(field):
    assert refused(**field) == next(iter(field))


def test_embeddings_are_refused():
    with pytest.raises(RequestInvalid):
        ANTHROPIC.encode(chat(operation="embeddings"), "claude-opus-5-5")


def test_the_providers_row_may_drop_and_rename_fields():
    request = chat(seed=1, limit=9, temperature=0.5)
    rename = {"limit": "max_tokens"}
    body = json.loads(ANTHROPIC.encode(request, "m", drop=frozenset({"temperature"}), rename=rename))
    assert body.keys() == {"model", "max_tokens", "messages"}
    assert body["max_tokens"] == 9


def test_a_caller_cannot_smuggle_a_field_in_by_a_duplicate_of_the_models_name():
    request = chat()
    request.fields["model"] = msgspec.Raw(b'"claude-of-the-caller"')
    assert json.loads(ANTHROPIC.encode(request, "claude-opus-5-5"))["model"] == "claude-opus-5-5"
