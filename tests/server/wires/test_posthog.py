"""PostHog's protocol at the server's door: real dispatch, real decoders and stages; only the log behind is a fake."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import sys
import urllib.parse
import zlib
from typing import Any
from urllib.parse import quote

import brotli
import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from control_helpers import HeldClock
from fuzz_targets_posthog import LZ_SEEDS, UUID
from leeward.errors import ProtocolError, Unavailable
from leeward.model import Dropped, Event
from leeward.server.access import Access, Failures, KeyRing, Sessions
from leeward.server.counters import Counters
from leeward.server.dispatch import Dispatch
from leeward.server.pipeline import Outcome
from leeward.server.quotas import Quota
from leeward.server.routes import ROUTES
from leeward.server.wires import posthog
from quiet_road import KEY, quiet_road

NOW = HeldClock().now_ms
OTHER_UUID = "22ed0000-6f4b-41f8-89c1-502e28b53433"
V1 = "/i/v1/analytics/events"
V0_PATHS = ["/batch", "/batch/", "/capture/", "/e/", "/i/v0/e/", "/track/", "/i/v0/ai/batch/"]
TABLE = [route for route in ROUTES if route.wire == "posthog"]


class Log:
    """Stands for pipeline and log: what was written, each id once; or why nothing can be."""

    def __init__(self):
        self.taken: list[Event] = []
        self.fails: Exception | None = None
        self._seen: set[str] = set()

    def received_at(self):
        return NOW

    async def take(self, prepared, *, project, received_at, with_keys):
        if self.fails is not None:
            raise self.fails
        events = [event for event in prepared.events if isinstance(event, Event)]
        fresh = [event for event in events if event.id not in self._seen]
        self._seen.update(event.id for event in events)
        self.taken += fresh
        refusals = [
            (index, event.code, event.error)
            for index, event in enumerate(prepared.events)
            if isinstance(event, Dropped)
        ]
        return Outcome(received_at, len(prepared.events), len(events) - len(fresh), [], [], refusals)


class Answer:
    def __init__(self, start, content):
        self.status = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        self.body = content["body"]

    def json(self):
        return json.loads(self.body)


class Server:
    """The protocol's rows of the route table, before a log that a test looks into."""

    def __init__(self, **options):
        self.log = Log()
        self.counters = Counters()
        self.unstored = 0
        self.road = quiet_road(self.log, counters=self.counters, pressure=lambda: self.unstored, **options)
        handlers = posthog.Posthog(self.road)
        self.reports: list[Any] = []
        self.app = Dispatch(
            TABLE,
            {route.handler: getattr(handlers, route.handler.removeprefix("posthog_")) for route in TABLE},
            access=Access(KeyRing(), Failures(HeldClock())),
            sessions=Sessions(HeldClock()),
            counters=self.counters,
            allowed_hosts=lambda host: True,
            report=lambda name, fields: self.reports.append((name, fields)),
            refusals={"posthog": posthog.refusal},
            note=self.road.note,
        )

    def ask(self, method, path, body=b"", **headers):
        path, _, query = path.partition("?")
        sent = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "client": ("10.0.0.1", 1),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }
        asyncio.run(self.app(scope, receive, send))
        assert not self.reports
        return Answer(*sent)

    def post(self, path, value, **headers):
        return self.ask("POST", path, value if isinstance(value, bytes) else json.dumps(value).encode(), **headers)

    def outcomes(self):
        return {outcome: count for (wire, outcome), count in self.counters.wire_items.items() if wire == "posthog"}


def event(name="a", **fields):
    return {"event": name, "distinct_id": "u1", "uuid": UUID, "properties": {"a": 1}, **fields}


def batch(*events, **fields):
    return {"api_key": KEY, "batch": list(events), **fields}


# -- the older protocol


@pytest.mark.parametrize("path", V0_PATHS)
def test_all_paths_take_all_shapes(path):
    for shape in (batch(event()), [event(token=KEY)], event(api_key=KEY), {**event(), "token": KEY}):
        server = Server()

        answer = server.post(path, shape, content_type="application/json")

        assert (answer.status, answer.body) == (200, b'{"status":1}')
        assert answer.headers["content-type"] == "application/json"
        assert [one.id for one in server.log.taken] == [UUID]
        assert server.outcomes() == {"accepted": 1}


