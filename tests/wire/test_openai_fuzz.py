"""Whatever bytes a caller or a provider sends, each decoder gives what it documents, or says what is wrong."""

from __future__ import annotations

import os

import pytest

import fuzz
from fuzz_targets_chat import TARGETS, decode_all

INPUTS = 100_000 if os.environ.get("LEEWARD_TEST_HEAVY") else 1_500


@pytest.mark.parametrize("name", TARGETS)
def test_g3_g10_broken_inputs_raise_nothing_but_what_is_documented(name):
    target, seeds = TARGETS[name]

    result = fuzz.run(name, target, seeds, INPUTS, seed=5)

    assert result.finding is None, result.finding.why
    assert result.inputs == INPUTS


@pytest.mark.parametrize("name", TARGETS)
def test_g3_every_beginning_of_an_answer_or_a_request_is_read_or_refused(name):
    target, seeds = TARGETS[name]
    for seed in seeds[:6]:
        for size in range(0, min(len(seed), 400), 1 if os.environ.get("LEEWARD_TEST_HEAVY") else 3):
            target(seed[:size])


@pytest.mark.parametrize(
    "body", [b"", b"\0", b"null", b"[]", b'"x"', b"\xff\xfe{\0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"[" * 65_536]
)
def test_what_is_meant_for_another_protocol_harms_nobody(body):
    decode_all(body)
