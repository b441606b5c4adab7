from __future__ import annotations

import pytest

from leeward import recipes
from leeward.recipes import RECIPES

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