JSON = json.dumps(batch(event())).encode()


@pytest.mark.parametrize(
    ("method", "query", "body", "headers"),
    [
        pytest.param("POST", "", gzip.compress(JSON), {"content_encoding": "gzip"}, id="gzip, as Python and Node"),
        pytest.param(
            "POST", "?_=1&ver=1.4", gzip.compress(JSON), {"content_type": "text/plain"}, id="gzip, as a browser"
        ),
        pytest.param("POST", "", zlib.compress(JSON), {"content_encoding": "deflate"}, id="deflate"),
        pytest.param("POST", "", brotli.compress(JSON), {"content_encoding": "br"}, id="br"),
        pytest.param(
            "POST",
            "?compression=base64",
            b"data=" + quote(base64.b64encode(JSON), safe="").encode(),
            {"content_type": "application/x-www-form-urlencoded"},
            id="a form, as an old browser",
        ),
        pytest.param("GET", "?data=" + quote(base64.b64encode(JSON), safe=""), b"", {}, id="the query"),
    ],
)
def test_all_encodings_are_undone(method, query, body, headers):
    server = Server()

    answer = server.ask(method, "/e/" + query, body, **headers)

    assert (answer.status, answer.body) == (200, b'{"status":1}')
    assert [one.id for one in server.log.taken] == [UUID]


def test_lz_string_is_undone_too():
    answer = Server().ask("POST", "/e/?compression=lz64", LZ_SEEDS[0])

    assert (answer.status, answer.body) == (401, b"The request has no API key: give it as api_key")


def test_what_lz_string_unpacks_to_counts_as_held():
    server = Server()
    server.road._budget.bytes_max = len(LZ_SEEDS[0]) + 10

    assert server.ask("POST", "/e/?compression=lz64", LZ_SEEDS[0]).status == 429


def test_a_beacon_gets_its_own_answer():
    answer = Server().post("/e/?beacon=1", batch(event()))

    assert (answer.status, answer.body) == (204, b"")


def test_w9_an_event_that_comes_again_is_stored_once():
    server = Server()
    for attempt in ("", "?retry_count=1", "?retry_count=2"):
        assert server.post("/e/" + attempt, batch(event())).status == 200

    assert len(server.log.taken) == 1
    assert server.outcomes() == {"accepted": 1, "duplicate": 2}


def test_one_bad_event_refuses_them_all():
    server = Server()

    answer = server.post("/batch/", batch(event(), event(uuid=OTHER_UUID, distinct_id="")))

    assert (answer.status, answer.body) == (400, b"event 1: it has no distinct_id")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert not server.log.taken
    assert server.outcomes() == {"missing_distinct_id": 1, "refused_with_others": 1}


def test_i5_an_event_that_a_stage_refuses_refuses_them_all():
    server = Server()
    deep: Any = 1
    for _ in range(70):
        deep = [deep]

    answer = server.post("/batch/", batch(event(), event(uuid=OTHER_UUID, properties={"a": deep})))

    assert answer.status == 400
    assert b"deep" in answer.body
    assert not server.log.taken


def test_an_event_that_is_too_large_is_told_so_and_the_sender_halves_its_batches():
    server = Server(body_bytes_max=4 << 20)

    answer = server.post("/batch/", batch(event(properties={str(n): "x" * 60_000 for n in range(30)})))

    assert answer.status == 413
    assert not server.log.taken


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        pytest.param(b"", 400, "its body is empty", id="nothing"),
        pytest.param(b"hello, world", 400, "neither JSON", id="no JSON"),
        pytest.param(b'{"batch":[', 400, "Invalid JSON", id="cut"),
        pytest.param(json.dumps(batch()).encode(), 400, "batch is empty", id="no events"),
        pytest.param(json.dumps({"batch": [event()]}).encode(), 401, "no API key", id="no key"),
        pytest.param(json.dumps({"batch": [event()], "api_key": "phx_1"}).encode(), 401, "personal", id="personal key"),
        pytest.param(json.dumps({"batch": [event()], "api_key": "phc_1"}).encode(), 401, "key", id="wrong key"),
        pytest.param(b"[" + b"{}," * 10_000 + b"{}]", 413, "at most 10000", id="too many events"),
        pytest.param(b"{" + b" " * 1_100_000, 413, "larger than", id="too many bytes"),
        pytest.param(gzip.compress(b" " * 2_000_000), 413, "larger than", id="too many bytes inside"),
    ],
)
def test_refusals_are_texts(body, status, said):
    server = Server()

    answer = server.post("/capture/", body)

    assert answer.status == status
    assert said in answer.body.decode()
    assert answer.headers["content-type"].startswith("text/plain")
    assert not server.log.taken


