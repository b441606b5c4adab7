"""Runs the programs of tests/clients: real SDKs, unmodified, each in a process or a page of its own.

`make clients` installs them; without Node or Chromium the tests that need it say that they are skipped.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from page_server import chromium
from programs import SRC

HERE = Path(__file__).parent / "clients"
PYTHON = Path(__file__).parent.parent / ".venv-clients" / "bin" / "python"
MODULES = HERE / "node_modules"
COUNT = 4  # how many of each thing a journey sends
WATCHDOG_S = 90  # an alarm for what hangs, no measure: the machines are shared
ANOTHER_SDK = ("LEEWARD_", "POSTHOG_", "SENTRY_", "OTEL_", "LANGFUSE_", "OPENAI_", "FASTAPI_", "DO_NOT_TRACK")
EMPTY_PAGE = b'<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>page</title>'


class Sdk(NamedTuple):
    """A program and the settings that it is run with."""

    program: str
    variant: Mapping[str, Any] = {}
    variables: Mapping[str, str] = {}

    @property
    def of_node(self) -> bool:
        return self.program.endswith(".mjs")


class Ended(NamedTuple):
    """How a program ended, and what it said."""

    code: int
    out: str
    err: str


def missing(sdk: Sdk | None = None) -> str:
    """Why this SDK, or a page, cannot be run here; empty if it can."""
    if sdk is not None and not sdk.of_node:
        return ""  # Python is there: what is not installed fails
    if shutil.which("node") is None or not (MODULES / ".bin").is_dir():
        return "the SDKs of Node are not installed: make clients brings them, where nodejs and npm can be had"
    if sdk is None and chromium() is None:
        return "no Chromium on the PATH; apt-get install chromium brings one"
    return ""


def environment(**variables: str) -> dict[str, str]:
    """This environment without the settings of any SDK; the source and what tests share are on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ANOTHER_SDK)}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join((str(SRC), str(HERE.parent))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NODE_ENV": "production",
        **variables,
    }


def start(
    sdk: Sdk,
    host: str,
    key: str,
    *,
    run: str,
    count: int = COUNT,
    pause_s: float = 0.0,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[str]:
    """Start a program of an SDK."""
    assert PYTHON.exists(), "the SDKs are not installed: make clients"
    folder = HERE / ("node" if sdk.of_node else "python")
    return subprocess.Popen(
        ["node" if sdk.of_node else str(PYTHON), str(folder / sdk.program)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(
            HOST=host,
            KEY=key,
            RUN=run,
            COUNT=str(count),
            PAUSE_S=str(pause_s),
            VARIANT=json.dumps(dict(sdk.variant)),
            **sdk.variables,
        ),
    )


def finish(process: subprocess.Popen[str]) -> Ended:
    """Wait for its end; one that hangs fails the test."""
    with process:
        try:
            out, err = process.communicate(timeout=WATCHDOG_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Ended(process.returncode, out, err)


# Pages


@functools.cache
def _bundle(source: Path) -> bytes:
    """A module with all that it imports, as the tools of a web application make it."""
    made = subprocess.run(
        [str(MODULES / ".bin" / "esbuild"), str(source), "--bundle", "--format=esm", "--log-level=warning"],
        capture_output=True,
        check=False,
        timeout=WATCHDOG_S,
        cwd=HERE,
        env={**os.environ, "NODE_PATH": str(MODULES)},
    )
    assert made.returncode == 0, made.stderr.decode()
    return made.stdout


class _Pages(http.server.BaseHTTPRequestHandler):
    """`/NAME.html` loads `/NAME.js`, which is the bundle of that source; `/empty.html` has nothing in it."""

    sources: Mapping[str, Path]

    def do_GET(self) -> None:
        name = urllib.parse.urlsplit(self.path).path.strip("/")
        if name == "empty.html":
            self._answer("text/html", EMPTY_PAGE)
        elif name.endswith(".html"):
            script = f'<script type="module" src="/{name.removesuffix(".html")}.js"></script>'
            self._answer("text/html", EMPTY_PAGE + script.encode())
        else:
            self._answer("text/javascript", _bundle(self.sources[name.removesuffix(".js")]))

    def _answer(self, content_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"{content_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def pages(sources: Mapping[str, Path]) -> Iterator[str]:
    """Serve pages that run these modules, from an origin of their own; its address."""
    handler = type("Handler", (_Pages,), {"sources": sources})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def page_address(site: str, sdk: Sdk, host: str, key: str, *, run: str, count: int, pause_s: float = 0.0) -> str:
    """Where a page of tests/clients/browser is, with all that it is given."""
    given = {"host": host, "key": key, "run": run, "count": count, "pause_s": pause_s}
    query = urllib.parse.urlencode({**given, "variant": json.dumps(dict(sdk.variant))})
    return f"{site}/{sdk.program.removesuffix('.mjs')}.html?{query}"
