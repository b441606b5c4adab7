"""One client's spool, worker and counts in one process; and the end of that process.

A fork gets none of it: the child's first event builds a pipeline of its own, and what waits in the parent's stays
the parent's. At exit all pipelines of the process share one deadline.
"""

from __future__ import annotations

import atexit
import os
from _thread import get_ident
from time import time_ns

from leeward.clock import SystemClock
from leeward.resilience.retry import Retry
from leeward.scrub.values import bounded, bounded_text
from leeward.sender import device, hook, worker as work
from leeward.sender.context import CURRENT, EMPTY
from leeward.sender.given import event_id_of, level_of, sorted_out, timestamp_of
from leeward.sender.loading import LOADING
from leeward.sender.notes import Notes
from leeward.sender.plan import Policy
from leeward.sender.rhythm import AGE_MIN_S, Rhythm
from leeward.sender.sampling import Sampler
from leeward.sender.spool import MEMORY_BYTES_MAX, Spool
from leeward.wire import native_encode
from leeward.wire.native_encode import uuid7

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final

    from leeward.clock import Clock
    from leeward.sender.config import Config
    from leeward.sender.results import Counts, Stats
    from leeward.sender.worker import Transport

__all__ = ["EXIT_PATIENCE_S", "EXIT_TIMEOUT_S", "Pipeline", "encoder"]

EXIT_TIMEOUT_S: Final = 2.0  # for the whole process
EXIT_PATIENCE_S: Final = 0.4  # without progress, when nothing is lost by leaving
CHILD_AGE_S: Final = 0.01
PLAIN_EVENTS_MAX: Final = 256
PLAIN_BYTES_MAX: Final = 64 * 1024 * 1024
POLICY: Final = Policy(
    Retry(attempts_max=None, base_s=0.2, cap_s=30.0), tries_max=None, timeout_s=15.0, age_s=AGE_MIN_S, adaptive=True
)
# One repeat after half a second, then the batch is dropped.
PLAIN: Final = Policy(
    Retry(attempts_max=2, base_s=0.0, cap_s=0.0), tries_max=2, wait_s=0.5, timeout_s=5.0, age_s=0.1, adaptive=False
)
MESSAGE_CHARS_MAX: Final = 65_536
LOGS_REQUEST: Final = 6  # the record type of OpenTelemetry's log exporter
ERROR_LEVELS: Final = frozenset({"ERROR", "FATAL"})

_alive: list[Pipeline] = []
_hooks = [None]  # who pops it registers the hooks: an atomic step


def encoder(wire: str) -> Callable[..., tuple[int, bytes]]:
    """The function that makes a wire's records, ready to be called. Only who sends there pays for it."""
    if wire == "posthog":
        from leeward.wire import posthog_encode

        posthog_encode.load()
        return posthog_encode.encode
    if wire == "otlp":
        from leeward.wire import otlp_encode

        otlp_encode.load()
        return otlp_encode.encode
    native_encode.load()
    return native_encode.encode


