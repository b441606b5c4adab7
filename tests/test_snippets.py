"""What the pages show works: every Python snippet runs, the examples run, and every link leads somewhere.

The snippets of a page are one program, in the order in which they stand, in an interpreter and a home of their own; a
server on loopback notes what they send. The page's first configuration lies beside it as leeward.toml. Two comments before
a fence change that:

    <!-- not run: REASON -->      it is only compiled
    <!-- run with pytest -->      it is a module of tests
"""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

import http_recorder
import otlp_recorder
import posthog_recorder
import recorder
from leeward.journal.spool_home import SPOOL_BYTES_MAX
from leeward.journal.spool_writer import FIRST_BYTES, SEGMENT_BYTES
from leeward.resilience.retry import RETRY_AFTER_MAX_S
from leeward.scrub import values
from leeward.sender import exceptions, limits, pipeline, plan, rhythm, spool
from leeward.sender.quarantine import QUARANTINE_BYTES_MAX
from leeward.sender.spool import MEMORY_BYTES_MAX
from programs import environment

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
LIMIT_S = 60
TYPED = "hello there\nplease fail\nthank you\n"  # for programs that ask a person
NATIVE = "/api/telemetry/batch"
PLACEHOLDERS = {  # what a page writes for the reader's own
    "https://telemetry.example.com": "LEEWARD_HOST",
    "https://posthog.example.com": "LEEWARD_HOST",
    "http://127.0.0.1:4318": "LEEWARD_HOST",
    "lw_your_key": "LEEWARD_API_KEY",
    "my-token": "LEEWARD_API_KEY",
}
RUNNER = """
import json, sys
for name, line, text in json.load(open(sys.argv[1], encoding="utf-8")):
    exec(compile("\\n" * (line - 1) + text, name, "exec"), globals())
"""
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>not run: \S.*|run with pytest) -->\n+)?```python\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
CONFIGURATION = re.compile(r"^```toml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ANY_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")


class Snippet(NamedTuple):
    line: int
    text: str
    mark: str


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def snippets(page: Path) -> list[Snippet]:
    text = page.read_text(encoding="utf-8")
    return [
        Snippet(text.count("\n", 0, found.start("text")) + 1, found["text"], found["mark"] or "")
        for found in FENCE.finditer(text)
    ]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# The reference shows signatures, which `docs/generate.py` takes from the source: there is nothing to run.
WRITTEN = [page for page in pages() if page.parent != DOCS / "reference"]
WITH_CODE = [page for page in WRITTEN if snippets(page)]


class AnyWire(otlp_recorder.Recorder):
    """The strict servers of all three wires, at one address."""

    def read(self, request: http_recorder.Request) -> None:
        self._wire(request).read(self, request)

    def acknowledge(self, request: http_recorder.Request) -> None:
        self._wire(request).acknowledge(self, request)

    def store(self, request: http_recorder.Request, without=()) -> None:
        wire = self._wire(request)
        (wire if wire is otlp_recorder.Recorder else http_recorder.Recorder).store(self, request, without)

    def _wire(self, request: http_recorder.Request) -> type[http_recorder.Recorder]:
        if request.path == NATIVE:
            return recorder.Recorder
        return otlp_recorder.Recorder if request.path in otlp_recorder.REQUESTS else posthog_recorder.Recorder


@pytest.fixture
def server(monkeypatch) -> Iterator[AnyWire]:
    monkeypatch.setattr(posthog_recorder, "KEY", "phc_your_key")
    with AnyWire() as running:
        yield running


def variables(home: Path, host: str) -> dict[str, str]:
    kept = {name: value for name, value in environment().items() if not name.startswith(("XDG_", "OTEL_"))}
    # A reader's pytest need not have our plugins, which take seconds to load.
    own = {"HOME": str(home), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return {**kept, **own, "LEEWARD_API_KEY": recorder.KEY, "LEEWARD_HOST": host}


def run(command: list[str], home: Path, host: str, typed: str = TYPED) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env=variables(home, host),
        cwd=home,
        input=typed,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def settle(home: Path, host: str) -> None:
    """Send what a program left on disk because this machine was too busy to answer it before it ended."""
    assert run(["-c", f"import leeward; leeward.flush({LIMIT_S / 2})"], home, host).returncode == 0


def filled(text: str, host: str) -> str:
    """A snippet with the reader's own address and key."""
    own = {"LEEWARD_HOST": host, "LEEWARD_API_KEY": recorder.KEY}
    for placeholder, name in PLACEHOLDERS.items():
        text = text.replace(placeholder, own[name])
    return text


@pytest.mark.parametrize("page", [page for page in WITH_CODE if any(not s.mark for s in snippets(page))], ids=name_of)
def test_the_snippets_of_a_page_run_in_order_and_say_nothing_on_stderr(page, server, tmp_path):
    program = [
        (name_of(page), snippet.line, filled(snippet.text, server.host))
        for snippet in snippets(page)
        if not snippet.mark
    ]
    (tmp_path / "program.json").write_text(json.dumps(program), encoding="utf-8")
    (tmp_path / "runner.py").write_text(RUNNER, encoding="utf-8")
    configuration = CONFIGURATION.search(page.read_text(encoding="utf-8"))
    if configuration is not None:
        (tmp_path / "leeward.toml").write_text(configuration[1], encoding="utf-8")

    done = run(["runner.py", "program.json"], tmp_path, server.host)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    settle(tmp_path, server.host)
    assert server.broken == []
    assert server.stored, "nothing arrived"


@pytest.mark.parametrize("page", [page for page in WITH_CODE if any(s.mark for s in snippets(page))], ids=name_of)
def test_a_snippet_that_is_not_run_is_python_and_one_for_pytest_passes(page, server, tmp_path):
    for number, snippet in enumerate(snippets(page)):
        ast.parse(snippet.text)
        if snippet.mark == "run with pytest":
            (tmp_path / f"test_{number}.py").write_text(snippet.text, encoding="utf-8")

    if list(tmp_path.glob("test_*.py")):
        done = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "."], tmp_path, server.host)
        assert done.returncode == 0, done.stdout
    assert server.requests == []


