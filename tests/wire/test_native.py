"""Native bytes → values: each event gets one verdict, and nothing but a ProtocolError ever comes out."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

import json_strategies
from leeward.errors import ProtocolError
from leeward.model import Dropped, Event
from leeward.wire import native
from leeward.wire.native import EVENT_BYTES_MAX, EVENTS_MAX, attributes, decode_batch, decode_events, to_event
from leeward.wire.text import repair

NOW = 1_800_000_000_000


def one(body):
    [event] = decode_events(body if isinstance(body, bytes) else json.dumps(body).encode())
    return event


def taken(body):
    """The wide event of a native one, as the server makes it but for its bounds."""
    event = one(body)
    if isinstance(event, Dropped):
        return event
    data = bytes(event.data) or b"{}"
    return to_event(
        event, project=7, received_at=NOW, event_id="e", data=data, attributes=attributes(event), batch_id=""
    )


def field(name, value):
    return taken({"event_type": "a", name: value})


# Bodies


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b'{"event_type":"a"',
        b'\xef\xbb\xbf{"event_type":"a"}',
        '{"event_type":"a"}'.encode("utf-16"),
        b'{"event_type":"a"} x',
        b'{"event_type":"a"}{"event_type":"b"}',
        b'{"event_type":"a"}\n{"event_type":"b"}',
        b'[{"event_type":"a"}][{"event_type":"b"}]',
        b'[{"event_type":"a"},]',
        b'[{"event_type":"a"}',
        b'{"event_type":"a" /* why */}',
        b'// why\n{"event_type":"a"}',
        b"{'event_type':'a'}",
        b'{"event_type":"a\x00b"}',
        b'{"event_type":"a\nb"}',
        b'{"event_type":"a","data":{"x":NaN}}',
        b'{"event_type":"a","data":{"x":Infinity}}',
        b'{"event_type":"a","data":{"x":01}}',
        b'{"event_type":"a","data":{"x":"\\q"}}',
    ],
)
def test_i1_what_is_no_json_is_refused_whole(body):
    with pytest.raises(ProtocolError, match="Invalid JSON") as refused:
        decode_events(body)

    assert (refused.value.status, refused.value.code) == (400, "invalid_json")


@pytest.mark.parametrize("body", [b"[]", b" [ ] "])
def test_i5_no_events_are_refused(body):
    with pytest.raises(ProtocolError, match="No events") as refused:
        decode_events(body)

    assert (refused.value.status, refused.value.code) == (400, "empty_batch")


@pytest.mark.parametrize(
    "event", [b'{"event_type":"a"}', b'{"event_type":"a","unknown":1}', b"1", b"[" * 5000 + b"]" * 5000]
)
def test_i5_a_thousand_events_are_taken_and_one_more_refused(event):
    # One deep event sends the whole array down the road without recursion.
    rest = b',{"event_type":"a"}' if len(event) > 100 else b"," + event

    assert len(decode_events(b"[" + event + rest * (EVENTS_MAX - 1) + b"]")) == EVENTS_MAX
    with pytest.raises(ProtocolError, match="Batch too large: at most 1000 events") as refused:
        decode_events(b"[" + event + rest * EVENTS_MAX + b"]")
    assert (refused.value.status, refused.value.code) == (400, "batch_too_large")


def test_i5_ten_million_events_are_refused_without_being_held():
    """In a process of its own, whose peak of memory is this decoding's: the body has 20 MB."""
    program = """if True:
        from leeward.errors import ProtocolError
        from leeward.wire.native import decode_events
        body = b"[" + b"1," * 10_000_000 + b"1]"
        def peak_kb():  # getrusage would give the parent's, if that is larger
            with open("/proc/self/status") as status:
                return int(next(line.split()[1] for line in status if line.startswith("VmHWM")))
        before = peak_kb()
        try:
            decode_events(body)
        except ProtocolError as error:
            print(error.code, (peak_kb() - before) // 1024)
    """
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    code, grown_mb = answer.split()
    assert code == "batch_too_large"
    assert int(grown_mb) < 20


