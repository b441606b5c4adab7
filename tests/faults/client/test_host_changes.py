"""Programs that change the ground under the client: descriptors, streams, modules, sockets, limits."""

import pytest

import programs
import recorder

PYTHONS = pytest.mark.parametrize("python", programs.interpreters().values(), ids=programs.interpreters())
# What is done to the client between two captures; all events must arrive, and the program must not notice.
CHANGES = {
    "chdir": "os.chdir('/')",
    "the directory it started in is gone": "os.mkdir(gone); os.chdir(gone); os.rmdir(gone)",
    "closerange": "os.closerange(3, 4096)",
    "closerange, then files of its own": "os.closerange(3, 4096); files = [open(os.devnull) for _ in range(20)]",
    "stderr closed": "sys.stderr.close(); sys.stderr = None",
    "descriptors 0 to 2 closed": "sys.stdout.flush(); keep = os.dup(1); [os.close(n) for n in range(3)]",
    "stdout None": "out, sys.stdout = sys.stdout, None",
    "logging shut down": "import logging; logging.basicConfig(); logging.shutdown(); logging.disable()",
    "logging broken": "import logging; logging.getLogger = logging.Logger.log = None",
    "our modules gone": "[sys.modules.pop(name) for name in list(sys.modules) if name.startswith('leeward')]",
    "all modules gone": "[sys.modules.pop(n) for n in list(sys.modules) if n not in ('sys', 'builtins', '__main__')]",
    "environment emptied": "os.environ.clear()",
    "umask": "os.umask(0o777)",
    "locale and recursion": "import locale; locale.setlocale(locale.LC_ALL, 'C'); sys.setrecursionlimit(150)",
    "collector off and switches rare": "import gc; gc.disable(); sys.setswitchinterval(0.5)",
    "a profiler and a tracer": "sys.setprofile(lambda *_: None); sys.settrace(lambda *_: None)",
    "no more files": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))",
    "no more memory": "import resource; n = int(open('/proc/self/statm').read().split()[0]) * 4096 + (64 << 20);"
    " resource.setrlimit(resource.RLIMIT_AS, (n, n))",
    "socket of another make": "import socket; socket.socket = type('socket', (socket.socket,), {})",
}


@pytest.mark.parametrize("when", ["before the first event", "after a flush"])
@pytest.mark.parametrize("change", CHANGES)
def test_c26_whatever_the_host_changes_nothing_raises_and_nothing_is_lost(server, tmp_path, change, when):
    body = f"""
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    os.dup2(1, 5000)  # the test's own way out, whatever is closed
    write, gone = os.write, {str(tmp_path / "gone")!r}
    capture, capture_exception, flush, error = leeward.capture, leeward.capture_exception, leeward.flush, ValueError()
    before = {when == "after a flush"}
    if before: capture("before"); flush(20)
    {CHANGES[change]}
    ids = [capture("tick", {{"text": "x" * 2000}}) for _ in range(300)] + [capture_exception(error)]
    flush(20)
    write(5000, b"%d %d" % (before + len(ids) - ids.count(None), ids.count(None)))
    """
    result = programs.run(programs.program(body, server.host, tmp_path / "spool"))
    assert (result.returncode, result.stderr) == (0, "")
    kept, refused = map(int, result.stdout.split())
    assert refused == 0

    programs.deliver_left(server, tmp_path / "spool", kept)

    assert len(server.stored) == kept


@PYTHONS
@pytest.mark.parametrize("kind", ["file", "socket"])
def test_c26_a_descriptor_number_that_became_the_hosts_is_never_written_to(server, tmp_path, kind, python):
    """All numbers are closed, and given to the host's own; each stays open, and no byte of ours comes through it."""
    body = f"""
    import socket
    def fill():
        for number in range(3, 64):
            if {kind == "socket"}:
                there, here = socket.socketpair()
                os.dup2(there.detach(), number + 200); os.dup2(here.detach(), number + 100)
            else:
                there = os.open({str(tmp_path)!r} + "/host-%d" % number, os.O_CREAT | os.O_RDWR)
                os.dup2(there, number + 200); os.dup2(there, number + 100)
        for number in range(3, 64): os.dup2(number + 100, number); os.close(number + 100)
    def stat(number):
        found = os.fstat(number)
        return found.st_dev, found.st_ino
    leeward.capture("first"); leeward.flush(20)
    os.closerange(3, 4096); fill()
    before = [stat(number) for number in range(3, 64)]
    for _ in range(500): leeward.capture("tick", {{"text": "x" * 2000}})
    leeward.flush(20); leeward.shutdown()
    leeward.capture("last"); leeward.shutdown()
    assert [stat(number) for number in range(3, 64)] == before
    for number in range(203, 264):
        os.set_blocking(number, False)
        try: assert not os.read(number, 1), number
        except BlockingIOError: pass
    """
    result = programs.run(programs.program(body, server.host, tmp_path / "spool"), python=python)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    programs.deliver_left(server, tmp_path / "spool", 502)

    assert len(server.stored) == 502


