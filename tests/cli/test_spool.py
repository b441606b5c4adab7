from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

import programs
import recorder
from leeward.cli import spool_work
from leeward.cli.spools import destinations, look_at
from leeward.journal.spool import SpoolHome
from leeward.sender.config import configure
from leeward.sender.quarantine import QUARANTINE_NAME, set_aside

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def root(terminal, monkeypatch) -> Path:
    """The spool root that the commands find by themselves."""
    folder = terminal.home / "spool"
    monkeypatch.setenv("LEEWARD_SPOOL_DIR", str(folder))
    return folder


def leave(root, host=NOBODY, count=3):
    """A program captures some events and an exception, and is killed before it can send them."""
    body = f"""
    for n in range({count}):
        assert leeward.capture("left", {{"n": n}})
    leeward.capture_exception(ValueError("left"))
    os.kill(os.getpid(), 9)
    """
    arguments = ", app='chat/1.2'"
    assert programs.run(programs.program(body, host, root, arguments)).returncode == -9


def waiting(root):
    return sum(destination.all.events for destination in destinations(root))


def living(root, host=NOBODY, count=1):
    """A spool of this process, which holds some events."""
    home = SpoolHome.create(configure({}, api_key=recorder.KEY, host=host, spool_dir=str(root)).folder)
    for number in range(count):
        assert home.rest.append(b"{}", 1, number + 1)
    return home


# Look


def test_status_shows_host_application_counts_and_whose_they_are(terminal, root):
    leave(root)

    shown = terminal("spool", "status")

    assert shown.code == 0
    head, columns, row = shown.out.splitlines()
    assert head == f"native {NOBODY} (chat/1.2)"
    assert columns.split() == ["errors", "rest", "size", "oldest", "process"]
    assert row.split()[:2] == ["1", "3"]
    assert row.endswith(", has ended")
    assert "leeward spool flush sends" in shown.err
    assert "64.0 MiB and 7 days" in shown.err


def test_status_as_json_has_every_spool_and_the_limits(terminal, root):
    leave(root)
    home = living(root, "http://127.0.0.1:2")
    try:
        told = terminal("spool", "status", "--json").json()
    finally:
        home.close()

    assert (told["root"], told["waiting"], told["set_aside"]) == (str(root), 5, 0)
    assert told["limits"] == {"bytes": 64 << 20, "age_s": 7 * 86_400}
    own, left = told["destinations"]  # of the one nothing says the host
    assert (left["wire"], left["host"], left["app"], left["errors"], left["rest"]) == (
        "native",
        NOBODY,
        "chat/1.2",
        1,
        3,
    )
    assert left["bytes"] > 100
    assert left["oldest_at"] > 1_600_000_000_000
    assert [(one["alive"], one["errors"], one["rest"], one["unread"]) for one in left["spools"]] == [
        (False, 1, 3, False)
    ]
    assert [(one["pid"], one["alive"], one["rest"]) for one in own["spools"]] == [(os.getpid(), True, 1)]


def test_status_names_living_processes_and_sums_those_that_ended(terminal, root):
    leave(root)
    leave(root, count=1)
    home = living(root)
    try:
        shown = terminal("spool", "status")
    finally:
        home.close()

    assert shown.out.splitlines()[2].endswith(f"{os.getpid()}, runs")
    assert shown.out.splitlines()[3].split()[:2] == ["2", "4"]
    assert shown.out.splitlines()[3].endswith("2 processes that ended")


def test_status_shows_what_was_set_aside_and_why(terminal, root):
    folder = root / "native-x-0"
    folder.mkdir(parents=True)
    set_aside(str(folder), [b"{}", b"{}"], "http_400")
    set_aside(str(folder), [b"{}"], "http_413")

    shown = terminal("spool", "status")

    assert shown.out.splitlines() == [
        "native an unknown host (native-x-0)",
        f"  set aside: 2 http_400, 1 http_413  {folder / QUARANTINE_NAME}",
    ]
    assert terminal("spool", "status", "--json").json()["set_aside"] == 3


