"""Whatever bytes come in, each decoder gives items within their bounds or a `ProtocolError`, and nothing else."""

from __future__ import annotations

import os

import pytest

import fuzz
from fuzz_targets_otlp import TARGETS, decode_all

INPUTS = 100_000 if os.environ.get("LEEWARD_TEST_HEAVY") else 10_000


@pytest.mark.parametrize("name", TARGETS)
def test_i1_i7_ten_thousand_broken_inputs_raise_nothing_but_a_refusal(name):
    target, seeds = TARGETS[name]

    result = fuzz.run(name, target, seeds, INPUTS, seed=4)

    assert result.finding is None
    assert result.inputs == INPUTS


@pytest.mark.parametrize("name", TARGETS)
def test_i1_every_beginning_of_a_request_is_a_request_or_refused(name):
    target, seeds = TARGETS[name]
    for seed in seeds:
        for size in range(min(len(seed), 600)):
            target(seed[:size])


@pytest.mark.parametrize(
    "body", [b"", b"\0", b"null", b"[]", b'"x"', b"\xff\xfe{\0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
def test_i7_what_is_meant_for_another_protocol_harms_nobody(body):
    decode_all(body)
