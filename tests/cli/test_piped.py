"""Every command, piped: data on stdout, talk on stderr, and not one escape byte on either."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import click
import pytest

from commands import ESCAPE, command

_SPEC = importlib.util.spec_from_file_location("generate", Path(__file__).parents[2] / "docs" / "generate.py")
GENERATE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(GENERATE)

# How each command is run once; a command that is not here fails the test below.
CALLS = {
    "leeward": [],
    "leeward serve": ["--print-config"],
    "leeward demo": ["--reset"],
    "leeward send": ["piped", "--level", "ERROR"],
    "leeward query": ["--since", "1h"],
    "leeward keys": [],
    "leeward keys create": ["--scope", "chat"],
    "leeward keys config": [],
    "leeward keys list": [],
    "leeward keys revoke": ["k_nothing"],
    "leeward keys set-quota": ["k_nothing", "--per-day", "5"],
    "leeward connect": ["curl", "--no-wait"],
    "leeward config": [],
    "leeward config show": ["--origin"],
    "leeward config check": [],
    "leeward config schema": [],
    "leeward spool": [],
    "leeward spool status": [],
    "leeward spool flush": ["--timeout", "5"],
    "leeward spool clear": [],
    "leeward chaos": [],
    "leeward chaos list": [],
    "leeward chaos faults": [],
    "leeward chaos set": ["primary", "503"],
    "leeward chaos clear": [],
    "leeward chaos serve": ["--fault", "nothing"],
    "leeward doctor": [],
    "leeward completion": ["bash"],
}
SILENT = {
    "leeward",
    "leeward completion",
    "leeward config schema",
    "leeward demo",
    "leeward serve",
    "leeward chaos serve",
}
SILENT_ON_FAILURE = {"leeward keys", "leeward config", "leeward spool", "leeward chaos"}


@pytest.mark.parametrize("path", [path for path, _ in GENERATE.every_command()])
def test_a_command_that_is_piped_writes_no_escape_byte(path, server):
    shown = command(server.home, *path.split()[1:], *CALLS[path], TERM="xterm-256color", COLORTERM="truecolor")

    assert ESCAPE not in shown.out + shown.err
    assert "Traceback" not in shown.err
    assert shown.code in {0, 1} or path in SILENT_ON_FAILURE


@pytest.mark.parametrize("path", [path for path, _ in GENERATE.every_command()])
def test_every_command_that_shows_something_has_json_and_its_json_is_one_document(path, server):
    found = dict(GENERATE.every_command())[path]
    options = {name for parameter in found.get_params(click.Context(found)) for name in parameter.opts}
    if path in SILENT | SILENT_ON_FAILURE:
        return  # they show no data, or a script or file that is one; serve's line is tested with the server

    assert "--json" in options
    shown = command(server.home, *path.split()[1:], *CALLS[path], "--json")
    if path not in {"leeward keys revoke", "leeward keys set-quota", "leeward chaos set"}:
        assert isinstance(json.loads(shown.out), dict)


def test_no_color_and_force_color_are_obeyed_by_errors_too(server):
    assert ESCAPE in command(server.home, "query", "--cursor", "x", FORCE_COLOR="1").err
    assert ESCAPE not in command(server.home, "query", "--cursor", "x", "--no-color", FORCE_COLOR="1").err
    assert ESCAPE not in command(server.home, "query", "--cursor", "x", FORCE_COLOR="1", NO_COLOR="1").err