def test_every_fence_that_claims_to_be_python_was_found():
    for page in pages():
        text = page.read_text(encoding="utf-8")
        assert text.count("```python") == len(snippets(page)), name_of(page)


# Numbers

NUMBERS = {
    f"{SPOOL_BYTES_MAX >> 20} MiB": ["explanation/what-is-lost-when.md", "explanation/how-sending-works.md"],
    f"{MEMORY_BYTES_MAX >> 20} MiB": ["explanation/what-is-lost-when.md", "explanation/how-sending-works.md"],
    f"{spool.MEMORY_ERROR_BYTES_MAX >> 20} MiB": ["explanation/what-is-lost-when.md"],
    f"{QUARANTINE_BYTES_MAX >> 20} MiB": ["explanation/what-is-lost-when.md", "how-to/privacy.md"],
    f"{FIRST_BYTES >> 10} KiB": ["explanation/what-is-lost-when.md"],
    f"{limits.AGE_MAX_S / 86_400:.0f} days": ["explanation/what-is-lost-when.md", "how-to/privacy.md"],
    f"{pipeline.PLAIN_EVENTS_MAX} events": ["explanation/what-is-lost-when.md", "how-to/drop-in.md"],
    f"{pipeline.EXIT_TIMEOUT_S:.0f} s": ["explanation/what-is-lost-when.md", "how-to/cli-programs.md"],
    f"{pipeline.EXIT_PATIENCE_S} s": ["explanation/what-is-lost-when.md", "how-to/cli-programs.md"],
    f"{pipeline.POLICY.timeout_s:.0f} s": ["how-to/behind-a-proxy.md", "how-to/drop-in.md"],
    f"{pipeline.PLAIN.timeout_s:.0f} s": ["how-to/drop-in.md"],
    f"{pipeline.PLAIN.wait_s} s": ["how-to/drop-in.md"],
    f"{pipeline.POLICY.retry.cap_s:.0f} s": ["explanation/how-sending-works.md"],
    f"{RETRY_AFTER_MAX_S:.0f} s": ["explanation/how-sending-works.md"],
    f"{plan.BATCH_EVENTS_MAX} events": ["explanation/how-sending-works.md"],
    f"{plan.SERVER_ERRORS_MAX} times": ["explanation/how-sending-works.md"],
    f"({plan.OUTAGE_FAILURES} failures or more)": ["explanation/how-sending-works.md"],
    f"{rhythm.AGE_MIN_S} s for company": ["explanation/how-sending-works.md", "how-to/chat-loop.md"],
    f"up to {rhythm.AGE_MAX_S:.0f} s": ["explanation/how-sending-works.md", "how-to/chat-loop.md"],
    f"fewer than {rhythm.FEW}": ["explanation/how-sending-works.md", "how-to/chat-loop.md"],
    f"wait {rhythm.LOGS_AGE_S:.0f} s": ["explanation/how-sending-works.md", "how-to/chat-loop.md"],
    f"{rhythm.BUSY_MAX_S:.0f} s": ["explanation/how-sending-works.md"],
    f"{rhythm.HINT_MAX_S:.0f} s": ["how-to/chat-loop.md"],
    f"{spool.STALL_S} s": ["explanation/how-sending-works.md"],
    f"every {spool.ADOPT_EVERY_S:.0f} s": ["explanation/how-sending-works.md"],
    f"{values.DEPTH_MAX} levels, {values.NODES_MAX:,} nodes, {values.KEYS_MAX:,} keys": [
        "explanation/how-sending-works.md"
    ],
    f"{values.STRING_CHARS_MAX:,} characters a text and {values.TEXT_CHARS_MAX:,} an event": [
        "explanation/how-sending-works.md"
    ],
    f"{exceptions.EXCEPTIONS_MAX} exceptions of a chain and {exceptions.FRAMES_MAX} frames": ["how-to/exceptions.md"],
}


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_on_a_page_is_the_one_in_the_source(number):
    for name in NUMBERS[number]:
        assert number in " ".join((DOCS / name).read_text(encoding="utf-8").split()), name


