"""A record ↔ bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from leeward.journal import frame
from leeward.journal.frame import Record

records = st.builds(
    Record, st.integers(1, 255), st.binary(max_size=6000), st.binary(min_size=16, max_size=16), st.integers(0, 255)
)
sequences = st.integers(0, 2**64 - 1)
salts = st.integers(0, 2**32 - 1)


def encode(record, sequence, salt):
    return frame.encode_header(record, sequence, salt) + record.payload


@given(records, sequences, salts, st.binary(max_size=50), st.binary(max_size=50))
def test_what_is_encoded_is_decoded_wherever_it_stands(record, sequence, salt, before, after):
    data = before + encode(record, sequence, salt) + after

    found = frame.decode(data, len(before), len(data), salt)

    assert (found.sequence, found.type, found.flags, found.batch, found.payload) == (
        sequence,
        record.type,
        record.flags,
        record.batch,
        record.payload,
    )
    assert (found.start, found.end) == (len(before), len(before) + record.size)
    assert frame.length_needed(data, len(before)) == record.size


@given(records, sequences, salts, st.data())
def test_no_flipped_bit_and_no_cut_passes(record, sequence, salt, data):
    whole = encode(record, sequence, salt)
    position = data.draw(st.integers(0, len(whole) * 8 - 1))
    damaged = bytearray(whole)
    damaged[position // 8] ^= 1 << position % 8
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]

    assert frame.decode(bytes(damaged), 0, len(damaged), salt) is None
    assert frame.decode(cut, 0, len(cut), salt) is None
    assert frame.decode(whole, 0, len(whole), salt ^ 1) is None


@given(st.binary(max_size=9000), sequences, salts)
def test_the_clients_encoder_writes_the_same_bytes(payload, sequence, salt):
    assert frame.encode_small(3, payload, sequence, salt) == encode(Record(3, payload), sequence, salt)


def test_the_layout_is_the_documented_one():
    data = encode(Record(1, b"payload", bytes(range(16)), 2), 0x0102030405060708, 7)

    assert data[:4] == (7).to_bytes(4, "little")
    assert data[8:16] == bytes([8, 7, 6, 5, 4, 3, 2, 1])
    assert data[16:20] == bytes([1, 2, 0, 0])
    assert data[20:36] == bytes(range(16))
    assert data[36:] == b"payload"
    assert int.from_bytes(data[4:8], "little") == frame.crc32(data[8:], 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, b""), "type is 1 to 255"),
        ((256, b""), "type is 1 to 255"),
        ((1, b"", b"short"), "batch id has 16 bytes, not 5"),
        ((1, bytes(20 * 1024 * 1024 + 1)), "at most 20971520 bytes, not 20971521"),
    ],
)
def test_a_record_that_cannot_be_written_is_refused_when_it_is_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        Record(*arguments)


def test_zeros_and_implausible_headers_are_no_records():
    assert frame.decode(bytes(100), 0, 100, 0) is None
    assert frame.length_needed(bytes(100), 0) is None
    assert frame.length_needed(b"\1" * 20, 0) is None
    assert frame.length_needed(b"\xff" * 100, 0) is None
