"""The embedded engine's supervisor: starts the child, watches it, restarts it, and hands out clients for it.

`start()` returns at once; the server accepts events while the store is still starting. A child that ends, or does not
answer a ping within its deadline, is killed and started again, with a growing delay. Everything acknowledged is on disk
before the child answers, so killing it loses nothing. The thread that starts the child lives as long as this object:
on Linux the kernel kills a child when the *thread* that made it ends.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from leeward.clock import SystemClock
from leeward.errors import ConfigError
from leeward.store.clickhouse import ClickHouse

if TYPE_CHECKING:
    from leeward.clock import Clock

__all__ = ["EmbeddedEngine", "Limits", "State", "require_engine"]

State = Literal["stopped", "starting", "ready", "down", "hung"]

_SOCKET_PATH_BYTES_MAX: Final = 100  # the kernel's limit is 108 on Linux and 104 on macOS, the end included
_LOG_BYTES_MAX: Final = 1 << 20
_LAST_WORDS_BYTES: Final = 2000

_logger = logging.getLogger(__name__)


class Limits(msgspec.Struct, frozen=True):
    """Times and sizes of the engine's care."""

    memory_bytes_max: int = 2 << 30
    start_s: float = 60.0
    ping_every_s: float = 1.0
    ping_timeout_s: float = 5.0
    hung_s: float = 10.0
    restart_delay_s: float = 0.1
    restart_delay_max_s: float = 10.0
    steady_s: float = 30.0
    stop_s: float = 2.0
    lock_wait_s: float = 10.0
    request_timeout_s: float = 60.0


