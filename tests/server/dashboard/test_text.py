import json

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from leeward.server.dashboard import text

SPACE = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1536, "1.5 KiB"),
        (612_000, "598 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 40, "3,072.0 GiB"),
    ],
)
def test_sizes_have_a_unit(number, said):
    assert text.bytes_text(number).replace(SPACE, " ") == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 ms"),
        (0.412, "412 ms"),
        (1.238, "1.24 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (9e6, "2,500 h 0 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, said):
    assert text.duration(seconds).replace(SPACE, " ") == said


def test_times_beyond_what_a_calendar_holds_are_still_shown():
    assert text.iso(1_795_322_741_463) == "2026-11-22T04:45:41.463Z"
    assert text.iso(-5).startswith("1970-01-01T")
    assert text.iso(2**63).startswith("9999-12-31T")


def test_a9_characters_that_hide_or_turn_text_are_shown_as_what_they_are():
    assert text.visible("a\u202eb\u200bc\x00\n") == "a\\u202eb\\u200bc\\u0000\\u000a"
    assert text.block("one\n\ttwo\x1b[31m", 100) == "one\n\ttwo\\u001b[31m"


def test_a9_a_long_field_is_cut_and_says_how_much_is_missing():
    assert text.visible("x" * 3_500) == "x" * 1_000 + "… (2,500 more characters)"


def test_a9_of_a_large_payload_only_the_beginning_is_shown():
    raw = msgspec.Raw(b'{"a":"' + b"x" * 10_000_000 + b'"}')
    assert len(text.preview(raw)) <= 161
    shown = text.event_json({"id": "1", "data": raw})
    assert "data, the first 4,000 of 10,000,008 bytes:" in shown
    assert len(shown) < 6_000


def test_a9_an_object_with_100_000_keys_stays_small():
    shown = text.event_json({"id": "1", "data": {f"k{number}": [[[[[[]]]]]] for number in range(100_000)}})
    assert len(shown) < 10_000


def test_a_cut_in_the_middle_of_a_character_leaves_the_whole_ones():
    assert text.preview(msgspec.Raw(('"' + "€" * 1_000 + '"').encode())).startswith('"€€')


def test_an_event_is_shown_as_indented_json_with_its_payload_as_it_came():
    event = {"event_type": "a", "data": msgspec.Raw(b'{"b":1.0,"big":12345678901234567890}')}
    shown = text.event_json(event)
    assert '"big": 12345678901234567890' in shown
    assert json.loads(shown) == {"event_type": "a", "data": {"b": 1.0, "big": 12345678901234567890}}


def test_a_payload_that_is_no_json_is_shown_as_it_is():
    assert "{broken" in text.event_json({"data": msgspec.Raw(b"{broken")})


def test_a_payload_nested_deeper_than_can_be_indented_is_shown_as_it_is():
    assert "[[[[" in text.event_json({"data": msgspec.Raw(b"[" * 5_000 + b"]" * 5_000)})


def test_a_large_payload_inside_a_field_is_named_not_shown():
    shown = text.event_json({"error": {"extra": msgspec.Raw(b'"' + b"x" * 20_000 + b'"')}})
    assert "(20,002 bytes, not shown)" in shown


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=20)
    | st.text().map(lambda value: msgspec.Raw(json.dumps(value).encode())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=60)
@given(st.dictionaries(st.text(), values, max_size=8))
def test_any_value_becomes_bounded_text_that_utf8_can_carry_and_that_hides_nothing(event):
    shown = text.event_json(event)
    assert len(shown) < 20_000
    assert not any(code in map(ord, shown) for code in (0, 0x1B, 0x202E, 0x2066, 0x200B))
    assert not any(0xD800 <= ord(character) <= 0xDFFF for character in shown)
    assert len(text.preview(event)) <= 161
