"""Lists of tables: providers, routes and keys, from the file and the environment; what is refused, and where."""

import json
import tomllib
from datetime import date, time

import pytest
from hypothesis import example, given, settings, strategies as st

from leeward.errors import ConfigError
from leeward.settings.gateway import Model
from leeward.settings.load import load

HOME = {"HOME": "/home/ada"}
PRIMARY = '[[gateway.providers]]\nname = "primary"\nkind = "openai"\n'
VARIABLE = "LEEWARD_GATEWAY__PROVIDERS__PRIMARY__"
DESIGN = """
[gateway]
connect_timeout_s = 5
[gateway.retry]
max_attempts = 3
retry_after_max_s = 300
base_s = 0.2
cap_s = 8
budget = 0.1
[gateway.breaker]
consecutive_failures = 4
open_s = 5
[gateway.health]
interval_s = 15
[[gateway.providers]]
name = "primary"
kind = "openai"
base_url = "http://127.0.0.1:9001/v1"
api_key = "env:OPENAI_API_KEY"
models = { chat = "gpt-4o-mini" }
[[gateway.providers]]
name = "secondary"
kind = "mistral"
models = { chat = { name = "mistral-small", tools = false, first_token_timeout_s = 7 }, chat-small = "ministral" }
[[gateway.routes]]
model = "chat"
providers = ["primary", "secondary"]
fallback = ["cache", "stale-cache", "smaller-model", "reduced", "static"]
smaller_model = "chat-small"
static_answer = "Please try again in a minute."
on_cut = "error"
[[gateway.routes]]
model = "chat-small"
[gateway.cache]
ttl_s = 300
stale_s = 86400
[privacy]
prompts = false
[report]
sentry_dsn = ""
"""


@pytest.fixture
def file(tmp_path):
    """Writes a configuration file and gives its path."""

    def write(text):
        path = tmp_path / "leeward.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(file, environ=()):
    """What a person reads of the error: message, place, cure."""
    with pytest.raises(ConfigError) as caught:
        load({}, {**HOME, **dict(environ)}, file)
    return caught.value.message, caught.value.where, caught.value.fix


def test_a_whole_gateway_is_read_with_the_place_of_each_value(file):
    loaded = load({}, {**HOME, "OPENAI_API_KEY": "sk-1"}, file(DESIGN))
    gateway = loaded.settings.gateway

    primary, secondary = gateway.providers
    assert (primary.name, primary.api_key, primary.models) == ("primary", "sk-1", {"chat": "gpt-4o-mini"})
    assert secondary.models["chat"] == Model(name="mistral-small", tools=False, first_token_timeout_s=7.0)
    assert secondary.models["chat-small"] == "ministral"
    assert [route.model for route in gateway.routes] == ["chat", "chat-small"]
    assert gateway.routes[0].fallback == ("cache", "stale-cache", "smaller-model", "reduced", "static")
    assert gateway.breaker.consecutive_failures == 4
    assert gateway.breaker.slow_s is None
    assert loaded.origins["gateway.providers.primary.base_url"] == "leeward.toml:18"
    assert loaded.origins["gateway.providers.secondary.models"] == "leeward.toml:24"
    assert loaded.origins["gateway.routes.chat-small.model"] == "leeward.toml:33"
    assert loaded.origins["gateway.retry.cap_s"] == "leeward.toml:8"
    assert loaded.origins["gateway.providers.primary.stall_timeout_s"] == "default"


def test_inline_tables_in_a_list_are_the_same(file):
    path = file('[gateway]\nproviders = [\n  {name = "a", kind = "ollama"},\n  {name = "b", kind = "vllm"},\n]\n')

    loaded = load({}, HOME, path)

    assert [provider.name for provider in loaded.settings.gateway.providers] == ["a", "b"]
    assert loaded.origins["gateway.providers.b.kind"] == "leeward.toml:2"


