from __future__ import annotations

import datetime
import io
import json
import threading

import pytest
from hypothesis import given, strategies as st

from leeward.server.logs import TEXT_CHARS_MAX, json_lines, quiet

NOON = datetime.datetime(2026, 11, 22, 12, 0, 0, 5, datetime.UTC)


def _written(event, fields):
    stream = io.StringIO()
    json_lines(stream, now=lambda: NOON)(event, fields)
    return stream.getvalue()


def test_a_line_is_an_object_with_the_events_name_its_fields_and_the_time_in_utc():
    line = _written("ready", {"port": 5330, "url": "http://127.0.0.1"})

    assert json.loads(line) == {
        "event": "ready",
        "port": 5330,
        "url": "http://127.0.0.1",
        "timestamp": "2026-11-22T12:00:00.000005Z",
    }


def test_the_time_is_that_of_now_if_nobody_gives_one():
    stream = io.StringIO()
    before = datetime.datetime.now(datetime.UTC)
    json_lines(stream)("ready", {})

    assert before <= datetime.datetime.fromisoformat(json.loads(stream.getvalue())["timestamp"])


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.text())), st.text())
def test_whatever_is_told_is_one_line_of_plain_ascii(fields, event):
    line = _written(event, fields)

    assert line.endswith("\n")
    assert line.isascii()
    assert all(letter >= " " for letter in line[:-1])
    assert json.loads(line)["event"] == event[:TEXT_CHARS_MAX]


def test_a_field_cannot_pretend_to_be_the_event_or_the_time():
    line = json.loads(_written("refused", {"event": "ready", "timestamp": "yesterday"}))

    assert (line["event"], line["timestamp"]) == ("refused", "2026-11-22T12:00:00.000005Z")


def test_an_exception_comes_with_its_stack_and_long_texts_are_cut():
    line = json.loads(_written("failed", {"error": RuntimeError("x" * 5000), "text": "y" * 5000}))

    assert len(line["error"]) == len(line["text"]) == TEXT_CHARS_MAX
    assert json.loads(_written("failed", {"error": ValueError("no")}))["error"] == "ValueError: no\n"
    with pytest.raises(ZeroDivisionError) as raised:
        1 / 0  # noqa: B018 - for its stack
    assert "1 / 0" in json.loads(_written("failed", {"error": raised.value}))["error"]


def test_what_json_has_no_form_for_is_told_as_python_shows_it():
    assert json.loads(_written("odd", {"value": {"a": 1j}}))["value"] == {"a": "1j"}


def test_a_log_that_nobody_reads_any_more_hinders_nobody():
    stream = io.StringIO()
    report = json_lines(stream)
    stream.close()

    report("ready", {})


def test_lines_of_several_threads_stay_whole():
    stream = io.StringIO()
    report = json_lines(stream)
    threads = [
        threading.Thread(target=lambda: [report("ready", {"text": "z" * 200}) for _ in range(200)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len([json.loads(line) for line in stream.getvalue().splitlines()]) == 800


def test_the_quiet_one_says_nothing(capsys):
    quiet("ready", {})

    assert capsys.readouterr() == ("", "")
