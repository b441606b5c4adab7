"""Clocks that jump, stand still or were stopped with the machine: the worker over a real spool, step by step."""

import time

import pytest

from leeward.resilience.retry import Retry
from leeward.sender import worker as work
from leeward.sender.config import Config
from leeward.sender.notes import Notes
from leeward.sender.plan import Answer, Policy
from leeward.sender.results import Counts
from leeward.sender.rhythm import AGE_MIN_S, Rhythm
from leeward.sender.spool import Spool
from sender_helpers import ScriptedTransport
from spool_helpers import left_behind

POLICY = Policy(
    Retry(attempts_max=None, base_s=1.0, cap_s=8.0), tries_max=None, timeout_s=15.0, age_s=AGE_MIN_S, adaptive=True
)
HOUR_S, YEAR_S = 3600.0, 365 * 86_400.0


class TwoClocks:
    """The wall's and the monotonic one, each in the test's hand."""

    def __init__(self):
        self.wall_s = time.time()
        self.now_s = 1000.0

    def wall_ms(self):
        return int(self.wall_s * 1000)

    def monotonic_s(self):
        return self.now_s


class Bench:
    def __init__(self, folder):
        self.clock = TwoClocks()
        self.transport = ScriptedTransport()
        self.counts = Counts()
        self.spool = Spool(folder, counts=self.counts, clock=self.clock, about={})
        self.worker = work.Worker(
            self.spool,
            self.transport,
            config=Config(api_key="lw_k"),
            counts=self.counts,
            clock=self.clock,
            policy=POLICY,
            rhythm=Rhythm(POLICY.age_s, adaptive=POLICY.adaptive),
            random=lambda count: bytes(count - 1) + b"\x80",  # one half, as a number
            notes=Notes(self.clock, debug=False),
        )
        self.sequence = 0

    def add(self, count):
        for _ in range(count):
            self.sequence += 1
            event = b'{"id":"%d","event_type":"tick","timestamp":0}' % self.sequence
            assert self.spool.append(event, 1, is_error=False)

    def run_for(self, seconds, step_s=0.1):
        """What a thread does in that time by the monotonic clock; how many requests it sent."""
        before, until_s = len(self.transport.sent), self.clock.now_s + seconds
        while self.clock.now_s < until_s:
            rest_s = self.worker.step()
            if rest_s != 0.0:
                self.clock.now_s += step_s if rest_s is None else min(step_s, max(rest_s, 0.001))
        return len(self.transport.sent) - before


@pytest.fixture
def bench(tmp_path):
    bench = Bench(str(tmp_path / "spool"))
    yield bench
    bench.spool.close()


@pytest.mark.parametrize("jump_s", [-HOUR_S, 10 * YEAR_S, -60 * YEAR_S])
def test_c21_a_jump_of_the_wall_clock_during_an_outage_makes_no_storm_and_no_pause(bench, jump_s):
    bench.transport.script.extend([Answer(503, "unavailable")] * 1000)
    bench.add(5)
    usual = bench.run_for(60)
    bench.clock.wall_s += jump_s
    after = bench.run_for(60)
    bench.transport.script.clear()
    bench.run_for(20)

    assert 5 <= usual <= 30
    assert 5 <= after <= 30
    assert bench.counts.delivered == 5
    assert bench.counts.dropped == {}


def test_c21_a_wall_clock_that_stands_still_stops_nothing(bench):
    for _ in range(5):
        bench.add(3)
        bench.run_for(8)

    assert bench.counts.delivered == 15
    assert bench.worker.waiting() == 0


@pytest.mark.parametrize("jump_s", [-HOUR_S, 10 * YEAR_S])
def test_c21_neither_our_own_events_nor_those_of_the_dead_expire_by_a_jump(tmp_path, jump_s):
    folder = str(tmp_path)
    left_behind(folder, [b'{"id":"left","event_type":"tick","timestamp":0}'] * 4)
    bench = Bench(folder)
    bench.transport.script.extend([Answer(503, "unavailable")] * 20)
    bench.add(5)
    bench.run_for(30)
    bench.clock.wall_s += jump_s
    bench.run_for(200)

    assert bench.counts.dropped == {}
    assert bench.counts.delivered == 9
    bench.spool.close()


def test_c28_after_an_hour_in_which_everything_stood_still_one_request_leaves_and_no_burst(bench):
    """Stopped or suspended in the middle of an outage: both clocks are an hour further."""
    bench.transport.script.extend([Answer(503, "unavailable")] * 3)
    bench.add(5)
    bench.run_for(1)
    bench.clock.now_s += HOUR_S
    bench.clock.wall_s += HOUR_S
    bench.transport.script.clear()
    before = len(bench.transport.sent)
    bench.worker.step()
    bench.run_for(60)

    assert len(bench.transport.sent) - before == 1
    assert len(set(bench.transport.ids)) == 1  # the same batch under the same id
    assert bench.counts.delivered == 5


def test_c28_a_backlog_leaves_at_a_walk_after_the_stop(bench):
    bench.transport.script.extend([Answer(503, "unavailable")] * 1000)
    bench.add(5000)
    bench.run_for(30)
    bench.clock.now_s += HOUR_S
    bench.transport.script.clear()
    started_s = bench.clock.now_s
    while bench.worker.waiting():
        bench.run_for(0.05, step_s=0.01)

    assert bench.counts.delivered == 5000
    assert bench.clock.now_s - started_s >= 0.5  # ten requests are not sent in one moment