def test_a_variable_addresses_a_table_by_its_name_and_says_also_what_the_file_does_not(file):
    path = file(PRIMARY + '[[gateway.providers]]\nname = "my.second-one"\n[[gateway.routes]]\nmodel = "gpt-4.1"\n')
    environ = {
        VARIABLE + "API_KEY": "sk-env",
        VARIABLE + "MODELS": "chat=gpt-4o-mini, small = llama3:8b,",
        VARIABLE + "CONNECT_TIMEOUT_S": "2.5",
        VARIABLE + "STALL_TIMEOUT_S": " ",
        "LEEWARD_GATEWAY__PROVIDERS__MY_SECOND_ONE__KIND": "env",
        "LEEWARD_GATEWAY__ROUTES__GPT_4_1__FALLBACK": "cache,static",
    }
    environ["LEEWARD_GATEWAY__PROVIDERS__MY_SECOND_ONE__KIND"] = "ollama"

    loaded = load({}, {**HOME, **environ}, path)

    primary, second = loaded.settings.gateway.providers
    assert (primary.api_key, primary.connect_timeout_s, primary.stall_timeout_s) == ("sk-env", 2.5, None)
    assert primary.models == {"chat": "gpt-4o-mini", "small": "llama3:8b"}
    assert second.kind == "ollama"
    assert loaded.settings.gateway.routes[0].fallback == ("cache", "static")
    assert loaded.origins["gateway.providers.primary.api_key"] == VARIABLE + "API_KEY"
    assert loaded.origins["gateway.providers.my.second-one.kind"] == "LEEWARD_GATEWAY__PROVIDERS__MY_SECOND_ONE__KIND"


def test_a_variable_wins_over_the_file_and_may_refer_to_another(file):
    path = file(PRIMARY + 'api_key = "sk-file"\n')

    loaded = load({}, {**HOME, VARIABLE + "API_KEY": "env:KEY", "KEY": "sk-other"}, path)

    assert loaded.settings.gateway.providers[0].api_key == "sk-other"


@pytest.mark.parametrize(
    ("variable", "message", "fix"),
    [
        (
            "LEEWARD_GATEWAY__PROVIDERS__BACKUP__API_KEY",
            "LEEWARD_GATEWAY__PROVIDERS__BACKUP__API_KEY means a table that [[gateway.providers]] does not have",
            'add [[gateway.providers]] with name = "backup" to the file',
        ),
        (
            "LEEWARD_GATEWAY__PROVIDERS__PRIMRY__API_KEY",
            "LEEWARD_GATEWAY__PROVIDERS__PRIMRY__API_KEY means a table that [[gateway.providers]] does not have",
            (
                "did you mean LEEWARD_GATEWAY__PROVIDERS__PRIMARY__API_KEY? "
                'If not, add [[gateway.providers]] with name = "primry" to the file'
            ),
        ),
        (
            VARIABLE + "API_KYE",
            VARIABLE + "API_KYE is not a setting",
            f"did you mean {VARIABLE}API_KEY? (leeward config show lists all)",
        ),
        (VARIABLE + "NAME", VARIABLE + "NAME is not a setting", "leeward config show lists all"),
        (
            "LEEWARD_GATEWAY__PROVIDERS",
            "LEEWARD_GATEWAY__PROVIDERS is not a setting",
            "lists stand in the file: [[gateway.providers]]",
        ),
        (
            "LEEWARD_SERVER__KEYS__APP",
            "LEEWARD_SERVER__KEYS__APP means a table that [[server.keys]] does not have",
            'add [[server.keys]] with name = "…" to the file',
        ),
    ],
)
def test_a_variable_for_what_the_file_does_not_have_is_refused_with_the_cure(file, variable, message, fix):
    refused = refusal(file(PRIMARY), {variable: "x"})

    assert (refused[0], refused[2]) == (message, fix)


def test_a_variable_that_means_two_tables_is_refused(file):
    path = file('[[gateway.providers]]\nname="a.b"\nkind="vllm"\n[[gateway.providers]]\nname="a-b"\nkind="vllm"\n')

    assert refusal(path, {"LEEWARD_GATEWAY__PROVIDERS__A_B__API_KEY": "x"}) == (
        "LEEWARD_GATEWAY__PROVIDERS__A_B__API_KEY means two: gateway.providers.a.b and gateway.providers.a-b",
        "LEEWARD_GATEWAY__PROVIDERS__A_B__API_KEY",
        "give one of them another name in the file",
    )


