"""Other ways of running Python: sub-interpreters, builds without the lock, event loops that are blocked or another make."""

import pytest

import programs
import recorder

PYTHONS = pytest.mark.parametrize("python", programs.interpreters().values(), ids=programs.interpreters())
FREE_THREADED = {version: path for version, path in programs.interpreters().items() if version.endswith("t")}

HASHLIB_ALONE = """
try: import _interpreters as interpreters
except ImportError: import _xxsubinterpreters as interpreters
for _ in range(2): interpreters.run_string(interpreters.create(), "import hashlib; hashlib.sha256(b'')")
"""


@PYTHONS
@pytest.mark.parametrize("mode", ["durable", "memory"])
def test_c29_a_sub_interpreter_that_captures_does_not_disturb_the_host(server, tmp_path, mode, python):
    """It may refuse threads, forks or modules in C; whatever it allows, the host goes on and sends its own.

    It is not destroyed here: an interpreter that is, while any thread of it is left, ends the process (CPython's rule).
    """
    inner = f"""
import leeward
leeward.init({recorder.KEY!r}, {server.host!r}, spool_dir={str(tmp_path)!r}, mode={mode!r})
assert all(leeward.capture("inside") for _ in range(20))
assert leeward.capture_exception(ValueError("inside"))
leeward.flush(5)
leeward.shutdown()
"""
    body = f"""
    try: import _interpreters as interpreters
    except ImportError: import _xxsubinterpreters as interpreters
    leeward.capture("outside, before")
    for _ in range(2):
        failed = interpreters.run_string(interpreters.create(), {inner!r})
        assert not failed, failed
    leeward.capture("outside, after")
    print(leeward.flush(20).spooled, flush=True)
    os._exit(0)
    """
    result = programs.run(programs.program(body, server.host, tmp_path, f", mode={mode!r}"), python=python)
    if result.returncode < 0 and programs.run(HASHLIB_ALONE, python=python).returncode != 0:
        pytest.skip("this Python ends by a signal when hashlib alone is used in two sub-interpreters")
    assert (result.returncode, result.stdout, result.stderr) == (0, "0\n", "")

    names = [event["event_type"] for event in server.events.values()]
    assert {"outside, before", "outside, after"} <= set(names)
    if mode == "durable":
        programs.deliver_left(server, tmp_path, 44)
        assert len(server.stored) == 44


@pytest.mark.parametrize("python", FREE_THREADED.values(), ids=FREE_THREADED)
def test_c29_without_the_interpreters_lock_no_event_of_any_thread_is_lost(server, tmp_path, python):
    body = """
    assert not sys._is_gil_enabled()
    def work():
        for _ in range(500): ids.append(leeward.capture("tick"))
    ids = []
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert all(ids)
    leeward.flush(30)
    """
    result = programs.run(programs.program(body, server.host, tmp_path), python=python)
    assert (result.returncode, result.stderr) == (0, "")

    programs.deliver_left(server, tmp_path, 4000)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_c29_events_arrive_while_an_event_loop_is_blocked(server, tmp_path, loop):
    """Delivery needs nothing of the loop; and a capture in it does not block it."""
    body = f"""
    import asyncio, {loop}
    async def main():
        for _ in range(10): leeward.capture("tick")
        while leeward.stats().delivered < 10: time.sleep(0.01)  # nothing else runs in this loop
        await asyncio.gather(*(asyncio.to_thread(leeward.capture, "tock") for _ in range(10)))
        leeward.capture("tick")
    {"asyncio.run(main())" if loop == "asyncio" else "uvloop.run(main())"}
    print(leeward.flush(20).spooled)
    """
    result = programs.run(programs.program(body, server.host, tmp_path))

    assert (result.returncode, result.stdout, result.stderr) == (0, "0\n", "")
    assert len(server.stored) == 21


@PYTHONS
def test_c9_on_every_version_what_was_captured_survives_kill_9(server, tmp_path, python):
    server.always = recorder.status(503)
    body = """
    for number in range(1000): leeward.capture("tick", {"number": number})
    leeward.capture_exception(ValueError("x"))
    os.kill(os.getpid(), signal.SIGKILL)
    """
    result = programs.run(programs.program(body, server.host, tmp_path), python=python)
    assert result.returncode == -9
    server.always = recorder.ok

    programs.deliver_left(server, tmp_path, 1001)

    assert len(server.stored) == 1001
    assert set(server.stored.values()) == {1}
