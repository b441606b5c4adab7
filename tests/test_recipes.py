from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from leeward import recipes
from leeward.recipes import RECIPES
from leeward.version import VERSION

ROOT = Path(__file__).parent.parent

HOST = "https://telemetry.example.com:8443"
LANGUAGES = {"python", "node", "browser", "shell"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_each_row_says_everything_and_leaves_no_place_empty(recipe):
    filled = recipes.filled(recipe, HOST, "lw_key")

    assert recipe.language in LANGUAGES
    assert all((recipe.title, recipe.package, recipe.lines, recipe.event, recipe.file, recipe.first))
    assert "lw_key" in filled.lines
    assert "telemetry.example.com:8443" in filled.lines
    assert not any(place in filled.lines + filled.event for place in ("{host}", "{key}", "{dsn}"))
    assert recipe.lines.endswith("\n")
    assert recipe.event.endswith("\n")
    assert max(map(len, filled.lines.splitlines())) <= 120


def pinned(requirement):
    """The version of a package that the tests install; of Node's if it is called `npm NAME`."""
    registry, _, package = requirement.rpartition(" ")
    if registry:
        return json.loads((ROOT / "tests" / "clients" / "package.json").read_text())["dependencies"][package]
    python = (ROOT / "requirements" / "clients.txt").read_text()
    return {**dict(re.findall(r"^([\w.-]+)==(\S+)", python, re.MULTILINE)), "leeward": VERSION}[package]


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe.package != "curl"], ids=lambda row: row.name)
def test_the_version_that_is_named_is_the_one_that_the_tests_run(recipe):
    registry = "npm " if recipe.install.startswith("npm") else ""

    assert pinned(registry + recipe.package) == recipe.version_tested


@pytest.mark.parametrize(
    "requirement",
    [
        *("openai", "langchain-openai", "pydantic-ai-slim"),
        *("npm openai", "npm ai", "npm @ai-sdk/openai", "npm @ai-sdk/openai-compatible"),
    ],
)
def test_the_page_about_clients_that_chat_names_the_versions_that_the_tests_run(requirement):
    page = (ROOT / "docs" / "how-to" / "chat-clients.md").read_text()

    assert re.search(rf"\| [^|]*{re.escape(pinned(requirement))}[^|]* \|", page)


def test_names_are_unique_and_found():
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)
    assert all(recipes.find(recipe.name) is recipe for recipe in RECIPES)
    assert recipes.find("nothing") is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("posthogg", "posthog"),
        ("Sentry", "sentry"),
        ("@sentry/node", "sentry-node"),
        ("sentry-sdk", "sentry"),
        ("OpenAI", "openai"),
        ("qq", ""),
    ],
)
def test_the_nearest_name_is_that_of_a_row_or_of_its_package(typed, meant):
    assert recipes.nearest(typed) == meant


def test_the_dsn_keeps_the_path_that_a_server_stands_under():
    (line,) = [
        line
        for line in recipes.filled(recipes.find("sentry"), f"{HOST}/t/", "lw_k").lines.splitlines()
        if "://" in line
    ]

    assert 'init("https://lw_k@telemetry.example.com:8443/t/1"' in line


def test_the_project_of_a_key_stands_in_sentrys_address():
    from leeward.recipes import filled, find

    assert "http://lw_x@127.0.0.1:5330/7" in filled(find("sentry"), "http://127.0.0.1:5330", "lw_x", 7).lines
