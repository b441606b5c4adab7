from __future__ import annotations

import os
from pathlib import Path

import programs
import recorder
from leeward.cli import spools
from leeward.cli.spools import destinations, look_at
from leeward.journal.spool import SpoolHome, adopt
from leeward.sender.quarantine import QUARANTINE_NAME, set_aside

HOST = "http://127.0.0.1:1"


def _leave(spool, count=3, host=HOST):
    """A program captures some events and is killed before it can send them."""
    body = f"""
    for n in range({count}):
        assert leeward.capture("left", {{"n": n}})
    os.kill(os.getpid(), 9)
    """
    assert programs.run(programs.program(body, host, spool, ", app='chat/1.2'")).returncode == -9


def _files(root):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


def test_what_waits_is_counted_by_destination_and_nothing_is_touched(tmp_path):
    _leave(tmp_path)
    _leave(tmp_path, 2)
    _leave(tmp_path, 1, "http://127.0.0.1:2")
    before = _files(tmp_path)

    found = {destination.host: destination for destination in destinations(tmp_path)}

    assert set(found) == {HOST, "http://127.0.0.1:2"}
    mine = found[HOST]
    assert (mine.wire, mine.app, mine.is_empty, mine.living) == ("native", "chat/1.2", False, ())
    assert sorted(spool.events for spool in mine.spools) == [2, 3]
    assert (mine.left.errors, mine.left.rest, mine.all.events) == (0, 5, 5)
    assert mine.left.oldest_at == min(spool.oldest_at for spool in mine.spools)
    assert mine.left.payload_bytes == sum(spool.payload_bytes for spool in mine.spools) > 100
    assert _files(tmp_path) == before


def test_whoever_has_the_key_can_tell_whose_it_is(tmp_path):
    _leave(tmp_path, 1)
    (found,) = destinations(tmp_path)

    assert found.is_for(HOST, recorder.KEY)
    assert found.is_for(HOST + "/", recorder.KEY)
    assert not found.is_for(HOST, "lw_other")
    assert not found.is_for(HOST, "")
    assert not found.is_for("http://127.0.0.1:2", recorder.KEY)


def test_a_living_process_is_told_from_those_that_ended_and_who_adopts_is_living(tmp_path):
    folder = tmp_path / "native-x-0"
    folder.mkdir()
    home = SpoolHome.create(str(folder))
    assert home.rest.append(b"{}", 1, 1)
    assert [(spool.pid, spool.events) for spool in look_at(folder).living] == [(os.getpid(), 1)]
    home.close()
    assert look_at(folder).living == ()
    assert look_at(folder).left.events == 1

    adopted = adopt(home.directory)
    assert [(spool.pid, spool.events) for spool in look_at(folder).living] == [(os.getpid(), 1)]
    adopted.close()


def test_other_folders_files_and_links_are_passed_over(tmp_path):
    (tmp_path / "native-x-0" / "no-spool").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "device-id").write_text("x")
    (tmp_path / "native-y-0").symlink_to(tmp_path / "native-x-0")

    (found,) = destinations(tmp_path)

    assert (found.folder.name, found.spools, found.is_empty) == ("native-x-0", (), True)
    assert list(destinations(tmp_path / "nowhere")) == []


def test_an_about_that_is_not_what_a_client_wrote_says_nothing(tmp_path):
    folder = tmp_path / "native-x-0"
    folder.mkdir()
    for text in ("", "[1]", '{"host": 1}', '{"host"', "\udce9".encode("utf-8", "surrogateescape").decode("latin-1")):
        (folder / "about.json").write_text(text)
        assert (look_at(folder).host, look_at(folder).app) == ("", "")
    (folder / "about.json").unlink()
    (tmp_path / "elsewhere").write_text('{"host": "http://elsewhere"}')
    (folder / "about.json").symlink_to(tmp_path / "elsewhere")
    assert look_at(folder).host == ""


def test_what_was_set_aside_is_counted_by_cause(tmp_path):
    folder = tmp_path / "native-x-0"
    folder.mkdir()
    assert look_at(folder).set_aside.events == 0
    set_aside(str(folder), ['{"a": "x\u2028y"}'.encode(), b"{}"], "http_400")
    with (folder / QUARANTINE_NAME).open("a") as file:
        file.write('something else\n{"cause":""}\n')

    found = look_at(folder).set_aside

    assert (found.file, found.causes, found.events) == (folder / QUARANTINE_NAME, {"http_400": 2, "unknown": 2}, 4)


def test_a_file_that_is_delivered_while_one_looks_has_no_age(tmp_path, monkeypatch):
    _leave(tmp_path, 1)

    def gone(_):
        raise FileNotFoundError

    monkeypatch.setattr(spools, "_lstat", gone)

    (found,) = destinations(tmp_path)
    assert (found.all.events, found.all.oldest_at) == (1, None)
    assert isinstance(found.folder, Path)
