"""`leeward config`: what is set, where each value comes from, and whether all of it is right. Starts nothing."""

from __future__ import annotations

import json
import os

import click

from leeward.cli.connection import load_settings
from leeward.cli.form import group
from leeward.cli.terminal import json_text, show, table
from leeward.settings import find

__all__ = ["command"]


@group("config", "leeward config check", "leeward config show --origin")
def command() -> None:
    """Look at the settings and where they come from."""


_file_option = click.option("--config", metavar="FILE", help="Configuration file [./leeward.toml] (LEEWARD_CONFIG).")


@command.own("show", "leeward config show --origin", "leeward config show --json | jq '.settings[0]'")
@_file_option
@click.option("--origin", is_flag=True, help="With the place where each value was set.")
@click.option(
    "--json", "as_json", is_flag=True, help="file, and settings with name, value, origin, default, description."
)
def show_settings(*, config: str | None, origin: bool, as_json: bool) -> None:
    """Print every setting as it is in force; secrets show their last four characters."""
    loaded = load_settings({}, config, os.environ)
    from leeward.settings.show import show as rows_of

    rows = rows_of(loaded)
    if as_json:
        file = find.config_file(config, os.environ)
        show(json_text(json.dumps({"file": file, "settings": [row._asdict() for row in rows]})))
        return
    for line in table([(row.name, "=", row.value, *([row.origin] if origin else ())) for row in rows]):
        show(line)


@command.own("check", "leeward config check", "leeward config check --config /etc/leeward.toml")
@_file_option
@click.option("--json", "as_json", is_flag=True, help="file, and the names that are set with their origins.")
def check(*, config: str | None, as_json: bool) -> None:
    """Read file, environment and references, and say whether all is right."""
    loaded = load_settings({}, config, os.environ)
    file = find.config_file(config, os.environ)
    given = {name: place for name, place in loaded.origins.items() if place != "default"}
    if as_json:
        show(json_text(json.dumps({"file": file, "set": given})))
        return
    for line in table(given.items()):
        show(line)
    where = f"in {file} and the environment" if file else "in the environment; there is no file"
    show(f"ok: {len(given)} set {where}, {len(loaded.origins) - len(given)} as they come")
