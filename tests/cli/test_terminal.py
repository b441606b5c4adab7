from __future__ import annotations

import io
import json
import sys

import pytest
from hypothesis import given, strategies as st

from leeward.cli import terminal
from leeward.errors import LeewardError

TEXTS = st.text(st.characters())


class Screen(io.StringIO):
    def __init__(self, *, seen: bool) -> None:
        super().__init__()
        self.seen = seen

    def isatty(self) -> bool:
        return self.seen


@given(TEXTS)
def test_no_text_from_outside_can_steer_a_terminal(text):
    shown = terminal.printable(text)

    assert shown.isprintable()
    assert shown == text or not text.isprintable()


@given(st.recursive(st.none() | st.integers() | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)))
def test_json_keeps_its_value_and_is_printable_ascii(value):
    shown = terminal.json_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))

    assert shown.isascii()
    assert shown.isprintable()
    assert json.loads(shown) == value


@pytest.mark.parametrize(
    ("environ", "no_color", "seen", "expected"),
    [
        ({}, False, True, True),
        ({}, False, False, False),
        ({"TERM": "dumb"}, False, True, False),
        ({"NO_COLOR": "1"}, False, True, False),
        ({"NO_COLOR": ""}, False, True, True),
        ({"FORCE_COLOR": "1"}, False, False, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, True, False),
        ({"FORCE_COLOR": "1"}, True, True, False),
    ],
)
def test_colour_is_for_those_who_see_it_and_want_it(environ, no_color, seen, expected):
    assert terminal.wants_colour(Screen(seen=seen), environ, no_color=no_color) is expected


def test_a_table_lines_up_and_its_last_column_is_not_padded():
    assert terminal.table([("a", 1, "x"), ("bbb", 22, "")], ("n", "m", "o")) == ["n    m   o", "a    1   x", "bbb  22"]


def test_a_table_of_nothing_has_no_lines():
    assert terminal.table([]) == []


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1023, "1,023 bytes"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes_are_for_people(count, text):
    assert terminal.byte_text(count) == text


def test_without_a_terminal_nothing_is_asked_and_the_option_is_named(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Screen(seen=False))

    with pytest.raises(LeewardError) as refused:
        terminal.confirm("removing it", yes=False)

    assert refused.value.fix == "add --yes"


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_no_and_silence_change_nothing(monkeypatch, answer):
    screen = Screen(seen=True)
    screen.write(answer)
    screen.seek(0)
    monkeypatch.setattr(sys, "stdin", screen)

    with pytest.raises(LeewardError, match="nothing was changed"):
        terminal.confirm("removing it", yes=False)


def test_yes_goes_on(monkeypatch):
    screen = Screen(seen=True)
    screen.write("y\n")
    screen.seek(0)
    monkeypatch.setattr(sys, "stdin", screen)

    terminal.confirm("removing it", yes=False)
    terminal.confirm("removing it", yes=True)


def test_a_person_is_told_the_command_as_it_can_be_typed(monkeypatch, tmp_path):
    here = tmp_path / "leeward"
    here.write_text("#!/bin/sh\n")
    here.chmod(0o755)

    monkeypatch.setattr(sys, "argv", [str(here)])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert terminal.program() == "leeward"

    monkeypatch.setenv("PATH", "/nowhere")
    assert terminal.program() == str(here)

    monkeypatch.setattr(sys, "argv", ["/src/leeward/__main__.py"])
    assert terminal.program().endswith(" -m leeward")
