"""Runs one program in a fresh interpreter, with clean surroundings and a watchdog.

Surroundings: no variable that configures a client, opts out or names a proxy; a home and a working directory of its
own; byte code compiled before, as for an installed package, and not among the sources. Output goes to files, so that
neither a full pipe nor a grandchild that keeps it open can hold the benchmark up.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.clients.sinks import Sink
from benchmarks.clients.subjects import SUBJECTS

ROOT = Path(__file__).parent.parent.parent
COMPILED = Path(tempfile.gettempdir()) / f"leeward-benchmark-{os.getuid()}"
FOREIGN = ("LEEWARD_", "POSTHOG_", "SENTRY_", "OTEL_", "LOGFIRE_", "PYTHON", "TELEMETRY_", "DO_NOT_TRACK")
SILENT = ("kill", "again", "outage", "fork")  # what arrived says it all
IMPORT = """
import sys, time
before = set(sys.modules)
began_s = time.perf_counter()
{imports}
took_s = time.perf_counter() - began_s
print('{{"ms": %f, "modules": %d}}' % (took_s * 1000, len(set(sys.modules) - before)))
"""


class Failed(Exception):
    """A program ended with an error, or said nothing before the watchdog ended it."""


class Ended(NamedTuple):
    """How a program ended: what it said, when (monotonic), its lines on stderr, whether the watchdog had to end it."""

    said: dict[str, Any]
    at_s: float
    stderr_lines: int
    hung: bool


class Place:
    """A scratch directory for one client's measurement: the spool in it outlives a process, for the next start."""

    def __init__(self, client: str) -> None:
        self.client = client
        self._folder = tempfile.TemporaryDirectory(prefix="leeward-benchmark-", ignore_cleanup_errors=True)
        self.spool_dir = str(Path(self._folder.name) / "spool")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def left(self) -> bool:
        """Whether the client left anything on disk that its next start could find."""
        folder = Path(self._folder.name)
        return any(file.is_file() and file.parent != folder for file in folder.rglob("*"))

    def imported(self) -> Ended:
        return self._run(["-c", IMPORT.format(imports=SUBJECTS[self.client].imports)], 60)

    def run(
        self, program: str, sink: Sink, *, watch_s: float = 60, until: Callable[[], None] | None = None, **given: Any
    ) -> Ended:
        """Run a program of `programs.py`. Its standard input is closed when `until` returns."""
        arguments = [program, self.client, sink.url, self.spool_dir, json.dumps(given)]
        ended = self._run(["-m", "benchmarks.clients.programs", *arguments], watch_s, until)
        if ended.hung and not ended.said and program not in SILENT:
            raise Failed(f"{self.client} hung: {program} was ended after {watch_s:.0f} s")
        return ended

    def _run(self, arguments: list[str], watch_s: float, until: Callable[[], None] | None = None) -> Ended:
        folder = Path(self._folder.name)
        with (folder / "stdout").open("w+b") as out, (folder / "stderr").open("w+b") as err:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.PIPE if until else subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                start_new_session=True,
                env=_environment(folder),
            )
            hung = threading.Event()
            watchdog = threading.Timer(watch_s, lambda: (hung.set(), process.kill()))
            watchdog.start()
            try:
                if until and process.stdin:
                    until()
                    process.stdin.close()
                process.wait()  # without a time-out, which would poll
                at_s = time.monotonic()
            finally:
                watchdog.cancel()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it may have left running
            out.seek(0)
            err.seek(0)
            said: dict[str, Any] = {}
            for line in out:
                if line.startswith(b"{"):
                    said |= json.loads(line)
            lines = err.read()
        if process.returncode > 0:
            raise Failed(f"{self.client} failed: {' '.join(arguments)}\n{lines[-4000:].decode(errors='replace')}")
        return Ended(said, at_s, lines.count(b"\n"), hung.is_set())


def _environment(folder: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(FOREIGN) and not name.lower().endswith("_proxy")
    }
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", str(ROOT / "src")).split(os.pathsep))]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in paths),
        "PYTHONPYCACHEPREFIX": str(COMPILED),
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "TMPDIR": str(folder),
    }
