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


def test_the_memory_of_causes_is_bounded(caplog):
    said = Notes(HandClock(), debug=False)

    for number in range(3 * notes.CAUSES_MAX):
        said.say(f"http_{number}", "a line")

    assert len(said._said_at_s) <= notes.CAUSES_MAX
