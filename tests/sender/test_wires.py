"""The client's wires: records → requests that strict servers take, and what the answers mean."""

import http.client
import json
from types import SimpleNamespace

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings, strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

import http_recorder
import otlp_recorder
import posthog_recorder
import recorder
from leeward.sender.wires import WIRES, PosthogWire
from leeward.version import VERSION
from leeward.wire import native_encode, otlp_encode, posthog_encode

KEY = http_recorder.KEY
NOW_MS = 1_795_322_741_463
TRACE = "5b8efff798038103d269b633813fc60c"
JSON = "application/json"
PROTOBUF = "application/x-protobuf"
EVENT, SPAN, LOG, METRIC, TRACES, LOGS, METRICS = range(1, 8)
TYPES = [("native", EVENT), ("posthog", EVENT), *(("otlp", number) for number in range(2, 8))]
RECORDERS = {"native": recorder, "posthog": posthog_recorder, "otlp": otlp_recorder}


def reply(status=200, body=b"", content_type=JSON, cause="", retry_after_s=None):
    """An answer as the transport hands it over."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return SimpleNamespace(
        status=status, cause=cause, content_type=content_type, body=body, retry_after_s=retry_after_s
    )


def request(wire, record_type, events, *, key=KEY, client=None, app="shop/1.2"):
    return WIRES[wire].request(record_type, "b-1", events, key=key, client=client, sent_at_ms=NOW_MS, app=app)


def answer(wire, record_type, given_reply, events=3):
    return WIRES[wire].answer(given_reply, record_type, "b-1", events)


def post(server, asked):
    """Send a request as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("POST", asked.path, asked.body, dict(asked.headers))
        answered = connection.getresponse()
        return reply(answered.status, answered.read(), answered.headers.get("Content-Type", ""))
    finally:
        connection.close()


def native_events(count):
    return [
        native_encode.encode("event", "a", {"n": n}, id=native_encode.uuid7(n, bytes(10)), timestamp_ms=NOW_MS)[1]
        for n in range(count)
    ]


def posthog_events(count):
    return [
        posthog_encode.encode("event", "a", {"n": n}, id=native_encode.uuid7(n, bytes(10)), timestamp_ms=NOW_MS)[1]
        for n in range(count)
    ]


def otlp_events(kind, count):
    return [
        otlp_encode.encode(kind, "a", {"message": "m"}, id=f"e{n}", timestamp_ms=NOW_MS, trace_id=TRACE, value=n)[1]
        for n in range(count)
    ]


def traces(*names):
    message = ExportTraceServiceRequest()
    spans = message.resource_spans.add()
    service = spans.resource.attributes.add()
    service.key, service.value.string_value = "service.name", f"of {names[0]}"
    scope = spans.scope_spans.add()
    scope.scope.name = "theirs"
    for name in names:
        span = scope.spans.add(name=name, kind=1, trace_id=bytes.fromhex(TRACE), span_id=name.encode().ljust(8, b"-"))
        span.start_time_unix_nano = span.end_time_unix_nano = 1
    return message.SerializeToString()


def batch_of(wire, record_type, count):
    if wire == "native":
        return native_events(count)
    if wire == "posthog":
        return posthog_events(count)
    if record_type >= TRACES:
        return [traces(f"s{n}") if record_type == TRACES else b"" for n in range(count)]
    return otlp_events({SPAN: "span", LOG: "log", METRIC: "metric"}[record_type], count)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("wire", "record_type"), TYPES)
def test_a_strict_server_takes_what_each_wire_sends_and_its_answer_is_an_acknowledgement(wire, record_type, count):
    with RECORDERS[wire].Recorder() as server:
        answered = post(server, request(wire, record_type, batch_of(wire, record_type, count)))

        assert server.broken == []
        assert len(server.stored) == (count if record_type < LOGS else 0)
    understood = answer(wire, record_type, answered, count)
    assert (understood.status, understood.acknowledged, understood.refused) == (200, True, {})


