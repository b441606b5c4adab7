"""The gateway as a library: what a call costs beyond the bare client that makes it, in one process, without a server.

As a program it measures and prints one JSON object; it is started on a core of its own.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.gateway.costs import GATEWAY_CORE, MICRO, Effort, Measured, plain
from benchmarks.gateway.driver import QUESTION
from benchmarks.gateway.gateways import ATTEMPT_S, DEADLINE_S, ROOT, Unavailable, configuration, on_core
from benchmarks.gateway.provider import MODEL, Providers

BLOCK: Final = 50  # calls in a row of one kind
WAIT_S: Final = 120
ANSWER_BYTES_MAX: Final = 1 << 20
REQUEST: Final = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}


def in_process(providers: Providers, _: str, effort: Effort) -> Measured:
    """Microseconds of a call: bare, through our gateway, and through its blocking form.

    Raises:
        Unavailable: the calls did not succeed.
    """
    providers.become()
    with tempfile.TemporaryDirectory(prefix="gateway-inprocess-") as folder, on_core(GATEWAY_CORE):
        file = Path(folder) / "leeward.toml"
        file.write_text(configuration(plain(providers)), encoding="utf-8")
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.gateway.inprocess",
                str(file),
                plain(providers).primary,
                str(effort.in_turn),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or ["no words"])[-1])
    measured: Measured = json.loads(done.stdout.splitlines()[-1])
    return measured


async def _bare(address: str) -> Callable[[], Awaitable[bytes]]:
    """The gateway's own client, alone: one request, one whole answer."""
    from leeward.clock import SystemClock
    from leeward.gateway.origin import Endpoint, Origin
    from leeward.gateway.transport import Transport, header_lines

    clock = SystemClock()
    transport, origin = Transport(clock), Origin.of(address)
    endpoint = Endpoint(origin, private=True)
    target = origin.path.encode() + b"/chat/completions"
    headers = header_lines([("authorization", "Bearer sk-primary"), ("content-type", "application/json")])
    body = json.dumps(REQUEST).encode()

    async def call() -> bytes:
        exchange = await transport.begin(
            endpoint,
            target,
            headers,
            body,
            connect_timeout_s=ATTEMPT_S,
            head_timeout_s=ATTEMPT_S,
            deadline_s=clock.monotonic_s() + DEADLINE_S,
            stall_timeout_s=ATTEMPT_S,
            bytes_max=ANSWER_BYTES_MAX,
        )
        return await exchange.read()

    return call


async def _measured(file: str, address: str, count: int) -> Measured:
    from leeward.gateway import Gateway

    gateway, bare = Gateway.from_config(file), await _bare(address)

    async def through() -> Any:
        return await gateway.chat(REQUEST)

    kinds = {"bare_us": bare, "call_us": through}
    taken_s: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(1 + max(2, count // BLOCK * 4)):
        for kind, call in kinds.items():
            block_s = [await _timed(call) for _ in range(BLOCK)]
            taken_s[kind] += block_s if turn else []  # the first turn warms up
    await gateway.close()
    return {kind: statistics.median(each) * MICRO for kind, each in taken_s.items()}


async def _timed(call: Callable[[], Awaitable[Any]]) -> float:
    began_s = time.perf_counter()
    await call()
    return time.perf_counter() - began_s


def _blocking_us(file: str, count: int) -> float:
    """From a thread without a loop."""
    from leeward.gateway import Gateway

    gateway, taken_s = Gateway.from_config(file), []
    for _ in range(count + BLOCK):
        began_s = time.perf_counter()
        gateway.chat_sync(REQUEST)
        taken_s.append(time.perf_counter() - began_s)
    return statistics.median(taken_s[BLOCK:]) * MICRO


if __name__ == "__main__":
    toml, primary, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
    figures = asyncio.run(_measured(toml, primary, calls))
    print(json.dumps({**figures, "blocking_us": _blocking_us(toml, calls)}))
