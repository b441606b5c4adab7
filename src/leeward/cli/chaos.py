"""`leeward chaos`: switch a provider's faults on and off at a running server, or run a simulated provider alone."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from leeward.cli.form import Within, connection_options, group
from leeward.cli.terminal import Session, json_text, printable, show, table, talk
from leeward.errors import ConfigError, LeewardError

if TYPE_CHECKING:
    from leeward.cli.api import Api
    from leeward.gateway.simulated import SimulatedProvider

FOR_S: Final = 60
DAY_S: Final = 86_400


@group("chaos", "leeward chaos set primary 503", "leeward chaos serve --port 9001 --fault stall")
def command() -> None:
    """Break a provider on purpose, to see that answers keep coming."""


def _api(connection: dict[str, str | None]) -> Api:
    from leeward.cli.connection import target_of

    return target_of(
        host=connection["host"],
        key=connection["key"],
        data_dir=connection["data_dir"],
        config=connection["config"],
        environ=os.environ,
    ).api("admin")


def _complete_provider(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of providers, for the shell; nothing when they cannot be had."""
    try:
        found = _api(dict.fromkeys(("host", "key", "data_dir", "config"))).get("/api/chaos").document()
        return [each["provider"] for each in found["providers"] if each["provider"].startswith(incomplete)]
    except (LeewardError, OSError):
        return []


def _complete_fault(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from leeward.gateway.faults import FAULTS

    return [mode for mode in FAULTS if mode.startswith(incomplete)]


@command.own("list", "leeward chaos list", "leeward chaos list --json | jq '.providers[].fault'")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="count, providers and faults.")
def list_chaos(*, as_json: bool, **connection: str | None) -> None:
    """List the providers, and what each of them does wrong now."""
    found = _api(connection).get("/api/chaos").document()
    if as_json:
        show(json_text(json.dumps(found)))
        return
    for line in table([_row(each) for each in found["providers"]], ("provider", "kind", "fault", "ends in", "calls")):
        show(line)
    if not found["providers"]:
        talk("there is no provider that can be broken: simulated ones can, real ones with [gateway] chaos = true")


@command.own("faults", "leeward chaos faults", "leeward chaos faults --json | jq 'keys'")
@click.option("--json", "as_json", is_flag=True, help="An object: each fault and what it does.")
def list_faults(*, as_json: bool) -> None:
    """List what a provider can do wrong."""
    from leeward.gateway.faults import FAULTS

    if as_json:
        show(json_text(json.dumps({mode: row.sentence for mode, row in FAULTS.items()})))
        return
    for line in table([(mode, row.sentence) for mode, row in FAULTS.items()]):
        show(line)


@command.own("set", "leeward chaos set primary 503", "leeward chaos set primary 429 --retry-after 20 --for 120")
@click.argument("provider", metavar="PROVIDER", shell_complete=_complete_provider)
@click.argument("fault", metavar="FAULT", shell_complete=_complete_fault)
@click.option(
    "--for",
    "for_s",
    type=Within(1, DAY_S),
    default=FOR_S,
    metavar="SECONDS",
    help=f"When it ends by itself [{FOR_S}].",
)
@click.option("--retry-after", "retry_after_s", type=Within(0, DAY_S), metavar="SECONDS", help="Of a 429 [20] or 503.")
@click.option("--delay", "delay_s", type=Within(0, DAY_S), metavar="SECONDS", help="Of slow and slow-first-token [5].")
@click.option(
    "--after", "after_events", type=Within(0, 10**6), metavar="N", help="Pieces of an answer before it breaks [3]."
)
@click.option("--percent", type=Within(1, 100), metavar="N", help="How many of the calls it meets [100].")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="The provider as it is now.")
def set_chaos(
    *,
    provider: str,
    fault: str,
    for_s: int,
    retry_after_s: int | None,
    delay_s: int | None,
    after_events: int | None,
    percent: int | None,
    as_json: bool,
    **connection: str | None,
) -> None:
    """Switch a fault of a provider on, for a while."""
    share = None if percent is None else percent / 100
    numbers = {"retry_after_s": retry_after_s, "delay_s": delay_s, "after_events": after_events, "share": share}
    wanted = {"fault": fault, "for_s": for_s} | {name: value for name, value in numbers.items() if value is not None}
    state = _api(connection).put(f"/api/chaos/{quote(provider, safe='')}", wanted).document()
    if as_json:
        show(json_text(json.dumps(state)))
        return
    _show([state])
    if not state["simulated"]:
        talk(f"its calls go to a simulated provider for {for_s} s; the real one is left alone")


