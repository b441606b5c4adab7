from __future__ import annotations

import itertools
import json
import random
import re

import pytest

from commands import ESCAPE, command, started
from leeward.cli import demo
from leeward.cli.traffic import Traffic, chat_events


def _read_until(stream, text: str) -> str:
    lines = []
    for line in stream:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"{text!r} did not come: {lines}")


def test_the_demo_shows_real_events_says_how_to_go_on_and_stops_cleanly(tmp_path):
    with started(tmp_path, "demo", "--port", "0", stderr=True) as running:
        block = running.ready + _read_until(running.process.stderr, "Ctrl+C stops.")
        url = re.search(r"Open +(http://127\.0\.0\.1:\d+)/login/", block)[1]
        with started(tmp_path, "query", "--follow", "--json", "--host", url) as following:
            found = [json.loads(line) for line in itertools.islice(following.process.stdout, 9)]
            found.append(json.loads(following.ready))
        sent = command(tmp_path, "send", "hello", "-p", "name=world", "--host", url)
        page = command(tmp_path, "query", "--host", url, "--event-type", "hello", "--json").json()
        ended = running.stop()

    assert {event["event_type"] for event in found} >= {"chat.sent", "chat.answered"}
    assert all(event["data"]["demo"] is True for event in found)
    assert (sent.code, page["count"]) == (0, 1)
    assert ended.code == 0
    assert ended.out == ""
    assert ended.err == "stopped; the data stays for the next time\n"
    assert ESCAPE not in block
    assert "{" not in block  # no log line
    assert "~/.local/share/leeward/demo" in block
    assert (tmp_path / ".local/share/leeward/demo").stat().st_mode & 0o777 == 0o700

    _remove(tmp_path)


def _remove(home):
    """What was left can be looked at and removed; nothing without a yes."""
    directory = home / ".local/share/leeward/demo"
    for arguments in (("--dry-run",), ()):
        shown = command(home, "demo", "--reset", *arguments)
        assert shown.code == (0 if arguments else 1)
        assert re.match(r"This removes ~/\.local/share/leeward/demo: [\d,]+ files, [\d.]+ \w+\n", shown.err)
        assert directory.exists()
    assert command(home, "demo", "--reset", "--yes").code == 0
    assert not directory.exists()
    assert command(home, "demo", "--reset").err == "there is no demo data in ~/.local/share/leeward/demo\n"


def test_a_demo_that_runs_is_not_removed(tmp_path):
    with started(tmp_path, "demo", "--port", "0", "--verbose", stderr=True) as running:
        said = running.ready + _read_until(running.process.stderr, "Ctrl+C stops.")
        refused = command(tmp_path, "demo", "--reset", "--yes")
        running.stop()

    assert said
    assert refused.code == 1
    assert f"the demo is running (pid {running.process.pid}, at http://127.0.0.1:" in refused.err


def test_a_folder_that_is_not_the_demos_is_neither_used_nor_removed(terminal, monkeypatch):
    monkeypatch.setattr(demo, "_run", lambda *_, **__: pytest.fail("it started"))
    other = terminal.home / "precious"
    other.mkdir()
    (other / "file").write_text("x")

    for arguments in (("--reset", "--yes"), ()):
        refused = terminal("demo", "--data-dir", str(other), *arguments)
        assert refused.code == 1
        assert "not the demo's" in refused.err
    assert (other / "file").read_text() == "x"


def test_a_port_that_nobody_asked_for_gives_way_to_the_next_free_one(terminal, capsys):
    from leeward.cli.connection import load_settings
    from leeward.cli.hosting import bind_or_explain

    with bind_or_explain("127.0.0.1", 0, "demo") as taken:
        taken.listen()
        port = taken.getsockname()[1]
        loaded = load_settings({"server.port": port}, None, {"HOME": str(terminal.home)})
        with pytest.raises(Exception, match=f"port {port} "):
            demo._listen(loaded)
        unasked = loaded._replace(origins={**loaded.origins, "server.port": "default"})
        with demo._listen(unasked) as listener:
            assert listener.getsockname()[1] > port
            assert f"this demo takes {listener.getsockname()[1]}" in capsys.readouterr().err


def test_where_every_port_is_taken_the_first_is_named(terminal, monkeypatch):
    from leeward.cli import hosting
    from leeward.cli.connection import load_settings
    from leeward.errors import ConfigError

    def taken(name, port, command):
        raise ConfigError(f"port {port} is taken", code="address_taken")

    monkeypatch.setattr(hosting, "bind_or_explain", taken)
    loaded = load_settings({}, None, {"HOME": str(terminal.home)})

    with pytest.raises(ConfigError, match="port 5330 is taken"):
        demo._listen(loaded)


def test_without_a_home_a_folder_must_be_named(terminal, monkeypatch):
    monkeypatch.delenv("HOME")

    assert "fix: leeward demo --data-dir FOLDER" in terminal("demo").err


def test_the_application_reports_what_a_chat_does_and_marks_it_as_demo():
    events = list(itertools.islice(chat_events(random.Random(1)), 500))

    assert {name for name, _, _ in events} == {"chat.sent", "chat.answered", "provider.failed", "answer.rated"}
    assert all(properties["demo"] is True for _, _, properties in events)
    assert json.dumps(events)


def test_the_traffic_ends_when_it_is_told_also_twice():
    class Client:
        def __init__(self):
            self.captured, self.ended = 0, 0

        def capture(self, name, properties, *, distinct_id):
            self.captured += 1

        def flush(self, timeout_s):
            self.flushed_after = self.captured

        def shutdown(self, timeout_s):
            self.ended += 1

    client = Client()
    traffic = Traffic(client, random.Random(1))
    traffic.start()
    traffic.stop()
    traffic.stop()
    traffic.join()

    assert client.flushed_after == 40
    assert client.ended == 1
