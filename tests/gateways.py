"""Gateways in this process with scripted providers behind them, on real sockets; each test ends with nothing left over."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from leeward.clock import SystemClock
from leeward.gateway.core import Answered, Core
from leeward.gateway.records import AttemptRecord, Caller, RequestRecord
from leeward.gateway.simulated import SimulatedProvider
from leeward.settings.gateway import Gateway as Settings
from leeward.wire.chat import ChatRequest
from leeward.wire.openai_requests import RequestLimits, decode_request

LIMITS = RequestLimits(8, 200_000, 20 << 20)
QUICK = {"base_s": 0.0, "cap_s": 0.0}  # repeats come at once: what is tested is whether, not when
STILL = {"active": False}  # nobody looks at idle providers


class Notes:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.attempts: list[AttemptRecord] = []
        self.requests: list[RequestRecord] = []
        self.changes: list[tuple[str, str, str, str, str]] = []
        self.whys: list[str] = []

    def attempted(self, request: RequestRecord, attempt: AttemptRecord, why: str) -> None:
        del request
        self.attempts.append(attempt)
        self.whys.append(why)

    def ended(self, request: RequestRecord) -> None:
        self.requests.append(request)

    def changed(self, provider: str, model: str, what: str, state: str, why: str) -> None:
        self.changes.append((provider, model, what, state, why))

    @property
    def outcomes(self) -> list[str]:
        """What came of each call."""
        return [attempt.outcome for attempt in self.attempts]


class Gathered:
    """A sink that keeps what it gets. `has_room` says whether its reader keeps up."""

    def __init__(self) -> None:
        self.on_room: Callable[[], None] = lambda: None
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.ended = 0
        self.has_room = True
        self.on_data: Callable[[bytes], None] = lambda _: None

    def head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        assert not self.status, "one head"
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in headers}

    def data(self, data: bytes) -> bool:
        assert self.status, "the head comes first"
        assert not self.ended, "nothing comes after the end"
        self.pieces.append(data)
        self.on_data(data)
        return self.has_room

    def end(self) -> None:
        self.ended += 1

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def events(self) -> list[bytes]:
        """The data of each event."""
        return data_of_all(self.body)

    @property
    def text(self) -> str:
        """What was said."""
        return text_of(self.body)

    @property
    def is_done(self) -> bool:
        """Whether it says that the answer is whole."""
        return self.ended == 1 and self.events[-1:] == [b"[DONE]"]

    @property
    def error(self) -> dict[str, Any]:
        """The error event, {} if there is none."""
        told = [json.loads(event) for event in self.events if event != b"[DONE]"]
        return next((event["error"] for event in told if "error" in event), {})


def data_of_all(body: bytes) -> list[bytes]:
    assert body.endswith(b"\n\n") or not body
    return [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event.startswith(b"data: ")]


def text_of(body: bytes) -> str:
    said = ""
    for event in data_of_all(body):
        if event != b"[DONE]":
            for choice in json.loads(event).get("choices", ()):
                said += choice["delta"].get("content") or ""
    return said


class Permits:
    """Stands before the circuits and counts: each permit is settled exactly once."""

    def __init__(self, core: Core) -> None:
        circuits = core.circuits
        self.open = 0
        admit, force, settle = circuits.admit, circuits.force, circuits.settle

        def admit_counted(target, now_s):
            admission = admit(target, now_s)
            self.open += admission.permit is not None
            return admission

        def force_counted(targets, now_s):
            forced = force(targets, now_s)
            self.open += forced is not None
            return forced

        def settle_counted(target, permit, outcome):
            self.open -= 1
            settle(target, permit, outcome)

        circuits.admit, circuits.force, circuits.settle = admit_counted, force_counted, settle_counted


def settings_of(*providers: dict[str, Any], **settings: Any) -> Settings:
    """The section `[gateway]`; a route `chat` to all of them unless there are `routes`."""
    settings.setdefault("health", STILL)
    settings["retry"] = {**QUICK, **settings.get("retry", {})}
    return msgspec.convert({"providers": providers, **settings}, Settings)


def row_of(provider: SimulatedProvider, **row: Any) -> dict[str, Any]:
    """A row of the configuration that leads to it, as to a real provider."""
    return {
        "name": provider.name,
        "kind": "openai",
        "base_url": provider.base_url,
        "api_key": f"sk-{provider.name}",
        "models": {"chat": f"{provider.name}-large"},
        **row,
    }


def request_of(model: str = "chat", text: str = "hello", *, operation: Any = "chat", **fields: Any) -> ChatRequest:
    """A request as its decoder gives it."""
    if operation == "embeddings":
        body: dict[str, Any] = {"model": model, "input": text, **fields}
    else:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    return decode_request(msgspec.json.encode(body), operation, LIMITS)


class Rig:
    """A core, the providers behind it, and what was noted."""

    def __init__(self, core: Core, notes: Notes, providers: dict[str, SimulatedProvider]) -> None:
        self.core = core
        self.notes = notes
        self.providers = providers
        self.permits = Permits(core)
        self._number = 0

    def __getitem__(self, name: str) -> SimulatedProvider:
        return self.providers[name]

    @property
    def calls(self) -> int:
        """On the wire, to all of them."""
        return sum(provider.calls for provider in self.providers.values())

    def caller(self, tenant: str = "") -> Caller:
        self._number += 1
        return Caller(f"req_{self._number}", tenant)

    async def ask(self, request: ChatRequest | None = None, *, tenant: str = "", **fields: Any) -> Answered:
        return await self.core.respond(request or request_of(**fields), self.caller(tenant))

    async def stream(
        self, request: ChatRequest | None = None, *, tenant: str = "", sink: Gathered | None = None, **fields: Any
    ) -> Gathered:
        sink = sink or Gathered()
        await self.core.respond_stream(request or request_of(stream=True, **fields), self.caller(tenant), sink)
        return sink

    async def answer(self, *, stream: bool, **fields: Any) -> tuple[str, str, dict[str, str]]:
        """Text, provider and headers of an answer, in either way."""
        if stream:
            sink = await self.stream(**fields)
            assert sink.is_done
            return sink.text, sink.headers["x-leeward-provider"], sink.headers
        answered = await self.ask(**fields)
        message = json.loads(answered.body)["choices"][0]["message"]
        headers = {name.decode(): value.decode() for name, value in answered.headers()}
        return message["content"], answered.provider, headers

    @property
    def transport(self) -> Any:
        return self.core.homes.running().transport

    async def assert_still(self) -> None:
        """No call is under way, no permit is out, no task waits."""
        await settled(lambda: self.transport.statistics().open == self.transport.statistics().idle)
        assert self.permits.open == 0
        assert [task for task in asyncio.all_tasks() if _is_ours(task)] == []


@contextlib.asynccontextmanager
async def rig(
    *names: str,
    rows: dict[str, dict[str, Any]] | None = None,
    clock: Any = None,
    random: Callable[[], float] = lambda: 0.5,
    provider: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """A core before providers of these names; `rows` adds to their rows of the configuration."""
    providers = {
        name: SimulatedProvider(name, seed=place, **(provider or {})) for place, name in enumerate(names or ("a", "b"))
    }
    async with contextlib.AsyncExitStack() as stack:
        for each in providers.values():
            await stack.enter_async_context(each)
        listed = [row_of(each, **(rows or {}).get(name, {})) for name, each in providers.items()]
        notes = Notes()
        core = Core(settings_of(*listed, **settings), observer=notes, clock=clock or SystemClock(), random=random)
        found = Rig(core, notes, providers)
        await core.start()
        try:
            yield found
            await found.assert_still()
        finally:
            await core.close()


def _is_ours(task: asyncio.Task[Any]) -> bool:
    """Not the looks at health, nor the scripted servers', which hear of our end a little later."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "/leeward/" in code.co_filename and code.co_name != "_look"


async def settled(condition: Callable[[], object], *, within_s: float = 10.0) -> None:
    """Let the loop go on until this holds."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - anything may be waited for
            await asyncio.sleep(0.001)
