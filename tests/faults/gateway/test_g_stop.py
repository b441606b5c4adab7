"""G21: the gateway is told to stop while many streams are open. What can end ends; the rest is told, and nothing waits longer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from gateway_process import KEY, configuration, listening
from leeward.gateway.simulated import SimulatedProvider
from programs import environment

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"
STREAMS = 1_000 if HEAVY else 100
LIMIT_S = 4.0 if HEAVY else 2.0  # `shutdown_timeout_s`; half of it is the running streams'
BEGIN_S = 60.0
MORE = f"""
[server]
port = 0
shutdown_timeout_s = {LIMIT_S}
"""


@pytest.fixture(autouse=True)
def many_files():
    """Each stream is three sockets, most of them in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 4 * STREAMS + 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Stream:
    """One open answer, read to its end."""

    def __init__(self) -> None:
        self.text = b""
        self.closed = False

    async def begin(self, port: int, model: str) -> None:
        """Ask, and wait for the first content."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n"
        self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        while b'"content"' not in self.text:
            piece = await self._reader.read(65536)
            assert piece, self.text
            self.text += piece

    async def end(self) -> None:
        """Read until the server closes."""
        with contextlib.suppress(ConnectionResetError):
            while piece := await self._reader.read(65536):
                self.text += piece
            self.closed = True
        self._writer.close()


async def is_ready(port: int) -> bool:
    """What a balancer sees: a refused connection is a no, too."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        status = await reader.readline()
    except OSError:
        return False
    writer.close()
    return b" 200 " in status


async def not_ready(port: int, order: list[str]) -> None:
    while await is_ready(port):
        pass
    order.append("not ready")


async def told(streams: list[Stream], order: list[str]) -> None:
    await asyncio.gather(*(stream.end() for stream in streams))
    order.append("told")


@contextlib.asynccontextmanager
async def gateway(folder: Path, config: str):
    """`leeward serve --only gateway`, and its port."""
    (folder / "leeward.toml").write_text(config)
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "leeward", "serve", "--only", "gateway", "--json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=environment(HOME=str(folder)),
        )
    try:
        ready = await process.stdout.readline()
        assert ready, (folder / "log").read_text()
        yield process, int(json.loads(ready)["url"].rpartition(":")[2])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_g21_at_sigterm_streams_end_or_are_told_by_the_limit_and_the_exit_code_is_0(tmp_path):
    quick, slow = SimulatedProvider("quick", pace_s=LIMIT_S / 100), SimulatedProvider("slow")
    slow.fault = "stall"

    async def steps():
        origins = {provider.name: provider.base_url for provider in (quick, slow)}
        routes = {name: f'providers = ["{name}"]' for name in origins}
        config = configuration(origins, routes, MORE).replace("api_key", f"connections_max = {STREAMS}\napi_key")
        async with gateway(tmp_path, config) as (process, port):
            streams = {name: [Stream() for _ in range(STREAMS // 2)] for name in ("slow", "quick")}
            for name, some in streams.items():
                async with asyncio.timeout(BEGIN_S):
                    await asyncio.gather(*(stream.begin(port, name) for stream in some))
            order = []
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(LIMIT_S + BEGIN_S):
                await asyncio.gather(
                    not_ready(port, order), told(streams["slow"], order), *(each.end() for each in streams["quick"])
                )
                return streams, order, await process.wait()

    with listening([quick, slow]):
        streams, order, code = asyncio.run(steps())

    log = (tmp_path / "log").read_text()
    assert code == 0, log
    assert "Traceback" not in log
    for stream in streams["quick"]:
        assert b"data: [DONE]" in stream.text, stream.text
        assert stream.text.endswith(b"0\r\n\r\n"), stream.text
    for stream in streams["slow"]:
        assert b'"stream_interrupted"' in stream.text, stream.text
        assert b"[DONE]" not in stream.text
    assert all(stream.closed for some in streams.values() for stream in some)
    assert order == ["not ready", "told"]
