"""Whatever bytes come in, each decoder gives values within their bounds or a `ProtocolError`, and nothing else."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given, strategies as st

from broken_inputs import broken
from fuzz_targets_sentry import SEEDS, TARGETS, check, decode_all, decode_envelope
from sentry_envelopes import RECORDED, as_bytes, envelope, mapped

INPUTS = 100_000 if os.environ.get("LEEWARD_TEST_HEAVY") else 10_000
TOKENS = [b"{", b"}", b"[", b"]", b'"', b"\n", b",", b":", b"\\", b"null", b"-1", b"1e999", b"\\ud800", b"\\u0000"]
TOKENS += [
    b"\xff",
    b"\xc3",
    b"true",
    b"9" * 30,
    b"[" * 2000,
    b'"length":',
    b'"type":"event"',
    b"{}",
    b'"values":',
    b"\0",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("target", TARGETS)
def test_i1_i7_ten_thousand_broken_inputs_raise_nothing_but_a_refusal(target):
    decode, seeds = TARGETS[target]
    chance = random.Random(target)
    for _ in range(INPUTS):
        decode(broken(chance, seeds, TOKENS))


@pytest.mark.parametrize("name", RECORDED)
def test_i1_an_envelope_cut_anywhere_is_taken_or_refused(name):
    body = RECORDED[name]
    for end in range(0, len(body), 7):
        decode_envelope(body[:end])


@given(st.binary(max_size=200))
def test_i1_bytes_that_are_nothing_at_all_are_taken_or_refused(data):
    decode_all(data)


MEMBERS = ["exception", "message", "logentry", "threads", "tags", "user", "contexts", "fingerprint", "timestamp"]
MEMBERS += ["level", "event_id", "spans", "start_timestamp", "items", "body", "attributes", "name", "value", "unit"]
MEMBERS += ["type", "trace_id", "span_id", "status", "data", "values", "discarded_events", "severity_number", "op"]


@given(
    st.sampled_from(["event", "transaction", "span", "log", "trace_metric", "client_report"]),
    st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=6),
    st.booleans(),
)
def test_i1_members_of_any_type_cost_their_own_column_and_no_more(kind, payload, in_a_list):
    item = {"items": [payload, None]} if in_a_list else payload
    found = mapped(envelope((kind, as_bytes(item))))

    check(found)
    assert found.lost or found.events or in_a_list or "items" in payload or kind == "client_report"


def test_the_seeds_themselves_are_taken():
    for seed in SEEDS:
        assert not [event for event in mapped(seed).events if not hasattr(event, "kind")]
