"""`leeward serve --only gateway`: without store, log and database, and with the `gateway` extra alone."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from commands import LIMIT_S, command, serve, variables

GATEWAY = ("--only", "gateway")
CONFIG = """
[[gateway.providers]]
name = "a"
kind = "simulated"
models = { chat = "a1" }

[[gateway.routes]]
model = "chat"
providers = ["a"]
"""
# All that the `gateway` extra brings, with what these bring themselves; and what only a server with a store has.
OF_THE_EXTRA = {"click", "httptools", "msgspec", "prometheus_client", "uvicorn", "uvloop", "h11", "typing_extensions"}
NOT_OF_IT = (
    *("alembic", "sqlalchemy", "jinja2", "markupsafe", "mako", "structlog", "rich", "brotli", "chdb"),
    *("backports", "zstandard", "opentelemetry", "starlette", "greenlet"),
)


def _key(home: Path, scope: str = "chat", *arguments: str) -> str:
    """Make a key as a person does, and put its lines into the configuration."""
    made = command(home, "keys", "config", "--scope", scope, "--json", *arguments).json()
    with (home / "leeward.toml").open("a") as file:
        file.write("\n" + made["toml"] + "\n")
    return made["key"]


@pytest.fixture
def home(tmp_path):
    (tmp_path / "leeward.toml").write_text(CONFIG)
    return tmp_path


def _chat(url: str, key: str, model: str = "chat") -> tuple[int, dict]:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    request = urllib.request.Request(
        url + "/v1/chat/completions", json.dumps(body).encode(), {"Authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def _lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


class Log:
    """The lines of a running gateway's log, as they come."""

    def __init__(self, started) -> None:
        self.seen: list[dict] = []
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(started.process.stderr,), daemon=True).start()

    def _read(self, stream) -> None:
        for line in stream:
            self._lines.put(line)

    def until(self, event: str) -> dict:
        deadline_s = time.monotonic() + LIMIT_S
        while not self.seen or self.seen[-1]["event"] != event:
            try:
                self.seen += _lines(self._lines.get(timeout=max(0.0, deadline_s - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"{event} did not come: {self.seen}") from None
        return self.seen[-1]


def test_a_key_made_for_it_gets_an_answer_and_it_writes_nothing(home):
    key = _key(home)
    with serve(home, *GATEWAY) as gateway:
        assert gateway.facts["data_dir"] == ""
        assert gateway.facts["pid"] == gateway.process.pid
        status, answer = _chat(gateway.url, key)
        refused, problem = _chat(gateway.url, "lw_" + "x" * 32)
        unknown, closest = _chat(gateway.url, key, "chatt")
        ended = gateway.stop(signal.SIGTERM)

    assert (status, answer["model"]) == (200, "a1")
    assert answer["choices"][0]["message"]["content"]
    assert (refused, problem["error"]["type"]) == (401, "authentication_error")
    assert (unknown, closest["error"]["code"]) == (404, "model_not_found")
    assert "Closest: chat." in closest["error"]["message"]
    assert (ended.code, ended.out) == (0, "")
    assert [line["event"] for line in _lines(ended.err)][:1] == ["ready"]
    assert _lines(ended.err)[-1]["event"] == "stopped"
    assert key not in ended.err
    written = {path.relative_to(home).parts[0] for path in home.rglob("*") if path.is_file()}
    assert written - {".local", ".cache"} == {"leeward.toml"}
    assert not list(home.rglob("*.seg")) + list(home.rglob("control*"))


def test_without_keys_and_providers_it_starts_and_says_what_is_missing_and_how_to_mend_that(tmp_path):
    with serve(tmp_path, *GATEWAY) as gateway:
        status, problem = _chat(gateway.url, "lw_" + "x" * 32)
        ended = gateway.stop()

    assert status == 401
    assert ended.code == 0
    said = [line for line in ended.err.splitlines() if not line.startswith("{")]
    assert said[0] == "warning: no key is configured, so nobody can call this gateway"
    assert " keys config --scope chat makes one" in said[1]
    assert said[2] == "warning: no provider is configured"
    assert "[[gateway.providers]]" in said[3]
    assert problem["error"]["code"] == "unauthorized"


def test_with_a_key_but_without_providers_a_caller_is_told_so(tmp_path):
    key = _key(tmp_path)
    with serve(tmp_path, *GATEWAY) as gateway:
        status, problem = _chat(gateway.url, key)

    assert (status, problem["error"]["code"]) == (404, "model_not_found")
    assert "no providers yet" in problem["error"]["message"]


@pytest.mark.parametrize(
    ("wrong", "error", "where", "fix"),
    [
        (
            "[gateway]\nretry = { max_atempts = 3 }\n",
            "unknown setting gateway.retry.max_atempts",
            "leeward.toml:",
            "did you mean max_attempts?",
        ),
        ('[[gateway.providers]]\nname = "b"\nkind = "opnai"\n', "opnai", "leeward.toml:", "openai"),
        ('[[gateway.routes]]\nmodel = "x"\nproviders = ["aa"]\n', "aa", "leeward.toml:", "a"),
        ('[[server.keys]]\nscope = "chat"\nsha256 = "12"\n', "sha256", "leeward.toml:", ""),
    ],
)
def test_a_configuration_that_is_wrong_is_refused_with_its_place_and_a_cure(home, wrong, error, where, fix):
    (home / "leeward.toml").write_text(wrong if wrong.startswith("[gateway]") else CONFIG + wrong)

    refused = command(home, "serve", "--port", "0", *GATEWAY)

    assert (refused.code, refused.out) == (1, "")
    first, second, third = refused.err.splitlines()
    assert first.startswith("error: ")
    assert error in first
    assert second.startswith(f"where: {where}")
    assert third.startswith("fix: ")
    assert fix in third


def test_sighup_goes_over_to_another_configuration_whole_and_says_what_changed(home):
    key = _key(home)
    with serve(home, *GATEWAY) as gateway:
        log = Log(gateway)
        log.until("ready")
        other = (home / "leeward.toml").read_text().replace('chat = "a1"', 'chat = "a2"')
        (home / "leeward.toml").write_text(
            other.replace("[[gateway.routes]]", "[gateway.retry]\nmax_attempts = 5\n\n[[gateway.routes]]", 1)
        )
        gateway.process.send_signal(signal.SIGHUP)
        told = log.until("reloaded")
        status, answer = _chat(gateway.url, key)

        assert "gateway.retry.max_attempts 3 → 5" in told["changes"]
        assert any("a2" in line for line in told["changes"])
        assert told["need_a_restart"] == []
        assert (status, answer["model"]) == (200, "a2")
        gateway.process.send_signal(signal.SIGINT)
        assert gateway.process.wait(LIMIT_S) == 0


def test_sighup_with_a_configuration_that_is_wrong_keeps_the_old_one_and_says_why(home):
    key = _key(home)
    right = (home / "leeward.toml").read_text()
    with serve(home, *GATEWAY) as gateway:
        log = Log(gateway)
        log.until("ready")
        (home / "leeward.toml").write_text(right.replace('chat = "a1"', 'chat = "a2"') + "\n[gateway.retri]\n")
        gateway.process.send_signal(signal.SIGHUP)
        told = log.until("reload_refused")
        status, answer = _chat(gateway.url, key)

        assert "gateway.retri" in told["reason"]
        assert told["path"].startswith("leeward.toml:")
        assert "did you mean retry?" in told["fix"]
        assert (status, answer["model"]) == (200, "a1")
        gateway.process.send_signal(signal.SIGINT)
        assert gateway.process.wait(LIMIT_S) == 0


def test_sighup_makes_and_takes_keys(home):
    key = _key(home)
    with serve(home, *GATEWAY) as gateway:
        log = Log(gateway)
        log.until("ready")
        (home / "leeward.toml").write_text(CONFIG)
        new = _key(home)
        gateway.process.send_signal(signal.SIGHUP)
        log.until("reloaded")

        assert _chat(gateway.url, key)[0] == 401
        assert _chat(gateway.url, new)[0] == 200


def _with_the_extra_alone(home: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that finds nothing but what the extra brings."""
    blocked = f"import sys\nfor name in {NOT_OF_IT!r}: sys.modules[name] = None\n"
    return subprocess.run(
        [sys.executable, "-c", blocked + program],
        env=variables(home),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


ASK_AND_STOP = """
import importlib, json, os, signal, threading, urllib.request
from leeward.cli.main import run

command = importlib.import_module("leeward.cli.serve")

def ask(url, path, body=None):
    request = urllib.request.Request(url + path, body, {"Authorization": "Bearer " + KEY})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()

def look(url):
    try:
        body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}).encode()
        found = {"answer": json.loads(ask(url, "/v1/chat/completions", body))["model"]}
        found["modules"] = sorted(sys.modules)
        found["files"] = {name: getattr(module, "__file__", "") or "" for name, module in list(sys.modules.items())}
        found["resident"] = [line for line in open("/proc/self/status") if line.startswith("VmRSS")]
        found["metrics"] = b"leeward_gateway_requests" in ask(url, "/metrics")
        found["providers"] = json.loads(ask(url, "/api/providers"))["count"]
        print(json.dumps(found), flush=True)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)

