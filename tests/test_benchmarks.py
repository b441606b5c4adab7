"""The comparison of clients counts right: what arrived, what was repeated, what a receiver could not tell apart."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))  # benchmarks are run from the repository, not installed

from benchmarks.clients import report  # noqa: E402 - see above
from benchmarks.clients.events import hostile, pool, stream  # noqa: E402
from benchmarks.clients.sinks import BLACKHOLE, OK, REFUSE, Behaviour, SinkProcess  # noqa: E402
from benchmarks.clients.tally import Tally, UnknownEncodingError, items, readable, tally  # noqa: E402

NATIVE = "/api/telemetry/batch"


def test_events_differ_from_one_to_the_next_and_are_the_same_in_every_run():
    first, again = list(islice(stream("run"), 5000)), list(islice(stream("run"), 5000))

    assert first == again
    assert len({properties["mark"] for _, properties, _ in first}) == 5000
    assert len({properties["note"] for _, properties, _ in pool()}) == len(pool())
    assert all(len(properties) == 10 for _, properties, _ in first)
    assert len(hostile()) == 10


@pytest.mark.parametrize(
    ("path", "body", "found"),
    [
        (
            NATIVE,
            {"batch_id": "b", "events": [{"id": "1", "data": {"mark": "run-0"}}, {"id": "2", "data": {}}]},
            ("run-0", "1"),
        ),
        ("/batch/", {"batch": [{"uuid": "1", "properties": {"mark": "run-0"}}, {"uuid": "2"}]}, ("run-0", "1")),
    ],
)
def test_marked_events_of_json_wires_are_found_with_their_ids(path, body, found):
    assert list(items(path, json.dumps(body).encode())) == [found]


def test_marked_events_of_an_envelope_are_found_and_other_items_passed_over():
    event = json.dumps({"event_id": "1", "extra": {"mark": "run-0"}}).encode()
    logs = json.dumps({"items": [{"attributes": {"mark": {"value": "run-1", "type": "string"}}}]}).encode()
    body = (
        b'{"dsn":"x"}\n'
        b'{"type":"event","length":%d}\n%s\n'
        b'{"type":"client_report"}\n{}\n'
        b'{"type":"log","length":%d}\n%s\n' % (len(event), event, len(logs), logs)
    )

    assert list(items("/api/1/envelope/", body)) == [("run-0", "1"), ("run-1", None)]


def test_marked_spans_and_log_records_are_found():
    traces = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    logs = pytest.importorskip("opentelemetry.proto.collector.logs.v1.logs_service_pb2")
    spans = traces.ExportTraceServiceRequest()
    span = spans.resource_spans.add().scope_spans.add().spans.add(span_id=b"\x01" * 8)
    span.attributes.add(key="mark").value.string_value = "run-0"
    records = logs.ExportLogsServiceRequest()
    record = records.resource_logs.add().scope_logs.add().log_records.add()
    record.attributes.add(key="mark").value.string_value = "run-1"

    assert list(items("/v1/traces", spans.SerializeToString())) == [("run-0", "01" * 8)]
    assert list(items("/v1/logs", records.SerializeToString())) == [("run-1", None)]


def test_a_repetition_under_the_same_id_is_repeated_but_not_stored_twice():
    found = [("run-0", "a"), ("run-0", "a"), ("run-1", "b"), ("next-0", "c")]

    assert tally(found, "run") == Tally(distinct=2, repeated=1, stored_twice=0)


@pytest.mark.parametrize("found", [[("run-0", "a"), ("run-0", "b")], [("run-0", None), ("run-0", None)]])
def test_a_repetition_under_another_id_or_none_is_stored_twice(found):
    assert tally(found, "run") == Tally(distinct=1, repeated=1, stored_twice=1)


def test_an_encoding_that_the_sink_cannot_read_is_no_silent_loss():
    with pytest.raises(UnknownEncodingError, match="'br'"):
        readable(NATIVE, b"", "br")


@pytest.mark.parametrize(("body", "encoding"), [(b"POST /batch", "gzip"), (b"{}", ""), (b'{"events": [', "")])
def test_a_request_that_nobody_can_read_has_no_events(body, encoding):
    assert readable(NATIVE, body, encoding) == []


def _post(sink, body: bytes, timeout_s: float = 5) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", int(sink.url.rpartition(":")[2]), timeout=timeout_s)
    try:
        connection.request("POST", NATIVE, gzip.compress(body), {"Content-Encoding": "gzip"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_sink_acknowledges_refuses_stays_silent_or_is_out_as_ordered_and_counts_what_it_took():
    body = json.dumps({"batch_id": "b1", "events": [{"id": "1", "data": {"mark": "run-0"}}]}).encode()
    with SinkProcess() as sinks, sinks.open(REFUSE) as sink:
        with pytest.raises(ConnectionRefusedError):
            _post(sink, body)
        sink.become(BLACKHOLE)
        with pytest.raises(TimeoutError):
            _post(sink, body, timeout_s=0.05)
        sink.become(Behaviour(outage_s=60))
        assert _post(sink, body)[0] == 503
        assert sink.received("run").events.distinct == 0

        sink.become(OK)
        status, answer = _post(sink, body)

        assert (status, json.loads(answer)["batch_id"]) == (200, "b1")
        received = sink.received("run")
        assert (received.events, received.events_all) == (Tally(1, 0, 0), 1)
        assert received.wire_bytes > len(gzip.compress(body))

        with socket.create_connection(("127.0.0.1", int(sink.url.rpartition(":")[2])), timeout=5) as connection:
            connection.sendall(b"\x91half a request\r\n\r\n")
            assert connection.recv(100) == b""
        assert _post(sink, body)[0] == 200


def test_a_goal_is_held_against_the_best_peer_and_the_worst_repetition():
    table = {
        "leeward": {"tight_p50": [8.0, 9.0, 30.0], "kill_after": [1000.0, 999.0]},
        "posthog": {"tight_p50": [50.0], "kill_after": [900.0]},
        "otel": {"tight_p50": [10.0], "kill_after": [0.0]},
        "null": {"tight_p50": [0.1]},
    }

    rows = [row.split(" | ") for row in report.goals(table, {})]

    assert rows[2] == ["| capture, tight, p50, µs", "9", "50", "10 (otel)", "0.90", "≤ 0.8 B", "**missed** |"]
    assert rows[3] == [
        "| kill -9: of 1000, next start",
        "999",
        "900",
        "900 (posthog)",
        "1.11",
        "≥ 1000",
        "**missed** |",
    ]


def test_the_comparison_runs_from_one_command(tmp_path):
    page = tmp_path / "page.md"
    options = ["--quick", "--only", "leeward,null", "--rows", "exit-refuse,kill", "--markdown", str(page)]

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.clients", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert page.read_text(encoding="utf-8") == done.stdout
    assert "| kill -9: of 1000, next start | 1,000 | – | – | – | ≥ 1000 | reached |" in done.stdout
