from __future__ import annotations

import itertools
import json
import os
import pty
import random
import re
import select
import shlex
import subprocess
import sys
import time

import pytest

from commands import ESCAPE, LIMIT_S, command, started, variables
from gateway_process import KEY, configuration, gateway, listening
from leeward.cli import demo, traffic as traffic_module
from leeward.cli.traffic import Answer, Door, Traffic
from leeward.gateway.simulated import SimulatedProvider


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
            found = [json.loads(following.ready)]
            for line in itertools.islice(following.process.stdout, 300):  # the gateway's spans come in batches
                found.append(json.loads(line))
                if {event["event_type"] for event in found} >= {"chat.sent", "chat.answered"}:
                    break
        sent = command(tmp_path, "send", "hello", "-p", "name=world", "--host", url)
        page = command(tmp_path, "query", "--host", url, "--event-type", "hello", "--json").json()
        cut = command(tmp_path, "chaos", "set", "primary", "503", "--for", "60", "--host", url)
        assert cut.code == 0, cut.err  # else nothing is told
        told = _read_until(running.process.stderr, " lost")
        asked = subprocess.run(
            shlex.split(re.search(r"Talk +(curl .*)", block)[1]), capture_output=True, check=True, timeout=20
        )
        with started(tmp_path, "query", "--follow", "--json", "--kind", "span", "--host", url) as following:
            spans = [json.loads(following.ready)]
            spans.extend(json.loads(line) for line in itertools.islice(following.process.stdout, 1))
        ended = running.stop()

    of_application = [event for event in found if event["kind"] != "span"]
    assert {event["event_type"] for event in of_application} >= {"chat.sent", "chat.answered"}
    assert all(event["data"]["demo"] is True for event in of_application)
    assert {span["event_type"] for span in spans} == {"gateway chat", "chat chat"}
    assert "two simulated providers, real traffic through client, gateway and server" in block
    assert "press b" not in block  # nobody is there to press it
    assert (sent.code, page["count"]) == (0, 1)
    assert 'provider "primary" is broken on purpose: answers 503' in told
    assert re.search(r"since [\d:]+: \d+ answers? \(.*\), 0 lost", told)
    assert json.loads(asked.stdout)["choices"][0]["message"]["content"]
    assert ended.code == 0
    assert ended.out == ""
    assert ended.err == "stopped; the data stays for the next time\n"
    assert ESCAPE not in block
    assert "\n{" not in block  # no log line
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


class Client:
    """What the application reports to."""

    def __init__(self):
        self.captured, self.flushed_after, self.ended = [], None, 0

    def capture(self, name, properties, *, distinct_id):
        self.captured.append((name, properties))

    def flush(self, timeout_s):
        self.flushed_after = len(self.captured)

    def shutdown(self, timeout_s):
        self.ended += 1


def _answering(*answers):
    """A gateway that gives these answers, and the last of them from then on; it ends the traffic with its last one."""
    asked = []

    def ask(prompt, *, stream, leave):
        asked.append((prompt, stream))
        return answers[min(len(asked), len(answers)) - 1]

    return ask, asked


def _talked(client, *answers, times=40):
    traffic = Traffic(client, _answering(*answers)[0], random.Random(1))
    for number in range(times):
        traffic._talk(stream=number % 2 == 0)
    return traffic


def test_the_application_reports_each_question_and_what_came_of_it_and_marks_it_as_demo():
    client = Client()
    traffic = _talked(
        client, Answer("primary"), Answer("cache", degraded=True), Answer("", code="timeout"), Answer("secondary")
    )

    names = [name for name, _ in client.captured]
    assert set(names) == {"chat.sent", "chat.answered", "chat.failed", "answer.rated"}
    assert names.count("chat.sent") == 40
    assert all(properties["demo"] is True for _, properties in client.captured)
    answered = [properties for name, properties in client.captured if name == "chat.answered"]
    assert [(each["by"], each["degraded"]) for each in answered[:2]] == [("primary", False), ("cache", True)]
    assert next(properties["code"] for name, properties in client.captured if name == "chat.failed") == "timeout"
    assert traffic.answers() == {"primary": 1, "cache": 1, "lost": 1, "secondary": 37}


def test_the_traffic_ends_when_it_is_told_also_twice_and_hands_its_events_over_once():
    client = Client()
    ask, asked = _answering(Answer("primary"))
    traffic = Traffic(client, ask, random.Random(1))
    traffic.start()
    while client.flushed_after is None:
        time.sleep(0.001)
    traffic.stop()
    traffic.stop()
    traffic.join()

    assert len(asked) >= 10
    assert client.ended == 1


