"""For the tests of programs that use leeward: see what they capture, or keep them quiet; a provider that can be broken.

    with capture_events() as events:
        sign_up("ada")
    assert events[0]["event"] == "signup"

    with FakeProvider() as provider:
        provider.fault = "503"
        chat(base_url=provider.base_url)

Promises  within a block there is no thread, file or socket of the client's, whatever `init`, the environment or a fork
          say; it works without a key and under LEEWARD_DISABLED. Blocks nest, also in each other. Afterwards the client
          is what it was, and so is the context (`set_context`). What `init` did within a block holds afterwards.
Limits    a block is for the whole process, not for one thread or task. Within `capture_events` nothing is sampled out;
          `before_send` is asked. Only `client.disabled = True` within the block switches capturing off, for the block.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from leeward.clock import SystemClock
from leeward.sender import api
from leeward.sender.client import Client
from leeward.sender.context import CURRENT
from leeward.sender.notes import Notes
from leeward.sender.pipeline import Pipeline
from leeward.sender.results import Counts
from leeward.sender.sampling import Sampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Final, Self

    from leeward.gateway.faults import Fault
    from leeward.gateway.simulated import Received
    from leeward.sender.results import Stats

__all__ = ["FakeProvider", "capture_events", "quiet"]

DEVICE_ID: Final = "test-device"
# What an event of `capture_events` always has.
_ABSENT: Final[dict[str, Any]] = {
    "level": "",
    "distinct_id": "",
    "session_id": "",
    "device_id": "",
    "correlation_id": "",
    "trace_id": "",
    "span_id": "",
    "parent_span_id": "",
    "duration_ms": None,
    "value": None,
    "unit": "",
    "status": "",
    "error": None,
}


@contextmanager
def capture_events(client: Client | None = None) -> Iterator[list[dict[str, Any]]]:
    """A `with` block that yields a list, to which each event is added when it is captured.

    Args:
        client: Whose events; else those of `leeward.client`.

    Yields:
        Events as dicts: `event` (the name), `kind` (event, exception, span, log, metric), `properties` as they would be
        sent, `id`, `timestamp` (milliseconds), `level`, `distinct_id`, `session_id`, `device_id`, `correlation_id`,
        `trace_id`, `span_id`, `parent_span_id`, `duration_ms`, `value`, `unit`, `status`, `error`. What an event does
        not have is empty or None.
    """
    events: list[dict[str, Any]] = []
    with _replaced(client or api.client, _Collector(events, client or api.client)):
        yield events


@contextmanager
def quiet(client: Client | None = None) -> Iterator[None]:
    """A `with` block in which nothing is captured: for a fixture that keeps a whole test run quiet.

        @pytest.fixture(autouse=True, scope="session")
        def no_telemetry():
            with leeward.testing.quiet():
                yield

    Args:
        client: Who is quiet; else `leeward.client`.
    """
    with _replaced(client or api.client, None):
        yield


@contextmanager
def _replaced(client: Client, collector: _Collector | None) -> Iterator[None]:
    """The client captures into `collector`, or nothing without one.

    For the block the client is of another class, whose two decisive fields say so. Everything else of it works on as it
    is; that holds for `init`, too, which may run in the block and writes the client's own fields.
    """
    former, context = type(client), CURRENT.get()
    client.__class__ = type(former.__name__, (former,), {"__slots__": (), **_fields(collector)})
    try:
        yield
    finally:
        client.__class__ = former
        CURRENT.set(context)


def _fields(collector: _Collector | None) -> dict[str, property]:
    """What differs in a client whose events end in the collector, or that is off, whatever it is told."""
    if collector is None:
        return {"_off": _field("_off", lambda: True), "disabled": property(lambda _: True, lambda *_: None)}
    return {
        "_counts": _field("_counts", lambda: collector.counts),
        "_off": _field("_off", lambda: collector.off),
        "_pipeline": _field("_pipeline", lambda: collector),
        "disabled": property(lambda _: collector.off, lambda _, value: collector.switch(off=bool(value))),
    }


def _field(name: str, value: Callable[[], Any]) -> property:
    """What reads as `value()`; what is written goes where it belongs, and counts after the block."""
    return property(lambda _: value(), getattr(Client, name).__set__)


class _Collector(Pipeline):
    """A pipeline that ends in a list: events take the real way up to their encoding."""

    def __init__(self, events: list[dict[str, Any]], client: Client) -> None:
        # Not the base class's: no worker, no spool, nothing to do at exit.
        self.counts = Counts()
        self.notes = Notes(SystemClock(), debug=False)
        self.off = False
        self._asking = {}
        self._client = client
        self._device_id = DEVICE_ID
        self._encode = self._collect
        self._events = events
        self._sampler = Sampler()
        self._service = ""
        self._spool: Any = _Nowhere()

    @property
    def pid(self) -> int:  # type: ignore[override]  # the base class's never changes, this one does
        """Of any process: a child that is forked within the block collects, too, and sends nothing."""
        return os.getpid()

    @property
    def _before_send(self) -> Any:  # type: ignore[override]  # of the client as it is now: `init` may run in the block
        config = self._client._config
        return None if config is None else config.before_send

    def _collect(self, kind: str, name: str, properties: dict[str, Any], **fields: Any) -> tuple[int, bytes]:
        fields["timestamp"] = fields.pop("timestamp_ms")
        del fields["service"]  # of the whole program, and not of the event
        self._events.append({"event": name, "kind": kind, **_ABSENT, **fields, "properties": properties})
        return 0, b""

    def switch(self, *, off: bool) -> None:
        """`client.disabled` was set."""
        self.off = off

    def _kept(self, event_id: str, **_: bool) -> str:
        self.counts.captured += 1
        return event_id

    def reset_device_id(self) -> str:
        """There is only the one."""
        return DEVICE_ID

    def waiting(self) -> int:
        """Nothing ever waits."""
        return 0

    def delete_pending(self, *_: object) -> int:
        """Nothing waits that could be deleted."""
        return 0

    def stats(self) -> Stats:
        """What was captured within the block."""
        return self.counts.snapshot(spooled=0, stopped=False)

    def _nothing(self, *_: Any, **__: Any) -> None:
        """There is nothing to send, to wake or to end."""

    flush = flush_soon = nudge = retire = finish = _nothing


class _Nowhere:
    """In the place of a spool."""

    def append(self, *_: object, **__: object) -> bool:
        """Everything is taken, nothing is kept."""
        return True


class FakeProvider:
    """An AI provider on 127.0.0.1 that says what tests need, and fails as they wish. A `with` block runs it.

    It speaks Chat Completions (whole, streamed, with tools), embeddings and the list of models, in a thread of its own,
    so that programs of any kind can call it. Needs the extra `gateway`.
    """

    def __init__(
        self, name: str = "fake", *, seed: int = 0, words: int = 24, models: tuple[str, ...] = ("fake",)
    ) -> None:
        """
        Args:
            name: Stands in its answers.
            seed: The same seed and the same messages give the same words.
            words: How many words it says; in a stream each is an event.
            models: What it lists. It answers for any model.

        Raises:
            ImportError: the extra is not installed.
        """
        try:
            from leeward.gateway.simulated import SimulatedProvider  # noqa: PLC0415 - of an extra; most tests need none
        except ModuleNotFoundError as error:
            raise ImportError(
                f'FakeProvider needs {error.name}: pip install "leeward[gateway]"', name=error.name
            ) from error

        self._provider = SimulatedProvider(name, seed=seed, words=words, models=models)
        self._stop: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        import asyncio  # noqa: PLC0415 - the other helpers of this module do without
        import threading  # noqa: PLC0415 - as above

        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name=f"leeward-{self._provider.name}", daemon=True)

        def stop() -> None:
            asyncio.run_coroutine_threadsafe(self._provider.stop(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

        thread.start()
        asyncio.run_coroutine_threadsafe(self._provider.start(), loop).result()
        self._stop = stop
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def base_url(self) -> str:
        """Its address, as a `base_url` is written."""
        return self._provider.base_url

    @property
    def fault(self) -> Fault | None:
        """What it does wrong from the next call on; None: nothing. Set it to a `Fault`, or to the name of one."""
        return self._provider.fault

    @fault.setter
    def fault(self, fault: Fault | str | None) -> None:
        self._provider.fault = fault

    @property
    def calls(self) -> int:
        """Calls for chat or embeddings so far, whatever became of them."""
        return self._provider.calls

    @property
    def cancelled(self) -> int:
        """Answers whose caller left before they were whole."""
        return self._provider.cancelled

    @property
    def received(self) -> list[Received]:
        """The latest 100 requests: `method`, `path`, `headers`, `body`, `header(name)`."""
        return list(self._provider.received)