def test_status_says_what_the_disk_does_not_give(terminal, root):
    home = living(root)
    home.close()
    (Path(home.rest.directory) / "00000001.seg").unlink()
    (Path(home.rest.directory) / "00000001.seg").mkdir()

    shown = terminal("spool", "status")

    assert "there is more, which the disk does not give" in shown.err
    assert terminal("spool", "status", "--json").json()["destinations"][0]["spools"][0]["unread"] is True


def test_texts_that_others_wrote_move_no_cursor(terminal, root):
    folder = root / "native-x-0"
    folder.mkdir(parents=True)
    (folder / "about.json").write_text(json.dumps({"host": "http://\x1b[2Jh", "app": "a\u202eb"}))
    set_aside(str(folder), [b"{}"], "\x1b[2J")

    shown = terminal("spool", "status")

    assert shown.out.isascii()
    assert "\x1b" not in shown.out + terminal("spool", "status", "--json").out + terminal("spool", "clear").err


def test_where_nothing_waits_it_says_so_and_makes_nothing(terminal, root):
    assert terminal("spool", "status") == (0, f"nothing waits in {root}\n", "")
    assert terminal("spool", "flush", "--host", NOBODY, "--key", "k").out.startswith("nothing of ended processes waits")
    assert terminal("spool", "clear").out == "0 events deleted\n"
    assert not root.exists()


def test_the_folder_may_be_given(terminal, root):
    leave(terminal.home / "other")

    assert terminal("spool", "status", "--spool-dir", str(terminal.home / "other"), "--json").json()["waiting"] == 4


# Send


def test_flush_delivers_what_a_killed_program_left_each_event_once(terminal, root):
    with recorder.Recorder() as server:
        port, host = server.port, server.host
    leave(root, host, 20)

    with recorder.Recorder(port) as server:
        shown = terminal("spool", "flush", "--host", host, "--key", recorder.KEY)

        assert shown.code == 0
        assert shown.out == f"21 sent  native {host} (chat/1.2)\n"
        assert sorted(server.stored.values()) == [1] * 21
        assert server.broken == []
        assert server.requests[0].headers["user-agent"].startswith("chat/1.2 leeward/")
    assert waiting(root) == 0


def test_flush_finds_host_and_key_in_the_environment_and_tells_it_as_json(terminal, root, monkeypatch):
    with recorder.Recorder() as server:
        port, host = server.port, server.host
    leave(root, host, 2)
    monkeypatch.setenv("LEEWARD_HOST", host)
    monkeypatch.setenv("LEEWARD_API_KEY", recorder.KEY)

    with recorder.Recorder(port) as server:
        server.script.append(recorder.refuse({0: "invalid_event"}))
        told = terminal("spool", "flush", "--json").json()

    assert {name: told[name] for name in ("sent", "dropped", "set_aside", "left")} == {
        "sent": 2,
        "dropped": 1,
        "set_aside": 0,
        "left": 0,
    }
    assert [(one["wire"], one["host"], one["app"]) for one in told["destinations"]] == [("native", host, "chat/1.2")]


def test_flush_uses_the_first_keys_of_a_server_on_this_machine(at_server, server, tmp_path, monkeypatch):
    key = json.loads((server.data_dir / "first-keys.json").read_text())["write"]
    monkeypatch.setattr(recorder, "KEY", key)
    body = "leeward.capture('flushed.by.hand'); os.kill(os.getpid(), 9)"
    programs.run(programs.program(body, server.url, tmp_path, ", wire='native'").replace("import leeward\n", HELD))
    monkeypatch.setenv("LEEWARD_SPOOL_DIR", str(tmp_path))

    shown = at_server("spool", "flush")

    assert (shown.code, shown.out) == (0, f"1 sent  native {server.url}\n")
    assert at_server("query", "--event-type", "flushed.by.hand", "--json").json()["count"] == 1


HELD = """
import leeward, _thread
_thread.start_new_thread = lambda *_: None  # it never gets to send
"""


