"""Programs that fork, at any moment: the child works at once, and nothing of its parent's is sent twice."""

import pytest

import programs
import recorder

PYTHONS = pytest.mark.parametrize("python", programs.interpreters().values(), ids=programs.interpreters())
FORK = """
for _ in range(50): leeward.capture("parent, before")
pid = os.fork()
for _ in range(50): leeward.capture("child" if pid == 0 else "parent, after")
if pid == 0:
    {ending}
assert os.waitpid(pid, 0)[1] == 0
"""


def each_once(server, spool, count):
    """What a process sends while it is ended by os._exit may come again from another, under its id: children only."""
    programs.deliver_left(server, spool, count)
    assert len(server.stored) == count
    again = {name for name, times in server.stored.items() if times > 1}
    assert {server.events[name]["event_type"] for name in again} <= {"child", "job"}
    assert programs.left_on_disk(spool) == []


@pytest.mark.parametrize("ending", ["sys.exit()", "leeward.flush(10); os._exit(0)", "os._exit(0)"])
@pytest.mark.parametrize("round_", range(programs.rounds(2, 20)))
def test_c14_a_forked_child_sends_its_own_events_and_none_of_its_parents(server, tmp_path, ending, round_):
    result = programs.run(programs.program(FORK.format(ending=ending), server.host, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")

    each_once(server, tmp_path, 150)


def test_c14_a_fork_that_python_does_not_know_of_is_noticed_by_the_next_capture(server, tmp_path):
    """uWSGI forks in C, and no hook of Python's runs."""
    body = """
    import ctypes
    libc = ctypes.PyDLL(None)
    for _ in range(50): leeward.capture("parent")
    leeward.flush(10)
    pid = libc.fork()
    for _ in range(50): leeward.capture("child" if pid == 0 else "parent")
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")

    programs.deliver_left(server, tmp_path, 150)

    assert len(server.stored) == 150
    assert set(server.stored.values()) == {1}


@PYTHONS
def test_c14_forking_while_all_threads_capture_hangs_nobody(server, tmp_path, python):
    """The first forks come while the worker imports what it needs, later ones while it sends."""
    forks = programs.rounds(20, 200)
    body = f"""
    def busy():
        while not done:
            if leeward.stats().spooled < 20_000: leeward.capture("thread")  # or the spool is full in the long run
    done = []
    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads: thread.start()
    for _ in range({forks}):
        pid = os.fork()
        if pid == 0:
            code = 0 if leeward.capture("child") and leeward.client.stats().captured == 1 else 9
            os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
    done.append(True)
    for thread in threads: thread.join()
    print(leeward.flush(20).spooled)
    """
    result = programs.run(programs.program(body, server.host, tmp_path), python=python)

    assert (result.returncode, result.stdout, result.stderr) == (0, "0\n", "")
    children = [event for event in server.events.values() if event["event_type"] == "child"]
    assert len(children) == forks


def test_c14_a_child_that_is_forked_in_the_middle_of_an_import_of_ours_has_all_of_it(server, tmp_path):
    """Each first event of a client imports; the import is held up until the fork has begun to wait for it."""
    body = """
    from importlib.abc import MetaPathFinder
    class Slow(MetaPathFinder):
        def find_spec(self, name, *_):
            if name == "leeward.sender.transport":
                importing.set()
                threading.Event().wait(0.2)
    importing = threading.Event()
    sys.meta_path.insert(0, Slow())
    leeward.capture("parent")
    importing.wait(20)
    pid = os.fork()
    if pid == 0:
        leeward.capture("child")
        os._exit(0 if leeward.flush(20).delivered == 1 else 9)
    assert os.waitpid(pid, 0)[1] == 0
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")

    each_once(server, tmp_path, 2)


def test_c14_a_client_made_beside_another_ones_first_request_gets_a_thread_of_its_own(server, tmp_path):
    body = """
    from importlib.abc import MetaPathFinder
    class Slow(MetaPathFinder):
        def find_spec(self, name, *_):
            if name == "leeward.sender.transport":
                importing.set()
                threading.Event().wait(0.2)
    importing = threading.Event()
    sys.meta_path.insert(0, Slow())
    leeward.capture("one")
    importing.wait(20)
    other = leeward.Client(key, host, spool_dir=spool, mode="memory")
    other.capture("another")
    print(other.flush(20).delivered)
    """
    names = f"key, host, spool = {recorder.KEY!r}, {server.host!r}, {str(tmp_path)!r}\n"
    result = programs.run(names + programs.program(body, server.host, tmp_path))

    assert (result.returncode, result.stdout, result.stderr) == (0, "1\n", "")


def test_c14_a_hundred_children_at_once_are_all_heard(server, tmp_path):
    body = """
    leeward.capture("parent")
    children = []
    for number in range(100):
        pid = os.fork()
        if pid == 0:
            leeward.capture("child", {"number": number})
            os._exit(0)
        children.append(pid)
    assert not any(os.waitpid(pid, 0)[1] for pid in children)
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")

    each_once(server, tmp_path, 101)


def test_c14_children_of_children_are_processes_like_others(server, tmp_path):
    body = """
    for depth in range(5):
        leeward.capture("child", {"depth": depth})  # all of them end by os._exit
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            os._exit(0)
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")

    each_once(server, tmp_path, 5)


@pytest.mark.parametrize("way", ["os.fork, then exec", "subprocess", "posix_spawn"])
def test_c14_a_program_that_is_started_from_a_fork_inherits_nothing_of_ours(server, tmp_path, way):
    """It sees none of our descriptors, and its parent's events are still sent once, by the parent."""
    server.script.append(recorder.status(503))
    body = f"""
    for _ in range(20): leeward.capture("tick")
    leeward.flush(0.3)
    show = [sys.executable, "-c", "import os; print([n for n in os.listdir('/proc/self/fd') if int(n) > 3])"]
    if {way!r} == "subprocess":
        import subprocess
        subprocess.run(show, check=True, close_fds=False)
    elif {way!r} == "posix_spawn":
        os.waitpid(os.posix_spawn(show[0], show, os.environ), 0)
    else:
        pid = os.fork()
        if pid == 0: os.execv(show[0], show)
        os.waitpid(pid, 0)
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n", "")

    each_once(server, tmp_path, 20)


def test_c14_a_fork_in_the_middle_of_a_write_to_the_spool_harms_neither_side(server, tmp_path):
    """A thread is stopped at each step of an append while another forks; the child appends, and so does the thread."""
    body = """
    steps = []
    def trace(frame, event, argument):
        if event != "call" or "leeward" not in frame.f_code.co_filename: return None
        def step(frame, event, argument):
            if event == "line" and len(steps) < 60:
                steps.append(1)
                pid = os.fork()
                if pid == 0:
                    sys.settrace(None); frame.f_trace = None
                    os._exit(0 if leeward.capture("child") else 9)
                assert os.waitpid(pid, 0)[1] == 0
            return step
        return step
    leeward.capture("first")
    def run():
        sys.settrace(trace)
        leeward.capture("traced")
        sys.settrace(None)
    thread = threading.Thread(target=run)
    thread.start(); thread.join()
    print(len(steps))
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    forks = int(result.stdout)
    assert forks > 20

    each_once(server, tmp_path, 2 + forks)


def test_c14_threads_that_fork_at_the_same_time_are_no_different(server, tmp_path):
    body = """
    def fork():
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                leeward.capture("child")
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            leeward.capture("thread")
    threads = [threading.Thread(target=fork) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")

    each_once(server, tmp_path, 40)


def test_c14_a_worker_that_forks_for_each_job_and_ends_the_child_with_os_exit_loses_no_event(server, tmp_path):
    """The loop of RQ's worker: a fork for each job, which ends without any handler running."""
    body = """
    leeward.capture("worker")
    for job in range(10):
        pid = os.fork()
        if pid == 0:
            try:
                leeward.capture("job", {"number": job})
                if job == 5: raise ValueError("a job that fails")
                code = 0
            except ValueError as error:
                leeward.capture_exception(error)
                code = 1
            finally:
                os._exit(code)
        while True:
            done, status = os.wait4(pid, 0)[:2]
            if done == pid: break
        assert os.waitstatus_to_exitcode(status) == (job == 5)
    """
    result = programs.run(programs.program(body, server.host, tmp_path))
    assert (result.returncode, result.stderr) == (0, "")

    each_once(server, tmp_path, 12)
