"""What answers when the first cannot."""

import asyncio
import gc

import pytest

from leeward.resilience.fallback import Fallback, Result


def broken(*_args):
    raise ConnectionError("gone")


def worse(*_args):
    raise KeyError("nothing kept")


def polite(text=""):
    return f"Sorry {text}"


async def polite_async(text):
    await asyncio.sleep(0)
    return f"Sorry {text}"


def test_the_first_that_answers_is_the_answer_and_it_is_said_which():
    result = Fallback(broken, worse, polite).call_sync("Ann")

    assert (result.value, result.step, result.degraded) == ("Sorry Ann", 2, True)
    assert [type(error) for error in result.errors] == [ConnectionError, KeyError]


def test_when_the_first_answers_nobody_else_is_asked():
    result = Fallback(polite, broken).call_sync("Ann")

    assert result == Result("Sorry Ann", 0, ())
    assert not result.degraded


def test_sync_and_async_steps_mix_in_a_task():
    result = asyncio.run(Fallback(broken, polite_async).call("Ann"))

    assert result[:2] == ("Sorry Ann", 1)


def test_when_all_fail_the_first_error_comes_out_and_names_the_others():
    with pytest.raises(ConnectionError, match="gone") as failed:
        Fallback(broken, worse, broken).call_sync()

    assert failed.value.__notes__ == [
        "fallback step 1, worse, failed too: KeyError: 'nothing kept'",
        "fallback step 2, broken, failed too: ConnectionError: gone",
    ]


def test_what_does_not_count_comes_straight_out():
    fallback = Fallback(worse, polite, when=lambda error: isinstance(error, OSError))

    with pytest.raises(KeyError):
        fallback.call_sync()
    assert Fallback(broken, polite, when=lambda error: isinstance(error, OSError)).call_sync().step == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_interrupt_leads_to_no_other_step(error):
    def interrupted():
        raise error

    with pytest.raises(error):
        Fallback(interrupted, polite).call_sync()
    with pytest.raises(error):
        Fallback(broken, interrupted, polite).call_sync()


def test_a_fallback_needs_steps_that_can_be_called_and_are_no_generators():
    def lines():
        yield ""

    with pytest.raises(TypeError, match="at least one step"):
        Fallback()
    with pytest.raises(TypeError, match="is not a function"):
        Fallback(polite, "Sorry")
    with pytest.raises(TypeError, match="is a generator"):
        Fallback(lines)


def test_an_async_step_on_a_thread_is_an_error_that_says_what_to_do():
    with pytest.raises(TypeError, match="polite_async is async: await `call`"):
        Fallback(polite_async).call_sync("Ann")


def test_a_degraded_answer_leaves_nothing_for_the_garbage_collector():
    fallback = Fallback(broken, polite)
    fallback.call_sync("Ann")
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            fallback.call_sync("Ann")
        assert gc.collect() == 0
    finally:
        gc.enable()
