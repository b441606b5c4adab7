"""The worker's logic, step by step, with a clock in the test's hand and a transport that answers from a list."""

import pytest
from hypothesis import given, strategies as st

from leeward.resilience.retry import Retry
from leeward.sender import plan, worker as work
from leeward.sender.config import Config
from leeward.sender.lanes import MemoryLane
from leeward.sender.notes import Notes
from leeward.sender.optout import Watch
from leeward.sender.plan import Answer, Policy
from leeward.sender.results import Counts
from leeward.sender.rhythm import AGE_MIN_S, BUSY_MAX_S, Rhythm
from sender_helpers import HandClock, ScriptedTransport, reply_of

POLICY = Policy(
    Retry(attempts_max=None, base_s=1.0, cap_s=8.0), tries_max=None, timeout_s=15.0, age_s=AGE_MIN_S, adaptive=True
)


class Lanes:
    """One lane in memory; a quarantine that can be full."""

    def __init__(self):
        self.process = "ab" * 16
        self.lane = MemoryLane(self.process, 1 << 22)
        self.aside = []
        self.has_room_aside = True
        self.adopting = False
        self.tended = []
        self.closed = False

    def lanes(self):
        return [self.lane]

    def tend(self, *, eager):
        self.tended.append(eager)

    def set_aside(self, events, cause):
        if self.has_room_aside:
            self.aside.append((cause, len(events)))
        return self.has_room_aside

    def clear(self):
        return self.lane.clear()

    def close(self):
        self.closed = True


class Bench:
    """A worker without its thread, and everything around it."""

    def __init__(self, policy=POLICY, **settings):
        self.clock = HandClock()
        self.lanes = Lanes()
        self.transport = ScriptedTransport()
        self.counts = Counts()
        self.rhythm = Rhythm(policy.age_s, adaptive=policy.adaptive)
        self.rhythm.urgent = True
        self.environ = {}
        self.stops = []
        self.worker = work.Worker(
            self.lanes,
            self.transport,
            config=Config(api_key="lw_k"),
            counts=self.counts,
            clock=self.clock,
            policy=policy,
            rhythm=self.rhythm,
            random=lambda count: bytes(count - 1) + b"\x80",  # one half, as a number
            notes=Notes(self.clock, debug=False),
            told_to_stop=lambda: self.stops.append(self.clock.now_s),
            watch=Watch(self.environ),
            **settings,
        )

    def add(self, count, start=0, record_type=1):
        for number in range(start, start + count):
            assert self.lanes.lane.append(b'{"n":%d}' % number, record_type, number + 1)

    def run(self, steps=1000):
        """Step until the worker would sleep without a timer; virtual time passes in its rests."""
        for _ in range(steps):
            rest_s = self.worker.step()
            if rest_s is None:
                return
            self.clock.now_s += rest_s
        raise AssertionError("the worker never came to rest")


@pytest.fixture
def bench():
    return Bench()


def test_events_are_joined_by_age_and_by_count(bench):
    bench.add(1)
    assert bench.worker.step() == pytest.approx(AGE_MIN_S)
    assert bench.transport.sent == []

    bench.add(plan.BATCH_EVENTS_MAX, start=1)
    bench.run()

    assert bench.transport.sizes == [plan.BATCH_EVENTS_MAX, 1]
    assert [event["n"] for _, events in bench.transport.sent for event in events] == list(range(501))
    assert bench.counts.delivered == 501


def test_c8_a_batch_keeps_its_id_over_all_its_tries(bench):
    bench.transport.script.extend([Answer(0, "reset"), Answer(503, "http_503"), Answer(200, "not_ours")])
    bench.add(3)

    bench.run()

    assert len(set(bench.transport.ids)) == 1
    assert bench.transport.sizes == [3, 3, 3, 3]
    assert (bench.counts.delivered, bench.counts.retries) == (3, 3)


def test_events_that_come_during_an_outage_do_not_join_a_batch_that_was_sent(bench):
    bench.transport.script.append(Answer(0, "reset"))
    bench.add(2)
    bench.clock.now_s += 1
    bench.worker.step()
    bench.clock.now_s += 1
    bench.worker.step()

    bench.add(2, start=2)
    bench.run()

    assert bench.transport.sizes == [2, 2, 2]
    assert bench.transport.ids[0] == bench.transport.ids[1] != bench.transport.ids[2]


def test_c6_the_next_try_waits_for_as_long_as_the_server_asked(bench):
    bench.transport.script.append(Answer(429, "http_429", retry_after_s=3.0))
    bench.add(plan.BATCH_EVENTS_MAX)

    assert bench.worker.step() == 0.0
    assert bench.worker.step() == pytest.approx(3.5)  # and half of the first second of jitter


