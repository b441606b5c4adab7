from __future__ import annotations

import contextlib
import http.server
import json
import signal
import threading
import urllib.error
import urllib.request

import pytest

from commands import ESCAPE, Outcome, command, started
from leeward import recipes

WAITING = "waiting for the first event; Ctrl+C ends\n"


def key_of(server, scope):
    return json.loads((server.data_dir / "first-keys.json").read_text())[scope]


@contextlib.contextmanager
def waiting(home, *arguments):
    """A command that waits for an event by now; what it said until then is thrown away."""
    with started(home, "connect", *arguments, stderr=True) as process:
        line = process.ready
        while line != WAITING:
            line = process.process.stderr.readline()
            assert line, end(process)
        yield process


def end(process):
    out, err = process.process.communicate(timeout=60)
    return Outcome(process.process.returncode, out, err)


def refuse_something(server):
    """Send with a key that is none of the server's."""
    headers = {"Authorization": "Bearer lw_" + "x" * 32, "User-Agent": "somebody/1.0"}
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/api/telemetry/ingest", b"{}", headers))


def test_alone_it_lists_the_names(at_server):
    shown = at_server("connect")

    assert (shown.code, shown.err) == (0, "")
    assert [line.split()[0] for line in shown.out.splitlines()[1:]] == [recipe.name for recipe in recipes.RECIPES]
    listed = at_server("connect", "--json").json()["recipes"]
    assert [row["name"] for row in listed] == [recipe.name for recipe in recipes.RECIPES]


@pytest.mark.parametrize(
    ("typed", "meant"), [("posthogg", "posthog"), ("sentry-sdk", "sentry"), ("Langfuse", "langfuse"), ("zzz", "")]
)
def test_of_a_name_that_is_none_the_nearest_is_said(at_server, typed, meant):
    shown = at_server("connect", typed)

    assert (shown.code, shown.out) == (2, "")
    assert (f"did you mean {meant}?" in shown.err) == bool(meant)
    assert "leeward connect lists all" in shown.err


@pytest.mark.parametrize("recipe", recipes.RECIPES, ids=lambda recipe: recipe.name)
def test_stdout_has_the_lines_with_the_address_and_a_key_that_can_do_no_more_than_it_must(server, at_server, recipe):
    shown = at_server("connect", recipe.name, "--no-wait")

    assert shown.code == 0
    key = key_of(server, recipe.scope)
    expected = recipes.filled(recipe, server.url, key).lines
    if recipe.language == "shell":
        assert recipe.file in shown.err
    else:
        expected += "\n" + recipe.event
    assert shown.out == expected
    assert key in shown.out
    assert recipe.install in shown.err
    assert ESCAPE not in shown.out + shown.err


def test_json_has_all_of_the_row(server, at_server):
    shown = at_server("connect", "posthog", "--no-wait", "--json")

    row = recipes.filled(recipes.find("posthog"), server.url, key_of(server, "write"))
    assert shown.json() == {**row._asdict(), "host": server.url}
    assert shown.err == ""


def test_the_key_that_was_given_is_the_one_in_the_lines(at_server):
    assert "lw_mine" in at_server("connect", "sentry", "--key", "lw_mine", "--no-wait").out


def test_the_clients_key_in_the_environment_is_none_for_the_gateway(server):
    variables = {"LEEWARD_API_KEY": key_of(server, "write")}

    assert key_of(server, "chat") in command(server.home, "connect", "openai", "--no-wait", **variables).out
    assert key_of(server, "write") in command(server.home, "connect", "posthog", "--no-wait", **variables).out
    assert "lw_mine" in command(server.home, "connect", "openai", "--no-wait", "--key", "lw_mine").out


def test_without_a_key_there_are_no_lines_but_the_way_to_one(terminal):
    shown = terminal("connect", "posthog", "--host", "https://telemetry.example.com")

    assert (shown.code, shown.out) == (1, "")
    assert shown.err.startswith("error: there is no key for https://telemetry.example.com")


