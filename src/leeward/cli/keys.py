"""`leeward keys`: over HTTP while a server holds the control database, else in the database itself."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable
from typing import Any, Final

import click

from leeward.cli import running
from leeward.cli.api import Api
from leeward.cli.connection import SCOPES, Target, target_of
from leeward.cli.form import connection_options, group
from leeward.cli.terminal import confirm, json_text, printable, show, table, talk
from leeward.errors import ConfigError, LeewardError, Refused, Unavailable

__all__ = ["command"]

_MEANINGS: Final = "write sends events, read asks, chat uses the gateway, admin does all."


@group(
    "keys",
    "leeward keys create --scope write --name my-app",
    "leeward keys list",
)
def command() -> None:
    """Make, list and revoke keys."""


@command.own(
    "create",
    "leeward keys create --scope write --name my-app",
    "KEY=$(leeward keys create --scope read --json | jq -r .key)",
)
@click.option("--scope", type=click.Choice(SCOPES), required=True, help=_MEANINGS)
@click.option("--name", metavar="TEXT", help="What it is for [the scope's name].")
@click.option("--project", metavar="NAME", default="default", help="Whose events [default].")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="id, key, project, name and scope.")
def create(*, scope: str, name: str | None, project: str, as_json: bool, **connection: str | None) -> None:
    """Make a key; it is shown this once."""
    target = target_of(**connection, environ=os.environ)
    wanted = {"scope": scope, "name": name or f"{scope} key", "project": project}
    try:
        made = _over_http_or_here(
            target,
            lambda api: api.post("/api/keys", wanted).document(),
            lambda records: _create_here(records, wanted),
        )
    except Refused as error:
        if error.code == "project_not_found":
            error.fix = "leave --project away, or give the name of a project as leeward keys list shows it"
        raise
    if as_json:
        show(json_text(json.dumps(made)))
        return
    show(printable(made["key"]))
    talk(f"{made['scope']} key {printable(made['name'])} (id {printable(made['id'])}); it is not shown again")


@command.own("list", "leeward keys list", "leeward keys list --json | jq '.keys[].name'")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="count, and keys with id, project, name, scope, last4, times.")
def list_keys(*, as_json: bool, **connection: str | None) -> None:
    """List the keys, without their secrets."""
    found = _keys_of(target_of(**connection, environ=os.environ))
    if as_json:
        show(json_text(json.dumps({"count": len(found), "keys": found})))
        return
    rows = [
        (key["id"], key["scope"], key["name"], key["project"], "…" + key["last4"], _day(key["created_at"]), _state(key))
        for key in found
    ]
    for line in table(rows, ("id", "scope", "name", "project", "key", "made", "state")):
        show(line)


def _complete_id(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The ids of living keys, for the shell; nothing when they cannot be had."""
    try:
        target = target_of(host=None, key=None, data_dir=None, config=None, environ=os.environ)
        return [key["id"] for key in _keys_of(target) if not key["revoked_at"] and key["id"].startswith(incomplete)]
    except (LeewardError, OSError):
        return []


@command.own("revoke", "leeward keys revoke ID", "leeward keys revoke ID --dry-run")
@click.argument("key_id", metavar="ID", shell_complete=_complete_id)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be revoked, and end.")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="The key as it is now.")
def revoke(*, key_id: str, yes: bool, dry_run: bool, as_json: bool, **connection: str | None) -> None:
    """Revoke a key: from the next request on it is refused."""
    target = target_of(**connection, environ=os.environ)
    key = next((key for key in _keys_of(target) if key["id"] == key_id), None)
    if key is None:
        raise Refused(f"there is no key {key_id}", code="key_not_found", fix="leeward keys list shows the ids")
    if not key["revoked_at"]:
        what = f"This revokes the {key['scope']} key {printable(key['name'])} (…{printable(key['last4'])})"
        talk(what + "; who uses it is refused from the next request on")
        if not dry_run:
            confirm("revoking a key", yes=yes)
            key = _over_http_or_here(
                target,
                lambda api: api.delete(f"/api/keys/{key_id}").document(),
                lambda records: _revoke_here(records, key_id),
            )
    if as_json:
        show(json_text(json.dumps(key)))
    else:
        show(f"{printable(key['id'])}  {_state(key)}")


def _keys_of(target: Target) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _over_http_or_here(
        target, lambda api: api.get("/api/keys").document()["keys"], _list_here
    )
    return found


def _over_http_or_here(target: Target, remote: Callable[[Any], Any], local: Callable[[Any], Any]) -> Any:
    """Ask the server; where its data is on this machine and it does not run, open its control database."""
    directory = target.data_dir
    held = directory is not None and running.of_data_dir(directory, os.environ) is not None
    if directory is None or held or (target.named and _answers(target)):
        return remote(target.api("admin"))
    from leeward.server.control.database import open_offline

    try:
        with open_offline(directory) as records:
            return local(records)
    except ConfigError as error:
        if error.code != "control_held":
            raise
        return remote(target.api("admin"))  # a server of another user, or one that has no home to note itself in


def _answers(target: Target) -> bool:
    """Whether anyone is at the address that was named: LEEWARD_HOST may name a server of this machine that is stopped."""
    try:
        Api(target.url).exchange("GET", "/livez")
    except Unavailable:
        return False
    return True


# In the database itself


def _create_here(records: Any, wanted: dict[str, str]) -> dict[str, Any]:
    projects = {project.name: project.id for project in records.list_projects()}
    if wanted["project"] not in projects:
        raise Refused(f"there is no project {wanted['project']!r}", code="project_not_found")
    key, token = records.create_key(projects[wanted["project"]], wanted["scope"], wanted["name"])
    return {"id": key.id, "key": token, "project": wanted["project"], "name": key.name, "scope": key.scope}


def _list_here(records: Any) -> list[dict[str, Any]]:
    names = {project.id: project.name for project in records.list_projects()}
    return [_fields(key, names) for key in records.list_keys()]


def _revoke_here(records: Any, key_id: str) -> dict[str, Any]:
    key = records.revoke_key(key_id)
    return _fields(key, {project.id: project.name for project in records.list_projects()})


def _fields(key: Any, projects: dict[int, str]) -> dict[str, Any]:
    """A key as the API gives it."""
    return {
        "id": key.id,
        "project": projects.get(key.project, ""),
        "name": key.name,
        "scope": key.scope,
        "last4": key.last4,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }


def _day(time_ms: int) -> str:
    return f"{datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC).astimezone():%Y-%m-%d}"


def _state(key: dict[str, Any]) -> str:
    return f"revoked {_day(key['revoked_at'])}" if key["revoked_at"] else "valid"
