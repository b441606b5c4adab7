"""The work of `leeward spool`: look at what waits, send it, delete it. Imported when one of them runs.

Promises  a living process's events are its own: they are neither sent nor deleted here. What is sent goes to the host
          that it waits for, and only with the key that it was captured with.
"""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from leeward.cli.causes import in_words
from leeward.cli.connection import SCOPES, target_of
from leeward.cli.consent import switched_off_by
from leeward.cli.spools import Destination, Waiting, destinations, look_at
from leeward.cli.terminal import byte_text, confirm, json_text, printable, show, table, talk
from leeward.clock import SystemClock
from leeward.errors import LeewardError
from leeward.journal.spool_home import SPOOL_BYTES_MAX
from leeward.sender.client import Client
from leeward.sender.config import HOST_DEFAULT
from leeward.sender.limits import AGE_MAX_S
from leeward.sender.results import Counts
from leeward.sender.spool import Spool
from leeward.settings import find

__all__ = ["clear", "flush", "status"]

SLICE_S: Final = 3.0  # a server that took nothing in this time, and whose failure is known, is not waited for
END_S: Final = 1.0
DAY_S: Final = 86_400


def _root(spool_dir: str | None) -> Path:
    folder = spool_dir or find.spool_dir(os.environ)
    if folder is None:
        raise LeewardError(
            "this user has no home, and so no spool",
            code="no_spool",
            where="--spool-dir or LEEWARD_SPOOL_DIR",
            fix="name the folder with --spool-dir FOLDER",
        )
    return Path(folder)


def _sorted(root: Path) -> list[Destination]:
    return sorted(destinations(root), key=lambda destination: (destination.host, destination.wire, destination.folder))


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"


def _named(destination: Destination) -> str:
    """A destination in words."""
    host = destination.host or f"an unknown host ({destination.folder.name})"
    return f"{destination.wire} {host}" + (f" ({destination.app})" if destination.app else "")


# Look


def status(*, spool_dir: str | None, as_json: bool) -> None:
    """Show what waits, for which host, since when, and whose it is."""
    root = _root(spool_dir)
    found = _sorted(root)
    if as_json:
        show(json_text(json.dumps(_status_document(root, found))))
        return
    shown = [destination for destination in found if not destination.is_empty]
    for destination in shown:
        _show_destination(destination)
    if not shown:
        show(f"nothing waits in {printable(str(root))}")
        return
    if any(destination.left.events for destination in shown):
        talk("leeward spool flush sends what ended processes left, leeward spool clear deletes it")
    talk(f"a destination keeps {byte_text(SPOOL_BYTES_MAX)} and {AGE_MAX_S / DAY_S:.0f} days; the oldest goes first")


def _show_destination(destination: Destination) -> None:
    show(printable(_named(destination)))
    rows = [(*_row(spool), f"{spool.pid}, runs") for spool in destination.living]
    ended = [spool for spool in destination.spools if not spool.alive and (spool.events or spool.unread)]
    if ended:
        who = f"{ended[0].pid}, has ended" if len(ended) == 1 else f"{len(ended):,} processes that ended"
        rows.append((*_row(destination.left), who))
    if rows:
        for line in table(rows, ("errors", "rest", "size", "oldest", "process")):
            show(f"  {line}")
    if destination.all.unread:
        talk("  there is more, which the disk does not give: look who owns the files")
    aside = destination.set_aside
    if aside.events:
        causes = ", ".join(f"{count:,} {cause}" for cause, count in sorted(aside.causes.items()))
        show(f"  set aside: {printable(causes)}  {printable(str(aside.file))}")


def _row(spool: Waiting) -> tuple[str, str, str, str]:
    return f"{spool.errors:,}", f"{spool.rest:,}", byte_text(spool.payload_bytes), _minute(spool.oldest_at)


def _minute(time_ms: int | None) -> str:
    if time_ms is None:
        return "-"
    return f"{datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC).astimezone():%Y-%m-%d %H:%M}"