def test_a_used_up_quota_is_no_error():
    server = Server(quota=Quota(per_minute=1))
    server.post("/batch/", batch(event()))

    answer = server.post("/batch/", batch(event(uuid=OTHER_UUID)))

    assert (answer.status, answer.json()) == (200, {"status": 1, "quota_limited": ["events"]})
    assert len(server.log.taken) == 1
    assert server.outcomes() == {"accepted": 1, "quota_exceeded": 1}


def test_a_full_log_says_when_to_come_again():
    server = Server()
    server.unstored = 2000

    answer = server.post("/batch/", batch(event()))

    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1


def test_what_the_log_cannot_take_is_unavailable_and_nothing_worse():
    server = Server()
    server.log.fails = Unavailable("The log cannot be written just now", retry_after_s=1)

    answer = server.post("/batch/", batch(event()))

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.body == b"The log cannot be written just now"


def test_changes_to_a_person_need_no_name():
    server = Server()

    assert server.post("/engage/", {"$token": KEY, "$distinct_id": "u1", "$set": {"plan": "x"}}).status == 200
    assert server.post("/track/", {"$token": KEY, "$distinct_id": "u1", "$set": {"plan": "x"}}).status == 400

    (taken,) = server.log.taken
    assert (taken.name, taken.distinct_id, taken.attributes) == ("$identify", "u1", '{"$set":{"plan": "x"}}')


def test_the_query_says_when_a_single_event_was_sent():
    server = Server()
    sent = event(api_key=KEY, timestamp="2026-11-22T04:45:31Z")

    server.post("/capture/?_=1795322741000", sent)

    (taken,) = server.log.taken
    assert taken.timestamp == NOW - 10_000


def test_session_recordings_are_counted_and_not_kept():
    server = Server()

    assert server.post("/s/", batch(event("$snapshot"), event("$snapshot"))).status == 200
    assert server.post("/e/", batch(event("$snapshot"))).status == 200
    assert server.post("/s/", {"batch": [event("$snapshot")], "api_key": "phc_wrong"}).status == 401

    assert not server.log.taken
    assert server.outcomes() == {"replay": 3, "unauthorized": 1}


# -- the newer protocol


def v1_event(uuid=UUID, **fields):
    return {
        "event": "a",
        "uuid": uuid,
        "distinct_id": "u1",
        "timestamp": "2026-11-22T04:45:41.486420+00:00",
        "options": {},
        "properties": {"a": 1},
        **fields,
    }


def v1_post(server, *events, path=V1, key=KEY, body=None, **headers):
    value = {"created_at": "2026-11-22T04:45:41+00:00", "historical_migration": False, "batch": list(events)}
    given = {
        "authorization": f"Bearer {key}",
        "posthog_sdk_info": "posthog-python/7.91.1",
        "posthog_attempt": "1",
        "posthog_request_id": UUID,
        "content_type": "application/json",
        **headers,
    }
    return server.post(path, value if body is None else body, **given)


@pytest.mark.parametrize("path", [V1, V1 + "/", "/i/v1/ai/events"])
def test_each_event_gets_an_answer(path):
    server = Server()

    answer = v1_post(server, v1_event(), v1_event(OTHER_UUID, distinct_id=""), path=path)

    assert answer.status == 200
    assert answer.json() == {
        "results": {UUID: {"result": "ok"}, OTHER_UUID: {"result": "drop", "details": "missing_distinct_id"}}
    }
    assert "retry-after" not in answer.headers
    (taken,) = server.log.taken
    assert json.loads(taken.data) == {"a": 1, "$lib": "posthog-python", "$lib_version": "7.91.1"}
    assert server.outcomes() == {"accepted": 1, "missing_distinct_id": 1}


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("br", brotli.compress),
        ("zstd", zstd.compress),
        ("identity", bytes),
    ],
)
def test_its_encodings_are_undone(encoding, packed):
    server = Server()
    body = packed(json.dumps({"batch": [v1_event()]}).encode())

    assert v1_post(server, body=body, content_encoding=encoding).json()["results"] == {UUID: {"result": "ok"}}


