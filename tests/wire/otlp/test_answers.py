"""Answers, as OpenTelemetry's own message classes read them."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from leeward.wire.otlp.answers import export_answer, status_answer

RESPONSES = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
}


@pytest.mark.parametrize("signal", RESPONSES)
def test_i7_a_full_success_is_an_empty_message(signal):
    assert export_answer(signal, is_json=False) == b""
    assert export_answer(signal, is_json=True) == b"{}"


@pytest.mark.parametrize("signal", RESPONSES)
@pytest.mark.parametrize(("rejected", "message"), [(1, "why"), (10_000, "é" * 300), (0, "a warning"), (2**40, "")])
def test_i7_what_was_refused_is_counted_in_a_partial_success(signal, rejected, message):
    response, field = RESPONSES[signal]

    binary = response.FromString(export_answer(signal, is_json=False, rejected=rejected, message=message))
    text = json_format.Parse(export_answer(signal, is_json=True, rejected=rejected, message=message), response())

    for one in (binary, text):
        assert getattr(one.partial_success, field) == rejected
        assert one.partial_success.error_message == message


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 3), (401, 16), (403, 7), (404, 5), (408, 4), (413, 8), (415, 3), (429, 8), (503, 14)],
)
def test_i7_a_refusal_is_a_status(status, code):
    assert json.loads(status_answer(status, "why", is_json=True)) == {"code": code, "message": "why"}
    assert status_answer(status, "why", is_json=False) == bytes([8, code, 18, 3]) + b"why"
