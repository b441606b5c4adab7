"""The client: what a program calls. Everything here is safe to call from anywhere, at any time.

Promises  no call raises (KeyboardInterrupt and SystemExit pass), waits for a lock or the network, prints, or changes an
          exit code; `flush`, `shutdown` and `delete_pending` wait, but never longer than they are told. Nothing exists
          before the first event or flush: no thread, no file, no socket. A client that is disabled does nothing at all.
"""

from __future__ import annotations

import os
import sys
from os import getpid

from leeward.sender.blocks import Moment, Span, Timed  # here: a block must not fail because no file can be opened
from leeward.sender.config import configure
from leeward.sender.context import bound, update
from leeward.sender.core import ClientCore, delete_left
from leeward.sender.posthog_names import PostHogNames, is_text, older_order, with_more
from leeward.sender.results import FlushResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Mapping
    from typing import Any, Final, ParamSpec, TypeVar

    from leeward.sender.results import Stats

    P = ParamSpec("P")
    R = TypeVar("R")

__all__ = ["Client"]

TIMEOUT_S: Final = 2.0


class Client(ClientCore, PostHogNames):
    """A telemetry client for one server and key.

    Args:
        api_key: The project's write key; else `LEEWARD_API_KEY`. Without one the client is disabled.
        host: `http://` or `https://` and the server's name; else `LEEWARD_HOST`, else http://127.0.0.1:5330.
        wire: "native", "posthog" (any PostHog-compatible host) or "otlp" (OTLP/JSON); else PostHog's for keys that begin
            with phc_, else native.
        sample_rate: Which share of events is kept, 0 to 1; else `LEEWARD_SAMPLE_RATE`, else all. It goes by
            `distinct_id`, else by the event's id: a person is kept or not. Exceptions are always kept.
        sample_rules: Rates by event name or by property: {"chat.token": 0.01}. A rule goes before `sample_rate`.
        disabled: True switches the client off, False on; else `LEEWARD_DISABLED`, `DO_NOT_TRACK`, `[client] disabled`.
        spool_dir: Where events wait on disk; else `LEEWARD_SPOOL_DIR`, else the user's state directory.
        mode: "durable"; "memory": no files, and what was not yet sent is lost on SIGKILL; or "plain": a queue of 256 in
            memory, one repeat after half a second, then dropped.
        app: "name/1.2"; leads the User-Agent, and is the service that the events come from.
        device_id: A name for this device; else a random one, stored beside the spool. False sends none.
        before_send: Called with each event as a dict before it is encoded; returns it, changed or not, or None to
            drop it. If it fails, the event is dropped.
        *older: What PostHog's SDK takes at these places does nothing.
        **ignored: Any other keyword does nothing; with LEEWARD_DEBUG=1 a line on stderr names it.
    """

    __slots__ = ()

    def __init__(
        self,
        api_key: str | None = None,
        host: str | None = None,
        *older: Any,  # noqa: ARG002 - taken, so that a call in the other's order does not fail
        wire: str | None = None,
        sample_rate: float | None = None,
        sample_rules: Mapping[str, float] | None = None,
        disabled: bool | None = None,
        spool_dir: str | None = None,
        mode: str = "durable",
        app: str | None = None,
        device_id: str | bool | None = None,
        before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
        **ignored: Any,
    ) -> None:
        self._begin_anew()
        self._configure(
            configure(
                os.environ,
                api_key=api_key or ignored.pop("project_api_key", None),
                host=host,
                wire=wire,
                sample_rate=sample_rate,
                sample_rules=sample_rules,
                disabled=True if ignored.pop("send", True) is False else disabled,
                spool_dir=spool_dir,
                mode=mode,
                app=app,
                device_id=device_id,
                before_send=before_send,
            ),
            ignored,
        )

    def __repr__(self) -> str:
        return f"Client({self._config!r})"

    @property
    def disabled(self) -> bool:
        """Whether captures do nothing. May be set at any time; a client without a key stays disabled."""
        self._configured()
        return self._off

    @disabled.setter
    def disabled(self, value: bool) -> None:
        config = self._configured()
        try:
            self._off = bool(value) or not config.usable
        except Exception as error:
            # Boundary: as in `capture`; what is neither true nor false changes nothing.
            self._counts.last_error = f"internal: {type(error).__name__}"

    def capture(
        self,
        name: str = "",
        *rest: Any,
        properties: Mapping[str, Any] | None = None,
        distinct_id: str | None = None,
        timestamp: float | str | datetime.datetime | None = None,
        uuid: object = None,
        session_id: str | None = None,
        correlation_id: str | None = None,
        level: str | None = None,
        **others: Any,
    ) -> str | None:
        """Record that something happened.

        Args:
            name: What; 1 to 200 characters.
            properties: Anything about it. Whatever JSON cannot say, or what is too large, is replaced by a mark; what
                looks like a secret is taken out.
            *rest: The properties; and PostHog's older order is read, too: `capture("id", "event", {…})`.
            distinct_id: Whom it concerns.
            timestamp: When: milliseconds since 1970 UTC, a datetime (without a zone it is UTC), or an RFC 3339 text;
                else now, also for what is no time.
            uuid: The event's id, if it has one: 1 to 128 characters as text; else a new one. An id is stored once.
            session_id: The session it happened in.
            correlation_id: What it has in common with events elsewhere.
            level: DEBUG, INFO, WARN, ERROR or FATAL; anything else is left out.
            **others: PostHog's `event` and `groups`. Any other keyword does nothing; with LEEWARD_DEBUG=1 a line on
                stderr names it, once.

        Returns:
            The event's id, or None if the client is disabled or the event was dropped (`stats()` says why).
        """
        try:
            if self._off:
                return None
            pipeline = self._pipeline
            if pipeline is None or pipeline.pid != getpid():
                pipeline = self._begin()
                if pipeline is None:
                    return None
            if len(rest) == 1 and properties is None and not others and not is_text(rest[0]):
                properties = rest[0]
            elif rest or others:
                name, properties, distinct_id, said = older_order(name, rest, properties, distinct_id, others)
                timestamp, uuid = said.get("timestamp", timestamp), said.get("uuid", uuid)
                pipeline.notes.ignored("capture()", others)
            return pipeline.record(
                "event",
                name,
                {} if properties is None else properties,
                distinct_id=distinct_id,
                timestamp=timestamp,
                uuid=uuid,
                session_id=session_id,
                correlation_id=correlation_id,
                level=level,
            )
        except Exception as error:
            # Boundary: whatever goes wrong in here must not reach the program that reports.
            self._swallow(error)
            return None

    def capture_exception(
        self,
        exception: BaseException | None = None,
        *rest: Any,
        properties: Mapping[str, Any] | None = None,
        handled: bool = True,
        level: str | None = None,
        **keywords: Any,
    ) -> str | None:
        """Record an exception: its type, message and stack, its causes, never its local variables.

        Args:
            exception: Which; else the one that is being handled.
            properties: Anything about it, as in `capture`.
            *rest: The properties; and PostHog's older order is read, too: `capture_exception(exc, "id", {…})`.
            handled: Whether the program went on.
            level: ERROR, or what else it is worth; FATAL if it was not handled.
            **keywords: `distinct_id`, `timestamp`, `uuid`, `session_id`, `correlation_id` and others as in `capture`.

        Returns:
            The event's id, or None if there is no exception, the client is disabled or the event was dropped.
        """
        try:
            if self._off:
                return None
            pipeline = self._begin()
            if pipeline is None:
                return None
            from leeward.sender import exceptions  # the first exception pays for it

            found: Any = exception
            if type(found) is tuple and len(found) == 3:  # sys.exc_info()
                found = found[1]
            if not isinstance(found, BaseException):
                found = sys.exception()
            if found is None:
                return None
            exceptions.mark_captured(found)
            if rest and is_text(rest[0]):  # PostHog's older order
                keywords.setdefault("distinct_id", rest[0])
                rest = rest[1:]
            if properties is None and rest:
                properties = rest[0]
            return self._record(
                "exception",
                "$exception",
                with_more(
                    properties, {"$groups": keywords.pop("groups", None), "context": keywords.pop("context", None)}
                ),
                {"error": exceptions.describe(found, handled=handled)},
                {**keywords, "level": level or ("ERROR" if handled else "FATAL")},
            )
        except Exception as error:
            # Boundary: as in `capture`.
            self._swallow(error)
            return None

    def log(self, level: str, message: str, properties: Mapping[str, Any] | None = None, **keywords: Any) -> str | None:
        """Record a line of a log.

        Args:
            level: DEBUG, INFO, WARN, ERROR or FATAL; the words of `logging` are understood. Anything else is INFO.
            message: The line.
            properties: Anything about it, as in `capture`.
            **keywords: As in `capture`.

        Returns:
            The event's id, or None as in `capture`.
        """
        return self._record("log", "log", properties, {"message": message}, {**keywords, "level": level or "INFO"})

    def metric(
        self,
        name: str,
        value: float,
        *,
        unit: str | None = None,
        properties: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> str | None:
        """Record a measured value.

        Args:
            name: What was measured, as "queue.length".
            value: The number; anything that is none makes no event.
            unit: Its unit: "ms", "By", "1".
            properties: Anything about it, as in `capture`.
            **keywords: As in `capture`.

        Returns:
            The event's id, or None as in `capture`.
        """
        return self._record("metric", name, properties, {"value": value, "unit": unit}, keywords)

    def timed(
        self, event_start: str, event_end: str, properties: Mapping[str, Any] | None = None, **keywords: Any
    ) -> Timed:
        """A `with` block with an event at its start and one, with its duration, at its end; or the exception.

        Both carry `pair_id`, and are sampled together. The block gets a dict: what is put in goes with the end.

        Args:
            event_start: The first event's name.
            event_end: The other's; it has `duration_ms`. If the block raises, the exception is captured in its place.
            properties: Of both, as in `capture`.
            **keywords: As in `capture`.
        """
        return Timed(self, event_start, event_end, properties, keywords)

    def span(self, name: str, properties: Mapping[str, Any] | None = None, **keywords: Any) -> Span:
        """A `with` (or `async with`) block that is recorded as a span when it ends; spans nest and follow async tasks.

        Events inside carry the span's ids. An exception that leaves the block is recorded with the span.

        Args:
            name: What is done.
            properties: Anything about it, as in `capture`; `set` adds more later.
            **keywords: `trace_id` and `parent_span_id` of a span elsewhere, or its `traceparent`; else as in `capture`.
        """
        return Span(self, name, properties, keywords)

    def busy(self) -> Moment:
        """A `with` block in which nothing is sent, as while an answer streams. `flush` and the exit still send."""
        return Moment(self, "busy")

    def idle(self) -> Moment:
        """A `with` block in which what waits is sent at once, as while a person types."""
        return Moment(self, "idle")

    def set_context(self, **fields: Any) -> None:
        """Say what the events of this task have in common from here on.

        Args:
            **fields: `distinct_id`, `session_id`, `correlation_id`; any other name is a property of every event, and
                the event's own properties win. None takes one away.
        """
        try:
            if self._off:
                return
            update(fields)
        except Exception as error:
            # Boundary: as in `capture`.
            self._note(error)

    def in_context(self, function: Callable[P, R]) -> Callable[P, R]:
        """`function` with the context of this moment, for threads that are not tasks: `Thread(target=in_context(f))`."""
        return bound(function)

    def flush(self, timeout_s: float = 2.0, *, timeout_seconds: float | None = None) -> FlushResult:
        """Send what waits, waiting at most `timeout_s` seconds. Never raises; safe from any thread and `atexit`.

        Args:
            timeout_s: How long to wait at most.
            timeout_seconds: The same, as PostHog's SDK calls it.

        Returns:
            Counts of the events delivered and dropped during the call, and of those still spooled after it.
        """
        try:
            pipeline = self._begin()
            if pipeline is None:
                return FlushResult(delivered=0, spooled=0, dropped=0)
            counts = pipeline.counts
            delivered, lost = counts.delivered, counts.lost()
            pipeline.flush(_seconds(timeout_s if timeout_seconds is None else timeout_seconds))
            return FlushResult(
                delivered=counts.delivered - delivered, spooled=pipeline.waiting(), dropped=counts.lost() - lost
            )
        except Exception as error:
            # Boundary: as in `capture`.
            self._note(error)
            return FlushResult(delivered=0, spooled=0, dropped=0)

    def flush_soon(self, hint_s: float | None = None) -> None:
        """Send what waits, without waiting for it: the checkpoint of a chat loop, just before it waits for a person.

        Args:
            hint_s: In how many seconds the next checkpoint comes, if that is known: nothing is sent on a timer before.
        """
        try:
            pipeline = self._pipeline
            if not self._off and pipeline is not None and pipeline.pid == getpid():
                pipeline.flush_soon(None if hint_s is None else float(hint_s))
        except Exception as error:
            # Boundary: as in `capture`.
            self._note(error)

    def shutdown(self, timeout_s: float = 2.0) -> None:
        """Send what waits, at most `timeout_s` seconds, and end the thread. In durable mode the rest stays on disk.

        What is captured afterwards is kept on disk too, and sent by the next process (or after the next `init`).
        """
        try:
            pipeline = self._pipeline
            if pipeline is not None and pipeline.pid == getpid():
                pipeline.finish(_seconds(timeout_s))
        except Exception as error:
            # Boundary: as in `capture`.
            self._note(error)

    def delete_pending(self, timeout_s: float = 2.0) -> int:
        """Delete what waits for this server and key, what dead processes left included, instead of sending it.

        Returns:
            How many events were deleted.
        """
        try:
            config = self._configured()
            pipeline = self._pipeline
            if pipeline is not None and pipeline.pid == getpid():
                return pipeline.delete_pending(_seconds(timeout_s))
            return delete_left(config, self._counts)
        except Exception as error:
            # Boundary: as in `capture`.
            self._note(error)
            return 0

    def stats(self) -> Stats:
        """The client's counts as they are now, in this process."""
        try:
            pipeline = self._pipeline
            if pipeline is not None and pipeline.pid == getpid():
                return pipeline.stats()
        except Exception as error:
            # Boundary: as in `capture`.
            self._note(error)
        return self._counts.snapshot(spooled=0, stopped=False)

    @property
    def device_id(self) -> str:
        """The id of this device that events carry; empty if the client is disabled or sends none."""
        try:
            pipeline = None if self._off else self._begin()
            return "" if pipeline is None else pipeline.device_id()
        except Exception as error:
            # Boundary: as in `capture`.
            self._note(error)
            return ""

    def reset_device_id(self) -> str:
        """Forget this device's id and take a new random one, which is returned."""
        try:
            pipeline = None if self._off else self._begin()
            return "" if pipeline is None else pipeline.reset_device_id()
        except Exception as error:
            # Boundary: as in `capture`.
            self._note(error)
            return ""


def _seconds(timeout_s: Any) -> float:
    """A time to wait; what is no number, None too, is the usual time: no call hangs."""
    try:
        return float(timeout_s)
    except (TypeError, ValueError, OverflowError):
        return TIMEOUT_S
