"""Every row that `leeward connect` prints, as it stands: its lines with a real address and key are run, and it arrives."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import urllib.request

import pytest

import sdks
from chat_provider import provider
from leeward import recipes
from sdks import Sdk
from server_process import free_port, until

# A browser that a program drives says so in three places, and PostHog's SDK drops what it takes for a robot's.
LIKE_A_PERSON = """
Object.defineProperty(navigator, "webdriver", { value: false });
Object.defineProperty(navigator, "userAgentData", { value: undefined });
"""
USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
IN_PAGES = [recipe for recipe in recipes.RECIPES if recipe.language == "browser"]
OTHERS = [recipe for recipe in recipes.RECIPES if recipe.language != "browser" and recipe.name != "fastapi"]


def name_of(recipe):
    return recipe.name


@pytest.fixture
def variables(tmp_path):
    """A user's environment, in whose path the SDKs are; openai calls a provider on this machine."""
    (tmp_path / "node_modules").symlink_to(sdks.MODULES)
    path = os.pathsep.join((str(sdks.PYTHON.parent), os.environ["PATH"]))
    with provider() as url:
        yield sdks.environment(
            PATH=path, HOME=str(tmp_path), LEEWARD_SPOOL_DIR=str(tmp_path), OPENAI_BASE_URL=url, OPENAI_API_KEY="of-it"
        )


def lay_out(recipe, journey, folder):
    """Put the row's files into a folder; the command that runs it."""
    row = recipes.filled(recipe, journey.host, journey.server.key(recipe.scope))
    if row.language == "shell":
        (folder / row.file).write_text(row.event)
        return ["sh", "-ec", row.lines]
    (folder / row.file).write_text(f"{row.lines}\n{row.event}")
    return ["python" if row.language == "python" else "node", row.file]


@pytest.mark.parametrize("recipe", OTHERS, ids=name_of)
def test_the_lines_bring_an_event(journey, tmp_path, variables, recipe):
    if recipe.file.endswith(".mjs") and (reason := sdks.missing(Sdk("x.mjs"))):
        pytest.skip(reason)
    if recipe.package == "curl" and shutil.which("curl") is None:
        pytest.skip("no curl on the PATH")
    done = subprocess.run(
        lay_out(recipe, journey, tmp_path),
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=sdks.WATCHDOG_S,
        check=False,
    )
    assert done.returncode == 0, done

    events = journey.wait(lambda found: called(found, recipe.first), "the event is there")
    assert len(called(events, recipe.first)) == 1


def test_the_lines_of_fastapi_bring_an_event(journey, tmp_path, variables):
    recipe = recipes.find("fastapi")
    port = free_port()
    process = subprocess.Popen(
        lay_out(recipe, journey, tmp_path),
        cwd=tmp_path,
        env={**variables, "UVICORN_PORT": str(port)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        until(lambda: answers(f"http://127.0.0.1:{port}/hello"), "the application answers")
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=sdks.WATCHDOG_S)

    assert called(journey.events(), recipe.first)


def answers(url):
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(url).read()


@pytest.mark.browser
@pytest.mark.parametrize("recipe", IN_PAGES, ids=name_of)
def test_the_lines_in_a_page_bring_an_event(journey, tmp_path, browser, recipe):
    lay_out(recipe, journey, tmp_path)
    context = browser.new_context(user_agent=USER_AGENT)
    context.add_init_script(LIKE_A_PERSON)
    with sdks.pages({"page": tmp_path / recipe.file}) as site:
        context.new_page().goto(f"{site}/page.html")

        events = journey.wait(lambda found: called(found, recipe.first), "the page's event is there")
        context.close()

    assert len(called(events, recipe.first)) == 1


def called(events, name):
    return [event for event in events if event["event_type"] == name]