def test_w4_w9_a_log_that_fails_asks_for_the_events_again_and_they_are_stored_once():
    server = Server()
    server.log.fails = Unavailable("The log cannot be written just now", retry_after_s=1)

    answer = v1_post(server, v1_event(), v1_event(OTHER_UUID, distinct_id=""))

    assert answer.status == 200
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["results"][UUID] == {"result": "retry", "details": "not_persisted"}

    server.log.fails = None
    assert v1_post(server, v1_event(), posthog_attempt="2").json() == {"results": {UUID: {"result": "ok"}}}
    assert v1_post(server, v1_event(), posthog_attempt="3").json() == {"results": {UUID: {"result": "ok"}}}
    assert [one.id for one in server.log.taken] == [UUID]


def test_over_quota_every_event_is_told_so():
    server = Server(quota=Quota(per_minute=1))
    v1_post(server, v1_event())

    answer = v1_post(server, v1_event(OTHER_UUID))

    assert (answer.status, answer.json()) == (
        200,
        {"results": {OTHER_UUID: {"result": "drop", "details": "billing_limit_exceeded"}}},
    )
    assert server.outcomes() == {"accepted": 1, "quota_exceeded": 1}


@pytest.mark.parametrize(
    ("asked", "status", "tag"),
    [
        pytest.param({"key": "phc_wrong"}, 401, "invalid_api_token", id="wrong key"),
        pytest.param({"body": b"{"}, 400, "invalid_json", id="no JSON"),
        pytest.param({"body": b'{"batch":[]}'}, 400, "empty_batch", id="no events"),
        pytest.param({"body": b'{"batch":{}}'}, 400, "invalid_event", id="no array"),
        pytest.param({"body": b'{"batch":[{"event":"a"}]}'}, 400, "invalid_event", id="fields are missing"),
        pytest.param({"content_encoding": "compress"}, 415, "unsupported_encoding", id="unknown encoding"),
        pytest.param({"body": b" " * 1_100_000}, 413, "payload_too_large", id="too many bytes"),
        pytest.param(
            {"body": b'{"batch":[' + b"{}," * 10_000 + b"{}]}"}, 413, "payload_too_large", id="too many events"
        ),
    ],
)
def test_its_refusals_are_objects(asked, status, tag):
    server = Server()

    answer = v1_post(server, *asked.pop("events", ()), **asked)

    assert answer.status == status
    said = answer.json()
    assert said.pop("error_description")
    assert said == {"error": tag}
    assert answer.headers["content-type"] == "application/json"


def test_the_same_uuid_twice_in_a_request_is_refused():
    answer = v1_post(Server(), v1_event(), v1_event(UUID.upper()))

    assert (answer.status, answer.json()["error"]) == (400, "duplicate_event_uuid")