@pytest.mark.parametrize(
    ("text", "message", "line", "fix"),
    [
        (
            PRIMARY + '\napi_kye = "x"\n',
            "unknown setting gateway.providers.primary.api_kye",
            5,
            "did you mean api_key? (leeward config show lists all)",
        ),
        (
            PRIMARY + "models = { chat = { name = 'x', tolos = 1 } }\n",
            "unknown setting gateway.providers.primary.models.chat.tolos",
            4,
            "did you mean tools? (leeward config show lists all)",
        ),
        (
            PRIMARY + "[gateway.providers.models.chat]\n\ntools = 3\nname = 'x'\n",
            "gateway.providers.primary.models.chat.tools is 3, but must be true or false",
            6,
            "tools = true is the default",
        ),
        (
            PRIMARY + "[gateway.providers.models.chat]\ntools = true\n",
            "gateway.providers.primary.models.chat has no name",
            4,
            "add name = …  (The provider's own name for it)",
        ),
        (
            PRIMARY + "models.chat = 3\n",
            "gateway.providers.primary.models.chat is 3, but must be a text of 1 to 200 ASCII characters without spaces",
            4,
            "The names that callers use, and the provider's own name for each, or a table about it",
        ),
        (
            PRIMARY + "models = {'a b' = 'x'}\n",
            '"a b" in gateway.providers.primary.models is no name',
            4,
            "it must be a text of 1 to 200 ASCII characters without spaces",
        ),
        (
            PRIMARY + "stall_timeout_s = 'x'\n",
            'gateway.providers.primary.stall_timeout_s is "x", but must be a number above 0 and up to 86400',
            4,
            "stall_timeout_s may be left out",
        ),
        (
            PRIMARY + PRIMARY,
            "gateway.providers.primary is there twice",
            5,
            "the first is at leeward.toml:1; delete one, or give it another name",
        ),
        (
            "\n[[gateway.providers]]\nkind = 'openai'\n",
            "gateway.providers.1 has no name",
            2,
            "add name = …  (Its name here: in headers, metrics, pages and routes)",
        ),
        (
            "[[gateway.providers]]\nname = 'a b'\n",
            'gateway.providers.1.name is "a b", but must be a text of up to 64 letters, digits and . _ -',
            2,
            "Its name here: in headers, metrics, pages and routes",
        ),
        (
            f"{PRIMARY}[[gateway.providers]]\nname = ''\n",
            'gateway.providers.2.name is "", but must be a text of up to 64 letters, digits and . _ -',
            5,
            "Its name here: in headers, metrics, pages and routes",
        ),
        (
            "[gateway.providers]\nname = 'a'\n",
            "gateway.providers is a list of tables",
            1,
            "write [[gateway.providers]] on its own line, once for each",
        ),
        (
            "[gateway]\nroutes = [1]\n",
            "gateway.routes is a list of tables",
            2,
            "write [[gateway.routes]] on its own line, once for each",
        ),
        (
            "[[server.keys]]\nscope = 'chat'\nsha256 = 'ff'\n",
            'server.keys.1.sha256 is "ff", but must be a text of 64 hexadecimal digits',
            3,
            "SHA-256 of the key, as 64 hexadecimal digits",
        ),
        (
            "[[gateway.routes]]\nmodel = 'm'\nfallback = ['stale']\n",
            (
                'gateway.routes.m.fallback is ["stale"], but must be a list out of '
                '"cache", "stale-cache", "smaller-model", "reduced", "static"'
            ),
            3,
            "fallback = [] is the default",
        ),
    ],
)
def test_what_is_wrong_in_a_list_is_refused_with_its_line_and_cure(file, text, message, line, fix):
    assert refusal(file(text)) == (message, f"leeward.toml:{line}", fix)


def test_a_wrong_list_of_models_in_a_variable_is_said_in_its_words(file):
    message, where, _ = refusal(file(PRIMARY), {VARIABLE + "MODELS": "chat"})

    assert message.startswith(f'{VARIABLE}MODELS is "chat", but must be a table of names')
    assert message.endswith("in a variable chat=gpt-4o-mini")
    assert where == VARIABLE + "MODELS"
    assert refusal(file(PRIMARY), {VARIABLE + "MODELS": "chat="})[1] == VARIABLE + "MODELS"


def test_keys_of_the_server_are_called_by_name_or_number(file):
    digest, other = "ab" * 32, "CD" * 32
    path = file(
        f'[[server.keys]]\nsha256 = "{digest}"\nscope = "chat"\n'
        f'[[server.keys]]\nname = "app"\nsha256 = "{other}"\nscope = "read"\nusd_per_day = 2\n'
    )

    loaded = load({}, {**HOME, "LEEWARD_SERVER__KEYS__1__REQUESTS_PER_MINUTE": "60"}, path)

    first, app = loaded.settings.server.keys
    assert (first.name, first.requests_per_minute, first.tokens_per_day) == ("", 60, None)
    assert (app.name, app.scope, app.usd_per_day) == ("app", "read", 2.0)
    assert loaded.origins["server.keys.1.scope"] == "leeward.toml:3"


def test_the_same_key_of_the_server_twice_is_refused(file):
    keys = [
        f'[[server.keys]]\nscope = "{scope}"\nsha256 = "{digest * 32}"\n'
        for scope, digest in (("read", "ab"), ("chat", "AB"))
    ]

    assert refusal(file("".join(keys))) == (
        "server.keys.2 is the same key as server.keys.1",
        "leeward.toml:6",
        "delete one of them",
    )


