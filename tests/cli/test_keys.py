from __future__ import annotations

import hashlib
import json
import os
import re
import shlex

import pytest

from leeward.cli import running
from leeward.clock import SystemClock
from leeward.server.control.database import Control
from leeward.settings.load import load
from server_process import free_port


def _made_directory(path):
    """A data directory as a server leaves it, without a server."""
    control = Control(SystemClock())
    control.start(path).result()
    control.stop()
    return path


def test_a_key_is_made_over_http_works_at_once_and_is_refused_once_revoked(at_server, server):
    made = at_server("keys", "create", "--scope", "write", "--name", "my app", "--json").json()
    assert (made["scope"], made["name"], made["project"]) == ("write", "my app", "default")
    assert at_server("send", "with.key", "--key", made["key"]).code == 0

    revoked = at_server("keys", "revoke", made["id"], "--yes")

    assert revoked.code == 0
    assert "This revokes the write key my app (…" in revoked.err
    refused = at_server("send", "with.key", "--key", made["key"])
    assert refused.code == 1
    assert "does not accept the key …" in refused.err
    assert made["key"] not in refused.err


def test_a_new_key_alone_is_on_stdout(at_server):
    made = at_server("keys", "create", "--scope", "read")

    assert made.out.startswith("lw_")
    assert made.out.count("\n") == 1
    assert "it is not shown again" in made.err


def test_the_list_shows_no_secret(at_server, server):
    tokens = json.loads((server.data_dir / "first-keys.json").read_text())

    shown, document = at_server("keys", "list"), at_server("keys", "list", "--json")

    assert shown.out.splitlines()[0].split() == ["id", "scope", "name", "project", "key", "made", "quota", "state"]
    assert document.json()["count"] == len(document.json()["keys"]) == len(shown.out.splitlines()) - 1
    for scope in ("write", "read", "chat", "admin"):
        assert tokens[scope] not in shown.out + document.out
        assert "…" + tokens[scope][-4:] in shown.out


def test_revoking_is_not_done_without_a_yes_and_a_dry_run_only_says_it(at_server):
    made = at_server("keys", "create", "--scope", "chat", "--json").json()

    assert at_server("keys", "revoke", made["id"]).code == 1
    dry = at_server("keys", "revoke", made["id"], "--dry-run", "--json")

    assert dry.code == 0
    assert "This revokes" in dry.err
    assert dry.json()["revoked_at"] is None
    assert at_server("keys", "revoke", made["id"], "--yes", "--json").json()["revoked_at"] > 0
    again = at_server("keys", "revoke", made["id"])
    assert again.code == 0
    assert "revoked" in again.out


def test_a_key_that_is_not_there_cannot_be_revoked(at_server):
    refused = at_server("keys", "revoke", "k_nothing", "--yes")

    assert (refused.code, refused.err) == (
        1,
        "error: there is no key k_nothing\nfix: leeward keys list shows the ids\n",
    )


def test_where_no_server_runs_the_database_is_opened_itself(terminal):
    directory = str(_made_directory(terminal.home / "d"))

    made = terminal("keys", "create", "--scope", "write", "--data-dir", directory, "--json").json()
    shown = terminal("keys", "list", "--data-dir", directory, "--json").json()
    assert shown["count"] == 5
    revoked = terminal("keys", "revoke", made["id"], "--yes", "--data-dir", directory, "--json").json()

    assert revoked["revoked_at"] > 0
    assert set(revoked) == set(shown["keys"][0])


def test_both_ways_give_the_same_fields(terminal, at_server):
    directory = str(_made_directory(terminal.home / "d"))

    over_http, here = (
        at_server("keys", "list", "--json").json(),
        terminal("keys", "list", "--data-dir", directory, "--json").json(),
    )

    assert set(over_http["keys"][0]) == set(here["keys"][0])


def test_a_project_that_is_not_there_is_refused_both_ways(terminal, at_server):
    directory = str(_made_directory(terminal.home / "d"))

    here = terminal("keys", "create", "--scope", "read", "--project", "x", "--data-dir", directory)
    over_http = at_server("keys", "create", "--scope", "read", "--project", "x")

    assert here.code == over_http.code == 1
    assert here.err.lower() == over_http.err.lower()
    assert here.err == (
        "error: there is no project 'x'\n"
        "fix: leave --project away, or give the name of a project as leeward keys list shows it\n"
    )


def test_without_a_database_it_says_how_one_is_made(terminal):
    refused = terminal("keys", "list")

    assert refused.code == 1
    assert "leeward serve makes one" in refused.err
    assert list(terminal.home.iterdir()) == []


