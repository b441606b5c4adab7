from __future__ import annotations

import json
from pathlib import Path

import pytest

from leeward.cli import running
from leeward.cli.running import Running


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}


def _folder(environ: dict[str, str]) -> Path:
    return Path(environ["XDG_DATA_HOME"]) / "leeward" / "running"


def test_a_server_that_noted_itself_is_found_by_port_and_by_data_directory(environ, tmp_path):
    here = Running.this_process(5330, "http://127.0.0.1:5330", tmp_path / "d")

    running.note(here, environ)

    assert running.on_port(5330, environ) == here
    assert running.of_data_dir(tmp_path / "d", environ) == here
    assert running.on_port(5331, environ) is None
    assert running.of_data_dir(tmp_path / "e", environ) is None


def test_a_note_is_readable_by_its_owner_only_and_nothing_is_left_beside_it(environ, tmp_path):
    running.note(Running.this_process(5330, "http://127.0.0.1:5330", tmp_path), environ)

    assert [path.name for path in _folder(environ).iterdir()] == ["5330.json"]
    assert (_folder(environ) / "5330.json").stat().st_mode & 0o777 == 0o600
    assert _folder(environ).stat().st_mode & 0o777 == 0o700
    assert _folder(environ).parent.stat().st_mode & 0o777 == 0o700


def test_w15_a_note_whose_process_is_gone_is_passed_over(environ, tmp_path):
    mine = Running.this_process(5330, "http://127.0.0.1:5330", tmp_path)
    running.note(mine._replace(start=mine.start + 1), environ)  # the number lives, but it is another process

    assert running.on_port(5330, environ) is None
    assert running.of_data_dir(tmp_path, environ) is None


def test_a_note_is_forgotten_by_its_own_server_only(environ, tmp_path):
    mine = Running.this_process(5330, "http://127.0.0.1:5330", tmp_path)
    running.note(mine, environ)

    running.forget(mine._replace(pid=mine.pid + 1), environ)
    assert running.on_port(5330, environ) == mine

    running.forget(mine, environ)
    assert running.on_port(5330, environ) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}', json.dumps({"pid": 1, "start": None})])
def test_a_damaged_note_is_no_note(environ, tmp_path, text):
    running.note(Running.this_process(5330, "u", tmp_path), environ)
    (_folder(environ) / "5330.json").write_text(text)

    assert running.on_port(5330, environ) is None
    assert running.of_data_dir(tmp_path, environ) is None


def test_without_a_home_there_are_no_notes_and_nothing_fails(tmp_path):
    mine = Running.this_process(5330, "u", tmp_path)

    running.note(mine, {})
    running.forget(mine, {})

    assert running.on_port(5330, {}) is None
    assert running.of_data_dir(tmp_path, {}) is None
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_written_to_hinders_nothing(tmp_path):
    (tmp_path / "data").write_text("")
    environ = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    mine = Running.this_process(5330, "u", tmp_path)

    running.note(mine, environ)
    running.forget(mine, environ)

    assert running.on_port(5330, environ) is None
