"""From settings to what a request needs: providers with everything prepared, and routes with who may answer, in order.

One `Routes` is one reading of the configuration and never changes. A request keeps the one it began with, so that a
reload cannot mix two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from leeward.errors import ConfigError
from leeward.gateway.origin import Endpoint, Origin
from leeward.gateway.providers import KINDS
from leeward.resilience.retry import Retry
from leeward.settings.gateway import Model, Route as RouteSettings

if TYPE_CHECKING:
    from leeward.gateway.providers import Kind
    from leeward.settings.gateway import Fallback, Gateway, Provider as ProviderSettings
    from leeward.wire.chat import ChatRequest, Operation
    from leeward.wire.dialect import Dialect

__all__ = ["Provider", "Route", "Routes", "Target", "routes_of"]

BYTES_PER_TOKEN_HIGH: Final = 6  # a prompt is held to be too long only when it surely is


class Provider:
    """One provider, as configured: its address, its key within ready header lines, its time-outs."""

    __slots__ = ("api_key", "connect_timeout_s", "endpoint", "headers", "kind", "name", "repeatable", "stall_timeout_s")

    def __init__(
        self, settings: ProviderSettings, gateway: Gateway, *, address: str = "", before: Provider | None = None
    ) -> None:
        kind = KINDS.get(settings.kind)
        if kind is None:
            raise ConfigError(f"provider {settings.name} is of an unknown kind {settings.kind}")
        self.name = settings.name
        self.kind: Kind = kind
        origin = Origin.of(address or settings.base_url or kind.base_url, where=f"gateway.providers.{settings.name}")
        self.endpoint = Endpoint(origin, settings.private, settings.connections_max)
        if before is not None and _leads_to_the_same(before.endpoint, self.endpoint):
            self.endpoint = before.endpoint  # its connections are kept
        self.headers = kind.header_block(settings.api_key)
        self.api_key = settings.api_key
        self.repeatable = settings.repeatable
        self.connect_timeout_s = settings.connect_timeout_s or gateway.connect_timeout_s
        self.stall_timeout_s = settings.stall_timeout_s or gateway.stall_timeout_s

    @property
    def dialect(self) -> Dialect:
        """How it is spoken to."""
        return self.kind.dialect

    def path(self, operation: Operation) -> bytes:
        """What a call of that operation asks for."""
        return (self.endpoint.origin.path + self.kind.dialect.path(operation)).encode()

    def __repr__(self) -> str:
        return f"Provider({self.name!r})"


class Target:
    """One model of one provider. Two of them are the same to the circuits if provider, address, key and model are."""

    __slots__ = (
        "account",
        "circuit_key",
        "context_tokens",
        "first_token_s",
        "images",
        "input_price",
        "json_schema",
        "model",
        "output_price",
        "paths",
        "provider",
        "tools",
    )

    def __init__(self, provider: Provider, model: Model, first_token_s: float) -> None:
        self.provider = provider
        self.model = model.name
        self.first_token_s = first_token_s
        self.context_tokens = model.context_tokens
        self.tools = model.tools and provider.kind.tools
        self.images = model.images and provider.kind.images
        self.json_schema = model.json_schema and provider.kind.json_schema
        self.input_price = model.input_price
        self.output_price = model.output_price
        self.paths: dict[Operation, bytes] = {
            "chat": provider.path("chat"),
            "embeddings": provider.path("embeddings"),
        }
        origin = provider.endpoint.origin
        self.account = (provider.name, f"{origin.scheme}://{origin.authority}{origin.path}", provider.api_key)
        self.circuit_key = (*self.account, model.name)

    @property
    def repeatable(self) -> bool:
        """Whether a call whose body has left may be sent to it again."""
        return self.provider.repeatable

    def lacks(self, request: ChatRequest) -> str:
        """What it cannot do of what a request needs, in the word of the request's field; "" if it can do all."""
        needs = request.needs
        if needs.tools and not self.tools:
            return "tools"
        if needs.images and not self.images:
            return "images"
        if needs.json_schema and not self.json_schema:
            return "response_format"
        if self.context_tokens is not None and needs.prompt_bytes > self.context_tokens * BYTES_PER_TOKEN_HIGH:
            return "messages"
        return self.provider.kind.lacks(request)

    def __repr__(self) -> str:
        return f"Target({self.provider.name}, {self.model})"


class Route:
    """A model that callers may ask for."""

    __slots__ = ("deadline_s", "fallback", "model", "smaller_model", "static_answer", "targets")

    def __init__(self, settings: RouteSettings, targets: tuple[Target, ...], deadline_s: float) -> None:
        self.model = settings.model
        self.targets = targets
        self.fallback: tuple[Fallback, ...] = settings.fallback
        self.smaller_model = settings.smaller_model
        self.static_answer = settings.static_answer
        self.deadline_s = settings.deadline_s or deadline_s

    @property
    def keeps_answers(self) -> bool:
        """Whether a good answer may be needed later."""
        return "cache" in self.fallback or "stale-cache" in self.fallback


class Routes:
    """All of one configuration."""

    __slots__ = ("by_model", "providers", "retry", "settings")

    def __init__(self, settings: Gateway, providers: Mapping[str, Provider], by_model: Mapping[str, Route]) -> None:
        retry = settings.retry
        self.settings = settings
        self.retry = Retry(
            attempts_max=retry.max_attempts,
            base_s=retry.base_s,
            cap_s=max(retry.base_s, retry.cap_s),
            retry_after_max_s=retry.retry_after_max_s,
        )
        self.providers = providers
        self.by_model = by_model

    def targets(self) -> Iterator[Target]:
        """All, each once or more."""
        for route in self.by_model.values():
            yield from route.targets


def routes_of(settings: Gateway, addresses: Mapping[str, str] | None = None, before: Routes | None = None) -> Routes:
    """Prepare everything. *addresses* has the base addresses of providers that run in this process.

    Providers that are as in *before* keep their connections.

    Raises:
        ConfigError: a provider's address may not be called, or its key cannot stand in a header.
    """
    providers: dict[str, Provider] = {}
    targets: dict[str, dict[str, Target]] = {}
    for each in settings.providers:
        provider = Provider(
            each,
            settings,
            address=(addresses or {}).get(each.name, ""),
            before=None if before is None else before.providers.get(each.name),
        )
        providers[each.name] = provider
        default_s = each.first_token_timeout_s or settings.first_token_timeout_s
        for caller_model, given in each.models.items():
            model = given if isinstance(given, Model) else Model(name=given)
            target = Target(provider, model, model.first_token_timeout_s or default_s)
            targets.setdefault(caller_model, {})[each.name] = target
    routes = (_route(each, targets, settings) for each in _declared(settings, targets))
    return Routes(settings, providers, {route.model: route for route in routes})


def _leads_to_the_same(one: Endpoint, other: Endpoint) -> bool:
    return (one.origin, one.private, one.connections_max) == (other.origin, other.private, other.connections_max)


def _declared(settings: Gateway, targets: Mapping[str, object]) -> tuple[RouteSettings, ...]:
    """The routes as configured; without any, each model of any provider is one."""
    return settings.routes or tuple(RouteSettings(model=model) for model in targets)


def _route(settings: RouteSettings, targets: Mapping[str, Mapping[str, Target]], gateway: Gateway) -> Route:
    having = targets.get(settings.model, {})
    names = settings.providers or tuple(having)
    return Route(settings, tuple(having[name] for name in names if name in having), gateway.deadline_s)
