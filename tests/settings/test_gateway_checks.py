"""What must be true between the gateway's settings, and what is odd in them."""

import pytest

from leeward.errors import ConfigError
from leeward.settings.gateway_checks import KIND_NAMES, warnings
from leeward.settings.load import load

HOME = {"HOME": "/home/ada"}
TWO = """\
[[gateway.providers]]
name = "primary"
kind = "openai"
api_key = "sk-1"
models = { chat = "gpt-4o-mini" }
[[gateway.providers]]
name = "local"
kind = "ollama"
models = { chat = "llama3", small = "llama3.2" }
"""


@pytest.fixture
def loaded(tmp_path):
    """Writes a configuration file and reads it."""

    def read(text):
        path = tmp_path / "leeward.toml"
        path.write_text(text, encoding="utf-8")
        return load({}, HOME, path)

    return read


def oddities(read):
    """The warnings as a person reads them."""
    return [tuple(odd) for odd in warnings(read.settings.gateway, read.origins, lambda kind: kind != "ollama")]


def test_the_kinds_that_may_be_named_are_those_that_the_gateway_knows():
    from leeward.gateway.providers import KINDS

    assert set(KIND_NAMES) == set(KINDS)


@pytest.mark.parametrize(
    ("text", "message", "where", "fix"),
    [
        (
            TWO.replace("ollama", "olama"),
            'gateway.providers.local.kind is "olama", which is no kind of provider',
            "leeward.toml:8",
            f"did you mean ollama? (known are {', '.join(KIND_NAMES)})",
        ),
        (
            TWO.replace("ollama", "zzz"),
            'gateway.providers.local.kind is "zzz", which is no kind of provider',
            "leeward.toml:8",
            f"known are {', '.join(KIND_NAMES)}",
        ),
        (
            TWO + "[[gateway.routes]]\nmodel = 'chat'\nproviders = ['primery']\n",
            'gateway.routes.chat names the provider "primery", which is not there',
            "leeward.toml:12",
            "did you mean primary?",
        ),
        (
            TWO + "[[gateway.routes]]\nmodel = 'chat'\nproviders = ['zzz']\n",
            'gateway.routes.chat names the provider "zzz", which is not there',
            "leeward.toml:12",
            'add [[gateway.providers]] with name = "zzz"',
        ),
        (
            TWO + "[[gateway.routes]]\nmodel = 'chat'\nproviders = ['local', 'local']\n",
            'gateway.routes.chat.providers has "local" twice',
            "leeward.toml:12",
            "delete one of them",
        ),
        (
            TWO + "[[gateway.routes]]\nmodel = 'chat'\nfallback = ['cache', 'static', 'cache']\n",
            'gateway.routes.chat.fallback has "cache" twice',
            "leeward.toml:12",
            "delete one of them",
        ),
        (
            TWO + "[[gateway.routes]]\nmodel = 'chat'\nsmaller_model = 'smal'\n[[gateway.routes]]\nmodel = 'small'\n",
            'gateway.routes.chat.smaller_model is "smal", which is no route',
            "leeward.toml:12",
            "did you mean small?",
        ),
        (
            TWO + "[[gateway.routes]]\nmodel = 'chat'\nsmaller_model = 'small'\n",
            'gateway.routes.chat.smaller_model is "small", which is no route',
            "leeward.toml:12",
            'add [[gateway.routes]] with model = "small"',
        ),
        (
            TWO + "[[gateway.routes]]\nmodel = 'chat'\nsmaller_model = 'chat'\n",
            'gateway.routes.chat.smaller_model is "chat", which is the route itself',
            "leeward.toml:12",
            "name another route",
        ),
        (
            "[gateway.cache]\nttl_s = 10\nstale_s = 5\n",
            "gateway.cache.ttl_s is 10, which is more than gateway.cache.stale_s with 5",
            "leeward.toml:2",
            "raise gateway.cache.stale_s, or lower gateway.cache.ttl_s",
        ),
        (
            "[gateway.retry]\ncap_s = 0.1\n",
            "gateway.retry.base_s is 0.2, which is more than gateway.retry.cap_s with 0.1",
            "leeward.toml:2",
            "raise gateway.retry.cap_s, or lower gateway.retry.base_s",
        ),
        (
            "[gateway.breaker]\nopen_s = 301\n",
            "gateway.breaker.open_s is 301, which is more than gateway.breaker.open_max_s with 300",
            "leeward.toml:2",
            "raise gateway.breaker.open_max_s, or lower gateway.breaker.open_s",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_its_place_and_cure(loaded, text, message, where, fix):
    with pytest.raises(ConfigError) as caught:
        loaded(text)

    assert (caught.value.message, caught.value.where, caught.value.fix) == (message, where, fix)


def test_two_providers_that_all_can_use_are_not_odd(loaded):
    assert oddities(loaded(TWO)) == []
    assert oddities(loaded(TWO + "[[gateway.routes]]\nmodel = 'chat'\n")) == []
    assert oddities(loaded("")) == []


def test_a_provider_that_no_route_uses_is_odd(loaded):
    route = "[[gateway.routes]]\nmodel = 'chat'\nproviders = ['primary']\n"

    assert oddities(loaded(TWO + route)) == [
        (
            "no route uses gateway.providers.local",
            "leeward.toml:7",
            'add "local" to the providers of a route, or delete it',
        )
    ]


def test_a_provider_without_models_is_odd(loaded):
    text = '[[gateway.providers]]\nname = "local"\nkind = "ollama"\n'

    assert oddities(loaded(text)) == [
        (
            "gateway.providers.local has no models, so that nobody can ask it",
            "leeward.toml:2",
            'models = { chat = "its own name for the model" }',
        )
    ]


def test_an_empty_key_is_odd_where_the_kind_wants_one(loaded):
    assert oddities(loaded(TWO.replace("sk-1", ""))) == [
        (
            "gateway.providers.primary has no api_key, and openai wants one",
            "leeward.toml:2",
            'api_key = "env:OPENAI_API_KEY"',
        )
    ]


def test_steps_and_providers_that_a_route_skips_are_odd(loaded):
    route = "[[gateway.routes]]\nmodel = 'small'\nproviders = ['primary', 'local']\nfallback = ['smaller-model']\n"
    other = "[[gateway.routes]]\nmodel = 'chat'\n"

    assert oddities(loaded(TWO + route + other)) == [
        (
            "gateway.routes.small skips smaller-model: it names none",
            "leeward.toml:13",
            'smaller_model = "the model of another route"',
        ),
        (
            "gateway.routes.small skips primary, which has no model small",
            "leeward.toml:12",
            'models = { small = "its own name for it" } in that provider',
        ),
    ]


def test_a_route_that_nobody_can_answer_is_odd(loaded):
    assert oddities(loaded(TWO + "[[gateway.routes]]\nmodel = 'chat'\n[[gateway.routes]]\nmodel = 'large'\n")) == [
        (
            "no provider has the model of gateway.routes.large",
            "leeward.toml:13",
            'models = { large = "its own name for it" } in a provider',
        )
    ]