async def ready(settings, url):
    threading.Thread(target=look, args=(url,)).start()

command._say_alone = ready
sys.exit(run(["serve", "--only", "gateway", "--port", "0"]))
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What a gateway alone had imported when it had answered, and that it could do the rest, too."""
    home = tmp_path_factory.mktemp("home")
    (home / "leeward.toml").write_text(CONFIG)
    key = _key(home, "admin")
    done = _with_the_extra_alone(home, f"KEY = {key!r}\n{ASK_AND_STOP}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_needs_nothing_but_what_the_gateway_extra_brings(alone):
    assert alone["answer"] == "a1"
    assert alone["metrics"]
    assert alone["providers"] == 1


def test_what_it_imports_of_others_is_nine_packages_at_most_and_all_of_the_extra(alone):
    packages = {
        name.partition(".")[0]
        for name, file in alone["files"].items()
        if "site-packages" in file and not name.startswith(("leeward", "_distutils_hack", "_virtualenv", "__editable"))
    }

    assert packages <= OF_THE_EXTRA
    assert len(packages) <= 9


def test_the_extra_in_the_packages_metadata_is_what_this_test_takes_it_for():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    named = {
        requirement.partition(";")[0].partition(">")[0].replace("-", "_")
        for extra in ("cli", "gateway")
        for requirement in project["optional-dependencies"][extra]
        if not requirement.startswith("leeward[")
    }

    assert named == OF_THE_EXTRA - {"h11", "typing_extensions"}, "and these two come with uvicorn"


def test_it_keeps_the_libraries_of_a_server_with_a_store_out_of_its_memory(alone):
    unwanted = ("leeward.store.embedded", "leeward.store.child", "leeward.journal.log", "leeward.server.app")

    assert not [name for name in alone["modules"] if name.startswith(unwanted)]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say")
def test_it_is_small(alone):
    (line,) = alone["resident"]

    assert int(line.split()[1]) < 60 * 1024, "KiB; some 37,000 on x86-64 when this was written"


@pytest.mark.skipif(os.environ.get("LEEWARD_TEST_HEAVY") != "1", reason="measures time: not beside other tests")
def test_it_answers_soon_after_its_start(home):
    def once():
        began_s = time.monotonic()
        with serve(home, *GATEWAY) as gateway, urllib.request.urlopen(gateway.url + "/livez", timeout=LIMIT_S):
            return time.monotonic() - began_s

    assert min(once() for _ in range(5)) < 0.4
