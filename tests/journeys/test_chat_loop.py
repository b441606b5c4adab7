"""An interactive program under a terminal: what it captures leaves while it waits for its person, never while it answers.

The program streams one part of its answer for each line that comes on a pipe, so the test says how long it streams.
"""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import programs
import recorder

WATCHDOG_S = 20.0
STREAM_S = 0.7  # more than three times as long as an event waits for company
QUIET_S = 0.4

CHAT = """
import contextlib
import os
import sys

import leeward

os.close(os.open(os.ttyname(0), os.O_RDWR))  # now it is this session's terminal, and Ctrl+C is for us
leeward.init({key!r}, {host!r}, app="chat/1.0"{arguments})
parts = os.fdopen(int(sys.argv[1]), "r")


def ask():
    {checkpoint}


def reply(text):
    leeward.capture("chat.sent", {{"text": text}})
    with {moment}():
        print("Bot:", end="", flush=True)
        for part in iter(parts.readline, "end\\n"):
            leeward.capture("chat.part", {{"part": part}})
            print(" " + part.strip(), end="", flush=True)
        print(flush=True)
    leeward.metric("chat.length", len(text))


while True:
    try:
        line = ask()
        if line == "quit":
            break
        reply(line)
    except KeyboardInterrupt:
        leeward.capture("chat.interrupted")
        print(" [stopped]", flush=True)
        if {leaves}:
            break
print("bye", flush=True)
"""
IDLE = """
    with leeward.idle():
        return input("You: ")
"""
FLUSH_SOON = """
    leeward.flush_soon()
    return input("You: ")
"""
HINTED = """
    leeward.flush_soon(hint_s=30)
    return input("You: ")
"""


class Chat:
    """The program at the other end of a pseudo-terminal."""

    def __init__(self, host, spool, *, checkpoint=IDLE, moment="leeward.busy", arguments="", leaves=False):
        self._far, near = pty.openpty()
        read_end, self._parts = os.pipe()
        body = CHAT.format(
            key=recorder.KEY,
            host=host,
            arguments=arguments,
            leaves=leaves,
            moment=moment,
            checkpoint=textwrap.indent(textwrap.dedent(checkpoint).strip(), "    ").strip(),
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", body, str(read_end)],
            stdin=near,
            stdout=near,
            stderr=near,
            pass_fds=[read_end],
            start_new_session=True,
            env=programs.environment(LEEWARD_SPOOL_DIR=str(spool), TERM="dumb"),
        )
        os.close(near)
        os.close(read_end)
        self.shown = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WATCHDOG_S)
        for descriptor in (self._far, self._parts):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def expect(self, text):
        """Read until the terminal shows it at its end."""
        deadline_s = time.monotonic() + WATCHDOG_S
        while not self.shown.endswith(text):
            self.shown += self._read(deadline_s)

    def _read(self, deadline_s):
        left_s = max(0.0, deadline_s - time.monotonic())
        if not select.select([self._far], [], [], left_s)[0]:
            raise TimeoutError(f"nothing more comes after {self.shown!r}")
        try:
            return os.read(self._far, 4096).decode().replace("\r\n", "\n")
        except OSError:  # how a terminal says that nobody is there any more
            raise AssertionError(f"it ended after {self.shown!r}") from None

    def type(self, text):
        os.write(self._far, text.encode())

    def stream(self, *parts):
        """Let it show these parts of its answer."""
        for part in parts:
            os.write(self._parts, f"{part}\n".encode())
            if part != "end":
                self.expect(f" {part}")

    def end(self):
        """Read to the end; the exit code."""
        deadline_s = time.monotonic() + WATCHDOG_S
        with contextlib.suppress(AssertionError):
            while True:
                self.shown += self._read(deadline_s)
        return self.process.wait(WATCHDOG_S)


@pytest.fixture
def server():
    with recorder.Recorder() as server:
        yield server
        assert server.broken == []


def nothing_came(server, within_s):
    """Whether there is no request, and comes none within that time."""
    return not server.wait_for(lambda: server.requests, within_s)


def names(server):
    return sorted(event["event_type"] for event in server.events.values())


