"""Runs commands: in this process for what they print, or as processes of their own with a home of their own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from leeward.cli.main import run
from programs import environment

LIMIT_S = 60
ESCAPE = "\x1b"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Terminal:
    """Runs commands in this process; their home is a folder of the test's."""

    def __init__(self, home: Path, monkeypatch: Any, capsys: Any) -> None:
        for name in list(os.environ):
            if name.startswith(("LEEWARD_", "XDG_")) or name in {"NO_COLOR", "FORCE_COLOR", "DO_NOT_TRACK"}:
                monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.chdir(home)
        self.home = home
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Outcome:
        self._capsys.readouterr()
        code = run(arguments)
        out, err = self._capsys.readouterr()
        return Outcome(code, out, err)


def variables(home: Path, **more: str) -> dict[str, str]:
    """An environment whose home is the test's."""
    found = {name: value for name, value in environment(**more).items() if not name.startswith("XDG_")}
    return {**found, "HOME": str(home)}


def command(home: Path, *arguments: str, input: str | None = None, **more: str) -> Outcome:
    """Run a command as a process, piped."""
    done = subprocess.run(
        [sys.executable, "-m", "leeward", *arguments],
        env=variables(home, **more),
        cwd=home,
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


class Started(NamedTuple):
    """A server or demo that runs: its process and the line that it printed when it was ready."""

    process: subprocess.Popen[str]
    ready: str

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads(self.ready)

    @property
    def url(self) -> str:
        return str(self.facts["url"])

    @property
    def data_dir(self) -> Path:
        return Path(self.facts["data_dir"])

    def stop(self, number: int = signal.SIGINT) -> Outcome:
        """Send a signal and read what is left."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=LIMIT_S)
        return Outcome(self.process.returncode, out, err)


@contextlib.contextmanager
def started(home: Path, *arguments: str, stderr: bool = False, **more: str) -> Iterator[Started]:
    """A long-running command; `ready` is its first line on stdout, or of stderr for one that says it there."""
    with subprocess.Popen(
        [sys.executable, "-m", "leeward", *arguments],
        env=variables(home, **more),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            stream = process.stderr if stderr else process.stdout
            assert stream is not None
            readable, _, _ = select.select([stream], [], [], LIMIT_S)
            assert readable, "it said nothing"
            line = stream.readline()
            assert line, f"it ended: {process.communicate(timeout=LIMIT_S)}"
            yield Started(process, line)
        finally:
            if process.poll() is None:
                process.kill()


def serve(home: Path, *arguments: str, **more: str) -> contextlib.AbstractContextManager[Started]:
    """A real server on a free port."""
    return started(home, "serve", "--json", "--port", "0", *arguments, **more)
