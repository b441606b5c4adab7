"""The loop for blocking calls: one a process, work that can be interrupted, iterators that are closed where they run."""

from __future__ import annotations

import asyncio
import threading

import pytest

from leeward.gateway.background import Background


async def loop_of_it():
    return asyncio.get_running_loop(), threading.current_thread()


def test_all_work_runs_on_one_loop_of_one_daemon_thread():
    background = Background()
    found = {background.run(loop_of_it()) for _ in range(3)}
    assert len(found) == 1
    ((loop, thread),) = found
    assert (thread.name, thread.daemon) == ("leeward-gateway", True)
    stop(loop, thread)


def test_what_the_work_raises_is_raised_here():
    background = Background()

    async def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        background.run(fail())
    stop(*background.run(loop_of_it()))


def test_an_interrupt_cancels_the_work(monkeypatch):
    background = Background()
    begun, cancelled = threading.Event(), threading.Event()

    async def work():
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    real = asyncio.run_coroutine_threadsafe

    def interrupted(coroutine, loop):
        future = real(coroutine, loop)

        def result(timeout=None):
            begun.wait()
            raise KeyboardInterrupt

        future.result = result
        return future

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        background.run(work())
    assert cancelled.wait(10)
    monkeypatch.undo()
    stop(*background.run(loop_of_it()))


def test_an_iterator_runs_there_and_is_closed_there():
    background = Background()
    closed = threading.Event()

    async def numbers():
        try:
            for number in range(3):
                yield number
        finally:
            assert threading.current_thread().name == "leeward-gateway"
            closed.set()

    assert list(background.iterate(numbers())) == [0, 1, 2]
    assert closed.wait(10)
    closed.clear()
    iterator = background.iterate(numbers())
    assert next(iterator) == 0
    iterator.close()
    assert closed.wait(10)
    stop(*background.run(loop_of_it()))


def test_another_process_gets_a_loop_of_its_own(monkeypatch):
    background = Background()
    before = background.run(loop_of_it())
    monkeypatch.setattr("os.getpid", lambda: 0)
    after = background.run(loop_of_it())
    assert before[0] is not after[0]
    for each in (before, after):
        stop(*each)


def stop(loop, thread):
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
