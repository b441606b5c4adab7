"""What is answered of clients, and when the store cannot answer."""

from __future__ import annotations

import asyncio
import json

import pytest

from leeward.errors import ProtocolError, Unavailable
from leeward.server.access import Identity
from leeward.server.clients import Clients
from leeward.server.http import Request
from leeward.store.clickhouse import StoreUnavailable
from leeward.store.clients import ClientAccount, ClientAccounts

FOUND = ClientAccounts([ClientAccount("p", 1, 2, 9, 5, {"spool_full": 3}, 1)], total=4, lost=7, missing=2)


class Asked:
    """A store that notes what it is asked, and a writer that is done or not."""

    def __init__(self, error=None, loaded=True):
        self.error, self.loaded = error, loaded
        self.asked, self.waits = [], []

    def clients(self, project, limit):
        self.asked.append((project, limit))
        if self.error:
            raise self.error
        return FOUND

    async def wait_loaded(self, wait_s):
        self.waits.append(wait_s)
        return self.loaded

    def lag(self):
        return "3 s"


async def at_once(call, *arguments):
    return call(*arguments)


def ask(asked, query_string=b""):
    request = Request({"method": "GET", "path": "/", "query_string": query_string, "headers": []}, None, "r")
    request.identity = Identity(5, "read", "", "")
    return json.loads(asyncio.run(Clients(asked, barrier=asked, run=at_once).clients(request)).body)


def test_the_projects_clients_are_listed_with_the_totals_of_all():
    asked = Asked()

    assert ask(asked) == {
        "count": 1,
        "clients": [
            {
                "process": "p",
                "first_seen": 1,
                "last_seen": 2,
                "highest": 9,
                "received": 5,
                "lost": {"spool_full": 3},
                "missing": 1,
            }
        ],
        "total": 4,
        "lost": 7,
        "missing": 2,
    }
    assert (asked.asked, asked.waits) == ([(5, 100)], [5.0])


def test_how_many_are_listed_and_how_long_to_wait_may_be_said():
    asked = Asked(loaded=False)

    ask(asked, b"limit=1000&wait_ms=0")

    assert (asked.asked, asked.waits) == ([(5, 1000)], [])


@pytest.mark.parametrize("query", [b"limit=0", b"limit=1001", b"limit=x", b"wait_ms=5001", b"limt=5", b"process=p"])
def test_i1_a_parameter_that_is_none_or_out_of_bounds_is_refused(query):
    asked = Asked()

    with pytest.raises(ProtocolError) as refused:
        ask(asked, query)

    assert (refused.value.status, refused.value.code, asked.asked) == (400, "invalid_query", [])


@pytest.mark.parametrize("asked", [Asked(loaded=False), Asked(error=StoreUnavailable("no answer from unix:/x"))])
def test_w14_a_store_that_is_behind_or_away_is_to_be_asked_again(asked):
    with pytest.raises(Unavailable) as refused:
        ask(asked)

    assert (refused.value.code, refused.value.retry_after_s) == ("store_behind", 2)
    assert "unix" not in str(refused.value)
