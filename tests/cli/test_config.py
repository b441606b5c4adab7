from __future__ import annotations

import json

import pytest

from leeward.settings.tree import KEYS

PROVIDERS = """\
[[gateway.providers]]
name = "primary"
kind = "openai"
models = { chat = "gpt-4o-mini" }
[[gateway.providers]]
name = "local"
kind = "simulated"
models = { chat = "any" }
[[gateway.routes]]
model = "chat"
providers = ["primary"]
"""


def test_every_setting_is_shown_with_its_origin(terminal, monkeypatch):
    (terminal.home / "leeward.toml").write_text("[server]\n\nport = 6001\n")
    monkeypatch.setenv("LEEWARD_STORAGE__RETENTION_DAYS", "3")

    shown = terminal("config", "show", "--origin")

    assert shown.code == 0
    rows = {line.split()[0]: line for line in shown.out.splitlines()}
    assert set(rows) == set(KEYS)
    assert rows["server.port"].split() == ["server.port", "=", "6001", "leeward.toml:3"]
    assert rows["storage.retention_days"].endswith("LEEWARD_STORAGE__RETENTION_DAYS")
    assert rows["server.host"].endswith("default")
    assert "default" not in terminal("config", "show").out


def test_as_json_file_and_settings_are_named(terminal):
    shown = terminal("config", "show", "--json").json()

    assert shown["file"] is None
    assert set(shown["settings"][0]) == {"name", "value", "origin", "description", "default"}


def test_a_secret_is_shown_by_its_end_only(terminal, monkeypatch):
    password = "pass" * 7 + "x9Qd"
    monkeypatch.setenv("LEEWARD_STORAGE__URL", f"clickhouse://me:{password}@db:8123/leeward")

    for arguments in (("show",), ("show", "--json"), ("check",), ("check", "--json")):
        shown = terminal("config", *arguments)
        assert shown.code == 0
        assert password not in shown.out
    assert "…x9Qd@db:8123" in terminal("config", "show").out


def test_a_check_says_what_is_set_and_where(terminal):
    (terminal.home / "leeward.toml").write_text("[server]\nport = 6001\n")

    shown = terminal("config", "check")

    assert shown.code == 0
    assert shown.out.splitlines()[0].split() == ["server.port", "leeward.toml:2"]
    assert shown.out.splitlines()[-1].startswith("ok: 1 set in leeward.toml and the environment, ")
    assert terminal("config", "check", "--json").json() == {
        "file": "leeward.toml",
        "set": {"server.port": "leeward.toml:2"},
        "warnings": [],
    }


def test_a_check_without_a_file_says_so(terminal):
    assert "there is no file" in terminal("config", "check").out


def test_a_reference_that_leads_nowhere_fails_the_check(terminal, monkeypatch):
    monkeypatch.setenv("LEEWARD_STORAGE__URL", "env:NOT_SET")

    refused = terminal("config", "check")

    assert refused.code == 1
    assert "NOT_SET is not set" in refused.err


def test_a_file_that_was_named_and_is_not_there_is_refused(terminal):
    refused = terminal("config", "check", "--config", "nowhere.toml")

    assert refused.code == 1
    assert "where: nowhere.toml" in refused.err


def test_what_is_odd_is_a_warning_with_place_and_cure_and_all_is_right_nevertheless(terminal):
    (terminal.home / "leeward.toml").write_text(PROVIDERS)

    shown = terminal("config", "check")

    assert shown.code == 0
    assert shown.err.splitlines() == [
        "warning: gateway.providers.primary has no api_key, and openai wants one",
        "where: leeward.toml:2",
        'fix: api_key = "env:OPENAI_API_KEY"',
        "warning: no route uses gateway.providers.local",
        "where: leeward.toml:6",
        'fix: add "local" to the providers of a route, or delete it',
    ]
    assert shown.out.splitlines()[-1].endswith("as they come; 2 warnings")
    warnings = terminal("config", "check", "--json").json()["warnings"]
    assert warnings[1] == {
        "message": "no route uses gateway.providers.local",
        "where": "leeward.toml:6",
        "fix": 'add "local" to the providers of a route, or delete it',
    }


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ('base_url = "htp://127.0.0.1/v1"', "leeward.toml:4"),
        ('api_key = "sk 1"', "leeward.toml:4"),
        ('api_key = "env:NOT_SET"', "leeward.toml:4"),
        ('api_kye = "sk-1"', "leeward.toml:4"),
        ('kind = "opanai"', "leeward.toml:3"),
    ],
)
def test_a_provider_that_could_not_be_called_fails_the_check(terminal, line, where):
    text = PROVIDERS.replace('kind = "openai"', f'kind = "openai"\n{line}' if "kind" not in line else line, 1)
    (terminal.home / "leeward.toml").write_text(text)

    refused = terminal("config", "check")

    assert refused.code == 1
    assert f"where: {where}\nfix: " in refused.err


def test_an_address_that_the_kind_does_not_have_must_be_said(terminal):
    (terminal.home / "leeward.toml").write_text(PROVIDERS.replace('"openai"', '"openai-compatible"', 1))

    refused = terminal("config", "check")

    assert refused.code == 1
    assert "where: leeward.toml:3" in refused.err


def test_a12_the_key_of_a_provider_is_shown_by_its_end_only(terminal, monkeypatch):
    key = "sk-" + "0123456789" * 3 + "-x9Qd"
    (terminal.home / "leeward.toml").write_text(PROVIDERS)
    monkeypatch.setenv("LEEWARD_GATEWAY__PROVIDERS__PRIMARY__API_KEY", "env:THE_KEY")
    monkeypatch.setenv("THE_KEY", key)

    for arguments in (("show", "--origin"), ("show", "--json"), ("check",), ("check", "--json")):
        shown = terminal("config", *arguments)
        assert shown.code == 0
        assert key not in shown.out + shown.err
    row = next(line for line in terminal("config", "show", "--origin").out.splitlines() if "primary.api_key" in line)
    assert row.split() == [
        "gateway.providers.primary.api_key",
        "=",
        '"…x9Qd"',
        "LEEWARD_GATEWAY__PROVIDERS__PRIMARY__API_KEY",
    ]


def test_the_schema_is_printed_for_editors(terminal):
    schema = json.loads(terminal("config", "schema").out)

    assert schema["$defs"]["Provider"]["required"] == ["name", "kind"]
