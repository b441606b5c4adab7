"""What must be true between the gateway's settings, beyond each value by itself; and what is odd, though it may be meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from leeward.errors import ConfigError
from leeward.settings.gateway import Gateway, Provider, Route
from leeward.settings.nearest import closest
from leeward.settings.tree import ServerKey

__all__ = ["KIND_NAMES", "Oddity", "check_gateway", "check_keys", "warnings"]

KIND_NAMES: Final = (
    "openai",
    "mistral",
    "groq",
    "together",
    "deepseek",
    "openrouter",
    "gemini",
    "ollama",
    "vllm",
    "openai-compatible",
    "anthropic",
    "simulated",
)


class Oddity(NamedTuple):
    """Something odd: what, where, and what to do about it."""

    message: str
    where: str
    fix: str


def check_gateway(gateway: Gateway, origins: Mapping[str, str]) -> None:
    """Refuse settings that contradict each other. `origins` says where each was set.

    Raises:
        ConfigError: the first contradiction, with its place and cure.
    """
    _check_orders(gateway, origins)
    for provider in gateway.providers:
        _check_kind(provider, origins)
    for route in gateway.routes:
        _check_route(route, gateway, origins)


def check_keys(keys: tuple[ServerKey, ...], origins: Mapping[str, str]) -> None:
    """Refuse a key that is there twice: which of them would say what it may do?

    Raises:
        ConfigError: with the place of the second.
    """
    labels: dict[str, str] = {}
    for number, key in enumerate(keys, 1):
        label = key.name or str(number)
        first = labels.setdefault(key.sha256.lower(), label)
        if first != label:
            raise ConfigError(
                f"server.keys.{label} is the same key as server.keys.{first}",
                where=origins[f"server.keys.{label}.sha256"],
                fix="delete one of them",
            )


def warnings(gateway: Gateway, origins: Mapping[str, str], needs_key: Callable[[str], bool]) -> list[Oddity]:
    """What a person should look at. `needs_key`: whether a kind of provider wants a key."""
    found: list[Oddity] = []
    for provider in gateway.providers:
        found += _odd_provider(provider, gateway, origins, needs_key)
    for route in gateway.routes:
        found += _odd_route(route, gateway, origins)
    return found


def _odd_provider(
    provider: Provider, gateway: Gateway, origins: Mapping[str, str], needs_key: Callable[[str], bool]
) -> Iterator[Oddity]:
    name = f"gateway.providers.{provider.name}"
    where = origins[f"{name}.name"]
    if not provider.api_key and needs_key(provider.kind):
        cure = f'api_key = "env:{provider.kind.upper()}_API_KEY"'
        yield Oddity(f"{name} has no api_key, and {provider.kind} wants one", where, cure)
    if not provider.models:
        cure = 'models = { chat = "its own name for the model" }'
        yield Oddity(f"{name} has no models, so that nobody can ask it", where, cure)
    elif gateway.routes and not any(_answers(provider, route) for route in gateway.routes):
        cure = f'add "{provider.name}" to the providers of a route, or delete it'
        yield Oddity(f"no route uses {name}", where, cure)


def _odd_route(route: Route, gateway: Gateway, origins: Mapping[str, str]) -> Iterator[Oddity]:
    name = f"gateway.routes.{route.model}"
    if "smaller-model" in route.fallback and not route.smaller_model:
        cure = 'smaller_model = "the model of another route"'
        yield Oddity(f"{name} skips smaller-model: it names none", origins[f"{name}.fallback"], cure)
    own_name = f'models = {{ {route.model} = "its own name for it" }}'
    if not any(_answers(provider, route) for provider in gateway.providers):
        text = f"no provider has the model of {name}"
        yield Oddity(text, origins[f"{name}.model"], f"{own_name} in a provider")
        return
    for provider in gateway.providers:
        if provider.name in route.providers and route.model not in provider.models:
            text = f"{name} skips {provider.name}, which has no model {route.model}"
            yield Oddity(text, origins[f"{name}.providers"], f"{own_name} in that provider")


def _answers(provider: Provider, route: Route) -> bool:
    """Whether a route's requests can come to a provider."""
    return route.model in provider.models and (not route.providers or provider.name in route.providers)


def _check_orders(gateway: Gateway, origins: Mapping[str, str]) -> None:
    """Pairs of which one must not be larger than the other."""
    for low, low_value, high, high_value in (
        ("gateway.retry.base_s", gateway.retry.base_s, "gateway.retry.cap_s", gateway.retry.cap_s),
        ("gateway.breaker.open_s", gateway.breaker.open_s, "gateway.breaker.open_max_s", gateway.breaker.open_max_s),
        ("gateway.cache.ttl_s", gateway.cache.ttl_s, "gateway.cache.stale_s", gateway.cache.stale_s),
    ):
        if low_value > high_value:
            where = origins[low] if origins[low] != "default" else origins[high]
            raise ConfigError(
                f"{low} is {low_value:g}, which is more than {high} with {high_value:g}",
                where=where,
                fix=f"raise {high}, or lower {low}",
            )


def _check_kind(provider: Provider, origins: Mapping[str, str]) -> None:
    if provider.kind not in KIND_NAMES:
        near = closest(provider.kind, KIND_NAMES)
        known = f"known are {', '.join(KIND_NAMES)}"
        raise ConfigError(
            f'gateway.providers.{provider.name}.kind is "{provider.kind}", which is no kind of provider',
            where=origins[f"gateway.providers.{provider.name}.kind"],
            fix=f"did you mean {near}? ({known})" if near else known,
        )


def _check_route(route: Route, gateway: Gateway, origins: Mapping[str, str]) -> None:
    name = f"gateway.routes.{route.model}"
    providers = [provider.name for provider in gateway.providers]
    for wanted in route.providers:
        if wanted not in providers:
            near = closest(wanted, providers)
            raise ConfigError(
                f'{name} names the provider "{wanted}", which is not there',
                where=origins[f"{name}.providers"],
                fix=f"did you mean {near}?" if near else f'add [[gateway.providers]] with name = "{wanted}"',
            )
    for field, steps in (("providers", route.providers), ("fallback", route.fallback)):
        twice = next((step for step, count in Counter(steps).items() if count > 1), None)
        if twice is not None:
            raise ConfigError(
                f'{name}.{field} has "{twice}" twice', where=origins[f"{name}.{field}"], fix="delete one of them"
            )
    smaller, models = route.smaller_model, [other.model for other in gateway.routes if other is not route]
    if smaller and smaller not in models:
        near = closest(smaller, models)
        fix = f"did you mean {near}?" if near else f'add [[gateway.routes]] with model = "{smaller}"'
        itself = smaller == route.model
        raise ConfigError(
            f'{name}.smaller_model is "{smaller}", which is {"the route itself" if itself else "no route"}',
            where=origins[f"{name}.smaller_model"],
            fix="name another route" if itself else fix,
        )
