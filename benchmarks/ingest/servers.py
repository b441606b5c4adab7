"""The servers that are measured: ours and, each from an environment of its own, its peers.

All get their defaults, but that data lies in a folder of this run, that nothing is reported to anybody outside, and that
quotas meant for small machines are raised: a quota is no speed. What each has stored is asked of ours over HTTP, and of a
peer by counting rows in its SQLite file, which costs it the least.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from benchmarks.ingest import processes

ROOT: Final = Path(__file__).parent.parent.parent
READY_WAIT_S: Final = 120.0
STOP_WAIT_S: Final = 30.0


class Unavailable(Exception):
    """A server that is not installed, or does not start."""


def bin_of(name: str) -> Path:
    """Where the programs of a peer's environment lie."""
    return ROOT / f".venv-{name}" / "bin"


class Server:
    """A server with a fresh folder; `start` waits until it takes requests."""

    name: ClassVar[str]
    ready_path: ClassVar[str]
    environment: ClassVar[dict[str, str]] = {}
    headers: ClassVar[dict[str, str]] = {}
    settle_s: ClassVar[float]  # a count that stood still for so long has come to rest

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"ingest-{self.name}-"))
        self.data = self.folder / "data"
        self.data.mkdir(mode=0o700)
        self.bin = bin_of(self.name)
        self.port = _free_port()
        self.key = ""
        self.project = "1"
        self.ready_s = 0.0
        self._processes: list[subprocess.Popen[bytes]] = []

    # -- what differs ------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """What its operator does before the first start."""

    def commands(self) -> Sequence[Sequence[str]]:
        """What runs: programs of its environment, with their arguments."""
        raise NotImplementedError

    def stored(self) -> int:
        """How many items it has stored so far."""
        raise NotImplementedError

    # -- what is common ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it.

        Raises:
            Unavailable: it is not installed, or does not start.
        """
        if not (self.bin / "python").exists():
            raise Unavailable(f"{self.name} is not installed: `make bench-ingest` installs it")
        self.prepare()
        began_s = time.perf_counter()
        self._processes = [self._start(command) for command in self.commands()]
        while not self._answers():
            if not self.is_running():
                raise Unavailable(f"{self.name} ended while it started: {self._last_words()}")
            if time.perf_counter() - began_s > READY_WAIT_S:
                raise Unavailable(f"{self.name} was not ready after {READY_WAIT_S:.0f} s: {self._last_words()}")
            time.sleep(0.005)
        self.ready_s = time.perf_counter() - began_s

    def stop(self) -> None:
        """End it as its operator would, and whatever it leaves behind."""
        for process in self._processes:
            process.terminate()
        end_s = time.monotonic() + STOP_WAIT_S
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, end_s - time.monotonic()))
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # workers that were left would hold the port
            process.wait(10)

    def is_running(self) -> bool:
        """None of the processes that were started has ended."""
        return all(process.poll() is None for process in self._processes)

    def pids(self) -> list[int]:
        """All processes, those that they started too."""
        return processes.tree(process.pid for process in self._processes)

    def disk_bytes(self) -> int:
        """What it keeps; what it prints does not count."""
        return processes.disk_bytes(self.data)

    def ask(self, path: str, key: str = "") -> tuple[int, bytes]:
        """GET; the status is 0 if there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        return 0, b""

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                [str(self.bin / command[0]), *command[1:]],
                cwd=self.data,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        """Without what Python or leeward would listen to here."""
        foreign = ("LEEWARD_", "PYTHON", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        own = {"PATH": f"{self.bin}:{kept.get('PATH', '')}", "HOME": str(self.data), "DO_NOT_TRACK": "true"}
        return {**kept, **own, **self.environment}

    def _answers(self) -> bool:
        return self.ask(self.ready_path)[0] == 200

    def _last_words(self) -> str:
        lines = (self.folder / "server.log").read_text(errors="replace").split("\n")
        return " / ".join(line for line in lines[-4:] if line)[-300:]


class Leeward(Server):
    """Ours, from the environment that runs this."""

    name = "leeward"
    ready_path = "/readyz"
    settle_s = 10.0  # its store may merge for that long on a busy machine

    def __init__(self) -> None:
        super().__init__()
        self.bin = Path(sys.executable).parent
        self._read_key = ""

    def commands(self) -> Sequence[Sequence[str]]:
        return [("python", "-m", "leeward", "serve", "--data-dir", str(self.data), "--port", str(self.port))]

    def start(self) -> None:
        super().start()
        keys = json.loads((self.data / "first-keys.json").read_text())
        self.key, self._read_key = keys["write"], keys["read"]
        end_s = time.monotonic() + READY_WAIT_S
        while json.loads(self.ask("/health")[1])["parts"]["store"]["status"] != "healthy":
            if time.monotonic() > end_s:
                raise Unavailable(f"the store was not there after {READY_WAIT_S:.0f} s: {self._last_words()}")
            time.sleep(0.05)

    def disk_bytes(self) -> int:
        """The store alone: the log before it keeps its newest file, however little is in it, and lets go of the others."""
        return processes.disk_bytes(self.data / "store")

    def stored(self) -> int:
        return int(self.metric("leeward_events_stored_total"))

    def metric(self, name: str) -> float:
        """One of its counters, by its whole name."""
        status, text = self.ask("/metrics", self._read_key)
        if status != 200:
            raise Unavailable(f"/metrics answered {status}: {self._last_words()}")
        return next(float(line.split()[1]) for line in text.decode().splitlines() if line.startswith(f"{name} "))


class Peer(Server):
    """A server of somebody else: an environment of its own, rows in a SQLite file."""

    settle_s = 12.0  # one that stores a thousand at a time stands still for long
    database: ClassVar[str]
    table: ClassVar[str]

    def stored(self) -> int:
        path = self.data / self.database
        for _ in range(20):
            try:
                with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
                    return int(connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()[0])
            except sqlite3.OperationalError:  # it is locked
                time.sleep(0.25)
        raise Unavailable(f"{self.name}: {path.name} cannot be read")

    def run(self, *command: str) -> str:
        """One command of its operator, to its end."""
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.data,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=READY_WAIT_S,
            check=False,
        )
        if done.returncode:
            raise Unavailable(f"{self.name}: `{command[0]} {command[1]}` failed: {done.stderr[-300:]}")
        return done.stdout