def test_what_the_demos_own_end_broke_off_is_not_told_as_lost():
    client = Client()
    traffic = Traffic(client, lambda *_, **__: (traffic.stop(), Answer("", code="cut"))[1], random.Random(1))
    traffic._talk(stream=True)
    traffic._talk(stream=True)

    assert [name for name, _ in client.captured] == ["chat.sent"]
    assert traffic.answers() == {}


# The door, at a real gateway


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home") / "gateway"
    provider = SimulatedProvider("a")
    with listening([provider]), gateway(folder, _route(provider)) as url:
        yield Door(url, KEY), provider


def _route(provider):
    patience = "[gateway]\nstall_timeout_s = 0.3\nfirst_token_timeout_s = 0.3\n[gateway.retry]\nmax_attempts = 1"
    quick = "[gateway.breaker]\nconsecutive_failures = 1000\nmin_calls = 1000"
    return configuration({"a": provider.base_url}, {"chat": ""}, f"{patience}\n{quick}")


@pytest.mark.parametrize("stream", [True, False])
def test_the_door_says_who_answered(door, stream):
    assert door[0].ask("Hello", stream=stream, leave=lambda: False) == Answer("a")


@pytest.mark.parametrize(
    ("fault", "stream", "code"),
    [("503", False, "all_providers_failed"), ("cut", True, "cut"), ("stall", True, "cut")],
)
def test_the_door_says_why_no_answer_came(door, fault, stream, code):
    door[1].fault = fault
    try:
        assert door[0].ask("Hello", stream=stream, leave=lambda: False) == Answer("", code=code)
    finally:
        door[1].fault = None


def test_the_door_leaves_in_mid_stream_when_it_is_told(door):
    assert door[0].ask("Hello", stream=True, leave=lambda: True) == Answer("", code="cut")


def test_where_nobody_listens_the_door_says_so_too():
    assert (
        Door("http://127.0.0.1:1", KEY).ask("Hello", stream=False, leave=lambda: False).code == "ConnectionRefusedError"
    )


def test_an_error_that_is_no_gateways_has_a_code_all_the_same():
    assert traffic_module._code(b"<html>") == traffic_module._code(b"[]") == "no_answer"


# On a terminal


def test_on_a_terminal_a_key_cuts_the_primary_and_answers_keep_coming_until_it_is_mended(tmp_path):
    demo_run = _OnTerminal(tmp_path, "demo", "--port", "0")
    try:
        assert 'press b to cut provider "primary"' in demo_run.until("Ctrl+C stops.")
        demo_run.press("b")
        seen = demo_run.until_match(r"\r +since [\d:]+: \d+ answers? \(.*from secondary.*\), 0 lost")
        assert 'provider "primary" is broken on purpose: answers 503' in seen
        demo_run.press("b")
        demo_run.until('provider "primary" is mended')
        demo_run.press("\x03")
        assert demo_run.end() == 0
        assert "stopped; the data stays" in demo_run.until("next time")
    finally:
        demo_run.close()


def test_a_terminal_that_is_closed_ends_the_demo(tmp_path):
    demo_run = _OnTerminal(tmp_path, "demo", "--port", "0")
    try:
        demo_run.until("Ctrl+C stops.")
        time.sleep(0.3)
        demo_run.hang_up()
        assert demo_run.end() in {0, 1}  # there is nobody to say it to
    finally:
        demo_run.close()


class _OnTerminal:
    """A command in the foreground of a terminal of its own."""

    # A session of its own takes the terminal before it becomes the command; forking here would take our threads along.
    LAUNCH = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"

    def __init__(self, home, *arguments):
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.LAUNCH, sys.executable, "-m", "leeward", *arguments],
            env=variables(home),
            cwd=home,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._seen = ""

    def press(self, keys):
        os.write(self._ours, keys.encode())

    def until(self, text):
        return self.until_match(re.escape(text))

    def until_match(self, pattern):
        deadline_s = time.monotonic() + LIMIT_S
        while (found := re.search(pattern, self._seen)) is None:
            assert time.monotonic() < deadline_s, self._seen
            if select.select([self._ours], [], [], 1)[0]:
                try:
                    self._seen += os.read(self._ours, 65536).decode()
                except OSError as error:  # the other end is closed
                    raise AssertionError(self._seen) from error
        before, self._seen = self._seen[: found.end()], self._seen[found.end() :]
        return before

    def hang_up(self):
        ours, self._ours = self._ours, -1
        os.close(ours)

    def end(self):
        return self._process.wait(LIMIT_S)

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(LIMIT_S)
        if self._ours >= 0:
            os.close(self._ours)
