"""Calls that must type-check: fault tolerance around functions. Read by mypy only; nothing here runs."""

from __future__ import annotations

from leeward.resilience import CircuitBreaker, Fallback, Health, Result, Retry, RetryBudget, policy

breaker = CircuitBreaker(open_s=10.0, slow_s=2.0, name="search", on_change=lambda before, after, why: None)
patient = policy(Fallback(lambda text: text), Retry(deadline_s=20.0), breaker, budget=RetryBudget())


@patient
def ask(text: str) -> int:
    return len(text)


@breaker
async def ask_later(text: str, *, twice: bool = False) -> int:
    return len(text) * (2 if twice else 1)


number: int = ask("hi")
same: int = patient.call_sync(ask, "hi")
result: Result[int] = patient.result_sync(ask, "hi")
healthy: bool = Health().state(0.0) == "healthy"


async def main() -> int:
    with breaker.guard(last=True):
        pass
    return await ask_later("hi", twice=True) + await patient.call(ask_later, "hi") + await patient.call(ask, "hi")


ask(3)  # type: ignore[arg-type]
patient.call_sync(ask, 3)  # type: ignore[arg-type]
