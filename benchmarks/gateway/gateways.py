"""The gateways that are measured: ours and its peers, each started afresh with a configuration that says the same.

Two providers with one model, the first preferred; one repeat; about 3 s for a provider to answer; a provider that failed
three times in a row is left alone for 30 s. Where a knob is missing, the nearest is used. A key is asked for. What would be
printed for each request is off in peers (ours prints none), limits of requests are raised, nothing is fetched from outside.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from benchmarks.gateway.driver import Caller, Door
from benchmarks.gateway.provider import MODEL
from benchmarks.ingest import processes

ROOT: Final = Path(__file__).parent.parent.parent
KEY: Final = "bench-0123456789abcdef0123456789abcdef"
READY_WAIT_S: Final = 90.0
STOP_WAIT_S: Final = 10.0
ATTEMPT_S: Final = 3.0
DEADLINE_S: Final = 12.0  # two providers, each asked twice
OPEN_S: Final = 30.0
CORES: Final = sorted(os.sched_getaffinity(0))  # before anything is bound to one of them


class Unavailable(Exception):
    """A gateway that is not installed, does not start, or does not answer."""


class Upstreams(NamedTuple):
    """Where the providers are, where our telemetry goes, and whose certificates are to be believed."""

    primary: str
    secondary: str
    telemetry: str = ""
    roots: Path | None = None


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """What runs or is started here stays on this core; on a machine with one core, everything does anyway."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CORES[core % len(CORES)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Gateway:
    """A gateway with a folder of its own; `start` waits for its first good answer."""

    name: ClassVar[str]
    distribution: ClassVar[str]
    environment: ClassVar[Mapping[str, str]] = {}

    def __init__(self, upstreams: Upstreams) -> None:
        self.upstreams = upstreams
        self.folder = Path(tempfile.mkdtemp(prefix=f"gateway-{self.name}-"))
        self.port = free_port()
        self.ready_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    # -- what differs ------------------------------------------------------------------------------------------------

    def program(self) -> Path:
        """What must be there for it to be installed."""
        raise NotImplementedError

    def arguments(self) -> Sequence[str]:
        """What the program is started with; its configuration is written first."""
        raise NotImplementedError

    def door(self) -> Door:
        """Where it takes requests."""
        return Door(self.port, MODEL, headers={"Authorization": f"Bearer {KEY}"})

    # -- what is common ----------------------------------------------------------------------------------------------

    def start(self, core: int) -> None:
        """Start it on this core.

        Raises:
            Unavailable: it is not installed, does not start, or gives no good answer.
        """
        if not self.program().exists():
            raise Unavailable("not installed: `make bench-gateway` installs it")
        arguments = self.arguments()
        with (self.folder / "gateway.log").open("ab") as log, on_core(core):
            began_s = time.perf_counter()
            self._process = subprocess.Popen(
                [str(self.program()), *arguments],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._await_answer(began_s)
        self.ready_s = time.perf_counter() - began_s

    def _await_answer(self, began_s: float) -> None:
        assert self._process is not None
        caller, told = Caller(self.door()), "none"
        with contextlib.closing(caller):
            while told != "ok":
                if self._process.poll() is not None:
                    raise Unavailable(f"ended while it started: {self.last_words()}")
                if time.perf_counter() - began_s > READY_WAIT_S:
                    raise Unavailable(f"no good answer after {READY_WAIT_S:.0f} s ({told}): {self.last_words()}")
                told = caller.ask(wait_s=5).verdict
                time.sleep(0 if told == "ok" else 0.005)

    def stop(self) -> None:
        """End it and what it has started."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_WAIT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_WAIT_S)

    def cpu_s(self) -> float:
        """User and system time so far, of all its processes."""
        return processes.cpu_s(self._pids())

    def resident_mb(self) -> float:
        """What is resident now, of all its processes."""
        return processes.memory(self._pids()).now_mb

    def last_words(self) -> str:
        """The end of what it has printed."""
        lines = (self.folder / "gateway.log").read_text(errors="replace").split("\n")
        return " / ".join(line for line in lines[-6:] if line)[-400:]

    def _pids(self) -> list[int]:
        return processes.tree([self._process.pid]) if self._process else []

    def _environment(self) -> dict[str, str]:
        """Without what Python or leeward would listen to here."""
        foreign = ("LEEWARD_", "PYTHON", "VIRTUAL_ENV", "DO_NOT_TRACK")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        roots = {"SSL_CERT_FILE": str(self.upstreams.roots)} if self.upstreams.roots else {}
        return {**kept, "HOME": str(self.folder), "NO_PROXY": "127.0.0.1,localhost", **roots, **self.environment}


class Leeward(Gateway):
    """Ours, from the environment that runs this."""

    name = "leeward"
    distribution = "leeward"

    def program(self) -> Path:
        return Path(sys.executable)

    def arguments(self) -> Sequence[str]:
        file = self.folder / "leeward.toml"
        file.write_text(configuration(self.upstreams), encoding="utf-8")
        return ["-m", "leeward", "serve", "--only", "gateway", "--config", str(file), "--port", str(self.port)]

    def _environment(self) -> dict[str, str]:
        return {
            **super()._environment(),
            "LEEWARD_HOST": self.upstreams.telemetry,
            "LEEWARD_API_KEY": "bench",
            "LEEWARD_SPOOL_DIR": str(self.folder / "spool"),
        }


def configuration(upstreams: Upstreams) -> str:
    """leeward.toml: as in the first steps, with the patience that all gateways here are given."""
    providers = "".join(
        f"""
[[gateway.providers]]
name = "{name}"
kind = "openai"
base_url = "{address}"
api_key = "sk-{name}"
private = true
models = {{ "{MODEL}" = "{MODEL}" }}
"""
        for name, address in (("primary", upstreams.primary), ("secondary", upstreams.secondary))
    )
    return f"""
[[server.keys]]
name = "bench"
sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"
scope = "chat"

[gateway]
connect_timeout_s = {ATTEMPT_S}
first_token_timeout_s = {ATTEMPT_S}
stall_timeout_s = {ATTEMPT_S}
deadline_s = {DEADLINE_S}

[gateway.retry]
max_attempts = 2

[gateway.breaker]
consecutive_failures = 3
open_s = {OPEN_S}
{providers}"""


class Ferro(Gateway):
    """Go, one binary. It bounds a whole request alone, and finds its providers in the environment."""

    name = "ferro"
    distribution = "ferrogw"

    def program(self) -> Path:
        return ROOT / ".venv-gw-ferro" / "bin" / "ferrogw"

    def arguments(self) -> Sequence[str]:
        target = {
            "retry": {"attempts": 2, "initial_backoff_ms": 100},
            "circuit_breaker": {"failure_threshold": 3, "success_threshold": 1, "timeout": f"{OPEN_S:.0f}s"},
            "models": [MODEL],
        }
        settings = {
            "strategy": {"mode": "fallback"},
            "request_timeout": f"{DEADLINE_S:.0f}s",
            "targets": [{"virtual_key": name, **target} for name in ("openai", "together")],
        }
        (self.folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        return ["serve"]

    def _environment(self) -> dict[str, str]:
        return {
            **super()._environment(),
            "PORT": str(self.port),
            "GATEWAY_CONFIG": str(self.folder / "config.json"),
            "MASTER_KEY": KEY,
            "OPENAI_API_KEY": "sk-primary",
            "OPENAI_BASE_URL": self.upstreams.primary,
            "TOGETHER_API_KEY": "sk-secondary",
            "TOGETHER_BASE_URL": self.upstreams.secondary,
            "FERRO_MODEL_CATALOG_TIMEOUT": "0",
            "RATE_LIMIT_RPS": "1000000",
            "RATE_LIMIT_BURST": "1000000",
            "LOG_LEVEL": "warn",
        }


class LiteLLM(Gateway):
    """Python, one worker, no database. Its `allowed_fails` opens one failure later, and 3 there means "not given"."""

    name = "litellm"
    distribution = "litellm"
    environment: ClassVar[Mapping[str, str]] = {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "DISABLE_ADMIN_UI": "True",
    }

    def program(self) -> Path:
        return ROOT / ".venv-gw-litellm" / "bin" / "litellm"

    def arguments(self) -> Sequence[str]:
        shared = {"model": f"openai/{MODEL}", "timeout": ATTEMPT_S, "stream_timeout": ATTEMPT_S, "max_retries": 0}
        models = {MODEL: self.upstreams.primary, "second": self.upstreams.secondary}
        settings = {
            "model_list": [
                {"model_name": name, "litellm_params": {**shared, "api_base": address, "api_key": f"sk-{name}"}}
                for name, address in models.items()
            ],
            "router_settings": {
                "num_retries": 1,
                "allowed_fails": 2,
                "cooldown_time": OPEN_S,
                "fallbacks": [{MODEL: ["second"]}],
            },
            "general_settings": {"master_key": f"sk-{KEY}", "disable_spend_logs": True},
        }
        file = self.folder / "config.yaml"
        file.write_text(json.dumps(settings), encoding="utf-8")
        return ["--config", str(file), "--host", "127.0.0.1", "--port", str(self.port), "--num_workers", "1"]

    def door(self) -> Door:
        return super().door()._replace(headers={"Authorization": f"Bearer sk-{KEY}"})


class Portkey(Gateway):
    """Node. The free gateway asks for no key of its own; its configuration comes with each request. It has no breaker."""

    name = "portkey"
    distribution = "@portkey-ai/gateway"
    environment: ClassVar[Mapping[str, str]] = {"NODE_ENV": "production"}
    home: ClassVar[Path] = Path(__file__).parent / "portkey"

    def program(self) -> Path:
        return self.home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"

    def arguments(self) -> Sequence[str]:
        return ["--headless", f"--port={self.port}"]

    def start(self, core: int) -> None:
        if shutil.which("node") is None:
            raise Unavailable("there is no Node on this machine")
        super().start(core)

    def door(self) -> Door:
        target = {"provider": "openai", "retry": {"attempts": 1}, "request_timeout": int(ATTEMPT_S * 1000)}
        settings = {
            "strategy": {"mode": "fallback"},
            "targets": [
                {**target, "api_key": "sk-any", "custom_host": address}
                for address in (self.upstreams.primary, self.upstreams.secondary)
            ],
        }
        return super().door()._replace(headers={"x-portkey-config": json.dumps(settings)})

    def _environment(self) -> dict[str, str]:
        roots = {"NODE_EXTRA_CA_CERTS": str(self.upstreams.roots)} if self.upstreams.roots else {}
        return {**super()._environment(), **roots}


PEERS: Final[Mapping[str, type[Gateway]]] = {kind.name: kind for kind in (Ferro, LiteLLM, Portkey)}
GATEWAYS: Final[Mapping[str, type[Gateway]]] = {Leeward.name: Leeward, **PEERS}


@contextlib.contextmanager
def running(name: str, upstreams: Upstreams, core: int) -> Iterator[Gateway]:
    """A gateway, started afresh; nothing is left of it afterwards.

    Raises:
        Unavailable: it is not installed, or does not start.
    """
    gateway = GATEWAYS[name](upstreams)
    try:
        gateway.start(core)
        yield gateway
    except OSError as error:
        raise Unavailable(f"{error}: {gateway.last_words()}") from error
    finally:
        gateway.stop()
        shutil.rmtree(gateway.folder, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