@pytest.mark.parametrize("checkpoint", [IDLE, FLUSH_SOON], ids=["idle", "flush_soon"])
def test_nothing_leaves_while_an_answer_streams_and_everything_at_the_checkpoint(server, tmp_path, checkpoint):
    with Chat(server.host, tmp_path, checkpoint=checkpoint) as chat:
        chat.expect("You: ")
        chat.type("hello\n")
        chat.stream("one", "two")
        assert nothing_came(server, STREAM_S)
        chat.stream("three")
        assert nothing_came(server, QUIET_S)
        chat.stream("end")
        chat.expect("You: ")
        assert server.wait_stored(5)
        assert names(server) == ["chat.length", *["chat.part"] * 3, "chat.sent"]
        chat.type("quit\n")
        assert chat.end() == 0

    assert chat.shown == "You: hello\nBot: one two three\nYou: quit\nbye\n"
    assert sum(server.stored.values()) == 5


def test_a_hint_lets_the_timer_wait_for_the_next_checkpoint(server, tmp_path):
    with Chat(server.host, tmp_path, checkpoint=HINTED, moment="contextlib.nullcontext") as chat:
        chat.expect("You: ")
        chat.type("hello\n")
        chat.stream("one", "end")
        chat.expect("You: ")
        assert server.wait_stored(3)
        server.requests.clear()
        chat.type("again\n")
        chat.stream("two")
        assert nothing_came(server, STREAM_S)
        chat.stream("end")
        assert server.wait_stored(6)


def test_a_key_that_interrupts_an_answer_loses_nothing(server, tmp_path):
    with Chat(server.host, tmp_path) as chat:
        chat.expect("You: ")
        chat.type("hello\n")
        chat.stream("one")
        chat.type("\x03")
        chat.expect("You: ")
        assert server.wait_stored(3)
        assert names(server) == ["chat.interrupted", "chat.part", "chat.sent"]
        chat.type("quit\n")
        assert chat.end() == 0

    assert chat.shown == "You: hello\nBot: one^C [stopped]\nYou: quit\nbye\n"


def test_a_key_that_ends_the_program_loses_nothing(server, tmp_path):
    with Chat(server.host, tmp_path, leaves=True) as chat:
        chat.expect("You: ")
        chat.type("hello\n")
        chat.stream("one")
        chat.type("\x03")
        assert chat.end() == 0

    assert chat.shown == "You: hello\nBot: one^C [stopped]\nbye\n"
    assert names(server) == ["chat.interrupted", "chat.part", "chat.sent"]


def test_c9_a_chat_that_is_killed_while_it_answers_loses_nothing(server, tmp_path):
    with Chat(server.host, tmp_path) as chat:
        chat.expect("You: ")
        chat.type("hello\n")
        chat.stream("one", "two")
        chat.process.send_signal(signal.SIGKILL)
        chat.end()
    assert server.requests == []

    with Chat(server.host, tmp_path) as chat:
        chat.expect("You: ")
        chat.type("again\n")
        chat.stream("three", "end")
        chat.expect("You: ")
        assert server.wait_stored(6)
        chat.type("quit\n")
        assert chat.end() == 0

    assert names(server) == ["chat.length", *["chat.part"] * 3, *["chat.sent"] * 2]
    assert set(server.stored.values()) == {1}


@pytest.mark.parametrize("trouble", ["refused", "failing", "hanging"])
def test_c1_a_server_in_trouble_is_not_seen_on_the_terminal(tmp_path, trouble):
    with recorder.Recorder() as server:
        server.always = recorder.hang if trouble == "hanging" else recorder.status(503)
        if trouble == "refused":
            server.close()
        with Chat(server.host, tmp_path) as chat:
            for line in ("hello", "again"):
                chat.expect("You: ")
                chat.type(f"{line}\n")
                chat.expect("Bot:")
                chat.stream("one", "end")
            chat.expect("You: ")
            chat.type("quit\n")
            assert chat.end() == 0

    assert chat.shown == "You: hello\nBot: one\nYou: again\nBot: one\nYou: quit\nbye\n"


def threads_of(pid):
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
@pytest.mark.parametrize("checkpoint", [IDLE, FLUSH_SOON], ids=["idle", "flush_soon"])
@pytest.mark.parametrize("settings", ["", ", disabled=True"], ids=["nothing pending", "disabled"])
def test_c25_a_checkpoint_does_nothing_without_anything_to_send(server, tmp_path, checkpoint, settings):
    spool = tmp_path / "spool"
    with Chat(server.host, spool, checkpoint=checkpoint, arguments=settings) as chat:
        chat.expect("You: ")
        if settings:
            chat.type("hello\n")
            chat.stream("one", "end")
            chat.expect("You: ")
        assert nothing_came(server, QUIET_S)
        assert threads_of(chat.process.pid) == 1
        assert not spool.exists()
        chat.type("quit\n")
        assert chat.end() == 0

    assert server.connections == 0
    assert not spool.exists()