@pytest.mark.parametrize(("wire", "record_type"), TYPES)
def test_what_was_no_success_is_passed_on_as_it_came(wire, record_type):
    away = answer(wire, record_type, reply(0, cause="dns"))
    limited = answer(wire, record_type, reply(429, b"{}", retry_after_s=7.0))

    assert (away.status, away.cause, away.acknowledged) == (0, "dns", False)
    assert (limited.status, limited.cause, limited.acknowledged) == (429, "http_429", False)
    assert limited.retry_after_s == 7.0


@pytest.mark.parametrize(("wire", "record_type"), TYPES)
@pytest.mark.parametrize(
    "portal", [reply(200, b"<html>log in</html>", "text/html"), reply(200, b"log in", JSON), reply(200, b"[]", JSON)]
)
def test_a_page_of_something_in_between_is_no_acknowledgement(wire, record_type, portal):
    understood = answer(wire, record_type, portal)

    assert (understood.status, understood.cause, understood.acknowledged) == (200, "not_ours", False)


@pytest.mark.parametrize(("wire", "record_type"), [row for row in TYPES if row[0] != "otlp"])
def test_an_empty_success_says_nothing_about_the_batch_but_on_otlp(wire, record_type):
    assert not answer(wire, record_type, reply(200, b"")).acknowledged
    assert not answer(wire, record_type, reply(200, b"{}")).acknowledged


def test_the_key_is_in_the_place_where_each_wire_looks_for_it():
    bearer = ("Authorization", f"Bearer {KEY}")
    native = request("native", EVENT, native_events(1))
    posthog = request("posthog", EVENT, posthog_events(2), key='k"\\')
    otlp = request("otlp", LOG, otlp_events("log", 1))
    keyless = request("otlp", LOG, otlp_events("log", 1), key="")

    assert bearer in native.headers
    assert bearer in otlp.headers
    assert json.loads(posthog.body)["api_key"] == 'k"\\'
    assert "Authorization" not in dict(posthog.headers) | dict(keyless.headers)


class TestNative:
    def test_a_batch_has_its_name_and_the_senders_report(self):
        events = native_events(2)

        asked = request("native", EVENT, events, client=b'{"process":"p"}')

        assert asked.path == "/api/telemetry/batch"
        assert asked.body == native_encode.batch("b-1", events, b'{"process":"p"}')

    @pytest.mark.parametrize("status", ["completed", "processing", "failed"])
    def test_a_batch_that_is_the_servers_now_is_acknowledged_whatever_becomes_of_it(self, status):
        assert answer("native", EVENT, reply(body={"batch_id": "b-1", "status": status})).acknowledged

    @pytest.mark.parametrize(
        "body",
        [
            {"batch_id": "b-2", "status": "completed"},
            {"batch_id": ["b-1"], "status": "completed"},
            {"batch_id": "b-1", "status": "later"},
            {"batch_id": "b-1", "status": ["completed"]},
            {"batch_id": "b-1"},
            {"status": "completed"},
        ],
    )
    def test_an_answer_about_another_batch_or_in_other_words_is_none(self, body):
        assert not answer("native", EVENT, reply(body=body)).acknowledged

    def test_refused_events_are_counted_by_code(self):
        errors = [{"index": 0, "code": "too_deep"}, {"index": 1, "code": "event_too_large"}, {"code": "too_deep"}]
        understood = answer("native", EVENT, reply(body={"batch_id": "b-1", "status": "completed", "errors": errors}))

        assert understood.refused == {"too_deep": 2, "event_too_large": 1}

    def test_no_more_events_are_refused_than_were_sent(self):
        errors = [{"index": index, "code": "too_deep"} for index in range(5)]
        body = {"batch_id": "b-1", "status": "completed", "errors": errors}

        assert answer("native", EVENT, reply(body=body), events=3).refused == {"too_deep": 3}

    @pytest.mark.parametrize("code", [None, 5, "", "x" * 41, "two words", "a\nb", "größe", ["too_deep"]])
    def test_a_code_that_is_no_plain_word_is_counted_without_being_repeated(self, code):
        errors = [{"code": code}, 1]
        understood = answer("native", EVENT, reply(body={"batch_id": "b-1", "status": "completed", "errors": errors}))

        assert understood.refused == {"refused": 2}

    @pytest.mark.parametrize("errors", [None, 1, "x", {"code": "too_deep"}])
    def test_errors_that_are_no_list_are_none(self, errors):
        understood = answer("native", EVENT, reply(body={"batch_id": "b-1", "status": "completed", "errors": errors}))

        assert (understood.acknowledged, understood.refused) == (True, {})