def test_i1_good_events_of_a_mixed_array_are_taken_and_each_other_one_is_told_why():
    verdicts = decode_events(
        b'[{"event_type":"a"}, null, {"data":{}}, 5, {"event_type":7}, [], "x", {"event_type":"b","extra":[1]}]'
    )

    assert [v.code if isinstance(v, Dropped) else v.event_type for v in verdicts] == [
        "a",
        "invalid_event",
        None,
        "invalid_event",
        "invalid_field",
        "invalid_event",
        "invalid_event",
        "b",
    ]
    assert verdicts[1].error == "event must be an object"


@pytest.mark.parametrize("body", [b"null", b"5", b'"x"', b"true"])
def test_i1_a_single_body_that_is_no_object_is_an_invalid_event(body):
    assert decode_events(body) == [Dropped("invalid_event", "event must be an object")]


def test_i5_an_event_of_a_mebibyte_is_taken_and_a_larger_one_refused_alone():
    frame = len(b'{"event_type":"a","data":{"x":""}}')
    within = b'{"event_type":"a","data":{"x":"' + b"y" * (EVENT_BYTES_MAX - frame) + b'"}}'
    over = within.replace(b'"y', b'"yy')

    small, large, also_small = decode_events(b"[" + within + b"," + over + b',{"event_type":"b"}]')

    assert (len(bytes(small.data)), also_small.event_type) == (EVENT_BYTES_MAX - frame + len(b'{"x":""}'), "b")
    assert large == Dropped("event_too_large", f"the event has {EVENT_BYTES_MAX + 1} bytes; at most 1048576 are taken")
    assert one(over).code == "event_too_large"


@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize("before", [b"", b'"unknown":1,', b'"event_type":7,'])
def test_i3_an_event_too_deep_for_any_decoder_is_refused_alone(depth, before):
    deep = b"{" + before + b'"data":{"x":' + b"[" * depth + b"]" * depth + b"}}"

    assert one(deep) == Dropped("too_deep", "the event is nested too deeply")
    good, refused, also_good = decode_events(b'[{"event_type":"a"},' + deep + b',{"event_type":"b"}]')
    assert (good.event_type, refused.code, also_good.event_type) == ("a", "too_deep", "b")


@pytest.mark.parametrize(
    "damage",
    [b'{"event_type":"a","x":}', b'{"x":1,"data":{"y":}}', b'{"event_type":"a"', b"{]", b'{"unknown":1,"data":tru}'],
)
def test_i1_a_broken_event_beside_one_too_deep_is_refused_alone_or_with_the_body(damage):
    """Past what a decoder follows, only the pieces can be looked at."""
    try:
        verdicts = decode_events(b"[" + b"[" * 5000 + b"]" * 5000 + b"," + damage + b"]")
    except ProtocolError as error:
        assert error.code == "invalid_json"  # noqa: PT017 - either outcome is right, each has its form
    else:
        assert [v.code for v in verdicts] == ["invalid_event", "invalid_event"]


@pytest.mark.parametrize("rest", [b"", b'"', b"] x", b'["' + b"a" * 50_000])
def test_i3_a_body_too_deep_that_is_no_whole_array_is_no_json(rest):
    with pytest.raises(ProtocolError) as refused:
        decode_events(b"[" + b"[" * 5000 + b"]" * 5000 + rest)

    assert (refused.value.code, refused.value.details) == ("invalid_json", ("nested too deeply",))


# One verdict each, the same alone and in company

NASTY_VALUES = json_strategies.values(json_strategies.STRING_PARTS | json_strategies.BROKEN_PARTS, 6) | st.sampled_from(
    [
        "1" * 400,
        "-" + "1" * 5000,
        "1e999",
        "[" * 1100 + "]" * 1100,
        "{}",
        "[]",
        '""',
        '"' + "x" * 201 + '"',
        '"2026-11-22"',
    ]
)
FIELD_NAMES = st.sampled_from(
    sorted(f'"{f}"' for f in [*native.NativeEvent.__struct_fields__, "more", "__proto__", ""])
)
ERRORS = json_strategies.objects(
    NASTY_VALUES, names=st.sampled_from([f'"{f}"' for f in [*native.ErrorIn.__struct_fields__, "more", "a.b"]])
)
EVENT_TEXTS = (
    json_strategies.objects(NASTY_VALUES | ERRORS, names=FIELD_NAMES)
    | ERRORS.map(lambda error: '{"event_type":"a","error":' + error + "}")
    | json_strategies.objects(NASTY_VALUES, names=FIELD_NAMES).map(
        lambda data: '{"event_type":"a","data":' + data + "}"
    )
    | NASTY_VALUES
)