def test_the_first_event_is_said_with_name_and_time(server):
    command(server.home, "send", "one.before")
    with waiting(server.home, "curl", "--timeout-s", "60") as process:
        assert command(server.home, "send", "first.one").code == 0
        shown = end(process)

    assert shown.code == 0
    assert shown.err.startswith("First event after ")
    assert " s: first.one, 20" in shown.err
    assert shown.err.endswith(f", {server.url}/\n")


def test_as_json_the_first_event_is_an_object_of_its_own(server):
    with waiting(server.home, "curl", "--json") as process:
        command(server.home, "send", "json.one")
        shown = end(process)

    row, outcome = map(json.loads, shown.out.splitlines())
    assert row["name"] == "curl"
    assert outcome["event"]["event_type"] == "json.one"
    assert outcome["after_s"] > 0


@pytest.mark.parametrize("as_json", [False, True])
def test_a_refusal_is_said_with_its_cure_and_the_wait_goes_on(server, as_json):
    refuse_something(server)  # before: it is nobody's business
    with waiting(server.home, "posthog", *["--json"] * as_json) as process:
        refuse_something(server)
        command(server.home, "send", "after.all")
        shown = end(process)

    assert shown.code == 0
    if as_json:
        _, refused, outcome = map(json.loads, shown.out.splitlines())
        assert refused["refused"]["code"] == "unauthorized"
        assert outcome["event"]["event_type"] == "after.all"
        return
    refused, fix, first = shown.err.splitlines()
    assert refused.startswith("refused: ")
    assert "somebody/1.0 with the key …xxxx" in refused
    assert fix.startswith("fix: ")
    assert first.startswith("First event after")


def test_when_the_time_is_over_the_last_refusal_is_the_reason(server):
    with waiting(server.home, "posthog", "--timeout-s", "5") as process:
        refuse_something(server)
        shown = end(process)

    assert shown.code == 1
    refused, fix, *error = shown.err.splitlines()
    assert error[0] == "error: no event came within 5 s"
    assert error[1].removeprefix("where: ") in refused
    assert error[2] == fix


def test_when_nothing_comes_it_says_so(at_server):
    at_server("send", "already.there")
    shown = at_server("connect", "posthog", "--timeout-s", "1")

    assert shown.code == 1
    assert "error: no event came within 1 s\nfix: run the lines while this waits" in shown.err


def test_a_server_that_is_away_is_said_once_and_waited_for(terminal):
    shown = terminal(
        "connect", "posthog", "--host", "http://127.0.0.1:9", "--key", "lw_x", "--timeout-s", "1", "--no-color"
    )

    assert shown.code == 1
    assert shown.err.count("no answer from http://127.0.0.1:9") == 1
    assert "no event came within 1 s" in shown.err


def test_with_a_key_that_only_writes_the_first_key_of_this_machine_watches(server, at_server):
    shown = at_server("connect", "posthog", "--key", key_of(server, "write"), "--timeout-s", "1")

    assert "error: no event came within 1 s" in shown.err


def test_a_key_that_only_writes_can_not_watch_and_the_way_out_is_said(server, terminal):
    shown = terminal("connect", "posthog", "--host", server.url, "--key", key_of(server, "write"))

    assert (shown.code, shown.out) == (1, "")
    assert "fix: add --no-wait" in shown.err


def test_a_server_without_a_list_of_refusals_is_watched_all_the_same(terminal):
    class Older(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path.startswith("/api/telemetry/query")
            body = b'{"events": []}' if known else b'{"error": "There is no such address.", "code": "not_found"}'
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Older) as older:
        threading.Thread(target=older.serve_forever).start()
        url = f"http://127.0.0.1:{older.server_address[1]}"
        shown = terminal("connect", "otel", "--host", url, "--key", "lw_x", "--timeout-s", "1")
        older.shutdown()

    assert shown.code == 1
    assert "no event came within 1 s" in shown.err


def test_ctrl_c_ends_the_wait(server):
    with waiting(server.home, "posthog") as process:
        assert process.stop(signal.SIGINT).code == 130
