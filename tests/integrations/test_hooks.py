"""The hooks for exceptions that nobody handled: captured, and everything else stays the program's."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading

import pytest

import programs
import recorder
from leeward.integrations import hooks
from leeward.sender.client import Client
from leeward.testing import capture_events


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def events(client):
    with capture_events(client) as events:
        yield events


@pytest.fixture
def hooked(client, events):
    """Quiet former hooks, ours on top."""
    former = sys.excepthook, threading.excepthook
    seen = []
    sys.excepthook = lambda *arguments: seen.append(arguments)
    threading.excepthook = seen.append
    quiet = sys.excepthook, threading.excepthook
    hooks.install(client=client)
    yield seen
    hooks.uninstall()
    assert (sys.excepthook, threading.excepthook) == quiet
    sys.excepthook, threading.excepthook = former


ENDINGS = {
    "an exception": "raise ValueError('no')",
    "a chain": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise ValueError('no') from error",
    "a group": "raise ExceptionGroup('many', [ValueError(1), KeyError(2)])",
    "an exit": "sys.exit(7)",
    "an exit with a text": "sys.exit('stop')",
    "Ctrl+C": "raise KeyboardInterrupt",
    "a thread": "t = threading.Thread(target=lambda: 1 / 0, name='worker'); t.start(); t.join()",
    "a thread that leaves": "t = threading.Thread(target=sys.exit); t.start(); t.join()",
    "the program's own hook": "sys.excepthook = lambda *a: print('own', a[0], file=sys.stderr)\n{install}\nraise ValueError('no')",
    "a task nobody awaits": (
        "import asyncio, gc\n"
        "async def main():\n    {watch}\n    asyncio.ensure_future(fail())\n    await asyncio.sleep(0)\n    gc.collect()\n"
        "async def fail():\n    raise ValueError('no')\n"
        "asyncio.run(main())"
    ),
    "a callback": (
        "import asyncio\n"
        "async def main():\n    {watch}\n    asyncio.get_running_loop().call_soon(fail)\n    await asyncio.sleep(0)\n"
        "def fail():\n    raise ValueError('no')\n"
        "asyncio.run(main())"
    ),
    "no stderr": "sys.stderr = None\nraise ValueError('no')",
}
NO_ERRORS = {"an exit", "an exit with a text", "Ctrl+C", "a thread that leaves"}
INSTALL = "from leeward.integrations import hooks; hooks.install()"


@pytest.mark.parametrize("ending", ENDINGS)
def test_c10_output_and_exit_code_are_the_same_and_the_error_is_captured(ending, tmp_path):
    # From a file, so that frames have the same lines and texts in both.
    path = tmp_path / "program.py"
    results = []
    with recorder.Recorder() as server:
        for install in ("pass", INSTALL):
            watch = install.replace("hooks.install()", "hooks.watch_loop()")
            body = ENDINGS[ending].replace("{install}", install).replace("{watch}", watch)
            path.write_text(programs.program(f"{install}\n{body}\n", server.host, tmp_path / "spool"))
            results.append(
                programs.run(f"import runpy, sys; sys.argv = [{str(path)!r}]\nrunpy.run_path({str(path)!r})")
            )

    plain, hooked = [(result.returncode, result.stdout, result.stderr) for result in results]
    assert (hooked[0], hooked[1]) == (plain[0], plain[1])
    assert hooked[2].replace(INSTALL, "pass").replace(INSTALL.replace("install()", "watch_loop()"), "pass") == plain[2]
    errors = [event["error"]["type"] for event in server.events.values()]
    if ending in NO_ERRORS:
        assert errors == []
    else:
        assert len(errors) == 1
        assert errors[0] in {"ValueError", "ZeroDivisionError", "ExceptionGroup"}


def raised(error):
    try:
        raise error
    except type(error):
        return sys.exc_info()


def test_what_ends_the_program_is_fatal_and_not_handled(events, hooked):
    sys.excepthook(*raised(ValueError("no")))

    (event,) = events
    assert (event["level"], event["error"]["handled"], event["properties"]["hook"]) == ("FATAL", False, "sys")
    assert len(hooked) == 1


def test_what_ends_a_thread_is_an_error_with_the_threads_name(events, hooked):
    thread = threading.Thread(target=lambda: 1 / 0, name="worker-7")
    thread.start()
    thread.join()

    (event,) = events
    assert (event["level"], event["error"]["handled"]) == ("ERROR", False)
    assert event["properties"] == {"hook": "threading", "thread": "worker-7"}
    assert len(hooked) == 1


def test_what_was_captured_before_is_not_captured_again(events, hooked, client):
    found = raised(ValueError("no"))
    client.capture_exception(found[1])

    sys.excepthook(*found)

    assert len(events) == 1


def test_at_a_prompt_nothing_is_captured(events, hooked, monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)

    sys.excepthook(*raised(ValueError("no")))

    assert events == []
    assert len(hooked) == 1


def test_installing_again_chains_nothing_twice(events, hooked, client):
    hooks.install(client=client)

    sys.excepthook(*raised(ValueError("no")))

    assert (len(events), len(hooked)) == (1, 1)


def test_hooks_can_be_chosen(client):
    former = sys.excepthook, threading.excepthook
    try:
        hooks.install(sys_hook=False, thread_hook=False, client=client)
        assert (sys.excepthook, threading.excepthook) == former
    finally:
        hooks.uninstall()


def test_under_a_hook_that_was_chained_later_ours_stays_and_falls_silent(events, client):
    former = sys.excepthook
    seen = []
    try:
        sys.excepthook = lambda *arguments: seen.append(arguments)
        hooks.install(client=client, thread_hook=False)
        ours = sys.excepthook

        def later(*arguments):
            ours(*arguments)

        sys.excepthook = later
        hooks.uninstall()

        assert sys.excepthook is later
        sys.excepthook(*raised(ValueError("no")))
        assert (events, len(seen)) == ([], 1)
    finally:
        sys.excepthook = former


# --- asyncio


def test_the_running_loop_is_watched_and_its_former_handler_still_asked(events, client):
    former = []

    async def main():
        loop = asyncio.get_running_loop()
        own = lambda loop, context: former.append(context)  # noqa: E731 - compared by identity below
        loop.set_exception_handler(own)
        hooks.install(sys_hook=False, thread_hook=False, client=client)
        hooks.watch_loop(client=client)
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)
        loop.call_exception_handler({"message": "no exception at all"})
        loop.call_exception_handler({"message": "gone", "exception": asyncio.CancelledError()})
        hooks.uninstall()
        assert loop.get_exception_handler() is own
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

    asyncio.run(main())

    assert [event["error"]["type"] for event in events] == ["ZeroDivisionError"]
    assert events[0]["properties"]["hook"] == "asyncio"
    assert len(former) == 4


def test_a_loop_that_does_not_run_can_be_watched_and_is_not_kept_alive(events, client):
    loop = asyncio.new_event_loop()
    hooks.watch_loop(loop, client=client)
    loop.set_debug(False)
    loop.close()
    del loop
    gc.collect()

    assert list(hooks._loops) == []


def test_without_any_loop_there_is_nothing_to_watch():
    with pytest.raises(RuntimeError):
        hooks.watch_loop()