def verdict(event):
    """What became of an event, as plain values that can be compared; everything that reads it is run."""
    if isinstance(event, Dropped):
        return event
    try:
        more = attributes(event)
    except ProtocolError as error:
        return Dropped(error.code, error.message)
    data = bytes(event.data)
    done = to_event(
        event,
        project=1,
        received_at=NOW,
        event_id=event.id or "made",
        data=b"{}" if data in {b"", b"null"} else data,
        attributes=more,
        batch_id="",
    )
    if isinstance(done, Event):
        msgspec.json.decode(msgspec.json.encode(done), type=Event)
    return done


@settings(max_examples=400, deadline=None)
@given(st.lists(EVENT_TEXTS, min_size=1, max_size=4))
def test_each_event_gets_exactly_one_verdict_and_the_same_alone_as_in_company(texts):
    body, _ = repair(("[" + ", ".join(texts) + "]").encode())

    verdicts = [verdict(event) for event in decode_events(body)]

    assert verdicts == [verdict(decode_events(b"[" + repair(text.encode())[0] + b"]")[0]) for text in texts]


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=40)
    | json_strategies.damaged(EVENT_TEXTS)
    | json_strategies.damaged(st.lists(EVENT_TEXTS, max_size=3).map(lambda texts: "[" + ",".join(texts) + "]"))
)
def test_i1_whatever_comes_in_the_answer_is_verdicts_or_a_protocol_error(body):
    text, _ = repair(body)
    try:
        events = decode_events(text)
    except ProtocolError as error:
        assert (error.status, error.code) in {(400, "invalid_json"), (400, "empty_batch")}  # noqa: PT017 - either outcome is right, each has its form
    else:
        assert events
        assert all(isinstance(verdict(event), Event | Dropped) for event in events)


@settings(deadline=None)
@given(json_strategies.damaged(json_strategies.objects(names=st.sampled_from(['"events"', '"batch_id"', '"client"']))))
def test_i1_the_envelope_of_a_batch_is_decoded_or_refused(body):
    text, _ = repair(body)
    try:
        batch = decode_batch(text)
    except ProtocolError as error:
        assert (error.status, error.code) in {(400, "invalid_json"), (400, "invalid_field")}  # noqa: PT017 - either outcome is right, each has its form
    else:
        assert isinstance(batch.batch_id, str | None)


def test_a_batch_keeps_its_events_as_bytes_and_may_say_more():
    batch = decode_batch(b'{"batch_id":"b-1","more":7,"client":{"process":"p"},"events": [ {"event_type":"a"} ] }')

    assert (batch.batch_id, bytes(batch.events)) == ("b-1", b'[ {"event_type":"a"} ]')
    assert bytes(batch.client) == b'{"process":"p"}'


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", "invalid_field"),
        (b'{"batch_id":7,"events":[]}', "invalid_field"),
        (b"{", "invalid_json"),
        (b'{"events":' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_json"),
    ],
)
def test_i1_a_wrong_envelope_is_refused_with_a_code(body, code):
    with pytest.raises(ProtocolError) as refused:
        decode_batch(body)

    assert (refused.value.status, refused.value.code) == (400, code)


# Fields


