"""The client: what a program calls. Everything here is safe to call from anywhere, at any time.

Promises  no call raises (KeyboardInterrupt and SystemExit pass), waits for a lock or the network, prints, or changes an
          exit code; `flush` and `shutdown` wait, but never longer than they are told. Nothing exists before the first
          capture or flush: no thread, no file, no socket. A client that is disabled does nothing at all.
"""

from __future__ import annotations

import os
from os import getpid

from leeward.clock import SystemClock
from leeward.sender.config import configure
from leeward.sender.notes import Notes
from leeward.sender.pipeline import Pipeline
from leeward.sender.results import Counts, FlushResult
from leeward.wire import native_encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping
    from typing import Any

    from leeward.sender.config import Config
    from leeward.sender.results import Stats

__all__ = ["Client", "capture", "client", "flush", "init", "shutdown", "stats"]

_NOTHING: dict[str, Any] = {}


class Client:
    """A telemetry client for one server and key.

    Args:
        api_key: The project's write key; else `LEEWARD_API_KEY`. Without one the client is disabled.
        host: `http://` or `https://` and the server's name; else `LEEWARD_HOST`, else http://127.0.0.1:5330.
        disabled: True switches the client off, False on; else `LEEWARD_DISABLED`, `DO_NOT_TRACK`, `[client] disabled`.
        spool_dir: Where events wait on disk; else `LEEWARD_SPOOL_DIR`, else the user's state directory.
        mode: "durable", or "memory": no files, and what was not yet sent is lost on SIGKILL.
        app: "name/1.2"; leads the User-Agent.
        **ignored: Any other keyword does nothing; with LEEWARD_DEBUG=1 a line on stderr names it.
    """

    __slots__ = ("__weakref__", "_config", "_counts", "_off", "_pipeline", "_pipelines")

    _config: Config | None
    _counts: Counts
    _off: bool
    _pipeline: Pipeline | None
    _pipelines: dict[int, Pipeline]  # by process id; `setdefault` decides between threads

    def __init__(
        self,
        api_key: str | None = None,
        host: str | None = None,
        *,
        disabled: bool | None = None,
        spool_dir: str | None = None,
        mode: str = "durable",
        app: str | None = None,
        **ignored: Any,
    ) -> None:
        self._begin_anew()
        self._configure(
            configure(
                os.environ, api_key=api_key, host=host, disabled=disabled, spool_dir=spool_dir, mode=mode, app=app
            ),
            ignored,
        )

    def _begin_anew(self) -> None:
        """Know nothing: the environment is looked at when the client is first used."""
        self._config = None
        self._counts = Counts()
        self._off = False
        self._pipeline = None
        self._pipelines = {}

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
        name: str,
        properties: Mapping[str, Any] | None = None,
        *,
        distinct_id: str | None = None,
        timestamp: float | str | datetime.datetime | None = None,
        uuid: object = None,
        session_id: str | None = None,
        correlation_id: str | None = None,
        level: str | None = None,
        **ignored: Any,
    ) -> str | None:
        """Record that something happened.

        Args:
            name: What; 1 to 200 characters.
            properties: Anything about it. Whatever JSON cannot say, or what is too large, is replaced by a mark.
            distinct_id: Whom it concerns.
            timestamp: When: milliseconds since 1970 UTC, a datetime (without a zone it is UTC), or an RFC 3339 text;
                else now, also for what is no time.
            uuid: The event's id, if it has one: 1 to 128 characters as text; else a new one. An id is stored once.
            session_id: The session it happened in.
            correlation_id: What it has in common with events elsewhere.
            level: DEBUG, INFO, WARN, ERROR or FATAL; anything else is left out.
            **ignored: Any other keyword does nothing; with LEEWARD_DEBUG=1 a line on stderr names it, once.

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
            if ignored:
                pipeline.notes.ignored("capture()", ignored)
            return pipeline.capture(
                name,
                {} if properties is None else properties,
                distinct_id,
                timestamp,
                uuid,
                session_id,
                correlation_id,
                level,
            )
        except Exception as error:
            # Boundary: whatever goes wrong in here must not reach the program that reports.
            self._swallow(error)
            return None

    def flush(self, timeout_s: float = 2.0) -> FlushResult:
        """Send what waits, waiting at most `timeout_s` seconds. Never raises; safe from any thread and `atexit`.

        Returns:
            Counts of the events delivered and dropped during the call, and of those still spooled after it.
        """
        try:
            pipeline = self._begin()
            if pipeline is None:
                return FlushResult(delivered=0, spooled=0, dropped=0)
            counts = pipeline.counts
            delivered, lost = counts.delivered, counts.lost()
            pipeline.flush(float(timeout_s))
            return FlushResult(
                delivered=counts.delivered - delivered, spooled=pipeline.waiting(), dropped=counts.lost() - lost
            )
        except Exception as error:
            # Boundary: as in `capture`.
            self._swallow(error)
            return FlushResult(delivered=0, spooled=0, dropped=0)

    def shutdown(self, timeout_s: float = 2.0) -> None:
        """Send what waits, at most `timeout_s` seconds, and end the thread. In durable mode the rest stays on disk.

        What is captured afterwards is kept on disk too, and sent by the next process (or after the next `init`).
        """
        try:
            pipeline = self._pipeline
            if pipeline is not None and pipeline.pid == getpid():
                pipeline.finish(float(timeout_s))
        except Exception as error:
            # Boundary: as in `capture`.
            self._swallow(error)

    def stats(self) -> Stats:
        """The client's counts as they are now, in this process."""
        try:
            pipeline = self._pipeline
            if pipeline is not None and pipeline.pid == getpid():
                return pipeline.stats()
        except Exception as error:
            # Boundary: as in `capture`.
            self._swallow(error)
        return self._counts.snapshot(spooled=0, stopped=False)

    def _configured(self) -> Config:
        return self._config or self._configure(configure(os.environ))

    def _configure(self, config: Config, ignored: Mapping[str, Any] = _NOTHING) -> Config:
        """Take a configuration; what is under way with the old one comes to an end by itself."""
        try:
            self._change_to(config)
            if ignored.get("send") is False or ignored.get("before_send") is not None:
                # A word that we do not know, but whose neglect would send what the program did not want sent.
                self._off = True
                self._counts.last_error = "off: before_send and send=False are not supported"
        except Exception as error:
            # Boundary: `init`, the constructor and `disabled` come through here; the client is off, the program goes on.
            self._off = True
            self._counts.last_error = f"internal: {type(error).__name__}"
        notes = Notes(SystemClock(), debug=config.debug)
        if config.problem:
            notes.say("config", f"the client is off: {config.problem}")
        notes.ignored("the client", ignored)
        return config

    def _change_to(self, config: Config) -> None:
        former, self._pipeline = self._pipeline, None
        self._pipelines = {}
        self._config = config
        self._off = config.disabled
        self._counts.last_error = config.problem
        if config.usable:
            native_encode.load()  # here and not in the first capture, which may be anywhere
        if former is not None and former.pid == getpid():
            former.retire(send=not config.disabled)

    def _begin(self) -> Pipeline | None:
        """This process's pipeline; None if the client is off."""
        config = self._configured()
        if self._off:
            return None
        pid = getpid()
        pipeline = self._pipelines.get(pid)
        if pipeline is None:
            if self._pipelines:  # we are a forked child: the counts are the parent's, too
                self._counts = Counts()
                for inherited in tuple(self._pipelines.values()):
                    inherited.abandon()
                self._pipelines = {}
            pipeline = self._pipelines.setdefault(pid, Pipeline(config, self._counts))
        self._pipeline = pipeline
        return pipeline

    def _swallow(self, error: Exception) -> None:
        self._counts.drop("internal")
        self._counts.last_error = f"internal: {type(error).__name__}"


client = object.__new__(Client)  # not initialised: it waits for `init`, or for its first use
client._begin_anew()
capture = client.capture
flush = client.flush
shutdown = client.shutdown
stats = client.stats


def init(
    api_key: str | None = None,
    host: str | None = None,
    *,
    disabled: bool | None = None,
    spool_dir: str | None = None,
    mode: str = "durable",
    app: str | None = None,
    **ignored: Any,
) -> Client:
    """Configure `leeward.client`; see `Client` for the arguments. May be called again; never raises."""
    config = configure(
        os.environ, api_key=api_key, host=host, disabled=disabled, spool_dir=spool_dir, mode=mode, app=app
    )
    client._configure(config, ignored)
    return client