def test_an_outage_is_retried_for_as_long_as_it_lasts(bench):
    bench.transport.script.extend([Answer(0, "refused")] * 200)
    bench.add(1)
    begun_s = bench.clock.now_s

    bench.run(2000)

    assert bench.counts.delivered == 1
    assert bench.clock.now_s - begun_s > 600


def test_c4_a_refused_batch_is_set_aside_and_the_next_one_goes_on(bench):
    bench.transport.script.append(Answer(400, "http_400"))
    bench.add(plan.BATCH_EVENTS_MAX + 1)

    bench.run()

    assert bench.lanes.aside == [("http_400", 500)]
    assert (bench.counts.quarantined, bench.counts.delivered, bench.counts.dropped) == (500, 1, {})


def test_c4_what_cannot_be_set_aside_is_dropped_and_counted(bench):
    bench.lanes.has_room_aside = False
    bench.transport.script.append(Answer(404, "http_404"))
    bench.add(2)

    bench.run()

    assert (bench.counts.quarantined, bench.counts.dropped) == (0, {"http_404": 2})
    assert bench.worker.waiting() == 0


@pytest.mark.parametrize("status", [401, 403])
def test_c4_a_refused_key_stops_the_sending_and_keeps_the_events(bench, status):
    bench.transport.script.append(Answer(status, f"http_{status}"))
    bench.add(3)
    bench.run()

    bench.clock.now_s += 1e6
    bench.run()

    assert bench.transport.sizes == [3]
    assert bench.worker.stopped
    assert bench.worker.waiting() == 3


def test_c5_a_batch_that_is_too_large_is_halved_in_order_down_to_the_one_event(bench):
    def too_large(path, headers, body):
        reply = ScriptedTransport.send(bench.transport, path, headers, body)
        return reply_of(Answer(413, "http_413"), "") if b'"n":3' in body else reply

    bench.transport.send = too_large
    bench.add(8)

    bench.run()

    assert bench.transport.sizes == [8, 4, 2, 2, 1, 1, 4]
    assert bench.lanes.aside == [("http_413", 1)]
    assert bench.counts.delivered == 7


def test_an_id_that_the_server_knows_with_other_contents_is_replaced_once(bench):
    bench.transport.script.extend([Answer(409, "http_409"), Answer(0, "reset")])
    bench.add(2)

    bench.run()

    first, *others = bench.transport.ids
    assert others == ["00" * 15 + "80"] * 2
    assert first != others[0]
    assert bench.counts.delivered == 2


def test_events_that_the_server_refuses_one_by_one_are_counted_by_reason(bench):
    bench.transport.script.append(Answer(200, "", acknowledged=True, refused={"event_too_large": 2}))
    bench.add(5)

    bench.run()

    assert (bench.counts.delivered, bench.counts.dropped) == (3, {"event_too_large": 2})


def test_a_success_ends_the_back_off_and_clears_the_last_error(bench):
    bench.transport.script.extend([Answer(0, "refused")] * 5)
    bench.add(1)
    bench.run()
    assert bench.counts.last_error == ""

    bench.transport.script.append(Answer(0, "refused"))
    bench.add(plan.BATCH_EVENTS_MAX)
    assert bench.worker.step() == 0.0

    assert bench.counts.last_error == "refused"
    assert bench.worker.step() == pytest.approx(0.5)  # the first step of the ladder again


def test_a_retired_worker_sends_what_waits_and_ends(bench):
    bench.add(3)
    bench.worker._tickets.pop()  # as if its thread ran
    bench.worker.retire(work.FAILED)

    bench.run()

    assert bench.transport.sizes == [3]
    assert bench.transport.closed
    assert bench.lanes.closed
    assert bench.worker.ended


def test_a_retired_worker_ends_at_the_first_failure_if_it_may(bench):
    bench.transport.script.append(Answer(0, "refused"))
    bench.add(3)
    bench.worker._tickets.pop()
    bench.worker.retire(work.FAILED)

    bench.run()

    assert bench.transport.sizes == [3]
    assert bench.worker.waiting() == 3
    assert bench.worker.ended


def test_a_retired_worker_that_must_send_all_tries_again(bench):
    bench.transport.script.append(Answer(0, "refused"))
    bench.add(3)
    bench.worker._tickets.pop()
    bench.worker.retire(work.DRAINED)

    bench.run()

    assert bench.counts.delivered == 3
    assert bench.worker.ended


def test_c25_a_worker_that_is_sent_away_at_once_sends_nothing_more(bench):
    bench.add(3)
    bench.worker._tickets.pop()
    bench.worker.retire(work.NOW)

    bench.run()

    assert bench.transport.sent == []
    assert bench.worker.ended