def test_a_reference_can_be_left_as_it_is_for_a_command_that_does_not_need_it(file):
    path = file(PRIMARY + 'api_key = "env:NOT_SET"\n')

    loaded = load({}, HOME, path, references=False)

    assert loaded.settings.gateway.providers[0].api_key == "env:NOT_SET"
    assert refusal(path)[0] == "gateway.providers.primary.api_key is env:NOT_SET, but NOT_SET is not set"


def test_a12_no_key_of_a_provider_is_in_an_error_or_a_repr(file):
    secret = "sk-correct-horse-battery-staple"
    loaded = load(
        {}, HOME, file(f'{PRIMARY}api_key = "{secret}"\n[report]\nsentry_dsn = "https://{secret}@sentry/1"\n')
    )

    assert "correct-horse" not in repr(loaded)
    assert loaded.settings.gateway.providers[0].api_key == secret
    assert secret not in "".join(refusal(file(f'{PRIMARY}api_key = ["{secret}"]\n')))


def _inline(value):
    """Any value as TOML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_inline(name)} = {_inline(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        return hex(value) if value >= 0 else str(value)
    return value.isoformat() if isinstance(value, (date, time)) else repr(value)


NAMES = st.sampled_from(
    [
        *("gateway", "retry", "breaker", "cache", "providers", "routes", "models", "chat", "name", "kind", "model"),
        *("api_key", "base_url", "fallback", "max_attempts", "slow_s", "bytes_max", "private", "zzz", "a b", "", "é"),
    ]
)
SCALARS = st.one_of(
    *(st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.times(), st.datetimes()),
    st.sampled_from(["primary", "openai", "cache", "env:NOT_SET", "file:/nowhere", "file:\x00", "64MiB", 10**400]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)


def _places(value, path=()):
    """The path of every value in a document."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inside:
        yield from _places(one, (*path, name))


def _replaced(value, path, other):
    if not path:
        return other
    copy = value.copy()
    copy[path[0]] = _replaced(value[path[0]], path[1:], other)
    return copy


GOOD = tomllib.loads(DESIGN.replace("env:OPENAI_API_KEY", "sk-1"))["gateway"]


@st.composite
def nearly_good(draw):
    """A good gateway in which one value is another."""
    return _replaced(GOOD, draw(st.sampled_from(list(_places(GOOD)))), draw(VALUES))


@settings(max_examples=300, deadline=None)
@given(nearly_good() | st.dictionaries(NAMES, VALUES, max_size=4) | VALUES)
@example([])
@example({"providers": [{"name": "a", "kind": "ollama"}, {"name": "a", "kind": 1}]})
@example({"providers": [{"name": "2", "kind": "ollama"}, {"kind": "ollama"}]})
@example({"cache": {"bytes_max": 10**400}})
@example({"breaker": {"slow_s": 10**400}})
@example({"providers": [{"name": "a", "kind": "ollama", "models": {"m": {"name": "x", "tools": [{}]}}}]})
@example({"providers": [{"name": "a", "kind": "ollama", "api_key": "file:\x00"}]})
def test_whatever_stands_under_gateway_is_taken_or_refused_with_a_place(a_gateway, value):
    path = a_gateway(value)

    try:
        load({}, HOME, path)
    except ConfigError as error:
        refused = error
    else:
        return

    assert refused.where.startswith("leeward.toml:")
    assert refused.fix


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["API_KEY", "MODELS", "KIND", "PRIVATE", "STALL_TIMEOUT_S", "CONNECTIONS_MAX", "NAME", "X", ""]),
    st.text(st.characters(exclude_characters="\0"), max_size=8) | st.sampled_from(["env:X", "a=b", "a=b,=", "1e999"]),
)
def test_whatever_a_variable_of_a_list_says_is_taken_or_refused_with_its_name(a_gateway, field, text):
    path = a_gateway({"providers": [{"name": "primary", "kind": "openai"}]})

    try:
        load({}, {**HOME, VARIABLE + field: text}, path)
    except ConfigError as error:
        refused = error
    else:
        return

    assert VARIABLE + field in refused.where + refused.message
    assert refused.fix


@pytest.fixture(scope="module")
def a_gateway(tmp_path_factory):
    """A file whose only section is `gateway` with this value, written with every table inline."""
    path = tmp_path_factory.mktemp("any") / "leeward.toml"

    def write(value):
        path.write_text(f"gateway = {_inline(value)}\n", encoding="utf-8")
        return path

    return write