def test_without_its_key_nothing_is_sent_and_the_host_is_named(terminal, root):
    leave(root)

    shown = terminal("spool", "flush")

    assert shown.code == 1
    assert shown.out == f"0 sent, 4 left  native {NOBODY} (chat/1.2)\n"
    assert shown.err.splitlines() == [
        "error: 4 events are left: their key is not known here",
        f"where: {NOBODY}",
        f"fix: leeward spool flush --host {NOBODY} --key KEY, with the key that the program used",
    ]


def test_another_key_sends_nothing(terminal, root):
    with recorder.Recorder() as server:
        leave(root, NOBODY)

        shown = terminal("spool", "flush", "--host", NOBODY, "--key", "lw_other")

        assert "error: 4 events are left: they were captured with another key" in shown.err
        assert server.requests == []
    assert waiting(root) == 4


def test_a_server_that_is_down_is_said_after_some_seconds_and_nothing_is_lost(terminal, root, monkeypatch):
    monkeypatch.setattr(spool_work, "SLICE_S", 0.2)
    leave(root)

    shown = terminal("spool", "flush", "--host", NOBODY, "--key", recorder.KEY)

    assert shown.code == 1
    assert "sending 4 events" in shown.err
    assert "error: 4 events are left: nobody listens there" in shown.err
    assert "fix: start the server" in shown.err
    assert waiting(root) == 4


def test_a_key_that_the_server_refuses_is_said(terminal, root):
    with recorder.Recorder() as server:
        port, host = server.port, server.host
    leave(root, host)
    with recorder.Recorder(port) as server:
        server.always = recorder.status(401)
        told = terminal("spool", "flush", "--host", host, "--key", recorder.KEY, "--json")

    assert told.code == 1
    one = told.json()["destinations"][0]
    assert (one["cause"], one["problem"], one["left"]) == ("http_401", "the key is not accepted", 4)
    assert "leeward keys create" in one["fix"]


def test_what_the_server_refuses_as_a_whole_is_set_aside_and_said(terminal, root):
    with recorder.Recorder() as server:
        port, host = server.port, server.host
    leave(root, host)
    with recorder.Recorder(port) as server:
        server.always = recorder.status(400)
        shown = terminal("spool", "flush", "--host", host, "--key", recorder.KEY)

    assert shown.code == 0
    assert shown.out == f"0 sent, 4 refused and set aside  native {host} (chat/1.2)\n"


def test_the_time_that_was_given_is_kept(terminal, root):
    with recorder.Recorder() as server:
        port, host = server.port, server.host
    leave(root, host)
    with recorder.Recorder(port) as server:
        server.always = recorder.hang
        shown = terminal("spool", "flush", "--host", host, "--key", recorder.KEY, "--timeout", "1")

    assert shown.code == 1
    assert "it was not sent in the time that was given" in shown.err
    assert "0 sent, 4 left" in shown.out


def test_several_reasons_get_a_line_each(terminal, root):
    leave(root, NOBODY)
    leave(root, "http://127.0.0.1:2", 1)

    shown = terminal("spool", "flush")

    assert shown.code == 1
    assert f"native {NOBODY} (chat/1.2): their key is not known here" in shown.err
    assert "native http://127.0.0.1:2 (chat/1.2): their key is not known here" in shown.err
    assert shown.err.splitlines()[-2:] == ["error: 6 events are left", "fix: see the lines above"]


def test_flush_of_one_host_leaves_the_others_alone(terminal, root):
    leave(root, NOBODY)
    leave(root, "http://127.0.0.1:2", 1)

    shown = terminal("spool", "flush", "--host", "http://127.0.0.1:2/")

    assert shown.out.splitlines() == ["0 sent, 2 left  native http://127.0.0.1:2 (chat/1.2)"]


def test_a_folder_that_does_not_say_its_host_is_known_by_its_digest(terminal, root):
    with recorder.Recorder() as server:
        port, host = server.port, server.host
    leave(root, host)
    for about in root.glob("*/about.json"):
        about.unlink()

    assert "URL --key KEY" in terminal("spool", "flush").err
    with recorder.Recorder(port):
        assert terminal("spool", "flush", "--host", host, "--key", recorder.KEY).out.startswith("4 sent")


