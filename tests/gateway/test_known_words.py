"""Which words of a provider's reach the caller: those that everybody knows, and nothing that could be a prompt or a key."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from leeward.gateway.known_words import _CODES, _FIELDS, known_code, known_param


@pytest.mark.parametrize("code", ["context_length_exceeded", "invalid_type", "content_policy_violation"])
def test_a_code_that_everybody_knows_is_passed_on(code):
    assert known_code(code) == code


@pytest.mark.parametrize("code", ["", "zebra_quokka", "sk-live-9f8e7d6c", "invalid_type ", "INVALID_TYPE", "invalid\n"])
def test_g14_any_other_code_becomes_the_general_one(code):
    assert known_code(code) == "invalid_request"


@pytest.mark.parametrize(
    "path",
    [
        "messages",
        "n",
        "messages[0].content",
        "messages.[0].content",
        "messages.1.content.0.image_url.url",
        "response_format.json_schema.schema",
        "tools[12].function.parameters",
    ],
)
def test_the_name_of_a_field_is_passed_on(path):
    assert known_param(path) == path


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("tools[0].function.parameters.properties.zebra", "tools[0].function.parameters"),
        ("messages[0].zebra", "messages[0]"),
        ("messages[47110].content", "messages"),
        ("messages\r\nzebra", "messages"),
        ("model.sk-live", "model"),
        ("zebra", ""),
        ("[0]", ""),
        (".model", ""),
        ("modelzebra", ""),
        ("", ""),
    ],
)
def test_g14_a_path_goes_as_far_as_it_is_known(path, known):
    assert known_param(path) == known


def test_a_path_is_bounded():
    assert len(known_param("messages" + ".content" * 100)) <= 100


@given(st.text(max_size=200) | st.lists(st.sampled_from([*sorted(_FIELDS), "[0]", ".", "1", "zebra"])).map("".join))
def test_g14_nothing_but_known_names_and_small_numbers_comes_out(said):
    code, param = known_code(said), known_param(said)

    assert code in _CODES
    assert said.startswith(param)
    for part in param.replace("[", ".").replace("]", "").split("."):
        assert part in _FIELDS or part == "" or (part.isdigit() and len(part) <= 4)