def test_a_server_without_a_note_is_found_by_its_lock_and_asked_over_http(terminal, server, monkeypatch):
    """Its home is another: there is no note here, but the database is held, and the address is in the settings."""
    monkeypatch.setenv("LEEWARD_SERVER__PORT", server.url.rpartition(":")[2])

    shown = terminal("keys", "list", "--data-dir", str(server.data_dir), "--json")

    assert shown.code == 0
    assert shown.json()["count"] >= 4


def test_ids_of_living_keys_complete_and_nothing_fails_without_a_server(terminal, server, at_server):
    from leeward.cli.keys import _complete_id

    ids = {key["id"] for key in at_server("keys", "list", "--json").json()["keys"] if not key["revoked_at"]}
    assert set(_complete_id(None, None, "k_")) == ids
    assert _complete_id(None, None, "zz") == []


def test_completion_is_silent_where_there_is_nothing(terminal):
    from leeward.cli.keys import _complete_id

    assert _complete_id(None, None, "") == []


def test_without_any_key_the_fix_leads_to_one(terminal):
    """The first keys are deleted, the server is asked, refuses, and is stopped: then the printed command makes a key."""
    directory = _made_directory(terminal.home / "my data")
    (directory / "first-keys.json").unlink()
    here = running.Running.this_process(6001, "http://127.0.0.1:6001", directory)
    running.note(here, os.environ)

    refused = terminal("query", "--host", "http://127.0.0.1:6001")
    assert refused.code == 1
    assert "give one of scope read with --key KEY or LEEWARD_API_KEY=KEY; where there is none, stop" in refused.err
    running.forget(here, os.environ)
    made = terminal(*shlex.split(refused.err.rpartition("then: leeward ")[2]))

    assert made.code == 0
    assert made.out.startswith("lw_")


