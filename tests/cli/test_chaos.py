"""`leeward chaos`: faults switched on and off at a server, and a simulated provider of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import urllib.error
import urllib.request

import pytest

from asgi_server import serving
from chaos_server import ADMIN_KEY, READ_KEY, ChaosServer
from commands import started
from leeward.gateway.faults import FAULTS


@pytest.fixture
def chaos(terminal):
    """Runs `leeward chaos …` at a server with the providers primary (simulated) and openai (real)."""
    server = ChaosServer()
    asyncio.run(server.know())
    with serving(server.app) as port:

        def run(*arguments, key=ADMIN_KEY):
            return terminal("chaos", *arguments, "--host", f"http://127.0.0.1:{port}", "--key", key)

        run.server = server
        yield run
        asyncio.run(server.know())
        assert run("clear").code == 0


def rows(shown):
    return [line.split() for line in shown.out.splitlines()]


def test_a_fault_is_switched_on_listed_and_switched_off(chaos):
    assert rows(chaos("set", "primary", "503")) == [["primary", "simulated", "503", "60", "s", "0"]]
    assert rows(chaos("list")) == [
        ["provider", "kind", "fault", "ends", "in", "calls"],
        ["openai", "real", "none", "0"],
        ["primary", "simulated", "503", "60", "s", "0"],
    ]
    assert rows(chaos("clear", "primary")) == [["primary", "simulated", "none", "0"]]
    assert chaos.server.primary.fault is None


def test_the_numbers_of_a_fault_arrive(chaos):
    shown = chaos("set", "primary", "429", "--for", "120", "--retry-after", "7", "--percent", "25", "--json")

    assert shown.json() == {
        "provider": "primary",
        "simulated": True,
        "fault": "429",
        "ends_in_s": 120.0,
        "share": 0.25,
        "calls": 0,
    }
    assert chaos.server.primary.fault.retry_after_s == 7
    assert "429 (25% of calls)" in chaos("list").out
    chaos("set", "primary", "slow", "--delay", "9", "--after", "2")
    fault = chaos.server.primary.fault
    assert (fault.mode, fault.delay_s, fault.after_events, fault.share) == ("slow", 9, 2, 1)


def test_a_real_provider_is_said_to_be_left_alone(chaos):
    shown = chaos("set", "openai", "hang", "--for", "5")

    assert shown.err == "its calls go to a simulated provider for 5 s; the real one is left alone\n"
    assert rows(shown) == [["openai", "real", "hang", "5", "s", "0"]]


def test_all_faults_are_cleared_at_once_and_none_is_said(chaos):
    chaos("set", "primary", "503")

    assert chaos("clear", "--json").json()["count"] == 1
    shown = chaos("clear")
    assert (shown.code, shown.out, shown.err) == (0, "", "no provider had a fault\n")


def test_a_list_without_providers_says_how_to_have_one(chaos):
    asyncio.run(chaos.server.chaos.know({}, ["openai"], real_may=False))

    shown = chaos("list")

    assert (shown.code, len(rows(shown))) == (0, 1)
    assert "real ones with [gateway] chaos = true" in shown.err
    assert chaos("list", "--json").json()["count"] == 0


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            ("set", "primry", "503"),
            ["error: There is no provider 'primry'", "fix: did you mean primary? known here: openai, primary"],
        ),
        (
            ("set", "primary", "stal"),
            ["error: There is no fault 'stal'", "fix: did you mean stall? The faults are: " + ", ".join(FAULTS)],
        ),
        (("clear", "nobody"), ["error: There is no provider 'nobody'", "fix: known here: openai, primary"]),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_cure(chaos, arguments, lines):
    shown = chaos(*arguments)

    assert (shown.code, shown.out) == (1, "")
    assert shown.err.splitlines() == lines


def test_where_real_providers_may_not_be_broken_the_setting_is_named(chaos):
    asyncio.run(chaos.server.know(real_may=False))

    shown = chaos("set", "openai", "503")

    assert shown.code == 1
    assert shown.err.splitlines() == [
        "error: Provider openai is a real one, and faults of real ones are not allowed here",
        "fix: set [gateway] chaos = true",
    ]


def test_a_key_that_may_not_is_refused(chaos):
    shown = chaos("set", "primary", "503", key=READ_KEY)

    assert shown.code == 1
    assert "needs scope admin" in shown.err or "an admin key" in shown.err
    assert chaos.server.primary.fault is None


def test_wrong_usage_ends_with_2_and_says_what_is_missing(terminal):
    assert terminal("chaos", "set", "primary").code == 2
    shown = terminal("chaos", "set", "primary", "503", "--for", "0")
    assert (shown.code, shown.err.splitlines()[0]) == (
        2,
        "error: --for is '0', but must be a whole number from 1 to 86400",
    )
    assert "did you mean clear?" in terminal("chaos", "claer").err


def test_the_faults_are_listed_with_what_they_do(terminal):
    shown = terminal("chaos", "faults")

    assert [line.split()[0] for line in shown.out.splitlines()] == list(FAULTS)
    assert terminal("chaos", "faults", "--json").json() == {mode: row.sentence for mode, row in FAULTS.items()}


def completed(terminal, capsys, monkeypatch, words, number):
    monkeypatch.setenv("_LEEWARD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(number))
    shown = terminal()
    return [line.partition(",")[2] for line in shown.out.splitlines() if line]


def test_the_shell_completes_providers_and_faults(chaos, terminal, capsys, monkeypatch):
    assert completed(terminal, capsys, monkeypatch, "leeward chaos set primary re", 4) == ["reset", "reset-mid"]
    assert completed(terminal, capsys, monkeypatch, "leeward chaos set ", 3) == []  # no server can be found here

    with serving(chaos.server.app) as port:
        monkeypatch.setenv("LEEWARD_HOST", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("LEEWARD_API_KEY", ADMIN_KEY)
        assert completed(terminal, capsys, monkeypatch, "leeward chaos clear pri", 3) == ["primary"]


# A provider alone


def asked(base_url, text="hello"):
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    request = urllib.request.Request(f"{base_url}/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_provider_alone_says_where_it_is_answers_and_ends_with_0(tmp_path):
    with started(tmp_path, "chaos", "serve", "--port", "0", "--name", "primary", "--words", "6", "--json") as running:
        facts = running.facts
        answer = asked(facts["base_url"])
        ended = running.stop(signal.SIGINT)

    assert (facts["name"], facts["fault"], facts["pid"]) == ("primary", "", running.process.pid)
    assert answer["choices"][0]["message"]["content"].startswith("Simulated answer from primary: ")
    assert (ended.code, ended.out) == (0, "")
    assert f'base_url = "{facts["base_url"]}"' in ended.err
    assert ended.err.split("\n\n")[0].endswith("Ctrl+C stops.\nstopped; calls: 1")


def test_a_provider_alone_has_the_fault_that_it_was_started_with(tmp_path):
    with started(tmp_path, "chaos", "serve", "--port", "0", "--fault", "503", "--json") as running:
        assert running.facts["fault"] == "503"
        with pytest.raises(urllib.error.HTTPError) as refused:
            asked(running.facts["base_url"])
        assert refused.value.code == 503
        refused.value.close()


def test_a_provider_alone_refuses_a_fault_that_there_is_not(terminal):
    shown = terminal("chaos", "serve", "--fault", "rest")

    assert shown.code == 1
    assert shown.err.splitlines()[:2] == ["error: there is no fault 'rest'", "where: --fault"]
    assert shown.err.splitlines()[2].startswith("fix: did you mean reset? ")


def test_a_port_that_is_taken_is_said_with_the_next_one(terminal):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        shown = terminal("chaos", "serve", "--port", str(port))

    assert shown.code == 1
    next_port = port + 1 if port < 65535 else 0
    assert shown.err.splitlines() == [
        f"error: port {port} cannot be used: address already in use",
        "where: --port",
        f"fix: leeward chaos serve --port {next_port}, or --port 0 for a free one",
    ]