class TestPosthog:
    def test_a_batch_goes_with_the_time_at_which_it_left(self):
        events = posthog_events(2)
        asked = request("posthog", EVENT, events)

        assert asked.path == "/batch/"
        assert json.loads(asked.body) == {
            "api_key": KEY,
            "sent_at": "2026-11-22T04:45:41.463+00:00",
            "batch": [json.loads(one) for one in events],
        }

    def test_one_event_alone_goes_to_capture_with_the_key_inside(self):
        (event,) = posthog_events(1)
        asked = request("posthog", EVENT, [event])

        assert asked.path == f"/capture/?_={NOW_MS}"
        assert json.loads(asked.body) == {"api_key": KEY, **json.loads(event)}

    def test_a_row_without_capture_sends_a_batch_of_one(self):
        wire = PosthogWire(capture=False)
        asked = wire.request(EVENT, "b-1", posthog_events(1), key=KEY, client=None, sent_at_ms=NOW_MS, app="")

        assert asked.path == "/batch/"
        assert len(json.loads(asked.body)["batch"]) == 1

    @pytest.mark.parametrize("status", [1, "1", "ok", "Ok", True])
    def test_every_spelling_of_success_is_one(self, status):
        assert answer("posthog", EVENT, reply(body={"status": status})).acknowledged

    @pytest.mark.parametrize("status", [0, "error", None, [1], {}])
    def test_a_status_that_is_no_success_is_no_acknowledgement(self, status):
        assert not answer("posthog", EVENT, reply(body={"status": status})).acknowledged

    def test_events_over_the_quota_are_counted_as_refused(self):
        with posthog_recorder.Recorder() as server:
            server.always = posthog_recorder.over_quota
            answered = post(server, request("posthog", EVENT, posthog_events(3)))

        assert server.broken == []
        assert answer("posthog", EVENT, answered, 3).refused == {"quota_limited": 3}

    @pytest.mark.parametrize("limited", [[], None, "events", 1])
    def test_a_quota_that_names_nothing_limits_nothing(self, limited):
        understood = answer("posthog", EVENT, reply(body={"status": 1, "quota_limited": limited}))

        assert (understood.acknowledged, understood.refused) == (True, {})