class Pipeline:
    """See the module. Building one touches no file, thread or socket; the first event does.

    `told_to_stop` is called, on the worker's thread, when the person at this machine has opted out.
    """

    def __init__(
        self,
        config: Config,
        counts: Counts,
        *,
        busy: dict[object, None] | None = None,
        idle: dict[object, None] | None = None,
        is_child: bool = False,
        clock: Clock | None = None,
        told_to_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.pid = os.getpid()
        self.counts = counts
        self.config = config
        self._clock = clock or SystemClock()
        self._encode = encoder(config.wire)
        self._sampler = Sampler(config.sample_rate, config.sample_rules)
        self._service = config.app.partition("/")[0]
        self._before_send = config.before_send
        self._asking: dict[int, None] = {}  # the threads that are in the hook just now
        self._device_id = None if config.device_id is None else bounded_text(config.device_id)
        is_plain = config.mode == "plain"
        policy = PLAIN if is_plain else POLICY
        # A forked child may be a job of some milliseconds that ends by `os._exit`: it does not wait for company at first.
        age_s = min(policy.age_s, CHILD_AGE_S) if is_child else policy.age_s
        self._rhythm = Rhythm(age_s, adaptive=policy.adaptive, busy=busy, idle=idle)
        self._spool = Spool(
            config.folder,
            counts=counts,
            clock=self._clock,
            about={"wire": config.wire, "host": config.host, "app": config.app},
            refuse_network=not config.explicit_root,
            on_closed=self._hand_over,
            memory_bytes_max=PLAIN_BYTES_MAX if is_plain else MEMORY_BYTES_MAX,
            memory_count_max=PLAIN_EVENTS_MAX if is_plain else None,
        )
        self.notes = Notes(self._clock, debug=config.debug, quiet=is_plain)
        self._worker = work.Worker(
            self._spool,
            self._make_transport,
            config=config,
            counts=counts,
            clock=self._clock,
            policy=policy,
            rhythm=self._rhythm,
            random=os.urandom,
            notes=self.notes,
            told_to_stop=told_to_stop,
            # A child that was forked in the middle of its parent's import would wait for ever to finish that import:
            # it only keeps its events, and its parent or the next process sends them.
            may_start=not LOADING.is_cut_off(),
        )
        _alive.append(self)
        _register_hooks()

    def record(
        self,
        kind: str,
        name: Any,
        properties: Any,
        *,
        distinct_id: Any = None,
        timestamp: Any = None,
        uuid: Any = None,
        session_id: Any = None,
        correlation_id: Any = None,
        level: Any = None,
        sampled: bool | None = None,
        sampled_by: str = "",
        **fields: Any,
    ) -> str | None:
        """Encode an event once, keep it, wake the worker. Its id, or None if it was dropped (and counted).

        `fields` are those that only leeward itself sets; they are bounded already. `sampled` says that this was decided
        before, `sampled_by` by what it is to be decided if there is no `distinct_id`.
        """
        now_ms = time_ns() // 1_000_000
        time = None if timestamp is None else timestamp_of(timestamp)
        event_id = (None if uuid is None else event_id_of(uuid)) or uuid7(now_ms, os.urandom(10))
        data = bounded(properties)
        if type(data) is not dict:
            data = {"value": data}
        who = bounded_text(distinct_id)
        session = "" if session_id is None else bounded_text(session_id)
        correlation = "" if correlation_id is None else bounded_text(correlation_id)
        context = CURRENT.get()
        if context is not EMPTY:
            who = who or context.distinct_id
            session = session or context.session_id
            correlation = correlation or context.correlation_id
            if context.properties:
                data = {**context.properties, **data}
            if context.trace_id:
                fields.setdefault("trace_id", context.trace_id)
                fields.setdefault("span_id", context.span_id)
        text = bounded_text(name) or "unnamed"
        if sampled is None and kind != "exception" and not self._sampler.keeps_all:
            sampled = self._sampler.keeps(text, data, who or sampled_by or event_id)
        if sampled is False:
            self.counts.sampled_out += 1
            return None
        severity = "" if level is None else level_of(level)
        device_id = self._device_id
        if device_id is None:
            device_id = self.device_id()
        when = now_ms if time is None else time
        if self._before_send is not None:
            changed = self._asked(
                kind, text, data, id=event_id, timestamp_ms=when, level=severity, distinct_id=who, session_id=session,
                correlation_id=correlation, **fields
            )  # fmt: skip
            if changed is None:
                return None
            text, data, values = changed
            event_id, severity = values["id"], values["level"]
            record_type, encoded = self._encode(kind, text, data, device_id=device_id, service=self._service, **values)
        else:
            record_type, encoded = self._encode(
                kind, text, data, id=event_id, timestamp_ms=when, level=severity, distinct_id=who, session_id=session,
                device_id=device_id, correlation_id=correlation, service=self._service, **fields
            )  # fmt: skip
        is_error = kind == "exception" or severity in ERROR_LEVELS
        if not self._spool.append(encoded, record_type, is_error=is_error):
            self._lose()
            return None
        return self._kept(event_id, can_wait=kind == "log" and not is_error)

    def record_kind(
        self, kind: str, name: Any, properties: Any, fields: Mapping[str, Any], keywords: Mapping[str, Any]
    ) -> str | None:
        """`record` for the rarer kinds: sorts out what the caller said, and drops what makes no event."""
        known, unknown = sorted_out(keywords)
        if unknown:
            self.notes.ignored(f"a call for a {kind}", unknown)
        data = {} if properties is None else properties
        if kind == "log":
            message = bounded_text(fields["message"], MESSAGE_CHARS_MAX)
            data = {"message": message, **(data if type(data) is dict else {"value": data})}
            fields = {key: value for key, value in fields.items() if key != "message"}
        elif kind == "metric":
            value = fields["value"]
            if type(value) not in {int, float} or value - value != 0:
                value = bounded(value)
                if type(value) not in {int, float}:
                    self.counts.drop("not_a_number")
                    return None
            fields = {**fields, "value": value, "unit": bounded_text(fields["unit"])}
        return self.record(kind, name, data, **known, **fields)

    def device_id(self) -> str:
        """The id that events carry; read, or made, once a process."""
        if self._device_id is None:
            self._device_id = device.device_id(self.config.root)
        return self._device_id

    def reset_device_id(self) -> str:
        """Take a new one; whoever sends none has none."""
        if self.config.device_id == "":
            return ""
        self._device_id = device.reset(self.config.root)
        return self._device_id

    def keep(self, record_type: int, encoded: bytes) -> bool:
        """Keep what is encoded already, as the OpenTelemetry exporters hand it over; false if it was dropped."""
        if not self._spool.append(encoded, record_type, is_error=False):
            self._lose()
            return False
        self._kept("", can_wait=record_type == LOGS_REQUEST)
        return True

    def samples(self, name: Any, properties: Any, distinct_id: Any, by: str) -> bool:
        """Whether to keep what belongs together: both ends of a pair, all spans of a trace."""
        if self._sampler.keeps_all:
            return True
        context = CURRENT.get()
        data = bounded({} if properties is None else properties)
        data = {**context.properties, **data} if type(data) is dict else context.properties
        return self._sampler.keeps(bounded_text(name), data, bounded_text(distinct_id) or context.distinct_id or by)

    def flush(self, timeout_s: float) -> None:
        """Wait until what waits now is delivered, at most so long."""
        self._worker.drain(timeout_s)

    def flush_soon(self, hint_s: float | None) -> None:
        """Send what waits now without anybody waiting for it; nothing happens if nothing waits."""
        self._rhythm.checkpoint(self._clock.monotonic_s(), hint_s, waiting=self.waiting())
        self.nudge()

    def nudge(self) -> None:
        """The rhythm has changed: look at it, if anything waits."""
        if self.waiting():
            self._worker.wake()

    def retire(self, *, send: bool, delete: bool = False) -> None:
        """Come to an end without anybody waiting: `send` what can be sent at once, or nothing more, or `delete` it."""
        self._worker.retire(work.FAILED if send else work.NOW, delete=delete)

    def finish(self, timeout_s: float) -> None:
        """Come to an end: send what waits, at most `timeout_s`; in durable mode leave as soon as nothing moves."""
        volatile = self._spool.volatile()
        self._worker.retire(work.DRAINED if volatile else work.FAILED)
        self._worker.wait_ended(timeout_s, patience_s=None if volatile else EXIT_PATIENCE_S)

    def delete_pending(self, timeout_s: float) -> int:
        """Delete what waits for this destination; how many events went."""
        return self._worker.clear(timeout_s)

    def waiting(self) -> int:
        """How many events are not settled."""
        return self._worker.waiting() + self._spool.left

    def stats(self) -> Stats:
        """A snapshot of the counts."""
        return self.counts.snapshot(spooled=self.waiting(), stopped=self._worker.stopped)

    def look_again(self, folder: str) -> None:
        """There may be something new to adopt in this folder."""
        if folder == self.config.folder:
            self._worker.look_again()

    def forked(self) -> None:
        """A child was forked: it may soon leave something behind."""
        self._worker.expect_left()

    def abandon(self) -> None:
        """In a forked child: give back what was inherited, without a word to the server or the disk."""
        self._worker.abandon()
        self._spool.abandon()

    def _kept(self, event_id: str, *, can_wait: bool) -> str:
        self.counts.captured += 1
        rhythm = self._rhythm
        if can_wait or rhythm.urgent:
            if self._worker.idle:
                self._worker.wake()
        else:  # a worker that rests on lines of a log rests too long for this
            rhythm.urgent = True
            self._worker.wake()
        return event_id

    def _lose(self) -> None:
        self.counts.lose("shut_down" if self._spool.closed else "no_room")

    def _asked(
        self, kind: str, name: str, data: dict[str, Any], **values: Any
    ) -> tuple[str, dict[str, Any], dict[str, Any]] | None:
        """What `before_send` makes of an event; None if it is not to be sent, or if the hook failed."""
        thread = get_ident()
        if thread in self._asking:  # the hook captures: to ask it about that would never end
            self.counts.drop("before_send_captured")
            return None
        self._asking[thread] = None
        try:
            changed = hook.ask(self._before_send, kind, name, data, values)  # type: ignore[arg-type]  # there is one
        except Exception:
            # Boundary: the hook is the program's; what it failed on is never sent as it was.
            self.counts.drop("before_send_failed")
            self.counts.last_error = "before_send"
            return None
        finally:
            self._asking.pop(thread, None)
        if changed is None:
            self.counts.drop("before_send")
            return None
        return (*changed, values)

    def _hand_over(self) -> None:
        """What this one leaves may be adopted: by another pipeline of this process, if one sends to the same place."""
        _alive[:] = [other for other in _alive if other is not self]
        for other in tuple(_alive):
            other.look_again(self.config.folder)

    def _make_transport(self, on_progress: Callable[[], None], timeout_s: float) -> Transport:
        with LOADING:
            from leeward.sender.transport import HttpTransport  # the worker's thread pays for it

        return HttpTransport(self.config, self._clock, on_progress, timeout_s=timeout_s)


def _register_hooks() -> None:
    try:
        _hooks.pop()
    except IndexError:
        return
    atexit.register(_at_exit)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork, after_in_parent=_after_fork_in_parent)


def _at_exit() -> None:
    clock = SystemClock()
    deadline_s = clock.monotonic_s() + EXIT_TIMEOUT_S
    for pipeline in tuple(_alive):
        if pipeline.pid == os.getpid():
            try:
                pipeline.finish(max(0.0, deadline_s - clock.monotonic_s()))
            except KeyboardInterrupt:
                return  # somebody does not want to wait; a traceback here would be ours, not the program's
            except Exception:
                # Boundary: the program's end is not the place to report a defect of ours; the spool has the events.
                pipeline.counts.last_error = "internal: at exit"


def _after_fork_in_parent() -> None:
    """The children of a server that forks may end before they have sent: then we do."""
    for pipeline in tuple(_alive):
        pipeline.forked()


def _after_fork() -> None:
    """In the child: nothing but giving back; no lock, no log, no thread."""
    pipelines = tuple(_alive)
    _alive.clear()
    for pipeline in pipelines:
        pipeline.abandon()
