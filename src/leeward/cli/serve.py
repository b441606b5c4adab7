"""`leeward serve`: the server in the foreground. Its log goes to stderr as JSON lines; the first start says how to begin."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from leeward.cli.connection import FIRST_KEYS, load_settings, loopback
from leeward.cli.form import Within, command as make
from leeward.cli.terminal import Session, printable, show, talk

if TYPE_CHECKING:
    from leeward.server.app import Application

__all__ = ["command"]


@make(
    "serve",
    "leeward serve",
    "leeward serve --port 8080 --data-dir /var/lib/leeward",
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on [127.0.0.1] (LEEWARD_SERVER__HOST).")
@click.option(
    "--port",
    metavar="NUMBER",
    type=Within(0, 65535),
    help="TCP port; 0 takes a free one [5330] (LEEWARD_SERVER__PORT).",
)
@click.option(
    "--data-dir",
    metavar="FOLDER",
    help="Log, store and keys [user's data directory] (LEEWARD_SERVER__DATA_DIR).",
)
@click.option("--config", metavar="FILE", help="Configuration file [./leeward.toml] (LEEWARD_CONFIG).")
@click.option("--print-config", is_flag=True, help="Print a commented file with every default, and end.")
@click.option("--json", "as_json", is_flag=True, help="When ready, one line on stdout: url, pid, data_dir.")
@click.pass_obj
def command(
    session: Session,
    *,
    host: str | None,
    port: int | None,
    data_dir: str | None,
    config: str | None,
    print_config: bool,
    as_json: bool,
) -> None:
    """Start the server; Ctrl+C stops it."""
    if print_config:
        from leeward.settings.show import sample

        show(sample())
        return
    session.stops_cleanly = True
    loaded = load_settings({"server.host": host, "server.port": port, "server.data_dir": data_dir}, config, os.environ)
    server = loaded.settings.server

    from leeward.cli.hosting import bind_or_explain, host as run_here

    listener = bind_or_explain(server.host, server.port, "serve")

    from leeward.server.app import Application
    from leeward.server.logs import json_lines

    report = json_lines()
    application = Application(loaded.settings, Path(server.data_dir), report)

    async def ready(url: str) -> None:
        facts = {"url": url, "pid": os.getpid(), "data_dir": server.data_dir}
        report("ready", facts)
        await _say_ready(application, url)
        if as_json:
            show(json.dumps(facts))
            sys.stdout.flush()

    run_here(application, listener, ready)
    report("stopped", {"pid": os.getpid()})


async def _say_ready(application: Application, url: str) -> None:
    """What a person needs to begin. Only the first start shows a secret, and that one is used up by its first use."""
    if not application.first_start and not sys.stderr.isatty():
        return
    keys = application.data_dir / FIRST_KEYS
    talk(f"leeward serves {url}  (data in {printable(str(application.data_dir))})")
    if application.first_start:
        secret = await application.control.create_sign_in_link()
        talk(f"  Open   {url}/login/{secret}  (signs you in once; valid 15 minutes)")
        talk(f"  Keys   {printable(str(keys))}  (take them, then delete the file)")
        talk("  Send   leeward send hello -p name=world")
    if not loopback(application.settings.server.host) and keys.exists():
        talk(f"warning: other machines can reach this server, and its first keys still lie in {printable(str(keys))}")
        talk("fix: put the keys where you keep secrets, then delete the file")
    talk("Ctrl+C stops.")
