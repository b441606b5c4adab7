"""The gateway as a process of its own, and providers for it: real servers on loopback, in threads of this process.

Only what is started here is ever signalled, by its process id.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from leeward.gateway.simulated import SimulatedProvider
from programs import environment

KEY = f"lw_{'chat':x>32}"
WRITE_KEY = f"lw_{'write':x>32}"
STOP_S = 20.0


@contextlib.contextmanager
def listening(rows: Sequence[SimulatedProvider]) -> Iterator[None]:
    """These providers, on a loop of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        for row in rows:
            asyncio.run_coroutine_threadsafe(row.start(), loop).result()
        yield
    finally:
        for row in rows:
            asyncio.run_coroutine_threadsafe(row.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def configuration(providers: Mapping[str, str], routes: Mapping[str, str], more: str = "") -> str:
    """A leeward.toml: providers by name with their addresses, models with what their routes say, and more tables.

    A provider whose name begins with `claude` speaks Anthropic Messages. Each calls every model as callers do.
    """
    lines = [*_key("chat", KEY), *_key("write", WRITE_KEY), more]
    models = ", ".join(f"{json.dumps(model)} = {json.dumps(model)}" for model in routes)
    for name, base_url in providers.items():
        kind = "anthropic" if name.startswith("claude") else "openai"
        lines += ["[[gateway.providers]]", f'name = "{name}"', f'kind = "{kind}"', f'base_url = "{base_url}"']
        lines += [f'api_key = "sk-{name}"', f"models = {{ {models} }}"]
    for model, route in routes.items():
        lines += ["[[gateway.routes]]", f'model = "{model}"', route]
    return "\n".join(lines)


def _key(scope: str, key: str) -> list[str]:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return ["[[server.keys]]", f'sha256 = "{digest}"', f'scope = "{scope}"', f'name = "{scope}"']


@contextlib.contextmanager
def gateway(folder: Path, config: str) -> Iterator[str]:
    """`leeward serve --only gateway` with this configuration; its address."""
    folder.mkdir()
    (folder / "leeward.toml").write_text(config)
    command = [sys.executable, "-m", "leeward", "serve", "--only", "gateway", "--port", "0", "--json"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=environment(XDG_DATA_HOME=str(folder), XDG_CONFIG_HOME=str(folder)),
        )
    try:
        assert process.stdout is not None
        with process.stdout:
            ready = process.stdout.readline()  # one line, when requests may come
        assert ready, (folder / "log").read_text()
        yield json.loads(ready)["url"]
    finally:
        process.terminate()
        process.wait(STOP_S)
