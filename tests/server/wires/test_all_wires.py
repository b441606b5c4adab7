"""What holds on every wire that brings events: nothing is answered before the log has it, and what comes again is one."""

from __future__ import annotations

import asyncio
import json
from typing import NamedTuple

import pytest

from control_helpers import HeldClock
from leeward.journal.commit import GroupCommit
from leeward.journal.files import OsFiles
from leeward.journal.log import Log
from leeward.server.counters import Counters
from leeward.server.dispatch import Dispatch
from leeward.server.door import Door
from leeward.server.pipeline import Pipeline
from leeward.server.record import unpack_head
from leeward.server.routes import ROUTES
from leeward.server.wires import otlp, posthog, sentry
from leeward.server.wires.native import Ingest
from otlp_exports import as_json, log, logs, span, traces
from quiet_road import KEY, quiet_road
from sentry_envelopes import EVENT_ID, envelope

UUID = "11ed0000-6f4b-41f8-89c1-502e28b53433"
BEARER = {"authorization": f"Bearer {KEY}"}
AUTH = {"x-sentry-auth": f"Sentry sentry_key={KEY}, sentry_version=7"}
PROTOBUF = {**BEARER, "content-type": "application/x-protobuf"}
JSON = {**BEARER, "content-type": "application/json"}


class Sent(NamedTuple):
    """A request with one event that says which one it is, as an SDK of each wire sends it."""

    path: str
    body: bytes
    headers: dict[str, str]


def as_bytes(**value) -> bytes:
    return json.dumps(value).encode()


POSTHOG_EVENT = {"event": "a", "distinct_id": "u1", "uuid": UUID, "timestamp": "2026-11-22T04:45:41+00:00"}
REQUESTS = {
    "native": Sent("/api/telemetry/ingest", as_bytes(event_type="a", id="e1"), BEARER),
    "posthog": Sent("/batch/", as_bytes(api_key=KEY, batch=[POSTHOG_EVENT]), {}),
    "posthog, newer": Sent("/i/v1/analytics/events", as_bytes(batch=[POSTHOG_EVENT]), BEARER),
    "posthog, opentelemetry": Sent("/i/v1/logs", as_json(logs(log("x"))), JSON),
    "otlp spans": Sent("/v1/traces", traces(span()).SerializeToString(), PROTOBUF),
    "otlp logs in json": Sent("/v1/logs", as_json(logs(log("x"))), JSON),
    "sentry envelope": Sent("/api/1/envelope/", envelope(("event", {"message": "m"}), event_id=EVENT_ID), AUTH),
    "sentry store": Sent("/api/1/store/", as_bytes(event_id=EVENT_ID, message="m"), AUTH),
}


class BreakingFiles(OsFiles):
    """The real files, until the disk is told to refuse."""

    broken = False

    def pwrite(self, fd, data, offset):
        if self.broken:
            raise OSError(28, "No space left on device")
        return super().pwrite(fd, data, offset)


class Server:
    """All wires on one road into a real log, which commits when the test says so."""

    def __init__(self, folder):
        clock, self.files = HeldClock(), BreakingFiles()
        self.log = Log.open(str(folder), segment_bytes=1 << 20, files=self.files, clock=clock)
        counters = Counters()
        pipeline = Pipeline(door=Door(), counters=counters, clock=clock)
        self.commit = GroupCommit(self.log, on_group=pipeline.settle, clock=clock)
        pipeline.attach(self.commit)
        road = quiet_road(pipeline, counters=counters, clock=clock)
        places = {
            "": Ingest(road, retention_seconds=60, batch_state=lambda project, batch_id: "processing"),
            "posthog_": posthog.Posthog(road),
            "otlp_": otlp.Otlp(road),
            "sentry_": sentry.Sentry(road),
        }
        handlers = {
            prefix + name: getattr(place, name)
            for prefix, place in places.items()
            for name in dir(place)
            if not name.startswith("_")
        }
        self.dispatch = Dispatch(
            [route for route in ROUTES if route.handler in handlers and route.scope == "write"],
            handlers,
            access=road._access,
            sessions=None,
            counters=counters,
            allowed_hosts=lambda host: True,
            report=lambda name, fields: pytest.fail(f"{name}: {fields['error']!r}"),
            refusals={"posthog": posthog.refusal, "otlp": otlp.refusal, "sentry": sentry.refusal},
            note=road.note,
        )

    def begin(self, sent):
        """The request under way: a task that ends with its status and body."""
        return asyncio.create_task(self._answer(sent))

    async def _answer(self, sent):
        messages = []

        async def receive():
            return {"type": "http.request", "body": sent.body, "more_body": False}

        async def send(message):
            messages.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": sent.path,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in sent.headers.items()],
            "client": ("10.0.0.1", 1),
        }
        await self.dispatch(scope, receive, send)
        return messages[0]["status"], messages[1]["body"]

    async def settled(self):
        """Commit what waits, and let the requests hear of it."""
        for _ in range(5):
            self.commit.run_once()
            await asyncio.sleep(0)

    def stored_ids(self):
        return [event_id for entry in self.log.read(0) for event_id in unpack_head(entry.payload).ids]


async def turns():
    """Give the loop so many turns that whatever does not wait for the log is done."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
def on_a_server(tmp_path):
    def run(scenario):
        async def with_server():
            server = Server(tmp_path / "log")
            try:
                await scenario(server)
            finally:
                server.commit.close()
                await asyncio.sleep(0)
                server.log.close()

        asyncio.run(with_server())

    return run


@pytest.mark.parametrize("wire", REQUESTS)
def test_w1_nothing_is_answered_on_any_wire_before_the_log_is_synced(on_a_server, wire):
    async def scenario(server):
        request = server.begin(REQUESTS[wire])
        await turns()
        assert not request.done()
        assert server.stored_ids() == []

        await server.settled()

        status, _ = await request
        assert status == 200
        assert len(server.stored_ids()) == 1

    on_a_server(scenario)


@pytest.mark.parametrize("wire", REQUESTS)
def test_w9_what_comes_again_on_any_wire_is_in_the_log_once_and_answered_as_the_first(on_a_server, wire):
    async def scenario(server):
        answers = []
        for together in (1, 3):
            requests = [server.begin(REQUESTS[wire]) for _ in range(together)]
            await turns()
            await server.settled()
            answers += [await request for request in requests]

        assert [status for status, _ in answers] == [200] * 4
        assert len(server.stored_ids()) == 1

    on_a_server(scenario)


@pytest.mark.parametrize("wire", REQUESTS)
def test_w4_what_a_full_disk_does_not_take_is_acknowledged_on_no_wire_and_taken_once_there_is_room(on_a_server, wire):
    async def scenario(server):
        server.files.broken = True
        refused = server.begin(REQUESTS[wire])
        await turns()
        await server.settled()
        status, body = await refused
        if wire == "posthog, newer":
            assert json.loads(body)["results"][UUID]["result"] == "retry"
        else:
            assert status == 503

        server.files.broken = False
        again = server.begin(REQUESTS[wire])
        await turns()
        await server.settled()
        assert (await again)[0] == 200
        assert len(server.stored_ids()) == 1

    on_a_server(scenario)