def test_every_field_reaches_its_column():
    texts = ["distinct_id", "session_id", "device_id", "correlation_id", "trace_id", "span_id", "parent_span_id"]
    texts += ["service", "provider", "model", "unit"]
    sent = {name: f"the {name}" for name in texts}
    numbers = {"duration_ms": 1.5, "value": -2.25, "input_tokens": 3, "output_tokens": 0}
    sent |= {"event_type": "made", "timestamp": 5, "level": "warning", "kind": "span", "status": 200, **numbers}

    event = taken(sent)

    assert {name: getattr(event, name) for name in texts} == {name: sent[name] for name in texts}
    assert {name: getattr(event, name) for name in numbers} == numbers
    assert (event.name, event.timestamp, event.level, event.kind, event.status) == ("made", 5, "WARN", "span", "200")
    assert (event.project, event.id, event.received_at, event.data, event.attributes) == (7, "e", NOW, "{}", "")


def test_what_is_absent_or_null_is_empty_and_the_time_is_that_of_receipt():
    event = taken(
        {"event": "a", "distinct_id": None, "level": None, "timestamp": None, "error": None, "attributes": None}
    )

    assert event == Event(project=7, kind="event", id="e", name="a", received_at=NOW, timestamp=NOW)


def test_an_error_makes_an_exception_and_fills_its_columns():
    event = taken(
        {
            "event_type": "$exception",
            "error": {
                "type": "ValueError",
                "message": "bad",
                "stack": "at x",
                "category": "network",
                "fingerprint": "f",
                "provider": "openai",
                "status": 503,
                "more": {"deep": [1e2]},
            },
        }
    )

    assert event.kind == "exception"
    assert (event.error_type, event.error_message, event.error_stack) == ("ValueError", "bad", "at x")
    assert (event.error_category, event.error_fingerprint) == ("network", "f")
    assert json.loads(event.error_rest) == {"provider": "openai", "status": 503, "more": {"deep": [100.0]}}


def test_an_unknown_category_is_other_and_long_error_texts_are_cut_with_a_mark():
    event = field("error", {"category": "weather", "type": "T" * 300, "message": "m" * 70_000})

    assert (event.error_category, event.error_type) == ("other", "T" * 200)
    assert event.error_message == "m" * 65_536 + " [cut: 70000 characters]"


def test_a_kind_that_is_given_wins_over_an_error():
    assert taken({"event_type": "a", "kind": "log", "error": {"type": "E"}}).kind == "log"


def test_columns_are_lent_by_the_data_where_the_event_has_none():
    lent = {"provider": "p", "model": "m", "latency_ms": 4, "input_tokens": 1, "output_tokens": 2, "status": "ok"}
    lent |= {"value": 0.5, "unit": "s"}

    event = field("data", lent)
    own = taken({"event_type": "a", "data": lent, "provider": "own", "value": 0, "input_tokens": 9, "status": 7})

    assert (event.provider, event.model, event.duration_ms, event.input_tokens) == ("p", "m", 4.0, 1)
    assert (event.output_tokens, event.status, event.value, event.unit) == (2, "ok", 0.5, "s")
    assert (own.provider, own.value, own.input_tokens, own.status, own.model) == ("own", 0.0, 9, "7", "m")
    assert field("data", {"latency_ms": 4, "duration_ms": 5}).duration_ms == 5.0


@pytest.mark.parametrize("wrong", [[], {}, True, "x" * 300, -1, 10**400])
def test_data_of_another_type_than_the_column_stays_in_the_data_and_lends_what_fits(wrong):
    event = field("data", {"model": "m", "provider": wrong, "input_tokens": wrong, "duration_ms": wrong, "unit": "s"})

    assert (event.model, event.unit, event.input_tokens, event.provider) == ("m", "s", None, "")
    assert json.loads(event.data)["provider"] == wrong


@pytest.mark.parametrize(
    ("sent", "stored"),
    [("info", "INFO"), ("Warning", "WARN"), ("critical", "FATAL"), ("trace", "DEBUG"), ("NOTICE", "INFO"), ("", "")],
)
def test_levels_are_mapped_to_the_five(sent, stored):
    assert field("level", sent).level == stored


def test_unknown_fields_come_out_under_attributes_in_their_own_spelling():
    event = one(
        b'{"event_type":"a","attributes":{"k":1.0,"m":0},"m":9007199254740993,"__proto__":{"x":-0.0},"":[],"a.b":1}'
    )

    assert attributes(event) == b'{"k":1.0,"m":9007199254740993,"__proto__":{"x":-0.0},"":[],"a.b":1}'