def test_a_full_log_refuses_the_newer_protocol_in_its_own_form():
    server = Server()
    server.unstored = 2000

    answer = v1_post(server, v1_event())

    assert (answer.status, answer.json()["error"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1


def test_multipart_events_are_told_where_to_go():
    with pytest.raises(ProtocolError, match="send them to /i/v0/ai/batch") as refused:
        asyncio.run(posthog.Posthog(quiet_road(Log())).ai_blobs(None))

    assert refused.value.status == 404


# -- what else SDKs ask for


@pytest.mark.parametrize("path", ["/flags/?v=2", "/decide/?v=3"])
def test_there_are_no_flags_whoever_asks(path):
    answer = Server().post(path, {"api_key": "phc_any", "distinct_id": "u1"}).json()

    assert answer["flags"] == answer["featureFlags"] == answer["featureFlagPayloads"] == {}
    assert answer["errorsWhileComputingFlags"] is False
    assert len(answer["requestId"]) == 36
    assert "quotaLimited" not in answer


def test_the_remote_configuration_is_to_capture_and_nothing_else():
    answer = Server().ask("GET", '/array/phc_<"x>/config').json()

    assert answer["token"] == 'phc_<"x>'
    assert answer["analytics"] == {"endpoint": "/i/v0/e/"}
    assert answer["hasFeatureFlags"] is False
    assert answer["supportedCompression"] == ["gzip", "gzip-js"]


@pytest.mark.parametrize("token", ["phc_x", '"];alert(1)', "<script>", "\u2028"])
def test_a8_the_configuration_as_a_script_holds_its_token_as_text(token):
    answer = Server().ask("GET", f"/array/{urllib.parse.quote(token)}/config.js")

    head = b"(window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{})["
    assert (answer.status, answer.body[: len(head)]) == (200, head)
    named, _ = json.JSONDecoder().raw_decode(answer.body[len(head) :].decode())
    config, _ = json.JSONDecoder().raw_decode(answer.body.decode().partition("={config:")[2])
    assert (urllib.parse.unquote(named), config["token"]) == (token, named)
    assert "surveys" not in config, "the SDK would load a script for them"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/surveys/?token=phc_x", {"surveys": []}),
        ("/api/product_tours/", {"product_tours": []}),
        ("/api/web_experiments/", {"experiments": []}),
        ("/flags/definitions", {"flags": [], "group_type_mapping": {}, "cohorts": {}}),
        ("/api/projects/@current/feature_flags/beta/remote_config/", None),
    ],
)
def test_what_is_not_here_is_said_to_be_empty(path, said):
    answer = Server().ask("GET", path)

    assert (answer.status, answer.json()) == (200, said)


@pytest.mark.parametrize("form", ["{}", "W/{}"])
def test_definitions_that_have_not_changed_are_not_sent_again(form):
    server = Server()
    first = server.ask("GET", "/api/feature_flag/local_evaluation/?token=phc_x&send_cohorts")
    assert first.json()["flags"] == []

    again = server.ask("GET", "/api/feature_flag/local_evaluation/", if_none_match=form.format(first.headers["etag"]))

    assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])


# -- OpenTelemetry's records at PostHog's addresses

LOGS = {
    "resourceLogs": [
        {"scopeLogs": [{"logRecords": [{"timeUnixNano": "1795322741463000000", "body": {"stringValue": "hello"}}]}]}
    ]
}


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        pytest.param(f"/i/v1/logs?token={KEY}", json.dumps(LOGS).encode(), {}, id="key in the query"),
        pytest.param("/i/v1/logs", json.dumps(LOGS).encode(), {"authorization": f"Bearer {KEY}"}, id="key in a header"),
        pytest.param(f"/i/v1/logs?token={KEY}", gzip.compress(json.dumps(LOGS).encode()), {}, id="gzip"),
    ],
)
def test_records_of_opentelemetry_are_taken(path, body, headers):
    server = Server()

    answer = server.post(path, body, content_type="application/json", **headers)

    assert (answer.status, answer.body) == (200, b"{}")
    (taken,) = server.log.taken
    assert (taken.kind, json.loads(taken.data)["message"]) == ("log", "hello")


@pytest.mark.parametrize("path", ["/i/v1/metrics", "/i/v1/traces", "/i/v1/logs"])
def test_an_export_without_records_is_taken_and_one_without_a_key_is_not(path):
    server = Server()

    assert server.post(f"{path}?token={KEY}", b"{}").status == 200
    assert server.post(f"{path}?token=phc_wrong", b"{}").status == 401


def test_metrics_of_opentelemetrys_own_exporter_are_taken_as_protobuf():
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    export = ExportMetricsServiceRequest()
    metric = export.resource_metrics.add().scope_metrics.add().metrics.add(name="cpu")
    metric.gauge.data_points.add(time_unix_nano=1_795_322_741_463_000_000, as_double=1.5)
    server = Server()

    answer = server.post(
        "/i/v1/metrics",
        export.SerializeToString(),
        content_type="application/x-protobuf",
        authorization=f"Bearer {KEY}",
    )

    assert (answer.status, answer.body) == (200, b"")
    (taken,) = server.log.taken
    assert (taken.kind, taken.name, taken.value) == ("metric", "cpu", 1.5)
