from __future__ import annotations

import json

import click
import pytest

from commands import ESCAPE, command, started
from leeward.cli import query
from leeward.server.routes import QUERY_PARAMETERS


def test_every_parameter_of_the_api_has_its_option():
    options = {option.name for option in query.command.params}
    named = {"start": "since", "end": "until"}

    assert {named.get(name, name) for name, _ in QUERY_PARAMETERS} <= options


def test_events_are_lines_newest_first_with_what_matters(at_server):
    at_server("send", "line.one", "-p", "n=0.5", "--distinct-id", "u1", "--level", "ERROR")
    at_server("send", "line.two")

    shown = at_server("query", "--since", "1h")

    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[0].split("  ")[1].strip() == "line.two"
    assert lines[1].endswith('line.one          ERROR  u1  {"n":0.5}')


def test_json_is_the_servers_own_answer(at_server):
    at_server(
        "send",
        "exact",
        "--data",
        '{"pi": 3.14159265358979323846264338327950288, "big": 123456789012345678901234567890}',
    )

    shown = at_server("query", "--event-type", "exact", "--json")

    assert "3.14159265358979323846264338327950288" in shown.out
    assert "123456789012345678901234567890" in shown.out
    assert set(shown.json()) == {"count", "events", "next_cursor"}


def test_no_event_can_steer_the_terminal(server):
    evil = "\x1b[31m\x9b2J\u202e\r\n"
    event = {
        "event_type": "evil" + evil,
        "distinct_id": evil,
        "session_id": "s-evil",
        "data": {evil: evil},
        "error": {"message": evil},
    }
    command(server.home, "send", "-", input=json.dumps(event))

    for arguments in ((), ("--json",)):
        shown = command(server.home, "query", "--session-id", "s-evil", *arguments)
        assert shown.code == 0
        assert shown.out.count("\n") == 1
        assert all(character.isprintable() for character in shown.out.rstrip("\n"))
    assert shown.json()["events"][0]["data"] == {evil: evil}


def test_nothing_found_is_said_aside_and_is_no_error(at_server):
    assert at_server("query", "--event-type", "nowhere") == (
        0,
        "",
        "no events in the last 24 hours (--since 7d looks further)\n",
    )
    assert at_server("query", "--event-type", "nowhere", "--since", "7d") == (0, "", "no events\n")


def test_where_there_are_more_the_cursor_is_said(at_server):
    for _ in range(2):
        at_server("send", "paged")

    first = at_server("query", "--event-type", "paged", "--limit", "1")
    assert first.err.startswith("there are more: add --cursor ")
    second = at_server("query", "--event-type", "paged", "--limit", "1", "--cursor", first.err.split()[-1])
    assert len(second.out.splitlines()) == 1
    assert second.out != first.out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ("--since", "yesterday"),
            "error: --since is 'yesterday', but must be 15m, 2h or 7d ago, an RFC 3339 time, or milliseconds since 1970\n",
        ),
        (
            ("--until", "9" * 16),
            f"error: --until is '{'9' * 16}', but must be 15m, 2h or 7d ago, an RFC 3339 time, or milliseconds since 1970\n",
        ),
        (("--since", "1h", "--until", "2h"), "error: --since 1h must lie before --until 2h\n"),
        (
            ("--since", "2026-01-02", "--until", "2026-01-01T00:00:00+01:00"),
            "error: --since 2026-01-02 must lie before --until 2026-01-01T00:00:00+01:00\n",
        ),
    ],
)
def test_a_time_that_is_none_is_refused_by_its_option_with_what_may_be_said(terminal, arguments, error):
    assert terminal("query", *arguments) == (2, "", error + "fix: leeward query --help\n")


def test_what_the_server_refuses_is_said_in_its_words(at_server):
    assert at_server("query", "--cursor", "x") == (1, "", "error: cursor: is not one that this query gave\n")


def test_a_level_may_be_written_small(at_server):
    at_server("send", "small.level", "--level", "error")

    assert at_server("query", "--event-type", "small.level", "--level", "Error").out.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [("--limit", "0"), ("--limit", "1001"), ("--level", "LOUD"), ("--follow", "--order", "asc")]
)
def test_what_cannot_be_asked_is_wrong_usage(at_server, arguments):
    assert at_server("query", *arguments).code == 2


@pytest.mark.parametrize(
    ("text", "ago_ms"), [("90s", 90_000), ("15m", 900_000), ("2h", 7_200_000), ("7d", 604_800_000)]
)
def test_a_time_may_be_so_long_ago(monkeypatch, text, ago_ms):
    monkeypatch.setattr(query.time, "time_ns", lambda: 10**18)

    assert query._time(text, "--since") == query._time(f"{text} ago", "--since") == str(10**12 - ago_ms)
    assert query._time("2026-11-22T07:00Z", "--since") == "2026-11-22T07:00Z"
    assert query._time("1795322741463", "--since") == "1795322741463"
    assert query._time("999999999d", "--since") == "0"


def test_a_key_without_the_scope_is_told_which_one_it_needs(at_server, server):
    keys = json.loads((server.data_dir / "first-keys.json").read_text())

    refused = at_server("query", "--key", keys["write"])

    assert refused.code == 1
    assert "read" in refused.err
    assert "where: --key" in refused.err
    assert (
        "fix: --key holds a write key: pass --key with a read key, or: leeward keys create --scope read\n"
        in refused.err
    )
    assert keys["write"] not in refused.err


