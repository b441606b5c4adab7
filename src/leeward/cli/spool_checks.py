"""What `leeward doctor` looks at where clients' events wait: whether they can, how many do, what was refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from leeward.cli.causes import in_words
from leeward.cli.check import Check
from leeward.cli.spools import Destination, destinations
from leeward.cli.terminal import byte_text
from leeward.journal.mounts import is_on_network
from leeward.journal.spool_home import SPOOL_BYTES_MAX
from leeward.settings import find

__all__ = ["look_spool"]

NEARLY_FULL: Final = 0.8
_ELSEWHERE: Final = "export LEEWARD_SPOOL_DIR=FOLDER names one on a local disk"


def look_spool(host: str, keys: Collection[str], environ: Mapping[str, str]) -> Iterator[Check]:
    """The folder, what waits in it for this host and one of these keys, what the server refused, what is for others."""
    named = find.spool_dir(environ)
    if named is None:
        yield Check("spool", "warn", "this user has no home: events wait in memory only", _ELSEWHERE)
        return
    root = Path(named)
    if is_on_network(named):  # looked at no further: it may hang
        kept = "may stall" if environ.get("LEEWARD_SPOOL_DIR") else "is not used: events wait in memory only"
        yield Check("spool", "warn", f"{root} is on a network file system, and {kept}", _ELSEWHERE)
        return
    found = list(destinations(root))
    own = [destination for destination in found if any(destination.is_for(host, key) for key in keys)]
    yield _place(root) or _own(root, own)
    yield from (_set_aside(destination) for destination in found if destination.set_aside.events)
    yield from _others(root, [destination for destination in found if destination not in own])


def _place(root: Path) -> Check | None:
    """What keeps clients from writing there, or nothing."""
    existing = next(path for path in (root, *root.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        detail = f"{existing} cannot be written to: events wait in memory only"
        return Check("spool", "fail", detail, f"give it to this user; or {_ELSEWHERE}")
    free = shutil.disk_usage(existing).free
    if free < SPOOL_BYTES_MAX:
        detail = f"{byte_text(free)} are free in {existing}, and a client may need {byte_text(SPOOL_BYTES_MAX)}"
        return Check("spool", "warn", detail, f"make room; or {_ELSEWHERE}")
    return None


def _own(root: Path, own: Iterable[Destination]) -> Check:
    """What waits for the server that is looked at."""
    waiting = sum(destination.all.events for destination in own)
    left = sum(destination.left.events for destination in own)
    size = sum(destination.all.payload_bytes for destination in own)
    if not waiting:
        return Check("spool", "ok", f"nothing waits for this host and key in {root}")
    detail = f"{_events(waiting)} for this host and key in {root}, {byte_text(size)} of {byte_text(SPOOL_BYTES_MAX)}"
    if size >= NEARLY_FULL * SPOOL_BYTES_MAX:
        return Check("spool", "warn", f"{detail}: soon the oldest are dropped", "see above why they do not leave")
    if left:
        return Check("spool", "warn", f"{detail}, left by programs that ended", "leeward spool flush")
    return Check("spool", "ok", detail)


def _set_aside(destination: Destination) -> Check:
    """What the server refused, and the cure for the most frequent reason."""
    aside = destination.set_aside
    causes = sorted(aside.causes, key=aside.causes.__getitem__, reverse=True)
    problem, fix = in_words(causes[0])
    told = ", ".join(f"{aside.causes[name]:,} {name}" for name in causes)
    detail = f"{destination.host or 'a server'} refused {_events(aside.events, verb='')}({told}): {problem}"
    return Check("set aside", "warn", detail, f"{fix}; they lie in {aside.file}, leeward spool clear deletes them")


def _others(root: Path, others: Iterable[Destination]) -> Iterator[Check]:
    """What waits for other hosts and keys: no program of this destination will send it."""
    left = [destination for destination in others if destination.left.events]
    count = sum(destination.left.events for destination in left)
    if not count:
        return
    size = sum(destination.left.payload_bytes for destination in left)
    yield Check(
        "spools",
        "warn",
        f"{_events(count)} ({byte_text(size)}) for another host or key in {root}",
        "leeward spool status lists them; they leave when a program with that host and key runs, or by spool flush",
    )


def _events(count: int, verb: str = "wait") -> str:
    if count == 1:
        return f"1 event {verb + 's' if verb else ''}"
    return f"{count:,} events {verb}"
