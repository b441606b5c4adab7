"""The one rule for broken text, and arrays split without recursion."""

from __future__ import annotations

import json
import re
import tracemalloc

import msgspec
import pytest
from hypothesis import example, given, settings, strategies as st

import json_strategies
from leeward.wire.text import has_replacement, repair, split_array

ANY_PARTS = json_strategies.STRING_PARTS | json_strategies.BROKEN_PARTS
BYTES = st.binary(max_size=60) | st.lists(
    st.sampled_from(
        [b"\\", b"u", b"d83d", b"de00", b"0000", b'"', b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xc3\xa9", b"\x00"]
    ),
    max_size=12,
).map(b"".join)


@settings(deadline=None)
@given(BYTES)
@example(b"\\")
@example(b"\\ud83d\\ud83d\\ude00")
def test_i4_whatever_comes_in_valid_utf8_goes_out_and_a_second_repair_changes_nothing(body):
    repaired, changed = repair(body)

    repaired.decode()
    assert repair(repaired) == (repaired, False)
    assert changed == (repaired != body)
    assert not changed or has_replacement(repaired)


@settings(deadline=None)
@given(json_strategies.values())
def test_i4_text_without_a_fault_is_not_touched(text):
    body = text.encode()

    assert repair(body) == (body, False)


@settings(deadline=None)
@given(json_strategies.strings(ANY_PARTS, 12))
def test_i4_after_the_repair_a_string_can_be_stored_and_only_broken_characters_differ(text):
    repaired, _ = repair(text.encode())

    seen = json.loads(repaired)
    assert seen == re.sub("[\ud800-\udfff\\0]", "\ufffd", json.loads(text))
    assert b"\0" not in seen.encode()


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b'"\\ud800"', b'"\\ufffd"'),
        (b'"\\udc00\\ud800"', b'"\\ufffd\\ufffd"'),
        (b'"\\ud83d\\ude00"', b'"\\ud83d\\ude00"'),
        (b'"\\u0000"', b'"\\ufffd"'),
        (b'"\\\\u0000"', b'"\\\\u0000"'),
        (b'"\\\\\\ud800"', b'"\\\\\\ufffd"'),
        (b'"\xc0\x80"', b'"\xef\xbf\xbd\xef\xbf\xbd"'),  # overlong
        (b'"\xed\xa0\x80"', b'"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"'),  # a surrogate in UTF-8
        (b'"\xf0\x9f\x98"', b'"\xef\xbf\xbd"'),  # cut
        ('"\u202e\U0001f600"'.encode(), '"\u202e\U0001f600"'.encode()),
    ],
)
def test_i4_broken_characters_become_u_fffd_and_all_others_stay(sent, stored):
    assert repair(sent) == (stored, sent != stored)


def test_a_replacement_is_found_in_either_spelling():
    assert has_replacement(b"a\\ufffd")
    assert has_replacement("a\ufffd".encode())
    assert not has_replacement(b"plain")


@settings(max_examples=300, deadline=None)
@given(json_strategies.arrays(), json_strategies.BLANKS, json_strategies.BLANKS)
def test_an_array_is_split_as_the_decoder_splits_it(text, before, after):
    body = (before + text + after).encode()

    assert split_array(body) == [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]


@settings(deadline=None)
@given(json_strategies.damaged(json_strategies.arrays()) | BYTES)
def test_what_no_decoder_takes_is_split_into_something_or_nothing_but_never_fails(body):
    split = split_array(body)

    try:
        whole = msgspec.json.decode(body, type=list[msgspec.Raw])
    except msgspec.DecodeError:
        return
    assert split == [bytes(raw) for raw in whole]


@pytest.mark.parametrize(
    "text",
    [b"", b"1", b"{}", b"[", b"[[]", b"[1] 2", b"[1][2]", b"x[1]", b'[1] "', b'["a', b'["a\\"]', b'"a"', b"]", b"[]]"],
)
def test_i1_what_is_no_whole_array_is_not_split(text):
    assert split_array(text) is None


def test_i3_an_array_deeper_than_any_decoder_follows_is_split():
    deep = b"[" * 100_000 + b"]" * 100_000

    assert split_array(b'[ {"a":"]"} ,' + deep + b', "," ]') == [b'{"a":"]"}', deep, b'","']


@pytest.mark.parametrize("unit", [b"a", b"\\n", b'\\"', b"\\\\", b'",'])
def test_i1_a_string_without_an_end_costs_one_look_at_it(unit):
    """A pattern that tries every way to divide it would not come back within the age of the universe."""
    assert split_array(b'["' + unit * 100_000) is None


def test_i4_a_body_of_nothing_but_broken_text_costs_twice_its_size_and_no_more():
    for broken in (rb"\ud800" * 200_000, b"\xff" * 1_200_000):
        tracemalloc.start()
        repaired, changed = repair(broken)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert changed
        assert set(repaired.replace(rb"\ufffd", b"").replace("\ufffd".encode(), b"")) == set()
        assert peak < 8 * len(broken)


@given(st.binary(max_size=40), st.integers(1, 7))
def test_i4_text_is_judged_the_same_in_whatever_pieces(body, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leeward.wire.text._PIECE_BYTES", piece)
        in_pieces = repair(body)

    assert in_pieces == repair(body)
