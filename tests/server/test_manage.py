"""Dead letters put back: the events that are in them, and nothing that is no event. A key's quota, changed in part."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec import ValidationError

from control_helpers import HeldClock, started_directory
from leeward.errors import ProtocolError, Unavailable
from leeward.model import Event
from leeward.server.access import Identity
from leeward.server.blocks import Chunk, batch_rows
from leeward.server.control.database import Control
from leeward.server.dead_letters import DeadLetters
from leeward.server.http import ByteBudget, Request
from leeward.server.manage import Manage
from leeward.server.quotas import Quota
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


# Quotas


def called(handler, key_id="", **fields):
    """What a handler answers; its body is JSON of these fields."""
    body = json.dumps(fields).encode()

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    request = Request({"method": "PATCH", "path": "/", "query_string": b"", "headers": []}, receive, "r")
    request.path_parameter = key_id
    return json.loads(asyncio.run(handler(request)).body)


@pytest.fixture
def manage(tmp_path):
    control = Control(HeldClock())
    control.start(started_directory(tmp_path)).result()
    yield Manage(control, dead_letters=None, pipeline=None, budget=ByteBudget(1000))
    control.stop()


def test_a_key_is_made_with_a_quota_that_is_changed_in_part_and_listed(manage):
    made = called(manage.keys_create, scope="write", per_day=1000)
    ring = manage._control.keys
    assert ring.find(made["key"]).quota == Quota(None, 1000)

    changed = called(manage.keys_set_quota, made["id"], per_minute=60)

    assert (changed["id"], changed["per_minute"], changed["per_day"]) == (made["id"], 60, 1000)
    assert ring.find(made["key"]).quota == Quota(60, 1000)
    assert changed in called(manage.keys_list)["keys"]
    lifted = called(manage.keys_set_quota, made["id"], per_minute=None, per_day=None)
    assert (lifted["per_minute"], lifted["per_day"]) == (None, None)
    assert ring.find(made["key"]).quota is None
    assert called(manage.keys_set_quota, made["id"])["per_day"] is None


def test_what_a_key_may_spend_is_set_changed_in_part_and_listed(manage):
    made = called(manage.keys_create, scope="chat", requests_per_minute=60, usd_per_day=2.5)
    ring = manage._control.keys
    assert ring.find(made["key"]).quota == Quota(requests_per_minute=60, usd_per_day=2.5)

    changed = called(manage.keys_set_quota, made["id"], tokens_per_day=1_000_000, usd_per_day=None)

    shown = (changed["requests_per_minute"], changed["tokens_per_day"], changed["usd_per_day"], changed["per_day"])
    assert shown == (60, 1_000_000, None, None)
    assert ring.find(made["key"]).quota == Quota(requests_per_minute=60, tokens_per_day=1_000_000)
    assert changed in called(manage.keys_list)["keys"]


@pytest.mark.parametrize(
    "fields",
    [
        {"per_day": 0},
        {"per_day": -5},
        {"per_minute": "5"},
        {"per_hour": 5},
        {"requests_per_minute": 0},
        {"tokens_per_day": 1.5},
        {"usd_per_day": 0},
        {"usd_per_day": -1},
        {"usd_per_day": 1e7},
    ],
)
def test_a_quota_that_is_none_is_refused_and_changes_nothing(manage, fields):
    made = called(manage.keys_create, scope="write", per_day=7)

    with pytest.raises(ProtocolError) as refused:
        called(manage.keys_set_quota, made["id"], **fields)

    assert refused.value.code == "invalid_field"
    assert manage._control.keys.find(made["key"]).quota == Quota(None, 7)


def test_a_quota_for_no_key_is_a_404(manage):
    with pytest.raises(ProtocolError) as refused:
        called(manage.keys_set_quota, "k_nothing", per_day=5)

    assert (refused.value.code, refused.value.status) == ("key_not_found", 404)