def test_the_page_of_promises_names_no_other_size():
    text = (DOCS / "explanation" / "what-is-lost-when.md").read_text(encoding="utf-8")
    known = {spool.MEMORY_ERROR_BYTES_MAX, MEMORY_BYTES_MAX, SPOOL_BYTES_MAX, QUARANTINE_BYTES_MAX, FIRST_BYTES}
    steps = {FIRST_BYTES * 4, FIRST_BYTES * 16, SEGMENT_BYTES}  # see `spool_writer`

    named = {int(number) << {"K": 10, "M": 20}[unit] for number, unit in re.findall(r"(\d+) ([KM])iB", text)}

    assert named <= known | steps


# Links


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as the usual viewers of Markdown make them."""
    text = ANY_FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_link_between_pages_leads_somewhere(page):
    text = ANY_FENCE.sub("", page.read_text(encoding="utf-8"))
    for found in LINK.finditer(text):
        target, _, anchor = found["target"].partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{name_of(page)} → {found['target']}"
        assert not anchor or anchor in anchors(there), f"{name_of(page)} → {found['target']}"


def test_the_first_page_leads_to_every_page():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    linked = {(DOCS / found["target"].partition("#")[0]).resolve() for found in LINK.finditer(index)}

    assert {page for page in DOCS.rglob("*.md") if page.name != "index.md"} <= linked


@pytest.mark.parametrize(
    "page", [page for page in DOCS.rglob("*.md") if page.parent.name in {"how-to", "explanation"}], ids=name_of
)
def test_a_page_says_first_which_kind_it_is(page):
    kind = {"how-to": "How-to.", "explanation": "Explanation."}[page.parent.name]

    assert page.read_text(encoding="utf-8").split("\n\n")[1].startswith(f"*{kind}*"), name_of(page)


# Examples


def names(server: AnyWire) -> list[str]:
    return sorted(event["event_type"] for event in server.events.values())


def test_the_tutorial_shows_the_example():
    example = (EXAMPLES / "chat_loop.py").read_text(encoding="utf-8").partition("from __future__")[2]

    assert example
    assert any(snippet.text.partition("from __future__")[2] == example for snippet in snippets(DOCS / "tutorial.md"))


def test_the_chat_loop_reports_its_answers_and_its_failure(server, tmp_path):
    done = run([str(EXAMPLES / "chat_loop.py")], tmp_path, server.host)

    assert (done.returncode, done.stderr) == (0, "")
    assert "You said: hello there" in done.stdout
    assert "Sorry" in done.stdout
    settle(tmp_path, server.host)
    assert names(server) == ["$exception", "chat.answer", "chat.answer", "chat.answer", "chat.ended", "chat.started"]
    assert len({event["session_id"] for event in server.events.values()}) == 1


def test_the_short_program_reports_its_run_and_what_ended_it(server, tmp_path):
    (tmp_path / "words.txt").write_text("one two three")

    done = run([str(EXAMPLES / "count_words.py"), "words.txt"], tmp_path, server.host)
    failed = run([str(EXAMPLES / "count_words.py"), "missing.txt"], tmp_path, server.host)

    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")
    assert failed.returncode == 1
    assert "FileNotFoundError" in failed.stderr
    settle(tmp_path, server.host)
    assert names(server) == ["$exception", "count.finished", "count.started", "count.started"]


@contextmanager
def served(home: Path, host: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The web application as uvicorn runs it: its process and its address."""
    with subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", "0", "web_app:app"],
        env=variables(home, host),
        cwd=home,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            address = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
            yield process, address
        finally:
            if process.poll() is None:
                process.kill()


def test_the_web_application_loses_nothing_to_kill_9(server, tmp_path):
    server.always = http_recorder.hang  # so that what it captures is still waiting when it dies
    with served(tmp_path, server.host) as (process, address):
        with urllib.request.urlopen(f"{address}/chat/s1?text=a+b+c", timeout=LIMIT_S) as answer:
            assert answer.read() == b"a b c "
            request_id = answer.headers["x-request-id"]
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{address}/broken", timeout=LIMIT_S)
        urllib.request.urlopen(f"{address}/docs", timeout=LIMIT_S).close()  # by now the others have ended
        os.kill(process.pid, signal.SIGKILL)
    assert not server.stored

    server.always = http_recorder.ok
    with served(tmp_path, server.host) as (_, address):
        urllib.request.urlopen(f"{address}/docs", timeout=LIMIT_S).close()  # the first event of the next start
        assert server.wait_stored(6), names(server)

    events = {event["event_type"]: event for event in server.events.values()}
    assert {"chat.asked", "chat.usage", "GET /chat/{session_id}", "GET /broken", "$exception"} <= set(events)
    assert events["chat.usage"]["correlation_id"] == events["chat.asked"]["correlation_id"] == request_id
    assert max(server.stored.values()) == 1
