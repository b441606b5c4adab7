from __future__ import annotations

import json
import os
import socket
import time
from email.utils import formatdate
from pathlib import Path

import pytest

import canned
import programs
from leeward.cli import checks
from leeward.cli.api import Answer
from leeward.cli.connection import Target, load_settings
from leeward.errors import LeewardError
from server_process import free_port


def _states(shown) -> dict[str, str]:
    return {check["name"]: check["state"] for check in shown.json()["checks"]}


def test_with_a_healthy_server_everything_is_checked_and_the_event_comes_back(at_server):
    shown = at_server("doctor", "--json")

    assert shown.code == 0
    states = {
        name: state for name, state in _states(shown).items() if not name.startswith("server's")
    }  # it may start yet
    assert states.pop("first keys") == "warn"
    assert set(states) == {
        "configuration",
        "data directory",
        "disk space",
        "disk sync",
        "store",
        "server",
        "clock",
        "opt-out",
        "client",
        "proxy",
        "dns",
        "delivery",
        "spool",
        "round trip",
        "client losses",
        "refused",
        "contacts",
    }
    assert set(states.values()) <= {"ok", "warn"}
    assert {states[name] for name in ("delivery", "round trip", "client losses")} == {"ok"}
    assert shown.json()["state"] == "warn"
    assert at_server("query", "--event-type", "leeward.doctor", "--json").json()["count"] >= 1


def test_for_people_it_is_a_line_each_with_the_cure_below(at_server):
    shown = at_server("doctor")

    assert shown.code == 0
    assert any(line.startswith("ok    round trip") for line in shown.out.splitlines())
    lines = shown.out.splitlines()
    warned = next(n for n, line in enumerate(lines) if line.startswith("warn  first keys"))
    assert lines[warned + 1].strip().startswith("fix: put them where you keep secrets")
    assert f"pid {os.getpid()}" not in shown.out


def test_without_a_server_it_fails_and_makes_nothing(terminal, monkeypatch):
    monkeypatch.setenv("LEEWARD_SERVER__PORT", str(free_port()))

    shown = terminal("doctor", "--json")

    assert shown.code == 1
    states = _states(shown)
    assert (states["server"], states["round trip"], states["data directory"]) == ("fail", "fail", "warn")
    assert list(terminal.home.iterdir()) == []


def test_a_wrong_setting_is_the_one_finding(terminal, monkeypatch):
    monkeypatch.setenv("LEEWARD_SERVER__PRT", "1")

    shown = terminal("doctor")

    assert shown.code == 1
    assert shown.out.splitlines()[0] == "fail  configuration   LEEWARD_SERVER__PRT is not a setting"
    assert "did you mean LEEWARD_SERVER__PORT?" in shown.out


def test_a_key_that_is_not_accepted_fails_the_round_trip(at_server):
    shown = at_server("doctor", "--key", "lw_" + "x" * 32, "--json")

    assert shown.code == 1
    assert _states(shown)["round trip"] == "fail"


def test_a_remote_server_is_not_given_local_checks_or_keys(terminal):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    shown = terminal("doctor", "--host", f"http://127.0.0.1:{port}", "--json")

    assert "data directory" not in _states(shown)


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_a_directory_that_others_may_read_fails(tmp_path):
    tmp_path.chmod(0o750)

    assert checks._data_directory(tmp_path) == (
        "data directory",
        "fail",
        f"others may read {tmp_path} (750)",
        f"chmod 700 {tmp_path}",
    )


def test_a_directory_of_someone_else_fails(tmp_path, monkeypatch):
    owner = os.getuid()
    monkeypatch.setattr(checks.os, "getuid", lambda: owner + 1)

    assert checks._data_directory(tmp_path).state == "fail"
    assert f"belongs to user {owner}" in checks._data_directory(tmp_path).detail


def test_a_directory_that_cannot_be_looked_at_fails(tmp_path):
    (tmp_path / "file").write_text("")

    assert checks._data_directory(tmp_path / "file" / "d").state == "fail"
    assert checks._sync(tmp_path / "file").state == "fail"


@pytest.mark.parametrize(("free", "state"), [(300 << 20, "warn"), (100 << 20, "fail"), (2 << 30, "ok")])
def test_a_disk_that_fills_up_is_said(tmp_path, monkeypatch, free, state):
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))

    assert checks._space(tmp_path / "not" / "there").state == state


def test_a_slow_disk_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(checks.os, "fsync", lambda _: None)
    now = iter(range(1000))
    monkeypatch.setattr(checks.time, "perf_counter", lambda: next(now) * 0.05)

    assert checks._sync(tmp_path).state == "warn"


