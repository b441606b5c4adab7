"""Faults on purpose over HTTP: which are on, switch one on, switch it off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from leeward.errors import ConfigError, ProtocolError
from leeward.gateway.faults import FAULTS, fault_named
from leeward.server.http import ByteBudget, Request, Response, json_response, read_document

if TYPE_CHECKING:
    from leeward.gateway.chaos import Chaos, ChaosState

__all__ = ["ChaosHandlers", "ChaosInfo", "ChaosList", "ChaosSet", "FaultInfo"]


class ChaosSet(msgspec.Struct, forbid_unknown_fields=True):
    """A fault to switch on. What is left out is as the fault has it."""

    fault: Annotated[str, Meta(description="Which; the list names them all.")]
    for_s: Annotated[float, Meta(gt=0, le=86_400, description="After how many seconds it ends by itself.")] = 60.0
    retry_after_s: float | None = None
    delay_s: float | None = None
    after_events: int | None = None
    share: float | None = None


class ChaosInfo(msgspec.Struct):
    """One provider, and what it does wrong; `fault` is "" when it does nothing wrong."""

    provider: str
    simulated: bool
    fault: str
    ends_in_s: float | None
    share: float | None
    calls: int


class FaultInfo(msgspec.Struct):
    """One fault that can be switched on."""

    fault: str
    sentence: str


class ChaosList(msgspec.Struct):
    """The providers that may have a fault, and the faults there are."""

    count: int
    providers: list[ChaosInfo]
    faults: list[FaultInfo]


class ChaosHandlers:
    """The handlers."""

    def __init__(self, chaos: Chaos, budget: ByteBudget) -> None:
        self._chaos = chaos
        self._budget = budget

    async def chaos_list(self, request: Request) -> Response:  # noqa: ARG002 - every handler is given its request
        """List providers and their faults."""
        providers = [_info(state) for state in self._chaos.state()]
        faults = [FaultInfo(mode, row.sentence) for mode, row in FAULTS.items()]
        return json_response(ChaosList(len(providers), providers, faults))

    async def chaos_set(self, request: Request) -> Response:
        """Switch a fault on."""
        wanted = await read_document(request, ChaosSet, self._budget)
        numbers = {name: getattr(wanted, name) for name in ("retry_after_s", "delay_s", "after_events", "share")}
        try:
            fault = fault_named(wanted.fault, **{name: value for name, value in numbers.items() if value is not None})
        except ConfigError as error:
            details = (error.fix,) if error.fix else ()
            raise ProtocolError(_sentence(error.message), code=error.code, details=details) from None
        return json_response(_info(await self._chaos.set(request.path_parameter, fault, wanted.for_s)))

    async def chaos_clear(self, request: Request) -> Response:
        """Switch a provider's fault off."""
        return json_response(_info(await self._chaos.clear(request.path_parameter)))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _info(state: ChaosState) -> ChaosInfo:
    fault = state.fault
    return ChaosInfo(
        state.provider,
        state.simulated,
        "" if fault is None else fault.mode,
        state.ends_in_s,
        None if fault is None else fault.share,
        state.calls,
    )
