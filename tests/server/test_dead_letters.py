"""Rows that the store refuses: set aside, listed, given back, struck off."""

from __future__ import annotations

import os
import threading

import pytest

from leeward.server.dead_letters import DeadLetter, DeadLetters

ROWS = [
    b'{"wal_position":1,"project":2,"kind":"event","batch_id":"b-2"}',
    b'{"wal_position":2,"project":1,"kind":"event"}',
    b'{"wal_position":3,"project":2,"kind":"event","batch_id":"b-1","data":"\\n"}',
]


def opened(tmp_path):
    return DeadLetters(tmp_path / "dead-letters")


def with_one(tmp_path, first=1):
    letters = opened(tmp_path)
    letters.add(instance="cafe", first=first, last=first + 2, rows=ROWS, reason="no such column", at=5)
    return letters


def test_w13_rows_set_aside_are_listed_with_their_reason_projects_and_batches(tmp_path):
    letters = with_one(tmp_path)

    [letter] = letters.letters()

    assert letter == DeadLetter("cafe", 1, 3, 3, 5, "no such column", [1, 2], ["b-1", "b-2"])
    assert letter.id == "cafe-1-3"
    assert len(letters) == 3
    assert letters.letters(project=1) == [letter]
    assert letters.letters(project=3) == []


def test_w13_a_batch_with_rows_here_is_known(tmp_path):
    letters = with_one(tmp_path)

    assert letters.holds_batch(2, "b-1")
    assert not letters.holds_batch(3, "b-1")
    assert not letters.holds_batch(2, "b-3")


def test_w13_rows_come_back_as_they_were_after_a_restart_too(tmp_path):
    with_one(tmp_path)

    letters = opened(tmp_path)

    assert letters.rows("cafe-1-3") == ROWS
    assert (len(letters), letters.unreadable) == (3, [])


def test_w13_a_letter_is_struck_off_once_and_for_all(tmp_path):
    letters = with_one(tmp_path)
    letters.add(instance="cafe", first=9, last=9, rows=ROWS[:1], reason="other", at=6)

    letters.remove("cafe-1-3")

    assert [letter.id for letter in letters.letters()] == ["cafe-9-9"]
    assert [letter.id for letter in opened(tmp_path).letters()] == ["cafe-9-9"]
    with pytest.raises(KeyError):
        letters.rows("cafe-1-3")
    with pytest.raises(KeyError):
        letters.remove("cafe-1-3")


def test_a_block_that_is_set_aside_again_is_one_letter(tmp_path):
    with_one(tmp_path)

    letters = with_one(tmp_path)

    assert (len(letters.letters()), len(letters)) == (1, 3)


@pytest.mark.parametrize("name", ["../escape", "cafe-1-3/../x", "", "*"])
def test_a5_a_name_that_is_on_no_list_reaches_no_file(tmp_path, name):
    letters = with_one(tmp_path)

    with pytest.raises(KeyError):
        letters.rows(name)
    with pytest.raises(KeyError):
        letters.remove(name)


def test_files_are_for_their_owner_alone(tmp_path):
    with_one(tmp_path)

    directory = tmp_path / "dead-letters"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in directory.iterdir()] == [0o600]


def test_a_letter_that_cannot_be_read_is_named_and_the_others_are_listed(tmp_path):
    with_one(tmp_path)
    directory = tmp_path / "dead-letters"
    (directory / "cafe-7-8.jsonl").write_bytes(b'{"instance":"cafe"')
    (directory / "cafe-9-9.jsonl").mkdir()

    letters = opened(tmp_path)

    assert letters.unreadable == ["cafe-7-8.jsonl", "cafe-9-9.jsonl"]
    assert [letter.id for letter in letters.letters()] == ["cafe-1-3"]


def test_w4_a_letter_is_on_stable_storage_under_its_name_before_the_log_may_forget_its_rows(tmp_path, monkeypatch):
    letters = opened(tmp_path)
    directory = tmp_path / "dead-letters"
    steps = []
    fsync = os.fsync

    def watched(descriptor):
        fsync(descriptor)
        steps.append(sorted(path.name for path in directory.iterdir()))

    monkeypatch.setattr(os, "fsync", watched)
    letters.add(instance="cafe", first=1, last=3, rows=ROWS, reason="r", at=5)

    assert steps == [["cafe-1-3.new"], ["cafe-1-3.jsonl"]]


def test_a_letter_that_was_not_finished_is_none(tmp_path):
    with_one(tmp_path)
    (tmp_path / "dead-letters" / "cafe-5-5.new").write_bytes(b'{"instance"')

    letters = opened(tmp_path)

    assert (len(letters.letters()), letters.unreadable) == (1, [])


def test_the_list_may_be_gone_through_while_it_grows(tmp_path):
    letters = with_one(tmp_path)
    found = letters._letters.values()

    going = iter(found)
    next(going)
    writer = threading.Thread(target=with_another, args=(letters,))
    writer.start()
    writer.join()

    assert list(going) == []
    assert len(letters.letters()) == 2


def with_another(letters):
    letters.add(instance="cafe", first=50, last=52, rows=ROWS, reason="r", at=7)
