"""What belongs to one event loop: the connections, the simulated providers, the looks at providers without traffic.

A server has one loop and one home. A program that runs a loop for each call has one after the other; what a closed
loop leaves behind is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from leeward.gateway.chaos import Chaos
from leeward.gateway.exchange import TransportError
from leeward.gateway.origin import Endpoint, Origin
from leeward.gateway.simulated import SimulatedProvider
from leeward.gateway.targets import routes_of
from leeward.gateway.transport import Transport

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.gateway.core import Core
    from leeward.gateway.targets import Provider
    from leeward.settings.gateway import Gateway as Settings, Provider as ProviderSettings

__all__ = ["Home", "Homes"]

PLACEHOLDER: Final = "http://127.0.0.1:9/v1"  # until a simulated provider has its port
LOOK_EVERY_S: Final = 1.0
LOOK_BYTES_MAX: Final = 4 << 20
LOOK_TIMEOUT_S: Final = 5.0
SERVER_ERROR: Final = 500
_NO_SIGN: Final = frozenset({401, 403, 404, 405, 429})  # whoever answers so is there, but says nothing of its health


class Home:
    """One loop's."""

    __slots__ = ("looker", "transport")

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.looker: asyncio.Task[None] | None = None


class Homes:
    """The home of each loop that is open; usually one."""

    def __init__(
        self,
        clock: Clock,
        random: Callable[[], float],
        *,
        on_change: Callable[[str, str, str, dict[str, Any]], None] = lambda *_: None,
        transport: Callable[[], Transport] | None = None,
    ) -> None:
        self._clock = clock
        self._random = random
        self._make_transport = transport or (lambda: Transport(clock))
        self._homes: dict[asyncio.AbstractEventLoop, Home] = {}
        self._making: dict[asyncio.AbstractEventLoop, asyncio.Task[Home]] = {}
        self.simulated: dict[str, SimulatedProvider] = {}
        self._simulated_loop: asyncio.AbstractEventLoop | None = None
        self.chaos = Chaos(clock, endpoint_at=_endpoint_at, random=random, on_change=on_change)

    def running(self) -> Home | None:
        """The home of the running loop, if it has one."""
        return self._homes.get(asyncio.get_running_loop())

    def placeholders(self, settings: Settings) -> dict[str, str]:
        """Addresses for simulated providers that have not started."""
        return {each.name: PLACEHOLDER for each in settings.providers if _is_simulated(each)}

    async def here(self, core: Core) -> Home:
        """The home of the running loop; made once if it is new, for however many come at the same time."""
        home = self.running()
        if home is not None:
            return home
        loop = asyncio.get_running_loop()
        making = self._making.get(loop)
        if making is None:
            self._making = {each: task for each, task in self._making.items() if not each.is_closed()}
            making = self._making[loop] = loop.create_task(self._make(core))
            making.add_done_callback(self._made)
        return await asyncio.shield(making)  # one that is cancelled does not take the others' home away

    async def _make(self, core: Core) -> Home:
        loop = asyncio.get_running_loop()
        settings = core.routes.settings
        if self.placeholders(settings):
            core.routes = routes_of(settings, await self.addresses(settings))
            core.circuits.know(core.routes)
        await self.know(settings)
        self._homes = {each: home for each, home in self._homes.items() if not each.is_closed()}
        home = self._homes[loop] = Home(self._make_transport())
        home.looker = loop.create_task(self._look(core, home))
        return home

    def _made(self, making: asyncio.Task[Home]) -> None:
        del self._making[making.get_loop()]

    async def addresses(self, settings: Settings) -> dict[str, str]:
        """Start what is simulated, and say where."""
        loop = asyncio.get_running_loop()
        if self._simulated_loop is not None and self._simulated_loop.is_closed():
            self.simulated.clear()
        if not self.simulated:
            self._simulated_loop = loop
        for each in settings.providers:
            if _is_simulated(each) and each.name not in self.simulated:
                # It keeps no request: their prompts are nobody's business.
                provider = SimulatedProvider(
                    each.name, seed=len(self.simulated), models=tuple(each.models), received_max=0
                )
                await provider.start()
                self.simulated[each.name] = provider
        return {name: provider.base_url for name, provider in self.simulated.items()}

    async def know(self, settings: Settings) -> None:
        """Stop simulated providers that are configured no more, and end faults that are not allowed any more."""
        wanted = self.placeholders(settings)
        for name in [name for name in self.simulated if name not in wanted]:
            await self.simulated.pop(name).stop()
        real = (each.name for each in settings.providers if each.name not in wanted)
        await self.chaos.know(self.simulated, real, real_may=settings.chaos)

    def endpoint_of(self, provider: Provider) -> Endpoint:
        """Where its calls go: to itself, or to a fault that was switched on for it."""
        return self.chaos.endpoint_for(provider.name) or provider.endpoint

    async def close(self) -> None:
        """Close what belongs to the running loop."""
        home = self._homes.pop(asyncio.get_running_loop(), None)
        if home is not None:
            if home.looker is not None:
                home.looker.cancel()
            await home.transport.close()
        await self.chaos.know({}, (), real_may=False)
        if self._simulated_loop is asyncio.get_running_loop():  # another loop may still call its own
            for name in list(self.simulated):
                await self.simulated.pop(name).stop()

    async def _look(self, core: Core, home: Home) -> None:
        """Look at providers without traffic. What it costs them is a list of models, or a connection."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S * (0.5 + self._random()))
            health = core.routes.settings.health
            if not health.active:
                continue
            for provider in list(core.routes.providers.values()):
                if core.circuits.is_due(provider.name, self._clock.monotonic_s(), health.interval_s):
                    ok = await self._answers(home, provider)
                    if ok is not None:
                        core.circuits.looked(provider.name, ok, self._clock.monotonic_s())

    async def _answers(self, home: Home, provider: Provider) -> bool | None:
        """Whether a provider lists its models; None: it answers, but that says nothing of its health."""
        endpoint = self.endpoint_of(provider)
        try:
            exchange = await home.transport.begin(
                endpoint,
                (endpoint.origin.path + provider.kind.models_path).encode(),
                provider.headers,
                b"",
                method=b"GET",
                connect_timeout_s=provider.connect_timeout_s,
                head_timeout_s=LOOK_TIMEOUT_S,
                stall_timeout_s=LOOK_TIMEOUT_S,
                deadline_s=self._clock.monotonic_s() + 2 * LOOK_TIMEOUT_S,
                bytes_max=LOOK_BYTES_MAX,
            )
            await exchange.read()
        except TransportError:
            return False
        return None if exchange.status in _NO_SIGN else exchange.status < SERVER_ERROR


def _is_simulated(provider: ProviderSettings) -> bool:
    return provider.kind == "simulated" and not provider.base_url


def _endpoint_at(address: str) -> Endpoint:
    return Endpoint(Origin.of(address))