@command.own("clear", "leeward chaos clear primary", "leeward chaos clear")
@click.argument("provider", metavar="[PROVIDER]", required=False, shell_complete=_complete_provider)
@connection_options
@click.option("--json", "as_json", is_flag=True, help="count, and the providers as they are now.")
def clear_chaos(*, provider: str | None, as_json: bool, **connection: str | None) -> None:
    """Switch the fault of a provider off, or all faults."""
    api = _api(connection)
    if provider is None:
        names = [each["provider"] for each in api.get("/api/chaos").document()["providers"] if each["fault"]]
    else:
        names = [provider]
    states = [api.delete(f"/api/chaos/{quote(name, safe='')}").document() for name in names]
    if as_json:
        show(json_text(json.dumps({"count": len(states), "providers": states})))
        return
    _show(states)
    if not states:
        talk("no provider had a fault")


def _show(states: list[dict[str, Any]]) -> None:
    for line in table([_row(state) for state in states]):
        show(line)


def _row(state: dict[str, Any]) -> tuple[str, str, str, str, str]:
    ends_in_s, share = state["ends_in_s"], state["share"]
    fault = state["fault"] or "none"
    if share is not None and share < 1:
        fault += f" ({share:.0%} of calls)"
    return (
        str(state["provider"]),
        "simulated" if state["simulated"] else "real",
        fault,
        "" if ends_in_s is None else f"{ends_in_s:.0f} s",
        str(state["calls"]),
    )


# A provider alone


@command.own("serve", "leeward chaos serve --port 9001", "leeward chaos serve --name primary --fault stall --json")
@click.option("--port", type=Within(0, 65535), default=9001, metavar="NUMBER", help="TCP port; 0: a free one [9001].")
@click.option("--name", default="simulated", metavar="NAME", help="How it calls itself in its answers [simulated].")
@click.option("--fault", metavar="FAULT", shell_complete=_complete_fault, help="What it does wrong [nothing].")
@click.option("--seed", type=Within(0, 2**31), default=0, metavar="N", help="Decides its words [0].")
@click.option("--words", type=Within(1, 100_000), default=24, metavar="N", help="Words of an answer [24].")
@click.option("--pace-ms", type=Within(0, 60_000), default=20, metavar="MS", help="Between two words of a stream [20].")
@click.option("--json", "as_json", is_flag=True, help="When ready, one line on stdout: base_url, pid, name, fault.")
@click.pass_obj
def serve_chaos(
    session: Session, *, port: int, name: str, fault: str | None, seed: int, words: int, pace_ms: int, as_json: bool
) -> None:
    """Run a simulated provider alone; Ctrl+C stops it."""
    import asyncio

    from leeward.gateway.simulated import SimulatedProvider

    session.stops_cleanly = True
    provider = SimulatedProvider(name, seed=seed, words=words, pace_s=pace_ms / 1000)
    try:
        provider.fault = fault
    except ConfigError as error:
        error.where = "--fault"
        raise
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_served(provider, port, as_json=as_json))


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


async def _served(provider: SimulatedProvider, port: int, *, as_json: bool) -> None:
    import asyncio

    try:
        await provider.start(port)
    except OSError as error:
        # asyncio's text repeats the address in its own form; the number says why.
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        raise ConfigError(
            f"port {port} cannot be used: {why}",
            code="address_taken",
            where="--port",
            fix=f"leeward chaos serve --port {port + 1 if port < 65535 else 0}, or --port 0 for a free one",
        ) from None
    fault = provider.fault
    facts = {
        "base_url": provider.base_url,
        "pid": os.getpid(),
        "name": provider.name,
        "fault": "" if fault is None else fault.mode,
    }
    if as_json:
        show(json_text(json.dumps(facts)))
        sys.stdout.flush()
    talk(f"simulated provider {printable(provider.name)} answers at {provider.base_url}")
    talk(f'  Point at it   base_url = "{provider.base_url}", any key, any model')
    talk(f"  Fault         {'none' if fault is None else fault.mode}")
    talk("Ctrl+C stops.")
    try:
        await asyncio.Event().wait()
    finally:
        await provider.stop()
        talk(f"stopped; calls: {provider.calls:,}")
