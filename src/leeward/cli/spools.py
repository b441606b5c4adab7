"""What waits on this machine, destination by destination. Looks only: nothing is adopted, written or removed.

A destination is one wire, host, key and user, and its folder a digest of them. Host and application stand inside in
words, for whoever looks; which key it was cannot be read, but whoever has it can tell (`Destination.is_for`).
Limits    a snapshot: living processes go on while one looks, and what they hold in memory is not seen. Every spool is
          read, at most 64 MiB a destination.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from leeward.journal.owner import owner_of
from leeward.journal.spool import owner_in, readers_of
from leeward.sender.config import WIRES, configure
from leeward.sender.quarantine import QUARANTINE_NAME
from leeward.sender.spool import ABOUT_NAME

__all__ = ["Destination", "SetAside", "Waiting", "destinations", "look_at"]

ABOUT_BYTES_MAX: Final = 64 * 1024
_lstat: Final = os.lstat
_CAUSE: Final = b'{"cause":"'


class Waiting(NamedTuple):
    """What waits in spools: of one process, or of several together."""

    pid: int
    alive: bool
    errors: int
    rest: int
    payload_bytes: int
    oldest_at: int | None  # when the oldest file of it was last written, in milliseconds: after 7 days it is deleted
    unread: bool  # there is more, which the disk does not give

    @property
    def events(self) -> int:
        """Errors and the rest."""
        return self.errors + self.rest


class SetAside(NamedTuple):
    """What the server refused as a whole."""

    file: Path
    causes: dict[str, int]

    @property
    def events(self) -> int:
        """How many."""
        return sum(self.causes.values())


class Destination(NamedTuple):
    """What waits for one host and key; host and app are empty if nobody says."""

    folder: Path
    wire: str
    host: str
    app: str
    spools: tuple[Waiting, ...]
    set_aside: SetAside

    @property
    def living(self) -> tuple[Waiting, ...]:
        """Of processes that run."""
        return tuple(spool for spool in self.spools if spool.alive)

    @property
    def left(self) -> Waiting:
        """Of all processes that have ended, together."""
        return _sum([spool for spool in self.spools if not spool.alive])

    @property
    def all(self) -> Waiting:
        """Of all processes together."""
        return _sum(self.spools)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to say about it."""
        return not (self.living or self.left.events or self.left.unread or self.set_aside.events)

    def is_for(self, host: str, key: str) -> bool:
        """Whether this host and key are its own: then the digest is the same."""
        own = configure({}, api_key=key, host=host, wire=self.wire, disabled=False, spool_dir=str(self.folder.parent))
        return own.folder == str(self.folder)


def destinations(root: Path) -> Iterator[Destination]:
    """All below a spool root, one after the other; of other users' nothing is seen."""
    for folder in _folders(root):
        if folder.name.partition("-")[0] in WIRES and folder.is_dir() and not folder.is_symlink():
            yield look_at(folder)


def look_at(folder: Path) -> Destination:
    """One destination, as it is now."""
    about = _about(folder)
    return Destination(
        folder=folder,
        wire=folder.name.partition("-")[0],
        host=about.get("host", ""),
        app=about.get("app", ""),
        spools=tuple(found for directory in _folders(folder) if (found := _waiting(directory)) is not None),
        set_aside=_set_aside(folder),
    )


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _about(folder: Path) -> dict[str, str]:
    """What a client wrote about its destination; nothing if that cannot be read."""
    try:
        with _opened(folder / ABOUT_NAME) as file:
            document = json.loads(file.read(ABOUT_BYTES_MAX))
    except (OSError, ValueError):
        return {}
    fields: dict[str, Any] = document if isinstance(document, dict) else {}
    return {name: value for name, value in fields.items() if isinstance(value, str)}


def _waiting(directory: Path) -> Waiting | None:
    """What one process has left to send; None if that folder is no spool. Who adopted it stands for who made it."""
    named = owner_in(directory.name)
    if named is None:
        return None
    owner = owner_of(str(directory / "lock"))
    alive = owner is not None and owner.is_alive()
    readers = readers_of(str(directory))
    (errors, error_bytes), (rest, rest_bytes) = (reader.pending() for reader in readers)
    return Waiting(
        pid=owner.pid if owner is not None and alive else named.pid,
        alive=alive,
        errors=errors,
        rest=rest,
        payload_bytes=error_bytes + rest_bytes,
        oldest_at=_oldest_at(directory) if errors or rest else None,
        unread=any(reader.unread for reader in readers),
    )


def _oldest_at(directory: Path) -> int | None:
    times = []
    for path in directory.glob("*/*.seg"):
        try:
            times.append(int(_lstat(path).st_mtime * 1000))
        except OSError:
            continue  # delivered meanwhile
    return min(times, default=None)


def _set_aside(folder: Path) -> SetAside:
    """The events that were refused, by cause."""
    path = folder / QUARANTINE_NAME
    causes: dict[str, int] = {}
    try:
        with _opened(path) as file:
            for line in file:
                told = line[len(_CAUSE) :].partition(b'"')[0] if line.startswith(_CAUSE) else b""
                cause = told.decode("ascii", "replace") or "unknown"
                causes[cause] = causes.get(cause, 0) + 1
    except OSError:
        pass  # there is none, or it was cleared away just now
    return SetAside(path, causes)


def _opened(path: Path) -> BinaryIO:
    """A file of the client's, never through a symbolic link, and without waiting for whoever writes into a pipe."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _sum(spools: Collection[Waiting]) -> Waiting:
    return Waiting(
        pid=0,
        alive=False,
        errors=sum(spool.errors for spool in spools),
        rest=sum(spool.rest for spool in spools),
        payload_bytes=sum(spool.payload_bytes for spool in spools),
        oldest_at=min((spool.oldest_at for spool in spools if spool.oldest_at is not None), default=None),
        unread=any(spool.unread for spool in spools),
    )
