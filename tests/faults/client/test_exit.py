"""Programs that come to an end: how long that takes, and what is captured while they do."""

import textwrap

import pytest

import programs
import recorder
from leeward.clock import SystemClock
from leeward.journal.spool import SpoolHome, orphans
from leeward.sender.results import Counts
from leeward.sender.spool import Spool

EXIT_S = 2.0
GENEROUS_S = 3.0  # for a busy machine
MEASURED = "import time\nstarted = time.perf_counter()\n"


@pytest.mark.parametrize("gone", ["refused", "hanging", "failing", "slow"])
def test_c11_a_dead_server_delays_the_exit_by_little_and_nothing_is_lost(tmp_path, gone):
    body = """
    for _ in range(100): leeward.capture("tick")
    atexit._run_exitfuncs()
    print(time.perf_counter() - started)
    """

    def late(recorder_, request):
        recorder_.closing.wait(10)
        return False

    always = {"hanging": recorder.hang, "slow": late}
    with recorder.Recorder() as server:
        port = server.port
        server.always = always.get(gone, recorder.status(503))
        if gone == "refused":
            server.close()
        result = programs.run(MEASURED + programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    assert float(result.stdout) < EXIT_S + GENEROUS_S

    with recorder.Recorder(port) as server:
        programs.deliver_left(server, tmp_path, 100)
        assert len(server.stored) == 100


@pytest.mark.parametrize("mode", ["memory", "durable"])
def test_c11_all_clients_of_a_process_share_one_limit(tmp_path, mode):
    """Blackhole, refused and slow at once: whatever their servers do, eight clients take no longer than one."""
    body = """
    hosts = [host, "http://127.0.0.1:1", "http://192.0.2.1:9"] * 3
    clients = [leeward.Client(key, one, mode=mode, spool_dir=spool) for one in hosts[:8]]
    for one in clients: one.capture("tick")
    started = time.perf_counter()
    atexit._run_exitfuncs()
    print(time.perf_counter() - started)
    """
    with recorder.Recorder() as server:
        server.always = recorder.hang
        names = f"key, host, mode, spool = {recorder.KEY!r}, {server.host!r}, {mode!r}, {str(tmp_path)!r}\n"
        result = programs.run(programs.program(names + textwrap.dedent(body), server.host, tmp_path))

    assert (result.returncode, result.stderr) == (0, "")
    assert float(result.stdout) < EXIT_S + GENEROUS_S


def test_c11_in_memory_mode_the_exit_waits_for_a_slow_server_but_no_longer_than_its_limit(server, tmp_path):
    def slow(recorder_, request):
        recorder_.closing.wait(0.7)  # longer than the patience of durable mode
        return recorder.ok(recorder_, request)

    server.always = slow
    result = programs.run(programs.program('leeward.capture("tick")', server.host, tmp_path, ', mode="memory"'))

    assert (result.returncode, result.stderr) == (0, "")
    assert len(server.stored) == 1


def test_c12_captures_from_exit_handlers_and_finalisers_are_kept(server, tmp_path):
    body = """
    class Late:
        def __del__(self): leeward.capture("del")
    late = Late(); cycle = Late(); cycle.self = cycle
    atexit.register(leeward.capture, "atexit, before")
    leeward.capture("first")
    atexit.register(leeward.capture, "atexit, after")
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    programs.deliver_left(server, tmp_path, 4)

    names = sorted(event["event_type"] for event in server.events.values())
    assert names[:3] == ["atexit, after", "atexit, before", "del"]


LATE = {
    "a handler registered before init": (
        "import atexit\natexit.register(lambda: leeward.capture('late'))\n",
        "leeward.capture('early')",
    ),
    "a handler, the first event of all": ("import atexit\n", "atexit.register(leeward.capture, 'late')"),
    "shutdown": ("", "leeward.capture('early'); leeward.shutdown(); leeward.capture('late')"),
    "two shutdowns": ("", "leeward.shutdown(); leeward.shutdown(); leeward.capture('late'); leeward.shutdown()"),
    "threading's own end": ("", "threading._register_atexit(leeward.capture, 'late')"),
    "weakref.finalize": ("import weakref\nclass C: pass\n", "c = C(); weakref.finalize(c, leeward.capture, 'late')"),
    "a weak reference's callback": (
        "import weakref\nclass C: pass\n",
        "c = C(); r = weakref.ref(c, lambda _: leeward.capture('late')); del c",
    ),
    "a callback of the collector": (
        "import gc\n",
        "gc.callbacks.append(lambda *_: gc.callbacks.clear() or leeward.capture('late')); gc.collect()",
    ),
    "sys.excepthook": ("", "sys.excepthook = lambda *_: leeward.capture('late')\nraise ValueError"),
    "threading.excepthook": (
        "",
        "threading.excepthook = lambda _: leeward.capture('late'); t = threading.Thread(target=int, args='x'); t.start(); t.join()",
    ),
    "sys.unraisablehook": (
        "class D:\n  def __del__(self): 1 / 0\n",
        "sys.unraisablehook = lambda _: leeward.capture('late')\nD()",
    ),
    "a handler beside an exception that ends the program": (
        "",
        "atexit.register(leeward.capture, 'late'); sys.excepthook = lambda *_: None\nraise ValueError",
    ),
}


ESSENTIAL = {"a handler, the first event of all", "threading's own end", "weakref.finalize"}  # where versions differ
PLACES = [
    (place, version)
    for place in LATE
    for number, version in enumerate(programs.interpreters())
    if number == 0 or place in ESSENTIAL
]


@pytest.mark.parametrize(("place", "version"), PLACES)
def test_c12_an_event_from_the_last_moments_is_kept_and_disturbs_nothing(server, tmp_path, place, version):
    before, body = LATE[place]
    text = before + programs.program("", server.host, tmp_path) + body
    result = programs.run(text, python=programs.interpreters()[version])
    assert (result.returncode, result.stdout, result.stderr) == (int("raise" in body), "", "")

    programs.deliver_left(server, tmp_path, 1)

    names = {event["event_type"] for event in server.events.values()}
    assert "late" in names
    assert names <= {"early", "late"}


def test_c12_a_finaliser_at_teardown_when_our_modules_are_half_gone_raises_nothing(server, tmp_path):
    body = """
    import builtins
    class Late:
        def __init__(self): self.capture, self.client = leeward.capture, leeward.client
        def __del__(self):
            self.capture("tick"); self.client.capture_exception(ValueError()); self.client.flush(0.1)
            self.client.stats(); self.client.shutdown(0.1)
    builtins.late = Late()
    """
    result = programs.run(programs.program(body, server.host, tmp_path))

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_c13_a_program_that_may_not_start_threads_keeps_its_events(server, tmp_path):
    body = """
    import _thread
    def refuse(*_): raise RuntimeError("can't start new thread")
    starting, _thread.start_new_thread = _thread.start_new_thread, refuse
    assert all(leeward.capture("tick") for _ in range(5))
    started = time.perf_counter()
    assert leeward.flush(60).spooled == 5 and time.perf_counter() - started < 30
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    programs.deliver_left(server, tmp_path, 5)


def test_c13_once_threads_are_given_again_one_is_started_and_sends(server, tmp_path):
    body = """
    import _thread
    def refuse(*_): raise RuntimeError("can't start new thread")
    starting, _thread.start_new_thread = _thread.start_new_thread, refuse
    leeward.capture("tick")
    _thread.start_new_thread = starting
    leeward.capture("tick")
    print(leeward.flush(30).delivered)
    """
    result = programs.run(programs.program(body, server.host, tmp_path))

    assert (result.returncode, result.stdout, result.stderr) == (0, "2\n", "")


@pytest.mark.parametrize("python", programs.interpreters().values(), ids=programs.interpreters())
def test_c13_threads_refused_by_the_system_cost_nothing_but_time(server, tmp_path, python):
    """No address space for a stack: what RLIMIT_NPROC does to everybody but root, the memory limit does to all."""
    body = """
    import resource
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (24 << 20), resource.getrlimit(resource.RLIMIT_AS)[1]))
    threading.stack_size(1 << 30)
    try:
        threading.Thread(target=print).start()
    except RuntimeError:
        print("refused")
    ids = [leeward.capture("tick") for _ in range(5)]
    assert all(ids), leeward.stats()
    threading.stack_size(1 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)
    ids.append(leeward.capture("tick"))
    print(leeward.flush(30).delivered)
    """
    result = programs.run(programs.program(body, server.host, tmp_path), python=python)

    assert (result.returncode, result.stdout, result.stderr) == (0, "refused\n6\n", "")


@pytest.mark.parametrize("python", programs.interpreters().values(), ids=programs.interpreters())
def test_c13_while_the_interpreter_ends_no_thread_is_started_and_the_next_process_sends(server, tmp_path, python):
    """From 3.12 on it refuses; before, a thread would start and be cut off in the middle."""
    body = """
    import _thread
    starting = _thread.start_new_thread
    def started(*arguments):
        seen.append(arguments)
        return starting(*arguments)
    seen = []
    _thread.start_new_thread = started
    class Late:
        def __del__(self, capture=leeward.capture, write=os.write, seen=seen):
            write(1, b"%s %d" % ((capture("late") is not None) and b"kept", len(seen)))
    import builtins
    builtins.late = Late()
    leeward.capture("early"); leeward.flush(30); leeward.shutdown()
    """
    result = programs.run(programs.program(body, server.host, tmp_path), python=python)
    assert (result.returncode, result.stdout, result.stderr) == (0, "kept 1", "")

    programs.deliver_left(server, tmp_path, 2)


def test_c12_an_event_that_comes_while_a_spool_is_closed_does_not_stop_those_after_it(tmp_path, monkeypatch):
    """Its spool is made in the middle of the closing, and must not be closed with the others and yet be used."""
    spool = Spool(str(tmp_path), counts=Counts(), clock=SystemClock(), about={})
    finish = SpoolHome.finish

    def finish_late(home):
        spool.append(b"{}", 1, is_error=False)
        return finish(home)

    spool.append(b"{}", 1, is_error=False)
    with monkeypatch.context() as patch:
        patch.setattr(SpoolHome, "finish", finish_late)
        spool.close()

    assert all(spool.append(b"{}", 1, is_error=False) for _ in range(3))
    spool.close()
    assert sum(reader.pending()[0] for left in orphans(str(tmp_path)) for reader in left.readers) == 5


def test_c12_a_spool_that_was_closed_while_it_was_being_made_is_not_used(tmp_path):
    spool = Spool(str(tmp_path), counts=Counts(), clock=SystemClock(), about={})
    spool.append(b"{}", 1, is_error=False)
    made = spool._active
    spool.close()
    spool._active = made  # what a thread does that was held up on its way out of making it

    assert spool.append(b"{}", 1, is_error=False)
    assert spool._active is not made
    spool.close()
