"""Single keys, on a terminal that is one end of a pair."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
import termios
from pathlib import Path

import pytest

from leeward.cli.keypress import KeyPresses, can_listen


@pytest.fixture
def terminal(monkeypatch):
    """Our end of a terminal whose other end is stdin."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield ours
    os.close(ours)


def mode(stdin) -> int:
    return termios.tcgetattr(stdin.fileno())[3]


async def pressed(ours: int, keys: bytes) -> list[str]:
    came: list[str] = []
    presses = KeyPresses(came.append)
    presses.start(asyncio.get_running_loop())
    assert not mode(sys.stdin) & termios.ICANON
    assert mode(sys.stdin) & termios.ISIG, "Ctrl+C is still a signal"
    os.write(ours, keys)
    while "".join(came) != keys.decode("ascii", "ignore"):  # noqa: ASYNC110 - keys come one by one
        await asyncio.sleep(0.005)
    presses.stop()
    presses.stop()
    return came


def test_each_key_comes_without_enter_and_the_terminal_is_put_back(terminal):
    before = mode(sys.stdin)

    assert asyncio.run(asyncio.wait_for(pressed(terminal, b"bx"), 20)) == ["b", "x"]
    assert mode(sys.stdin) == before


def test_keys_that_are_no_ascii_are_left_out(terminal):
    assert asyncio.run(asyncio.wait_for(pressed(terminal, "ébß".encode()), 20)) == ["b"]


def test_where_the_loop_has_ended_the_terminal_is_put_back_all_the_same(terminal):
    before = mode(sys.stdin)
    presses = KeyPresses(lambda _: None)

    async def begin():
        presses.start(asyncio.get_running_loop())

    asyncio.run(begin())
    presses.stop()
    assert mode(sys.stdin) == before


def test_a_terminal_that_is_gone_is_left(monkeypatch):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        presses = KeyPresses(lambda _: None)

        async def run():
            loop = asyncio.get_running_loop()
            presses.start(loop)
            os.close(ours)
            while presses._loop is not None:  # noqa: ASYNC110 - nothing tells that it has left
                await asyncio.sleep(0.005)
            presses.stop()

        asyncio.run(asyncio.wait_for(run(), 20))


def test_nobody_listens_where_stdin_is_no_terminal_or_another_ones(terminal, monkeypatch):
    assert not can_listen(), "this process is not in that terminal's foreground"
    monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp())
    assert can_listen()
    monkeypatch.setattr(sys, "stdin", None)
    assert not can_listen()
    with Path(os.devnull).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert not can_listen()
