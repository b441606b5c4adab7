"""Whatever bytes come in, each decoder gives values within their bounds or a `ProtocolError`, and nothing else."""

from __future__ import annotations

import json
import os
import random

import pytest
from hypothesis import given, strategies as st

from broken_inputs import broken
from fuzz_targets_posthog import (
    AI,
    EXCEPTION,
    OLD_EXCEPTION,
    OURS,
    TARGETS,
    V1_EVENT,
    check_event,
    decode_all,
    decode_v1,
    events_of,
    seed_batch,
    seed_event,
)

INPUTS = 100_000 if os.environ.get("LEEWARD_TEST_HEAVY") else 10_000
TOKENS = [b"{", b"}", b"[", b"]", b'"', b"\n", b",", b":", b"\\", b"null", b"-1", b"1e999", b"\\ud800", b"\\u0000"]
TOKENS += [b"\xff", b"\xc3", b"true", b"9" * 30, b"[" * 2000, b"{}", b"\0", b"%", b"+", b"=", b"&data=", b"\x1f\x8b"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = sorted({*EXCEPTION, *OLD_EXCEPTION, *AI, *OURS, "$session_id", "$ignore_sent_at", "unit", "input_tokens"})


@pytest.mark.parametrize("target", TARGETS)
def test_i1_i7_ten_thousand_broken_inputs_raise_nothing_but_a_refusal(target):
    decode, seeds = TARGETS[target]
    chance = random.Random(target)
    for _ in range(INPUTS):
        decode(broken(chance, seeds, TOKENS))


@given(st.binary(max_size=200))
def test_i1_bytes_that_are_nothing_at_all_are_taken_or_refused(data):
    decode_all(data)


@given(
    st.sampled_from(["a", "$exception", "$ai_generation", "$span", "$log", "$metric"]),
    st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=6),
    st.booleans(),
)
def test_i1_properties_of_any_type_cost_their_own_column_and_no_more(name, properties, is_ours):
    if is_ours:
        properties["$lib"] = "leeward"
    (event,) = events_of(seed_batch(seed_event(name, properties)).replace(b"NaN", b"1").replace(b"Infinity", b"2"))

    check_event(event)


@given(st.dictionaries(st.sampled_from([*V1_EVENT, "odd"]), JSON, max_size=4))
def test_i1_members_of_any_type_in_the_newer_protocol_are_taken_or_refused(members):
    decode_v1(json.dumps({"batch": [{**V1_EVENT, **members}]}).encode())


def test_i3_nesting_deeper_than_any_decoder_goes_is_refused():
    deep = b"[" * 100_000 + b"]" * 100_000
    for body in (
        b'{"api_key":"k","batch":[{"event":"a","distinct_id":"u","properties":{"a":%s}}]}' % deep,
        b'{"api_key":"k","batch":%s}' % deep,
        b'[{"token":"k","event":"$exception","distinct_id":"u","properties":{"$exception_list":%s}}]' % deep,
        deep,
    ):
        decode_all(body)


def test_the_seeds_themselves_are_taken():
    for seed in TARGETS["posthog_batch"][1]:
        assert events_of(seed)
