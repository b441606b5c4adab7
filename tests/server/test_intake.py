"""From a native body to events within bounds and their rows: the corpus of bad input, and what good input becomes."""

from __future__ import annotations

import json
import uuid

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

import json_strategies
from leeward.errors import ProtocolError
from leeward.model import Dropped, Event
from leeward.scrub.bounds import STRING_BYTES_MAX
from leeward.server.intake import prepare_body

NOW = 1_795_322_741_501
REPAIRED = ["characters that cannot be stored were replaced by U+FFFD"]


def prepared(body, batch_id=""):
    return prepare_body(body, project=3, received_at=NOW, batch_id=batch_id)


def only(body):
    """The one event of a body, or why it is refused; its row says the same."""
    found = prepared(body)
    [event], [row] = found.events, found.rows
    if isinstance(event, Event):
        assert msgspec.json.decode(row, type=Event) == event
        assert b"\n" not in row
        assert row.startswith(b'{"project":3,')
    else:
        assert row == b""
    return event


def with_data(data):
    return only(b'{"event_type":"a","id":"e","data":%b}' % data)


def changes(event):
    return json.loads(event.attributes)["leeward.changed"]


# I1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xef\xbb\xbf{}",
        '{"event_type":"a"}'.encode("utf-16-le"),
        '{"event_type":"a"}'.encode("utf-32"),
        b'{"event_type":"a"}}',
        b'{"event_type":"a"}\0',
        b'{"event_type":"a"}{"event_type":"b"}',
        b'{"event_type":"a"}//',
        b'{"event_type":"a"',
        b"event_type=a",
        b"<xml/>",
        b"\xff\xfe",
        b'{"event_type":"a","data":{"b":"\x01"}}',
        b'{"event_type":"a","data":{"n":NaN}}',
        b'{"event_type":"a","data":{"n":-Infinity}}',
    ],
)
def test_i1_i2_what_is_no_json_is_refused_whole(body):
    with pytest.raises(ProtocolError) as refused:
        prepared(body)
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")


def test_i1_every_event_of_a_mixed_array_has_its_place():
    found = prepared(
        b'[{"event_type":"a"},null,{"data":{}},{"event_type":"b","level":"loud"},{"event_type":"c","id":"e"}]'
    )

    assert [e.code if isinstance(e, Dropped) else e.name for e in found.events] == [
        "a",
        "invalid_event",
        "missing_event_type",
        "invalid_field",
        "c",
    ]
    assert [bool(row) for row in found.rows] == [True, False, False, False, True]
    assert found.made_here[0]
    assert not found.made_here[4]


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=50)
    | json_strategies.damaged(
        json_strategies.objects(
            json_strategies.values(json_strategies.STRING_PARTS | json_strategies.BROKEN_PARTS),
            names=st.sampled_from(
                ['"event_type"', '"data"', '"attributes"', '"error"', '"id"', '"more"', '"timestamp"']
            ),
        )
    )
)
def test_i1_any_bytes_become_events_or_reasons_or_a_refusal(body):
    try:
        found = prepared(body)
    except ProtocolError as error:
        assert error.status == 400  # noqa: PT017 - either outcome is right, each has its form
    else:
        for event, row in zip(found.events, found.rows, strict=True):
            assert isinstance(event, Dropped) or msgspec.json.decode(row, type=Event) == event


# I2


@pytest.mark.parametrize(
    "number",
    [
        b"9007199254740993",
        b"18446744073709551616",
        b"-0.0",
        b"1e999",
        b"-1e999",
        b"1E+5",
        b"1.10",
        b"7" * 400,
        b"7" * 1000,
    ],
)
def test_i2_numbers_come_back_as_they_were_written(number):
    event = with_data(b'{"value":%b,"list":[%b]}' % (number, number))

    assert event.data == f'{{"value":{number.decode()},"list":[{number.decode()}]}}'
    assert event.attributes == ""


@pytest.mark.parametrize("digits", [1001, 5_000, 1_000_000])
def test_i2_integers_without_end_are_refused(digits):
    assert with_data(b'{"n":%b}' % (b"7" * digits)) == Dropped("invalid_field", "a number has more than 1000 digits")