def test_retiring_before_the_thread_was_ever_needed_starts_none(bench, monkeypatch):
    monkeypatch.setattr(work._thread, "start_new_thread", pytest.fail)

    bench.worker.retire(work.FAILED)
    bench.worker.wake()
    bench.worker.retire(work.FAILED)  # again: what came since is let go of, too

    assert bench.worker.ended
    assert bench.lanes.closed


def test_c13_a_thread_that_cannot_be_started_is_asked_for_again(bench, monkeypatch):
    starts = []

    def refuse(run, arguments):
        starts.append(run)
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(work._thread, "start_new_thread", refuse)
    bench.add(1)

    bench.worker.wake()
    bench.worker.drain(60)  # returns at once: nobody will send
    monkeypatch.setattr(work._thread, "start_new_thread", lambda run, arguments: starts.append(run))
    bench.worker.wake()
    bench.worker.wake()

    assert len(starts) == 3


def test_c14_a_worker_that_may_not_start_gets_no_thread(monkeypatch):
    monkeypatch.setattr(work._thread, "start_new_thread", pytest.fail)
    bench = Bench(may_start=False)
    bench.add(1)

    bench.worker.wake()
    bench.worker.drain(60)

    assert bench.worker.waiting() == 1


@pytest.mark.parametrize(("patience_s", "waited_s"), [(0.4, 0.4), (None, 2.0)])
def test_c11_who_waits_for_the_end_leaves_when_nothing_moves(bench, monkeypatch, patience_s, waited_s):
    """The worker hangs in a request; each wait on a lock is as long as it may be."""

    class Lock:
        def acquire(self, timeout=0.0):
            bench.clock.now_s += timeout

    bench.worker._tickets.pop()
    bench.worker.retire(work.FAILED)
    monkeypatch.setattr(work._thread, "allocate_lock", Lock)
    begun_s = bench.clock.now_s

    bench.worker.wait_ended(2.0, patience_s=patience_s)

    assert bench.clock.now_s - begun_s == pytest.approx(waited_s)


@given(st.data())
def test_whatever_the_server_answers_each_event_has_exactly_one_outcome(data):
    bench = Bench()
    answers = st.sampled_from([0, 200, 302, 400, 404, 409, 413, 429, 500, 503])
    captured = 0
    for _ in range(data.draw(st.integers(1, 6))):
        count = data.draw(st.integers(0, 40))
        bench.add(count, start=captured)
        captured += count
        bench.transport.script.extend(
            Answer(status, f"http_{status}") for status in data.draw(st.lists(answers, max_size=12))
        )
        bench.run()

    counts = bench.counts
    assert counts.delivered + counts.lost() == captured
    assert bench.worker.waiting() == 0


# Rhythm, losses, opting out, the plain mode


def test_records_of_different_types_never_share_a_request(bench):
    bench.add(2)
    bench.add(1, start=2, record_type=9)
    bench.add(1, start=3)

    bench.run()

    assert bench.transport.sizes == [3, 1]
    assert [[event["n"] for event in events] for _, events in bench.transport.sent] == [[0, 1, 3], [2]]
    assert bench.worker.waiting() == 0


def test_a_busy_worker_rests_and_sends_when_it_is_over(bench):
    bench.rhythm.busy["answer"] = None
    bench.add(plan.BATCH_EVENTS_MAX)

    assert bench.worker.step() == pytest.approx(BUSY_MAX_S)
    assert bench.transport.sent == []

    del bench.rhythm.busy["answer"]
    bench.run()
    assert bench.counts.delivered == plan.BATCH_EVENTS_MAX


def test_a_batch_says_which_process_and_which_of_its_events_it_has_and_what_was_lost(bench):
    bench.counts.lose("no_room", 2)
    bench.counts.drop("event_too_large", 1)  # the server's own doing
    bench.transport.script.append(Answer(0, "reset"))
    bench.add(3)

    bench.run()
    bench.add(1, start=3)
    bench.run()

    first, again, second = bench.transport.clients
    assert first == again == {
        "process": "ab" * 16, "first": 1, "last": 3, "lost": [{"reason": "no_room", "count": 2}]
    }  # fmt: skip
    assert second["lost"] == []


def test_losses_whose_report_did_not_arrive_are_reported_with_the_next_batch(bench):
    bench.counts.lose("no_room", 2)
    bench.transport.script.append(Answer(400, "http_400"))
    bench.add(1)
    bench.run()

    bench.add(1, start=1)
    bench.run()

    assert bench.transport.clients[1]["lost"] == [{"reason": "no_room", "count": 2}]


