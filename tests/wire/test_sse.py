"""Server-sent events, however they are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings, strategies as st

from leeward.wire.chat import BadAnswer
from leeward.wire.sse import Events, data_of, event_of

ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
TEXTS = st.text(alphabet="ab:é\x00 \x85\u2028", max_size=6).map(str.encode)
LINES = st.tuples(st.sampled_from([b"data: ", b"data:", b"data", b"event: ", b": ", b"id: ", b"", b"x"]), TEXTS)
STREAMS = st.lists(st.tuples(LINES, ENDS, ENDS | st.just(b"")), max_size=12).map(
    lambda lines: b"".join(name + text + end + more for (name, text), end, more in lines)
)


def fed(stream, cuts=()):
    events = Events()
    places = [0, *sorted(cuts), len(stream)]
    return [event for start, end in itertools.pairwise(places) for event in events.feed(stream[start:end])]


def said(events):
    return [told for told in map(event_of, events) if told[1] is not None]


@settings(deadline=None)
@given(STREAMS, st.lists(st.integers(0, 60), max_size=8))
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [8, 10])
@example(b"data: a\r\r\ndata: b\n\n\n\n", [8, 9])
@example(b"\xef\xbb\xbfdata: a\n\n", [1, 2])
@example(b"data: a\n\ndata: b\r\n\r\ndata: c\n\n", [9])
def test_any_split_of_a_stream_gives_the_same_events_and_the_same_bytes(stream, cuts):
    whole = fed(stream)

    pieces = fed(stream, [min(cut, len(stream)) for cut in cuts])

    assert said(pieces) == said(whole)
    assert b"".join(pieces) == b"".join(whole)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_is_given_out_as_soon_as_its_blank_line_has_come(end):
    events = Events()

    assert events.feed(b"data: a" + end) == []
    assert events.feed(end) == [b"data: a" + end + end]
    assert not events.cut


def test_the_second_half_of_a_line_end_that_was_cut_in_two_belongs_to_the_event_before():
    events = Events()

    assert events.feed(b"data: a\r\n\r") == [b"data: a\r\n\r"]
    assert events.feed(b"\ndata: b\r\n\r\n") == [b"\n", b"data: b\r\n\r\n"]


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (b"data: a\n\n", (b"", b"a")),
        (b"data:a\n\n", (b"", b"a")),
        (b"data:  a\n\n", (b"", b" a")),
        (b"data\n\n", (b"", b"")),
        (b"data: a\ndata: b\n\n", (b"", b"a\nb")),
        (b"event: error\r\ndata: a\r\n\r\n", (b"error", b"a")),
        (b": comment\n\n", (b"", None)),
        (b"id: 1\nretry: 2\ndatax: 3\n\n", (b"", None)),
    ],
)
def test_the_lines_of_an_event_say_its_type_and_its_data(event, told):
    assert event_of(event) == told
    assert data_of(event) == told[1]


def test_a_byte_order_mark_at_the_start_is_left_out_and_one_elsewhere_is_not():
    assert fed(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n") == [b"data: a\n\n", b"\xef\xbb\xbfdata: b\n\n"]


@pytest.mark.parametrize("first", [b"data: a\n\n", b"data: a\r\n\r\n", b""])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b""])
def test_g10_an_event_larger_than_is_allowed_is_refused_whole_or_not(first, end):
    events = Events(event_bytes_max=20)
    events.feed(first)

    with pytest.raises(BadAnswer, match="more than 20 bytes"):
        events.feed(b"data: " + b"a" * 20 + end)


def test_an_event_as_large_as_is_allowed_passes():
    events = Events(event_bytes_max=10)

    assert events.feed(b"data: ab\n\n" * 3) == [b"data: ab\n\n"] * 3
    assert events.feed(b"data: ab\n\n" * 3) == [b"data: ab\n\n"] * 3


def test_g10_a_large_event_in_tiny_pieces_is_searched_once():
    # Were each piece to search all that came before, this would be three thousand million bytes.
    events = Events()
    stream = b"data: " + b"a" * 80_000 + b"\n\n"

    assert [event for byte in range(len(stream)) for event in events.feed(stream[byte : byte + 1])] == [stream]


@pytest.mark.parametrize(("left", "cut"), [(b"", False), (b"\n", False), (b"data: [DO", True), (b": pi", True)])
def test_a_part_of_an_event_at_the_end_is_known(left, cut):
    events = Events()
    events.feed(b"data: a\n\n" + left)

    assert events.cut is cut
