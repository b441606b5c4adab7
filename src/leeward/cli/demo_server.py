"""The demo's server: a real one with two simulated providers, its traffic, and the switch for one of the providers.

It stops as every server does, and with a terminal that is closed: nobody would be there to see it.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from leeward.cli.keyless import OTLP_PORT, Keyless
from leeward.cli.keypress import KeyPresses
from leeward.cli.switch import Switch
from leeward.cli.traffic import MODEL, Door, Traffic
from leeward.sender.client import Client
from leeward.server.app import Application
from leeward.settings.gateway import Breaker, Gateway, Health, Model, Provider, Route
from leeward.version import VERSION

if TYPE_CHECKING:
    from leeward.server.logs import Report
    from leeward.settings.tree import Settings

__all__ = ["PRIMARY", "SWITCH_KEY", "DemoServer"]

PRIMARY: Final = "primary"
PACE_S: Final = 0.03  # between two words of a stream, so that one can watch it
SWITCH_KEY: Final = "b"


class DemoServer(Application):
    """The server. `begin` starts what belongs to the demo, `stop` and `join` end it."""

    def __init__(self, settings: Settings, data_dir: Path, report: Report) -> None:
        super().__init__(replace(settings, gateway=_gateway()), data_dir, report, demo=True)
        self._keyless: Keyless | None = None
        self._traffic: Traffic | None = None
        self._switch: Switch | None = None
        self._keys = KeyPresses(self._pressed)
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, url: str, keys: dict[str, str], *, takes_otlp: bool, listens: bool, draws: bool) -> None:
        """Begin to ask, to listen to the terminal's keys, and to take OpenTelemetry's default port without a key.

        Args:
            url: This server's own address.
            keys: Its keys by scope.
            takes_otlp: Whether it listens on that port, too.
            listens: Whether somebody may press a key.
            draws: Whether the last line on stderr may be drawn anew.
        """
        self._keyless = Keyless(OTLP_PORT, keys["write"]) if takes_otlp else None
        homes = self.gateway.core.homes
        for provider in homes.simulated.values():
            provider.pace_s = PACE_S
        spool = str(self.data_dir / "spool")
        client = Client(keys["write"], url, disabled=False, spool_dir=spool, app=f"leeward-demo/{VERSION}")
        chance = random.Random()  # noqa: S311 - it makes up a demo, not a secret
        self._traffic = Traffic(client, Door(url, keys["chat"]).ask, chance)
        self._traffic.start()
        self._switch = Switch(homes.chaos, self._traffic.answers, PRIMARY, draws=draws, now=_time_of_day)
        self._spawn(self._switch.watch())
        if listens:
            self._keys.start(asyncio.get_running_loop())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if self._keyless is None:
            await super().__call__(scope, receive, send)
        else:
            await self._keyless(super().__call__, scope, receive, send)

    async def reload(self) -> None:
        """Stop: there is no configuration to read again, so SIGHUP is a terminal that was closed."""
        signal.raise_signal(signal.SIGTERM)

    def stopping(self) -> None:
        """Ask no more; requests that run may still end."""
        super().stopping()
        if self._traffic is not None:
            self._traffic.stop()

    async def stop(self) -> None:
        """Put the terminal back, and stop every part."""
        self._keys.stop()
        for task in self._tasks:
            task.cancel()
        if self._switch is not None:
            self._switch.end()
        await super().stop()

    def join(self) -> None:
        """Wait for the traffic's end."""
        self._keys.stop()
        if self._traffic is not None:
            self._traffic.stop()
            self._traffic.join()

    def _pressed(self, key: str) -> None:
        if key == SWITCH_KEY and self._switch is not None:
            self._spawn(self._switch.toggle())

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _gateway() -> Gateway:
    """Two providers that are none, and a route over both; impatient, so that a fault is seen to pass."""
    names = (PRIMARY, "secondary")
    priced: dict[str, str | Model] = {MODEL: Model(name=MODEL, input_price=0.5, output_price=1.5)}
    return Gateway(
        first_token_timeout_s=3.0,
        stall_timeout_s=5.0,
        deadline_s=20.0,
        breaker=Breaker(open_s=2.0, open_max_s=8.0),
        health=Health(interval_s=2.0),
        providers=tuple(Provider(name=name, kind="simulated", models=priced) for name in names),
        routes=(Route(model=MODEL, providers=names, fallback=("cache", "stale-cache", "static")),),
    )


def _time_of_day() -> str:
    return f"{datetime.datetime.now().astimezone():%H:%M:%S}"
