"""`leeward keys`: over HTTP while a server holds the control database, else in the database itself.

`keys config` needs neither: a gateway that is alone has its keys in its configuration.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import click

from leeward.cli import running
from leeward.cli.api import Api
from leeward.cli.connection import SCOPES, Target, target_of
from leeward.cli.form import connection_options, group
from leeward.cli.terminal import confirm, json_text, printable, program, show, table, talk
from leeward.errors import ConfigError, LeewardError, Refused, Unavailable

__all__ = ["command"]

_MEANINGS: Final = "write sends events, read asks, chat uses the gateway, admin does all."
_COUNT: Final = click.IntRange(1, 2**53)
_DOLLARS: Final = click.FloatRange(0.01, 1_000_000)
_LIMITS: Final[dict[str, tuple[click.ParamType[Any], str]]] = {
    "per_minute": (_COUNT, "Events a minute"),
    "per_day": (_COUNT, "Events a day, UTC"),
    "requests_per_minute": (_COUNT, "Requests to the gateway a minute"),
    "tokens_per_day": (_COUNT, "Tokens of the gateway a day, UTC, in and out"),
    "usd_per_day": (_DOLLARS, "US dollars of the gateway a day, UTC"),
}
_SHOWN: Final = {
    "per_minute": "{:,} a minute",
    "per_day": "{:,} a day",
    "requests_per_minute": "{:,} requests a minute",
    "tokens_per_day": "{:,} tokens a day",
    "usd_per_day": "${:,.2f} a day",
}
_OF_GATEWAY: Final = ("requests_per_minute", "tokens_per_day", "usd_per_day")
_NONE: Final = 0  # what `none` on the command line becomes, as an option that is not given is None


class _Limit(click.ParamType[float]):
    """A limit, or `none`."""

    name = "limit"

    def __init__(self, amount: click.ParamType[Any]) -> None:
        self._amount = amount

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        limit: float = _NONE if value == "none" else self._amount.convert(value, param, ctx)
        return limit


def _limit_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The limits of a new key."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        for name in reversed(names):
            amount, what = _LIMITS[name]
            option = click.option(_option(name), type=amount, metavar="N", help=f"{what} [no limit].")
            function = option(function)
        return function

    return add


def _changed_limit_options(function: Callable[..., None]) -> Callable[..., None]:
    """The same, of a key that may have some."""
    for name, (amount, what) in reversed(_LIMITS.items()):
        option = click.option(_option(name), type=_Limit(amount), metavar="N", help=f"{what}; or none [as it is].")
        function = option(function)
    return function


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


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
@_limit_options(*_LIMITS)
@connection_options
@click.option("--json", "as_json", is_flag=True, help="id, key, project, name and scope.")
def create(
    *,
    scope: str,
    name: str | None,
    project: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Make a key; it is shown this once."""
    limits = {limit: given.pop(limit) for limit in _LIMITS}
    target = target_of(**given, environ=os.environ)
    wanted = {"scope": scope, "name": name or f"{scope} key", "project": project, **limits}
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


@command.own(
    "config",
    "leeward keys config --name my-app >> leeward.toml",
    "leeward keys config --scope read --json | jq -r .toml",
)
@click.option("--scope", type=click.Choice(SCOPES), default="chat", help=f"{_MEANINGS} [chat]")
@click.option("--name", metavar="TEXT", default="", help="What it is for; spans and limits know it by that.")
@_limit_options(*_OF_GATEWAY)
@click.option("--json", "as_json", is_flag=True, help="key, name, scope, sha256 and toml.")
def config(*, scope: str, name: str, as_json: bool, **limits: float | None) -> None:
    """Make a key for `serve --only gateway`: lines for leeward.toml, and the key, shown this once."""
    from msgspec import ValidationError, convert

    from leeward.server.access import digest, new_key
    from leeward.settings.tree import ServerKey

    key = new_key()
    given = {"sha256": digest(key).hex(), "scope": scope, "name": name, **limits}
    told = {setting: value for setting, value in given.items() if value not in ("", None)}
    try:
        convert(told, ServerKey)
    except ValidationError as error:
        raise _not_a_setting(str(error), name) from None
    toml = "\n".join(["[[server.keys]]", *(f"{setting} = {json.dumps(value)}" for setting, value in told.items())])
    if as_json:
        show(json_text(json.dumps({"key": key, "name": name, "scope": scope, "sha256": told["sha256"], "toml": toml})))
        return
    show(toml)
    talk(f"The {scope} key is {key}; it is not shown again, and the lines hold its digest alone.")
    talk(f"Add the lines to leeward.toml, then: {program()} serve --only gateway")