def test_a_living_process_is_left_alone(terminal, root):
    home = living(root, count=2)
    try:
        shown = terminal("spool", "flush", "--host", NOBODY, "--key", recorder.KEY)
        cleared = terminal("spool", "clear", "--yes")
        assert waiting(root) == 2
    finally:
        home.close()

    assert (shown.code, cleared.code, cleared.out) == (0, 0, "0 events deleted\n")
    assert f"pid {os.getpid()} runs, has 2 events and sends them itself: native" in shown.err
    assert f"pid {os.getpid()} runs, has 2 events and keeps them: native" in cleared.err


@pytest.mark.parametrize("name", ["LEEWARD_DISABLED", "DO_NOT_TRACK", "LEEWARD_CLIENT__DISABLED"])
def test_who_opted_out_sends_nothing_and_nothing_is_deleted_either(terminal, root, monkeypatch, name):
    leave(root)
    monkeypatch.setenv(name, "true")

    shown = terminal("spool", "flush", "--host", NOBODY, "--key", recorder.KEY)

    assert (shown.code, shown.out) == (1, "")
    assert shown.err.splitlines() == [
        "error: telemetry is switched off on this machine, and nothing is sent",
        f"where: {name}",
        f"fix: unset {name}, and run this again; or delete what waits: leeward spool clear",
    ]
    assert waiting(root) == 4


# Delete


def test_clear_says_what_and_how_much_and_needs_a_yes_where_there_is_no_terminal(terminal, root):
    leave(root)

    shown = terminal("spool", "clear")

    assert (shown.code, shown.out) == (1, "")
    assert shown.err.splitlines()[0].startswith("This deletes 4 events that wait (")
    assert shown.err.splitlines()[0].endswith(f"): native {NOBODY} (chat/1.2)")
    assert "fix: add --yes" in shown.err
    assert waiting(root) == 4


def test_clear_deletes_what_ended_processes_left_and_what_was_set_aside(terminal, root):
    leave(root)
    (found,) = destinations(root)
    set_aside(str(found.folder), [b"{}", b"{}"], "http_400")

    rehearsed = terminal("spool", "clear", "--dry-run")
    shown = terminal("spool", "clear", "--yes")

    assert (rehearsed.code, rehearsed.out) == (0, "6 events would be deleted\n")
    assert "and 2 events that the server refused" in rehearsed.err
    assert (shown.code, shown.out) == (0, "6 events deleted\n")
    assert look_at(found.folder).is_empty
    assert [path.name for path in found.folder.iterdir()] == ["about.json"]


def test_clear_of_one_host_leaves_the_others_alone(terminal, root):
    leave(root, NOBODY)
    leave(root, "http://127.0.0.1:2", 1)

    told = terminal("spool", "clear", "--host", "http://127.0.0.1:2/", "--yes", "--json").json()

    assert (told["deleted"], told["left"], told["dry_run"]) == (2, 0, False)
    assert [one["host"] for one in told["destinations"]] == ["http://127.0.0.1:2"]
    assert waiting(root) == 4


@pytest.fixture
def held(root):
    """A spool that nobody alive is named for, and that somebody holds all the same, as another container may."""
    leave(root)
    (lock,) = root.glob("*/*/lock")
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_what_another_holds_is_neither_deleted_nor_sent_and_that_is_an_error(terminal, root, held):
    cleared = terminal("spool", "clear", "--yes")
    flushed = terminal("spool", "flush", "--host", NOBODY, "--key", recorder.KEY)

    assert (cleared.code, cleared.out) == (1, "0 events deleted\n")
    assert "error: 4 events could not be deleted" in cleared.err
    assert flushed.code == 1
    assert "error: 4 events are left: another process has them in its hands" in flushed.err
    assert waiting(root) == 4


def test_without_a_home_that_is_said(terminal, root, monkeypatch):
    monkeypatch.delenv("LEEWARD_SPOOL_DIR")
    monkeypatch.delenv("HOME")

    shown = terminal("spool", "clear")

    assert (shown.code, shown.out) == (1, "")
    assert "fix: name the folder with --spool-dir FOLDER" in shown.err
