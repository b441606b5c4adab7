"""Overload: who is refused, for how long, and what is left out before it comes to that."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, strategies as st

from leeward.errors import RateLimited, Unavailable
from leeward.model import KINDS, LEVELS
from leeward.server.admission import (
    FALL_SAMPLES,
    RETRY_AFTER_S_MAX,
    RISE_SAMPLES,
    SAMPLE_EVERY_S,
    Admission,
    AdmissionLimits,
    LoopProbe,
    LoopTurn,
    is_shed,
)

LIMITS = AdmissionLimits(
    log_bytes_max=1000,
    waiting_bytes_max=1000,
    commit_wait_s_max=2.0,
    held_bytes_max=1000,
    turn_s_max=0.1,
    running_max=10,
    lag_s_max=0.5,
)


class Pressed:
    """An admission whose readings are set by hand."""

    def __init__(self, *, random=lambda: 0.0):
        self.unstored_bytes = self.waiting_bytes = self.held_bytes = 0
        self.oldest_wait_s = self.turn_s = 0.0
        self.admission = Admission(
            LIMITS,
            unstored_bytes=lambda: self.unstored_bytes,
            waiting_bytes=lambda: self.waiting_bytes,
            oldest_wait_s=lambda: self.oldest_wait_s,
            held_bytes=lambda: self.held_bytes,
            turn_s=lambda: self.turn_s,
            random=random,
        )

    def levels(self, samples, lag_s=0.0):
        seen = []
        for _ in range(samples):
            self.admission.sample(lag_s)
            seen.append(self.admission.level())
        return seen

    def run(self, requests):
        for _ in range(requests):
            self.admission.begin()


@pytest.fixture
def pressed():
    return Pressed()


# Refusing


def test_a_server_at_rest_lets_in_and_sheds_nothing(pressed):
    pressed.admission.check()

    assert pressed.levels(20) == [0] * 20


def test_w13_a_log_that_is_full_of_what_the_store_has_not_taken_is_503_for_half_a_minute(pressed):
    pressed.unstored_bytes = 1000
    pressed.admission.check()
    pressed.unstored_bytes = 1001

    with pytest.raises(Unavailable, match="log is full") as refused:
        pressed.admission.check()

    assert (refused.value.code, refused.value.retry_after_s) == ("unavailable", 30)


@pytest.mark.parametrize(
    ("reading", "good", "bad"),
    [
        ("waiting_bytes", 1000, 1001),
        ("oldest_wait_s", 2.0, 2.01),
        ("held_bytes", 999, 1000),
        ("turn_s", 0.1, 0.11),
    ],
)
def test_i10_w7_too_much_at_once_is_429_from_the_moment_that_it_is_and_no_longer(pressed, reading, good, bad):
    for value in (good, bad, good):
        setattr(pressed, reading, value)
        if value == bad:
            with pytest.raises(RateLimited, match="Too much is being sent at once") as refused:
                pressed.admission.check()
            assert refused.value.code == "rate_limited"
        else:
            pressed.admission.check()


def test_i10_a_loop_that_stays_late_refuses_until_a_sample_says_otherwise(pressed):
    pressed.admission.sample(0.6)
    pressed.admission.check()
    pressed.admission.sample(0.6)
    with pytest.raises(RateLimited):
        pressed.admission.check()

    pressed.admission.sample(0.1)

    pressed.admission.check()


def test_i10_no_more_requests_run_than_may_and_the_next_one_is_told_before_its_body_is_read(pressed):
    pressed.run(LIMITS.running_max)
    with pytest.raises(RateLimited):
        pressed.admission.check()
    with pytest.raises(RateLimited):
        pressed.admission.begin()
    assert pressed.admission.running == LIMITS.running_max

    pressed.admission.end()

    pressed.admission.check()
    pressed.admission.begin()


def test_i10_the_time_to_stay_away_grows_with_what_is_offered_and_falls_back(pressed):
    def retry_after_s():
        with pytest.raises(RateLimited) as refused:
            pressed.admission.check()
        return refused.value.retry_after_s

    pressed.run(LIMITS.running_max)
    assert retry_after_s() == 1.0
    for _ in range(200):  # four are refused for each that is let in
        for _ in range(40):
            retry_after_s()
        for _ in range(10):
            pressed.admission.end()
            pressed.admission.begin()
        pressed.admission.sample(0)
    assert 4.9 < retry_after_s() < 5.1
    for _ in range(1000):
        retry_after_s()
    assert retry_after_s() == RETRY_AFTER_S_MAX

    for _ in range(200):  # nobody comes for twenty seconds
        pressed.admission.sample(0)

    assert retry_after_s() < 1.1


def test_i10_those_who_are_refused_together_do_not_come_back_together():
    spread = [0.0, 0.5, 0.999]
    pressed = Pressed(random=lambda: spread.pop(0))
    pressed.held_bytes = 1000
    told = []
    for _ in range(3):
        with pytest.raises(RateLimited) as refused:
            pressed.admission.check()
        told.append(refused.value.retry_after_s)

    assert told == pytest.approx([1.0, 1.1 * 1.5, 1.2 * 1.999])


# The level


@pytest.mark.parametrize(
    ("unstored", "level"), [(499, 0), (500, 1), (749, 1), (750, 2), (999, 2), (1000, 3), (5000, 3)]
)
def test_i10_the_level_is_that_of_the_reading_nearest_to_its_limit(pressed, unstored, level):
    pressed.unstored_bytes = unstored
    pressed.waiting_bytes = 100

    assert pressed.levels(RISE_SAMPLES)[-1] == level


@pytest.mark.parametrize(
    "press",
    [
        lambda pressed: setattr(pressed, "waiting_bytes", 600),
        lambda pressed: setattr(pressed, "oldest_wait_s", 1.2),
        lambda pressed: setattr(pressed, "held_bytes", 600),
        lambda pressed: pressed.run(6),
    ],
)
def test_i10_each_reading_counts(pressed, press):
    press(pressed)

    assert pressed.levels(RISE_SAMPLES)[-1] == 1


def test_i10_a_late_loop_counts(pressed):
    assert pressed.levels(RISE_SAMPLES + 1, lag_s=0.4)[-1] == 2


def test_i10_one_slow_moment_sheds_nothing(pressed):
    for _ in range(10):
        assert pressed.levels(RISE_SAMPLES, lag_s=3.0) == [0] * RISE_SAMPLES
        assert pressed.levels(1) == [0]


def test_i10_the_level_falls_step_by_step_once_the_pressure_has_been_lower_for_long(pressed):
    pressed.unstored_bytes = 1000
    pressed.levels(RISE_SAMPLES)
    pressed.unstored_bytes = 0

    seen = pressed.levels(3 * FALL_SAMPLES)

    assert seen == [3] * (FALL_SAMPLES - 1) + [2] * FALL_SAMPLES + [1] * FALL_SAMPLES + [0]


def test_i10_a_pressure_that_is_only_a_little_below_its_mark_does_not_make_the_level_flap(pressed):
    pressed.unstored_bytes = 500
    pressed.levels(RISE_SAMPLES)

    for unstored in (401, 499, 740):
        pressed.unstored_bytes = unstored
        assert pressed.levels(10 * FALL_SAMPLES) == [1] * 10 * FALL_SAMPLES
    pressed.unstored_bytes = 399
    assert pressed.levels(FALL_SAMPLES)[-1] == 0


@given(st.lists(st.tuples(st.integers(0, 2000), st.floats(0, 2)), max_size=300))
def test_the_level_is_always_one_of_four_and_changes_only_for_a_reason(course):
    pressed = Pressed()
    before = 0
    for unstored, lag_s in course:
        pressed.unstored_bytes = unstored
        (after,) = pressed.levels(1, lag_s)
        assert 0 <= after <= 3
        if after > before:
            assert pressed.admission.pressure() >= (0.5, 0.75, 1.0)[after - 1]
        if after < before:
            assert after == before - 1
        before = after


# What is left out


def test_i10_first_debug_logs_give_way_then_all_that_does_not_tell_of_trouble():
    shed = {
        pressure: {(kind, level) for kind in KINDS for level in ("", *LEVELS) if is_shed(kind, level, pressure)}
        for pressure in range(4)
    }

    measured = {(kind, level) for kind in ("span", "metric") for level in ("", *LEVELS)}
    assert shed[0] == set()
    assert shed[1] == {("log", "DEBUG")}
    assert shed[2] == shed[3] == measured | {("log", ""), ("log", "DEBUG"), ("log", "INFO")}


# The probe


class Loop:
    """What probe and turn ask of an event loop, with a clock that is set by hand."""

    def __init__(self):
        self.now_s = 100.0
        self.due = []
        self.soon = []

    def time(self):
        return self.now_s

    def call_at(self, when, call):
        handle = asyncio.TimerHandle(when, call, (), self)
        self.due.append(handle)
        return handle

    def call_soon(self, call):
        self.soon.append(call)

    def turn(self):
        called, self.soon = self.soon, []
        for call in called:
            call()

    def get_debug(self):
        return False

    def _timer_handle_cancelled(self, handle):
        self.due.remove(handle)

    def pass_s(self, seconds):
        self.now_s += seconds
        for handle in [handle for handle in self.due if handle.when() <= self.now_s]:
            self.due.remove(handle)
            handle._run()


def test_the_probe_says_by_how_much_the_loop_ran_it_too_late():
    loop, seen = Loop(), []
    probe = LoopProbe(loop, seen.append)
    probe.start()

    loop.pass_s(SAMPLE_EVERY_S)
    loop.pass_s(SAMPLE_EVERY_S + 0.7)
    loop.pass_s(SAMPLE_EVERY_S)

    assert seen == pytest.approx([0.0, 0.7, 0.0])
    probe.stop()
    probe.stop()
    loop.pass_s(10)
    assert len(seen) == 3
    assert loop.due == []


def test_i10_the_work_of_a_turn_counts_from_the_first_question_to_its_end():
    loop = Loop()
    turn = LoopTurn(loop, processor_s=loop.time)

    assert turn.work_s() == 0.0
    loop.pass_s(0.25)
    assert turn.work_s() == 0.25
    assert turn.work_s() == 0.25
    loop.turn()
    assert turn.work_s() == 0.0
    assert len(loop.soon) == 1, "asked often, the loop is asked once"


def test_i10_of_what_comes_at_once_the_part_beyond_a_turns_work_is_refused():
    async def scenario():
        spent_s = 0.0
        turn = LoopTurn(asyncio.get_running_loop(), processor_s=lambda: spent_s)
        taken = []

        async def request():
            nonlocal spent_s
            taken.append(turn.work_s() <= 0.1)
            if taken[-1]:
                spent_s += 0.04

        await asyncio.gather(*(request() for _ in range(6)))
        await asyncio.gather(request())
        return taken

    assert asyncio.run(scenario()) == [True, True, True, False, False, False, True]


def test_the_probe_runs_on_a_real_loop():
    async def scenario():
        sampled = asyncio.Event()
        probe = LoopProbe(asyncio.get_running_loop(), lambda lag_s: sampled.set())
        probe.start()
        await asyncio.wait_for(sampled.wait(), 30)
        probe.stop()

    asyncio.run(scenario())
