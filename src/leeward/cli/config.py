"""`leeward config`: what is set, where each value comes from, and whether all of it is right. Starts nothing."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from leeward.cli.connection import load_settings
from leeward.cli.form import group
from leeward.cli.terminal import json_text, show, table, talk
from leeward.errors import ConfigError
from leeward.settings import find

if TYPE_CHECKING:
    from leeward.settings.gateway_checks import Oddity
    from leeward.settings.load import Loaded

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
@click.option("--json", "as_json", is_flag=True, help="file, the names that are set with their origins, and warnings.")
def check(*, config: str | None, as_json: bool) -> None:
    """Read file, environment and references, and say whether all is right; what is odd is a warning."""
    loaded = load_settings({}, config, os.environ)
    found = _oddities(loaded)
    file = find.config_file(config, os.environ)
    given = {name: place for name, place in loaded.origins.items() if place != "default"}
    if as_json:
        show(json_text(json.dumps({"file": file, "set": given, "warnings": [odd._asdict() for odd in found]})))
        return
    for line in table(given.items()):
        show(line)
    for odd in found:
        talk(f"warning: {odd.message}\nwhere: {odd.where}\nfix: {odd.fix}")
    where = f"in {file} and the environment" if file else "in the environment; there is no file"
    warned = f"; {len(found)} warning{'s' if len(found) > 1 else ''}" if found else ""
    show(f"ok: {len(given)} set {where}, {len(loaded.origins) - len(given)} as they come{warned}")


@command.own(
    "schema", "leeward config schema > leeward.schema.json", "leeward config schema | jq '.[\"$defs\"] | keys'"
)
def schema() -> None:
    """Print the JSON Schema of the file; an editor takes it from a first line `#:schema ./leeward.schema.json`."""
    from leeward.settings.show import json_schema

    show(json.dumps(json_schema(), indent=2))


def _oddities(loaded: Loaded) -> list[Oddity]:
    """What is odd in the gateway's settings.

    Raises:
        ConfigError: a provider could not be called: its address or its key is none.
    """
    gateway = loaded.settings.gateway
    if not gateway.providers:
        return []
    from leeward.gateway.origin import Origin
    from leeward.gateway.providers import KINDS
    from leeward.settings.gateway_checks import warnings

    for provider in gateway.providers:
        kind = KINDS[provider.kind]
        name = f"gateway.providers.{provider.name}"
        if provider.kind != "simulated":
            place = loaded.origins[f"{name}.base_url"]
            where = loaded.origins[f"{name}.kind"] if place == "default" else place
            Origin.of(provider.base_url or kind.base_url, where=where)
        try:
            kind.header_block(provider.api_key)
        except ConfigError as error:
            raise ConfigError(error.message, where=loaded.origins[f"{name}.api_key"], fix=error.fix) from None
    return warnings(gateway, loaded.origins, lambda kind: KINDS[kind].needs_key)