class Mlflow(Peer):
    """mlflow server: OTLP traces into SQLite; two workers for two cores."""

    name = "mlflow"
    headers = {"x-mlflow-experiment-id": "0"}  # noqa: RUF012 - never changed
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true"}  # noqa: RUF012 - never changed
    ready_path = "/health"
    database = "mlflow.db"
    table = "spans"

    def commands(self) -> Sequence[Sequence[str]]:
        store = f"sqlite:///{self.data / self.database}"
        where = ("--host", "127.0.0.1", "--port", str(self.port))
        return [("mlflow", "server", "--backend-store-uri", store, *where, "--workers", "2")]


class Phoenix(Peer):
    """arize-phoenix: OTLP traces into SQLite."""

    name = "phoenix"
    ready_path = "/healthz"
    database = "phoenix.db"
    table = "spans"

    def commands(self) -> Sequence[Sequence[str]]:
        return [("phoenix", "serve")]

    def _environment(self) -> dict[str, str]:
        return {
            **super()._environment(),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(self.port),
            "PHOENIX_GRPC_PORT": str(_free_port()),
            "PHOENIX_WORKING_DIR": str(self.data),
            "PHOENIX_SQL_DATABASE_URL": f"sqlite:///{self.data / self.database}",
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        }


class Bugsink(Peer):
    """bugsink: Sentry's errors; gunicorn with two workers, and its own task runner, over SQLite."""

    name = "bugsink"
    ready_path = "/health/ready"
    database = "db.sqlite3"
    table = "events_event"

    def prepare(self) -> None:
        self.key = secrets.token_hex(16)
        (self.data / "bugsink_conf.py").write_text(
            _BUGSINK_SETTINGS.format(folder=self.data, port=self.port, secret=secrets.token_hex(40))
        )
        self.run("bugsink-manage", "migrate", "--verbosity", "0")
        self.run("bugsink-manage", "migrate", "snappea", "--database=snappea", "--verbosity", "0")
        made = self.run("bugsink-manage", "shell", "-c", _BUGSINK_PROJECT.format(key=self.key))
        self.project = made.strip().rpartition("\n")[2]

    def commands(self) -> Sequence[Sequence[str]]:
        bind = f"127.0.0.1:{self.port}"
        return [
            ("gunicorn", "--bind", bind, "--workers", "2", "--timeout", "30", "bugsink.wsgi"),
            ("bugsink-runsnappea",),
        ]

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "DJANGO_SETTINGS_MODULE": "bugsink_conf", "PYTHONPATH": str(self.data)}


_BUGSINK_SETTINGS: Final = """
from bugsink.settings.default import *

SECRET_KEY = "{secret}"
DATABASES["default"]["NAME"] = "{folder}/db.sqlite3"
DATABASES["snappea"]["NAME"] = "{folder}/snappea.sqlite3"
SNAPPEA = {{
    "TASK_ALWAYS_EAGER": False,
    "NUM_WORKERS": 2,
    "PID_FILE": None,
    "WAKEUP_CALLS_DIR": "{folder}/wakeup",
}}
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
BUGSINK = {{
    "BASE_URL": "http://127.0.0.1:{port}",
    "INGEST_STORE_BASE_DIR": "{folder}/ingestion",
    "PHONEHOME": False,
    "MAX_EVENTS_PER_PROJECT_PER_5_MINUTES": 10**9,
    "MAX_EVENTS_PER_PROJECT_PER_HOUR": 10**9,
    "MAX_EVENTS_PER_PROJECT_PER_MONTH": 10**9,
    "MAX_EVENTS_PER_5_MINUTES": 10**9,
    "MAX_EVENTS_PER_HOUR": 10**9,
    "MAX_EVENTS_PER_MONTH": 10**9,
}}
ALLOWED_HOSTS = ["127.0.0.1"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = False
"""
_BUGSINK_PROJECT: Final = """
from projects.models import Project
made = Project.objects.create(name="bench", sentry_key="{key}", retention_max_event_count=10**9)
print(made.id)
"""

Kind = TypeVar("Kind", bound=Server)
PEERS: Final[dict[str, type[Peer]]] = {peer.name: peer for peer in (Mlflow, Phoenix, Bugsink)}


@contextlib.contextmanager
def running(kind: type[Kind]) -> Iterator[Kind]:
    """A server with a folder of its own, gone afterwards."""
    server = kind()
    try:
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(server.folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
