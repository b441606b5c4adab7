from __future__ import annotations

import json
import signal
import socket
import stat
import tomllib
import urllib.request

import pytest

from commands import command, serve, started
from leeward.cli import running
from leeward.settings.load import load
from leeward.settings.tree import KEYS, Settings


def _get(url: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.status, answer.read()


def test_the_first_start_says_how_to_begin_and_later_ones_tell_no_secret(tmp_path):
    with serve(tmp_path) as first:
        assert first.facts["url"].startswith("http://127.0.0.1:")
        assert first.facts["pid"] == first.process.pid
        assert _get(first.url + "/readyz")[0] == 200
        ended = first.stop()

    keys = json.loads((first.data_dir / "first-keys.json").read_text())
    assert ended.code == 0
    assert f"{first.url}/login/" in ended.err
    assert str(first.data_dir / "first-keys.json") in ended.err
    for scope in ("write", "read", "chat", "admin"):
        assert keys[scope] not in ended.err

    with serve(tmp_path) as second:
        ended = second.stop()
    assert ended.code == 0
    assert "/login/" not in ended.err
    assert "lw_" not in ended.err
    events = [json.loads(line)["event"] for line in ended.err.splitlines()]  # nothing but the log
    assert (events[0], events[-1]) == ("ready", "stopped")
    assert ended.out == ""


def test_sigterm_ends_it_cleanly_with_0_as_ctrl_c_does(tmp_path):
    with serve(tmp_path) as server:
        ended = server.stop(signal.SIGTERM)

    assert ended.code == 0
    assert "Traceback" not in ended.err
    assert running.on_port(int(server.url.rpartition(":")[2]), {"HOME": str(tmp_path)}) is None


def test_a_port_that_another_leeward_has_is_refused_with_its_pid_and_data(tmp_path, server):
    port = server.url.rpartition(":")[2]

    refused = command(server.home, "serve", "--port", port, "--data-dir", str(tmp_path / "other"))

    assert refused.code == 1
    pid = server.started.process.pid
    assert refused.err == (
        f"error: port {port} is taken by another leeward (pid {pid}, data in {server.data_dir})\n"
        f"where: [server] port\n"
        f"fix: leeward serve --port {int(port) + 1}, or stop it: kill {pid}\n"
    )
    assert not (tmp_path / "other").exists()


def test_a_port_that_someone_else_has_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = command(tmp_path, "serve", "--port", str(port))

    assert refused.code == 1
    assert refused.err.startswith(f"error: port {port} on 127.0.0.1 cannot be used")


def test_w15_a_second_server_on_the_same_data_is_refused_with_the_owners_pid(server):
    refused = command(server.home, "serve", "--port", "0")

    pid = server.started.process.pid
    assert refused.code == 1
    assert refused.out == ""
    assert refused.err.startswith(
        f"error: {server.data_dir} is in use by another leeward (pid {pid}, at {server.url})\nwhere: {server.data_dir}\n"
    )


def test_w15_a_second_server_of_another_home_is_refused_with_the_owners_pid_too(tmp_path, server):
    refused = command(tmp_path, "serve", "--port", "0", "--data-dir", str(server.data_dir))

    assert refused.code == 1
    assert f"is in use by process {server.started.process.pid}" in refused.err


def test_a13_by_itself_it_listens_on_loopback_only(server):
    assert Settings().server.host == "127.0.0.1"
    port = int(server.url.rpartition(":")[2])
    for found in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET, socket.SOCK_STREAM):
        if not found[4][0].startswith("127."):
            with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
                socket.create_connection(found[4][:2], 2).close()


def test_a13_what_it_keeps_is_for_its_owner_only(server):
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    for path in server.data_dir.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.is_dir(), path


def test_a13_beyond_loopback_it_warns_while_the_first_keys_lie_there(tmp_path):
    """The keys themselves are made at the first start, with 190 bits each; there is no other way in."""
    with serve(tmp_path, "--host", "0.0.0.0") as exposed:
        keys = exposed.data_dir / "first-keys.json"
        ended = exposed.stop()
    assert exposed.url.startswith("http://127.0.0.1:")
    assert f"warning: other machines can reach this server, and its first keys still lie in {keys}" in ended.err

    for token in (value for name, value in json.loads(keys.read_text()).items() if name != "project"):
        assert len(token.removeprefix("lw_")) == 32

    keys.unlink()
    with serve(tmp_path, "--host", "0.0.0.0") as exposed:
        assert "warning" not in exposed.stop().err


def test_a_configuration_that_is_wrong_is_refused_before_anything_is_made(terminal):
    (terminal.home / "leeward.toml").write_text("[server]\nport = 99999\n")

    refused = terminal("serve")

    assert refused.code == 1
    assert "where: leeward.toml:2" in refused.err
    assert [path.name for path in terminal.home.iterdir()] == ["leeward.toml"]


def test_the_printed_configuration_is_one_that_says_every_default(terminal):
    shown = terminal("serve", "--print-config")

    assert shown.code == 0
    document = tomllib.loads(shown.out)
    assert {f"{section}.{name}" for section, table in document.items() for name in table} == set(KEYS)
    (terminal.home / "leeward.toml").write_text(shown.out)
    loaded = load({}, {"HOME": "/h"}, terminal.home / "leeward.toml")
    assert loaded.settings.storage == Settings().storage


def test_ctrl_c_while_it_starts_ends_it_with_0_as_well(terminal, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("leeward.cli.hosting.bind_or_explain", interrupted)

    assert terminal("serve") == (0, "", "\n")


def test_a_server_that_was_killed_leaves_a_note_that_hinders_nobody(tmp_path):
    with serve(tmp_path) as first:
        port = first.url.rpartition(":")[2]
        first.stop(signal.SIGKILL)

    assert running.on_port(int(port), {"HOME": str(tmp_path)}) is None
    with started(tmp_path, "serve", "--json", "--port", port) as second:
        assert second.facts["url"] == first.url
        assert second.stop().code == 0
