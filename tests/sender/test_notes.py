"""Lines for the person who runs the host program: rare, and only where they asked for them."""

import logging
import sys

from leeward.sender import notes
from leeward.sender.notes import Notes
from sender_helpers import HandClock


def test_each_cause_has_one_line_a_minute(caplog):
    clock = HandClock()
    said = Notes(clock, debug=False)

    said.say("refused", "first")
    clock.now_s += notes.INTERVAL_S - 1
    said.say("refused", "too soon")
    said.say("dns", "another cause")
    clock.now_s += 1
    said.say("refused", "second")

    assert [(record.name, record.levelname, record.message) for record in caplog.records] == [
        ("leeward", "WARNING", "first"),
        ("leeward", "WARNING", "another cause"),
        ("leeward", "WARNING", "second"),
    ]


def test_by_itself_nothing_is_printed(capfd, monkeypatch):
    logger = logging.getLogger("leeward")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", False)

    Notes(HandClock(), debug=False).say("refused", "a line")

    assert capfd.readouterr() == ("", "")


def test_a_program_without_logging_gets_no_logging(capfd, monkeypatch):
    monkeypatch.delitem(sys.modules, "logging")

    Notes(HandClock(), debug=False).say("refused", "a line")

    assert "logging" not in sys.modules
    assert capfd.readouterr() == ("", "")


def test_with_debug_it_goes_to_stderr(capsys, monkeypatch):
    said = Notes(HandClock(), debug=True)

    said.say("refused", "a line")
    monkeypatch.setattr(sys, "stderr", None)
    said.say("dns", "nowhere to go")

    assert capsys.readouterr().err == "leeward: a line\n"


class Broken:
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_p1_a_stream_or_a_handler_that_fails_does_not_reach_the_caller(monkeypatch):
    class Handler(logging.Handler):
        def handle(self, record):
            raise ValueError("I/O operation on closed file")

    monkeypatch.setattr(sys, "stderr", Broken())
    monkeypatch.setattr(logging.getLogger("leeward"), "handlers", [Handler()])

    for debug in (True, False):
        Notes(HandClock(), debug=debug).say("refused", "a line")
    Notes(HandClock(), debug=True).ignored("init()", ["flush_at"])


def test_a_keyword_that_is_ignored_is_named_once(capsys):
    said = Notes(HandClock(), debug=True)

    said.ignored("capture()", ["groups"])
    said.ignored("capture()", ["groups", "team"])
    said.ignored("capture()", ["groups", "team"])

    assert capsys.readouterr().err.splitlines() == [
        "leeward: capture() does not know groups: ignored",
        "leeward: capture() does not know team: ignored",
    ]


def test_keywords_without_end_are_not_remembered_without_end(capsys):
    said = Notes(HandClock(), debug=True)

    for number in range(3 * notes.CAUSES_MAX):
        said.ignored("capture()", [f"keyword_{number}"])
    said.ignored("capture()", ["x" * 10_000])

    assert len(said._ignored) == notes.CAUSES_MAX
    assert len(capsys.readouterr().err.splitlines()) == notes.CAUSES_MAX


def test_a_long_keyword_does_not_make_a_long_line(capsys):
    Notes(HandClock(), debug=True).ignored("capture()", ["x" * 10_000])

    assert len(capsys.readouterr().err) < notes.SENTENCE_CHARS_MAX + 100


def test_the_memory_of_causes_is_bounded(caplog):
    said = Notes(HandClock(), debug=False)

    for number in range(3 * notes.CAUSES_MAX):
        said.say(f"http_{number}", "a line")

    assert len(said._said_at_s) <= notes.CAUSES_MAX