@pytest.mark.parametrize("digits", [400, 1001, 5_000])
@pytest.mark.parametrize("field", [b"timestamp", b"value", b"input_tokens", b"status"])
def test_i2_integers_beyond_a_column_never_fail_inside(field, digits):
    event = only(b'{"event_type":"a","%b":%b}' % (field, b"7" * digits))

    assert isinstance(event, Event) == (field == b"status" and digits < 4300)


# I3


def nested(depth):
    return b"[" * (depth - 1) + b"]" * (depth - 1)


@pytest.mark.parametrize("depth", [64, 65, 1_000, 100_000, 1_000_000])
@pytest.mark.parametrize("place", [b'"data":{"x":%b}', b'"attributes":{"x":%b}', b'"more":%b', b'"error":{"more":%b}'])
def test_i3_sixty_four_levels_are_stored_and_deeper_events_refused_alone(depth, place):
    body = b'{"event_type":"deep",' + place % nested(depth) + b"}"
    if len(body) > 1 << 20:
        assert only(body).code in {"event_too_large", "too_deep"}
        return

    good, deep, also_good = prepared(b'[{"event_type":"a"},%b,{"event_type":"b"}]' % body).events

    assert (good.name, also_good.name) == ("a", "b")
    if depth == 64:
        assert deep.name == "deep"
    else:
        assert deep.code == "too_deep"


# I4


@pytest.mark.parametrize(
    ("sent", "stored", "changed"),
    [
        (b'"\\ud800"', '"\\ufffd"', True),
        (b'"\\ud83d\\ude00"', '"\\ud83d\\ude00"', False),
        (b'"\\u0000"', '"\\ufffd"', True),
        (b'"\\\\u0000"', '"\\\\u0000"', False),
        (b'"\xc0\x80"', '"\ufffd\ufffd"', True),
        (b'"\xed\xa0\x80"', '"\ufffd\ufffd\ufffd"', True),
        (b'"\xff"', '"\ufffd"', True),
        ('"\u202e\U0001f600\u0301"'.encode(), '"\u202e\U0001f600\u0301"', False),
        ('"\ufffd"'.encode(), '"\ufffd"', False),
    ],
)
def test_i4_broken_characters_are_replaced_and_the_event_says_so(sent, stored, changed):
    event = with_data(b'{"k":%b,%b:1}' % (sent, sent))

    assert event.data == f'{{"k":{stored},{stored}:1}}'
    assert (changes(event) == REPAIRED) if changed else event.attributes == ""


def test_i4_names_and_ids_are_repaired_too_and_the_others_of_the_request_are_not_marked():
    first, second = prepared(b'[{"event_type":"a\\u0000","id":"\\ud800"},{"event_type":"b","data":{"k":"v"}}]').events

    assert (first.name, first.id) == ("a\ufffd", "\ufffd")
    assert second.attributes == ""


@settings(deadline=None)
@given(json_strategies.objects())
def test_i4_a_payload_within_the_rules_is_stored_byte_for_byte(data):
    event = with_data(data.encode())

    assert event.data == data
    assert event.attributes == ""


# I5


def test_i5_repeated_strange_and_empty_keys_are_kept_as_they_are():
    data = b'{"a":1,"a":2,"__proto__":{"x":1},"constructor":0,"a.b":{"c":3},"":4,"\\u0061":5}'

    assert with_data(data).data == data.decode()


@pytest.mark.parametrize("place", [b'"data":{%b}', b'"attributes":{%b}', b'"data":{"x":{%b}}', b'"error":{%b}'])
def test_i5_a_thousand_keys_are_kept_and_one_more_refused_alone(place):
    keys = b",".join(b'"k%d":%d' % (n, n) for n in range(1000))

    taken, refused = prepared(
        b'[{"event_type":"a",%b},{"event_type":"b",%b}]' % (place % keys, place % (keys + b',"more":1'))
    ).events

    assert taken.name == "a"
    assert refused == Dropped("too_many_keys", "an object has more than 1000 keys")


def test_i5_fields_that_the_wire_does_not_know_count_as_attributes():
    fields = b",".join(b'"k%d":%d' % (n, n) for n in range(999))

    taken, refused = prepared(
        b'[{"event_type":"a",%b,"attributes":{"x":1}},{"event_type":"a",%b,"attributes":{"x":1,"y":2}}]'
        % (fields, fields)
    ).events

    assert len(json.loads(taken.attributes)) == 1000
    assert refused.code == "too_many_keys"


