"""Content encodings undone: whole, cut, damaged, doubled, and bombs that cost no more than the limit."""

from __future__ import annotations

import gzip
import itertools
import os
import subprocess
import sys
import tracemalloc
import zlib

import brotli
import pytest
from hypothesis import given, settings, strategies as st

from leeward.errors import ProtocolError
from leeward.server import unpack as module
from leeward.server.unpack import GZIP_MEMBERS_MAX, unpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMIT = 1 << 20


def raw_deflate(text):
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(text) + stream.flush()


PACKERS = {
    b"identity": bytes,
    b"gzip": gzip.compress,
    b"X-GZip": gzip.compress,
    b"deflate": zlib.compress,
    b" deflate ": raw_deflate,
    b"zstd": zstd.compress,
    b"br": brotli.compress,
}


def refusal(packed, encoding, limit=LIMIT):
    with pytest.raises(ProtocolError) as refused:
        unpack(packed, encoding, limit)
    return refused.value.status, refused.value.code


@pytest.mark.parametrize("encoding", PACKERS)
@given(text=st.binary(max_size=300))
@settings(max_examples=40, deadline=None)
def test_what_was_packed_comes_out(encoding, text):
    assert unpack(PACKERS[encoding](text), encoding, LIMIT) == text


@pytest.mark.parametrize("encoding", PACKERS)
def test_i6_the_limit_is_of_the_unpacked_bytes_and_exact(encoding):
    text = os.urandom(1000)

    assert unpack(PACKERS[encoding](text), encoding, 1000) == text
    assert refusal(PACKERS[encoding](text), encoding, 999) == (413, "payload_too_large")


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_i6_gzip_members_in_any_division_are_one_body(text, cuts):
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    members = [gzip.compress(text[start:end]) for start, end in itertools.pairwise(edges)]

    assert unpack(b"".join(members), b"gzip", LIMIT) == text


def test_i6_the_limit_holds_for_all_members_together():
    member = gzip.compress(bytes(400))

    assert unpack(member * 2, b"gzip", 800) == bytes(800)
    assert refusal(member * 2, b"gzip", 799) == (413, "payload_too_large")


def test_i6_members_are_counted():
    member = gzip.compress(b"x")

    assert unpack(member * GZIP_MEMBERS_MAX, b"gzip", LIMIT) == b"x" * GZIP_MEMBERS_MAX
    assert refusal(member * (GZIP_MEMBERS_MAX + 1), b"gzip") == (400, "invalid_json")


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b" deflate ", b"zstd", b"br"])
def test_i6_a_body_cut_anywhere_is_refused(encoding):
    packed = PACKERS[encoding](b'{"event_type":"a"}' * 20)

    for end in range(len(packed)):
        assert refusal(packed[:end], encoding) == (400, "invalid_json")


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b" deflate ", b"zstd", b"br"])
def test_i6_bytes_behind_the_end_are_refused(encoding):
    packed = PACKERS[encoding](b"text")

    assert refusal(packed + b"garbage", encoding) == (400, "invalid_json")
    assert refusal(packed + b"\0", encoding) == (400, "invalid_json")


def test_i6_a_second_zstd_frame_is_refused():
    assert refusal(zstd.compress(b"a") + zstd.compress(b"b"), b"zstd") == (400, "invalid_json")


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_i6_a_wrong_checksum_is_refused(encoding):
    packed = bytearray(PACKERS[encoding](b"text"))
    packed[-5] ^= 1  # of the checksum in either wrapping

    assert refusal(bytes(packed), encoding) == (400, "invalid_json")


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"zstd", b"br"])
@settings(deadline=None)
@given(garbage=st.binary(max_size=60))
def test_i6_garbage_is_refused_or_unpacked_and_nothing_else(encoding, garbage):
    try:
        assert len(unpack(garbage, encoding, 100)) <= 100
    except ProtocolError as error:
        assert (error.status, error.code) in {(400, "invalid_json"), (413, "payload_too_large")}  # noqa: PT017 - either outcome is right, each has its form


@pytest.mark.parametrize(
    "encoding", [b"bz2", b"gzip, gzip", b"gzip,deflate", b"compress", b"gzip;q=1", b"*", b"\xff", b"x"]
)
def test_i6_unknown_and_stacked_encodings_are_refused(encoding):
    assert refusal(b"x", encoding) == (415, "unsupported_encoding")


def test_i6_what_was_packed_twice_is_unpacked_once():
    inner = gzip.compress(b"text")

    assert unpack(gzip.compress(inner), b"gzip", LIMIT) == inner


def test_i6_a_window_larger_than_ours_is_refused():
    options = {zstd.CompressionParameter.window_log: module.ZSTD_WINDOW_LOG_MAX + 1}
    stream = zstd.ZstdCompressor(options=options)
    packed = stream.compress(b"text" * 1000) + stream.flush()

    assert refusal(packed, b"zstd") == (400, "invalid_json")