def test_a_stopped_server_that_leeward_host_names_is_no_obstacle(terminal, monkeypatch):
    _made_directory(terminal.home / ".local" / "share" / "leeward")
    port = free_port()
    monkeypatch.setenv("LEEWARD_SERVER__PORT", str(port))
    monkeypatch.setenv("LEEWARD_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("LEEWARD_API_KEY", "lw_" + "w" * 32)

    assert terminal("keys", "create", "--scope", "admin").out.startswith("lw_")


def test_a_server_that_was_named_and_answers_is_asked_and_no_database_is_opened_instead(terminal, server):
    directory = _made_directory(terminal.home / "d")

    refused = terminal("keys", "list", "--host", server.url, "--data-dir", str(directory), "--key", "lw_" + "x" * 32)

    assert refused.code == 1
    assert f"{server.url} does not accept the key …xxxx" in refused.err


# Quotas


def quotas_of(shown, key_id):
    key = next(key for key in shown.json()["keys"] if key["id"] == key_id)
    return key["per_minute"], key["per_day"]


def set_and_shown(command):
    """The same with a server and without one: made with a limit, changed in part, shown, lifted."""
    made = command("keys", "create", "--scope", "write", "--per-minute", "60", "--json").json()
    assert quotas_of(command("keys", "list", "--json"), made["id"]) == (60, None)

    changed = command("keys", "set-quota", made["id"], "--per-day", "100000")

    assert (changed.code, changed.out) == (0, f"{made['id']}  60 a minute, 100,000 a day\n")
    assert "60 a minute, 100,000 a day" in command("keys", "list").out
    lifted = command("keys", "set-quota", made["id"], "--per-minute", "none", "--json").json()
    assert (lifted["id"], lifted["per_minute"], lifted["per_day"]) == (made["id"], None, 100_000)
    assert command("keys", "set-quota", made["id"], "--per-day", "none").out == f"{made['id']}  no limit\n"


def spending_set_and_shown(command):
    options = ("--requests-per-minute", "60", "--tokens-per-day", "1000000", "--usd-per-day", "2.5")
    made = command("keys", "create", "--scope", "chat", *options, "--json").json()
    assert "60 requests a minute, 1,000,000 tokens a day, $2.50 a day" in command("keys", "list").out

    changed = command("keys", "set-quota", made["id"], "--usd-per-day", "1,5").err
    assert "'1,5' is not a valid float" in changed
    changed = command("keys", "set-quota", made["id"], "--tokens-per-day", "none", "--usd-per-day", "10").out
    assert changed == f"{made['id']}  60 requests a minute, $10.00 a day\n"
    lifted = command("keys", "set-quota", made["id"], "--requests-per-minute", "none", "--usd-per-day", "none").out
    assert lifted == f"{made['id']}  no limit\n"


def test_a_quota_is_set_changed_in_part_and_lifted_over_http(at_server):
    set_and_shown(at_server)


def test_what_a_key_may_spend_is_set_changed_in_part_and_lifted_over_http(at_server):
    spending_set_and_shown(at_server)


def test_where_no_server_runs_what_a_key_may_spend_is_set_in_the_database(terminal):
    data_dir = _made_directory(terminal.home / "data")

    spending_set_and_shown(lambda *given: terminal(*given, "--data-dir", str(data_dir)))


def test_where_no_server_runs_the_quota_is_set_in_the_database(terminal):
    data_dir = _made_directory(terminal.home / "data")

    set_and_shown(lambda *given: terminal(*given, "--data-dir", str(data_dir)))


def test_a_changed_quota_holds_from_the_next_request(at_server):
    made = at_server("keys", "create", "--scope", "write", "--json").json()
    assert at_server("send", "unlimited", "--key", made["key"]).code == 0
    at_server("keys", "set-quota", made["id"], "--per-day", "1")

    refused = at_server("send", "limited", "--key", made["key"])

    assert refused.code == 1
    assert "This key has brought its 1 events of this day (UTC)" in refused.err
    assert f"fix: leeward keys set-quota {made['id']} --per-day N" in refused.err
    at_server("keys", "set-quota", made["id"], "--per-day", "none")
    assert at_server("send", "unlimited", "--key", made["key"]).code == 0


def test_a_quota_of_no_key_or_of_nothing_is_refused_with_a_cure(at_server, tmp_path):
    data_dir = _made_directory(tmp_path / "data")
    gone = "there is no key k_nothing\nfix: leeward keys list shows the ids\n"

    here = at_server("keys", "set-quota", "k_nothing", "--per-day", "5", "--data-dir", str(data_dir))
    assert (here.code, here.err) == (1, "error: " + gone)
    there = at_server("keys", "set-quota", "k_nothing", "--per-day", "5")
    assert (there.code, there.err.lower()) == (1, "error: there is no such key\nfix: leeward keys list shows the ids\n")
    nothing = at_server("keys", "set-quota", "k_nothing")
    assert nothing.code == 2
    assert "give a limit, as a number or none: --per-minute, --per-day, --requests-per-minute" in nothing.err
    for bad in ("0", "-1", "x", "None", str(2**60)):
        assert at_server("keys", "set-quota", "k_nothing", "--per-day", bad).code == 2, bad
    assert at_server("keys", "create", "--scope", "write", "--per-day", "0").code == 2


# For a gateway that is alone


def _settings(folder, text):
    (folder / "leeward.toml").write_text(text)
    return load({}, {"HOME": str(folder)}, folder / "leeward.toml").settings


def test_the_lines_for_a_gateway_alone_are_its_settings_and_hold_no_secret(terminal):
    limits = ("--requests-per-minute", "60", "--tokens-per-day", "1000", "--usd-per-day", "2.5")
    made = terminal("keys", "config", "--scope", "chat", "--name", "my-app", *limits)

    key = re.search(r"lw_[A-Za-z0-9]{32}", made.err)[0]
    assert key not in made.out
    (found,) = _settings(terminal.home, made.out).server.keys
    assert (found.name, found.scope) == ("my-app", "chat")
    assert found.sha256 == hashlib.sha256(key.encode()).hexdigest()
    assert (found.requests_per_minute, found.tokens_per_day, found.usd_per_day) == (60, 1000, 2.5)
    assert "not shown again" in made.err


def test_a_key_for_a_gateway_alone_is_for_chat_without_a_name_or_limits_unless_they_are_given(terminal):
    made = terminal("keys", "config", "--json").json()

    assert set(made) == {"key", "name", "scope", "sha256", "toml"}
    (found,) = _settings(terminal.home, made["toml"]).server.keys
    assert (found.name, found.scope, found.sha256) == ("", "chat", made["sha256"])
    assert hashlib.sha256(made["key"].encode()).hexdigest() == made["sha256"]
    assert "per" not in made["toml"]


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--name", "my app", "--name is 'my app', but must be up to 64 letters, digits and . _ -"),
        ("--requests-per-minute", "10000001", "--requests-per-minute: expected `int` <= 10000000"),
    ],
)
def test_what_the_settings_would_refuse_makes_no_key_for_a_gateway_alone(terminal, option, value, problem):
    refused = terminal("keys", "config", option, value)

    assert (refused.code, refused.out) == (2, "")
    assert refused.err.splitlines()[0] == f"error: {problem}"
