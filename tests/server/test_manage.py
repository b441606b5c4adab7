"""Dead letters put back: the events that are in them, and nothing that is no event."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec import ValidationError

from leeward.errors import Unavailable
from leeward.model import Event
from leeward.server.access import Identity
from leeward.server.blocks import Chunk, batch_rows
from leeward.server.dead_letters import DeadLetters
from leeward.server.http import ByteBudget, Request
from leeward.server.manage import Manage
from leeward.server.record import BatchHead, Head, row

EVENTS = [Event(project=1, kind="event", id=f"e{n}", name="a", received_at=5, timestamp=5) for n in range(2)]
BATCH = BatchHead("b-1", b"", 5, 2, 0, ["k1", "k2"], [])
CHUNK = Chunk(sequence=1, segment=1, head=Head(1, 5, "ee", ["e0", "e1"], BATCH), rows=[b"", b""], payload_bytes=9)
[BATCH_ROW] = batch_rows([(CHUNK, 0)], "cafe", {}, half=False)


class Log:
    """The boundary: what is put back, or why not."""

    def __init__(self, error=None):
        self.back = []
        self.error = error

    async def replay(self, events, *, project):
        if self.error is not None:
            raise self.error
        self.back.append((project, list(events)))


def replay(letters, log):
    manage = Manage(None, dead_letters=letters, pipeline=log, budget=ByteBudget(1000))
    request = Request({"method": "POST", "path": "/", "query_string": b"", "headers": []}, None, "r")
    request.path_parameter = "cafe-1-3"
    request.identity = Identity(1, "admin", "k", "")
    return json.loads(asyncio.run(manage.dead_letters_replay(request)).body)


def letter(tmp_path, *rows):
    letters = DeadLetters(tmp_path / "dead-letters")
    letters.add(instance="cafe", first=1, last=3, rows=list(rows), reason="no such column", at=5)
    return letters


def test_w13_a_batchs_row_is_left_out_and_the_events_beside_it_are_put_back(tmp_path):
    letters, log = letter(tmp_path, row(EVENTS[0]), BATCH_ROW, row(EVENTS[1])), Log()

    assert replay(letters, log) == {"replayed": 2}
    assert log.back == [(1, EVENTS)]
    assert letters.letters() == []


def test_w13_a_letter_of_a_batchs_row_alone_can_be_struck_off(tmp_path):
    letters, log = letter(tmp_path, BATCH_ROW), Log()

    assert replay(letters, log) == {"replayed": 0}
    assert (log.back, letters.letters()) == ([], [])


def test_w13_a_letter_whose_events_do_not_get_into_the_log_stays(tmp_path):
    letters = letter(tmp_path, row(EVENTS[0]), BATCH_ROW)

    with pytest.raises(Unavailable):
        replay(letters, Log(Unavailable("The log is full")))
    assert len(letters.letters()) == 1


def test_w13_a_row_that_is_neither_event_nor_batch_is_kept(tmp_path):
    letters = letter(tmp_path, row(EVENTS[0]), b'{"project":1}')

    with pytest.raises(ValidationError):
        replay(letters, Log())
    assert len(letters.letters()) == 1