def _not_a_setting(problem: str, name: str) -> click.UsageError:
    sentence, _, place = problem.partition(" - at `$.")
    if place.startswith("name"):
        from leeward.settings.gateway import NAME_FORM

        return click.UsageError(f"--name is {name[:40]!r}, but must be {NAME_FORM}")
    return click.UsageError(f"{_option(place.strip('`'))}: {sentence[:1].lower()}{sentence[1:]}")


@command.own("list", "leeward keys list", "leeward keys list --json | jq '.keys[].name'")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="count, and keys with all that is known of each.")
def list_keys(*, as_json: bool, **connection: str | None) -> None:
    """List the keys, without their secrets."""
    found = _keys_of(target_of(**connection, environ=os.environ))
    if as_json:
        show(json_text(json.dumps({"count": len(found), "keys": found})))
        return
    rows = [
        (
            key["id"],
            key["scope"],
            key["name"],
            key["project"],
            "…" + key["last4"],
            _day(key["created_at"]),
            _quota(key),
            _state(key),
        )
        for key in found
    ]
    for line in table(rows, ("id", "scope", "name", "project", "key", "made", "quota", "state")):
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


@command.own(
    "set-quota",
    "leeward keys set-quota ID --requests-per-minute 60 --usd-per-day 5",
    "leeward keys set-quota ID --per-minute none",
)
@click.argument("key_id", metavar="ID", shell_complete=_complete_id)
@_changed_limit_options
@connection_options
@click.option("--json", "as_json", is_flag=True, help="The key as it is now.")
def set_quota(*, key_id: str, as_json: bool, **given: Any) -> None:
    """Limit what a key may do; it holds from the next request."""
    limits = {name: given.pop(name) for name in _LIMITS}
    wanted = {name: None if limit == _NONE else limit for name, limit in limits.items() if limit is not None}
    if not wanted:
        raise click.UsageError(f"give a limit, as a number or none: {', '.join(map(_option, _LIMITS))}")
    target = target_of(**given, environ=os.environ)
    try:
        key = _over_http_or_here(
            target,
            lambda api: api.patch(f"/api/keys/{quote(key_id, safe='')}", wanted).document(),
            lambda records: _set_quota_here(records, key_id, wanted),
        )
    except Refused as error:
        if error.code == "key_not_found":
            error.fix = "leeward keys list shows the ids"
        raise
    if as_json:
        show(json_text(json.dumps(key)))
    else:
        show(f"{printable(key['id'])}  {_quota(key)}")


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


def _create_here(records: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    from leeward.server.quotas import Quota

    projects = {project.name: project.id for project in records.list_projects()}
    if wanted["project"] not in projects:
        raise Refused(f"there is no project {wanted['project']!r}", code="project_not_found")
    quota = Quota(**{name: wanted[name] for name in _LIMITS})
    key, token = records.create_key(projects[wanted["project"]], wanted["scope"], wanted["name"], quota)
    return {"id": key.id, "key": token, "project": wanted["project"], "name": key.name, "scope": key.scope}


def _list_here(records: Any) -> list[dict[str, Any]]:
    names = {project.id: project.name for project in records.list_projects()}
    return [_fields(key, names) for key in records.list_keys()]


def _revoke_here(records: Any, key_id: str) -> dict[str, Any]:
    key = records.revoke_key(key_id)
    return _fields(key, {project.id: project.name for project in records.list_projects()})


def _set_quota_here(records: Any, key_id: str, wanted: dict[str, float | None]) -> dict[str, Any]:
    from msgspec.structs import replace

    key = records.set_quota(key_id, lambda quota: replace(quota, **wanted))
    if key is None:
        raise Refused(f"there is no key {key_id}", code="key_not_found")
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
        **{name: getattr(key.quota, name) for name in _LIMITS},
    }


def _day(time_ms: int) -> str:
    return f"{datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC).astimezone():%Y-%m-%d}"


def _quota(key: dict[str, Any]) -> str:
    """What a key may do, in words; a server of before knows nothing of some limits."""
    return ", ".join(form.format(key[name]) for name, form in _SHOWN.items() if key.get(name) is not None) or "no limit"


def _state(key: dict[str, Any]) -> str:
    return f"revoked {_day(key['revoked_at'])}" if key["revoked_at"] else "valid"
