"""Which servers of this user run, and where: one small file a port, so that a command finds server and keys by itself.

A server notes itself in `<user's data directory>/running/<port>.json` (0600) when it is ready, and removes the note
when it stops. A note whose process is gone is passed over. Without a home there are no notes, and nothing fails.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from leeward.journal.owner import Owner
from leeward.settings import find

__all__ = ["Running", "forget", "note", "of_data_dir", "on_port"]

FOLDER: Final = "running"


class Running(NamedTuple):
    """A server that runs."""

    pid: int
    start: int
    port: int
    url: str
    data_dir: str

    @classmethod
    def this_process(cls, port: int, url: str, data_dir: Path) -> Running:
        """The note of the calling process."""
        owner = Owner.this_process()
        return cls(owner.pid, owner.start, port, url, str(data_dir.resolve()))


def note(running: Running, environ: Mapping[str, str]) -> None:
    """Write it down. Whoever reads meanwhile sees the old note or the new one, whole.

    A home that cannot be written to is none: the server runs all the same, its commands need --data-dir and --host.
    """
    folder = _folder(environ)
    if folder is None:
        return
    aside = folder / f"{running.port}.json.{running.pid}"
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(running._asdict(), file)
        aside.replace(folder / f"{running.port}.json")
    except OSError:
        return


def forget(running: Running, environ: Mapping[str, str]) -> None:
    """Remove the note, unless another server has the port by now."""
    folder = _folder(environ)
    if folder is not None and _read(folder / f"{running.port}.json") == running:
        (folder / f"{running.port}.json").unlink(missing_ok=True)


def on_port(port: int, environ: Mapping[str, str]) -> Running | None:
    """The living server that listens on this port, if it is one of this user's."""
    folder = _folder(environ)
    return None if folder is None else _alive(folder / f"{port}.json")


def of_data_dir(data_dir: Path, environ: Mapping[str, str]) -> Running | None:
    """The living server that has this data directory, if it is one of this user's."""
    wanted = str(data_dir.resolve())
    return next((running for running in _all(environ) if running.data_dir == wanted), None)


def _all(environ: Mapping[str, str]) -> Iterator[Running]:
    folder = _folder(environ)
    for path in sorted(folder.glob("*.json")) if folder is not None else ():
        running = _alive(path)
        if running is not None:
            yield running


def _folder(environ: Mapping[str, str]) -> Path | None:
    data_dir = find.data_dir(environ)
    return None if data_dir is None else Path(data_dir) / FOLDER


def _alive(path: Path) -> Running | None:
    running = _read(path)
    return running if running is not None and Owner(running.pid, running.start).is_alive() else None


def _read(path: Path) -> Running | None:
    """A note; None if it is not there or is not one: it helps, and nothing rests on it."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Running(
            int(fields["pid"]), int(fields["start"]), int(fields["port"]), str(fields["url"]), str(fields["data_dir"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
