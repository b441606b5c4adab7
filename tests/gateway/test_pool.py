from __future__ import annotations

import asyncio

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from leeward.gateway.origin import Endpoint, Origin
from leeward.gateway.pool import Pool

CONNECTIONS_MAX = 3


class Connection:
    """As much of one as the pool knows."""

    def __init__(self, pool):
        self.pool, self.key, self.usable, self.closed = pool, None, True, False

    def is_usable(self):
        return self.usable

    def close(self):
        if not self.closed:
            self.closed = True
            self.usable = False
            self.pool.useless(self)

    abandon = close


class Life(RuleBasedStateMachine):
    """Connections come, serve, rest, fail; the pool is compared with what a list knows."""

    def __init__(self):
        super().__init__()
        self.pool = Pool()
        self.endpoint = Endpoint(Origin.of("http://127.0.0.1:1"), connections_max=CONNECTIONS_MAX)
        self.busy, self.idle = [], []

    @rule()
    def open(self):
        host = self.pool.host(self.endpoint)
        allowed = self.pool.reserve(host)
        assert allowed is (len(self.busy) + len(self.idle) < CONNECTIONS_MAX)
        if allowed:
            connection = Connection(self.pool)
            self.pool.made(connection)
            connection.key = host
            self.busy.append(connection)

    @rule()
    def fail_to_open(self):
        host = self.pool.host(self.endpoint)
        if self.pool.reserve(host):
            lost = Connection(self.pool)  # made, and lost before it was given out
            self.pool.made(lost)
            lost.close()
            self.pool.gone(lost)
            self.pool.give_back(host)

    @precondition(lambda self: self.idle)
    @rule()
    def take(self):
        taken = self.pool.host(self.endpoint).take()
        assert taken is self.idle.pop()
        self.busy.append(taken)

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def end_well(self, data):
        connection = self.busy.pop(data.draw(st.integers(0, len(self.busy) - 1)))
        self.pool.free(connection)
        self.idle.append(connection)

    @precondition(lambda self: self.busy)
    @rule()
    def end_badly(self):
        connection = self.busy.pop(0)
        connection.close()
        self.pool.gone(connection)

    @precondition(lambda self: self.idle)
    @rule()
    def grow_old(self):
        connection = self.idle.pop(0)
        connection.close()
        self.pool.gone(connection)

    @invariant()
    def counts_agree(self):
        host = self.pool.hosts.get(self.endpoint)
        expected = (len(self.busy) + len(self.idle), self.idle)
        assert ((host.open, host.idle) if host is not None else (0, [])) == expected
        assert self.pool.sockets == {*self.busy, *self.idle}
        assert host is None or host.open or not self.busy


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_the_pool_counts_what_is_there = Life.TestCase


def test_an_idle_connection_that_is_closing_is_passed_over():
    pool, endpoint = Pool(), Endpoint(Origin.of("http://127.0.0.1:1"))
    host = pool.host(endpoint)
    older, newer = Connection(pool), Connection(pool)
    for connection in (older, newer):
        assert pool.reserve(host)
        connection.key = host
        pool.free(connection)
    newer.usable = False
    assert host.take() is older
    assert host.take() is None
    newer.close()  # which is no longer in the list
    assert host.open == 1


def test_an_endpoint_without_connections_leaves_nothing():
    pool, endpoint = Pool(), Endpoint(Origin.of("http://127.0.0.1:1"))
    host = pool.host(endpoint)
    assert pool.reserve(host)
    pool.give_back(host)
    assert pool.hosts == {}


def test_a_closed_pool_waits_for_its_sockets_and_closes_those_that_come_late():
    async def main():
        pool = Pool()
        await pool.close()
        late = Connection(pool)
        pool.made(late)
        assert late.closed
        closing = asyncio.ensure_future(pool.close())
        await asyncio.sleep(0)
        assert not closing.done()
        pool.gone(late)
        await closing
        pool.gone(late)

    asyncio.run(main())