class EmbeddedEngine:
    """A ClickHouse engine of our own, in a child process that owns *directory*."""

    def __init__(self, directory: Path, limits: Limits | None = None, clock: Clock | None = None) -> None:
        self._directory = directory
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()
        self._state: State = "stopped"
        self._reason = ""
        self._restarts = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._socket_path = ""
        self._socket_directory: str | None = None
        self._clients: list[ClickHouse] = []

    @property
    def state(self) -> State:
        """How the child stands."""
        return self._state

    @property
    def reason(self) -> str:
        """Why it is not ready, in a sentence; empty when it is."""
        return self._reason

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return self._restarts

    @property
    def pid(self) -> int | None:
        """The child's process id, while it runs."""
        child = self._child
        return child.pid if child is not None else None

    def start(self) -> None:
        """Begin to start the child. `ConfigError` where there is no engine for this system."""
        require_engine()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = str(self._directory.absolute() / "socket")
        if len(os.fsencode(path)) > _SOCKET_PATH_BYTES_MAX:
            self._socket_directory = tempfile.mkdtemp(prefix="leeward-")
            path = str(Path(self._socket_directory) / "socket")
        self._socket_path = path
        self._stopping.clear()
        self._set("starting", "the store is starting")
        self._thread = threading.Thread(target=self._supervise, name="leeward-store", daemon=True)
        self._thread.start()

    def client(self, database: str = "leeward") -> ClickHouse:
        """A client of this engine. It may be made before the engine is ready and outlives the child's restarts."""
        made = ClickHouse(f"unix:{self._socket_path}", database, timeout_s=self._limits.request_timeout_s)
        self._clients.append(made)
        return made

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the engine answers. False when it does not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state == "ready", timeout_s)

    def stop(self) -> None:
        """End the child within `stop_s` and close all clients. What was not answered yet was not promised."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for made in self._clients:
            made.close()
        self._clients.clear()
        if self._socket_directory is not None:
            shutil.rmtree(self._socket_directory, ignore_errors=True)
            self._socket_directory = None
        self._set("stopped", "")

    def _supervise(self) -> None:
        delay_s = self._limits.restart_delay_s
        while not self._stopping.is_set():
            started_s = self._clock.monotonic_s()
            try:
                self._run_child(started_s)
            except Exception as error:
                # Boundary: no descriptors, processes or disk left is no reason never to start the store again.
                reason = f"the store's process cannot be started or watched: {str(error) or type(error).__name__}"
                if reason != self._reason:
                    _logger.exception("the store's supervisor goes on after a fault")
                self._set("down", reason)
            if self._clock.monotonic_s() - started_s > self._limits.steady_s:
                delay_s = self._limits.restart_delay_s  # it ran for a while: not a loop of crashes
            if not self._stopping.wait(delay_s):
                self._restarts += 1
                delay_s = min(2 * delay_s, self._limits.restart_delay_max_s)

    def _run_child(self, started_s: float) -> None:
        """One life of the child. Whatever happens here, it does not outlive this call."""
        child = self._child = self._spawn()
        try:
            self._watch(child, started_s)
        finally:
            self._end(child)
            self._child = None

    def _spawn(self) -> subprocess.Popen[bytes]:
        limits = self._limits
        Path(self._socket_path).unlink(missing_ok=True)  # what answers from here on is the new child
        log = self._directory / "child.log"
        mode = "wb" if log.exists() and log.stat().st_size > _LOG_BYTES_MAX else "ab"
        with open(log, mode, opener=_private) as output:
            return subprocess.Popen(  # noqa: S603 - our own module with our own arguments
                [
                    *(sys.executable, "-P", "-m", "leeward.store.child"),
                    *(str(self._directory.absolute()), self._socket_path),
                    *(str(limits.memory_bytes_max), str(limits.lock_wait_s), str(os.getpid())),
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=self._directory,
            )

    def _watch(self, child: subprocess.Popen[bytes], started_s: float) -> None:
        """Return when the child ended, must be killed, or shall stop."""
        limits = self._limits
        probe = ClickHouse(f"unix:{self._socket_path}", timeout_s=limits.ping_timeout_s)
        last_answer_s: float | None = None
        try:
            while not self._stopping.is_set():
                if child.poll() is not None:
                    self._set("down", self._why_ended(child.returncode))
                    return
                answered = probe.ping()
                now_s = self._clock.monotonic_s()
                if answered:
                    last_answer_s = now_s
                    self._set("ready", "")
                elif child.poll() is None and now_s - (last_answer_s or started_s) > (
                    limits.start_s if last_answer_s is None else limits.hung_s
                ):
                    self._set("hung", f"the store's process {child.pid} does not answer; it is started again")
                    return
                self._stopping.wait(limits.ping_every_s if answered else min(0.02, limits.ping_every_s))
        finally:
            probe.close()

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        """End the child: kindly, by the end of its pipe, when we stop; at once when it hangs."""
        assert child.stdin is not None
        child.stdin.close()
        try:
            child.wait(self._limits.stop_s if self._state != "hung" else 0)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _why_ended(self, code: int) -> str:
        if code < 0:
            return f"the store's process ended (signal {-code})"
        words = self._last_words()
        return f"the store's process ended (exit code {code}){': ' + words if code and words else ''}"

    def _last_words(self) -> str:
        """The last line that the child wrote, or nothing where that cannot be read just now."""
        try:
            with (self._directory / "child.log").open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
                lines = log.read(_LAST_WORDS_BYTES).decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def _set(self, state: State, reason: str) -> None:
        with self._changed:
            self._state, self._reason = state, reason
            self._changed.notify_all()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def require_engine() -> None:
    """`ConfigError` where chDB has no engine for this system, as on Windows and with musl."""
    found = importlib.util.find_spec("chdb")
    places = found.submodule_search_locations if found is not None else None
    if not any(list(Path(place).glob("_chdb*.so")) for place in places or ()):
        raise ConfigError(
            "embedded storage needs Linux (glibc) or macOS",
            code="no_embedded_engine",
            where="[storage] url",
            fix='set [storage] url = "clickhouse://user:password@host:8123/leeward"',
        )
