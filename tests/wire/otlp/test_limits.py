"""Requests that are too much of something: refused before they cost what they ask for, or without the item at fault."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from leeward.errors import ProtocolError
from leeward.model import Dropped, Event
from leeward.wire.otlp import decode
from leeward.wire.otlp.protobuf import MEMO_BYTES_MAX, MEMO_ENTRIES_MAX, Reader
from leeward.wire.otlp.records import BUCKETS_MAX, DEPTH_MAX, ITEM_BYTES_MAX, ITEMS_MAX, PARTS_MAX
from otlp_exports import (
    NOW_NS,
    PROJECT,
    RECEIVED_AT,
    SPAN_ID,
    TRACE_ID,
    any_value,
    data_of,
    decoded,
    header,
    inside,
    log,
    logs,
    pairs,
    span,
    traces,
)

GOOD = span().SerializeToString()
SIGNALS = [decode.traces, decode.logs, decode.metrics]
JSON_NAMES = {
    decode.traces: ("resourceSpans", "scopeSpans", "spans"),
    decode.logs: ("resourceLogs", "scopeLogs", "logRecords"),
    decode.metrics: ("resourceMetrics", "scopeMetrics", "metrics"),
}


def read(body, *, is_json=False, signal=decode.traces):
    return signal(body, is_json=is_json, project=PROJECT, received_at=RECEIVED_AT)


def too_large(body, **about):
    with pytest.raises(ProtocolError) as raised:
        read(body, **about)
    assert (raised.value.status, raised.value.code) == (413, "payload_too_large")


def in_json(signal, *items):
    resources, scopes, name = JSON_NAMES[signal]
    return b'{"%b":[{"%b":[{"%b":[%b]}]}]}' % (resources.encode(), scopes.encode(), name.encode(), b",".join(items))


# -- how many --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", [decode.traces, decode.logs])
def test_i5_ten_thousand_items_are_taken_and_not_one_more(signal):
    item = b"" if signal is decode.logs else b"\x2a\x01x"
    assert read(inside(1, inside(2, inside(2, item) * ITEMS_MAX)), signal=signal).count == ITEMS_MAX
    assert read(in_json(signal, *[b"{}"] * ITEMS_MAX), is_json=True, signal=signal).count == ITEMS_MAX
    too_large(inside(1, inside(2, inside(2, item) * (ITEMS_MAX + 1))), signal=signal)
    too_large(in_json(signal, *[b"{}"] * (ITEMS_MAX + 1)), is_json=True, signal=signal)


@pytest.mark.parametrize("signal", SIGNALS)
def test_i5_items_are_counted_over_all_sources_and_sources_too(signal):
    half = inside(1, inside(2, inside(2, b"\x0a\x00") * (ITEMS_MAX // 2 + 1)))
    too_large(half + half, signal=signal)
    too_large(b"\x0a\x00" * (ITEMS_MAX + 1), signal=signal)
    too_large(inside(1, b"\x12\x00" * (ITEMS_MAX + 1)), signal=signal)
    resources, scopes, _ = JSON_NAMES[signal]
    too_large(b'{"%b":[%b]}' % (resources.encode(), b",".join([b"{}"] * (ITEMS_MAX + 1))), is_json=True, signal=signal)
    half = b"{}," * (ITEMS_MAX // 2) + b"{}"
    too_large(
        in_json(signal, half).replace(
            b"]}]}]}", b"]},%b]}]}" % b'{"%b":[%b]}' % (JSON_NAMES[signal][2].encode(), half)
        ),
        is_json=True,
        signal=signal,
    )
    empty = b'{"%b":[%b]}' % (scopes.encode(), b",".join([b"{}"] * ITEMS_MAX))
    too_large(b'{"%b":[%b]}' % (resources.encode(), empty), is_json=True, signal=signal)


def test_i5_points_are_counted_and_not_only_metrics():
    gauge = inside(5, inside(1, b"") * (ITEMS_MAX // 2 + 1))
    too_large(inside(1, inside(2, inside(2, gauge), inside(2, gauge))), signal=decode.metrics)
    points = b",".join([b"{}"] * (ITEMS_MAX // 2 + 1))
    metric = b'{"gauge":{"dataPoints":[%b]}}' % points
    too_large(in_json(decode.metrics, metric, metric), is_json=True, signal=decode.metrics)


def test_i5_exceptions_inside_spans_are_counted():
    many = inside(2, GOOD + inside(11, inside(2, b"exception")) * (PARTS_MAX - 1))
    too_large(inside(1, inside(2, many * 3)))


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("is_json", [False, True])
def test_i5_a_body_of_nothing_but_containers_costs_no_more_memory_than_itself(signal, is_json):
    size = 4 << 20
    resources, scopes, name = JSON_NAMES[signal]
    if is_json:
        bodies = [
            b'{"%b":[%b]}' % (resources.encode(), b",".join([b"0"] * (size // 2))),
            b'{"%b":[{"%b":[{"%b":[%b]}]}]}'
            % (*(one.encode() for one in (resources, scopes, name)), b"0," * (size // 2) + b"0"),
        ]
    else:
        bodies = [
            b"\x0a\x00" * (size // 2),
            inside(1, b"\x12\x00" * (size // 2)),
            inside(1, inside(2, b"\x12\x00" * (size // 2))),
        ]
    for body in bodies:
        too_large(body, signal=signal, is_json=is_json)  # what is made once for all requests is not counted
        tracemalloc.start()
        try:
            too_large(body, signal=signal, is_json=is_json)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 << 20


# -- how large -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_json", [False, True])
def test_i5_an_item_that_is_too_large_is_refused_unread_and_its_neighbour_taken(is_json):
    text = "x" * ITEM_BYTES_MAX
    if is_json:
        known = {"traceId": TRACE_ID.hex(), "spanId": SPAN_ID.hex()}
        body = in_json(decode.traces, json.dumps({**known, "name": text}).encode(), json.dumps(known).encode())
    else:
        body = traces(span(name=text), span()).SerializeToString()

    large, good = read(body, is_json=is_json).items

    assert isinstance(large, Dropped)
    assert large.code == "event_too_large"
    assert isinstance(good, Event)


@pytest.mark.parametrize("field", [11, 13])
def test_i5_a_span_with_too_many_parts_is_refused_by_itself(field):
    many = inside(2, GOOD + inside(field, b"") * (PARTS_MAX + 1))
    large, good = read(inside(1, inside(2, many, inside(2, GOOD)))).items

    assert large.code == "too_many_parts"
    assert isinstance(good, Event)


def test_i5_a_record_with_too_many_fields_is_refused_by_itself():
    many = inside(2, b"\xf8\x3f\x01" * (PARTS_MAX + 1))

    assert read(inside(1, inside(2, many)), signal=decode.logs).items[0].code == "too_many_parts"


def test_i5_a_source_with_too_much_in_it_refuses_its_records_alone():
    resource = inside(1, b"\xf8\x3f\x01" * (PARTS_MAX + 1))
    body = inside(1, resource, inside(2, inside(2, GOOD) * 2)) + inside(1, inside(2, inside(2, GOOD)))

    assert [isinstance(one, Event) for one in read(body).items] == [False, False, True]
    large = json.dumps({"attributes": [{}] * 110_000}).encode()
    body = b'{"resourceSpans":[{"resource":%b,"scopeSpans":[{"spans":[{}]}]}]}' % large
    assert read(body, is_json=True).items[0].code == "too_many_parts"


@pytest.mark.parametrize("field", [6, 7])
def test_i5_a_histogram_with_too_many_buckets_is_refused_by_itself(field):
    point = inside(field, b"\0" * 8 * (BUCKETS_MAX + 1))
    body = inside(1, inside(2, inside(2, inside(9, inside(1, point), inside(1, b"")))))
    name = {6: "bucketCounts", 7: "explicitBounds"}[field]
    text = json.dumps({"histogram": {"dataPoints": [{name: [0] * (BUCKETS_MAX + 1)}, {}]}}).encode()

    for items in (
        read(body, signal=decode.metrics).items,
        read(in_json(decode.metrics, text), is_json=True, signal=decode.metrics).items,
    ):
        assert items[0].code == "too_many_buckets"
        assert isinstance(items[1], Event)


def test_i5_an_exponential_histogram_with_too_many_buckets_is_refused_by_itself():
    point = inside(8, inside(2, b"\0" * (BUCKETS_MAX + 1)))
    body = inside(1, inside(2, inside(2, inside(10, inside(1, point), inside(1, b"")))))
    text = {"exponentialHistogram": {"dataPoints": [{"positive": {"bucketCounts": [0] * (BUCKETS_MAX + 1)}}]}}

    assert [type(one) for one in read(body, signal=decode.metrics).items] == [Dropped, Event]
    body = in_json(decode.metrics, json.dumps(text).encode())
    assert read(body, is_json=True, signal=decode.metrics).items[0].code == "too_many_buckets"


# -- how deep --------------------------------------------------------------------------------------------------------


def nested(depth, *, in_maps=False):
    """A value inside so many lists or maps, built from the inside without copying it at each level."""
    parts = [b"\x0a\x01x"]
    size = 3
    for _ in range(depth):
        for field in (2, 1, 6) if in_maps else (1, 5):
            if field == 1 and in_maps:
                parts.append(b"\x0a\x01k")
                size += 3
            prefix = header(field, size)
            parts.append(prefix)
            size += len(prefix)
    return b"".join(reversed(parts))


@pytest.mark.parametrize("in_maps", [False, True])
@pytest.mark.parametrize("depth", [DEPTH_MAX + 1, 1000, 100_000])
def test_i3_values_too_deep_inside_each_other_refuse_their_item_alone(depth, in_maps):
    deep = inside(2, GOOD + inside(9, inside(1, b"a"), inside(2, nested(depth, in_maps=in_maps))))

    refused, good = read(inside(1, inside(2, deep, inside(2, GOOD)))).items

    assert refused.code == "too_deep"
    assert isinstance(good, Event)


def test_i3_a_hundred_thousand_levels_of_json_are_refused():
    body = b'{"arrayValue":{"values":[' * 100_000 + b"]}}" * 100_000
    for deep in (
        in_json(decode.traces, b'{"attributes":[{"key":"a","value":%b}]}' % body),
        b'{"resourceSpans":' + b"[" * 100_000,
    ):
        with pytest.raises(ProtocolError) as raised:
            read(deep, is_json=True)
        assert (raised.value.status, raised.value.details) == (400, ("nested too deeply",))


@pytest.mark.parametrize("signal", [decode.traces, decode.logs])
def test_i3_values_too_deep_in_json_refuse_their_item_alone(signal):
    value = {"stringValue": "x"}
    for _ in range(DEPTH_MAX + 1):
        value = {"arrayValue": {"values": [value]}}
    known = {"traceId": TRACE_ID.hex(), "spanId": SPAN_ID.hex()}
    deep = {**known, "attributes": [{"key": "a", "value": value}]}

    refused, good = read(
        in_json(signal, json.dumps(deep).encode(), json.dumps(known).encode()), is_json=True, signal=signal
    ).items

    assert refused.code == "too_deep"
    assert isinstance(good, Event)


def test_i3_the_deepest_value_that_is_taken_is_taken_from_both_encodings():
    value = "x"
    for _ in range(32):  # as deep as OpenTelemetry's own reader goes
        value = [value]

    assert data_of(decoded(traces(span({"a": value})))[0]) == {"a": value}


def test_i3_a_deep_body_of_a_log_and_a_deep_resource_refuse_what_they_belong_to():
    body = inside(1, inside(2, inside(2, inside(5, nested(100)))))
    assert read(body, signal=decode.logs).items[0].code == "too_deep"
    resource = inside(1, inside(1, inside(1, b"a"), inside(2, nested(100))))
    assert read(inside(1, resource, inside(2, inside(2, GOOD)))).items[0].code == "too_deep"


# -- what is remembered ----------------------------------------------------------------------------------------------


def test_what_a_reader_remembers_is_small_and_few():
    attributes = {f"k{index}": index for index in range(MEMO_ENTRIES_MAX + 100)}
    attributes = {"secret": "s" * 200, "list": ["x"], "map": {"k": "v"}, **attributes}
    raw = b"".join(inside(9, one.SerializeToString()) for one in pairs(attributes))
    reader = Reader(raw)

    found, _ = reader.record(0, len(raw), 0x4A)

    assert found == attributes
    assert len(reader.memo) == MEMO_ENTRIES_MAX
    assert max(map(len, reader.memo)) <= MEMO_BYTES_MAX
    assert not {"secret", "list", "map"} & {key for key, _ in reader.memo.values()}


def test_lists_that_look_the_same_are_not_one_list():
    first, second = decoded(logs(log("x", {"a": ["b"]}), log("y", {"a": ["b"]}, time_unix_nano=NOW_NS + 1)))

    assert data_of(first)["a"] == data_of(second)["a"] == ["b"]
    raw = b"".join(inside(9, one.SerializeToString()) for one in [*pairs({"a": ["b"]}), *pairs({"c": ["b"]})])
    reader = Reader(raw)
    assert reader.record(0, len(raw), 0x4A)[0]["a"] is not reader.record(0, len(raw), 0x4A)[0]["a"]
    assert any_value(["b"]).SerializeToString() == nested(1).replace(b"x", b"b")


def test_i5_a_large_resource_is_cut_once_and_not_copied_into_every_record():
    from leeward.wire.otlp.decode import traces

    def exported(last):
        long = {"key": "process.command_line", "value": {"stringValue": "y" * 60_000 + last}}
        many = [{"key": f"k{number}", "value": {"stringValue": "z" * 100}} for number in range(100)]
        spans = [
            {"traceId": "ab" * 16, "spanId": f"{number:016x}", "name": "n", "startTimeUnixNano": "5"}
            for number in range(1, 51)
        ]
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "chat"}}, long, *many]}
        body = json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}).encode()
        return traces(body, is_json=True, project=1, received_at=1).items

    events = exported("a")

    told = json.loads(events[0].attributes)["resource"]
    assert len(events[0].attributes) < 5_000
    assert told["service.name"] == "chat"
    assert told["process.command_line"].endswith("[cut: 60001 characters]")
    assert told["leeward.left_out"] > 50
    assert events[0].service == "chat"


def test_w11_records_of_sources_that_differ_only_in_what_was_cut_are_two():
    from leeward.wire.otlp.decode import logs

    def identity(last):
        resource = {"attributes": [{"key": "a", "value": {"stringValue": "y" * 60_000 + last}}]}
        record = {"timeUnixNano": "5", "body": {"stringValue": "x"}}
        body = json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}).encode()
        return logs(body, is_json=True, project=1, received_at=1).items[0].id

    assert identity("a") == identity("a") != identity("b")