@pytest.mark.parametrize(
    "body", [{"event_type": "a"}, {"event_type": "a", "attributes": {}}, {"event_type": "a", "attributes": None}]
)
def test_no_attributes_are_no_text(body):
    assert attributes(one(body)) == b""


def test_i5_the_last_of_repeated_keys_wins():
    assert taken(b'{"event_type":"a","event_type":"b","level":"nonsense","level":"INFO"}').name == "b"
    assert taken(b'{"event_type":7,"event_type":"b"}').name == "b"
    assert taken(b'{"event_type":"b","event_type":7}').code == "invalid_field"


@pytest.mark.parametrize("body", [{}, {"data": {}}, {"event_type": ""}, {"event_type": None, "event": ""}])
def test_i1_an_event_without_a_name_is_refused(body):
    assert taken(body) == Dropped("missing_event_type", "event_type is required")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("event_type", 7),
        ("event_type", "n" * 201),
        ("id", "i" * 129),
        ("id", 5),
        ("distinct_id", ["u"]),
        ("trace_id", "t" * 201),
        ("data", [1]),
        ("data", "text"),
        ("attributes", [1]),
        ("level", "loud"),
        ("level", 3),
        ("kind", "thing"),
        ("timestamp", "yesterday"),
        ("timestamp", True),
        ("timestamp", 2**63),
        ("timestamp", 10**400),
        ("timestamp", -(10**400)),
        ("value", "1"),
        ("value", 10**400),
        ("duration_ms", []),
        ("input_tokens", -1),
        ("input_tokens", 2**63),
        ("input_tokens", 1.5),
        ("status", {}),
        ("error", "text"),
        ("error", {"type": 5}),
        ("error", {"fingerprint": "f" * 201}),
    ],
)
def test_i1_i2_a_field_of_a_wrong_type_or_size_is_named(name, value):
    body = {"event_type": "a", name: value}
    event = one(body)
    try:
        refused = taken(body)
    except ProtocolError as error:  # attributes are read apart
        refused = Dropped(error.code, error.message)

    assert not isinstance(event, Dropped) or event.code == "invalid_field"
    assert refused.code == "invalid_field"
    assert refused.error.startswith(name)


@pytest.mark.parametrize("text", [b"1e999", b"-1e999", b"1" * 5000])
@pytest.mark.parametrize("name", [b"value", b"duration_ms", b"timestamp", b"status", b"input_tokens"])
def test_i2_a_number_that_its_column_cannot_hold_is_refused(name, text):
    refused = taken(b'{"event_type":"a","' + name + b'":' + text + b"}")

    assert refused.code == "invalid_field"
    assert refused.error.startswith(name.decode())


@pytest.mark.parametrize(
    "text", ["1e999", "-0.0", "9007199254740993", "18446744073709551616", "1" * 400, "1E+5", "1.10"]
)
def test_i2_numbers_in_the_data_keep_their_spelling(text):
    body = f'{{"event_type":"a","data":{{"value":{text},"n":[{text}]}}}}'

    assert taken(body.encode()).data == f'{{"value":{text},"n":[{text}]}}'


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (1_795_322_741_463, 1_795_322_741_463),
        (1_795_322_741_463.9, 1_795_322_741_463),
        (-5, -5),
        (2**63 - 1, 2**63 - 1),
        ("2026-11-22T04:45:41.463Z", 1_795_322_741_463),
        ("2026-11-22T05:45:41.463+01:00", 1_795_322_741_463),
        ("2026-11-22T04:45:41.463", 1_795_322_741_463),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140_000),
        ("9999-12-31T23:59:59.999999-23:59", 253_402_387_139_999),
    ],
)
def test_times_are_milliseconds_or_rfc_3339_far_ones_too(sent, stored):
    assert field("timestamp", sent).timestamp == stored


def test_huge_statuses_are_text():
    assert field("status", 2**64).status == str(2**64)
    assert field("error", {"status": 2**64}).error_rest == f'{{"status":{2**64}}}'
    assert len(field("status", 10**4000).status) == 200
