"""Signals that come in the middle of a call, and a process that is stopped for a while."""

import signal

import pytest

import programs
import recorder

PYTHONS = pytest.mark.parametrize("python", programs.interpreters().values(), ids=programs.interpreters())


@PYTHONS
def test_c12_a_signal_handler_that_captures_in_the_middle_of_a_capture_does_not_block(server, tmp_path, python):
    body = """
    handled = []
    signal.signal(signal.SIGALRM, lambda *_: handled.append(leeward.capture("signal")))
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    ids = [leeward.capture("main", {"text": "x" * 200}) for _ in range(1000)]
    while len(handled) < 30: ids.append(leeward.capture("main"))
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(len(set(ids + handled)), leeward.flush(20).spooled, leeward.stats().dropped)
    """
    result = programs.run(programs.program(body, server.host, tmp_path), python=python)

    count, spooled, dropped = result.stdout.split(" ", 2)
    assert (spooled, dropped) == ("0", "{}\n")
    assert len(server.stored) == int(count)


# Each is interrupted by a handler that does the same, and that flushes, too: what could wait for itself would.
INTERRUPTED = {
    "capture_exception": 'ids.append(leeward.capture_exception(ValueError("x")))',
    "flush": 'ids.append(leeward.capture("main")); leeward.flush(5)',
    "shutdown": 'ids.append(leeward.capture("main")); leeward.shutdown(5)',
    "log": 'ids.append(leeward.log("WARN", "words"))',
    "stats": 'ids.append(leeward.capture("main")); leeward.stats(); leeward.flush_soon()',
}


@pytest.mark.parametrize("call", INTERRUPTED)
def test_c12_a_handler_may_interrupt_any_call_and_make_any_call(server, tmp_path, call):
    statement = INTERRUPTED[call]
    body = f"""
    ids, handled = [], []
    def handle(*_):
        handled.append(leeward.capture("signal"))
        handled.append(leeward.capture_exception(KeyError("signal")))
        leeward.flush(0.005)
        leeward.stats()
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.003)
    for _ in range(30):
        {statement}
    while len(handled) < 40: {statement}
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert all(ids) and all(handled), leeward.stats()
    print(len(set(ids + handled)))
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")

    programs.deliver_left(server, tmp_path, int(result.stdout))

    assert len(server.stored) == int(result.stdout)


def test_c12_a_handler_in_the_middle_of_the_very_first_capture_does_not_wait_for_what_it_interrupted(server, tmp_path):
    """Everything is made in the first capture: the handler comes at each of its steps once."""
    body = """
    handled = []
    client = leeward.Client(key, host, spool_dir=spool)
    def step(frame, event, argument):
        if event == "call" and "leeward" in frame.f_code.co_filename:
            sys.setprofile(None)
            handled.append(client.capture("inside"))
            sys.setprofile(step)
    sys.setprofile(step)
    first = client.capture("first")
    sys.setprofile(None)
    assert first and len(handled) >= 15 and all(handled), client.stats()
    print(len(handled) + 1)
    client.flush(20)
    """
    names = f"key, host, spool = {recorder.KEY!r}, {server.host!r}, {str(tmp_path)!r}\n"
    result = programs.run(names + programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")

    programs.deliver_left(server, tmp_path, int(result.stdout))

    assert len(server.stored) == int(result.stdout)


@pytest.mark.parametrize("moment", ["while it rests", "in the middle of a request"])
def test_c28_a_process_that_was_stopped_sends_nothing_twice_when_it_goes_on(server, tmp_path, moment):
    def slow(recorder_, request):
        recorder_.closing.wait(0.3)
        return recorder.ok(recorder_, request)

    if moment == "in the middle of a request":
        server.script.append(slow)
    body = """
    for _ in range(10): leeward.capture("tick")
    print("captured", flush=True)
    sys.stdin.readline()
    for _ in range(10): leeward.capture("tock")
    print(leeward.flush(30).spooled, leeward.stats().retries)
    """
    with programs.start(programs.program(body, server.host, tmp_path), stdin=-1) as process:
        process.stdout.readline()
        if moment == "while it rests":
            assert server.wait_stored(10)
        else:
            assert server.wait_for(lambda: bool(server.requests))
        process.send_signal(signal.SIGSTOP)
        assert server.wait_stored(10)  # what was on its way arrives; the answer waits in the socket
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate("go on\n", timeout=programs.WATCHDOG_S)

    assert out == "0 0\n"
    assert len(server.stored) == 20
    assert set(server.stored.values()) == {1}
    assert len(server.requests) <= 4
