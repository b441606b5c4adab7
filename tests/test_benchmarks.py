"""The comparisons count right. Of clients: what arrived, what was repeated, what a receiver could not tell apart. Of
servers: requests differ in ids and times alone, and no more is counted as taken than was answered so."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
import subprocess
import sys
import zlib
from itertools import islice
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))  # benchmarks are run from the repository, not installed

from benchmarks.clients import report  # noqa: E402 - see above
from benchmarks.clients.events import hostile, pool, stream  # noqa: E402
from benchmarks.clients.sinks import BLACKHOLE, OK, REFUSE, Behaviour, SinkProcess  # noqa: E402
from benchmarks.clients.tally import Tally, UnknownEncodingError, items, readable, tally  # noqa: E402
from benchmarks.ingest import processes, report as ingest_report  # noqa: E402
from benchmarks.ingest.bombs import corpus, largest  # noqa: E402
from benchmarks.ingest.generator import Generator, Job  # noqa: E402
from benchmarks.ingest.loads import LOADS  # noqa: E402
from benchmarks.ingest.templates import CLOCK_MARK, SECONDS_MARK, Template, fixed64_mark, random_mark  # noqa: E402

from leeward.settings.tree import Server as Limits  # noqa: E402

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


NOW_NS = 1_795_000_000 * 10**9
COUNTING = iter(range(10**6))


def _counted_bytes(size):
    """Like random bytes, but no two alike."""
    return b"".join(next(COUNTING).to_bytes(4) for _ in range(size // 4 + 1))[:size]


def test_a_request_differs_from_its_template_in_ids_and_times_alone():
    text = f"{random_mark(1, 8)},{random_mark(2, 12)},{random_mark(1, 8)},{CLOCK_MARK},{SECONDS_MARK}123"
    template = Template(text.encode(), is_text=True)

    first, second = (template.filled(_counted_bytes, NOW_NS).split(b",") for _ in range(2))

    assert (first[0], len(first[0]), len(first[1])) == (first[2], 8, 12)
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert first[3:] == second[3:] == [b"11:06:40", b"1795000000123"]
    assert template.marks == 5


def test_a_time_in_protobuf_moves_with_the_clock_and_keeps_its_distance():
    marked = b"".join(fixed64_mark(low_ns, later).to_bytes(8, "little") for low_ns, later in ((5, 0), (5, 30)))

    filled = Template(marked, is_text=False).filled(os.urandom, NOW_NS)

    start, end = (int.from_bytes(filled[at : at + 8], "little") for at in (0, 8))
    assert end - start == 30 << 24
    assert 0 <= NOW_NS - start < 1 << 24


@pytest.mark.parametrize("name", LOADS)
def test_every_load_is_read_by_its_protocol_and_no_id_comes_twice(name):
    size = 1 if name == "sentry" else 5
    load = LOADS[name](size, "key", "1")

    bodies = [template.filled(_counted_bytes) for template in load.templates[:20] for _ in range(2)]

    assert {len(body) for body in bodies} == {template.size for template in load.templates[:20]}
    ids = [number for body in bodies for number in _ids(name, body)]
    assert len(ids) == len(set(ids)) == 40 * size


def _ids(name, body):
    if name == "spans":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return [
            span.span_id for span in ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans
        ]
    if name == "logs":
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

        scope = ExportLogsServiceRequest.FromString(body).resource_logs[0].scope_logs[0]
        return [record.span_id for record in scope.log_records]
    if name == "sentry":
        head, item, payload, _ = body.split(b"\n")
        assert json.loads(item)["length"] == len(payload)
        assert json.loads(head)["event_id"] == json.loads(payload)["event_id"]
        return [json.loads(payload)["event_id"]]
    decoded = json.loads(body)
    return [event.get("id") or event["uuid"] for event in (decoded if name == "native" else decoded["batch"])]


def test_a_load_counts_as_taken_what_was_answered_so():
    with SinkProcess() as sinks:
        sink = sinks.open(OK)
        job = Job(int(sink.url.rpartition(":")[2]), "posthog_gzip", 10, "key", seconds=0.2)

        taken = Generator(job).wait()
        sink.become(Behaviour(outage_s=60))
        refused = Generator(job._replace(load="native")).wait()

    assert taken.statuses == {"200": taken.acknowledged // 10}
    assert taken.acknowledged >= 40
    assert (taken.refused, taken.broken, taken.said) == (0, 0, "")
    assert (refused.acknowledged, refused.refused) == (0, refused.statuses["503"])
    assert refused.said.startswith("HTTP/1.1 503")


def test_bombs_are_small_on_the_wire_and_just_within_the_limits_or_far_beyond_them():
    for bomb in corpus("key", share=0.02):
        size, limit = _unpacked_size(bomb), _limit(bomb) * 0.02

        assert len(bomb.body) * 20 < size
        assert size > 2 * limit if "beyond" in bomb.name else limit * 0.9 < size <= limit, bomb.name
    for request in largest("key", share=0.1):
        limit = _limit(request) * 0.1
        assert limit / 2 < _unpacked_size(request) <= limit, request.name


def test_bombs_in_protobuf_are_whole_messages():
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    bombs = [bomb for bomb in corpus("key", share=0.002) if bomb.name.startswith("otlp traces: within")]

    whole = [ExportTraceServiceRequest.FromString(zlib.decompress(bomb.body, 31)) for bomb in bombs]

    assert len(whole[0].resource_spans) > 50_000
    assert len(whole[2].resource_spans[0].scope_spans[0].spans) > 50_000
    assert len(whole[4].resource_spans[0].scope_spans[0].spans[0].attributes) > 50_000


def _limit(bomb):
    limits = Limits()
    wire = bomb.name.partition(":")[0].split()[0]
    special = {"sentry": limits.sentry_body_unpacked_bytes_max, "otlp": limits.otlp_body_unpacked_bytes_max}
    return special.get(wire, limits.body_unpacked_bytes_max)


def _unpacked_size(bomb):
    size, rest = 0, bomb.body
    while rest:
        stream = zlib.decompressobj(15 if bomb.headers["content-encoding"] == "deflate" else 31)
        size += len(stream.decompress(rest))
        assert stream.eof
        rest = stream.unused_data
    return size


def test_what_a_process_costs_includes_what_it_has_started():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        pids = processes.tree([os.getpid()])
        child.communicate(b"\n", timeout=30)

    assert child.pid in pids
    assert processes.memory([os.getpid()]).now_mb > 1
    assert processes.cpu_s([os.getpid()]) > 0


def test_servers_are_compared_by_medians_and_what_was_not_stored_is_said():
    one = {"p50_ms": [1.0], "idle_mb": [80.0], "peak_mb": [90.0], "ready_s": [0.4], "disk_bytes": [300.0]}
    ours = {
        **one,
        "acknowledged_per_s": [40e3] * 3,
        "stored_per_s": [29e3, 31e3, 90e3],
        "p99_ms": [70.0],
        "cpu_s": [5.0],
    }
    theirs = {**one, "acknowledged_per_s": [1e3], "stored_per_s": [500.0], "p99_ms": [700.0], "cpu_s": [100.0]}
    table = {
        "spans-100": {
            "leeward": {**ours, "left": [0.0], "refused": [0.0]},
            "mlflow": {**theirs, "left": [250.0], "refused": [3.0]},
            "phoenix": {
                **theirs,
                "stored_per_s": [80.0],
                "p99_ms": [800.0],
                "cpu_s": [200.0],
                "left": [0.0],
                "refused": [0.0],
            },
        }
    }

    measured = [line.split(" | ")[2:4] for line in ingest_report.lines(table)][2:]
    goals = [line.split(" | ")[1:] for line in ingest_report.goals(table)][2:]

    assert measured == [
        ["40,000", "31,000"],
        ["1,000", "500 (250 acknowledged not yet stored, 3 requests refused)"],
        ["1,000", "80"],
    ]
    assert goals == [
        ["31,000", "≥ 30,000", "reached", "500 (mlflow)", "62 |"],
        ["70", "≤ 60", "**missed**", "700 (mlflow)", "0.1 |"],
        ["5", "≤ 6", "reached", "100 (mlflow)", "0.05 |"],
    ]
