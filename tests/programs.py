"""Runs small programs that use the client, each in an interpreter of its own, with a watchdog."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import recorder

SRC = Path(__file__).parent.parent / "src"
WATCHDOG_S = 30
PRELUDE = """
import os, sys, threading, time, signal, atexit
import leeward
leeward.init({key!r}, {host!r}, spool_dir={spool!r}{arguments})
"""


def environment(**variables: str) -> dict[str, str]:
    """This environment without any setting of ours, and with the source on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LEEWARD_", "DO_NOT_TRACK"))}
    # From 3.12 on the interpreter warns whoever forks beside a thread, be it ours; that line is not what tests look for.
    return {**kept, "PYTHONPATH": str(SRC), "PYTHONWARNINGS": "ignore::DeprecationWarning", **variables}


def program(body: str, host: str, spool: object, arguments: str = "") -> str:
    """The text of a program that has called `init`."""
    prelude = PRELUDE.format(key=recorder.KEY, host=host, spool=str(spool), arguments=arguments)
    return prelude + textwrap.dedent(body)


def start(text: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )


def run(text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; one that hangs fails the test."""
    with start(text, **variables) as process:
        try:
            out, err = process.communicate(timeout=WATCHDOG_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess([], process.returncode, out, err)