def test_without_the_engine_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda _: None)
    loaded = load_settings({}, None, {"HOME": str(tmp_path)})

    check = checks._store(loaded)
    assert check.state == "fail"
    assert "glibc" in check.detail


@pytest.mark.parametrize("url", ["clickhouse://me:secret@127.0.0.1:1/x", "nonsense"])
def test_a_cluster_that_does_not_answer_fails_and_its_password_is_not_shown(url, tmp_path):
    loaded = load_settings({"storage.url": url}, None, {"HOME": str(tmp_path)})

    check = checks._store(loaded)
    assert check.state == "fail"
    assert "secret" not in check.detail + check.fix


def test_a_clock_that_is_years_behind_fails(monkeypatch):
    monkeypatch.setattr(checks.time, "time", lambda: 86_400.0)

    assert checks._clock(None).state == "fail"


def test_a_clock_is_compared_with_the_servers():
    def at(seconds: float) -> Answer:
        return Answer(200, {"date": formatdate(time.time() + seconds, usegmt=True)}, b"")

    assert checks._clock(at(0)).state == "ok"
    assert checks._clock(at(600)).state == "warn"
    assert checks._clock(None).state == "ok"


def test_the_troubles_of_a_server_are_told_part_by_part():
    body = b'{"status": "degraded", "parts": {"log": {"status": "healthy"}, "store": {"status": "degraded", "detail": "it starts"}}}'
    target = Target("http://x", None, True, "", "")

    found = list(checks._server(target, Answer(200, {}, body)))

    assert [(check.name, check.state) for check in found] == [("server", "warn"), ("server's store", "warn")]
    assert found[1].detail == "it starts"
    assert [check.state for check in checks._server(target, LeewardError("nobody"))] == ["fail"]


def test_another_program_on_the_port_is_no_server(monkeypatch):
    monkeypatch.setattr(checks.Api, "exchange", lambda *_: Answer(200, {}, b"{}"))

    found = checks._health(Target("http://x", None, True, "", ""))
    assert isinstance(found, LeewardError)
    assert "is not leeward" in found.message


def test_an_event_that_does_not_come_back_fails(monkeypatch):
    monkeypatch.setattr(checks.Api, "exchange", lambda *_: Answer(200, {}, b'{"count": 0}'))

    check = checks._round_trip(Target("http://x", None, True, "k", "--key"))
    assert (check.state, check.detail) == ("fail", "0 events came back for the one that was sent")


def test_every_address_is_listed_without_its_password(tmp_path):
    environ = {"HOME": str(tmp_path)}
    loaded = load_settings({"storage.url": "clickhouse://me:secret@db:8123/x"}, None, environ)

    def lines(**more: str) -> list[str]:
        found = checks._addresses(loaded, Target("http://h", Path(), True, "", ""), {**environ, **more})
        return [check.detail for check in found]

    assert lines(HTTPS_PROXY="http://p") == [
        "clients and commands: http://h (another machine)",
        "server: clickhouse://me:…@db:8123/x",
    ]
    assert lines(HTTP_PROXY="http://me:secret@p:3128") == [
        "clients: http://h (another machine), over p:3128 (HTTP_PROXY)",
        "commands: http://h, without the proxy",
        "server: clickhouse://me:…@db:8123/x",
    ]


def test_what_waits_for_another_host_is_warned_of(at_server, server, tmp_path, monkeypatch):
    body = "leeward.capture('left'); leeward.capture('left'); os.kill(os.getpid(), 9)"
    programs.run(programs.program(body, "http://127.0.0.1:1", tmp_path))
    monkeypatch.setenv("LEEWARD_SPOOL_DIR", str(tmp_path))

    shown = at_server("doctor", "--json")

    found = {check["name"]: check for check in shown.json()["checks"]}
    assert (found["spool"]["state"], found["spools"]["state"]) == ("ok", "warn")
    assert found["spools"]["detail"].startswith("2 events wait (")


def test_a_key_that_only_reads_is_told_to_the_client_though_the_first_key_takes_over_here(
    at_server, server, monkeypatch
):
    keys = json.loads((server.data_dir / "first-keys.json").read_text())
    monkeypatch.setenv("LEEWARD_API_KEY", keys["read"])

    shown = at_server("doctor", "--json")

    found = {check["name"]: check for check in shown.json()["checks"]}
    assert shown.code == 1
    assert (found["delivery"]["state"], found["round trip"]["state"]) == ("fail", "ok")
    assert found["delivery"]["detail"].startswith(
        f"the key may not send events: …{keys['read'][-4:]} (LEEWARD_API_KEY)"
    )


