"""A person who has opted out: watched from outside, by an audit hook, and by what is on the disk and on the wire."""

import pytest

import programs
import recorder

AUDIT = """
import sys, threading
seen = []
def watch(event, arguments):
    if event.startswith("socket.") or event in {"_thread.start_new_thread", "os.mkdir", "mmap.__new__"}:
        seen.append(event)
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & 3:
        seen.append(arguments)
sys.addaudithook(watch)
"""
SWITCHES = ["argument", "send=False", "LEEWARD_DISABLED", "DO_NOT_TRACK", "file", "no key", "wrong host", "attribute"]
PYTHONS = pytest.mark.parametrize("python", programs.interpreters().values(), ids=programs.interpreters())


def settings(tmp_path, switch):
    """The variables that say it."""
    if switch == "file":
        (tmp_path / "leeward.toml").write_text("[client]\ndisabled = true\n")
        return {"LEEWARD_CONFIG": str(tmp_path / "leeward.toml")}
    return {switch: "1"} if switch.isupper() else {}


@pytest.mark.parametrize("switch", SWITCHES)
def test_c25_disabled_means_no_thread_no_file_no_socket_and_nothing_loaded(server, tmp_path, switch):
    key = "" if switch == "no key" else recorder.KEY
    host = "ftp://nowhere" if switch == "wrong host" else server.host
    argument = {"argument": ", disabled=True", "send=False": ", send=False"}.get(switch, "")
    text = f"""
import leeward
leeward.init({key!r}, {host!r}, spool_dir={str(tmp_path / "spool")!r}{argument})
if {switch == "attribute"}: leeward.client.disabled = True
before = set(sys.modules)
assert leeward.capture("tick", {{"a": object()}}) is None
assert leeward.capture_exception(ValueError()) is None and leeward.log("INFO", "x") is None
assert leeward.flush() == leeward.FlushResult(delivered=0, spooled=0, dropped=0)
assert leeward.stats().captured == 0 and leeward.client.disabled
leeward.shutdown()
assert not [name for name in sys.modules if name in ("socket", "http.client", "ssl")]
print(seen, sorted(set(sys.modules) - before))
"""
    result = programs.run(AUDIT + text, **settings(tmp_path, switch))

    assert result.stderr == ""
    assert result.stdout == "[] []\n"
    assert server.connections == 0
    assert not (tmp_path / "spool").exists()


def leave_behind(server, spool):
    """Events of an earlier run that no server took."""
    server.always = recorder.status(503)
    programs.run(programs.program('for _ in range(20): leeward.capture("tick")\nos._exit(0)', server.host, spool))
    assert programs.left_on_disk(spool)
    server.always = recorder.ok
    server.requests.clear()
    return server.connections


@pytest.mark.parametrize("switch", ["LEEWARD_DISABLED", "DO_NOT_TRACK", "file"])
def test_c25_what_an_earlier_run_left_is_deleted_when_the_person_has_opted_out(server, tmp_path, switch):
    spool = tmp_path / "spool"
    connections = leave_behind(server, spool)
    body = 'print(sorted(event for event in seen if "socket" in str(event) or "thread" in str(event)))'

    result = programs.run(AUDIT + programs.program(body, server.host, spool), **settings(tmp_path, switch))

    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n", "")
    assert programs.left_on_disk(spool) == []
    assert (server.connections, server.requests) == (connections, [])


def test_c25_a_program_that_is_disabled_by_its_author_leaves_the_persons_events_alone(server, tmp_path):
    """The author's switch is no wish of the person's: what waits is sent when it is on again."""
    leave_behind(server, tmp_path)
    programs.run(programs.program("", server.host, tmp_path, ", disabled=True"))

    programs.deliver_left(server, tmp_path, 20)

    assert len(server.stored) == 20


@PYTHONS
@pytest.mark.parametrize("way", ["environment", "file"])
def test_c25_opting_out_while_the_program_runs_deletes_what_waits_and_ends_the_sending(server, tmp_path, way, python):
    """Within about a second: from the moment that it is noticed there is no socket, no thread and no event."""
    server.always = recorder.status(503)
    file = tmp_path / "leeward.toml"
    file.touch()
    body = f"""
    if {way == "environment"}: say = lambda: os.environ.__setitem__("DO_NOT_TRACK", "1")
    else: say = lambda: open({str(file)!r}, "w").write("[client]\\ndisabled = true\\n")
    for _ in range(20): leeward.capture("tick")
    leeward.flush(0.3)
    say()
    until = time.monotonic() + 30
    while not leeward.client.disabled and time.monotonic() < until: time.sleep(0.01)
    time.sleep(0.2)
    del seen[:]
    assert leeward.capture("tick") is None
    leeward.flush(0.2); leeward.shutdown()
    print(seen, leeward.stats().spooled, leeward.stats().dropped)
    """
    text = AUDIT + programs.program(body, server.host, tmp_path / "spool")
    result = programs.run(text, python=python, LEEWARD_CONFIG=str(file) if way == "file" else "")

    assert result.stderr == ""
    assert result.stdout == "[] 0 {'deleted': 20}\n"
    assert programs.left_on_disk(tmp_path / "spool") == []
    assert not server.stored


def test_c25_a_child_that_is_forked_after_the_person_opted_out_captures_nothing(server, tmp_path):
    body = """
    leeward.capture("parent"); leeward.flush(20)
    os.environ["LEEWARD_DISABLED"] = "1"
    pid = os.fork()
    if pid == 0:
        del seen[:]
        ok = leeward.capture("child") is None and leeward.client.disabled and not seen
        os._exit(0 if ok else 9)
    assert os.waitpid(pid, 0)[1] == 0
    """
    result = programs.run(AUDIT + programs.program(body, server.host, tmp_path))

    assert (result.returncode, result.stderr) == (0, "")
    assert len(server.stored) == 1
