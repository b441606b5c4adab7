"""What clients left in spools of other destinations. Looks only: nothing is adopted, written or removed.

A destination is one wire, host, key and user, and its folder a digest of them: which host and key it was cannot be read
from it. Spools of living processes are passed over, they are being sent. Without a folder there is nothing to say.
Limits    `SPOOLS_READ_MAX` spools are read, each of at most 64 MiB; `cut` says that there were more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from leeward.journal.owner import owner_of
from leeward.journal.spool import readers_of
from leeward.sender.config import configure
from leeward.settings import find

__all__ = ["Left", "left_behind"]

SPOOLS_READ_MAX: Final = 100


class Left(NamedTuple):
    """What waits below a spool root for other destinations."""

    root: Path
    events: int
    payload_bytes: int
    cut: bool


def left_behind(host: str, keys: Iterable[str], environ: Mapping[str, str]) -> Left | None:
    """Count what waits for any other host, or key than these; None if there is no spool at all."""
    folder = find.spool_dir(environ)
    if folder is None or not Path(folder).is_dir():
        return None
    own = {configure({}, api_key=key, host=host, disabled=False, spool_dir=folder).folder for key in keys}
    events = payload_bytes = 0
    for count, directory in enumerate(_spools(Path(folder), own)):
        if count == SPOOLS_READ_MAX:
            return Left(Path(folder), events, payload_bytes, cut=True)
        for reader in readers_of(str(directory)):
            found = reader.pending()
            events, payload_bytes = events + found[0], payload_bytes + found[1]
    return Left(Path(folder), events, payload_bytes, cut=False)


def _spools(root: Path, own: Collection[str]) -> Iterator[Path]:
    """The dead processes' spools of all destinations but those."""
    for lock in sorted(root.glob("*/*/lock")):
        owner = owner_of(str(lock))
        if str(lock.parent.parent) not in own and (owner is None or not owner.is_alive()):
            yield lock.parent
