"""Framing: where an envelope's items lie, and what is no envelope."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from leeward.errors import ProtocolError
from leeward.wire.sentry.envelope import ITEMS_MAX, read_headers, split
from sentry_envelopes import RECORDED, envelope


def payloads(body: bytes) -> list[tuple[str, bytes]]:
    return [(item.type, body[item.start : item.end]) for item in split(body).items]


@given(st.lists(st.tuples(st.sampled_from(["event", "log", "é"]), st.binary(max_size=40)), max_size=6))
def test_what_is_framed_comes_out_again_byte_for_byte(items):
    assert payloads(envelope(*items)) == items


@pytest.mark.parametrize("name", RECORDED)
def test_what_a_real_sdk_frames_is_found(name):
    found = payloads(RECORDED[name])

    assert found
    assert all(payload.startswith(b"{") and payload.endswith(b"}") for _, payload in found)


def test_headers_alone_are_an_envelope():
    assert split(b"{}").items == []
    assert split(b'{"event_id":"a"}\n\n').headers.event_id == "a"


def test_lengths_count_bytes_so_that_a_payload_may_hold_newlines_and_any_character():
    body = b'{}\n{"type":"a","length":6}\n\n\xc3\xa9\n\n\n\n{"type":"b","length":2}\n{}'

    assert payloads(body) == [("a", b"\n\xc3\xa9\n\n\n"), ("b", b"{}")]


def test_an_item_without_a_length_ends_at_the_next_newline():
    assert payloads(b'{}\n{"type":"a"}\none\n{"type":"b","length":null}\ntwo') == [("a", b"one"), ("b", b"two")]


def test_an_item_without_a_payload_is_empty():
    assert payloads(b'{}\n{"type":"a","length":0}') == [("a", b"")]
    assert payloads(b'{}\n{"type":"a"}') == [("a", b"")]
    assert payloads(b'{}\n{"type":"a","length":0}\n\n{"type":"b"}\n') == [("a", b""), ("b", b"")]


def test_blank_lines_between_items_and_carriage_returns_behind_headers_are_passed_over():
    assert payloads(b'{}\r\n\n{"type":"a","length":1}\r\nx\n\n\r\n{"type":"b"}\ny\n\n') == [("a", b"x"), ("b", b"y")]


def test_i7_megabytes_of_nothing_are_passed_over():
    assert payloads(b"{}" + b"\n" * (8 << 20) + b'{"type":"a"}') == [("a", b"")]


def test_i7_types_that_nobody_knows_are_items_like_any_other():
    assert payloads(b'{}\n{"type":"brand_new","length":1,"more":[1]}\nx') == [("brand_new", b"x")]


def test_i7_a_name_that_climbs_out_of_its_folder_is_no_more_than_a_member_that_nobody_reads():
    assert payloads(b'{}\n{"type":"attachment","length":1,"filename":"../../etc/passwd"}\nx') == [("attachment", b"x")]


MALFORMED = {
    "nothing": (b"", "first line"),
    "no headers": (b"hello\n", "first line"),
    "a list": (b"[]\n", "first line"),
    "a mark of byte order": (b"\xef\xbb\xbf{}\n", "first line"),
    "another encoding": ("{}\n".encode("utf-16"), "first line"),
    "headers too deep": (b'{"a":' + b"[" * 50_000, "too deeply"),
    "item headers that are none": (b"{}\nhello\n", "item 0"),
    "item headers too deep": (b'{}\n{"type":"a","b":' + b"[" * 50_000, "too deeply"),
    "no type": (b'{}\n{"length":2}\n{}', "type"),
    "a type that is no text": (b'{}\n{"type":7}\n{}', "type"),
    "length past the end": (b'{}\n{"type":"a","length":3}\n{}', "past the end of the envelope by 1"),
    "length of a number of many digits": (b'{}\n{"type":"a","length":' + b"9" * 5000 + b"}\n{}", "length"),
    "length beyond 64 bits": (b'{}\n{"type":"a","length":99999999999999999999}\n{}', "past the end"),
    "length negative": (b'{}\n{"type":"a","length":-1}\n{}', "negative"),
    "length a text": (b'{}\n{"type":"a","length":"2"}\n{}', "length"),
    "length a fraction": (b'{}\n{"type":"a","length":1.5}\n{}', "length"),
    "length a truth": (b'{}\n{"type":"a","length":true}\n{}', "length"),
    "length too short": (b'{}\n{"type":"a","length":1}\n{}\n', "bytes, not characters"),
    "length that cuts a character": ('{}\n{"type":"a","length":1}\né\n'.encode(), "bytes, not characters"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_i7_what_is_no_envelope_is_400_and_says_what_is_wrong(name):
    body, cause = MALFORMED[name]

    with pytest.raises(ProtocolError) as refused:
        split(body)

    assert (refused.value.status, refused.value.code) == (400, "invalid_envelope")
    assert cause in refused.value.details[0]


def test_i7_more_than_ten_thousand_items_are_413():
    item = b'\n{"type":"a","length":0}\n'

    assert len(split(b"{}" + item * ITEMS_MAX).items) == ITEMS_MAX
    with pytest.raises(ProtocolError) as refused:
        split(b"{}" + item * (ITEMS_MAX + 1))

    assert (refused.value.status, refused.value.code) == (413, "payload_too_large")


def test_a_header_of_another_type_counts_as_absent():
    headers = read_headers(b'{"event_id":7,"sent_at":{},"dsn":"http://a@b/1"}\n')

    assert (headers.event_id, headers.sent_at, headers.dsn) == (None, None, "http://a@b/1")


def test_i4_broken_text_in_headers_is_replaced():
    assert read_headers(b'{"event_id":"a\\ud800\xff"}').event_id == "a\ufffd\ufffd"
