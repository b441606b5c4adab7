from urllib.parse import urlsplit

import msgspec
import pytest

from leeward.errors import ConfigError
from leeward.gateway.providers import KINDS
from leeward.settings.gateway_checks import KIND_NAMES
from leeward.wire.anthropic.dialect import ANTHROPIC
from leeward.wire.chat import ChatRequest, Needs
from leeward.wire.openai import OPENAI

ALL = sorted(KINDS)
CORE = {"model", "messages", "stream", "tools", "tool_choice", "temperature", "top_p", "stop", "response_format"}


def asking(operation="chat", choices=1, **fields):
    """A request with these fields."""
    raw = {name: msgspec.Raw(value) for name, value in fields.items()}
    return ChatRequest("m", raw, Needs(choices=choices), operation=operation)


def test_the_kinds_are_those_that_the_settings_take():
    assert sorted(KIND_NAMES) == ALL


@pytest.mark.parametrize("name", ALL)
def test_a_row_has_the_address_of_its_service_up_to_the_version(name):
    kind = KINDS[name]
    assert kind.name == name
    if name in {"openai-compatible", "simulated"}:
        assert not kind.base_url
        return
    url = urlsplit(kind.base_url)
    assert not kind.base_url.endswith("/")
    assert url.scheme == ("http" if url.hostname == "127.0.0.1" else "https")
    assert kind.needs_key is (url.scheme == "https")


@pytest.mark.parametrize("name", ALL)
def test_nothing_that_makes_an_answer_is_dropped_and_nothing_is_dropped_and_refused_at_once(name):
    kind = KINDS[name]
    assert not kind.drop & CORE
    assert not kind.cannot & CORE
    assert not kind.drop & kind.cannot
    assert not kind.rename.keys() & (kind.drop | kind.cannot)


def test_only_anthropic_speaks_another_dialect():
    assert {name for name in ALL if KINDS[name].dialect is not OPENAI} == {"anthropic"}
    assert KINDS["anthropic"].dialect is ANTHROPIC


def test_the_key_stands_where_the_kind_wants_it():
    assert KINDS["openai"].header_block("sk-1") == (b"content-type: application/json\r\nauthorization: Bearer sk-1\r\n")
    assert KINDS["anthropic"].header_block("sk-2") == (
        b"content-type: application/json\r\nanthropic-version: 2023-06-01\r\nx-api-key: sk-2\r\n"
    )
    assert KINDS["vllm"].header_block("") == b"content-type: application/json\r\n"
    assert KINDS["simulated"].header_block("sk-3") == b"content-type: application/json\r\n"


@pytest.mark.parametrize("key", ["sk-1\r\nx-evil: 1", "sk-1\n", "sk 1", "sk-é", "\x00"])
def test_g13_a_key_that_could_write_a_header_of_its_own_is_refused(key):
    with pytest.raises(ConfigError) as refused:
        KINDS["openai"].header_block(key)
    assert key not in str(refused.value)


def test_g16_a_request_for_what_a_kind_cannot_do_goes_elsewhere_and_names_the_field():
    assert KINDS["groq"].lacks(asking(logprobs=b"true")) == "logprobs"
    assert KINDS["groq"].lacks(asking(choices=2, n=b"2")) == "n"
    assert KINDS["anthropic"].lacks(asking(choices=2, n=b"2")) == "n"
    assert KINDS["anthropic"].lacks(asking(functions=b'[{"name":"f"}]')) == "functions"
    assert KINDS["deepseek"].lacks(asking("embeddings")) == "model"
    assert KINDS["mistral"].lacks(asking("embeddings")) == ""
    assert KINDS["openai"].lacks(asking(choices=4, logprobs=b"true", audio=b"{}")) == ""


@pytest.mark.parametrize("nothing", [b"null", b"false", b"0", b"{}", b"[]"])
def test_a_field_that_asks_for_nothing_is_no_reason_to_go_elsewhere(nothing):
    assert KINDS["groq"].lacks(asking(logprobs=nothing, top_logprobs=nothing, logit_bias=nothing)) == ""


@pytest.mark.parametrize("name", ["mistral", "together", "deepseek", "ollama"])
def test_a_limit_of_tokens_is_not_lost_where_only_the_older_name_is_known(name):
    assert KINDS[name].rename["max_completion_tokens"] == "max_tokens"
