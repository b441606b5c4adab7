"""The gateway inside a server: its handlers, its word on health, and the configuration read again while it runs.

The same part serves beside the telemetry pipeline and alone (`serve --only gateway`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from leeward.errors import ConfigError, ProtocolError
from leeward.gateway.core import Core
from leeward.gateway.exposition import exposition
from leeward.gateway.idempotency import Idempotency
from leeward.gateway.log import AttemptLog
from leeward.gateway.metrics import GatewayMetrics
from leeward.gateway.observe import Observers
from leeward.server.chaos import ChaosHandlers
from leeward.server.chat import Chat
from leeward.server.http import Request, Response, json_response
from leeward.server.operations import PartState
from leeward.server.schemas import ProviderList
from leeward.settings.changes import changes

if TYPE_CHECKING:
    from prometheus_client import Metric

    from leeward.clock import Clock
    from leeward.gateway.circuits import ProviderStatus
    from leeward.gateway.records import AttemptRecord, Observer, RequestRecord
    from leeward.server.dispatch import Handler
    from leeward.server.http import ByteBudget
    from leeward.server.logs import Report
    from leeward.server.spend import Spend
    from leeward.settings.tree import Settings

__all__ = ["GatewayPart"]


class GatewayPart:
    """Built once; `start` and `stop` on the loop that serves."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        random: Callable[[], float],
        budget: ByteBudget,
        spend: Spend,
        report: Report,
        further: tuple[Observer, ...] = (),
        telemetry_lost: Callable[[], int] = lambda: 0,
        reports: Mapping[str, int] | None = None,
        reloads: tuple[str, ...] = ("gateway.",),
    ) -> None:
        self._reloads = reloads  # which settings a reload takes over; the others need a restart
        self._settings = settings
        self._report = report
        self._telemetry_lost = telemetry_lost
        self._reports = reports
        self.metrics = GatewayMetrics()
        self.core = Core(
            settings.gateway,
            observer=Observers(self.metrics, AttemptLog(report), Bill(spend), *further),
            clock=clock,
            random=random,
        )
        self.metrics.know(self.core.routes)
        self._idempotency = Idempotency(
            settings.gateway.idempotency_s, settings.gateway.idempotency_bytes_max, clock=clock
        )
        self._chat = Chat(
            self.core,
            budget=budget,
            body_timeout_s=settings.server.body_timeout_s,
            spend=spend,
            idempotency=self._idempotency,
        )
        self._chaos = ChaosHandlers(self.core.homes.chaos, budget)

    async def start(self) -> None:
        """Begin: simulated providers, looks at idle ones."""
        await self.core.start()

    async def stop(self) -> None:
        """Close the connections."""
        await self.core.close()

    def handlers(self) -> dict[str, Handler]:
        """By the names that the route table has for them."""
        return {
            "chat_completions": self._chat.completions,
            "chat_embeddings": self._chat.embeddings,
            "chat_models": self._chat.models,
            "chat_model": self._chat.model,
            "providers_list": self.providers_list,
            "chaos_list": self._chaos.chaos_list,
            "chaos_set": self._chaos.chaos_set,
            "chaos_clear": self._chaos.chaos_clear,
        }

    async def providers_list(self, request: Request) -> Response:  # noqa: ARG002 - every handler is given its request
        """GET /api/providers."""
        providers = self.core.providers()
        return json_response(ProviderList(len(providers), providers))

    def collect(self) -> Iterator[Metric]:
        """What `/metrics` shows of it."""
        return exposition(
            self.metrics,
            self.core.providers(),
            self.core.budget.statistics(),
            telemetry_lost=self._telemetry_lost(),
            reports=self._reports,
        )

    def state(self) -> PartState | None:
        """How the providers are, for `/health`; None without any."""
        providers = self.core.providers()
        if not providers:
            return None
        unwell = [each for each in providers if each.health != "healthy" or each.breaker != "closed"]
        down = [each for each in unwell if _is_down(each)]
        figures = {"count": float(len(providers)), "unwell": float(len(unwell))}
        cause = ", ".join(f"{each.name} is {each.health}, its breaker {each.breaker}" for each in unwell)
        if len(down) == len(providers):
            return PartState("unhealthy", "no provider answers", figures, cause=cause)
        if unwell:
            return PartState("degraded", "some providers do not answer as they should", figures, cause=cause)
        return PartState("healthy", "", figures)

    def state_of(self, provider: str) -> PartState:
        """How one provider is, for `/health?provider=`.

        Raises:
            ProtocolError: there is none of that name.
        """
        found = next((each for each in self.core.providers() if each.name == provider), None)
        if found is None:
            raise ProtocolError("There is no such provider", code="not_found", status=404)
        state = "unhealthy" if _is_down(found) else found.health
        return PartState(state)  # type: ignore[arg-type]

    async def reload(self, load: Callable[[], Settings]) -> Settings | None:
        """Read the configuration again and go over to it whole; None: report why not, and keep the old one."""
        try:
            fresh = load()
            self._check_not_emptied(fresh)
            await self.core.reload(fresh.gateway)
        except ConfigError as error:
            self._report(
                "reload_refused",
                {"reason": error.message, "path": error.where, "fix": error.fix, "kept": "the old one"},
            )
            return None
        self.metrics.know(self.core.routes)
        said = changes(self._settings, fresh)
        self._idempotency.kept_s = fresh.gateway.idempotency_s
        self._idempotency.bytes_max = fresh.gateway.idempotency_bytes_max
        self._settings = fresh
        needs_restart = [line for line in said if not line.startswith(self._reloads)]
        self._report("reloaded", {"changes": said, "need_a_restart": needs_restart})
        return fresh

    def _check_not_emptied(self, fresh: Settings) -> None:
        """A file that is read while it is written may be empty: that takes nobody's service away."""
        fix = "was the file half-written? send SIGHUP again; to serve nobody, stop the server"
        if self._settings.gateway.providers and not fresh.gateway.providers:
            raise ConfigError("there is no provider any more", fix=fix)
        if "server.keys." in self._reloads and self._settings.server.keys and not fresh.server.keys:
            raise ConfigError("there is no key any more", fix=fix)


class Bill:
    """An observer that counts what each key's requests cost, however they ended."""

    def __init__(self, spend: Spend) -> None:
        self._spend = spend

    def attempted(self, request: RequestRecord, attempt: AttemptRecord, why: str) -> None:
        """Nothing: its request tells."""

    def ended(self, request: RequestRecord) -> None:
        """A request has ended, in an answer, in an error, or because its caller left."""
        if request.attempts:
            self._spend.count(request.caller.key_id, request.tokens, request.cost)

    def changed(self, provider: str, model: str, what: str, state: str, why: str) -> None:
        """Nothing: that costs no key anything."""


def _is_down(provider: ProviderStatus) -> bool:
    """Whether none of its models can be asked: one wrong name among them takes nobody out."""
    return bool(provider.models) and all(
        model.breaker == "open" or model.health == "unhealthy" for model in provider.models
    )
