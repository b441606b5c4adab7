from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from commands import command, variables
from leeward.cli import send
from leeward.errors import RateLimited, Refused, Unavailable


def test_an_event_is_sent_and_its_id_and_key_are_printed(at_server):
    sent = at_server(
        "send",
        "signup",
        "-p",
        "plan=pro",
        "-p",
        "seats=3",
        "-p",
        "zip=01234",
        "-p",
        "none=null",
        "-p",
        "nan=NaN",
        "--distinct-id",
        "u 1",
        "--level",
        "WARN",
    )

    assert sent.code == 0
    assert sent.err == ""
    event_id, key = sent.out.split()
    found = at_server("query", "--event-type", "signup", "--json").json()["events"][0]
    assert (found["id"], found["key"]) == (event_id, key)
    assert (found["distinct_id"], found["level"]) == ("u 1", "WARN")
    assert found["data"] == {"plan": "pro", "seats": 3, "zip": "01234", "none": None, "nan": "NaN"}


def test_single_properties_come_on_top_of_the_object(at_server):
    sent = at_server("send", "both", "--data", '{"a": 1, "b": [true]}', "-p", "a=two", "--json")

    assert sent.json()["accepted"] == 1
    assert at_server("query", "--event-type", "both", "--json").json()["events"][0]["data"] == {"a": "two", "b": [True]}


def test_an_event_with_an_id_is_stored_once(at_server):
    first, again = at_server("send", "once", "--id", "e1"), at_server("send", "once", "--id", "e1", "--json")

    assert first.out.split()[0] == "e1"
    assert again.json()["duplicates"] == 1
    assert at_server("query", "--event-type", "once", "--json").json()["count"] == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--data", "{bad"), "--data is not JSON at character 2: expecting property name enclosed in double quotes"),
        (("--data", '{"a": 1,\n "b": x}'), "--data is not JSON at line 2, column 7: expecting value"),
        (("--data", "[1]"), '--data is JSON, but not an object such as {"plan": "pro"}'),
        (("--data", '{"a":' + "[" * 100_000), "--data cannot be sent: it is nested too deeply"),
        (("--data", '{"a": NaN}'), "--data cannot be sent: NaN is not JSON"),
        (("--data", '{"a": 1e400}', "-p", "b=1"), "--data cannot be sent: 1e400 is too large for a number"),
        (("-p", "plan"), "invalid value for -p: 'plan' is not NAME=VALUE"),
        (("-p", "=x"), "invalid value for -p: '=x' is not NAME=VALUE"),
        (("--level", "LOUD"), "invalid value for '--level': 'LOUD' is not one of"),
    ],
)
def test_what_cannot_be_sent_is_refused_as_wrong_usage_before_a_key_is_looked_for(terminal, arguments, error):
    refused = terminal("send", "x", *arguments)

    assert refused.code == 2
    assert refused.err.startswith(f"error: {error}")


def test_an_event_that_the_server_refuses_is_an_error_with_its_reason(at_server):
    refused = at_server("send", "x" * 300)

    assert refused.code == 1
    assert refused.err.startswith("error: event_type")


def test_lines_from_stdin_are_sent_and_the_bad_ones_are_named_by_their_number(server):
    lines = [
        '{"event_type": "bulk", "session_id": "s-lines", "data": {"n": 1e400}}',
        "",
        "not json",
        '{"event_type": "bulk", "session_id": "s-lines", "level": "LOUD"}',
        "[1]",
        '{"event_type": "bulk", "session_id": "s-lines", "data": {"n": 2}}',
        '{"event_type": "bulk", "data": {"n": NaN}}',
    ]
    sent = command(server.home, "send", "-", input="\n".join(lines))

    assert sent.code == 1
    assert sent.out == "2 sent, 4 refused\n"
    said = sent.err.splitlines()
    assert [line.partition(":")[0] for line in said[:4]] == ["line 3", "line 5", "line 7", "line 4"]
    assert "error: 4 of 6 events were refused" in said
    found = command(server.home, "query", "--session-id", "s-lines", "--json")
    assert '"data":{"n": 1e400}' in found.out  # as it was written


