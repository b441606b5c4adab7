"""A server's spans of its own gateway: on the main road, marked, linked, and never a reason for more of them."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

import alert_rules
from control_helpers import HeldClock
from leeward.errors import Unavailable
from leeward.gateway.records import AttemptRecord, Caller, RequestRecord
from leeward.gateway.telemetry import spans_of
from leeward.server.app import Application
from leeward.server.logs import quiet
from leeward.server.own_telemetry import REPORT_EVERY_S, TASKS_MAX, OwnTelemetry
from leeward.settings.tree import Settings
from server_process import ServerProcess

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
CONFIG = """
[[gateway.providers]]
name = "a"
kind = "simulated"
models = { chat = "a-large" }
[[gateway.providers]]
name = "b"
kind = "simulated"
models = { chat = "b-large" }
[[gateway.routes]]
model = "chat"
fallback = ["static"]
[gateway.breaker]
consecutive_failures = 100
"""


class Road:
    """Stands for the pipeline: takes what it is given, refuses it, or lets it wait."""

    def __init__(self):
        self.taken = []
        self.error = None
        self.open = asyncio.Event()
        self.open.set()

    def received_at(self):
        return 5_000

    async def take(self, prepared, *, project, received_at, with_keys):
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.taken.append((project, prepared, with_keys))


def batch(project=3):
    attempt = AttemptRecord("a", "large", 1_000, 0.25, "ok")
    request = RequestRecord(Caller("req_1", project=project), "chat", "chat", False, 900, 0.5, "ok", attempts=[attempt])
    return [(project, span) for span in spans_of(request)]


def with_road(work):
    async def main():
        road, clock, lines = Road(), HeldClock(), []
        own = OwnTelemetry(road, clock=clock, report=lambda *line: lines.append(line))
        await work(own, road, clock, lines)
        assert [task for task in asyncio.all_tasks() if "leeward/server" in task.get_coro().cr_code.co_filename] == []

    asyncio.run(main())


def test_spans_are_rows_of_their_project_and_say_whose_they_are():
    async def work(own, road, clock, lines):
        own.give([*batch(3), *batch(0)])
        await own.settled(1.0)
        assert [project for project, _, _ in road.taken] == [3, 1]
        _, prepared, with_keys = road.taken[0]
        assert not with_keys
        assert prepared.made_here == [True, True]
        parent, child = (json.loads(row) for row in prepared.rows)
        assert (parent["kind"], parent["name"], parent["received_at"]) == ("span", "gateway chat", 5_000)
        assert (parent["timestamp"], child["timestamp"], child["duration_ms"]) == (900, 1_000, 250.0)
        assert child["parent_span_id"] == parent["span_id"]
        assert json.loads(child["data"])["leeward.origin"] == "self"

    with_road(work)


def test_what_cannot_be_stored_is_counted_and_said_once_in_a_while_and_makes_no_event():
    async def work(own, road, clock, lines):
        road.error = Unavailable("the log is full")
        for _ in range(3):
            own.give(batch())
        await own.settled(1.0)
        assert own.lost == 6
        assert lines == [("own_telemetry_lost", {"count": 2, "lost": 2, "reason": "the log is full"})]
        clock.pass_s(REPORT_EVERY_S)
        own.give(batch())
        await own.settled(1.0)
        assert lines[1][1]["lost"] == 8
        assert road.taken == []

    with_road(work)


def test_when_the_log_is_slow_only_so_much_waits():
    async def work(own, road, clock, lines):
        road.open.clear()
        for _ in range(TASKS_MAX + 2):
            own.give(batch())
        assert own.lost == 4
        road.open.set()
        await own.settled(5.0)
        assert len(road.taken) == TASKS_MAX

    with_road(work)


def test_at_the_end_nobody_waits_longer_than_is_said():
    async def work(own, road, clock, lines):
        road.open.clear()
        own.give(batch())
        await asyncio.sleep(0)
        await own.settled(0.0)
        assert own.lost == 2
        assert lines[0][1]["reason"] == "the server stops, and the log is too slow"

    with_road(work)


def test_i12_at_the_end_spans_are_handed_over_and_waited_for_once_no_request_runs(tmp_path):
    done = []

    class Part:
        async def stop(self):
            done.append("gateway")

        def flush(self):
            done.append("flush")

        async def settled(self, timeout_s):
            assert timeout_s > 0
            done.append("settled")

    application = Application(Settings(), tmp_path, quiet)
    application.gateway = application._spans = application._own = Part()
    asyncio.run(application._end_gateway())

    assert done == ["gateway", "flush", "settled"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "leeward.toml").write_text(CONFIG)
    with ServerProcess(folder / "d") as running:
        running.wait_store()
        yield running


def chat(server, **headers):
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "my patient Zebraquokka"}]}).encode()
    answered = server.ask("POST", "/v1/chat/completions", body, key=server.key("admin"), headers=headers)
    assert answered.status == 200
    return answered


def spans_by_request(server, request_id):
    found = [span for span in server.query_all("kind=span") if span["correlation_id"] == request_id]
    return {span["event_type"]: span for span in found}


def test_a_query_finds_a_request_and_its_calls_with_provider_model_tokens_and_the_callers_trace(server):
    fault = json.dumps({"fault": "500", "for_s": 60}).encode()
    assert server.ask("PUT", "/api/chaos/a", fault, key=server.key("admin")).status == 200
    answered = chat(server, traceparent=f"00-{TRACE}-{SPAN}-01")
    assert server.ask("DELETE", "/api/chaos/a", key=server.key("admin")).status == 200
    spans = {}
    while len(spans) < 3:  # they are handed over once a second
        spans = spans_by_request(server, answered.headers["x-request-id"])

    parent, bad, good = spans["gateway chat"], spans["chat a-large"], spans["chat b-large"]
    assert (parent["trace_id"], parent["parent_span_id"]) == (TRACE, SPAN)
    assert {bad["trace_id"], good["trace_id"]} == {TRACE}
    assert {bad["parent_span_id"], good["parent_span_id"]} == {parent["span_id"]}
    assert (bad["provider"], bad["model"], bad["status"]) == ("a", "a-large", "error")
    assert (good["provider"], good["model"], good["status"]) == ("b", "b-large", "ok")
    assert good["output_tokens"] > 0
    assert good["input_tokens"] > 0
    assert good["duration_ms"] > 0
    assert good["data"]["leeward.origin"] == "self"
    assert bad["data"]["error.type"] == "status_500"
    assert "ebraquokka" not in json.dumps(spans)


def test_what_this_makes_is_no_request_and_makes_nothing_more(server):
    before = server.metric("leeward_gateway_requests_total")
    chat(server)
    assert server.metric("leeward_gateway_requests_total") == before + 1
    assert server.metric("leeward_gateway_telemetry_lost_total") == 0


def test_a_real_server_tells_all_that_the_alert_rules_ask_for(server):
    told = server.ask("GET", "/metrics", key=server.key("read")).body.decode()
    of_clients = "LeewardEventsLostByClients"  # a reason is only there when a client has told one

    assert [problem for problem in alert_rules.problems(told) if of_clients not in problem] == []


def test_i12_spans_of_the_last_second_are_in_the_log_when_the_server_has_stopped(server):
    answered = chat(server)
    server.signal(signal.SIGTERM)
    assert server.wait_end() == 0
    server.start()
    server.wait_store()

    assert set(spans_by_request(server, answered.headers["x-request-id"])) == {"gateway chat", "chat a-large"}
