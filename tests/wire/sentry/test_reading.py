"""JSON from senders who may send anything: what can be read of it is read, and numbers keep their spelling."""

from __future__ import annotations

import json

import msgspec
import pytest

from leeward.errors import ProtocolError
from leeward.model import Dropped
from leeward.wire.sentry.reading import ABSENT, RECORDS_MAX, Reader, encode, loose, members, split_list

DEEP = b"[" * 100_000


class Thing(msgspec.Struct):
    name: str | None = None
    size: float | None = None
    rest: msgspec.Raw = ABSENT


READER = Reader(Thing)


def test_i1_a_member_of_another_type_costs_itself_alone():
    thing = READER.read(b'{"name":["x"],"size":3,"rest":{"a":1},"unknown":2}')

    assert (thing.name, thing.size, bytes(thing.rest)) == (None, 3, b'{"a":1}')


def test_i2_a_number_that_no_float_can_hold_costs_its_own_member_alone():
    thing = READER.read(b'{"name":"x","size":1e999}')

    assert (thing.name, thing.size) == ("x", None)


def test_i5_of_a_key_given_twice_the_last_counts():
    assert READER.read(b'{"name":"a","name":"b"}').name == "b"
    assert READER.read(b'{"size":"no","name":"a","name":"b"}').name == "b"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "invalid_json"),
        (b'{"name":', "invalid_json"),
        (b'{"name":"a"} x', "invalid_json"),
        (b"{'name':1}", "invalid_json"),
        (b"[]", "invalid_event"),
        (b"null", "invalid_event"),
        (b'"text"', "invalid_event"),
        (b'{"rest":' + DEEP, "too_deep"),
        (b'{"size":"no","rest":' + DEEP, "too_deep"),
    ],
)
def test_i1_i3_what_is_no_object_is_refused_with_a_code(raw, code):
    refused = READER.read(raw)

    assert isinstance(refused, Dropped)
    assert refused.code == code
    assert READER.read_or_default(raw) == Thing()


def test_i2_one_number_that_has_no_place_costs_only_itself():
    assert loose(b'{"a":1e999,"b":[1,{"c":-1e999,"d":2}]}') == {"a": None, "b": [1, {"c": None, "d": 2}]}
    assert loose(b"9" * 5000) is None
    assert loose(DEEP) is None
    assert loose(b'{"a":[[[[[1e999]]]]]}') == {"a": [[[None]]]}, "down to some levels"


def test_i2_members_keep_the_spelling_of_their_numbers():
    raw = b'{"a":1.10,"b":9007199254740993,"c":1e999,"d":-0.0}'

    assert encode(members(raw)) == raw
    assert members(b"[1]") == members(DEEP) == members(ABSENT) == {}


def test_a_list_is_taken_apart_without_what_is_null():
    assert [bytes(item) for item in split_list(b'[{"a":1}, null, 2]')] == [b'{"a":1}', b"2"]


@pytest.mark.parametrize(
    ("raw", "code"),
    [(b"{}", "invalid_event"), (b"[1", "invalid_json"), (DEEP, "too_deep"), (b'{"a":1}', "invalid_event")],
)
def test_i1_i3_what_is_no_list_is_refused_with_a_code(raw, code):
    assert split_list(raw).code == code


def test_i5_a_list_of_too_many_is_413_and_stops_at_the_one_too_many():
    items = ["{}"] * RECORDS_MAX

    assert len(split_list(f"[{','.join(items)}]".encode())) == RECORDS_MAX
    with pytest.raises(ProtocolError) as refused:
        split_list(f"[{','.join(items)},{{}},{'{' * 100}".encode())

    assert (refused.value.status, refused.value.code) == (413, "payload_too_large")


def test_a_list_of_few_items_with_many_commas_is_no_list_of_too_many():
    item = json.dumps(list(range(RECORDS_MAX + 1))).encode()

    assert [bytes(found) for found in split_list(b"[" + item + b",null]")] == [item]
    assert split_list(b'{"a":' + item + b"}").code == "invalid_event"
