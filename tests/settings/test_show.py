"""Settings as people and editors see them."""

import tomllib

import pytest

from leeward.settings.load import load
from leeward.settings.show import json_schema, sample, show
from leeward.settings.tree import KEYS, SECTIONS, masked

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
        assert f"# {key.meta.description}\n{name.rpartition('.')[2]} = " in sample()


def test_the_schema_describes_every_setting_and_lets_sizes_be_texts():
    schema = json_schema()
    sections = schema["$defs"]

    for key in KEYS.values():
        declared = sections[SECTIONS[key.section].__name__]["properties"][key.field]
        assert declared["description"] == key.meta.description
    assert sections["Storage"]["properties"]["log_bytes_max"]["type"] == ["integer", "string"]
    assert sections["Server"]["properties"]["port"]["maximum"] == 65535
    assert sections["Server"]["additionalProperties"] is False
    for section, table in tomllib.loads(sample()).items():
        assert set(table) == set(sections[SECTIONS[section].__name__]["properties"])


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_every_setting_says_what_it_is_and_numbers_have_their_limits_and_their_unit(key):
    assert key.meta.description
    assert key.meta.description.endswith(".")
    if type(key.default) in {int, float}:
        assert key.meta.ge is not None
        assert key.meta.le is not None
        assert key.meta.ge <= key.default <= key.meta.le
        assert set(key.field.split("_")) & {"s", "ms", "days", "bytes", "max", "port"}
