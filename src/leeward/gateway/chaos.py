"""Faults on purpose: which provider does what wrong, and for how long.

A simulated provider is told to do it itself. For a real one, where the settings allow it, calls go to a stand-in that
has the fault; the real one is not called meanwhile, and what its key may do is not tried out.

Promises  a fault on a real provider ends by itself. Without any fault the hot path pays for a look into an empty dict.
Limits    a stand-in speaks Chat Completions and embeddings; it lives on the loop that switched the first fault on.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from leeward.errors import ProtocolError
from leeward.gateway.faults import Fault
from leeward.gateway.simulated import SimulatedProvider

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.gateway.transport import Endpoint

__all__ = ["Chaos", "ChaosState"]

NEAR: Final = 0.6


class ChaosState(msgspec.Struct, frozen=True):
    """How one provider is: its fault, if any, and the seconds until that ends by itself."""

    provider: str
    simulated: bool
    fault: Fault | None = None
    ends_in_s: float | None = None
    calls: int = 0  # that it answered, or failed to, while simulated


class _StandIn(msgspec.Struct, frozen=True):
    """What is called in the place of a real provider; `fault` is as it was asked for, with its share of the calls."""

    server: SimulatedProvider
    endpoint: Endpoint
    fault: Fault


class Chaos:
    """All faults that are on. Use it on the loop that the gateway serves on."""

    def __init__(
        self,
        clock: Clock,
        *,
        endpoint_at: Callable[[str], Endpoint],
        random: Callable[[], float],
        on_change: Callable[[str, str, str, dict[str, Any]], None] = lambda *_: None,
    ) -> None:
        """
        Args:
            clock: Time.
            endpoint_at: Makes what a call goes to of a base address.
            random: A number in [0, 1): decides which calls a fault with a share meets.
            on_change: Told of each change: provider, "", "chaos", and the fields of the log line.
        """
        self._clock = clock
        self._endpoint_at = endpoint_at
        self._random = random
        self._on_change = on_change
        self._simulated: Mapping[str, SimulatedProvider] = {}
        self._real: frozenset[str] = frozenset()
        self._real_may = False
        self._stand_ins: dict[str, _StandIn] = {}

    async def know(self, simulated: Mapping[str, SimulatedProvider], real: Iterable[str], *, real_may: bool) -> None:
        """The providers of this configuration. Faults of those that are gone, or may have none any more, end."""
        self._simulated = simulated
        self._real = frozenset(real)
        self._real_may = real_may
        for name in [name for name in self._stand_ins if not real_may or name not in self._real]:
            await self._stand_ins.pop(name).server.stop()

    async def set(self, provider: str, fault: Fault, for_s: float) -> ChaosState:
        """Switch a fault on, in the place of the one before.

        Raises:
            ProtocolError: there is no such provider, or it is a real one and the settings do not allow that.
        """
        simulated = self._found(provider)
        if simulated is not None:
            simulated.break_for(fault, for_s)
        elif not self._real_may:
            raise ProtocolError(
                f"Provider {provider} is a real one, and faults of real ones are not allowed here",
                code="chaos_off",
                status=409,
                details=("set [gateway] chaos = true",),
            )
        else:
            await self._stand_in(provider, fault, for_s)
        self._on_change(provider, "", "chaos", {"fault": fault.mode, "for_s": for_s, "share": fault.share})
        return self._state(provider)

    async def clear(self, provider: str) -> ChaosState:
        """Switch a provider's fault off. Raises ProtocolError: there is no such provider."""
        simulated = self._found(provider)
        was = self._state(provider).fault
        if simulated is not None:
            simulated.fault = None
        elif provider in self._stand_ins:
            await self._stand_ins.pop(provider).server.stop()
        if was is not None:
            self._on_change(provider, "", "chaos", {"fault": "", "was": was.mode})
        return self._state(provider)

    def endpoint_for(self, provider: str) -> Endpoint | None:
        """Where this call goes in the place of the real provider; None: where it always goes."""
        stand_in = self._stand_ins.get(provider)
        if stand_in is None or stand_in.server.fault is None:
            return None
        if stand_in.fault.share < 1.0 and self._random() >= stand_in.fault.share:
            return None
        return stand_in.endpoint

    def state(self) -> list[ChaosState]:
        """Every provider that may have a fault, and those that have one."""
        return [self._state(name) for name in sorted({*self._simulated, *(self._real if self._real_may else ())})]

    async def _stand_in(self, provider: str, fault: Fault, for_s: float) -> None:
        known = self._stand_ins.get(provider)
        # It keeps no requests: they carry the real provider's key.
        server = SimulatedProvider(provider, received_max=0, clock=self._clock) if known is None else known.server
        if known is None:
            await server.start()
        server.break_for(msgspec.structs.replace(fault, share=1.0), for_s)
        endpoint = self._endpoint_at(server.base_url) if known is None else known.endpoint
        self._stand_ins[provider] = _StandIn(server, endpoint, fault)

    def _found(self, provider: str) -> SimulatedProvider | None:
        """The simulated provider of this name, None for a real one."""
        simulated = self._simulated.get(provider)
        if simulated is None and provider not in self._real:
            known = sorted({*self._simulated, *self._real})
            near = difflib.get_close_matches(provider, known, 1, NEAR)
            hint = f"did you mean {near[0]}? " if near else ""
            listed = (
                "known here: " + ", ".join(known) if known else "no providers are configured: see [[gateway.providers]]"
            )
            raise ProtocolError(
                f"There is no provider {provider[:64]!r}",
                code="provider_not_found",
                status=404,
                details=(hint + listed,),
            )
        return simulated

    def _state(self, provider: str) -> ChaosState:
        stand_in = self._stand_ins.get(provider)
        server = self._simulated.get(provider) or (stand_in.server if stand_in is not None else None)
        if server is None:
            return ChaosState(provider, simulated=False)
        fault = server.fault
        if fault is not None and stand_in is not None:
            fault = stand_in.fault
        return ChaosState(provider, provider in self._simulated, fault, server.fault_ends_s, server.calls)
