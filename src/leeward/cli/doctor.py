"""`leeward doctor`: everything that must work, one line each, the cure under what does not. Exit code 1 if one fails."""

from __future__ import annotations

import json
import os
from typing import Final

import click

from leeward.cli.check import Check, failed
from leeward.cli.form import command as make, connection_options
from leeward.cli.terminal import json_text, printable, show
from leeward.errors import LeewardError
from leeward.settings import find

__all__ = ["command"]

_COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


@make("doctor", "leeward doctor", "leeward doctor --json | jq '.checks[] | select(.state == \"fail\")'")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="state, and checks with name, state, detail, fix.")
def command(*, host: str | None, key: str | None, data_dir: str | None, config: str | None, as_json: bool) -> int:
    """Check all that must work, with one event leeward.doctor, and name the cure."""
    from leeward.cli.checks import look  # with all that they look at: what only who runs it pays for
    from leeward.cli.connection import load_settings, target_of

    checks: list[Check] = []

    def add(check: Check) -> None:
        checks.append(check)
        if not as_json:
            _show(check)

    try:
        loaded = load_settings({"server.data_dir": data_dir}, config, os.environ)
        target = target_of(host=host, key=key, data_dir=data_dir, config=config, environ=os.environ)
        for check in look(loaded, find.config_file(config, os.environ), target, os.environ):
            add(check)
    except LeewardError as error:
        add(failed("configuration", error))
    states = {check.state for check in checks}
    worst = "fail" if "fail" in states else "warn" if "warn" in states else "ok"
    if as_json:
        show(json_text(json.dumps({"state": worst, "checks": [check._asdict() for check in checks]})))
    return 1 if worst == "fail" else 0


def _show(check: Check) -> None:
    state = click.style(check.state.ljust(4), fg=_COLOURS[check.state])
    show(f"{state}  {check.name.ljust(14)}  {printable(check.detail)}")
    if check.state != "ok" and check.fix:
        show(f"      {'':14}  fix: {printable(check.fix)}")
