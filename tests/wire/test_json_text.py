"""Bounded values → JSON bytes, the one way for all of the client's wires."""

import json

import pytest
from hypothesis import given, settings, strategies as st

from leeward.wire import json_text
from leeward.wire.json_text import json_bytes


def test_text_travels_as_utf_8_and_not_as_escapes():
    assert json_bytes({"t": "grüße 🚀"}) == '{"t":"grüße 🚀"}'.encode()


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(codec=None, categories=["Cs", "Lu", "Cc"])), st.text(st.characters(categories=["Cs", "So"]))
)
def test_c22_lone_surrogates_never_break_the_line(key, text):
    decoded = json.loads(json_bytes({"text": text, "inside": {key: text}}).decode("utf-8"))

    assert decoded["text"] == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def test_c22_a_lone_surrogate_is_replaced_and_a_pair_is_the_character_that_it_means():
    line = json_bytes({"lone": "x\ud800y", "pair": "\ud83d\ude80", "fine": "ü"})

    assert json.loads(line) == {"lone": "x\ufffdy", "pair": "🚀", "fine": "ü"}


@pytest.mark.parametrize("unbounded", [float("nan"), float("inf"), object(), {1, 2}])
def test_values_that_were_not_bounded_are_refused_instead_of_written_wrong(unbounded):
    with pytest.raises((TypeError, ValueError)):
        json_bytes({"x": unbounded})


def test_an_interpreter_without_the_accelerator_writes_the_same_bytes(monkeypatch):
    fields = {"t": "ü", "n": [1, 2.5, None], "deep": {"a": True}, "lone": "\ud800"}
    fast = json_bytes(fields)

    monkeypatch.setattr(json_text, "_encode", None)
    monkeypatch.setattr("json.encoder.c_make_encoder", None)

    assert json_bytes(fields) == fast
    with pytest.raises(ValueError):
        json_bytes({"x": float("nan")})
