"""What stands behind a client's calls: its configuration, its pipeline in this process, and the boundary for errors.

`Client` is this with the public calls on top; pairs and spans (`blocks`) and the integrations come through here, too.
"""

from __future__ import annotations

import os
from os import getpid

from leeward.sender.config import configure
from leeward.sender.loading import LOADING, load
from leeward.sender.results import Counts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from leeward.sender.config import Config
    from leeward.sender.pipeline import Pipeline

__all__ = ["ClientCore", "delete_left"]

_NOTHING: dict[str, Any] = {}


class ClientCore:
    """See the module."""

    __slots__ = ("__weakref__", "_busy", "_config", "_counts", "_idle", "_off", "_pid", "_pipeline", "_pipelines")

    _busy: dict[object, None]  # who streams an answer just now; an entry is set and taken in one step
    _config: Config | None
    _counts: Counts
    _idle: dict[object, None]  # who waits for a person
    _off: bool
    _pid: int  # of the process that was configured
    _pipeline: Pipeline | None
    _pipelines: dict[int, Pipeline]  # by process id; `setdefault` decides between threads

    def _begin_anew(self) -> None:
        """Know nothing: the environment is looked at when the client is first used."""
        self._busy = {}
        self._config = None
        self._counts = Counts()
        self._idle = {}
        self._off = False
        self._pid = 0
        self._pipeline = None
        self._pipelines = {}

    if TYPE_CHECKING:

        def capture_exception(self, exception: BaseException | None = None, *rest: Any, **keywords: Any) -> str | None:
            """The client's own."""
            ...

    def _record(
        self, kind: str, name: Any, properties: Any, fields: Mapping[str, Any], keywords: Mapping[str, Any]
    ) -> str | None:
        """As `capture`, for all kinds of events: `fields` are leeward's own words, `keywords` the caller's."""
        if self._off:
            return None
        try:
            pipeline = self._begin()
            return None if pipeline is None else pipeline.record_kind(kind, name, properties, fields, keywords)
        except Exception as error:
            # Boundary: as in `capture`.
            self._swallow(error)
            return None

    def _record_once(self, error: BaseException, properties: Mapping[str, Any], keywords: Mapping[str, Any]) -> None:
        """Capture an exception that passes through, unless somebody inside did."""
        try:
            if self._off:
                return
            from leeward.sender.exceptions import was_captured

            if not was_captured(error):
                self.capture_exception(error, properties, **keywords)
        except Exception as own:
            # Boundary: as in `capture`.
            self._swallow(own)

    def _described(self, error: Exception) -> dict[str, Any]:
        """The error as a span carries it; empty if the client is off."""
        try:
            if self._off:
                return {}
            from leeward.sender.exceptions import describe

            return describe(error)
        except Exception as own:
            # Boundary: as in `capture`.
            self._note(own)
            return {}

    def _samples(
        self, name: str, properties: Mapping[str, Any] | None, keywords: Mapping[str, Any], by: str
    ) -> bool | None:
        """Whether to keep what belongs together; None if the client is off."""
        try:
            pipeline = None if self._off else self._begin()
            return None if pipeline is None else pipeline.samples(name, properties, keywords.get("distinct_id"), by)
        except Exception as error:
            # Boundary: as in `capture`.
            self._note(error)
            return None

    def _moments(self, kind: str) -> dict[object, None]:
        return self._busy if kind == "busy" else self._idle

    def _nudge(self) -> None:
        """A moment began or ended: the worker may send now, if there is one."""
        try:
            pipeline = self._pipeline
            if not self._off and pipeline is not None and pipeline.pid == getpid():
                pipeline.nudge()
        except Exception as error:
            # Boundary: as in `capture`.
            self._note(error)

    def _configured(self) -> Config:
        return self._config or self._configure(configure(os.environ))

    def _configure(self, config: Config, ignored: Mapping[str, Any] = _NOTHING) -> Config:
        """Take a configuration; what is under way with the old one comes to an end by itself."""
        try:
            self._change_to(config)
        except Exception as error:
            # Boundary: `init`, the constructor and `disabled` come through here; the client is off, the program goes on.
            self._off = True
            self._counts.last_error = f"internal: {type(error).__name__}"
        if config.problem or (ignored and config.debug):
            from leeward.clock import SystemClock
            from leeward.sender.notes import Notes

            notes = Notes(SystemClock(), debug=config.debug)
            if config.problem:
                notes.say("config", f"the client is off: {config.problem}")
            notes.ignored("the client", ignored)
        return config

    def _change_to(self, config: Config) -> None:
        former, self._pipeline = self._pipeline, None
        self._pid = getpid()
        self._pipelines = {}
        self._config = config
        self._off = config.disabled
        self._counts.last_error = config.problem
        if not config.disabled:
            load(config)  # here and not in the first capture, which may be anywhere
        elif config.opted_out:
            delete_left(config, self._counts)
        if former is not None and former.pid == getpid():
            former.retire(send=not config.disabled, delete=config.opted_out)

    def _begin(self) -> Pipeline | None:
        """This process's pipeline; None if the client is off."""
        pipeline = self._pipeline
        if pipeline is not None and pipeline.pid == getpid():
            return None if self._off else pipeline
        config = self._configured()
        if self._off:
            return None
        pid = getpid()
        pipeline = self._pipelines.get(pid)
        if pipeline is None:
            is_child = pid != self._pid
            if is_child:  # we are a forked child: the counts are the parent's, too
                self._counts = Counts()
                self._busy, self._idle = {}, {}
                for inherited in tuple(self._pipelines.values()):
                    inherited.abandon()
                self._pipelines = {}
                config = self._config = configure(os.environ, **config.given)  # the environment may be another
                self._off = config.disabled
                if self._off:
                    return None
            with LOADING:
                from leeward.sender.pipeline import Pipeline

                made = Pipeline(
                    config,
                    self._counts,
                    busy=self._busy,
                    idle=self._idle,
                    is_child=is_child,
                    told_to_stop=self._switch_off,
                )
            pipeline = self._pipelines.setdefault(pid, made)
        self._pipeline = pipeline
        return pipeline

    def _switch_off(self) -> None:
        self._off = True

    def _swallow(self, error: Exception) -> None:
        """An event was lost to an error of our own."""
        self._counts.drop("internal")
        self._note(error)

    def _note(self, error: Exception) -> None:
        """An error of our own, or of a caller's argument, that cost no event."""
        self._counts.last_error = f"internal: {type(error).__name__}"


def delete_left(config: Config, counts: Counts) -> int:
    """Delete what dead processes left for this destination; nothing is made that was not there."""
    if not config.root or not os.path.isdir(config.root) or not os.path.isdir(config.folder):
        return 0
    from leeward.clock import SystemClock
    from leeward.sender.spool import Spool

    spool = Spool(config.folder, counts=counts, clock=SystemClock(), about={})
    deleted = spool.clear()
    spool.close()
    return deleted