def test_many_lines_go_in_batches_and_all_arrive(server):
    lines = [json.dumps({"event_type": "many", "session_id": "s-many", "data": {"n": n}}) for n in range(2500)]
    sent = command(server.home, "send", "-", "--json", input="\n".join(lines))

    answers = [json.loads(line) for line in sent.out.splitlines()]
    assert sent.code == 0
    assert [answer["accepted"] for answer in answers] == [1000, 1000, 500]
    seen, cursor = set(), ()
    for _ in range(3):
        page = command(server.home, "query", "--session-id", "s-many", "--limit", "1000", "--json", *cursor).json()
        seen |= {event["data"]["n"] for event in page["events"]}
        cursor = ("--cursor", page["next_cursor"] or "")
    assert seen == set(range(2500))


def test_a_batch_without_a_valid_event_does_not_stop_the_next(server):
    lines = ["{}"] * 1000 + ['{"event_type": "after", "session_id": "s-after"}']
    sent = command(server.home, "send", "-", input="\n".join(lines))

    assert sent.code == 1
    assert sent.out == "1 sent, 1,000 refused\n"
    assert "1,000 lines from line 1 on: No valid event in the batch" in sent.err


def test_bytes_that_are_no_text_are_refused_by_their_line():
    refused: list[tuple[int, str]] = []
    stream = io.BytesIO(b'{"event_type": "\xff"}\n' + b"[" * 100_000 + b"\n\n" + b'{"event_type": "b"}')
    batches = list(send._batches(stream, lambda number, reason, count=1: refused.append((number, reason))))

    assert refused == [(1, "it is not UTF-8 text"), (2, "it is not JSON")]
    assert [batch.numbers for batch in batches] == [[4]]


def test_a_batch_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(send, "BYTES_PER_BATCH_MAX", 100)
    line = b'{"event_type": "' + b"x" * 40 + b'"}\n'

    batches = list(send._batches(io.BytesIO(line * 5), lambda *_: None))

    assert [len(batch.lines) for batch in batches] == [1, 1, 1, 1, 1]


def test_with_a_dash_other_options_are_refused(at_server):
    assert at_server("send", "-", "-p", "a=b").code == 2


def test_a_server_that_goes_away_is_said_with_how_far_it_got(terminal, monkeypatch):
    class Stdin:
        buffer = io.BytesIO(b'{"event_type": "a"}\n')

    monkeypatch.setattr(sys, "stdin", Stdin())
    refused = terminal("send", "-", "--host", "http://127.0.0.1:1", "--key", "k")

    assert refused.code == 1
    assert "no answer from http://127.0.0.1:1" in refused.err
    assert "where: 0 events were sent before line 1" in refused.err


def test_what_the_server_puts_off_is_sent_again_when_it_says(monkeypatch, capsys):
    waited: list[float] = []
    monkeypatch.setattr(send.time, "sleep", waited.append)
    answers = [Unavailable("the log is full", retry_after_s=3), RateLimited("too much"), "done"]

    def ask():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert send._patiently(ask) == "done"
    assert len(waited) == 2
    assert waited[0] >= 3
    assert "the log is full: once more in" in capsys.readouterr().err


def test_patience_ends(monkeypatch):
    waited: list[float] = []
    monkeypatch.setattr(send.time, "sleep", waited.append)

    def ask():
        raise Unavailable("the log is full")

    with pytest.raises(Unavailable):
        send._patiently(ask)
    assert len(waited) == 5
    assert sum(waited) < 60


@pytest.mark.parametrize("error", [Refused("no"), Unavailable("nobody", code="server_unreachable")])
def test_what_no_patience_can_cure_is_said_at_once(monkeypatch, error):
    monkeypatch.setattr(send.time, "sleep", lambda _: pytest.fail("it waited"))

    def ask():
        raise error

    with pytest.raises(type(error)):
        send._patiently(ask)


def test_a_machine_with_nothing_but_click_can_send_and_ask(server):
    keys = json.loads((server.data_dir / "first-keys.json").read_text())
    blocked = ("msgspec", "uvicorn", "sqlalchemy", "structlog", "starlette", "jinja2", "prometheus_client", "chdb")
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); from leeward.cli.main import run; run(sys.argv[1:])"
    shown = ""
    for arguments in (
        ("send", "bare", "--host", server.url, "--key", keys["write"]),
        ("query", "--event-type", "bare", "--host", server.url, "--key", keys["read"]),
        ("query",),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=variables(server.home),
            capture_output=True,
            text=True,
            check=False,
        )
        shown += done.stdout + done.stderr

    assert "  bare  " in shown
    assert 'error: this command needs msgspec, which is not installed\nfix: pip install "leeward[server]"' in shown
