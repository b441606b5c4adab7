"""What the pages show of the gateway, done by hand: their shell lines run in one shell, and print what the pages say.

An expected output is a fence of text behind one of sh. Its lines are found in the real output, in their order; `…` stands
for anything. The port is another one than the pages', since tests run beside each other.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import sdks
from programs import environment

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^```(toml|sh|text|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
KEY = re.compile(r"lw_[A-Za-z0-9]{20,}")
WATCHDOG_S = 90  # an alarm for what hangs, no measure: the machines are shared
END = "__end_of_step__"


class Fence(NamedTuple):
    kind: str
    text: str


def fences(page: str, *, after: str = "", before: str = "") -> list[Fence]:
    """Of a page, or of the part of it between two headings."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = text[text.index(after) if after else 0 : text.index(before) if before else None]
    return [Fence(found[1], found[2]) for found in FENCE.finditer(text)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Shell:
    """One bash in a folder and a home of its own, that is told one step after the other."""

    def __init__(self, folder: Path, port: int) -> None:
        binaries = folder / "bin"
        binaries.mkdir()
        (binaries / "leeward").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m leeward "$@"\n', encoding="utf-8")
        (binaries / "leeward").chmod(0o755)
        self.port = port
        self.key = ""
        self.folder = folder / "gateway"
        self.folder.mkdir()
        self._process = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            text=True,
            env=environment(
                PATH=f"{binaries}{os.pathsep}{os.environ['PATH']}",
                HOME=str(folder),
                XDG_DATA_HOME=str(folder / "data"),
                XDG_CONFIG_HOME=str(folder / "config"),
                LEEWARD_SERVER__PORT=str(port),
            ),
            start_new_session=True,  # what it left running can be ended with it, and nothing else
        )
        self._alarm = threading.Timer(WATCHDOG_S, self._kill)
        self._alarm.start()

    def run(self, text: str) -> str:
        """Run a step; what it printed."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{self.own(text)}\necho; echo {END}\n")
        stdin.flush()
        lines = []
        for line in stdout:
            if line.rstrip("\n") == END:
                break
            lines.append(line)
        else:
            pytest.fail(f"the shell ended, or hung, in: {text}\n{''.join(lines)}")
        printed = "".join(lines)
        if not self.key and (found := KEY.search(printed)):
            self.key = found[0]
        return printed

    def own(self, text: str) -> str:
        """A text with this test's port and key."""
        return text.replace("127.0.0.1:5330", f"127.0.0.1:{self.port}").replace("lw_your_key", self.key)

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, 9)

    def close(self) -> None:
        self._alarm.cancel()
        self._kill()
        self._process.communicate()


@pytest.fixture
def shell(tmp_path) -> Iterator[Shell]:
    running = Shell(tmp_path, free_port())
    yield running
    running.close()


def pattern(line: str) -> str:
    return ".*".join(map(re.escape, line.strip().split("…")))


def assert_printed(expected: str, printed: str, step: str) -> None:
    """Each expected line is in the output, behind the one before."""
    rest = [" ".join(line.split()) for line in printed.splitlines()]
    for line in expected.splitlines():
        wanted = re.compile(pattern(" ".join(line.split())))
        while rest and not wanted.search(rest[0]):
            rest.pop(0)
        assert rest, f"nothing like {line!r} after {step!r}:\n{printed}"
        rest.pop(0)


def follow(shell: Shell, steps: list[Fence]) -> None:
    """Do what a page says: configurations into the file, steps into the shell, and look at what they print."""
    printed = step = ""
    for kind, text in steps:
        if kind == "toml":
            (shell.folder / "leeward.toml").write_text(text, encoding="utf-8")
        elif kind == "sh":
            step, printed = text, shell.run(text)
        elif kind == "text":
            assert_printed(text, printed, step)


def test_the_tutorial_does_what_it_says_step_by_step(shell):
    follow(shell, fences("docs/tutorial-gateway.md"))


def test_the_readme_alone_leads_to_two_providers_of_which_one_breaks(shell):
    steps = fences("README.md", after="## A chat that keeps answering", before="## The SDKs that you have")
    configuration, key_and_start, ask_and_break, program = steps
    (shell.folder / "leeward.toml").write_text(configuration.text, encoding="utf-8")
    key, start, export = key_and_start.text.splitlines()

    shell.run(key)
    shell.run(f"{start}\n{export}\nuntil curl -sf http://127.0.0.1:5330/readyz; do sleep 0.2; done")
    assert_printed(
        "HTTP/1.1 200 OK\nx-leeward-provider: primary\nprimary simulated 503\nHTTP/1.1 200 OK\nx-leeward-provider: secondary",
        shell.run(ask_and_break.text),
        ask_and_break.text,
    )
    (shell.folder / "ask.py").write_text(shell.own(program.text), encoding="utf-8")
    printed = shell.run(f"env -u PYTHONPATH {sdks.PYTHON} ask.py")

    assert "Simulated answer from secondary" in printed
