from __future__ import annotations

from pathlib import Path

import pytest

import programs
import recorder
from leeward.cli import spool_checks
from leeward.cli.spool_checks import look_spool
from leeward.cli.spools import destinations
from leeward.sender.quarantine import set_aside

HOST = "http://127.0.0.1:1"


def leave(root, count=2, host=HOST):
    body = f"[leeward.capture('left') for _ in range({count})]; os.kill(os.getpid(), 9)"
    programs.run(programs.program(body, host, root))


def look(root, **more):
    found = list(look_spool(HOST, {recorder.KEY, ""}, {"LEEWARD_SPOOL_DIR": str(root), **more}))
    assert all(check.fix for check in found if check.state != "ok")
    return {check.name: check for check in found}


def test_where_nothing_waits_all_is_well(tmp_path):
    found = look(tmp_path / "not" / "there")

    assert list(found) == ["spool"]
    assert found["spool"].state == "ok"
    assert not (tmp_path / "not").exists()


def test_what_ended_programs_left_for_this_host_and_key_is_said_with_how_full_it_is(tmp_path):
    leave(tmp_path)

    found = look(tmp_path)

    assert list(found) == ["spool"]
    assert (found["spool"].state, found["spool"].fix) == ("warn", "leeward spool flush")
    assert found["spool"].detail.startswith(f"2 events wait for this host and key in {tmp_path}, ")
    assert found["spool"].detail.endswith(" of 64.0 MiB, left by programs that ended")


def test_what_waits_for_others_is_said_apart(tmp_path):
    leave(tmp_path, 1, "http://127.0.0.1:2")

    found = look(tmp_path)

    assert found["spool"].state == "ok"
    assert found["spools"].detail.startswith("1 event waits (")
    assert found["spools"].detail.endswith(f") for another host or key in {tmp_path}")
    assert "leeward spool status" in found["spools"].fix


def test_what_a_living_program_is_sending_is_no_trouble(tmp_path):
    program = programs.start(
        programs.program("leeward.capture('x'); print(1, flush=True); sys.stdin.read(); time.sleep(30)", HOST, tmp_path)
    )
    with program:
        program.stdout.readline()
        found = look(tmp_path)
        program.kill()

    assert (found["spool"].state, found["spool"].detail.startswith("1 event waits")) == ("ok", True)


def test_a_spool_that_fills_up_is_warned_of(tmp_path, monkeypatch):
    leave(tmp_path)
    monkeypatch.setattr(spool_checks, "SPOOL_BYTES_MAX", 200)

    assert "soon the oldest are dropped" in look(tmp_path)["spool"].detail


def test_what_the_server_refused_is_said_with_the_cure_of_the_most_frequent_reason(tmp_path):
    leave(tmp_path, 1)
    (destination,) = destinations(tmp_path)
    set_aside(str(destination.folder), [b"{}"], "http_400")
    set_aside(str(destination.folder), [b"{}", b"{}"], "http_413")

    found = look(tmp_path)["set aside"]

    assert found.state == "warn"
    assert found.detail == f"{HOST} refused 3 events (2 http_413, 1 http_400): an event is too large for it"
    assert found.fix.startswith(f"send less with the event; they lie in {destination.folder}")


def test_a_place_that_cannot_be_written_to_fails(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o755)

    found = look(tmp_path / "file" / "spool")["spool"]

    assert (found.state, f"{tmp_path / 'file'} cannot be written to" in found.detail) == ("fail", True)


def test_a_disk_without_room_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_checks.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1 << 20}))

    assert look(tmp_path)["spool"].detail.startswith("1.0 MiB are free in")


def test_without_a_home_events_wait_in_memory():
    (found,) = look_spool(HOST, {""}, {})

    assert (found.name, found.state) == ("spool", "warn")
    assert "LEEWARD_SPOOL_DIR" in found.fix


@pytest.mark.parametrize(
    ("environ", "words"),
    [({"LEEWARD_SPOOL_DIR": "/net"}, "may stall"), ({"HOME": "/net"}, "is not used: events wait in memory only")],
)
def test_a_network_file_system_is_said_and_not_touched(monkeypatch, environ, words):
    monkeypatch.setattr(spool_checks, "is_on_network", lambda path: path.startswith("/net"))
    monkeypatch.setattr(spool_checks, "destinations", lambda root: pytest.fail(f"looked at {root}"))

    (found,) = look_spool(HOST, {""}, environ)

    assert found.state == "warn"
    assert words in found.detail
    assert isinstance(Path(found.detail.split()[0]), Path)
