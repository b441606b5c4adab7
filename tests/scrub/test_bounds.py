"""Limits on raw JSON: what keeps them is not touched, what does not is cut with a mark or refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings, strategies as st

import json_strategies
from leeward.model import Dropped
from leeward.scrub import bounds
from leeward.scrub.bounds import AI_STRING_BYTES_MAX, DEPTH_MAX, DIGITS_MAX, KEYS_MAX, STRING_BYTES_MAX, bound

MARK = " [cut: "


class Refusal(Exception):
    pass


def model(value, depth, limits):
    """The same rules said recursively over values: strings are cut first where they stand, then counted."""
    depth_max, keys_max = limits
    if isinstance(value, dict | list):
        if depth == depth_max:
            raise Refusal("too_deep")
        for inner in value.values() if isinstance(value, dict) else value:
            model(inner, depth + 1, limits)
    if isinstance(value, Members) and value.count > keys_max:
        raise Refusal("too_many_keys")


class Members(dict):
    """An object that remembers how many members it was written with, repeated names counted."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.count = len(pairs)
        # A repeated name hides the member before it, which is bounded all the same.
        for index, (_, value) in enumerate(pairs):
            self.setdefault(f"hidden {index}", value)


@settings(max_examples=300, deadline=None)
@given(json_strategies.values(leaves_max=30), st.integers(1, 4), st.integers(0, 4))
def test_a_refusal_is_what_a_recursive_reading_of_the_same_rules_gives(text, depth_max, keys_max):
    """With the limits made small, so that small texts reach them."""
    raw = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "DEPTH_MAX", depth_max)
        patch.setattr(bounds, "KEYS_MAX", keys_max)
        patch.setattr(bounds, "_SURELY_SHORT", 0)

        found = bound(raw)

    parsed = json.loads(text, object_pairs_hook=Members)
    refusals = set()
    for limits in ((depth_max, 10**9), (10**9, keys_max)):
        try:
            model(parsed, 0, limits)
        except Refusal as refusal:
            refusals.add(str(refusal))
    if isinstance(found, Dropped):
        assert found.code in refusals
    else:
        assert not refusals
        assert found == (raw, [])


@settings(deadline=None)
@given(json_strategies.values(leaves_max=30))
def test_what_is_within_the_limits_comes_back_byte_for_byte(text):
    assert bound(text.encode()) == (text.encode(), [])


