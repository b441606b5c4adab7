from __future__ import annotations

import importlib
import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
import tomllib
import urllib.request

import pytest

from commands import LIMIT_S, command, serve, started, variables
from leeward.cli import running
from leeward.settings.load import load
from leeward.settings.tree import KEYS, Settings

serve_command = importlib.import_module("leeward.cli.serve")  # its name is taken by the helper that starts one


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


def test_where_port_and_data_clash_the_cure_is_for_both(server):
    port = server.url.rpartition(":")[2]

    refused = command(server.home, "serve", "--port", port)

    assert refused.err.splitlines()[2] == (
        f"fix: use that one, or: leeward serve --port {int(port) + 1} --data-dir FOLDER"
    )


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


def _names(table, prefix=""):
    for name, value in table.items():
        yield from _names(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]


def test_the_printed_configuration_is_one_that_says_every_default(terminal):
    shown = terminal("serve", "--print-config")

    assert shown.code == 0
    document = tomllib.loads(shown.out)
    assert set(_names(document)) == {name for name, key in KEYS.items() if key.default is not None}
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


# On a terminal


def _on_a_terminal(home, *arguments):
    """What a person sees of a start and a stop; stderr alone is the terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "leeward", "serve", "--json", *arguments],
        env=variables(home),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    with process:
        try:
            facts = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT_S) == 0
            return facts, _rest(ours).decode().replace("\r\n", "\n")
        finally:
            if process.poll() is None:
                process.kill()
            os.close(ours)


def _rest(descriptor):
    found = b""
    try:
        while part := os.read(descriptor, 65536):
            found += part
    except OSError:  # the other end is closed: that is how a terminal's end looks on Linux
        return found
    return found


def test_on_a_terminal_every_start_gives_a_link_that_signs_in_and_no_line_is_json(tmp_path):
    for _ in range(2):
        facts, seen = _on_a_terminal(tmp_path, "--port", "0")

        lines = seen.splitlines()
        assert lines[0] == f"leeward serves {facts['url']}  (data in {facts['data_dir']})"
        assert lines[1].startswith(f"  Open   {facts['url']}/login/")
        assert lines[2].startswith(f"  Keys   {facts['data_dir']}/first-keys.json")
        assert lines[3].startswith("  Send   ")
        assert lines[3].endswith(f" send hello -p name=world --host {facts['url']}")
        assert lines[4] == "Ctrl+C stops."
        assert not [line for line in lines if line.startswith("{")]


def test_the_hint_names_what_other_commands_would_not_find_by_themselves(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    default, other = tmp_path / ".local" / "share" / "leeward", tmp_path / "my data"

    assert serve_command._there("http://127.0.0.1:5330", default) == ""
    assert serve_command._there("http://127.0.0.1:6001", default) == " --host http://127.0.0.1:6001"
    assert serve_command._there("http://127.0.0.1:5330", other) == " --host http://127.0.0.1:5330"
    assert serve_command._there("http://10.0.0.7:5330", other) == f" --data-dir '{other}'"


def test_the_printed_hint_sends_an_event(server):
    there = serve_command._there(server.url, server.data_dir)

    assert command(server.home, "send", "hello", "-p", "name=world", *there.split()).code == 0


def test_troubles_are_told_in_words_and_nothing_else_is(capsys):
    serve_command._in_words("ready", {"url": "http://x"})
    serve_command._in_words("request_failed", {"request_id": "r", "path": "/x\x1b", "error": ValueError("bad")})
    serve_command._in_words("store_unavailable", {"reason": "no answer", "fix": "start it"})

    assert capsys.readouterr().err.splitlines() == [
        "warning: request failed: /x\\u001b: ValueError: bad",
        "warning: store unavailable: no answer",
        "fix: start it",
    ]


def test_a_terminal_that_is_gone_stops_no_server(monkeypatch):
    def gone(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(serve_command, "talk", gone)

    serve_command._in_words("writer_failed", {"error": ValueError("x")})
