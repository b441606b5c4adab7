from __future__ import annotations

from leeward.settings.tree import KEYS


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
