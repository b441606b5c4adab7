"""What a client says of itself: read within bounds, or not at all."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

import json_strategies
from leeward.wire.client import NUMBER_MAX, ClientReport, decode_client

GOOD = {"process": "0190c0ffee", "first": 1, "last": 90, "lost": [{"reason": "spool_full", "count": 2}]}


def said(**fields):
    return json.dumps({**GOOD, **fields}).encode()


def test_the_process_its_highest_number_and_its_losses_are_kept():
    assert decode_client(said()) == ClientReport("0190c0ffee", 90, {"spool_full": 2})


def test_losses_may_be_left_out_and_fields_of_a_newer_client_are_no_matter():
    assert decode_client(b'{"process":"p","first":7,"last":7,"new":{"deep":[1]}}') == ClientReport("p", 7, {})


def test_a_reason_that_comes_twice_is_added_up_and_one_without_losses_is_none():
    lost = [{"reason": "a", "count": 2}, {"reason": "b", "count": 0}, {"reason": "a", "count": NUMBER_MAX}]

    assert decode_client(said(lost=lost)) == ClientReport("0190c0ffee", 90, {"a": NUMBER_MAX + 2})


@pytest.mark.parametrize(
    "fields",
    [
        {"process": "A-Za.z_0"},
        {"process": "p" * 64},
        {"first": 90},
        {"last": NUMBER_MAX},
        {"lost": []},
        {"lost": [{"reason": "r" * 40, "count": NUMBER_MAX}] * 16},
    ],
)
def test_what_lies_at_a_bound_is_taken(fields):
    assert decode_client(said(**fields)) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"process": ""},
        {"process": "p" * 65},
        {"process": "a b"},
        {"process": "a\n"},
        {"process": "é"},
        {"process": None},
        {"process": 7},
        {"first": 91},
        {"first": 0},
        {"first": -1},
        {"first": "1"},
        {"last": NUMBER_MAX + 1},
        {"last": 1e300},
        {"last": None},
        {"lost": {}},
        {"lost": [{"reason": "r", "count": 1}] * 17},
        {"lost": [{"reason": "", "count": 1}]},
        {"lost": [{"reason": "r" * 41, "count": 1}]},
        {"lost": [{"reason": "Spool full", "count": 1}]},
        {"lost": [{"reason": "r\n", "count": 1}]},
        {"lost": [{"reason": "r", "count": -1}]},
        {"lost": [{"reason": "r", "count": NUMBER_MAX + 1}]},
        {"lost": [{"reason": "r", "count": 0.5}]},
        {"lost": [{"reason": "r"}]},
        {"lost": [None]},
    ],
)
def test_i1_what_lies_beyond_a_bound_or_is_of_another_type_is_nothing(fields):
    assert decode_client(said(**fields)) is None


@pytest.mark.parametrize("name", ["process", "first", "last"])
def test_i1_without_one_of_its_fields_it_is_nothing(name):
    assert decode_client(json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()) is None


@pytest.mark.parametrize("raw", [b"null", b"7", b'"p"', b"[]", b"{}", b"{", b""])
def test_i1_what_is_no_object_is_nothing(raw):
    assert decode_client(raw) is None


@settings(deadline=None)
@given(json_strategies.damaged(json_strategies.objects(names=st.sampled_from([f'"{name}"' for name in GOOD]))))
def test_i1_anything_is_read_within_bounds_or_not_at_all(body):
    report = decode_client(body)

    if report is not None:
        assert msgspec.convert(msgspec.to_builtins(report), ClientReport) == report
        assert 0 < len(report.process) <= 64
        assert 1 <= report.highest <= NUMBER_MAX
        assert all(count > 0 for count in report.lost.values())