def test_a_halved_batch_reports_its_losses_once(bench):
    bench.counts.lose("no_room", 2)
    bench.transport.script.append(Answer(413, "http_413"))
    bench.add(2)

    bench.run()

    assert [len(client["lost"]) for client in bench.transport.clients] == [1, 1, 0]


def test_one_event_that_breaks_the_server_is_found_and_set_aside_and_all_others_arrive(bench):
    def breaks(path, headers, body):
        reply = ScriptedTransport.send(bench.transport, path, headers, body)
        return reply_of(Answer(500, "http_500"), "") if b'"n":3}' in body else reply

    bench.transport.send = breaks
    bench.add(8)

    bench.run(10_000)

    assert bench.lanes.aside == [("http_500", 1)]
    assert bench.counts.delivered == 7


def test_an_outage_that_the_server_calls_its_own_failure_loses_nothing(bench):
    bench.transport.script.extend([Answer(500, "http_500")] * 60)
    bench.add(50)

    bench.run(10_000)

    assert bench.lanes.aside == []
    assert bench.counts.delivered == 50


def test_c28_after_an_outage_the_backlog_leaves_one_batch_at_a_time_with_pauses(bench):
    bench.transport.script.extend([Answer(0, "refused")] * plan.OUTAGE_FAILURES)
    bench.add(5 * plan.BATCH_EVENTS_MAX)
    for _ in range(100):
        rest_s = bench.worker.step()
        if len(bench.transport.sent) > plan.OUTAGE_FAILURES:
            break
        bench.clock.now_s += rest_s

    assert bench.worker.step() == pytest.approx(plan.OUTAGE_PACE_S / 2)
    bench.run()
    assert bench.counts.delivered == 5 * plan.BATCH_EVENTS_MAX


def test_c25_a_person_who_opts_out_while_events_wait_is_obeyed_before_the_next_request(bench):
    bench.transport.script.append(Answer(0, "refused"))
    bench.add(3)
    bench.clock.now_s += 1
    bench.worker.step()
    bench.worker.step()
    sent = len(bench.transport.sent)

    bench.environ["DO_NOT_TRACK"] = "1"
    bench.clock.now_s += 1
    bench.run()

    assert len(bench.transport.sent) == sent
    assert bench.stops
    assert bench.worker.ended
    assert bench.worker.waiting() == 0
    assert bench.counts.dropped == {"deleted": 3}
    assert bench.counts.unreported == {}


def test_what_waits_is_deleted_on_request_and_the_worker_goes_on(bench):
    bench.add(3)
    bench.worker._tickets.pop()
    bench.worker._clear = True

    bench.worker.step()
    bench.add(1)
    bench.run()

    assert bench.counts.dropped == {"deleted": 3}
    assert bench.counts.delivered == 1


PLAIN = Policy(
    Retry(attempts_max=2, base_s=0.0, cap_s=0.0), tries_max=2, wait_s=0.5, timeout_s=5.0, age_s=0.1, adaptive=False
)


def test_a_plain_client_repeats_once_after_half_a_second_and_then_drops():
    bench = Bench(PLAIN)
    bench.transport.script.extend([Answer(503, "http_503", retry_after_s=60.0)] * 2)
    bench.add(2)

    assert bench.worker.step() == pytest.approx(0.1)
    bench.clock.now_s += 0.1
    bench.worker.step()
    assert bench.worker.step() == pytest.approx(0.5)
    bench.clock.now_s += 0.5
    bench.run()

    assert bench.transport.sizes == [2, 2]
    assert bench.transport.timeout_s == 5.0
    assert bench.counts.dropped == {"not_delivered": 2}
    bench.add(1, start=2)
    bench.run()
    assert bench.counts.delivered == 1


def test_rounds_are_counted_with_their_time_and_how_they_ended(bench):
    bench.transport.script.append(Answer(0, "refused"))
    bench.add(1)
    bench.run()

    assert (bench.counts.flushes, bench.counts.flushes_ok) == (2, 1)


def test_counts_that_were_taken_for_a_report_can_be_given_back():
    counts = Counts()
    counts.lose("no_room", 2)
    taken = counts.take_unreported()
    counts.lose("no_room")

    counts.unreport(taken)

    assert counts.take_unreported() == {"no_room": 3}
    assert counts.dropped == {"no_room": 3}


def test_c14_after_a_fork_a_worker_that_rests_looks_for_what_children_left_and_forgets_nobody_who_waits(bench):
    bench.worker._tickets.pop()
    bench.worker.expect_left()
    bench.worker._look = True  # somebody began to wait, and woke it
    bench.worker.wake()

    bench.worker._rest(None)

    assert bench.worker._look
