"""lz-string undone: texts that the JavaScript library packed, and its limits."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, strategies as st

from leeward.errors import ProtocolError
from leeward.wire.posthog.lz import PACKED_CHARS_MAX, lz_unpack

# What lz-string 1.5.0 for JavaScript makes of these texts: as base64, and as 15 bits in each character.
PACKED = [
    (
        "a",
        "IZA=",
        "\u10e8 ",
    ),
    (
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "IY18ZZA=",
        "\u10e6\u5f39\u3220 ",
    ),
    (
        '{"event":"é€😀","distinct_id":"u"}',
        "N4IgpgbmB2AuIC4QEvA1BIXg3AAeyANCAJgJYDOsh0AxrAPqH6IgCuIAvkA=",
        "\u1be1\u0849\u40fc\u6096\u0191\xd8\u2045\u7055\u0262\u7857#\u6ca0\u1a30\u0280\u12e0\u33cc\u43c0\u0c8b\x9d\u221a\u1120\u2ba8\u019c\u4020 ",
    ),
    (
        '{"api_key":"phc_k","batch":[{"event":"a","distinct_id":"u","properties":{"x":"1"}},{"event":"a","distinct_id":"u","properties":{"x":"2"}}]}',
        "N4IghgDglg+g1gUwJ4gFwggCwMbxAGhACMwAXbTNAbVAQDcEA7UtcAkAEygGdSpHspGFA6sAruwgAnAPYQEUvgm5pQAD1YBGEAF8d+Wg2asw7Lr36Dho9BMLS5CpStTrWAJl06AujqA=",
        "\u1be1\u0841\u403c\u0980\u7d26\u5834\u606f\u0825\u6124\xd0\u18fe\u1026\u4220\u2350\xdb\u34ed\xfa\u5030\u0700\u405b\u298b\u4044F\u2826\u3ab5\u120c\u5250\u505a\u5825\u3bd0\u4024\u702f\u30a0\u454f\u4157\u1a70>\u5621\u0c40\u019c\u3c12\u6856\u3586\u0eeb\u57df\u2101\u5208\u132b\u25e8\u2a72\u5abd\u35a0\u134e\u4ea0\u5d3d\u2020 ",
    ),
]


class Packer:
    """lz-string's other half, for round trips: the same dictionary, written down the other way."""

    def __init__(self):
        self.bits = []
        self.width, self.until_wider = 2, 2

    def put(self, value, count):
        self.bits += [str(value >> place & 1) for place in range(count)]

    def pack(self, text):
        known, fresh = {}, set()
        word = ""
        for character in text:
            if character not in known:
                known[character] = len(known) + 3
                fresh.add(character)
            if word + character in known:
                word += character
                continue
            self.write(word, known, fresh)
            known[word + character] = len(known) + 3
            word = character
        if word:
            self.write(word, known, fresh)
        self.put(2, self.width)
        return "".join(self.bits)

    def write(self, word, known, fresh):
        if word in fresh:
            code = ord(word)
            self.put(int(code > 255), self.width)
            self.put(code, 16 if code > 255 else 8)
            fresh.discard(word)
            self.count()
        else:
            self.put(known[word], self.width)
        self.count()

    def count(self):
        self.until_wider -= 1
        if self.until_wider == 0:
            self.until_wider = 1 << self.width
            self.width += 1


def units(text):
    """A text in JavaScript's characters, of 16 bits each."""
    coded = text.encode("utf-16-le", "surrogatepass")
    return [chr(coded[place] | coded[place + 1] << 8) for place in range(0, len(coded), 2)]


def as_base64(text):
    return bits_as_base64(Packer().pack(units(text)))


def bits_as_base64(bits):
    symbols = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    bits += "0" * (-len(bits) % 6)
    packed = bytes(symbols[int(bits[place : place + 6], 2)] for place in range(0, len(bits), 6))
    return packed + b"=" * (-len(packed) % 4)


def as_utf16(text):
    bits = Packer().pack(units(text))
    bits += "0" * (-len(bits) % 15)
    return "".join(chr(int(bits[place : place + 15], 2) + 32) for place in range(0, len(bits), 15)).encode()


@pytest.mark.parametrize(("text", "in_base64", "in_utf16"), PACKED)
def test_what_the_library_packed_is_undone(text, in_base64, in_utf16):
    assert lz_unpack(in_base64.encode(), 10_000).decode() == text
    assert lz_unpack(in_utf16.encode(), 10_000).decode() == text


@pytest.mark.parametrize(("text", "in_base64", "in_utf16"), PACKED)
def test_the_packer_of_these_tests_does_as_the_library(text, in_base64, in_utf16):
    assert as_base64(text).rstrip(b"=A") == in_base64.encode().rstrip(b"=A")
    assert as_utf16(text).rstrip() == in_utf16.encode().rstrip()


@given(st.text(st.sampled_from('ab{}"é€😀') | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400))
def test_every_text_comes_back_from_both_forms(text):
    assert lz_unpack(as_base64(text), 10_000).decode() == text
    assert lz_unpack(as_utf16(text), 10_000).decode() == text


def test_codes_that_have_become_wide_come_back():
    text = "".join(f"{number * number};" for number in range(4000))

    assert lz_unpack(as_base64(text), 100_000).decode() == text


def test_half_of_a_character_becomes_the_replacement():
    assert lz_unpack(as_base64("a\ud83d"), 100).decode() == "a\ufffd"


def test_i6_a_bomb_costs_its_limit():
    bomb = as_base64("a" * 400_000)
    assert len(bomb) < 10_000

    def most() -> int:
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError, match="larger than 1000 bytes") as refused:
                lz_unpack(bomb, 1000)
            assert (refused.value.code, refused.value.status) == ("payload_too_large", 413)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert min(most() for _ in range(5)) < 200_000, "the least: other threads of the tests take memory, too"


def test_the_limit_is_on_bytes_and_not_on_characters():
    assert lz_unpack(as_base64("é" * 500), 1000) == "é".encode() * 500
    with pytest.raises(ProtocolError, match="larger than 999 bytes"):
        lz_unpack(as_base64("é" * 500), 999)


def test_a_body_that_would_take_too_long_is_refused_unseen():
    with pytest.raises(ProtocolError, match="use gzip for larger ones") as refused:
        lz_unpack(b"A" * (PACKED_CHARS_MAX + 1), 1 << 30)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"hello\n", id="a control character"),
        pytest.param("\uffff".encode(), id="a character beyond 15 bits"),
        pytest.param(b"IZ", id="cut in a character"),
        pytest.param(b"I", id="cut in a code"),
        pytest.param(b"IY18", id="without an end"),
        pytest.param(b"////", id="a phrase before the first character"),
        pytest.param(bits_as_base64("00" + "10000110" + "111" + "010"), id="a phrase that is not known yet"),
    ],
)
def test_i7_what_is_no_lz_string_is_refused(packed):
    with pytest.raises(ProtocolError) as refused:
        lz_unpack(packed, 1000)
    assert (refused.value.code, refused.value.status) == ("invalid_json", 400)
