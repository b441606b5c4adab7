"""The real server as a process of its own: a free loopback port, its own data directory, and a limit on every wait.

Only what is started here is ever signalled, by its process id.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from programs import environment

START_S = 60.0
STOP_S = 20.0
ANSWER_S = 30.0
POLL_S = 0.01
HEAVY = bool(os.environ.get("LEEWARD_TEST_HEAVY"))


class Answer(NamedTuple):
    """One answer, read whole. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The stable tag of a refusal; empty for any other answer."""
        try:
            return self.json().get("code", "")
        except (ValueError, AttributeError):
            return ""


class Connection:
    """One kept connection."""

    def __init__(self, port: int, timeout_s: float = ANSWER_S) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, key: str = "", headers: dict[str, str] | None = None
    ) -> Answer:
        """Ask, and read the answer whole. OSError or HTTPException when there is none."""
        sent = dict(headers or {})
        if key:
            sent["Authorization"] = f"Bearer {key}"
        self._http.request(method, path, body=body, headers=sent)
        answer = self._http.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def close(self) -> None:
        self._http.close()


class ServerProcess:
    """A server that is started, asked, hurt and stopped. `settings` are by dotted name: {"server.port": 1}."""

    def __init__(self, data_dir: Path, settings: dict[str, object] | None = None) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self._settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._drain: threading.Thread | None = None
        self.stderr: list[bytes] = []
        self.start_seconds: list[float] = []

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- its life ----------------------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True, deaf: bool = False) -> Self:
        """Start it; return when it says that it is ready. *deaf*: nobody reads its log, each line of it fails."""
        assert self._process is None or self._process.poll() is not None, "it is running"
        home = str(self.data_dir.with_suffix(".home"))
        variables = {f"LEEWARD_{name.upper().replace('.', '__')}": str(value) for name, value in self._settings.items()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "leeward", "serve", "--data-dir", str(self.data_dir), "--port", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self.data_dir.parent,
            env=environment(XDG_DATA_HOME=home, XDG_CONFIG_HOME=home, **variables),
            start_new_session=True,
        )
        if deaf:
            assert self._process.stderr is not None
            self._process.stderr.close()
            self._drain = None
        else:
            self._drain = threading.Thread(target=self._read_stderr, args=(self._process,), daemon=True)
            self._drain.start()
        if wait:
            self.wait_ready()
        return self

    def _read_stderr(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr:
            self.stderr.extend(process.stderr)

    def wait_ready(self, timeout_s: float = START_S) -> None:
        """Wait until `/readyz` answers 200."""
        began_s = time.monotonic()
        while not self._is_ready():
            assert self.running, f"the server ended with {self.exit_code}: {self.stderr[-20:]}"
            assert time.monotonic() - began_s < timeout_s, f"not ready after {timeout_s} s: {self.stderr[-20:]}"
            time.sleep(POLL_S)
        self.start_seconds.append(time.monotonic() - began_s)

    def wait_store(self) -> None:
        """Wait until the store is there and everything is loaded; `/readyz` does not."""
        until(lambda: self.health()["parts"]["writer"]["status"] == "healthy", "the writer has its store")
        self.patient_query("limit=1")

    def _is_ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz", timeout_s=5.0).status == 200
        except (OSError, http.client.HTTPException):
            return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    @property
    def store_pid(self) -> int:
        """The store's process, which must be a child of ours."""
        found = until(self._store_pid, "the store's process is there")
        assert found is not None
        return found

    def _store_pid(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.data_dir / "store" / "pid").read_text())
            if parent_of(pid) == self.pid:
                return pid
        return None

    def signal(self, number: int) -> None:
        """Signal the server alone."""
        os.kill(self.pid, number)

    def kill(self, *, group: bool = False) -> None:
        """SIGKILL the server, or with its store all at once; return when it is gone."""
        assert self._process is not None
        if group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        self._ended(STOP_S)

    def wait_end(self, timeout_s: float = STOP_S) -> int:
        """Wait until it has ended by itself; its exit code."""
        return self._ended(timeout_s)

    def terminate(self) -> int:
        """Stop it as an operator does; its exit code."""
        self.signal(signal.SIGTERM)
        return self._ended(STOP_S)

    def _ended(self, timeout_s: float) -> int:
        assert self._process is not None
        code = self._process.wait(timeout_s)
        if self._drain is not None:
            self._drain.join(timeout_s)
        return code

    def stop(self) -> None:
        """End it whatever its state, the store's process too."""
        if self._process is None:
            return
        if self.running:
            self.kill(group=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # a stopped child outlives its parent's death

    # -- talking to it -----------------------------------------------------------------------------------------------

    def key(self, scope: str) -> str:
        """The first start's key of that scope."""
        return json.loads((self.data_dir / "first-keys.json").read_text())[scope]

    def connect(self, timeout_s: float = ANSWER_S) -> Connection:
        return Connection(self.port, timeout_s)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        key: str = "",
        headers: dict[str, str] | None = None,
        timeout_s: float = ANSWER_S,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = self.connect(timeout_s)
        try:
            return connection.ask(method, path, body, key=key, headers=headers)
        finally:
            connection.close()

    def send(self, events: object, path: str = "/api/telemetry/ingest") -> Answer:
        """Send a body of the native wire with the write key."""
        return self.ask("POST", path, json.dumps(events).encode(), key=self.key("write"))

    def query(self, filters: str = "") -> Answer:
        """Ask for events with the read key."""
        return self.ask("GET", f"/api/telemetry/query?{filters}", key=self.key("read"))

    def query_all(self, filters: str = "", limit: int = 1000) -> list[dict[str, Any]]:
        """All events, page by page; a store that is behind is asked again for as long as `ANSWER_S`."""
        events: list[dict[str, Any]] = []
        asked = "&".join(filter(None, (f"limit={limit}", filters)))
        cursor = ""
        while True:
            page = self.patient_query(asked + cursor)
            events += page["events"]
            if page["next_cursor"] is None:
                return events
            cursor = f"&cursor={page['next_cursor']}"

    def patient_query(self, filters: str) -> dict[str, Any]:
        """One page, asked for until the store has caught up."""

        def answered() -> dict[str, Any] | None:
            answer = self.query(filters)
            assert answer.status == 200 or (answer.status, answer.code) == (503, "store_behind"), answer
            return answer.json() if answer.status == 200 else None

        return until(answered, "the query is answered")

    def health(self) -> dict[str, Any]:
        return self.ask("GET", "/health").json()

    def metric(self, name: str) -> float:
        """One number of `/metrics`, labels summed."""
        lines = self.ask("GET", "/metrics", key=self.key("read")).body.decode().splitlines()
        found = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
        assert found, name
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def raw(self, data: bytes, *, quiet_s: float = 1.0) -> bytes:
        """Send bytes; what comes back until the server closes, or is quiet for that long."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=quiet_s) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(data)
            return read_until_closed(connection)[0]

    def reported(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log about that event."""
        return [line for line in self.log_lines() if line["event"] == event]

    def log_lines(self) -> list[dict[str, Any]]:
        """Its log; every line must be JSON, but for the words with which the first start greets a person."""
        lines = list(self.stderr)
        greeting = next((index for index, line in enumerate(lines) if line.startswith(b"leeward serves ")), None)
        if greeting is not None:
            end = lines.index(b"Ctrl+C stops.\n", greeting)
            del lines[greeting : end + 1]
        return [json.loads(line) for line in lines]


def read_until_closed(connection: socket.socket) -> tuple[bytes, bool]:
    """What comes in until the other side closes (True) or the socket's time-out passes (False)."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except TimeoutError:
        return received, False
    except OSError:
        pass
    return received, True


def until(condition: Callable[[], Any], what: str, timeout_s: float = ANSWER_S) -> Any:
    """Wait until the condition gives something; that."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}"
        time.sleep(POLL_S)


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def parent_of(pid: int) -> int | None:
    """The parent of a living process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    state, parent = stat[stat.rfind(b")") + 2 :].split()[:2]
    return None if state == b"Z" else int(parent)


def memory_peak_bytes(pid: int) -> int:
    """The largest resident size that a process ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the system does not say")


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does not run for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
