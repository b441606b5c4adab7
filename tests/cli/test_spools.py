from __future__ import annotations

import programs
import recorder
from leeward.cli import spools
from leeward.cli.spools import left_behind
from leeward.journal.spool import SpoolHome

HOST = "http://127.0.0.1:1"


def _leave(spool, count=3, host=HOST):
    """A program captures some events and is killed before it can send them."""
    body = f"""
    for n in range({count}):
        assert leeward.capture("left", {{"n": n}})
    os.kill(os.getpid(), 9)
    """
    assert programs.run(programs.program(body, host, spool)).returncode == -9


def _files(root):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


def test_events_for_another_host_or_key_are_counted_and_nothing_is_touched(tmp_path):
    _leave(tmp_path)
    _leave(tmp_path, 2, "http://127.0.0.1:2")
    before = _files(tmp_path)
    environ = {"LEEWARD_SPOOL_DIR": str(tmp_path)}

    everyone = left_behind(HOST, ["lw_other"], environ)
    assert (everyone.root, everyone.events, everyone.cut) == (tmp_path, 5, False)
    assert everyone.payload_bytes > 100
    assert left_behind(HOST, [recorder.KEY, "lw_other"], environ).events == 2
    assert _files(tmp_path) == before


def test_the_spool_of_a_living_process_is_passed_over(tmp_path):
    home = SpoolHome.create(str(tmp_path / "native-x-0"))
    try:
        assert home.rest.append(b"{}", 1, 1)
        assert left_behind(HOST, [""], {"LEEWARD_SPOOL_DIR": str(tmp_path)}).events == 0
    finally:
        home.close()


def test_a_crowd_of_spools_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(spools, "SPOOLS_READ_MAX", 1)
    _leave(tmp_path, 3, "http://127.0.0.1:2")
    _leave(tmp_path, 3, "http://127.0.0.1:3")

    found = left_behind(HOST, [""], {"LEEWARD_SPOOL_DIR": str(tmp_path)})

    assert (found.events, found.cut) == (3, True)


def test_without_a_spool_there_is_nothing_to_say(tmp_path):
    assert left_behind(HOST, [""], {}) is None
    assert left_behind(HOST, [""], {"HOME": str(tmp_path)}) is None
