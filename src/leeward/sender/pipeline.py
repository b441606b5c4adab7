"""One client's spool, worker and counts in one process; and the end of that process.

A fork gets none of it: the child's first capture builds a pipeline of its own, and what waits in the parent's stays
the parent's. At exit all pipelines of the process share one deadline.
"""

from __future__ import annotations

import atexit
import os
from time import time_ns

from leeward.clock import SystemClock
from leeward.resilience.retry import Retry
from leeward.scrub.values import bounded, bounded_text
from leeward.sender import worker as work
from leeward.sender.given import event_id_of, level_of, timestamp_of
from leeward.sender.notes import Notes
from leeward.sender.spool import Spool
from leeward.wire.native_encode import event as encode, uuid7

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from leeward.clock import Clock
    from leeward.sender.config import Config
    from leeward.sender.results import Counts, Stats
    from leeward.sender.worker import Transport

__all__ = ["EXIT_PATIENCE_S", "EXIT_TIMEOUT_S", "Pipeline"]

EXIT_TIMEOUT_S: Final = 2.0  # for the whole process
EXIT_PATIENCE_S: Final = 0.4  # without progress, when nothing is lost by leaving
RETRY: Final = Retry(attempts_max=None, base_s=0.2, cap_s=30.0)

_alive: list[Pipeline] = []
_loading: list[None] = []  # not empty while a worker imports its transport
_hooks = [None]  # who pops it registers the hooks: an atomic step


class Pipeline:
    """See the module. Building one touches no file, thread or socket; the first event does."""

    def __init__(self, config: Config, counts: Counts, clock: Clock | None = None) -> None:
        self.pid = os.getpid()
        self.counts = counts
        self._config = config
        self._clock = clock or SystemClock()
        self._spool = Spool(config.folder, counts=counts, clock=self._clock, on_closed=self._hand_over)
        self.notes = Notes(self._clock, debug=config.debug)
        self._worker = work.Worker(
            self._spool,
            self._make_transport,
            counts=counts,
            clock=self._clock,
            retry=RETRY,
            random=os.urandom,
            notes=self.notes,
            # A child that was forked in the middle of its parent's import would wait for ever to finish that import:
            # it only keeps its events, and its parent or the next process sends them.
            may_start=not _loading,
        )
        _alive.append(self)
        _register_hooks()

    def capture(
        self,
        name: Any,
        properties: Any,
        distinct_id: Any,
        timestamp: Any,
        uuid: Any,
        session_id: Any,
        correlation_id: Any,
        level: Any,
    ) -> str | None:
        """Encode the event once, keep it, wake the worker. Its id, or None if it was dropped (and counted)."""
        now_ms = time_ns() // 1_000_000
        time = None if timestamp is None else timestamp_of(timestamp)
        event_id = (None if uuid is None else event_id_of(uuid)) or uuid7(now_ms, os.urandom(10))
        data = bounded(properties)
        encoded = encode(
            bounded_text(name) or "unnamed",
            data if type(data) is dict else {"value": data},
            id=event_id,
            timestamp_ms=now_ms if time is None else time,  # type: ignore[arg-type]  # the wire reads RFC 3339, too
            level="" if level is None else level_of(level),
            distinct_id=bounded_text(distinct_id),
            session_id="" if session_id is None else bounded_text(session_id),
            correlation_id="" if correlation_id is None else bounded_text(correlation_id),
        )
        if not self._spool.append(encoded):
            self.counts.drop("shut_down" if self._spool.closed else "no_room")
            return None
        self.counts.captured += 1
        if self._worker.idle:
            self._worker.wake()
        return event_id

    def flush(self, timeout_s: float) -> None:
        """Wait until what waits now is delivered, at most so long."""
        self._worker.drain(timeout_s)

    def retire(self, *, send: bool) -> None:
        """Come to an end without anybody waiting: `send` what can be sent at once, or nothing more."""
        self._worker.retire(work.FAILED if send else work.NOW)

    def finish(self, timeout_s: float) -> None:
        """Come to an end: send what waits, at most `timeout_s`; in durable mode leave as soon as nothing moves."""
        volatile = self._spool.volatile()
        self._worker.retire(work.DRAINED if volatile else work.FAILED)
        self._worker.wait_ended(timeout_s, patience_s=None if volatile else EXIT_PATIENCE_S)

    def waiting(self) -> int:
        """How many events are not settled."""
        return self._worker.waiting()

    def stats(self) -> Stats:
        """A snapshot of the counts."""
        return self.counts.snapshot(spooled=self.waiting(), stopped=self._worker.stopped)

    def look_again(self, folder: str) -> None:
        """There may be something new to adopt in this folder."""
        if folder == self._config.folder:
            self._worker.look_again()

    def abandon(self) -> None:
        """In a forked child: give back what was inherited, without a word to the server or the disk."""
        self._worker.abandon()
        self._spool.abandon()

    def _hand_over(self) -> None:
        """What this one leaves may be adopted: by another pipeline of this process, if one sends to the same place."""
        _alive[:] = [other for other in _alive if other is not self]
        for other in tuple(_alive):
            other.look_again(self._config.folder)

    def _make_transport(self, on_progress: Callable[[], None]) -> Transport:
        _loading.append(None)
        try:
            from leeward.sender.transport import HttpTransport  # the worker's thread pays for http.client
        finally:
            _loading.pop()
        return HttpTransport(self._config, self._clock, on_progress)


def _register_hooks() -> None:
    try:
        _hooks.pop()
    except IndexError:
        return
    atexit.register(_at_exit)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def _at_exit() -> None:
    clock = SystemClock()
    deadline_s = clock.monotonic_s() + EXIT_TIMEOUT_S
    for pipeline in tuple(_alive):
        if pipeline.pid == os.getpid():
            try:
                pipeline.finish(max(0.0, deadline_s - clock.monotonic_s()))
            except Exception:
                # Boundary: the program's end is not the place to report a defect of ours; the spool has the events.
                pipeline.counts.last_error = "internal: at exit"


def _after_fork() -> None:
    """In the child: nothing but giving back; no lock, no log, no thread."""
    pipelines = tuple(_alive)
    _alive.clear()
    for pipeline in pipelines:
        pipeline.abandon()
