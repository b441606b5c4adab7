"""A breaker around functions."""

import asyncio
import threading

import pytest

from leeward.errors import CircuitOpen, RateLimited, Refused, Unavailable
from leeward.resilience.breaker import BreakerRules
from leeward.resilience.circuit_breaker import CircuitBreaker, verdict_of
from resilience_clock import HandClock


class Answered(Exception):
    """As HTTP libraries raise it."""

    def __init__(self, status):
        super().__init__(status)
        self.response = type("Response", (), {"status_code": status})()


def made(**fields):
    clock = HandClock()
    changes = []
    breaker = CircuitBreaker(
        clock=clock, random=lambda: 0.5, on_change=lambda *change: changes.append(change), name="search", **fields
    )
    return breaker, clock, changes


def call(breaker, error=None, *, last=False):
    with breaker.guard(last=last):
        if error is not None:
            raise error


def fail(breaker, times=3):
    for _ in range(times):
        with pytest.raises(ConnectionError):
            call(breaker, ConnectionError("gone"))


def test_after_three_failures_no_call_is_made_and_the_error_says_for_how_long_and_why():
    breaker, _, changes = made()
    fail(breaker)

    with pytest.raises(CircuitOpen, match=r"^search is left alone for 5\.0 s \(consecutive_failures\)$") as refused:
        call(breaker, AssertionError("the call was made"))

    assert refused.value.code == "circuit_open"
    assert changes == [("closed", "open", "consecutive_failures")]


def test_when_its_time_is_over_one_call_passes_and_closes_it():
    breaker, clock, changes = made()
    fail(breaker)
    clock.now_s += 5

    assert breaker.statistics().state == "half-open"
    call(breaker)

    assert breaker.statistics().state == "closed"
    assert changes[1:] == [
        ("open", "half-open", "consecutive_failures"),
        ("half-open", "closed", "consecutive_failures"),
    ]


def test_a_sync_function_is_decorated_and_keeps_its_name_and_its_answer():
    breaker, _, _ = made()

    @breaker
    def double(number: int, *, plus: int = 0) -> int:
        if number < 0:
            raise ConnectionError("gone")
        return 2 * number + plus

    assert (double.__name__, double(4, plus=1)) == ("double", 9)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            double(-1)
    with pytest.raises(CircuitOpen):
        double(4)


def test_an_async_function_is_decorated_and_counted_when_it_ends():
    breaker, _, _ = made()

    @breaker
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        if number < 0:
            raise ConnectionError("gone")
        return 2 * number

    async def use():
        assert await double(4) == 8
        results = await asyncio.gather(double(-1), double(-1), double(-1), return_exceptions=True)
        assert [type(result) for result in results] == [ConnectionError] * 3
        with pytest.raises(CircuitOpen):
            await double(4)

    assert asyncio.iscoroutinefunction(double)
    asyncio.run(use())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_generator_is_not_decorated_since_it_fails_only_when_it_is_read(kind):
    def lines():
        yield ""

    async def lines_async():
        yield ""

    with pytest.raises(TypeError, match=r"is a generator.*breaker\.guard"):
        made()[0](lines if kind == "sync" else lines_async)


def test_a_cancelled_call_and_an_interrupted_one_are_no_failures_and_free_the_probe():
    breaker, clock, _ = made()
    fail(breaker)
    clock.now_s += 5
    for error in (asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(), GeneratorExit()):
        with pytest.raises(type(error)):
            call(breaker, error)

    assert breaker.statistics().released == 4
    assert breaker.allow() is not None


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ConnectionError(), "failed"),
        (ValueError(), "failed"),
        (Unavailable("down"), "failed"),
        (Answered(500), "failed"),
        (Answered(400), "succeeded"),
        (Answered(404), "succeeded"),
        (Refused("no"), "succeeded"),
        (Answered(408), "released"),
        (Answered(429), "released"),
        (RateLimited("slow"), "released"),
    ],
)
def test_an_exception_is_a_failure_unless_it_shows_that_the_service_works(error, verdict):
    assert verdict_of(error) == verdict


def test_bad_requests_of_one_caller_do_not_open_it():
    breaker, _, _ = made()
    for _ in range(100):
        with pytest.raises(Answered):
            call(breaker, Answered(400))

    assert breaker.statistics().state == "closed"


def test_a_program_says_itself_what_a_failure_is():
    breaker, _, _ = made(when=lambda error: isinstance(error, KeyError))
    for _ in range(20):
        with pytest.raises(ConnectionError):
            call(breaker, ConnectionError())
    assert breaker.statistics()[3:6] == (20, 0, 0)

    for _ in range(3):
        with pytest.raises(KeyError):
            call(breaker, KeyError())

    assert breaker.statistics().state == "open"


def test_g7_calls_that_take_too_long_open_it():
    breaker, clock, changes = made(slow_s=2.0)
    for _ in range(10):
        with breaker.guard():
            clock.now_s += 2.0

    assert changes == [("closed", "open", "slow_rate")]
    assert breaker.statistics().slow == 10


def test_g6_where_nobody_else_can_be_asked_a_probe_passes_an_open_one():
    breaker, clock, _ = made()
    fail(breaker)
    clock.now_s += 1

    with pytest.raises(CircuitOpen):
        call(breaker)
    call(breaker, last=True)

    assert breaker.statistics().forced_probes == 1
    assert breaker.statistics().state == "closed"


def test_by_force_it_opens_for_a_while_or_for_good_and_closes():
    breaker, clock, changes = made()
    breaker.force_open(60.0)
    assert breaker.statistics().open_s == 60.0
    clock.now_s += 60
    call(breaker)
    breaker.force_open()
    with pytest.raises(CircuitOpen, match=r"until it is closed by force \(forced\)"):
        call(breaker)
    breaker.force_close()
    call(breaker)

    assert [(before, after) for before, after, _ in changes] == [
        ("closed", "open"),
        ("open", "half-open"),
        ("half-open", "closed"),
        ("closed", "open"),
        ("open", "closed"),
    ]


def test_the_statistics_count_what_became_of_every_call():
    breaker, _, _ = made()
    call(breaker)
    fail(breaker)
    assert breaker.allow() is None

    found = breaker.statistics()

    assert (found.succeeded, found.failed, found.refused, found.opened, found.why) == (
        1, 3, 1, 1, "consecutive_failures",
    )  # fmt: skip
    assert breaker.value.circuit.opened == 1


def test_its_rules_come_by_name_or_as_one_value_but_not_both():
    assert made(open_s=7.0)[0].value.rules == BreakerRules(open_s=7.0)
    assert made(rules=BreakerRules(open_s=7.0))[0].value.rules.open_s == 7.0
    with pytest.raises(TypeError, match="either rules or open_s"):
        CircuitBreaker(BreakerRules(), open_s=7.0)


def test_with_the_machines_own_clock_it_works_too():
    breaker = CircuitBreaker(open_s=1000.0, open_max_s=1000.0)
    fail(breaker)

    assert 600 < breaker.statistics().open_s <= 1000


def test_threads_that_share_one_get_one_probe_between_them():
    breaker, clock, _ = made()
    fail(breaker)
    clock.now_s += 5
    permits = []
    start = threading.Barrier(8)

    def ask():
        start.wait()
        permits.append(breaker.allow())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len([permit for permit in permits if permit is not None]) == 1
    assert breaker.statistics().refused == 7
