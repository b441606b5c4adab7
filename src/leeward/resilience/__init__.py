"""Fault tolerance for any function, sync or async: standard library only, usable alone.

Names only; each is loaded when it is first asked for, since the client needs but one of these modules.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from leeward.resilience.breaker import Breaker, BreakerRules
    from leeward.resilience.budget import RetryBudget
    from leeward.resilience.circuit_breaker import CircuitBreaker
    from leeward.resilience.composition import Policy, policy
    from leeward.resilience.fallback import Fallback, Result
    from leeward.resilience.health import Health
    from leeward.resilience.retry import Retry

__all__ = [
    "Breaker",
    "BreakerRules",
    "CircuitBreaker",
    "Fallback",
    "Health",
    "Policy",
    "Result",
    "Retry",
    "RetryBudget",
    "policy",
]

_HOMES = {
    "Breaker": "breaker",
    "BreakerRules": "breaker",
    "CircuitBreaker": "circuit_breaker",
    "Fallback": "fallback",
    "Health": "health",
    "Policy": "composition",
    "Result": "fallback",
    "Retry": "retry",
    "RetryBudget": "budget",
    "policy": "composition",
}


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only for who asks for a name

    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
