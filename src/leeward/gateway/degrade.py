"""What stands in for an answer when no provider gives one: step by step, as the route says, each saying what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from leeward.gateway.sentences import sentence
from leeward.wire.chat import BadAnswer
from leeward.wire.openai_requests import without_tools
from leeward.wire.openai_whole import assemble, static_answer, with_x_leeward

if TYPE_CHECKING:
    from leeward.gateway.core import Core
    from leeward.gateway.plan import Verdict
    from leeward.gateway.records import Caller, Degraded
    from leeward.gateway.run import Run
    from leeward.gateway.targets import Route, Target
    from leeward.wire.chat import ChatRequest

__all__ = ["NOBODY", "Substitute", "degraded_answer"]

NOBODY: Final = "none"


class Substitute(msgspec.Struct, frozen=True):
    """What was found. `body` is a whole answer; None: the answer has been streamed, all but its end."""

    step: Degraded
    body: bytes | None = None
    provider: str = NOBODY
    age_s: float | None = None
    verdict: Verdict | None = None  # of the calls that the step made

    def note(self, attempts: int) -> dict[str, Any]:
        """What the body says of itself under `x_leeward`."""
        note: dict[str, Any] = {"degraded": self.step, "provider": self.provider, "attempts": attempts}
        if self.age_s is not None:
            note["age_s"] = round(self.age_s, 1)
        return note


async def degraded_answer(
    core: Core, run: Run, route: Route, request: ChatRequest, caller: Caller, verdict: Verdict
) -> Substitute | None:
    """Go through the route's steps. None: there is none, or the fault is the caller's own."""
    if verdict.kind in {"refused", "cancelled", "cut"} or request.operation != "chat":
        return None
    for step in route.fallback:
        if step in {"cache", "stale-cache"}:
            found = _kept(core, run, step, request, caller)
        elif step == "smaller-model":
            found = await _asked(core, run, step, _smaller(run, route), request)
        elif step == "reduced":
            found = await _asked(core, run, step, route.targets, _reduced(request))
        else:
            found = _static(core, run, route, caller)
        if found is not None:
            return found
    return None


def _kept(core: Core, run: Run, step: Degraded, request: ChatRequest, caller: Caller) -> Substitute | None:
    kept = core.cache.get(core.cache.key(caller.tenant, request), core.clock.monotonic_s(), stale=step == "stale-cache")
    if kept is None:
        return None
    try:
        body = assemble(kept.body) if kept.is_stream else kept.body
    except BadAnswer:  # good enough to be passed on piece by piece, not to be put together
        return None
    return _noted(Substitute(step, body, NOBODY, kept.age_s), run)


async def _asked(
    core: Core, run: Run, step: Degraded, targets: tuple[Target, ...], request: ChatRequest | None
) -> Substitute | None:
    """Ask providers for something easier. They have what is left of the time."""
    if request is None or not targets or core.clock.monotonic_s() >= run.deadline_s:
        return None
    verdict = await core.ask(run, targets, request, degraded=step)
    if verdict.kind == "cut":
        return Substitute(step, None, verdict=verdict)
    if verdict.kind != "ok":
        return None
    assert verdict.last is not None
    assert verdict.target is not None
    answer = verdict.last.answer
    assert answer is not None
    provider = verdict.target.provider.name
    if run.sink is not None:
        return Substitute(step, None, provider, verdict=verdict)
    return _noted(Substitute(step, answer.body, provider, verdict=verdict), run)


def _smaller(run: Run, route: Route) -> tuple[Target, ...]:
    smaller = run.routes.by_model.get(route.smaller_model)
    return () if smaller is None else smaller.targets


def _reduced(request: ChatRequest) -> ChatRequest | None:
    """The request without tools; None if it has none: the same would be asked again."""
    return without_tools(request) if request.needs.tools else None


def _static(core: Core, run: Run, route: Route, caller: Caller) -> Substitute:
    text = route.static_answer or sentence("static", caller.language or run.routes.settings.language)
    answer_id = f"chatcmpl-{caller.request_id}"
    return _noted(Substitute("static", static_answer(text, route.model, answer_id, core.clock.wall_ms() // 1000)), run)


def _noted(substitute: Substitute, run: Run) -> Substitute:
    assert substitute.body is not None
    body = with_x_leeward(substitute.body, substitute.note(len(run.record.attempts)))
    return msgspec.structs.replace(substitute, body=body)
