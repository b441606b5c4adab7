from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import Started, Terminal, serve


class Server:
    """A real server that all tests here share, and the home that it was started from."""

    def __init__(self, home: Path, started: Started) -> None:
        self.home = home
        self.started = started
        self.url = started.url
        self.data_dir = started.data_dir


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    with serve(home) as started:
        yield Server(home, started)
        assert started.stop().code == 0


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """Commands in this process, with nothing running and nothing set."""
    return Terminal(tmp_path, monkeypatch, capsys)


@pytest.fixture
def at_server(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """Commands in this process, in the home of the shared server, which they find by themselves."""
    return Terminal(server.home, monkeypatch, capsys)
