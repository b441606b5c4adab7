"""Parts composed around a function."""

import asyncio
import urllib.error
from email.message import Message
from email.utils import formatdate

import pytest

from leeward.errors import CircuitOpen, RateLimited, Refused, Unavailable
from leeward.resilience.budget import RetryBudget
from leeward.resilience.circuit_breaker import CircuitBreaker
from leeward.resilience.composition import is_transient, policy, retry_after_s_of
from leeward.resilience.fallback import Fallback
from leeward.resilience.retry import RETRY_STATUSES, Retry
from resilience_clock import HandClock


class Service:
    """Raises what it is told, then answers."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, text="hello"):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return text

    async def later(self, text="hello"):
        await asyncio.sleep(0)
        return self(text)


class Answered(Exception):
    """As HTTP libraries raise it."""

    def __init__(self, status, headers=None):
        super().__init__(status)
        self.response = type("Response", (), {"status_code": status, "headers": headers or {}})()


def made(*parts, budget=None):
    clock = HandClock()
    return policy(*parts, budget=budget, clock=clock, sleep=clock.sleep, random=lambda: 0.5), clock


def test_what_says_later_is_tried_again_with_growing_delays():
    service = Service(ConnectionError(), Answered(503))
    patient, clock = made(Retry(attempts_max=3, base_s=1.0))

    assert patient.call_sync(service, "hi") == "hi"
    assert (service.calls, clock.slept) == (3, [0.5, 1.0])


def test_the_last_error_comes_out_when_the_tries_are_used_up():
    service = Service(*[Unavailable(str(number)) for number in range(5)])
    patient, _ = made(Retry(attempts_max=3))

    with pytest.raises(Unavailable, match="2"):
        patient.call_sync(service)
    assert service.calls == 3


@pytest.mark.parametrize("error", [Refused("no"), Answered(400), Answered(401), ValueError(), CircuitOpen("open")])
def test_what_is_an_answer_is_not_tried_again(error):
    service = Service(error)
    patient, clock = made(Retry())

    with pytest.raises(type(error)):
        patient.call_sync(service)
    assert (service.calls, clock.slept) == (1, [])


def test_an_async_function_takes_the_same_way():
    service = Service(ConnectionError(), ConnectionError())
    clock = HandClock()
    patient = policy(Retry(base_s=1.0), clock=clock, sleep=clock.sleep_async, random=lambda: 0.5)

    assert asyncio.run(patient.call(service.later, text="hi")) == "hi"
    assert (service.calls, clock.slept) == (3, [0.5, 1.0])


def test_a_sync_function_may_be_called_in_a_task_and_its_own_sleep_is_used():
    service = Service(ConnectionError())

    assert asyncio.run(policy(Retry(base_s=0.0)).call(service)) == "hello"
    assert policy(Retry(base_s=0.0)).call_sync(Service(ConnectionError())) == "hello"


def test_retry_after_of_the_answer_is_obeyed_and_capped():
    service = Service(Answered(429, {"Retry-After": "3"}), Answered(429, {"retry-after": "900"}))
    patient, clock = made(Retry(base_s=0.0, retry_after_max_s=60.0))

    patient.call_sync(service)

    assert clock.slept == [3.0, 60.0]


def test_no_try_begins_after_the_deadline():
    service = Service(*[ConnectionError() for _ in range(9)])
    patient, clock = made(Retry(attempts_max=None, base_s=2.0, cap_s=2.0, deadline_s=3.5))

    with pytest.raises(ConnectionError):
        patient.call_sync(service)
    assert clock.slept == [1.0, 1.0, 1.0]


def test_a_wish_beyond_the_deadline_ends_it_without_a_wait():
    patient, clock = made(Retry(deadline_s=10.0))

    with pytest.raises(RateLimited):
        patient.call_sync(Service(RateLimited("slow", retry_after_s=20.0)))
    assert clock.slept == []


def test_g5_the_budget_pays_the_repeats_and_is_shared():
    budget = RetryBudget(floor=0.0, tokens_max=1000.0)
    patient, _ = made(Retry(base_s=0.0), budget=budget)
    other, _ = made(Retry(base_s=0.0), budget=budget)
    calls = 0
    for number in range(500):
        service = Service(*[ConnectionError() for _ in range(9)])
        with pytest.raises(ConnectionError):
            (patient if number % 2 else other).call_sync(service)
        calls += service.calls

    assert 540 <= calls <= 550


def test_a_breaker_inside_a_retry_counts_each_try_and_outside_the_whole():
    inside, outside = CircuitBreaker(consecutive_failures=2), CircuitBreaker(consecutive_failures=2)

    with pytest.raises(CircuitOpen):
        made(Retry(base_s=0.0), inside)[0].call_sync(Service(*[ConnectionError() for _ in range(3)]))
    with pytest.raises(ConnectionError):
        made(outside, Retry(base_s=0.0))[0].call_sync(Service(*[ConnectionError() for _ in range(3)]))

    assert (inside.statistics().failed, outside.statistics().failed) == (2, 1)


def test_a_fallback_outside_answers_when_the_rest_is_used_up():
    breaker = CircuitBreaker(consecutive_failures=2)
    safe, _ = made(Fallback(lambda text: f"kept {text}"), Retry(attempts_max=2, base_s=0.0), breaker)
    service = Service(*[ConnectionError() for _ in range(9)])

    first, second = safe.result_sync(service, "hi"), safe.result_sync(service, "ho")

    assert [(result.value, result.step) for result in (first, second)] == [("kept hi", 1), ("kept ho", 1)]
    assert [type(result.errors[0]) for result in (first, second)] == [ConnectionError, CircuitOpen]
    assert service.calls == 2
    assert safe.call_sync(service, "hi") == "kept hi"
    assert asyncio.run(safe.result(service, "hi")).degraded


def test_a_result_of_the_function_itself_is_step_0():
    assert made(Fallback(str.upper))[0].result_sync(Service(), "hi")[:2] == ("hi", 0)


def test_policies_decorate_sync_and_async_functions():
    patient, _ = made(Retry(base_s=0.0), CircuitBreaker())
    service = Service(ConnectionError(), None, ConnectionError())
    service.errors = [ConnectionError()]

    @patient
    def ask(text: str) -> str:
        return service(text)

    @patient
    async def ask_later(text: str) -> str:
        return await service.later(text)

    assert (ask.__name__, ask("hi")) == ("ask", "hi")
    service.errors = [ConnectionError()]
    assert asyncio.run(ask_later("ho")) == "ho"
    assert service.calls == 4


def test_a_generator_is_not_decorated():
    def lines():
        yield ""

    with pytest.raises(TypeError, match="is a generator"):
        policy(Retry())(lines)


def test_an_async_function_on_a_thread_is_an_error_that_says_what_to_do():
    with pytest.raises(TypeError, match="later is async: await `call`"):
        policy(Retry()).call_sync(Service().later)


def test_something_else_is_no_part():
    with pytest.raises(TypeError, match="is no part of a policy"):
        policy(Retry(), RetryBudget())


def test_a_cancelled_call_ends_at_once_and_frees_the_probe():
    breaker = CircuitBreaker(consecutive_failures=1, open_s=1e-9)
    patient = policy(Fallback(lambda: "kept"), Retry(), breaker)

    async def hang():
        await asyncio.Event().wait()

    async def use():
        with pytest.raises(ConnectionError), breaker.guard():
            raise ConnectionError
        task = asyncio.create_task(patient.call(hang))
        await asyncio.sleep(0)
        assert breaker.statistics().state == "half-open"
        assert breaker.allow() is None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())
    assert breaker.statistics().released == 1
    assert breaker.allow() is not None


def test_an_interrupt_while_it_waits_comes_straight_out():
    service = Service(ConnectionError(), ConnectionError())

    def interrupted(_seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        policy(Fallback(str), Retry(), sleep=interrupted).call_sync(service)
    assert service.calls == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_interrupted_call_has_given_its_place_back_when_the_interrupt_is_seen(kind):
    breaker = CircuitBreaker()
    guarded = policy(breaker)

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as seen:  # which holds all frames, and so the plan
        guarded.call_sync(interrupted) if kind == "sync" else guarded.call(interrupted).send(None)

    assert breaker.statistics().released == 1
    del seen


def raised_from(error, *causes):
    for cause, raised in zip((*causes, None), (error, *causes), strict=True):
        raised.__cause__ = cause
    return error


def http_error(code):
    return urllib.error.HTTPError("http://127.0.0.1/", code, "", Message(), None)


@pytest.mark.parametrize(
    ("error", "later"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (EOFError(), True),
        (Unavailable("down"), True),
        (Answered(502), True),
        (http_error(503), True),
        (raised_from(RuntimeError(), ValueError(), TimeoutError()), True),
        (http_error(404), False),  # an OSError, and an answer
        (Answered(501), False),
        (FileNotFoundError(), False),
        (raised_from(RuntimeError(), PermissionError()), False),
        (raised_from(RuntimeError(), ValueError()), False),
        (raised_from(*[RuntimeError() for _ in range(9)], TimeoutError()), False),
    ],
)
def test_network_errors_of_any_library_say_later(error, later):
    assert is_transient(error, RETRY_STATUSES) is later
    if isinstance(error, urllib.error.HTTPError):
        error.close()


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (RateLimited("slow", retry_after_s=7), 7.0),
        (RateLimited("slow"), None),
        (Answered(429, {"retry-after": "2"}), 2.0),
        (Answered(429, {"Retry-After-Ms": "250", "Retry-After": "2"}), 0.25),
        (Answered(429, {"Retry-After": formatdate(1005, usegmt=True)}), 5.0),
        (Answered(429, {"Retry-After": "5000"}), 300.0),
        (Answered(429), None),
        (ValueError(), None),
    ],
)
def test_the_wish_of_the_other_side_is_found_where_libraries_keep_it(error, seconds):
    assert retry_after_s_of(error, 1000.0, 300.0) == seconds