def test_a_level_has_its_colour_where_someone_sees_it(at_server, monkeypatch):
    at_server("send", "coloured", "--level", "ERROR")
    monkeypatch.setenv("FORCE_COLOR", "1")

    assert ESCAPE in at_server("query", "--event-type", "coloured").out
    assert ESCAPE not in at_server("query", "--event-type", "coloured", "--no-color").out


# Splitting


def test_an_answers_events_keep_their_own_text():
    texts = ['{"key":"a","data":{"x":1e400}}', '{"key":"b","data":{"y":' + "7" * 5000 + "}}", '{"key":"]}"}']
    answer = '{"count":3,"events":[' + ",".join(texts) + '],"next_cursor":null}'

    events = query._events_of(answer)

    assert [event.text for event in events] == texts
    assert [event.value["key"] for event in events] == ["a", "b", "]}"]
    assert query._events_of('{"count":0,"events":[],"next_cursor":null}') == []


# Following


def test_following_shows_the_last_events_then_each_new_one_once(server):
    for n in range(3):
        command(server.home, "send", "followed", "-p", f"n={n}")
    arguments = ("query", "--follow", "--event-type", "followed", "--limit", "2", "--json")
    with started(server.home, *arguments) as following:
        seen = [json.loads(following.ready)["data"]["n"], json.loads(following.process.stdout.readline())["data"]["n"]]
        for n in (3, 4):
            command(server.home, "send", "followed", "-p", f"n={n}")
            seen.append(json.loads(following.process.stdout.readline())["data"]["n"])
        ended = following.stop()

    assert seen == [1, 2, 3, 4]
    assert ended.code == 130
    assert ended.out == ""


class _Answers:
    """An API that gives these pages, then breaks the loop off."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def get(self, path, parameters):
        self.asked.append(parameters)
        if not self.answers:
            raise click.Abort
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return query_answer(answer)


def query_answer(keys_at: dict[str, int], cursor: str | None = None):
    from leeward.cli.api import Answer

    events = [
        {"key": key, "received_at": at, "timestamp": at, "event_type": key, "data": {}} for key, at in keys_at.items()
    ]
    return Answer(
        200,
        {},
        json.dumps({"count": len(events), "events": events, "next_cursor": cursor}, separators=(",", ":")).encode(),
    )


def _followed(monkeypatch, capsys, *answers, limit: str = "10") -> tuple[list[str], _Answers, str]:
    monkeypatch.setattr(query.time, "sleep", lambda _: None)
    api = _Answers(*answers)
    with pytest.raises(click.Abort):
        query._follow(api, {"limit": limit, "kind": "event"}, as_json=True)
    out, err = capsys.readouterr()
    return [json.loads(line)["key"] for line in out.splitlines()], api, err


def test_an_event_that_becomes_visible_late_is_still_shown_and_none_twice(monkeypatch, capsys):
    shown, api, _ = _followed(
        monkeypatch, capsys, {"b": 10_100, "a": 10_000}, {"a": 10_000, "late": 9_900, "b": 10_100}
    )

    assert shown == ["a", "b", "late"]
    assert api.asked[1]["start"] == "8100"
    assert api.asked[1]["kind"] == "event"


def test_what_lay_there_before_is_not_taken_for_new(monkeypatch, capsys):
    shown, _, _ = _followed(
        monkeypatch, capsys, {"c": 10_002, "b": 10_001, "a": 10_000}, {"a": 10_000, "b": 10_001, "c": 10_002}, limit="1"
    )

    assert shown == ["c"]


def test_a_server_that_is_away_for_a_while_is_said_once_and_waited_for(monkeypatch, capsys):
    from leeward.errors import Unavailable

    away = Unavailable("no answer")
    shown, _, err = _followed(monkeypatch, capsys, {}, away, away, {"a": 10_000})

    assert shown == ["a"]
    assert err.count("no answer; still trying") == 1


def test_what_is_remembered_of_the_shown_is_bounded_in_time(monkeypatch, capsys):
    shown, api, _ = _followed(monkeypatch, capsys, {"a": 1_000}, {"b": 100_000}, {"a": 1_000})

    assert api.asked[2]["start"] == "98000"
    assert shown == ["a", "b", "a"]  # only a server that gives what was not asked for could repeat it


def test_a_clients_write_key_in_the_environment_hinders_nobody_at_the_server_of_this_machine(
    at_server, server, monkeypatch
):
    made = at_server("keys", "create", "--scope", "write", "--json").json()["key"]
    monkeypatch.setenv("LEEWARD_API_KEY", made)

    assert at_server("query", "--limit", "1").code == 0
    assert at_server("keys", "list").code == 0
    assert at_server("doctor").code == 0
    refused = at_server("query", "--key", made)  # it was chosen for this command: it is not replaced
    assert refused.code == 1


def test_a_clients_write_key_where_there_are_no_first_keys_says_what_to_pass(at_server, server, monkeypatch):
    keys = json.loads((server.data_dir / "first-keys.json").read_text())
    monkeypatch.setenv("LEEWARD_API_KEY", keys["write"])
    monkeypatch.setattr("leeward.cli.connection.FIRST_KEYS", "deleted.json")

    assert at_server("query").err.splitlines()[1:] == [
        "where: LEEWARD_API_KEY",
        "fix: LEEWARD_API_KEY holds a write key: pass --key with a read key, or: leeward keys create --scope read",
    ]
    assert at_server("keys", "list").err.splitlines()[2] == (
        "fix: LEEWARD_API_KEY holds a write key: pass --key with an admin key, "
        "or: with the server stopped: leeward keys create --scope admin"
    )
