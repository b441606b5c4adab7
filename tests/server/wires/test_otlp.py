"""OTLP's three addresses: what is answered, in whose encoding, and what a sender may send again."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import sys
import zlib
from collections import Counter

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from control_helpers import HeldClock
from leeward.errors import Unavailable
from leeward.model import Dropped
from leeward.server.counters import Counters
from leeward.server.dispatch import Dispatch
from leeward.server.pipeline import Outcome
from leeward.server.routes import ROUTES
from leeward.server.wires.otlp import Otlp, refusal
from otlp_exports import NOW_NS, as_json, exception_event, inside, log, logs, metrics, span, traces
from quiet_road import KEY, quiet_road
from server_process import ServerProcess

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NOW = HeldClock().now_ms
PROTOBUF = "application/x-protobuf"
JSON = "application/json"
OTLP_ROUTES = [route for route in ROUTES if route.wire == "otlp"]
GAUGE = Metric(name="g", gauge={"data_points": [{"as_int": 1, "time_unix_nano": NOW_NS}]})
WRONG = span(trace_id=b"\0" * 16)
REQUESTS = {
    "/v1/traces": (traces(span()), ExportTraceServiceResponse),
    "/v1/metrics": (metrics(GAUGE), ExportMetricsServiceResponse),
    "/v1/logs": (logs(log("x")), ExportLogsServiceResponse),
}


class Keeping:
    """Stands for pipeline and log: notes what would be written; the second time an id comes it is a duplicate."""

    def __init__(self):
        self.taken = []
        self.calls = 0
        self.seen = set()
        self.failure = None

    def received_at(self):
        return NOW

    async def take(self, prepared, *, project, received_at, with_keys):
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        refusals = []
        duplicates = 0
        for index, event in enumerate(prepared.events):
            if isinstance(event, Dropped):
                refusals.append((index, event.code, event.error))
                continue
            key = (event.kind, event.id)
            duplicates += key in self.seen
            if key not in self.seen:
                self.taken.append(event)
            self.seen.add(key)
        return Outcome(received_at, len(prepared.events), duplicates, [], [], refusals)


class Answer:
    def __init__(self, messages):
        self.status = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body = messages[1]["body"]

    def json(self):
        return json.loads(self.body)


class Server:
    """The addresses behind the real dispatch, road and stages."""

    def __init__(self):
        self.kept = Keeping()
        self.counters = Counters()
        self.unstored = 0
        self.body_was_read = False
        self.road = quiet_road(
            self.kept, counters=self.counters, pressure=lambda: self.unstored, body_bytes_max=1 << 22
        )
        otlp = Otlp(self.road)
        self.dispatch = Dispatch(
            OTLP_ROUTES,
            {"otlp_traces": otlp.traces, "otlp_metrics": otlp.metrics, "otlp_logs": otlp.logs},
            access=self.road._access,
            sessions=None,
            counters=self.counters,
            allowed_hosts=lambda host: True,
            report=lambda name, fields: pytest.fail(f"{name}: {fields['error']!r}"),
            refusals={"otlp": refusal},
            note=self.road.note,
        )

    def post(self, body, path="/v1/traces", kind=PROTOBUF, key=KEY, **headers) -> Answer:
        return asyncio.run(self.send(body, path, kind, key, headers))

    async def send(self, body, path, kind, key, headers) -> Answer:
        messages = []

        async def receive():
            self.body_was_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            messages.append(message)

        given = {"content-type": kind, "authorization": f"Bearer {key}"} if key else {"content-type": kind}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("10.0.0.1", 1),
        }
        await self.dispatch(scope, receive, send)
        return Answer(messages)

    def press(self, share):
        """Let the log be so full for long enough that the level follows."""
        self.unstored = share * 1000
        for _ in range(30):
            self.road._admission.sample(0.0)

    @property
    def items(self):
        return {outcome: count for (_, outcome), count in self.counters.wire_items.items()}


def said(answer):
    """The code and message of a Status in whichever encoding it came."""
    if answer.headers["content-type"] == JSON:
        status = answer.json()
        return status["code"], status["message"]
    assert answer.headers["content-type"] == PROTOBUF
    assert answer.body[0] == 8
    assert answer.body[2] == 18
    start = 4 if answer.body[3] < 0x80 else 5
    return answer.body[1], answer.body[start:].decode()


# -- what is taken ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", REQUESTS)
def test_i7_what_is_all_taken_is_answered_with_an_empty_message(path):
    message, _ = REQUESTS[path]
    server = Server()

    binary = server.post(message.SerializeToString(), path)
    text = server.post(as_json(message), path, f"{JSON}; charset=utf-8")

    assert (binary.status, binary.body, binary.headers["content-type"]) == (200, b"", PROTOBUF)
    assert (text.status, text.body, text.headers["content-type"]) == (200, b"{}", JSON)
    assert len(server.kept.taken) == 1  # the same item, whatever it was written in
    assert server.items == {"accepted": 1, "duplicate": 1}


@pytest.mark.parametrize("path", REQUESTS)
def test_i7_an_empty_request_is_a_success(path):
    server = Server()

    assert server.post(b"", path).body == b""
    assert server.post(b"{}", path, JSON).body == b"{}"
    assert server.kept.calls == 0


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstd.compress)]
)
@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_a_packed_request_is_taken(encoding, pack, kind):
    server = Server()
    message = traces(span())
    body = message.SerializeToString() if kind == PROTOBUF else as_json(message)

    assert server.post(pack(body), kind=kind, content_encoding=encoding).status == 200
    assert len(server.kept.taken) == 1


def test_langfuses_address_takes_spans_with_the_key_as_password():
    server = Server()
    basic = "Basic " + base64.b64encode(f"pk:{KEY}".encode()).decode()

    answer = server.post(traces(span()).SerializeToString(), "/api/public/otel/v1/traces", key="", authorization=basic)

    assert answer.status == 200
    assert server.kept.taken[0].kind == "span"


def test_a_large_request_is_read_in_a_thread_and_taken_the_same():
    server = Server()
    many = traces(*(span({"text": "x" * 400}, span_id=index.to_bytes(8)) for index in range(1, 1001)))

    assert server.post(many.SerializeToString()).status == 200
    assert len(server.kept.taken) == 1000


# -- what is taken in part -------------------------------------------------------------------------------------------


def test_i7_items_that_are_refused_are_counted_and_explained():
    server = Server()
    message = traces(span(), WRONG, WRONG)

    binary = ExportTraceServiceResponse.FromString(server.post(message.SerializeToString()).body)
    text = server.post(as_json(message), kind=JSON).json()

    assert binary.partial_success.rejected_spans == 2
    assert binary.partial_success.error_message.startswith("2 of 3 spans refused: invalid_id (2): a span needs")
    assert text["partialSuccess"] == {
        "rejectedSpans": "2",
        "errorMessage": binary.partial_success.error_message,
    }
    assert server.items == {"accepted": 1, "duplicate": 1, "invalid_id": 4}


def test_i7_an_exception_that_is_refused_is_no_refused_span():
    server = Server()
    large = exception_event(type="E", note=["x" * 60_000] * 20)

    answer = ExportTraceServiceResponse.FromString(server.post(traces(span(events=[large])).SerializeToString()).body)

    assert answer.partial_success.rejected_spans == 0
    assert answer.partial_success.error_message.startswith(
        "0 of 1 spans refused, and 1 exceptions of spans: event_too_large (1)"
    )
    assert [event.kind for event in server.kept.taken] == ["span"]


def test_i7_only_the_commonest_reasons_are_told():
    deep = {"stringValue": "x"}
    for _ in range(70):
        deep = {"arrayValue": {"values": [deep]}}
    large = {"arrayValue": {"values": [{"stringValue": "x" * 60_000}] * 20}}
    many = {"kvlistValue": {"values": [{"key": f"k{index}"} for index in range(1001)]}}
    records = [{"timeUnixNano": "x"}, {"timeUnixNano": "y"}, {"body": deep}, {"body": large}, {"body": many}]
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()

    partial = Server().post(body, "/v1/logs", JSON).json()["partialSuccess"]

    assert partial["rejectedLogRecords"] == "5"
    assert partial["errorMessage"].startswith("5 of 5 log records refused: invalid_field (2): 'x' is not an integer; ")
    assert partial["errorMessage"].endswith("; and others")


# -- requests that come again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", REQUESTS)
def test_w9_a_request_that_comes_again_is_answered_as_before_without_work(path):
    message, response = REQUESTS[path]
    server = Server()
    body = message.SerializeToString()

    answers = [server.post(body, path) for _ in range(9)]
    packed = server.post(gzip.compress(body), path, content_encoding="gzip")

    assert {(one.status, one.body) for one in [*answers, packed]} == {(200, b"")}
    assert server.kept.calls == 1
    assert server.items == {"accepted": 1, "duplicate": 9}
    assert response.FromString(answers[0].body) == response()


def test_w9_a_partial_success_that_comes_again_is_one_again():
    server = Server()
    body = traces(span(), WRONG).SerializeToString()

    first, again = server.post(body), server.post(body)

    assert first.body == again.body
    assert first.body
    assert server.items == {"accepted": 1, "invalid_id": 1, "duplicate": 1}


def test_w9_records_without_a_time_are_kept_from_each_request_but_not_from_a_resend():
    server = Server()
    tick = log("tick", time_unix_nano=0)

    for message in (logs(tick, tick), logs(tick, tick), logs(tick)):
        server.post(message.SerializeToString(), "/v1/logs")

    assert len(server.kept.taken) == 3


def test_w9_what_could_not_be_kept_is_not_remembered():
    server = Server()
    body = traces(span()).SerializeToString()
    server.kept.failure = Unavailable("no room", retry_after_s=7)

    failed = server.post(body)
    server.kept.failure = None
    again = server.post(body)

    assert (failed.status, failed.headers["retry-after"], said(failed)) == (503, "7", (14, "no room"))
    assert again.status == 200
    assert len(server.kept.taken) == 1


# -- what is refused whole -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/grpc", "", "application/jsonp"]
)
def test_i7_any_other_content_type_is_refused_before_the_body_is_read(kind):
    server = Server()

    answer = server.post(b"{}", kind=kind)

    assert (answer.status, answer.headers["content-type"]) == (415, JSON)
    assert said(answer)[0] == 3
    assert not server.body_was_read


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_i7_refusals_have_the_senders_encoding(kind):
    server = Server()
    packed = gzip.compress(b" " * (3 << 20))

    found = {
        "broken": server.post(b"\x0b\x0c{", kind=kind),
        "packing": server.post(b"x", kind=kind, content_encoding="gzip"),
        "unknown packing": server.post(b"x", kind=kind, content_encoding="lzma"),
        "bomb": server.post(packed, kind=kind, content_encoding="gzip"),
        "no key": server.post(b"", kind=kind, key=""),
        "wrong key": server.post(b"", kind=kind, key="lw_" + "x" * 32),
    }

    assert {name: answer.status for name, answer in found.items()} == {
        "broken": 400,
        "packing": 400,
        "unknown packing": 415,
        "bomb": 413,
        "no key": 401,
        "wrong key": 401,
    }
    assert {name: said(answer)[0] for name, answer in found.items()} == {
        "broken": 3,
        "packing": 3,
        "unknown packing": 3,
        "bomb": 8,
        "no key": 16,
        "wrong key": 16,
    }
    assert all(answer.headers["content-type"] == kind for answer in found.values())
    assert server.kept.taken == []


def test_i7_the_name_of_an_enumeration_is_refused_with_its_place():
    answer = Server().post(b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":"SPAN_KIND_SERVER"}]}]}]}', kind=JSON)

    assert (answer.status, said(answer)[0]) == (400, 3)
    assert "$.kind" in said(answer)[1]


def test_i5_more_items_than_may_be_are_refused():
    answer = Server().post(inside(1, inside(2, b"\x12\x00" * 10_001)))

    assert (answer.status, said(answer)[0]) == (413, 8)


# -- under pressure --------------------------------------------------------------------------------------------------


def test_i10_spans_are_refused_before_they_are_read_and_may_come_again():
    server = Server()
    server.press(0.8)

    answer = server.post(traces(span()).SerializeToString())

    assert (answer.status, said(answer)[0]) == (429, 8)
    assert int(answer.headers["retry-after"]) >= 1
    assert not server.body_was_read
    server.press(0)
    assert server.post(traces(span()).SerializeToString()).status == 200


def test_i10_debug_lines_give_way_first_and_the_others_are_taken():
    server = Server()
    server.press(0.55)

    answer = server.post(
        logs(log("d", severity_number=5), log("i"), log("e", severity_number=17)).SerializeToString(), "/v1/logs"
    )

    partial = ExportLogsServiceResponse.FromString(answer.body).partial_success
    assert (answer.status, partial.rejected_log_records) == (200, 1)
    assert "shed (1)" in partial.error_message
    assert [event.level for event in server.kept.taken] == ["INFO", "ERROR"]


def test_i10_metrics_that_must_all_give_way_may_come_again():
    server = Server()
    server.press(0.8)

    answer = server.post(metrics(GAUGE).SerializeToString(), "/v1/metrics")

    assert answer.status == 429
    assert server.kept.taken == []


def test_i10_a_log_that_is_full_refuses_everything_for_later():
    server = Server()
    server.unstored = 2000

    answer = server.post(logs(log("e", severity_number=17)).SerializeToString(), "/v1/logs")

    assert (answer.status, said(answer)[0]) == (503, 14)
    assert "retry-after" in answer.headers
    assert not server.body_was_read


# -- the whole server ------------------------------------------------------------------------------------------------


def test_w1_w9_what_was_answered_survives_a_kill_and_is_there_once_after_the_senders_resend(tmp_path):
    bodies = {
        "/v1/traces": traces(*(span(span_id=index.to_bytes(8)) for index in range(1, 101))),
        "/v1/metrics": metrics(GAUGE),
        "/v1/logs": logs(log("x"), log("x"), log("tick", time_unix_nano=0)),
    }

    with ServerProcess(tmp_path) as server:
        headers = {"content-type": PROTOBUF}
        for attempt in range(2):
            for path, message in bodies.items():
                body = message.SerializeToString()
                for _ in range(2):
                    answer = server.ask("POST", path, body, key=server.key("write"), headers=headers)
                    assert (answer.status, answer.body) == (200, b"")
            if attempt == 0:
                server.kill(group=True)
                server.start()
        kinds = Counter(event["kind"] for event in server.query_all())

    assert kinds == {"span": 100, "metric": 1, "log": 3}
