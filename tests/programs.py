"""Runs small programs that use the client, each in an interpreter of its own, with a watchdog.

What arrived is what a strict recorder noted; what did not is sent by the next program with the same destination.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import recorder

SRC = Path(__file__).parent.parent / "src"
WATCHDOG_S = 60  # an alarm for what hangs, no measure: the machines are shared
HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"
PRELUDE = """
import os, sys, threading, time, signal, atexit
import leeward
leeward.init({key!r}, {host!r}, spool_dir={spool!r}{arguments})
"""
OF_A_SPOOL = {"set-aside.jsonl", "about.json"}  # what stays in a destination's folder


def rounds(sample: int, heavy: int) -> int:
    """How often a loop of faults goes round: a sample, all of it, or as often as LEEWARD_TEST_ROUNDS says."""
    asked = os.environ.get("LEEWARD_TEST_ROUNDS")
    return int(asked) if asked else heavy if HEAVY else sample


def environment(**variables: str) -> dict[str, str]:
    """This environment without any setting of ours, and with the source on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LEEWARD_", "DO_NOT_TRACK"))}
    # From 3.12 on the interpreter warns whoever forks beside a thread, be it ours; that line is not what tests look for.
    return {**kept, "PYTHONPATH": str(SRC), "PYTHONWARNINGS": "ignore::DeprecationWarning", **variables}


def program(body: str, host: str, spool: object, arguments: str = "") -> str:
    """The text of a program that has called `init`."""
    prelude = PRELUDE.format(key=recorder.KEY, host=host, spool=str(spool), arguments=arguments)
    return prelude + textwrap.dedent(body)


def start(
    text: str | Path,
    *,
    python: str = sys.executable,
    stdin: int | None = None,
    cwd: str | Path | None = None,
    **variables: str,
) -> subprocess.Popen[str]:
    """Start a program: its text, or the file that has it."""
    return subprocess.Popen(
        [python, *(["-c", text] if isinstance(text, str) else [str(text)])],
        stdin=stdin,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a program, and for the children that write where it writes; one that hangs fails the test."""
    with process:
        try:
            out, err = process.communicate(timeout=WATCHDOG_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess([], process.returncode, out, err)


def run(
    text: str | Path, *, python: str = sys.executable, cwd: str | Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; one that hangs fails the test."""
    return finish(start(text, python=python, cwd=cwd, **variables))


def deliver_left(server: recorder.Recorder, spool: object, count: int, arguments: str = "") -> None:
    """The next start of a program with the same destination; not if there is nothing for it to do."""
    if len(server.stored) >= count and not left_on_disk(Path(str(spool))):
        return
    result = run(program("print(leeward.flush(30), leeward.stats())", server.host, spool, arguments))
    assert result.returncode == 0, result.stderr
    assert server.wait_stored(count), f"{len(server.stored)} of {count} came: {result.stdout}"


def left_on_disk(spool: Path) -> list[str]:
    """What still waits: each destination's folder has a spool of a process, or none."""
    return sorted(path.name for path in spool.glob("*/*") if path.name not in OF_A_SPOOL)


@functools.cache
def interpreters() -> dict[str, str]:
    """Version → program of every interpreter of this machine that the client supports, this one first."""
    found = {}
    for candidate in (sys.executable, *_candidates()):
        asked = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2] + getattr(sys, 'abiflags', ''))"],
            capture_output=True,
            text=True,
            check=False,
        )
        version = asked.stdout.strip()
        if asked.returncode == 0 and tuple(map(int, version.rstrip("tdm").split("."))) >= (3, 11):
            found.setdefault(version, candidate)
    return found


def _candidates() -> Iterable[str]:
    for minor in range(11, 16):
        for name in (f"python3.{minor}", f"python3.{minor}t"):
            path = shutil.which(name)
            if path is not None:
                yield path
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(map(str, root.glob("versions/3.1[1-9]*/bin/python")))
