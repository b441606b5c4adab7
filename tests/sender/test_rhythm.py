"""When what waits is sent; time is in the test's hand."""

import pytest
from hypothesis import given, strategies as st

from leeward.sender.rhythm import (
    AGE_MAX_S,
    AGE_MIN_S,
    BUSY_MAX_S,
    FEW,
    HINT_MAX_S,
    HINT_SLACK_S,
    LOGS_AGE_S,
    QUIET_S,
    Rhythm,
)


def due_s(rhythm, now_s=100.0, *, since_s=100.0, full=False, hurry=False, urgent=True):
    rhythm.urgent = urgent
    return rhythm.due_s(now_s, waiting_since_s=since_s, full=full, hurry=hurry)


def send(rhythm, now_s, events=1, *, full=False, left=0):
    rhythm.began(now_s, waiting=events + left)
    rhythm.sent(events, full=full, left=left)


def test_the_first_event_waits_a_little_for_company():
    assert due_s(Rhythm()) == pytest.approx(100.0 + AGE_MIN_S)


def test_a_full_batch_leaves_at_once_and_so_does_one_that_somebody_waits_for():
    assert due_s(Rhythm(), full=True) == 100.0
    assert due_s(Rhythm(), hurry=True) == 100.0


def test_while_little_happens_batches_leave_less_often_and_never_too_late():
    rhythm = Rhythm()

    for now_s in range(100, 120):
        send(rhythm, float(now_s), events=FEW - 1)

    assert due_s(rhythm) == pytest.approx(100.0 + AGE_MAX_S)


def test_a_batch_that_was_worth_its_request_changes_nothing_and_a_full_one_begins_anew():
    rhythm = Rhythm()
    send(rhythm, 100.0)
    send(rhythm, 101.0, events=FEW)
    assert due_s(rhythm) == pytest.approx(100.0 + 2 * AGE_MIN_S)

    send(rhythm, 102.0, events=500, full=True)

    assert due_s(rhythm) == pytest.approx(100.0 + AGE_MIN_S)


def test_after_a_silence_the_next_event_does_not_wait_long():
    rhythm = Rhythm()
    for now_s in range(100, 110):
        send(rhythm, float(now_s))

    rhythm.began(110.0 + QUIET_S, waiting=1)
    rhythm.sent(10, full=False, left=0)

    assert due_s(rhythm) == pytest.approx(100.0 + AGE_MIN_S)


def test_a_rhythm_that_is_not_adaptive_keeps_its_interval():
    rhythm = Rhythm(0.1, adaptive=False)
    for now_s in range(100, 110):
        send(rhythm, float(now_s))

    assert due_s(rhythm) == pytest.approx(100.1)


def test_lines_of_a_log_wait_longer_for_company():
    rhythm = Rhythm()

    assert due_s(rhythm, urgent=False) == pytest.approx(100.0 + LOGS_AGE_S)
    assert due_s(rhythm, urgent=False, full=True) == 100.0

    rhythm.urgent = True
    rhythm.sent(1, full=False, left=1)
    assert rhythm.urgent
    rhythm.sent(1, full=False, left=0)
    assert not rhythm.urgent


def test_nothing_leaves_while_an_answer_streams_unless_somebody_waits_for_it():
    rhythm = Rhythm()
    rhythm.checkpoint(100.0, None, waiting=1)
    rhythm.idle["typing"] = None
    rhythm.busy["streaming"] = None

    assert due_s(rhythm, full=True) == pytest.approx(100.0 + BUSY_MAX_S)  # in a server one always streams
    assert due_s(rhythm, hurry=True) == 100.0

    del rhythm.busy["streaming"]
    assert due_s(rhythm) == 100.0


def test_while_a_person_types_what_waits_leaves_at_once():
    rhythm = Rhythm()
    rhythm.idle["typing"] = None

    assert due_s(rhythm) == 100.0


def test_at_a_checkpoint_what_waits_leaves_at_once_and_later_events_wait_again():
    rhythm = Rhythm()

    rhythm.checkpoint(100.0, None, waiting=3)
    assert due_s(rhythm) == 100.0
    send(rhythm, 100.0, left=1)
    assert due_s(rhythm) == 100.0  # not yet all
    send(rhythm, 100.0, events=FEW)

    assert due_s(rhythm) > 100.0


def test_a_checkpoint_without_anything_to_send_changes_nothing_for_what_comes():
    rhythm = Rhythm()

    rhythm.checkpoint(100.0, None, waiting=0)

    assert due_s(rhythm) == pytest.approx(100.0 + AGE_MIN_S)


def test_a_hint_keeps_events_for_the_next_checkpoint_and_not_for_ever():
    rhythm = Rhythm()

    rhythm.checkpoint(100.0, 20.0, waiting=0)
    assert due_s(rhythm) == pytest.approx(120.0 + HINT_SLACK_S)

    rhythm.checkpoint(100.0, 1e9, waiting=0)
    assert due_s(rhythm) == pytest.approx(100.0 + HINT_MAX_S + HINT_SLACK_S)

    rhythm.checkpoint(100.0, -5.0, waiting=0)
    assert due_s(rhythm) == pytest.approx(100.0 + HINT_SLACK_S)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(1, 500), st.booleans()), max_size=50),
    st.floats(0, 1e6),
)
def test_whatever_happened_an_event_waits_at_most_the_longest_interval(rounds, since_s):
    rhythm = Rhythm()
    now_s = 0.0
    for pause_s, events, full in rounds:
        now_s += pause_s
        send(rhythm, now_s, events, full=full)

    wait_s = due_s(rhythm, since_s, since_s=since_s) - since_s

    assert AGE_MIN_S - 1e-6 <= wait_s <= AGE_MAX_S + 1e-6


def test_a_round_sends_all_that_waited_when_it_began():
    rhythm = Rhythm()

    rhythm.began(100.0, waiting=3)
    rhythm.sent(1, full=False, left=5)  # others have come
    assert due_s(rhythm) == 100.0
    rhythm.sent(2, full=False, left=5)

    assert due_s(rhythm) > 100.0


def test_a_round_pauses_while_an_answer_streams_unless_it_was_overdue():
    rhythm = Rhythm()
    rhythm.began(100.0, waiting=3)
    rhythm.sent(1, full=False, left=2)
    rhythm.busy["streaming"] = None
    assert due_s(rhythm) == pytest.approx(100.0 + BUSY_MAX_S)

    overdue = Rhythm(busy={"streaming": None})
    overdue.began(100.0, waiting=1000)
    overdue.sent(500, full=True, left=600)
    assert due_s(overdue) == 100.0
    overdue.sent(500, full=True, left=100)

    assert due_s(overdue) == pytest.approx(100.0 + BUSY_MAX_S)
