"""The gateway as a process of its own, and providers for it: real servers on loopback, in threads of this process.

Only what is started here is ever signalled, by its process id.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from leeward.gateway.simulated import SimulatedProvider
from programs import environment
from server_process import free_port

KEY = f"lw_{'chat':x>32}"
WRITE_KEY = f"lw_{'write':x>32}"
STOP_S = 20.0


@contextlib.contextmanager
def providers(*rows: SimulatedProvider) -> Iterator[dict[str, SimulatedProvider]]:
    """These providers, listening; by name."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        for row in rows:
            asyncio.run_coroutine_threadsafe(row.start(), loop).result()
        yield {row.name: row for row in rows}
    finally:
        for row in rows:
            asyncio.run_coroutine_threadsafe(row.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def configuration(origins: Mapping[str, str], routes: Mapping[str, str], more: str = "") -> str:
    """A leeward.toml: providers by name with their addresses, and models with the rest of their routes' tables.

    A provider whose name begins with `claude` speaks Anthropic Messages. Every provider has every model under its name.
    """
    lines = ["[server]", *_key("chat", KEY), *_key("write", WRITE_KEY), more]
    for name, base_url in origins.items():
        kind = "anthropic" if name.startswith("claude") else "openai"
        models = ", ".join(f'"{model}" = "{model}"' for model in routes)
        lines += [
            f'[[gateway.providers]]\nname = "{name}"\nkind = "{kind}"\nbase_url = "{base_url}"',
            f'api_key = "sk-{name}"\nmodels = {{ {models} }}',
        ]
    lines += [f'[[gateway.routes]]\nmodel = "{model}"\n{table}' for model, table in routes.items()]
    return "\n".join(lines)


def _key(scope: str, key: str) -> list[str]:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return ["[[server.keys]]", f'sha256 = "{digest}"', f'scope = "{scope}"', f'name = "{scope}"']


@contextlib.contextmanager
def gateway(folder: Path, config: str) -> Iterator[str]:
    """`leeward serve --only gateway` with this configuration; its address."""
    port = free_port()
    (folder / "leeward.toml").write_text(config)
    command = [sys.executable, "-m", "leeward", "serve", "--only", "gateway", "--config", "leeward.toml"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=environment(XDG_DATA_HOME=str(folder), XDG_CONFIG_HOME=str(folder)),
        )
    try:
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline(), (folder / "log").read_text()  # one line when it is ready
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(STOP_S)