class TestOtlp:
    @pytest.mark.parametrize(
        ("record_type", "path"),
        [
            (SPAN, "/v1/traces"),
            (LOG, "/v1/logs"),
            (METRIC, "/v1/metrics"),
            (TRACES, "/v1/traces"),
            (LOGS, "/v1/logs"),
            (METRICS, "/v1/metrics"),
        ],
    )
    def test_each_signal_has_its_path_and_each_encoding_its_type(self, record_type, path):
        asked = request("otlp", record_type, batch_of("otlp", record_type, 2))

        content_type = JSON if record_type < TRACES else PROTOBUF
        assert asked.path == path
        assert dict(asked.headers) == {
            "Content-Type": content_type,
            "Accept": content_type,
            "Authorization": f"Bearer {KEY}",
        }

    @pytest.mark.parametrize(
        ("app", "service"),
        [
            ("shop/1.2", {"service.name": "shop", "service.version": "1.2"}),
            ("shop", {"service.name": "shop"}),
            ("", {"service.name": "unknown_service"}),
        ],
    )
    def test_the_resource_says_once_a_request_which_service_and_sdk_it_was(self, app, service):
        asked = request("otlp", SPAN, otlp_events("span", 3), app=app)

        message = otlp_recorder.decode(asked.path, asked.body, is_json=True)
        (resource,) = message.resource_spans
        (scope,) = resource.scope_spans
        sdk = {"telemetry.sdk.name": "leeward", "telemetry.sdk.language": "python", "telemetry.sdk.version": VERSION}
        assert otlp_recorder.attributes(resource.resource.attributes) == service | sdk
        assert (scope.scope.name, scope.scope.version, len(scope.spans)) == ("leeward", VERSION, 3)

    def test_the_exporters_requests_are_one_request_with_everything_in_it(self):
        with otlp_recorder.Recorder() as server:
            post(server, request("otlp", TRACES, [traces("a", "b"), b"", traces("c")]))

            assert server.broken == []
            assert server.signals == {"spans": 3}
            assert server.services == {"of a", "of c"}

    @pytest.mark.parametrize("record_type", [SPAN, TRACES])
    @pytest.mark.parametrize(("rejected", "refused"), [(0, {}), (2, {"rejected": 2}), (9, {"rejected": 3})])
    def test_a_partial_success_counts_what_was_rejected_and_never_more_than_was_sent(
        self, record_type, rejected, refused
    ):
        with otlp_recorder.Recorder() as server:
            server.always = otlp_recorder.partial(rejected)
            answered = post(server, request("otlp", record_type, batch_of("otlp", record_type, 3)))

        assert server.broken == []
        understood = answer("otlp", record_type, answered, 3)
        assert (understood.acknowledged, understood.refused) == (True, refused)

    @pytest.mark.parametrize(
        ("rejected", "refused"),
        [
            ("2", {"rejected": 2}),
            (2, {"rejected": 2}),
            *((odd, {}) for odd in ("-2", -2, "x", 1.5, None, True, [2], "9" * 5_000)),
        ],
    )
    def test_a_count_is_read_as_text_or_number_and_anything_else_is_none(self, rejected, refused):
        understood = answer("otlp", LOG, reply(body={"partialSuccess": {"rejectedLogRecords": rejected}}))

        assert (understood.acknowledged, understood.refused) == (True, refused)

    def test_a_negative_count_in_every_place_rejects_nothing(self):
        counts = dict.fromkeys(("rejectedSpans", "rejectedLogRecords", "rejectedDataPoints"), -1)

        assert answer("otlp", LOG, reply(body={"partialSuccess": counts})).refused == {}

    @pytest.mark.parametrize(
        "success",
        [
            reply(200, b""),
            reply(200, b"", "text/plain"),
            reply(204, b"", ""),
            reply(202, b"{}"),
            reply(200, b"{}", "Application/JSON; charset=utf-8"),
            reply(200, {"partialSuccess": None}),
            reply(200, b"\x0a\x00", PROTOBUF),
            reply(200, b"\x18\x01\x21" + bytes(8) + b"\x2d" + bytes(4), PROTOBUF),  # fields of a later version
        ],
    )
    def test_each_form_of_a_full_success_is_one(self, success):
        understood = answer("otlp", SPAN, success)

        assert (understood.acknowledged, understood.refused) == (True, {})

    @pytest.mark.parametrize(
        "body",
        [
            b"\x0a",  # ends before the length
            b"\x0a\x05\x08",  # ends inside
            b"\x0a\xff\xff\xff\xff\x0f",  # longer than anything
            b"\x0a\x01\x08",  # ends inside the inner message
            b"\x08\x01",  # the partial success is a number
            b"\x00\x01",  # field number zero
            b"\x0b\x0c",  # a group
            b"\xff" * 20,
            b"\x18" + b"\xff" * 10,  # a number longer than any
            b"<html>",
        ],
    )
    def test_bytes_that_are_no_export_response_are_no_acknowledgement(self, body):
        assert not answer("otlp", SPAN, reply(200, body, PROTOBUF)).acknowledged

    @settings(max_examples=100, deadline=None)
    @given(st.integers(-(2**63), 2**63 - 1), st.text(max_size=20), st.integers(1, 100))
    def test_any_export_response_is_read_as_opentelemetry_reads_it_and_no_torn_one_is(self, rejected, message, events):
        response = ExportTraceServiceResponse()
        response.partial_success.rejected_spans = rejected
        response.partial_success.error_message = message
        body = response.SerializeToString()

        for end in range(len(body) + 1):
            understood = answer("otlp", TRACES, reply(200, body[:end], PROTOBUF), events)
            try:
                ExportTraceServiceResponse.FromString(body[:end])
            except DecodeError:
                assert not understood.acknowledged
            else:
                assert understood.acknowledged
        assert understood.refused == ({"rejected": min(rejected, events)} if rejected > 0 else {})


