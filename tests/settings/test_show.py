"""Settings as people and editors see them."""

import re
import tomllib

import pytest

from leeward.settings.load import load
from leeward.settings.sections import masked
from leeward.settings.show import json_schema, sample, show
from leeward.settings.tree import ARRAYS, KEYS, SECTIONS
from leeward.settings.words import allowed

UNITS = {
    *("s", "ms", "days", "bytes", "max", "port"),
    *("rate", "budget", "failures", "calls", "attempts", "probes"),
}
HOME = {"HOME": "/home/ada"}


def test_every_value_is_shown_with_its_origin_its_default_and_what_it_means():
    rows = {row.name: row for row in show(load({"storage.log_bytes_max": 2**26}, HOME, None))}

    assert list(rows) == list(KEYS)
    row = rows["storage.log_bytes_max"]
    assert (row.value, row.origin, row.default) == ('"64MiB"', "--log-bytes-max", '"2GiB"')
    assert row.description == KEYS["storage.log_bytes_max"].meta.description
    assert rows["client.disabled"].value == "false"
    assert rows["storage.retry_delays_ms"].value == "[100, 200, 400]"
    assert rows["server.head_timeout_s"].value == "10"


def test_a12_a_secret_is_shown_by_its_end_only():
    url = "clickhouse://ada:correct-horse-battery-x9Qd@db:8123/leeward"

    rows = {row.name: row for row in show(load({"storage.url": url}, HOME, None))}

    assert rows["storage.url"].value == '"clickhouse://ada:…x9Qd@db:8123/leeward"'


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("embedded", "embedded"),
        ("", ""),
        ("hunter2", "…"),
        ("lw_0123456789abcdefghijkl-x9Qd", "…x9Qd"),
        ("clickhouse://db:8123/leeward", "clickhouse://db:8123/leeward"),
        ("clickhouse://ada@db:8123/leeward", "clickhouse://ada@db:8123/leeward"),
        ("https://0123456789abcdef0123456789abcdef@sentry.example/1", "https://…cdef@sentry.example/1"),
        ("https://key@sentry.example/1", "https://…@sentry.example/1"),
        ("clickhouse://ada:hunter2@db/leeward", "clickhouse://ada:…@db/leeward"),
        ("clickhouse://ada:a@b:c/d?e@db/leeward", "clickhouse://ada:…@db/leeward"),
        ("clickhouse://db/leeward?password=hunter2", "clickhouse://db/leeward?…"),
        ("clickhouse://ada:hunter2@db/leeward?x=y", "clickhouse://ada:…@db/leeward?…"),
    ],
)
def test_a12_of_an_address_only_the_password_is_hidden(secret, shown):
    assert masked(secret) == shown


def test_the_sample_file_is_read_back_as_exactly_the_defaults(tmp_path):
    path = tmp_path / "leeward.toml"
    path.write_text(sample(), encoding="utf-8")

    assert load({}, HOME, path).settings == load({}, HOME, None).settings
    for name, key in KEYS.items():
        sign = "# " if key.default is None else ""
        assert f"# {key.meta.description}\n{sign}{name.rpartition('.')[2]} = " in sample()


def test_the_examples_of_the_sample_file_are_right_when_the_comment_signs_are_taken_away(tmp_path):
    path = tmp_path / "leeward.toml"
    path.write_text(re.sub(r"^# (?=\[\[|\w+ = (?!…))", "", sample(), flags=re.MULTILINE), encoding="utf-8")

    settings = load({}, {**HOME, "OPENAI_API_KEY": "sk-1"}, path).settings

    assert [provider.name for provider in settings.gateway.providers] == ["primary", "local"]
    assert settings.gateway.routes[0].providers == ("primary", "local")
    assert settings.server.keys[0].scope == "chat"


def test_what_an_example_leaves_out_is_named_beside_it():
    for array in ARRAYS.values():
        for field in array.keys:
            assert re.search(rf"# (It may also say .*)?\b{field}\b", sample())


def test_the_schema_describes_every_setting_and_lets_sizes_be_texts():
    schema = json_schema()
    sections = schema["$defs"]

    for key in KEYS.values():
        declared = sections[SECTIONS[key.section].__name__]["properties"][key.field]
        assert declared["description"] == key.meta.description
    assert sections["Storage"]["properties"]["log_bytes_max"]["type"] == ["integer", "string"]
    assert sections["Server"]["properties"]["port"]["maximum"] == 65535
    assert sections["Server"]["additionalProperties"] is False
    assert sections["Gateway"]["properties"]["retry"]
    assert sections["Provider"]["required"] == ["name", "kind"]
    for section, table in tomllib.loads(sample()).items():
        assert set(table) <= set(sections[SECTIONS[section].__name__]["properties"])


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_every_setting_says_what_it_is_and_numbers_have_their_limits_and_their_unit(key):
    assert key.meta.description
    assert key.meta.description.endswith(".")
    if type(key.default) in {int, float}:
        low, high = key.meta.gt if key.meta.ge is None else key.meta.ge, key.meta.le
        assert low is not None
        assert high is not None
        assert low <= key.default <= high
        assert set(key.field.split("_")) & UNITS


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_every_setting_of_a_list_says_what_it_is(array):
    assert array.description.endswith(".")
    assert array.label == next(iter(array.keys))
    for key in array.keys.values():
        assert (key.meta.description or "").endswith((".", "…"))
        assert allowed(key)


def test_what_stands_in_lists_is_shown_element_by_element_and_no_key_of_theirs_is_whole(tmp_path):
    path = tmp_path / "leeward.toml"
    path.write_text(
        """
        [[gateway.providers]]
        name = "primary"
        kind = "openai"
        api_key = "sk-0123456789abcdefghijkl-x9Qd"
        models = { chat = "gpt-4o-mini", see = { name = "gpt-4.1", tools = false } }
        [[server.keys]]
        sha256 = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        scope = "chat"
        """,
        encoding="utf-8",
    )

    rows = {row.name: row for row in show(load({}, HOME, path))}

    assert rows["gateway.providers.primary.api_key"][:3] == (
        "gateway.providers.primary.api_key",
        '"…x9Qd"',
        "leeward.toml:5",
    )
    models = rows["gateway.providers.primary.models"]
    assert models.value == '{ chat = "gpt-4o-mini", see = { name = "gpt-4.1", tools = false } }'
    assert rows["gateway.providers.primary.stall_timeout_s"].value == "none"
    assert rows["gateway.providers.primary.kind"].default == ""
    assert rows["server.keys.1.scope"].value == '"chat"'
    assert set(KEYS) < set(rows)
