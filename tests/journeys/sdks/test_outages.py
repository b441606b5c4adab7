"""What real SDKs and the server make of an outage together: nothing twice, and what the SDK sends again is all there.

The server is killed and started again, or a proxy before it says 503 or 429 for a while, or loses its answers. The
measure is a run of the same program without an outage. What an SDK drops by its own rules may be missing.
"""

from __future__ import annotations

import collections
import itertools
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import sdks
from refusing_proxy import LOST, Proxy
from sdks import Sdk
from server_process import HEAVY, ServerProcess

COUNT = 40
PAUSE_S = 0.1  # also without an outage in a page, whose browser lets only 64 KiB of requests be on their way
OUTAGE_AT = "10"  # when the program has said this number
OUTAGE_S = 2.5
OUTAGES = {"kill": None, "503": 503, "429": 429, "answers lost": LOST}
OFTEN = {"OTEL_BSP_SCHEDULE_DELAY": "200"}


class Sender(NamedTuple):
    """A program, and in which outages its SDK gives up events by its own rules."""

    sdk: Sdk
    drops_in: frozenset[str] = frozenset()
    in_page: bool = False


ALL = frozenset(OUTAGES)
POSTHOG = {"flush_at": 5, "flush_interval": 0.2}
PAGE = {"opt_out_useragent_filter": True, "autocapture": False, "request_queue_config": {"flush_interval_ms": 250}}
SENDERS = {
    "posthog": Sender(Sdk("posthog_events.py", POSTHOG)),
    "posthog v1": Sender(Sdk("posthog_events.py", {**POSTHOG, "capture_mode": "v1"})),
    "posthog-node": Sender(Sdk("posthog_events.mjs", {"flushAt": 5, "flushInterval": 200})),
    "posthog-node v1": Sender(
        Sdk("posthog_events.mjs", {"flushAt": 5, "flushInterval": 200}, {"POSTHOG_CAPTURE_MODE": "v1"})
    ),
    "posthog-js": Sender(Sdk("posthog_events.mjs", PAGE), frozenset({"429"}), in_page=True),
    "sentry-sdk": Sender(Sdk("sentry_events.py"), ALL),
    "@sentry/node": Sender(Sdk("sentry_events.mjs"), ALL),
    "@sentry/browser": Sender(Sdk("sentry_events.mjs"), ALL, in_page=True),
    "otel python protobuf": Sender(Sdk("otel_signals.py")),
    "otel python json": Sender(Sdk("otel_signals.py", {"json": True})),
    "otel node json": Sender(Sdk("otel_signals.mjs")),
    "otel node protobuf": Sender(Sdk("otel_signals.mjs", {"protobuf": True})),
    "langfuse": Sender(Sdk("langfuse_observations.py")),
    "fastapi": Sender(Sdk("fastapi_own.py", {}, OFTEN)),
    **{
        name: Sender(Sdk("openai_calls.py", {"instrumentation": name}, OFTEN))
        for name in ("genai", "traceloop", "openinference")
    },
    "leeward otlp": Sender(Sdk("leeward_events.py", {"wire": "otlp"})),
    "leeward posthog": Sender(Sdk("leeward_events.py", {"wire": "posthog"})),
    "leeward native": Sender(Sdk("leeward_events.py", {"wire": "native"})),
}

SAMPLE = [("otel python protobuf", "answers lost"), ("posthog", "kill")]
CASES = list(itertools.product(SENDERS, OUTAGES)) if HEAVY else SAMPLE


def identities(events: list[dict[str, Any]], run: str) -> collections.Counter[tuple[str, str, str]]:
    """Each event by what the program said with it.

    Left out is what does not hang on the program: a meter's points, said anew at every look, and that a page was left.
    """
    found: collections.Counter[tuple[str, str, str]] = collections.Counter()
    for event in events:
        data = json.dumps(event["data"]) + str(event.get("error", {}).get("message"))
        said = re.search(rf"{run} (\w+)", data)
        number = event["data"].get("n", event["data"].get("url.path", said and said[1]))
        if event["event_type"] != "$pageleave" and "http.server" not in event["event_type"]:
            found[event["kind"], event["event_type"], str(number)] += 1
    return found


