"""However a program ends, its exit code and its last words are those it would have had without leeward."""

import signal

import pytest

import programs

NO_CORE = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
ENDINGS = {
    "end": ("", 0),
    "os._exit": ("os._exit(3)", 3),
    "abort": (f"{NO_CORE}os.abort()", -signal.SIGABRT),
    "segmentation fault": (f"{NO_CORE}import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
    "exception": ("def fail(): raise ValueError('of the program')\nfail()", 1),
    "sys.exit": ("sys.exit(5)", 5),
    "sys.exit with words": ("sys.exit('the last words')", 1),
    "sys.exit in a thread": ("t = threading.Thread(target=sys.exit, args=(7,)); t.start(); t.join()", 0),
    "exception in a thread": ("t = threading.Thread(target=lambda: 1 / 0, name='t'); t.start(); t.join()", 0),
    "exception at exit": ("atexit.register(int, 'none')", 0),
    "SIGTERM": ("signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM),
    "SIGTERM that is handled": ("signal.signal(15, lambda *_: sys.exit(4))\nsignal.raise_signal(15)", 4),
    "SIGINT": ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT),
    "SIGHUP": ("signal.raise_signal(signal.SIGHUP)", -signal.SIGHUP),
}
STAND_IN = "class leeward: init = capture = capture_exception = staticmethod(lambda *_, **__: None)"


def without_leeward(text):
    """The same program, line by line, with a client that is not there."""
    bare = text.replace("import leeward\n", f"{STAND_IN}\n")
    assert bare != text
    return bare


@pytest.mark.parametrize("ending", ENDINGS)
def test_c10_however_the_program_ends_its_exit_code_and_its_words_are_its_own(server, tmp_path, ending):
    statement, code = ENDINGS[ending]
    body = 'for _ in range(20): leeward.capture("tick")\nprint("done", flush=True)\n' + statement
    text = programs.program(body, server.host, tmp_path)

    result = programs.run(text)
    bare = programs.run(without_leeward(text))
    programs.deliver_left(server, tmp_path, 20)

    assert bare.returncode == code
    assert (result.returncode, result.stdout, result.stderr) == (bare.returncode, bare.stdout, bare.stderr)
    assert len(server.stored) == 20


def test_c10_the_hooks_change_no_last_words_either(server, tmp_path):
    body = """
    HOOKS
    def fail(): raise ValueError("of the program")
    fail()
    """
    text = programs.program(body, server.host, tmp_path)
    hooked = text.replace("HOOKS", "from leeward.integrations import hooks; hooks.install()")

    result = programs.run(hooked)
    bare = programs.run(without_leeward(text).replace("HOOKS", "pass"))
    programs.deliver_left(server, tmp_path, 1)

    assert result.returncode == bare.returncode == 1
    assert result.stderr == bare.stderr
    assert [event["event_type"] for event in server.events.values()] == ["$exception"]
