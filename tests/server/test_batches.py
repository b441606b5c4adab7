"""What became of a batch, when only the store knows and the store is away."""

from __future__ import annotations

import asyncio

import pytest

from control_helpers import HeldClock
from leeward.errors import ProtocolError, Unavailable
from leeward.server.access import Identity
from leeward.server.batches import Batches
from leeward.server.dead_letters import DeadLetters
from leeward.server.http import Request
from leeward.store.clickhouse import StoreUnavailable


class Store:
    """The boundary: what the table says of a batch."""

    def __init__(self, answer):
        self.answer = answer

    def batch(self, project, batch_id):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def at_once(call, *arguments):
    return call(*arguments)


async def nobody_knows(project, batch_id):
    """The door has forgotten it."""


def status(tmp_path, answer):
    batches = Batches(
        durable=nobody_knows,
        store=Store(answer),
        dead_letters=DeadLetters(tmp_path / "dead-letters"),
        keeping_up=lambda: True,
        clock=HeldClock(),
        retention_ms=1000,
        run=at_once,
    )
    request = Request({"method": "GET", "path": "/", "query_string": b"", "headers": []}, None, "r")
    request.path_parameter = "b-1"
    request.identity = Identity(1, "read", "k", "")
    return asyncio.run(batches.status(request))


def test_w14_a_batch_that_only_an_absent_store_knows_is_to_be_asked_for_again(tmp_path):
    with pytest.raises(Unavailable) as refused:
        status(tmp_path, StoreUnavailable("no answer from unix:/var/lib/leeward/store.sock"))

    assert (refused.value.code, refused.value.retry_after_s) == ("store_behind", 2)
    assert type(refused.value) is Unavailable
    assert "/var/lib" not in str(refused.value)


def test_a_batch_that_nobody_knows_is_not_found(tmp_path):
    with pytest.raises(ProtocolError) as refused:
        status(tmp_path, None)

    assert (refused.value.status, refused.value.code) == (404, "batch_not_found")


def test_a_batch_that_the_store_knows_is_completed(tmp_path):
    answer = b'{"event_count":2,"accepted":1,"events":["k"],"errors":[{"index":1,"code":"c","error":"e"}]}'
    found = status(tmp_path, {"received_at": 5, "updated_at": 6, "answer": answer})

    assert found.status == 200
    assert b'"status":"completed"' in found.body