JSON_BODIES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just("b-1")
    | st.just("completed"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["batch_id", "status", "errors", "code", "partialSuccess", "rejectedSpans", "quota_limited", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())
HOSTILE = st.sampled_from(
    [
        b"[" * 60_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"batch_id":"b-1","status":"completed","errors":[' + b"[" * 30_000,
        b'{"partialSuccess":{"rejectedSpans":' + b"9" * 5_000 + b"}}",
        b'{"partialSuccess":{"rejectedSpans":"' + b"9" * 5_000 + b'"}}',
        b'{"partialSuccess":{"rejectedSpans":1e999}}',
        b'{"status":"\\ud800","batch_id":"\xff"}',
        b"\xff\xfe{\x00}\x00",
        b"\x00" * 65_536,
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    row=st.sampled_from(TYPES),
    status=st.sampled_from([200, 202, 204, 207, 302, 400, 500]) | st.integers(100, 599),
    body=st.binary(max_size=60) | JSON_BODIES | HOSTILE,
    content_type=st.sampled_from([JSON, PROTOBUF, "", "application/json;", "text/html"]) | st.text(max_size=20),
    events=st.integers(1, 500),
)
def test_no_answer_makes_a_wire_raise_and_no_more_is_refused_than_was_sent(row, status, body, content_type, events):
    wire, record_type = row
    understood = answer(wire, record_type, reply(status, body, content_type), events)

    assert understood.status == status
    assert understood.acknowledged is (understood.cause == "")
    assert sum(understood.refused.values()) <= events
    assert status in {200, 202, 204} or not understood.acknowledged


def wrong(wire, record_type, old, new):
    """A good batch of two with one thing in it changed."""
    asked = request(wire, record_type, batch_of(wire, record_type, 2))
    assert old in asked.body
    asked.body = asked.body.replace(old, new)
    return asked


@pytest.mark.parametrize(
    ("wire", "record_type", "old", "new"),
    [
        ("native", EVENT, b'"event_type":"a"', b'"event_type":""'),
        ("native", EVENT, b'"b-1"', b'"b 1"'),
        ("posthog", EVENT, KEY.encode(), b"phx_personal"),
        ("posthog", EVENT, b'"uuid":"0', b'"uuid":"x'),
        ("posthog", EVENT, b'"distinct_id":"0', b'"distinct":"0'),
        ("posthog", EVENT, b"+00:00", b""),
        ("otlp", SPAN, TRACE.encode(), b"0" * 32),
        ("otlp", SPAN, TRACE.encode(), b"W47/95gDgQPSabYzgT/GDA=="),  # base64, as protobuf's own JSON has it
        ("otlp", SPAN, b'"kind":1', b'"kind":"SPAN_KIND_INTERNAL"'),
        ("otlp", SPAN, b'"name":"a"', b'"name":""'),
        ("otlp", SPAN, b'"endTimeUnixNano":"1', b'"endTimeUnixNano":"0'),
        ("otlp", SPAN, b'"startTimeUnixNano"', b'"start_time_unix_nano"'),
        ("otlp", LOG, b'"timeUnixNano":"1795322741463000000"', b'"timeUnixNano":1795322741463000000'),
        ("otlp", LOG, b'"severityText"', b'"severity"'),
        ("otlp", LOG, b'"key":"leeward.event.id"', b'"key":""'),
        ("otlp", METRIC, b'"gauge"', b'"gouge"'),
        ("otlp", METRIC, b'"asInt":"1"', b'"asInt":1'),
        ("otlp", TRACES, bytes.fromhex(TRACE), bytes(16)),
        ("otlp", TRACES, b"s0------", b"s0-----\xff\xff"),
    ],
)
def test_the_strict_servers_refuse_what_breaks_their_rules(wire, record_type, old, new):
    with RECORDERS[wire].Recorder() as server:
        answered = post(server, wrong(wire, record_type, old, new))

        assert len(server.broken) == 1
        assert (answered.status, server.stored) == (400, {})