def nested(depth):
    return b'{"a":[' * (depth // 2) + b"1" + b"]}" * (depth // 2)


@pytest.mark.parametrize("padding", [b"", b" " * 70_000])
def test_i3_depth_64_is_kept_and_65_refused_whatever_the_size(padding):
    within = nested(DEPTH_MAX) + padding

    assert bound(within) == (within, [])
    assert bound(b"[" + within + b"]") == Dropped("too_deep", "nested deeper than 64 levels")


def test_i3_a_hundred_thousand_levels_are_refused_at_the_sixty_fifth():
    assert bound(b"[" * 100_000 + b"]" * 100_000).code == "too_deep"


def test_i3_brackets_in_strings_are_no_levels():
    raw = json.dumps({"a": "[{" * 200, "b": ['"[' * 200]}).encode()

    assert bound(raw) == (raw, [])


def test_i3_many_shallow_containers_are_no_depth():
    raw = b"[" + b"[{}]," * 500 + b"1]"

    assert bound(raw) == (raw, [])


@pytest.mark.parametrize("padding", [b"", b" " * 70_000])
def test_i5_a_thousand_keys_are_kept_and_one_more_refused(padding):
    within = b"{" + b",".join(b'"k%d":1' % n for n in range(KEYS_MAX)) + b"}" + padding

    assert bound(within) == (within, [])
    one_more = within.replace(b'"k0":1', b'"k0":1,"more":1')
    assert bound(one_more) == Dropped("too_many_keys", "an object has more than 1000 keys")


def test_i5_keys_are_counted_for_each_object_alone_and_not_in_strings():
    raw = b'[{"u":"' + b":" * 2000 + b'"},' + b",".join(b'{"a":1,"b":{"c":2}}' for _ in range(900)) + b"]"

    assert bound(raw) == (raw, [])


@pytest.mark.parametrize("before", [b"", b'"x",', b" " * 499, b'"' + b"e1" * 800 + b'",'])
@pytest.mark.parametrize(
    "number", [b"9" * DIGITS_MAX, b"-0." + b"1" * (DIGITS_MAX - 3), b"1" * (DIGITS_MAX - 3) + b"e99"]
)
def test_i2_a_thousand_digits_keep_their_spelling_and_one_more_is_refused(number, before):
    within = b"[" + before + number + b"]"

    assert bound(within) == (within, [])
    assert bound(b"[" + before + b"1" + number.replace(b"-", b"1") + b"]") == Dropped(
        "invalid_field", "a number has more than 1000 digits"
    )


@pytest.mark.parametrize("digits", [5_000, 1_000_000])
def test_i2_huge_integers_are_refused_without_being_converted(digits):
    assert bound(b'{"n":' + b"7" * digits + b"}").code == "invalid_field"


def test_i2_long_runs_of_digits_in_strings_are_no_numbers():
    raw = b'{"a":"' + b"1" * 5000 + b'"}'

    assert bound(raw) == (raw, [])


def test_i2_many_numbers_of_just_the_length_allowed_cost_one_look_at_each_byte():
    raw = b"[" + b",".join([b"1" * DIGITS_MAX] * 1000) + b"]"

    assert bound(raw) == (raw, [])


def test_i5_a_string_of_64_kib_is_kept_and_one_byte_more_is_cut_with_a_mark():
    within = b'{"s":"' + b"x" * STRING_BYTES_MAX + b'"}'
    over = b'{"s":"' + b"x" * (STRING_BYTES_MAX + 1) + b'","t":2}'

    kept = bound(within)
    cut, changes = bound(over)

    assert kept == (within, [])
    assert changes == ["a string of 65537 bytes was cut to 65536"]
    found = json.loads(cut)
    assert found["t"] == 2
    assert found["s"].endswith(" [cut: 65537 bytes]")
    assert len(found["s"]) == STRING_BYTES_MAX
    assert bound(cut) == (cut, [])


UNITS = [
    "\\n",
    "\\\\",
    '\\"',
    "\\u00e9",
    "\\ud83d\\ude00",
    "é",
    "\u20ac",
    "\U0001f600",
    "\\\\ud83d",
    "\\\\\\ud83d\\ude00",
]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("shift", range(13))
def test_i5_a_cut_never_splits_an_escape_a_pair_or_a_character(unit, shift):
    text = '["' + "x" * shift + unit * (STRING_BYTES_MAX // len(unit.encode()) + 1) + '"]'

    cut, _ = bound(text.encode())

    found, whole = json.loads(cut)[0], json.loads(text)[0]
    found.encode()
    assert whole.startswith(found[: found.rindex(MARK)])
    assert len(cut) > STRING_BYTES_MAX - 40
    assert bound(cut) == (cut, [])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(UNITS), min_size=1, max_size=12), st.integers(0, 12))
def test_i5_a_cut_through_any_mixture_leaves_valid_json_within_the_limits(units, shift):
    mixture = "".join(units)
    text = '{"k":"' + "x" * shift + mixture * (STRING_BYTES_MAX // len(mixture.encode()) + 1) + '"}'

    cut, changes = bound(text.encode())

    found = json.loads(cut)["k"]
    found.encode()
    assert json.loads(text)["k"].startswith(found[: found.rindex(MARK)])
    assert len(changes) == 1
    assert bound(cut) == (cut, [])


@pytest.mark.parametrize("length", [STRING_BYTES_MAX + 1, AI_STRING_BYTES_MAX, AI_STRING_BYTES_MAX + 1])
def test_i5_who_holds_prompts_may_have_strings_of_a_mebibyte(length):
    raw = b'{"prompt":"%b","n":1.50}' % (b"x" * length)

    bounded, changes = bound(raw, AI_STRING_BYTES_MAX)

    if length <= AI_STRING_BYTES_MAX:
        assert bounded is raw
        assert changes == []
    else:
        assert len(json.loads(bounded)["prompt"]) == AI_STRING_BYTES_MAX
        assert changes == [f"a string of {length} bytes was cut to {AI_STRING_BYTES_MAX}"]
    assert len(json.loads(bound(raw)[0])["prompt"]) == STRING_BYTES_MAX


def test_i5_keys_are_cut_as_strings_are_and_every_cut_is_named():
    raw = json.dumps({"k" * 1_000_000: "v", "b": ["w" * 70_000, 1]}).encode()

    cut, changes = bound(raw)

    assert sorted(map(len, json.loads(cut))) == [1, STRING_BYTES_MAX]
    assert changes == ["a string of 1000000 bytes was cut to 65536", "a string of 70000 bytes was cut to 65536"]


@pytest.mark.parametrize("unit", [b"a", b"\\n", b"\\\\", b'\\"'])
def test_i5_a_string_of_a_mebibyte_of_anything_is_cut_at_one_look(unit):
    cut, _ = bound(b'["' + unit * ((1 << 20) // len(unit)) + b'"]')

    assert len(json.loads(cut)[0]) > STRING_BYTES_MAX // 2 - 40
