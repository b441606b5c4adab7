"""`leeward demo`: a server with two simulated providers, and a small application that asks and reports to it.

Nothing is to be set up, and nothing of a leeward.toml's gateway is used: nobody's provider is called. Its data is apart
from any real server's, in a folder that bears the demo's mark; `--reset` removes no other folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from leeward.cli import running
from leeward.cli.connection import first_keys, load_settings
from leeward.cli.form import Within, command as make
from leeward.cli.terminal import Session, byte_text, confirm, printable, program, show, talk
from leeward.errors import ConfigError
from leeward.settings import find
from leeward.version import VERSION

if TYPE_CHECKING:
    from leeward.settings.load import Loaded

__all__ = ["MARK", "command"]

MARK: Final = "demo.txt"
FOLDER: Final = "demo"
PORTS_TRIED_MAX: Final = 20


@make("demo", "leeward demo", "leeward demo --reset")
@click.option("--port", metavar="NUMBER", type=Within(0, 65535), help="TCP port; 0 takes a free one [5330].")
@click.option("--data-dir", metavar="FOLDER", help="Where its data is [demo in the user's data directory].")
@click.option("--verbose", is_flag=True, help="Show the server's log too.")
@click.option("--reset", is_flag=True, help="Remove the demo's data, and end.")
@click.option("--yes", is_flag=True, help="With --reset: do not ask.")
@click.option("--dry-run", is_flag=True, help="With --reset: say what would be removed, and end.")
@click.pass_obj
def command(
    session: Session, *, port: int | None, data_dir: str | None, verbose: bool, reset: bool, yes: bool, dry_run: bool
) -> None:
    """Watch leeward work, with nothing to set up."""
    directory = _directory(data_dir)
    if reset:
        _reset(directory, yes=yes, dry_run=dry_run)
        return
    session.stops_cleanly = True
    _mark(directory)
    options = {"server.host": "127.0.0.1", "server.port": port, "server.data_dir": str(directory)}
    loaded = load_settings({**options, "storage.url": "embedded"}, None, os.environ)
    _run(loaded, directory, verbose=verbose)


def _directory(data_dir: str | None) -> Path:
    if data_dir is not None:
        return Path(data_dir).expanduser()
    folder = find.data_dir(os.environ)
    if folder is None:
        raise ConfigError("there is no home directory to keep the demo's data in", fix="leeward demo --data-dir FOLDER")
    return Path(folder) / FOLDER


def _mark(directory: Path) -> None:
    """Make the folder, or see that it is the demo's."""
    mark = directory / MARK
    if mark.exists():
        return
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError(
            "this folder holds something that is not the demo's",
            code="not_a_demo",
            where=str(directory),
            fix="leeward demo --data-dir FOLDER, with a folder that is empty or new",
        )
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    mark.write_text("The data of leeward demo. `leeward demo --reset` removes this folder.\n", encoding="utf-8")


def _run(loaded: Loaded, directory: Path, *, verbose: bool) -> None:
    from leeward.cli.hosting import host
    from leeward.cli.keyless import try_listen
    from leeward.cli.keypress import can_listen

    listener = _listen(loaded)
    keyless_listener = try_listen()

    from leeward.cli.demo_server import DemoServer
    from leeward.server.logs import json_lines, quiet

    server = DemoServer(loaded.settings, directory, json_lines() if verbose else quiet)

    async def ready(url: str) -> None:
        keys, listens = _keys(directory), can_listen()
        link = await server.control.create_sign_in_link(scope="admin")  # the page has a switch, too
        _say_ready(url, link, keys["chat"], directory, takes_otlp=keyless_listener is not None, listens=listens)
        draws = sys.stderr.isatty() and not verbose
        server.begin(url, keys, takes_otlp=keyless_listener is not None, listens=listens, draws=draws)

    try:
        host(server, listener, ready, further=[keyless_listener] if keyless_listener else ())
    finally:
        server.join()
    talk("stopped; the data stays for the next time")


def _keys(directory: Path) -> dict[str, str]:
    keys = first_keys(directory)
    if not {"write", "chat"} <= keys.keys():
        raise ConfigError("the demo's keys are gone", code="no_key", where=str(directory), fix="leeward demo --reset")
    return keys