UNITS = ["x", "\\n", '\\"', "\\\\", "\\u00e9", "\\ud83d\\ude00", "\\\\ud83d", "é", "\u20ac", "\U0001f600"]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("shift", range(0, 12, 3))
@pytest.mark.parametrize("place", ["data", "attributes"])
def test_i5_a_long_string_is_cut_with_a_mark_and_the_event_says_so(unit, shift, place):
    text = "y" * shift + unit * (STRING_BYTES_MAX // len(unit.encode()) + 1)
    body = f'{{"event_type":"a","{place}":{{"k":"{text}","after":[1e2]}}}}'

    event = only(body.encode())

    stored = json.loads(event.data if place == "data" else event.attributes)
    kept, _, mark = stored["k"].rpartition(" [cut: ")
    assert json.loads(f'"{text}"').startswith(kept)
    assert mark == f"{len(text.encode())} bytes]"
    assert stored["after"] == [100.0]
    assert len(stored["k"].encode()) <= STRING_BYTES_MAX
    assert changes(event) == [f"a string of {len(text.encode())} bytes was cut to 65536"]


def test_i5_changes_stand_beside_the_attributes_that_were_sent():
    event = only(
        json.dumps({"event_type": "a", "data": {"k": "x" * 70_000}, "attributes": {"own": 1}, "more": 2}).encode()
    )

    assert json.loads(event.attributes) == {
        "own": 1,
        "more": 2,
        "leeward.changed": ["a string of 70000 bytes was cut to 65536"],
    }


def test_i5_an_event_over_a_mebibyte_is_refused_alone():
    large = json.dumps({"event_type": "b", "data": {f"k{n}": "x" * 60_000 for n in range(20)}}).encode()

    first, refused = prepared(b'[{"event_type":"a"},%b]' % large).events

    assert first.name == "a"
    assert refused.code == "event_too_large"


def test_i5_colliding_and_numerous_keys_cost_one_look_at_each():
    found = with_data(b"{" + b",".join(b'"%d":0' % n for n in range(100_000)) + b"}")

    assert found.code == "too_many_keys"


# Ids


def test_an_event_without_an_id_gets_a_uuid_of_its_time_that_nobody_has_seen():
    found = prepared(b'[{"event_type":"a"},{"event_type":"a","id":""},{"event_type":"a","id":"own"}]')

    first, second, third = (event.id for event in found.events)
    assert uuid.UUID(first).version == uuid.UUID(second).version == 7
    assert uuid.UUID(first).int >> 80 == NOW
    assert first != second
    assert third == "own"
    assert found.made_here == [True, True, False]


def test_w9_in_a_batch_an_event_without_an_id_gets_the_same_one_at_every_replay():
    body = b'[{"event_type":"a"},{"event_type":"a"},{"event_type":"b","unknown":[1],"timestamp":%b}]' % (b"7" * 300)

    first, again = prepared(body, "b-1"), prepared(body, "b-1")
    other_batch, other_project = prepared(body, "b-2"), prepare_body(body, project=4, received_at=NOW, batch_id="b-1")

    ids = [[event.id for event in found.events[:2]] for found in (first, again, other_batch, other_project)]
    assert ids[0] == ids[1]
    assert len({event_id for some in (ids[0], *ids[2:]) for event_id in some}) == 6
    assert all(uuid.UUID(event_id).version == 8 for event_id in ids[0])
    assert first.made_here == [False, False, False]
    assert [event.batch_id for event in first.events[:2]] == ["b-1", "b-1"]
    assert first.events[2].code == "invalid_field"


def test_times_projects_and_errors_stand_in_the_row():
    event = only(b'{"event_type":"a","id":"e","timestamp":5,"error":{"type":"E","why":{"deep":1.0}}}')

    assert (event.project, event.received_at, event.timestamp, event.kind) == (3, NOW, 5, "exception")
    assert (event.error_type, event.error_rest, event.data) == ("E", '{"why":{"deep":1.0}}', "{}")