def test_a_posthog_key_for_a_leeward_server_is_said(at_server, monkeypatch):
    monkeypatch.setenv("LEEWARD_API_KEY", "phc_" + "x" * 40)

    assert _states(at_server("doctor", "--json"))["delivery"] == "fail"


def test_with_a_posthog_key_a_posthog_server_is_not_asked_to_be_leeward(terminal, monkeypatch):
    monkeypatch.setenv("LEEWARD_API_KEY", "phc_" + "x" * 40)
    with canned.Canned(canned.polite()) as other:
        monkeypatch.setenv("LEEWARD_HOST", other.host)
        shown = terminal("doctor", "--json")

    states = _states(shown)
    assert (shown.code, states["client"], states["delivery"]) == (0, "ok", "ok")
    assert not {"server", "store", "round trip", "client losses"} & set(states)


def test_what_clients_lost_is_said_and_nothing_where_it_cannot_be_asked(monkeypatch):
    def losses(body: bytes, status: int = 200) -> list[tuple[str, str]]:
        monkeypatch.setattr(checks.Api, "exchange", lambda *_: Answer(status, {}, body))
        return [check[1:3] for check in checks._losses(Target("http://x", None, True, "k", "--key"))]

    assert losses(b'{"lost": 0, "missing": 0, "total": 3}') == [("ok", "0 lost, 0 missing, of 3 clients")]
    assert losses(b'{"lost": 1200, "missing": 1, "total": 3}') == [("warn", "1,200 lost, 1 missing, of 3 clients")]
    assert losses(b'{"lost": 0, "missing": 1, "total": 3}')[0][0] == "warn"
    assert losses(b"{}", 404) == []


def refusal(minutes_ago, **fields):
    return {
        "at_ms": time.time() * 1000 - minutes_ago * 60_000,
        "count": 1,
        "path": "/batch",
        "client": "posthog-python/7.0",
        "key_tail": "",
        "reason": "Invalid JSON",
        "cure": "Send JSON.",
        **fields,
    }


def test_what_was_refused_lately_is_said_with_its_cure_and_nothing_where_it_cannot_be_asked(monkeypatch):
    def refused(listed, status: int = 200) -> list[tuple[str, str, str]]:
        body = json.dumps(listed).encode()
        monkeypatch.setattr(checks.Api, "exchange", lambda *_: Answer(status, {}, body))
        return [check[1:] for check in checks._refused(Target("http://x", None, True, "k", "--key"))]

    assert refused({"refusals": []}) == [("ok", "nothing within the last hour", "")]
    assert refused({"refusals": [refusal(61)]}) == [
        ("ok", "nothing within the last hour; 1 before, see http://x/refused", "")
    ]
    assert refused({"refusals": [refusal(5.5), refusal(2.5, count=1200, client="", key_tail="wxyz"), refusal(90)]}) == [
        ("warn", "5 min ago: /batch from posthog-python/7.0: Invalid JSON", "Send JSON."),
        ("warn", "2 min ago, 1,200 times: /batch from a client, key …wxyz: Invalid JSON", "Send JSON."),
    ]
    many = refused({"refusals": [refusal(1)] * 10})
    assert [state for state, *_ in many] == ["warn", "warn", "warn", "ok"]
    assert many[3][1] == "7 more within the last hour: http://x/refused"
    assert refused({"refusals": [refusal(-5)]})[0][1].startswith("0 min ago")
    assert refused({"error": "not found"}, 404) == refused({}) == []


def test_a_real_refusal_is_found(at_server):
    assert at_server("send", "of.a.stranger", "--key", "lw_" + "x" * 28 + "wxyz").code == 1

    shown = at_server("doctor", "--json").json()["checks"]

    said = [check for check in shown if check["name"] == "refused" and "key …wxyz" in check["detail"]]
    assert said[0]["state"] == "warn"
    assert "/api/telemetry/ingest from leeward-cli/" in said[0]["detail"]
    assert "leeward keys create --scope write" in said[0]["fix"]


def test_a_command_that_goes_where_only_the_proxy_leads_says_so():
    target = Target("http://x", None, True, "", "")

    (found,) = checks._server(target, LeewardError("nobody", fix="look"), ", over p:1 (HTTP_PROXY)")
    assert found.fix == "look; commands go straight there, and clients over p:1 (HTTP_PROXY)"


def test_its_own_event_is_named_in_its_help(terminal):
    assert "leeward.doctor" in terminal("doctor", "--help").out
