"""W3: one segment, every truncation, every flipped bit, zeroed and doubled pages; and files that are not ours."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from faults.disk import ForgetfulDisk
from leeward.errors import ConfigError
from leeward.journal import frame, segment
from leeward.journal.log import Log, Record

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"
SALT = 0xC0FFEE
HEADER_AND_COPY = {*range(segment.HEADER_BYTES), *range(segment.COPY_AT, segment.RECORDS_AT)}


class Written:
    """A closed log of one segment, and where its records lie."""

    def __init__(self, record_bytes: list[int], seed: int = 3) -> None:
        chance = random.Random(seed)
        disk = ForgetfulDisk()
        log = Log.open("/log", files=disk, segment_bytes=1 << 20, random=chance.randbytes)
        self.payloads = {n: chance.randbytes(size) for n, size in enumerate(record_bytes, 1)}
        log.append([Record(1, payload) for payload in self.payloads.values()])
        log.sync()
        log.close()
        self.path = "/log/000000000001.log"
        self.data = disk.content(self.path)
        self.spans = {}
        end = segment.RECORDS_AT
        for n, payload in self.payloads.items():
            self.spans[n] = range(end, end + frame.HEADER_BYTES + len(payload))
            end = self.spans[n].stop

    def reopened(self, data: bytes):
        """Give the log and all that it reads when the file holds *data*."""
        disk = ForgetfulDisk()
        os_fd = disk.open(self.path, create=True)
        disk.pwrite(os_fd, data, 0)
        disk.close(os_fd)
        log = Log.open("/log", files=disk, segment_bytes=1 << 20, random=random.Random(9).randbytes)
        return log, {entry.sequence: entry.payload for entry in log.read(0, bytes_max=1 << 30)}

    def hit(self, changed: range) -> set[int]:
        return {n for n, span in self.spans.items() if span.start < changed.stop and changed.start < span.stop}


@pytest.fixture(scope="module")
def written():
    return Written([0, 5, 300, 36, 700, 1, 64, 1500])


def test_w3_cut_at_any_byte_all_records_before_the_cut_come_back(written):
    for length in range(segment.RECORDS_AT, len(written.data)):
        log, read = written.reopened(written.data[:length])

        assert read == {n: p for n, p in written.payloads.items() if written.spans[n].stop <= length}, length
        torn = length - max([segment.RECORDS_AT, *(s.stop for s in written.spans.values() if s.stop <= length)])
        # Zeros at the end of a torn piece cannot be told from space that was never written.
        assert log.statistics().truncated_bytes <= torn, length


def test_w3_any_flipped_bit_costs_its_own_record_and_no_other(written):
    for position in range(segment.RECORDS_AT, len(written.data)):
        for bit in range(8):
            damaged = bytearray(written.data)
            damaged[position] ^= 1 << bit
            lost = written.hit(range(position, position + 1))

            log, read = written.reopened(bytes(damaged))

            assert read == {n: p for n, p in written.payloads.items() if n not in lost}, (position, bit)
            statistics = log.statistics()
            assert statistics.damaged_spans == (lost != {len(written.payloads)}), (position, bit)
            assert bool(statistics.truncated_bytes) == (lost == {len(written.payloads)}), (position, bit)


def test_w3_any_flipped_bit_of_the_header_costs_nothing(written):
    for position in sorted(HEADER_AND_COPY):
        for bit in range(8):
            damaged = bytearray(written.data)
            damaged[position] ^= 1 << bit

            assert written.reopened(bytes(damaged))[1] == written.payloads, (position, bit)


@pytest.mark.skipif(not HEAVY, reason="the small segment is done whole; this is the large one")
def test_w3_a_segment_of_64_kb_cut_anywhere_and_flipped_at_every_byte():
    chance = random.Random(64)
    large = Written([chance.randint(0, 4000) for _ in range(30)])
    for position in range(segment.RECORDS_AT, len(large.data)):
        damaged = bytearray(large.data)
        damaged[position] ^= 1 << chance.randrange(8)
        lost = large.hit(range(position, position + 1))
        assert large.reopened(bytes(damaged))[1] == {n: p for n, p in large.payloads.items() if n not in lost}
        assert large.reopened(large.data[:position])[1] == {
            n: p for n, p in large.payloads.items() if large.spans[n].stop <= position
        }


@pytest.mark.parametrize("page", [0, 1, 2, 3])
def test_w3_a_zeroed_page_costs_the_records_on_it(page):
    written = Written([500] * 20)
    damaged = bytearray(written.data)
    gone = range(4096 * page, 4096 * page + 4096)
    damaged[gone.start : gone.stop] = bytes(4096)
    damaged = damaged[: len(written.data)]

    _, read = written.reopened(bytes(damaged))

    assert read == {n: p for n, p in written.payloads.items() if n not in written.hit(gone)}


def test_w3_a_page_that_stands_twice_gives_no_record_twice():
    written = Written([500] * 20)
    damaged = bytearray(written.data)
    damaged[8192:12288] = damaged[4096:8192]

    _, read = written.reopened(bytes(damaged))

    assert read == {n: p for n, p in written.payloads.items() if n not in written.hit(range(8192, 12288))}


def test_w3_swapped_records_are_both_read_in_order():
    written = Written([500] * 6)
    second, third = written.spans[2], written.spans[3]
    data = written.data
    swapped = (
        data[: second.start] + data[third.start : third.stop] + data[second.start : second.stop] + data[third.stop :]
    )

    log, read = written.reopened(swapped)

    assert list(read.items()) == list(written.payloads.items())
    assert log.statistics().damaged_spans == 0


def test_w3_damaged_bytes_are_kept_aside_for_a_person(tmp_path):
    filled(tmp_path)
    path = tmp_path / "000000000001.log"
    data = bytearray(path.read_bytes())
    data[segment.RECORDS_AT + 50] ^= 1
    path.write_bytes(data)

    log = Log.open(tmp_path)

    copies = list((tmp_path / "damaged").iterdir())
    assert [copy.read_bytes() for copy in copies] == [bytes(data[segment.RECORDS_AT : segment.RECORDS_AT + 136])]
    assert (log.statistics().damaged_spans, log.statistics().damaged_bytes) == (1, 136)
    log.close()


def test_w3_damage_in_an_older_segment_is_found_when_it_is_read(tmp_path):
    log = Log.open(tmp_path, segment_bytes=8192)
    for n in range(40):
        log.append([Record(1, b"%03d" % n * 100)])
        log.sync()
    log.close()
    path = tmp_path / "000000000002.log"
    data = bytearray(path.read_bytes())
    data[segment.RECORDS_AT + 400] ^= 1
    path.write_bytes(data)

    log = Log.open(tmp_path, segment_bytes=8192)
    assert log.statistics().damaged_spans == 0
    read = log.read(0)

    assert len(read) == 39
    assert log.statistics().damaged_spans == 1
    assert log.read(0) is not None
    assert log.statistics().damaged_spans == 1
    log.close()


def filled(directory: Path, payloads=(b"a" * 100, b"b" * 100, b"c" * 100)) -> None:
    log = Log.open(directory)
    log.append([Record(1, payload) for payload in payloads])
    log.sync()
    log.close()


def test_w3_a_segment_of_another_log_is_set_aside(tmp_path):
    filled(tmp_path / "ours")
    filled(tmp_path / "other", [b"x"])
    log = Log.open(tmp_path / "ours")
    log.checkpoint(1)
    log.close()
    (tmp_path / "other/000000000001.log").rename(tmp_path / "ours/000000000007.log")

    log = Log.open(tmp_path / "ours")

    assert [entry.payload[:1] for entry in log.read(0)] == [b"a", b"b", b"c"]
    assert log.statistics().files_set_aside == 1
    assert [path.name for path in (tmp_path / "ours/damaged").iterdir()] == ["000000000007.log"]
    log.close()


def test_w3_a_doubled_segment_counts_once_and_a_renamed_one_is_known_by_its_header(tmp_path):
    filled(tmp_path)
    first = tmp_path / "000000000001.log"
    (tmp_path / "000000000009.log").write_bytes(first.read_bytes())

    log = Log.open(tmp_path)
    assert len(log.read(0)) == 3
    assert log.statistics().files_set_aside == 1
    log.close()

    first.rename(tmp_path / "000000000005.log")
    log = Log.open(tmp_path)
    assert len(log.read(0)) == 3
    log.close()


def test_w3_a_missing_old_segment_is_normal(tmp_path):
    log = Log.open(tmp_path, segment_bytes=8192)
    for n in range(40):
        log.append([Record(1, b"%03d" % n * 100)])
        log.sync()
    (tmp_path / "000000000001.log").unlink()

    assert log.read(0)[0].sequence > 1
    log.close()
    log = Log.open(tmp_path, segment_bytes=8192)
    assert log.read(0)[-1].sequence == 40
    log.close()


def test_w3_garbage_directories_and_links_under_a_segments_name_do_not_stop_a_start(tmp_path):
    filled(tmp_path)
    (tmp_path / "000000000002.log").write_bytes(b"garbage" * 1000)
    (tmp_path / "000000000003.log").mkdir()
    (tmp_path / "000000000004.log").symlink_to("/etc/passwd")
    (tmp_path / "000000000005.log").write_bytes(bytes(9000))
    (tmp_path / "000000000006.log").write_bytes(b"")

    log = Log.open(tmp_path)

    assert len(log.read(0)) == 3
    assert log.statistics().files_set_aside == 3
    assert log.append([Record(1, b"d")]) == 4
    log.sync()
    assert log.read(3)[0].segment == 7  # the numbers of what was set aside are not used again
    log.close()


def test_w3_a_segment_of_a_newer_format_is_refused_and_both_versions_are_named(tmp_path):
    filled(tmp_path)
    path = tmp_path / "000000000001.log"
    data = bytearray(path.read_bytes())
    data[8:10] = (7).to_bytes(2, "little")
    data[60:64] = segment.crc32(data[:60]).to_bytes(4, "little")
    path.write_bytes(data)

    with pytest.raises(ConfigError, match=r"format 7, .*this one reads format 1"):
        Log.open(tmp_path)

    assert path.read_bytes() == data
    Log.open(tmp_path / "elsewhere").close()


def test_w3_a_damaged_tail_does_not_make_its_sequences_come_again(tmp_path):
    filled(tmp_path)
    path = tmp_path / "000000000001.log"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    log = Log.open(tmp_path)

    assert len(log.read(0)) == 2
    assert log.append([Record(1, b"new")]) > 3
    log.sync()
    assert [entry.payload[:3] for entry in log.read(0)] == [b"aaa", b"bbb", b"new"]
    log.close()


def test_a_payload_that_holds_whole_records_of_another_salt_forges_nothing():
    inner = b"".join(frame.encode_header(Record(1, b"forged"), n, SALT) + b"forged" for n in range(1, 50))
    written = Written([10, len(inner), 10])
    start = written.spans[2].start
    damaged = bytearray(written.data)
    damaged[start + frame.HEADER_BYTES : start + frame.HEADER_BYTES + len(inner)] = inner

    _, read = written.reopened(bytes(damaged))

    assert sorted(read) == [1, 3]


def test_finding_the_next_record_behind_20_mib_of_zeros_is_quick_enough_to_start():
    written = Written([100])
    data = written.data + b"\x01torn" + bytes(20 << 20)

    log, read = written.reopened(data)

    assert read == written.payloads
    assert log.statistics().truncated_bytes == 5