class Programs:
    """Runs a sender, as a process or as a page, and calls *outage* in the middle of it."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self._request = request
        self._folder = folder

    def run(self, sender: Sender, host: str, key: str, run: str, *, outage: Any = None) -> None:
        reason = sdks.missing(None if sender.in_page else sender.sdk)
        if reason:
            pytest.skip(reason)
        variables = {**sender.sdk.variables, "LEEWARD_SPOOL_DIR": str(self._folder / "spool")}
        sdk = sender.sdk._replace(variables=variables)
        given = {"run": run, "count": COUNT, "pause_s": PAUSE_S if outage or sender.in_page else 0.0}
        if sender.in_page:
            self._in_page(sdk, host, key, given, outage)
        else:
            self._as_process(sdk, host, key, given, outage)

    def _as_process(self, sdk: Sdk, host: str, key: str, given: dict[str, Any], outage: Any) -> None:
        process = sdks.start(sdk, host, key, **given)
        if outage is not None:
            assert process.stdout is not None
            while (line := process.stdout.readline().strip()) != OUTAGE_AT:
                assert line, sdks.finish(process)
            outage()
        ended = sdks.finish(process)
        assert ended.code == 0, ended

    def _in_page(self, sdk: Sdk, host: str, key: str, given: dict[str, Any], outage: Any) -> None:
        site, browser = (self._request.getfixturevalue(name) for name in ("site", "browser"))
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(60_000)
        if outage is None:
            page.goto(sdks.page_address(site, sdk, host, key, **given))
        else:
            with page.expect_console_message(lambda said: said.text == OUTAGE_AT):
                page.goto(sdks.page_address(site, sdk, host, key, **given))
            outage()
        page.wait_for_function("window.ready")
        if "posthog" in sdk.program:  # it sends again after 3 s or 6 s, and says to nobody when it is done
            page.wait_for_timeout(12_000 if outage else 1_000)
        context.close()


def note(**row: Any) -> None:
    """A line of the table, for whoever asks for it."""
    if path := os.environ.get("LEEWARD_TEST_TABLE"):
        with Path(path).open("a", encoding="utf-8") as table:
            table.write(json.dumps(row) + "\n")


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "outage"), CASES)
def test_c1_c8_in_an_outage_nothing_comes_twice_and_what_is_sent_again_is_all_there(
    request, tmp_path, journey, name, outage
):
    sender = SENDERS[name]
    programs = Programs(request, tmp_path)
    programs.run(sender, journey.host, journey.key, journey.run)
    expected = identities(journey.events(), journey.run)

    run = journey.run + "o"
    if outage == "kill":
        seen, met = killed(programs, sender, run, tmp_path)
    else:
        seen, met = refused(programs, sender, run, journey, OUTAGES[outage])
    lost, doubled = expected - seen, seen - expected
    note(client=name, outage=outage, sent=expected.total(), lost=lost.total(), doubled=doubled.total(), met=met)

    assert met, "the outage met no request"
    assert not doubled
    assert outage in sender.drops_in or not lost


def killed(programs: Programs, sender: Sender, run: str, folder: Path) -> tuple[collections.Counter[Any], bool]:
    """The events in a server of its own that is killed and started again."""
    with ServerProcess(folder / "d") as server:
        server.wait_store()

        def outage() -> None:
            server.kill(group=True)
            server.start()

        programs.run(sender, f"http://127.0.0.1:{server.port}", server.key("write"), run, outage=outage)
        return identities(server.query_all(), run), True


def refused(
    programs: Programs, sender: Sender, run: str, journey: Any, status: int
) -> tuple[collections.Counter[Any], bool]:
    """The events in the shared server, behind a proxy that misbehaves."""
    began_ms = max((event["received_at"] for event in journey.events()), default=journey.began_ms) + 1
    with Proxy(journey.server.port).serving() as proxy:
        programs.run(sender, proxy.host, journey.key, run, outage=lambda: proxy.refuse(status, OUTAGE_S))
        return identities(journey.server.query_all(f"start={began_ms}"), run), proxy.refused > 0
