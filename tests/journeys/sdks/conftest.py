"""One server for all journeys of a worker; each journey looks at what came in while it ran, and at nothing else."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

import sdks
from gateway_clients import Told, places, tell
from page_server import CHROMIUM_FLAGS, chromium
from server_process import ServerProcess, until


class Journey:
    """One run of one SDK against the server, and the events that it brought."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.host = f"http://127.0.0.1:{server.port}"
        self.key = server.key("write")
        self.run = "run" + uuid.uuid4().hex[:8]
        self.began_ms = time.time_ns() // 1_000_000
        self._refused = refused(server)

    def take(self, sdk: sdks.Sdk) -> list[dict[str, Any]]:
        """Run the program to its end; all events that came, the oldest first."""
        self.say(sdk)
        return self.events()

    def say(self, sdk: sdks.Sdk) -> sdks.Ended:
        """Run the program to its end; what it said."""
        if reason := sdks.missing(sdk):
            pytest.skip(reason)
        ended = sdks.finish(sdks.start(sdk, self.host, self.key, run=self.run, count=sdks.COUNT))
        assert ended.code == 0, ended
        assert "Traceback" not in ended.err, ended.err
        return ended

    def events(self) -> list[dict[str, Any]]:
        """What came since the journey began; none was refused, none came twice."""
        found = self.server.query_all(f"start={self.began_ms}&order=asc")
        assert len({event["key"] for event in found}) == len(found)
        assert refused(self.server) == self._refused
        return found

    def wait(self, done: Callable[[list[dict[str, Any]]], Any], what: str) -> list[dict[str, Any]]:
        """The events, as soon as they fulfil a condition: for a sender that does not say when it is done."""
        until(lambda: done(self.events()), what)
        return self.events()


def refused(server: ServerProcess) -> list[dict[str, Any]]:
    """What the server refused lately, with how often, and why."""
    return list(server.ask("GET", "/api/refusals", key=server.key("read")).json()["refusals"])


ONE_PROVIDER = """
[[gateway.providers]]
name = "simulated"
kind = "simulated"
models = { chat = "simulated" }
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdks")
    (folder / "leeward.toml").write_text(ONE_PROVIDER)  # where the server looks for it
    with ServerProcess(folder / "d") as server:
        server.wait_store()
        yield server


@pytest.fixture
def journey(server):
    return Journey(server)


@pytest.fixture(scope="module")
def browser():
    if reason := sdks.missing():
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site():
    sources = {path.stem: path for path in (sdks.HERE / "browser").glob("*_events.mjs")}
    with sdks.pages(sources) as address:
        yield address


@pytest.fixture(scope="session")
def gateways(tmp_path_factory):
    """Two gateways and all that stands behind them; one of each for the journeys of a worker."""
    with places(tmp_path_factory.mktemp("gateways")) as there:
        yield there


@pytest.fixture(scope="session")
def told_by(gateways):
    """What a client's program told: it is run once for all that look at it."""
    told: dict[str, Told] = {}

    def once(client: str) -> Told:
        if client not in told:
            told[client] = tell(client, gateways)
        return told[client]

    return once