def _status_document(root: Path, found: Iterable[Destination]) -> dict[str, Any]:
    listed: list[dict[str, Any]] = [
        {
            "wire": destination.wire,
            "host": destination.host,
            "app": destination.app,
            "folder": str(destination.folder),
            "errors": destination.all.errors,
            "rest": destination.all.rest,
            "bytes": destination.all.payload_bytes,
            "oldest_at": destination.all.oldest_at,
            "spools": [
                {
                    "pid": spool.pid,
                    "alive": spool.alive,
                    "errors": spool.errors,
                    "rest": spool.rest,
                    "bytes": spool.payload_bytes,
                    "oldest_at": spool.oldest_at,
                    "unread": spool.unread,
                }
                for spool in destination.spools
            ],
            "set_aside": destination.set_aside.causes,
        }
        for destination in found
    ]
    return {
        "root": str(root),
        "limits": {"bytes": SPOOL_BYTES_MAX, "age_s": int(AGE_MAX_S)},
        "waiting": sum(one["errors"] + one["rest"] for one in listed),
        "set_aside": sum(sum(one["set_aside"].values()) for one in listed),
        "destinations": listed,
    }


# Send


class _Sent(NamedTuple):
    """What came of one destination; `problem` and `fix` say why something is left."""

    destination: Destination
    sent: int = 0
    dropped: int = 0
    set_aside: int = 0
    left: int = 0
    cause: str = ""
    problem: str = ""
    fix: str = ""


def flush(*, timeout_s: float, spool_dir: str | None, as_json: bool, **connection: str | None) -> None:
    """Send what ended processes left, to the host that it waits for."""
    root = _root(spool_dir)
    _refuse_if_switched_off()
    target = target_of(**connection, environ=os.environ)
    host = (connection["host"] or "").rstrip("/")
    keys = [target.key, *(first[0] for scope in SCOPES if (first := target.first_key(scope)) is not None), ""]
    hosts = (host, target.url, HOST_DEFAULT)
    deadline_s = time.monotonic() + timeout_s
    results = []
    for destination in _sorted(root):
        if host and destination.host and destination.host != host:
            continue
        _talk_of_living(destination, "sends them itself")
        if not destination.left.events:
            continue
        known = _known(destination, hosts, keys)
        if known is None:
            results.append(_without_key(destination, given=bool(connection["key"])))
        else:
            talk(f"sending {_events(destination.left.events)}: {printable(_named(destination))}")
            results.append(_send(destination, *known, root, deadline_s))
        if not as_json:
            _show_sent(results[-1])
    if as_json:
        show(json_text(json.dumps(_sent_document(results))))
    elif not results:
        show(
            f"nothing of ended processes waits in {printable(str(root))}" + (f" for {printable(host)}" if host else "")
        )
    _fail_if_left(results)


def _refuse_if_switched_off() -> None:
    """A command must not send what the person at this machine has switched off."""
    off = switched_off_by(os.environ)
    if off is not None:
        raise LeewardError(
            "telemetry is switched off on this machine, and nothing is sent",
            code="opted_out",
            where=off.by,
            fix=f"{off.fix}, and run this again; or delete what waits: leeward spool clear",
        )


def _known(destination: Destination, hosts: Iterable[str], keys: Iterable[str]) -> tuple[str, str] | None:
    """Host and key of a destination, if we have them: the digest in its name proves that they are its own."""
    candidates = [destination.host] if destination.host else [host for host in hosts if host]
    return next(((host, key) for host in candidates for key in keys if destination.is_for(host, key)), None)


def _send(destination: Destination, host: str, key: str, root: Path, deadline_s: float) -> _Sent:
    """Have a real client of that destination adopt and send what is left, as any program would."""
    client = Client(
        key, host, wire=destination.wire, app=destination.app, spool_dir=str(root), disabled=False, device_id=False
    )
    while (left_s := deadline_s - time.monotonic()) > 0:
        flushed = client.flush(min(SLICE_S, left_s))
        if not flushed.delivered and (client.stats().last_error or not flushed.spooled):
            break
    client.shutdown(END_S)
    stats, after = client.stats(), look_at(destination.folder)
    left = after.left.events + sum(spool.events for spool in after.living if spool.pid == os.getpid())
    cause = "" if not left else stats.last_error or ("held" if time.monotonic() < deadline_s else "")
    problem, fix = in_words(cause) if left else ("", "")
    return _Sent(
        destination,
        sent=stats.delivered,
        dropped=sum(stats.dropped.values()),
        set_aside=stats.quarantined,
        left=left,
        cause=cause,
        problem=problem,
        fix=fix,
    )


