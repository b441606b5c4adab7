"""Attributes of calls to providers of generative AI → columns: every generation of names, and values that are odd."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from leeward.wire.genai import INPUT_TOKENS, MODEL, NAMES, OUTPUT_TOKENS, PROVIDER, Generation, generation

ALL_FIELDS = Generation("openai", "gpt-4o", 12, 34)


@pytest.mark.parametrize(
    "attributes",
    [
        {
            "gen_ai.provider.name": "openai",
            "gen_ai.response.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 34,
        },
        {
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.prompt_tokens": 12,
            "gen_ai.usage.completion_tokens": 34,
        },
        {
            "llm.provider": "openai",
            "llm.model_name": "gpt-4o",
            "llm.token_count.prompt": 12,
            "llm.token_count.completion": 34,
        },
        {
            "gen_ai.system": "openai",
            "llm.request.model": "gpt-4o",
            "llm.usage.prompt_tokens": 12,
            "llm.usage.completion_tokens": 34,
        },
        {
            "ai.model.provider": "openai",
            "ai.model.id": "gpt-4o",
            "ai.usage.promptTokens": 12,
            "ai.usage.completionTokens": 34,
        },
        {
            "ai.model.provider": "openai",
            "ai.response.model": "gpt-4o",
            "ai.usage.inputTokens": 12,
            "ai.usage.outputTokens": 34,
        },
        {
            "gen_ai.system": "openai",
            "ai.model_id": "gpt-4o",
            "ai.prompt_tokens.used": 12,
            "ai.completion_tokens.used": 34,
        },
        {
            "llm.system": "openai",
            "langfuse.observation.model.name": "gpt-4o",
            "langfuse.observation.usage_details": json.dumps({"input": 12, "output": 34, "total": 46}),
        },
    ],
    ids=["today", "1.36", "openinference", "traceloop", "vercel 4", "vercel 5", "sentry", "langfuse"],
)
def test_every_generation_of_names_fills_the_same_columns(attributes):
    assert generation(attributes) == ALL_FIELDS


@pytest.mark.parametrize("names", [PROVIDER, MODEL, INPUT_TOKENS, OUTPUT_TOKENS])
def test_of_several_names_the_first_wins(names):
    values = {
        name: index + 1 if names in (INPUT_TOKENS, OUTPUT_TOKENS) else f"v{index}" for index, name in enumerate(names)
    }

    found = generation(dict(reversed(values.items())))

    assert values[names[0]] in found


def test_what_a_column_cannot_take_is_left_to_the_next_name():
    found = generation({"gen_ai.usage.input_tokens": "12", "gen_ai.usage.prompt_tokens": 12, "gen_ai.system": 5})

    assert found == Generation("", "", 12, None)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (0, 0),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (-1, None),
        (12.0, 12),
        (12.5, None),
        (True, None),
        (None, None),
        (float("nan"), None),
        (float("inf"), None),
        (1e300, None),
        ("12", None),
    ],
)
def test_i2_a_count_of_tokens_is_a_whole_number_that_fits_or_none(value, count):
    assert generation({"gen_ai.usage.output_tokens": value}).output_tokens == count


def test_a_conversation_is_a_session_and_long_names_are_cut():
    found = generation({"gen_ai.conversation.id": "c1", "gen_ai.provider.name": "x" * 201})

    assert found.session_id == "c1"
    assert found.provider == "x" * 200


@pytest.mark.parametrize("usage", ["", "[1]", "{", '{"a":' * 100_000, "\ud800", 5, None, b"\xff", {"output": 4}])
def test_i3_usage_that_is_no_json_object_is_left_alone(usage):
    found = generation({"langfuse.observation.usage_details": usage, "llm.system": "openai"})

    assert found.provider == "openai"
    assert found.output_tokens == (4 if isinstance(usage, dict) else None)


def test_usage_in_openais_words_counts_too_but_not_against_an_attribute():
    usage = '{"prompt_tokens":1,"completion_tokens":2}'

    found = generation({"langfuse.observation.usage_details": usage, "gen_ai.usage.input_tokens": 9})

    assert found == Generation("", "", 9, 2)


def test_attributes_of_anything_else_are_no_generation():
    assert generation({}) is None
    assert generation({"http.route": "/", "gen_ai.operation.name": "chat"}) is None


@given(
    st.dictionaries(st.sampled_from(sorted(NAMES)), st.none() | st.booleans() | st.integers() | st.floats() | st.text())
)
def test_whatever_the_values_are_the_columns_keep_their_bounds(attributes):
    found = generation(attributes)

    assert (found is None) == (not attributes)
    if found is not None:
        assert max(map(len, (found.provider, found.model, found.session_id))) <= 200
        assert all(one is None or 0 <= one < 2**63 for one in (found.input_tokens, found.output_tokens))
