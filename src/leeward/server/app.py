"""Builds every part once and hands it over. The order of start-up and shut-down stands here and nowhere else.

Start     log (it refuses a second server) → store's child, begun → control database, begun on its thread → door and
          seals, learned from the log → committer → writer → keys are there → self-check → ready.
Stop      not ready → requests end → writer loads what it can and moves the checkpoint → committer drains → log, store
          and control database are closed.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from leeward.clock import SystemClock
from leeward.errors import ConfigError, LeewardError
from leeward.gateway.telemetry import Telemetry
from leeward.journal.commit import GroupCommit
from leeward.journal.log import Log
from leeward.server import chat
from leeward.server.access import Access, Failures
from leeward.server.admission import Admission, AdmissionLimits, LoopProbe, LoopTurn
from leeward.server.batches import Batches
from leeward.server.blocks import Seals
from leeward.server.clients import Clients
from leeward.server.control.database import Control
from leeward.server.counters import Counters
from leeward.server.dashboard.pages import Dashboard
from leeward.server.dead_letters import DeadLetters
from leeward.server.dispatch import Dispatch, Handler
from leeward.server.door import Door
from leeward.server.gateway_part import GatewayPart
from leeward.server.http import BodyLimits, ByteBudget
from leeward.server.manage import Manage
from leeward.server.openapi import Reference
from leeward.server.operations import Operations, PartState, event_metrics, request_metrics
from leeward.server.overview import LiveOverview, LiveProviders
from leeward.server.own_telemetry import OwnTelemetry
from leeward.server.pipeline import DATA, Pipeline
from leeward.server.query import Cursors, Query
from leeward.server.quotas import Quotas
from leeward.server.reads import StoreReads
from leeward.server.record import unpack_head
from leeward.server.refusals import Refusals
from leeward.server.resends import Resends
from leeward.server.road import Road
from leeward.server.routes import ROUTES
from leeward.server.self_check import check_refusals
from leeward.server.sentry_report import SentryReport
from leeward.server.spend import Spend
from leeward.server.visibility import Visibility
from leeward.server.wires import otlp, posthog, sentry
from leeward.server.wires.native import Ingest
from leeward.server.writer import BlockLimits, Writer
from leeward.store.open import open_store
from leeward.store.retention import DAY_MS

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.server.http import Receive, Scope, Send
    from leeward.server.logs import Report
    from leeward.server.routes import Wire
    from leeward.settings.tree import Settings

__all__ = ["Application"]

LEARN_BYTES: Final = 8 << 20
WRITER_STOP_SHARE: Final = 0.2  # of `shutdown_timeout_s`; half of it is the running requests'
COMMIT_STOP_SHARE: Final = 0.1
DISK_BYTES_LOW: Final = 1 << 30
LAG_BYTES_HIGH: Final = 256 << 20
WAITING_BYTES_MAX: Final = 64 << 20  # handed to the log and not on stable storage yet


class Application:
    """The server, as an ASGI application with parts that are started and stopped.

    Belongs to the event loop that calls `start`.
    """

    def __init__(
        self,
        settings: Settings,
        data_dir: Path,
        report: Report,
        *,
        clock: Clock | None = None,
        demo: bool = False,
        load: Callable[[], Settings] | None = None,
    ) -> None:
        self._load = load
        self.settings = settings
        self.data_dir = data_dir
        self.clock: Clock = clock or SystemClock()
        self.reports = SentryReport(settings.report.sentry_dsn, clock=self.clock, report=report)
        self.report = self.reports.watching(report)
        self.counters = Counters()
        self.control = Control(self.clock)
        self.demo = demo
        self.first_start = False
        self._ready = False
        self._dispatch: Dispatch | None = None
        self._running: list[Callable[[], object]] = []  # how to stop each part that was started
        self._retention_ms = settings.storage.retention_days * DAY_MS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert self._dispatch is not None
        await self._dispatch(scope, receive, send)

    async def start(self) -> None:
        """Start every part; return when requests may come.

        Raises:
            ConfigError: a part cannot start, and says why and what to do.
        """
        self._loop = asyncio.get_running_loop()
        self.reports.start()
        self._running.append(self._stop_reports)
        storage = self.settings.storage
        _make_private(self.data_dir)
        self.log = Log.open(str(self.data_dir / "log"), segment_bytes=storage.log_segment_bytes)
        self._running.append(self.log.close)
        self.reads = StoreReads()
        self._running.append(self.reads.close)
        self.store = open_store(
            storage.url,
            self.data_dir / "store",
            memory_bytes_max=storage.store_memory_bytes_max,
            clock=self.clock,
            retention_days=storage.retention_days,
        )
        self._running.append(self.store.stop)
        self._running.append(self.control.stop)
        control_started = asyncio.wrap_future(self.control.start(self.data_dir))
        self.dead_letters = DeadLetters(self.data_dir / "dead-letters")
        self.door = Door(storage.door_ids_max)
        self.pipeline = Pipeline(
            door=self.door,
            counters=self.counters,
            clock=self.clock,
        )
        seals = await asyncio.to_thread(self._learn)
        self.commit = GroupCommit(self.log, on_group=self.pipeline.settle)
        self.pipeline.attach(self.commit)
        self.commit.start()
        self._running.append(self._stop_commit)
        self._start_writer(seals)
        started = await control_started
        self.first_start = started.first_keys is not None
        await self._open_doors()
        self._watch_pressure()
        self._ready = True

    def _learn(self) -> Seals:
        """What the log behind the checkpoint says: who was at the door, which blocks were sealed."""
        seals = Seals()
        note = self.log.checkpoint_note
        if note is not None and not self.door.restore(note):
            self.report("door_forgotten", {"reason": "the snapshot beside the checkpoint cannot be read"})
        sequence = self.log.checkpoint_sequence
        while entries := self.log.read(sequence, bytes_max=LEARN_BYTES):
            for entry in entries:
                if entry.type == DATA:
                    self.door.learn(unpack_head(entry.payload))
                    self.pipeline.bytes_taken += len(entry.payload)
                else:
                    seals.learn(entry.type, entry.payload)
            sequence = entries[-1].sequence
        self.pipeline.acknowledged_sequence = sequence
        return seals

    def _start_writer(self, seals: Seals) -> None:
        storage = self.settings.storage
        loop = asyncio.get_running_loop()

        def save_door() -> bytes | None:
            return asyncio.run_coroutine_threadsafe(self._door_snapshot(), loop).result()

        self.visibility = Visibility(
            acknowledged=lambda: self.pipeline.acknowledged_sequence,
            seal_now=self._seal_now,
            describe_lag=self.lag,
            loaded_sequence=self.log.checkpoint_sequence,
        )
        self.writer = Writer(
            log=self.log,
            commit=self.commit,
            store=self.store.events,
            prepare=self.store.prepare,
            counters=self.counters,
            dead_letters=self.dead_letters,
            clock=self.clock,
            limits=BlockLimits(
                rows_max=storage.block_rows_max,
                bytes_max=storage.block_bytes_max,
                age_s_max=storage.block_age_max_s,
                retry_delays_s=tuple(delay / 1000 for delay in storage.retry_delays_ms),
                retention_days=storage.retention_days,
            ),
            seals=seals,
            save_door=save_door,
            on_loaded=self.visibility.loaded,
            report=self.report,
        )
        self.pipeline.on_durable = self.writer.stir
        self.writer.start()
        self._running.append(self._stop_writer)

    def _seal_now(self, sequence: int) -> None:
        self.writer.seal_now(sequence)

    async def _door_snapshot(self) -> bytes | None:
        epoch = self.door.epoch
        snapshot = self.door.snapshot()
        try:
            await self.pipeline.barrier()
        except LeewardError:
            return None
        return snapshot if self.door.epoch == epoch else None

    async def _open_doors(self) -> None:
        server = self.settings.server
        self._budget = ByteBudget(server.inflight_bytes_max)
        access = Access(self.control.keys, Failures(self.clock))
        road = await self._build_road(access)
        self._build_gateway(road)
        self._dispatch = Dispatch(
            ROUTES,
            {
                **self._wire_handlers(road),
                **self._reading_handlers(),
                **self._other_handlers(access),
                **self.gateway.handlers(),
            },
            access=access,
            sessions=self.control.sessions,
            counters=self.counters,
            allowed_hosts=_host_check(server.host, server.allowed_hosts),
            report=self.report,
            refusals={
                "posthog": posthog.refusal,
                "otlp": otlp.refusal,
                "sentry": sentry.refusal,
                "openai": chat.refusal,
            },
            note=road.note,
        )
        await check_refusals(self._dispatch)
        await self.gateway.start()
        self._running.append(self._stop_gateway)
        self.counters.requests.clear()
        self.counters.refused.clear()
        self.counters.wire_items.clear()
        self.refusals.clear()

    async def _build_road(self, access: Access) -> Road:
        server, storage = self.settings.server, self.settings.storage
        budget = self._budget
        self.admission = Admission(
            AdmissionLimits(
                log_bytes_max=storage.log_bytes_max,
                waiting_bytes_max=min(server.inflight_bytes_max, WAITING_BYTES_MAX),
                commit_wait_s_max=server.commit_latency_max_s,
                held_bytes_max=server.inflight_bytes_max,
            ),
            unstored_bytes=self.unstored_bytes,
            waiting_bytes=lambda: self.commit.waiting_bytes,
            oldest_wait_s=lambda: self.commit.oldest_wait_s,
            held_bytes=lambda: budget.held,
            turn_s=LoopTurn(asyncio.get_running_loop()).work_s,
        )
        self.quotas = Quotas(self.data_dir / "quotas.json", clock=self.clock, report=self.report)
        await asyncio.to_thread(self.quotas.load)
        self.quotas.start()
        self._running.append(self.quotas.stop)
        self._spend = Spend(self.data_dir / "spend.json", clock=self.clock, report=self.report)
        await asyncio.to_thread(self._spend.load)
        self._spend.start()
        self._running.append(self._spend.stop)
        self.refusals = Refusals(clock=self.clock)
        unpacked_bytes_max: dict[Wire, int] = {
            "native": server.body_unpacked_bytes_max,
            "posthog": server.body_unpacked_bytes_max,
            "otlp": server.otlp_body_unpacked_bytes_max,
            "sentry": server.sentry_body_unpacked_bytes_max,
        }
        return Road(
            self.pipeline,
            admission=self.admission,
            access=access,
            quotas=self.quotas,
            refusals=self.refusals,
            counters=self.counters,
            budget=budget,
            resends=Resends(self.clock),
            limits={
                wire: BodyLimits(server.body_packed_bytes_max, size, server.body_timeout_s)
                for wire, size in unpacked_bytes_max.items()
            },
            report=self.report,
            scrub=self.settings.privacy.scrub,
        )

    def _build_gateway(self, road: Road) -> None:
        self._own = OwnTelemetry(road.pipeline, clock=self.clock, report=self.report)
        self._spans = Telemetry(self._own.give)
        self.gateway = GatewayPart(
            self.settings,
            clock=self.clock,
            random=random.random,
            budget=self._budget,
            spend=self._spend,
            report=self.report,
            further=(self._spans, self.reports),
            telemetry_lost=lambda: self._spans.lost + self._own.lost,
            reports=self.reports.counts,
        )

    def _stop_gateway(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end_gateway(), self._loop).result()

    async def _end_gateway(self) -> None:
        """The last spans must be in the log before it is closed."""
        await self.gateway.stop()
        self._spans.flush()
        await self._own.settled(self.settings.server.shutdown_timeout_s * COMMIT_STOP_SHARE)

    def _stop_reports(self) -> None:
        stopping = self.reports.stop(self.settings.server.shutdown_timeout_s * COMMIT_STOP_SHARE)
        asyncio.run_coroutine_threadsafe(stopping, self._loop).result()

    def _watch_pressure(self) -> None:
        loop = asyncio.get_running_loop()
        probe = LoopProbe(loop, self.admission.sample)
        probe.start()
        self._running.append(lambda: loop.call_soon_threadsafe(probe.stop))

    def _wire_handlers(self, road: Road) -> dict[str, Handler]:
        """The doors for events, by wire."""
        storage_ms = self._retention_ms
        self._batches = Batches(
            durable=self.pipeline.durable_batch,
            store=self.store.events,
            dead_letters=self.dead_letters,
            keeping_up=lambda: not self.writer.trouble,
            clock=self.clock,
            retention_ms=storage_ms,
            run=self.reads.run,
        )
        ingest = Ingest(road, retention_seconds=storage_ms // 1000, batch_state=self._batches.state)
        handlers: dict[str, Handler] = {"ingest": ingest.ingest, "batch": ingest.batch}
        for name, wire in (
            ("posthog", posthog.Posthog(road)),
            ("otlp", otlp.Otlp(road)),
            ("sentry", sentry.Sentry(road)),
        ):
            wanted = {route.handler for route in ROUTES if route.handler.startswith(f"{name}_")}
            handlers.update({handler: getattr(wire, handler.removeprefix(f"{name}_")) for handler in wanted})
        return handlers

    def _reading_handlers(self) -> dict[str, Handler]:
        query = Query(
            self.store.events,
            barrier=self.visibility,
            cursors=Cursors(_secret(self.data_dir / "secret.key")),
            clock=self.clock,
            retention_ms=self._retention_ms,
            newest_ms=lambda: self.pipeline.newest_received_ms,
            run=self.reads.run,
        )
        return {
            "batch_status": self._batches.status,
            "query": query.query,
            "clients": Clients(self.store.events, barrier=self.visibility, run=self.reads.run).clients,
        }

    def _other_handlers(self, access: Access) -> dict[str, Handler]:
        manage = Manage(self.control, dead_letters=self.dead_letters, pipeline=self.pipeline, budget=self._budget)
        operations = Operations(
            parts=self.parts,
            ready=lambda: self._ready,
            collectors=(
                lambda: event_metrics(self.counters),
                lambda: request_metrics(self.counters),
                self.gateway.collect,
            ),
            provider=self.gateway.state_of,
        )
        reference = Reference(ROUTES)
        overview = LiveOverview(
            store=self.store,
            log=self.log,
            writer=self.writer,
            pipeline=self.pipeline,
            counters=self.counters,
            dead_letters=self.dead_letters,
            parts=self.parts,
            unstored_bytes=self.unstored_bytes,
            clock=self.clock,
            retention_ms=self._retention_ms,
            demo=self.demo,
            run=self.reads.run,
        )
        pages = Dashboard(
            overview,
            providers=LiveProviders(self.gateway),
            refusals=self.refusals,
            sign_in=self.control,
            access=access,
            clock=self.clock,
            budget=self._budget,
        )
        return {
            "keys_list": manage.keys_list,
            "keys_create": manage.keys_create,
            "keys_revoke": manage.keys_revoke,
            "keys_set_quota": manage.keys_set_quota,
            "refusals_list": self.refusals.list,
            "projects_list": manage.projects_list,
            "projects_create": manage.projects_create,
            "dead_letters_list": manage.dead_letters_list,
            "dead_letters_replay": manage.dead_letters_replay,
            "metrics": operations.metrics,
            "health": operations.health,
            "livez": operations.livez,
            "readyz": operations.readyz,
            "openapi": reference.openapi,
            "docs": reference.docs,
            "page": pages.page,
        }

    async def reload(self) -> None:
        """Read the configuration again: the gateway's providers and routes. The rest of it needs a restart."""
        if self._load is not None:
            await self.gateway.reload(self._load)

    def stopping(self) -> None:
        """Requests may still end, but balancers should send no new ones."""
        self._ready = False

    async def stop(self) -> None:
        """Stop every part that was started, the last one first. What is not loaded stays in the log."""
        self._ready = False
        while self._running:
            await asyncio.to_thread(self._running.pop())

    def _stop_commit(self) -> None:
        self.commit.close(self.settings.server.shutdown_timeout_s * COMMIT_STOP_SHARE)

    def _stop_writer(self) -> None:
        if not self.writer.stop(self.settings.server.shutdown_timeout_s * WRITER_STOP_SHARE):
            self.report("writer_left", {"reason": "the store did not answer; its events wait in the log"})

    def unstored_bytes(self) -> int:
        """Bytes in the log that the store has not taken yet."""
        return self.pipeline.bytes_taken - self.writer.bytes_loaded

    def lag(self) -> str:
        """How far the store is behind, in words, without a place: callers see it."""
        return f"{self.unstored_bytes():,} bytes of the log are not loaded yet"

    def parts(self) -> dict[str, PartState]:
        """How every part is; waits for none of them."""
        return {
            "log": self._log_state(),
            "store": self._store_state(),
            "writer": self._writer_state(),
            "disk": self._disk_state(),
            **({"providers": providers} if (providers := self.gateway.state()) is not None else {}),
        }

    def _log_state(self) -> PartState:
        statistics = self.log.statistics()
        figures = {
            "bytes": float(statistics.bytes_total),
            "unstored_bytes": float(self.unstored_bytes()),
            "sync_seconds_last": statistics.sync_seconds_last,
            "damaged_spans": float(statistics.damaged_spans),
        }
        if statistics.failed:
            return PartState(
                "unhealthy", "the log cannot be written: new events get 503", figures, cause=statistics.failed
            )
        if self.unstored_bytes() > self.settings.storage.log_bytes_max:
            return PartState("unhealthy", "the log is full: new events get 503 until the store catches up", figures)
        if self.pipeline.trouble:
            return PartState(
                "degraded", "the log did not take the last events: they got 503", figures, cause=self.pipeline.trouble
            )
        if statistics.damaged_spans:
            return PartState(
                "degraded", "damaged records were set aside", figures, cause="damaged records are in log/damaged"
            )
        return PartState("healthy", "", figures)

    def _store_state(self) -> PartState:
        state = self.store.state
        figures = {"restarts": float(state.restarts)}
        if state.state == "ready":
            return PartState("healthy", "", figures)
        return PartState(
            "degraded",
            "the store is not ready: events wait in the log",
            figures,
            cause=state.reason or f"the store is {state.state}",
        )

    def _writer_state(self) -> PartState:
        statistics = self.writer.statistics()
        figures = {"dead_letters": float(len(self.dead_letters)), "filter_ids": float(statistics.filter_ids)}
        if statistics.trouble:
            return PartState(
                "degraded",
                "events cannot be loaded into the store just now: they wait in the log",
                figures,
                cause=statistics.trouble,
            )
        if len(self.dead_letters):
            return PartState("degraded", "the store refuses some events: see /api/dead-letters", figures)
        if self.unstored_bytes() > LAG_BYTES_HIGH:
            return PartState("degraded", "the store is behind: events wait in the log", figures, cause=self.lag())
        return PartState("healthy", "", figures)

    def _disk_state(self) -> PartState:
        usage = shutil.disk_usage(self.data_dir)
        figures = {"free_bytes": float(usage.free)}
        if usage.free < DISK_BYTES_LOW:
            return PartState("degraded", "less than 1 GiB of disk is free", figures)
        return PartState("healthy", "", figures)


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"the data directory cannot be used: {error.strerror or error}",
            code="data_dir",
            where=str(directory),
            fix="leeward serve --data-dir DIRECTORY",
        ) from None


def _secret(path: Path) -> bytes:
    """The key that signs cursors: made once, readable by the owner only."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        secret = secrets.token_bytes(32)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secret)
        return secret


def _host_check(host: str, further: tuple[str, ...]) -> Callable[[bytes], bool]:
    """Names by which browsers may call the pages: ours, loopback ones, and those that the settings add."""
    known = {"localhost", "127.0.0.1", "[::1]", host.lower(), *(name.lower() for name in further)}

    def allowed(header: bytes) -> bool:
        name = header.decode("latin-1").lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        return name in known

    return allowed
