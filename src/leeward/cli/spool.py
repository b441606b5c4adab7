"""`leeward spool`: what clients on this machine have not sent yet: look at it, send it, delete it."""

from __future__ import annotations

import click

from leeward.cli.form import Within, connection_options, group

__all__ = ["command"]


@group("spool", "leeward spool status", "leeward spool flush")
def command() -> None:
    """Look at events that wait on this machine, send or delete them."""


_spool_dir = click.option("--spool-dir", metavar="FOLDER", help="Where they wait [the user's] (LEEWARD_SPOOL_DIR).")


@command.own("status", "leeward spool status", "leeward spool status --json | jq '.destinations[].host'")
@_spool_dir
@click.option("--json", "as_json", is_flag=True, help="root, limits, waiting, set_aside, and destinations.")
def status(*, spool_dir: str | None, as_json: bool) -> None:
    """Show what waits, for which host, since when, and whose it is."""
    from leeward.cli import spool_work  # what only who runs it pays for

    spool_work.status(spool_dir=spool_dir, as_json=as_json)


@command.own("flush", "leeward spool flush", "leeward spool flush --host https://t.example --key KEY")
@click.option("--timeout", metavar="SECONDS", type=Within(1, 3600), default=60, help="For all of it [60 s].")
@_spool_dir
@connection_options
@click.option("--json", "as_json", is_flag=True, help="sent, dropped, set_aside, left, and destinations.")
def flush(*, timeout: int, spool_dir: str | None, as_json: bool, **connection: str | None) -> None:
    """Send what ended processes left, to the host that it waits for."""
    from leeward.cli import spool_work  # what only who runs it pays for

    spool_work.flush(timeout_s=timeout, spool_dir=spool_dir, as_json=as_json, **connection)


@command.own("clear", "leeward spool clear --dry-run", "leeward spool clear --host http://127.0.0.1:5330")
@click.option("--host", metavar="URL", help="Only what waits for this host [all].")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and end.")
@_spool_dir
@click.option("--json", "as_json", is_flag=True, help="deleted, left, dry_run, and destinations.")
def clear(*, host: str | None, yes: bool, dry_run: bool, spool_dir: str | None, as_json: bool) -> None:
    """Delete what ended processes left and what was set aside."""
    from leeward.cli import spool_work  # what only who runs it pays for

    spool_work.clear(host=host, yes=yes, dry_run=dry_run, spool_dir=spool_dir, as_json=as_json)
