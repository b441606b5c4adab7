"""Simulated providers in a process of their own: who the gateways ask. They count what reached them. Beside it stands
the receiver of our telemetry.

As a program it is told what to do on its standard input, a JSON object a line, and answers each with one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from benchmarks.clients.sinks import SinkProcess

from leeward.gateway.faults import fault_named
from leeward.gateway.simulated import SimulatedProvider

NAMES: Final = ("primary", "secondary")
MODEL: Final = "gpt-4o-mini"  # one that every gateway knows
ENDED_WITHIN_S: Final = 20.0


class Count(NamedTuple):
    """What has reached a provider since it became what it is."""

    calls: int
    connections: int


class Providers:
    """The process, seen from the benchmark. It runs on the cores that it is started on."""

    def __enter__(self) -> Self:
        self._sinks = SinkProcess()
        self.telemetry = self._sinks.__enter__().open().url
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gateway.provider"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ports = {name: int(self.become(name=name)["port"]) for name in NAMES}
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=ENDED_WITHIN_S)  # no more orders: it ends
        self._sinks.__exit__()

    def become(self, *, name: str = "primary", words: int = 24, events_per_write: int = 1, pace_s: float = 0.0) -> Any:
        """A fresh provider without a fault takes this one's place at the same port."""
        return self._ask(do="become", name=name, words=words, events_per_write=events_per_write, pace_s=pace_s)

    def use_tls(self, certificate: Path) -> int:
        """One more, behind TLS with this certificate and its key; gives its port."""
        return int(self._ask(do="tls", certificate=str(certificate))["port"])

    def fail(self, name: str, mode: str, **numbers: float) -> None:
        """From here on it fails like this; with the mode "" it works."""
        self._ask(do="fail", name=name, mode=mode, numbers=numbers)

    def count(self, name: str) -> Count:
        """What has reached it."""
        counted = self._ask(do="count", name=name)
        return Count(counted["calls"], counted["connections"])

    def _ask(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the simulated providers have ended")
        return json.loads(line)


class _Home:
    """The providers of this process."""

    def __init__(self) -> None:
        self._providers: dict[str, SimulatedProvider] = {}

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        match order.pop("do"):
            case "become":
                return await self._become(**order)
            case "tls":
                return await self._tls(**order)
            case "fail":
                mode = order["mode"]
                self._providers[order["name"]].fault = fault_named(mode, **order["numbers"]) if mode else None
                return {}
            case _:
                provider = self._providers[order["name"]]
                return {"calls": provider.calls, "connections": provider.connections}

    async def _become(self, name: str, **shape: Any) -> dict[str, Any]:
        old = self._providers.get(name)
        if old is not None:
            await old.stop()
        new = self._providers[name] = SimulatedProvider(name, models=(MODEL,), **shape)
        return {"port": await new.start(port=old.port if old is not None else 0)}

    async def _tls(self, certificate: str) -> dict[str, Any]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        context.set_alpn_protocols(["http/1.1"])
        if (old := self._providers.get("tls")) is not None:
            await old.stop()
        provider = self._providers["tls"] = SimulatedProvider("tls", models=(MODEL,))
        return {"port": await provider.start(tls=context)}

    async def stop(self) -> None:
        for provider in self._providers.values():
            await provider.stop()


async def _serve() -> None:
    loop, home = asyncio.get_running_loop(), _Home()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await home.obey(json.loads(line))), flush=True)
    await home.stop()


if __name__ == "__main__":
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(_serve())