def _listen(loaded: Loaded) -> socket.socket:
    """The port of the settings; if nobody asked for it and it is taken, the next free one."""
    from leeward.cli.hosting import bind_or_explain

    server = loaded.settings.server
    asked = loaded.origins["server.port"] != "default"
    try:
        return bind_or_explain(server.host, server.port, "demo")
    except ConfigError as error:
        if asked:
            raise
        for port in range(server.port + 1, server.port + PORTS_TRIED_MAX):
            try:
                listener = bind_or_explain(server.host, port, "demo")
            except ConfigError:
                continue
            talk(f"{error.message}; this demo takes {port}")
            return listener
        raise


def _say_ready(url: str, secret: str, key: str, directory: Path, *, takes_otlp: bool, listens: bool) -> None:
    from leeward.cli.demo_server import PRIMARY, SWITCH_KEY
    from leeward.cli.keyless import OTLP_PORT
    from leeward.cli.traffic import MODEL

    leeward = program()
    there = "" if url.endswith(":5330") else f" --host {url}"
    cut = f"{leeward} chaos set {PRIMARY} 503{there}"
    question = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    rows = (
        ("Open", f"{url}/login/{secret}", "signs you in once; valid 15 minutes"),
        ("Break it", f'press {SWITCH_KEY} to cut provider "{PRIMARY}"; watch nothing get lost' if listens else cut, ""),
        *((("", cut, "from elsewhere; or on the page Providers"),) if listens else ()),
        ("Talk", f"curl {url}/v1/chat/completions -H 'Authorization: Bearer {key}' -d '{question}'", ""),
        ("Watch", f"{leeward} query --follow{there}", ""),
        ("Ask", f"{leeward} query --kind span{there}", "each request, and each call to a provider"),
        ("Send yours", f"{leeward} send hello -p name=world{there}", ""),
        ("", f"{leeward} connect sentry | posthog | otel | langfuse | openai{there}", "the lines for your SDK"),
        *(
            (("", f"http://127.0.0.1:{OTLP_PORT}", "OpenTelemetry with its defaults, no key needed here"),)
            if takes_otlp
            else ()
        ),
        ("API", f"{url}/docs", ""),
    )
    talk(f"leeward {VERSION} demo: two simulated providers, real traffic through client, gateway and server")
    for name, what, note in rows:
        talk(f"  {name.ljust(11)} {what}" + (f"  ({note})" if note else ""))
    elsewhere = "" if directory == _directory(None) else f" --data-dir {printable(shlex.quote(str(directory)))}"
    talk(f"Ctrl+C stops.  Data in {_short(directory)} ({leeward} demo --reset{elsewhere} removes it).")


def _short(directory: Path) -> str:
    """The folder as a person writes it."""
    home = os.environ.get("HOME", "")
    text = str(directory)
    return printable("~" + text[len(home) :] if home and text.startswith(home + os.sep) else text)


# Reset


def _reset(directory: Path, *, yes: bool, dry_run: bool) -> None:
    if not directory.exists():
        talk(f"there is no demo data in {_short(directory)}")
        return
    if not (directory / MARK).exists():
        raise ConfigError(
            f"this folder has no {MARK}: it is not the demo's, and is left alone",
            code="not_a_demo",
            where=str(directory),
            fix="leeward demo --reset --data-dir FOLDER, with the demo's folder",
        )
    other = running.of_data_dir(directory, os.environ)
    if other is not None:
        raise ConfigError(
            f"the demo is running (pid {other.pid}, at {other.url})",
            code="log_in_use",
            where=str(directory),
            fix=f"stop it first: kill {other.pid}",
        )
    files = [path for path in directory.rglob("*") if path.is_file()]
    size = byte_text(sum(path.stat().st_size for path in files))
    talk(f"This removes {_short(directory)}: {len(files):,} files, {size}")
    if dry_run:
        return
    confirm("removing the demo's data", yes=yes)
    shutil.rmtree(directory)
    show(f"removed {printable(str(directory))}")