PATCH = """
import _thread, socket, threading
class Green(socket.socket):
    used = []
    def send(self, *arguments):
        Green.used.append(1)
        return super().send(*arguments)
socket.socket = Green
"""


@pytest.mark.parametrize("order", ["before leeward is imported", "after it", "after its first request"])
def test_c26_a_program_that_patches_socket_gets_its_own_sockets_used(server, tmp_path, order):
    """What gevent and eventlet do: their `socket.socket` takes the place of the library's."""
    body = {
        "before leeward is imported": 'leeward.capture("tick")',
        "after it": f"exec({PATCH!r}); leeward.capture('tick')",
        "after its first request": f"leeward.capture('one'); leeward.flush(20); exec({PATCH!r}); leeward.capture('tick')",
    }[order]
    text = (PATCH if order.startswith("before") else "") + programs.program(body, server.host, tmp_path)
    result = programs.run(text + "\nprint(leeward.flush(20).delivered, len(Green.used) > 0)")

    kept = order == "after its first request"  # a connection that stands is kept
    assert (result.returncode, result.stdout, result.stderr) == (0, f"1 {not kept}\n", "")


FULL = """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
def fill():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        while True: held.append(os.dup(0))
    except OSError: pass
def free():
    while held: os.close(held.pop())
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
held = []
"""


@PYTHONS
@pytest.mark.parametrize("when", ["before the first event", "after it"])
def test_c27_with_no_descriptor_left_nothing_raises_and_what_was_captured_comes_later(server, tmp_path, when, python):
    """The worker cannot even import what it needs to send: it tries again."""
    body = f"""
    if {when == "after it"}: leeward.capture("first")
    fill()
    ids = [leeward.capture("tick") for _ in range(50)]
    ids.append(leeward.capture_exception(ValueError("x")))
    result = leeward.flush(0.5)
    free()
    ids.append(leeward.capture("last"))
    assert all(ids), leeward.stats()
    print(leeward.flush(30).spooled, len(ids) + {when == "after it"})
    """
    result = programs.run("import os\n" + FULL + programs.program(body, server.host, tmp_path), python=python)
    assert (result.returncode, result.stderr) == (0, "")
    spooled, count = map(int, result.stdout.split())
    assert spooled == 0

    programs.deliver_left(server, tmp_path, count)

    assert len(server.stored) == count


@PYTHONS
@pytest.mark.parametrize("mode", ["durable", "memory"])
def test_c27_the_client_holds_few_descriptors(server, tmp_path, mode, python):
    """The lock, the connection; before 3.13 also one for each mapped lane (errors, the rest): Python keeps a duplicate."""
    body = """
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        for _ in range(2000): leeward.capture("tick", {"text": "x" * 1000})
        leeward.capture_exception(ValueError("x"))
        leeward.flush(20)
    print(len(set(os.listdir("/proc/self/fd")) - before))
    """
    arguments = f", mode={mode!r}"
    result = programs.run(programs.program(body, server.host, tmp_path, arguments), python=python)

    held = int(result.stdout)
    assert result.stderr == ""
    assert held == (1 if mode == "memory" else 2 if python in _newer() else 4)


def test_c27_a_crowd_of_spools_to_adopt_costs_no_descriptor_each(server, tmp_path):
    leave = """
    for number in range(60):
        if os.fork() == 0:
            leeward.capture("left")
            os._exit(0)
        os.wait()
    """
    programs.run(programs.program(leave, server.host, tmp_path))
    seen = []

    def count(recorder_, request):
        seen.append(len(request.items))
        return recorder.ok(recorder_, request)

    server.always = count
    body = """
    most = 0
    def watch(event, arguments):
        global most
        if event == "open": most = max(most, len(os.listdir("/proc/self/fd")))
    before = len(os.listdir("/proc/self/fd"))
    sys.addaudithook(watch)
    leeward.flush(30)
    print(most - before)
    """
    result = programs.run(programs.program(body, server.host, tmp_path))

    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout) <= 6
    assert len(server.stored) == 60


def _newer():
    return [path for version, path in programs.interpreters().items() if int(version.split(".")[1].rstrip("t")) >= 13]