@pytest.mark.parametrize("step", [1, 2, 5, 16, 17, 100])
def test_i6_zstd_in_steps_of_any_size_gives_the_same(step, monkeypatch):
    packed = zstd.compress(b"text" * 100)
    for size in (step, len(packed)):  # the last: bytes behind the end come in a step of their own
        monkeypatch.setattr(module, "_STEP", size)

        assert unpack(packed, b"zstd", 400) == b"text" * 100
        assert refusal(packed, b"zstd", 399) == (413, "payload_too_large")
        assert refusal(packed[:-1], b"zstd") == (400, "invalid_json")
        assert refusal(packed + b"x", b"zstd") == (400, "invalid_json")


def test_zstd_bodies_of_several_megabytes_come_out_whole():
    text = os.urandom(3 << 20) + bytes(3 << 20)

    assert unpack(zstd.compress(text), b"zstd", 6 << 20) == text
    assert refusal(zstd.compress(text), b"zstd", (6 << 20) - 1) == (413, "payload_too_large")
    assert refusal(zstd.compress(text)[: 2 << 20], b"zstd", 6 << 20) == (400, "invalid_json")
    assert refusal(zstd.compress(text) + bytes(2 << 20), b"zstd", 6 << 20) == (400, "invalid_json")


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b" deflate ", b"zstd", b"br"])
def test_i6_beyond_a_mebibyte_a_body_may_become_two_hundred_times_as_large_and_no_more(encoding):
    bytes_max = 1 << 30
    text = os.urandom(8000) + bytes(4 << 20)
    packed = PACKERS[encoding](text)
    assert 1 << 20 < 200 * len(packed) < len(text)

    with pytest.raises(ProtocolError) as refused:
        unpack(packed, encoding, bytes_max)
    assert (refused.value.status, refused.value.code) == (413, "payload_too_large")
    assert f"{200 * len(packed)} bytes" in refused.value.message
    assert "200 times" in refused.value.message
    fitting = text[: (3 << 20) // 2]
    assert unpack(PACKERS[encoding](fitting), encoding, bytes_max) == fitting


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"zstd", b"br"])
def test_i6_up_to_a_mebibyte_any_ratio_is_taken(encoding):
    assert unpack(PACKERS[encoding](bytes(1 << 20)), encoding, 1 << 30) == bytes(1 << 20)
    assert refusal(PACKERS[encoding](bytes((1 << 20) + 1)), encoding, 1 << 30) == (413, "payload_too_large")


def test_i6_the_limit_that_is_lower_is_the_one_that_is_named():
    with pytest.raises(ProtocolError, match=r"^The body is larger than 999 bytes when unpacked$"):
        unpack(gzip.compress(bytes(1000)), b"gzip", 999)


def bomb(encoding):
    """50 MB of zeros, in at most 50 KB."""
    if encoding == b"many members":
        return b"gzip", gzip.compress(bytes(LIMIT // 20)) * 15 + gzip.compress(bytes(50 << 20), 9)
    return encoding, PACKERS[encoding](bytes(50 << 20))


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"many members"])
def test_i6_a_bomb_costs_at_most_twice_the_limit(encoding):
    encoding, packed = bomb(encoding)

    tracemalloc.start()
    try:
        assert refusal(packed, encoding) == (413, "payload_too_large")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * LIMIT + 4 * len(packed) + 100_000


PEAK_OF_UNPACKING = """if True:
    import sys
    from leeward.errors import ProtocolError
    from leeward.server.unpack import _zstd_module, unpack

    def peak_kb():  # getrusage would give the parent's, if that is larger
        with open("/proc/self/status") as status:
            return int(next(line.split()[1] for line in status if line.startswith("VmHWM")))

    packed = sys.stdin.buffer.read()
    unpack(_zstd_module().compress(b"x"), b"zstd", 1)  # what the library needs to be there at all
    before = peak_kb()
    try:
        print(len(unpack(packed, b"zstd", int(sys.argv[1]))))
    except ProtocolError as error:
        print(error.status)
    print(peak_kb() - before)
"""


@pytest.mark.parametrize("window_log", [20, module.ZSTD_WINDOW_LOG_MAX])
@pytest.mark.parametrize(("limit_mb", "answer"), [(20, b"413"), (50, b"52428800")])
def test_i6_a_zstd_bomb_costs_at_most_twice_the_limit(window_log, limit_mb, answer):
    """Its library's memory is seen by the system alone: so in a process of its own, by its peak."""
    stream = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
    zeros = bytes((1 << 20) - (8 << 10))  # behind 8 KiB of noise: within the ratio's limit
    packed = b"".join(stream.compress(os.urandom(8 << 10) + zeros) for _ in range(50)) + stream.flush()

    command = [sys.executable, "-c", PEAK_OF_UNPACKING, str(limit_mb << 20)]
    said, grown_kb = subprocess.run(command, input=packed, capture_output=True, check=True).stdout.split()

    assert said == answer
    assert int(grown_kb) < 2 * limit_mb * 1024 + 2048