def _without_key(destination: Destination, *, given: bool) -> _Sent:
    """Nothing was tried: the key is not known here."""
    host = destination.host or "URL"
    return _Sent(
        destination,
        left=destination.left.events,
        cause="key_unknown",
        problem="they were captured with another key" if given else "their key is not known here",
        fix=f"leeward spool flush --host {host} --key KEY, with the key that the program used",
    )


def _show_sent(result: _Sent) -> None:
    parts = [f"{result.sent:,} sent"]
    parts += [f"{result.dropped:,} dropped"] if result.dropped else []
    parts += [f"{result.set_aside:,} refused and set aside"] if result.set_aside else []
    parts += [f"{result.left:,} left"] if result.left else []
    show(f"{', '.join(parts)}  {printable(_named(result.destination))}")


def _sent_document(results: Iterable[_Sent]) -> dict[str, Any]:
    names = ("sent", "dropped", "set_aside", "left")
    listed: list[dict[str, Any]] = [
        {
            "wire": result.destination.wire,
            "host": result.destination.host,
            "app": result.destination.app,
            **{name: getattr(result, name) for name in (*names, "cause", "problem", "fix")},
        }
        for result in results
    ]
    return {**{name: sum(one[name] for one in listed) for name in names}, "destinations": listed}


def _fail_if_left(results: Iterable[_Sent]) -> None:
    """One destination's reason is the error; of several, each gets a line before it."""
    failed = [result for result in results if result.left]
    if not failed:
        return
    if len(failed) > 1:
        for result in failed:
            talk(f"{printable(_named(result.destination))}: {result.problem}")
            talk(f"  fix: {printable(result.fix)}")
        count = sum(result.left for result in failed)
        raise LeewardError(f"{_events(count)} are left", code="events_left", fix="see the lines above")
    (one,) = failed
    verb = "is" if one.left == 1 else "are"
    where = one.destination.host or str(one.destination.folder)
    raise LeewardError(f"{_events(one.left)} {verb} left: {one.problem}", code="events_left", where=where, fix=one.fix)


# Delete


def clear(*, host: str | None, yes: bool, dry_run: bool, spool_dir: str | None, as_json: bool) -> None:
    """Delete what ended processes left and what was set aside."""
    root = _root(spool_dir)
    wanted = (host or "").rstrip("/")
    found = [one for one in _sorted(root) if not wanted or one.host == wanted]
    for destination in found:
        _talk_of_living(destination, "keeps them")
    doomed = [one for one in found if one.left.events or one.set_aside.events]
    for destination in doomed:
        aside = destination.set_aside.events
        more = f", and {_events(aside)} that the server refused" if aside else ""
        talk(
            f"This deletes {_events(destination.left.events)} that wait "
            f"({byte_text(destination.left.payload_bytes)}){more}: {printable(_named(destination))}"
        )
    if doomed and not dry_run:
        confirm(f"deleting {_events(sum(map(_deletable, doomed)))}", yes=yes)
    deleted = {one.folder: _deletable(one) if dry_run else _delete(one) for one in doomed}
    left = 0 if dry_run else sum(_deletable(look_at(one.folder)) for one in doomed)
    count = sum(deleted.values())
    if as_json:
        listed = [
            {"wire": one.wire, "host": one.host, "app": one.app, "deleted": deleted[one.folder]} for one in doomed
        ]
        show(json_text(json.dumps({"deleted": count, "left": left, "dry_run": dry_run, "destinations": listed})))
    else:
        show(f"{_events(count)} would be deleted" if dry_run else f"{_events(count)} deleted")
    if left:
        raise LeewardError(
            f"{_events(left)} could not be deleted",
            code="events_left",
            where=str(root),
            fix="another process has them in its hands, or they are not this user's: look who owns the files",
        )


def _deletable(destination: Destination) -> int:
    return destination.left.events + destination.set_aside.events


def _delete(destination: Destination) -> int:
    """Have the client's own spool clear its folder: it knows what is whose."""
    spool = Spool(str(destination.folder), counts=Counts(), clock=SystemClock(), about={})
    deleted = spool.clear()
    spool.close()
    return deleted


def _talk_of_living(destination: Destination, what: str) -> None:
    for spool in destination.living:
        if spool.events:
            talk(f"pid {spool.pid} runs, has {_events(spool.events)} and {what}: {printable(_named(destination))}")
