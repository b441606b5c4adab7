"""`leeward serve`: the server in the foreground.

Where stderr is a terminal, a person reads it: each start says how to begin, with a link that signs in once, and only
troubles are told, in words. Elsewhere stderr is the log, as JSON lines; the link is written at the first start only.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from leeward.cli.connection import FIRST_KEYS, load_settings, loopback
from leeward.cli.form import Within, command as make
from leeward.cli.terminal import Session, printable, program, show, talk
from leeward.settings import find

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from leeward.server.app import Application
    from leeward.server.logs import Report
    from leeward.server.serve import Served
    from leeward.settings.tree import Settings

__all__ = ["command"]

PORT_DEFAULT: Final = 5330
_NO_TROUBLE: Final = frozenset({"ready", "stopped", "expired_days_dropped"})


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
@click.option(
    "--only", metavar="PART", type=click.Choice(["gateway"]), help="Serve the gateway alone: no store, no log."
)
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
    only: str | None,
    as_json: bool,
) -> None:
    """Start the server; Ctrl+C stops it."""
    if print_config:
        from leeward.settings.show import sample

        show(sample())
        return
    session.stops_cleanly = True
    options = {"server.host": host, "server.port": port, "server.data_dir": data_dir}

    def load() -> Settings:
        return load_settings(options, config, os.environ).settings

    settings = load()
    server = settings.server

    from leeward.cli.hosting import bind_or_explain, host as run_here

    listener = bind_or_explain(server.host, server.port, "serve", Path(server.data_dir))

    from leeward.server.logs import json_lines

    report = _in_words if sys.stderr.isatty() else json_lines()
    application, say_ready = (_alone if only else _whole)(settings, report, load)

    async def ready(url: str) -> None:
        facts = {"url": url, "pid": os.getpid(), "data_dir": "" if only else server.data_dir}
        report("ready", facts)
        await say_ready(url)
        if as_json:
            show(json.dumps(facts))
            sys.stdout.flush()

    run_here(application, listener, ready)
    report("stopped", {"pid": os.getpid()})


def _whole(
    settings: Settings, report: Report, load: Callable[[], Settings]
) -> tuple[Served, Callable[[str], Awaitable[None]]]:
    from leeward.server.app import Application

    application = Application(settings, Path(settings.server.data_dir), report, load=load)
    return application, lambda url: _say_ready(application, url)


def _alone(
    settings: Settings, report: Report, load: Callable[[], Settings]
) -> tuple[Served, Callable[[str], Awaitable[None]]]:
    from leeward.server.alone import GatewayAlone

    return GatewayAlone(settings, report, load=load), lambda url: _say_alone(settings, url)


async def _say_ready(application: Application, url: str) -> None:
    """What a person needs to begin. The one secret is a link that its first use uses up.

    A log may be read by others, and later: there it is written at the first start only.
    """
    if not application.first_start and not sys.stderr.isatty():
        return
    there = _there(url, application.data_dir)
    keys = application.data_dir / FIRST_KEYS
    talk(f"leeward serves {url}  (data in {printable(str(application.data_dir))})")
    secret = await application.control.create_sign_in_link()
    talk(f"  Open   {url}/login/{secret}  (signs you in once; valid 15 minutes)")
    if keys.exists():
        talk(f"  Keys   {printable(str(keys))}  (take them, then delete the file)")
        talk(f"  Send   {program()} send hello -p name=world{there}")
    if not loopback(application.settings.server.host) and keys.exists():
        talk(f"warning: other machines can reach this server, and its first keys still lie in {printable(str(keys))}")
        talk("fix: put the keys where you keep secrets, then delete the file")
    talk("Ctrl+C stops.")


async def _say_alone(settings: Settings, url: str) -> None:
    """What a person needs to know of a gateway that is alone."""
    if not settings.server.keys:
        talk("warning: no key is configured, so nobody can call this gateway")
        talk(f"fix: {program()} keys config --scope chat makes one, and prints the lines for [[server.keys]]")
    if not settings.gateway.providers:
        talk("warning: no provider is configured")
        talk(f"fix: add [[gateway.providers]]; {program()} serve --print-config shows how")
    if not sys.stderr.isatty():
        return
    models = ", ".join(route.model for route in settings.gateway.routes) or "every model of every provider"
    talk(f"leeward serves the gateway alone: {url}/v1  ({printable(models)})")
    talk("Ctrl+C stops.")


def _there(url: str, data_dir: Path) -> str:
    """The option by which another command finds this server, if it would not by itself."""
    if url.endswith(f":{PORT_DEFAULT}") and str(data_dir) == find.data_dir(os.environ):
        return ""
    return f" --host {url}" if loopback(url) else f" --data-dir {printable(shlex.quote(str(data_dir)))}"


def _in_words(event: str, fields: dict[str, Any], /) -> None:
    """The server's log for a person: troubles only, each with its reason and cure."""
    if event in _NO_TROUBLE:
        return
    found = {name: fields[name] for name in ("path", "reason", "error", "was") if fields.get(name)}
    reasons = [
        f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
        for value in found.values()
    ]
    try:
        talk(printable(": ".join([f"warning: {event.replace('_', ' ')}", *reasons])))
        if fields.get("fix"):
            talk(f"fix: {printable(str(fields['fix']))}")
    except (OSError, ValueError):
        pass  # boundary: the terminal is gone; events must be taken all the same
