"""Parts for the spool's tests: append to it, deliver from it, adopt it."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from leeward.journal.spool import LeftSpool, SpoolHome, SpoolReader, orphans

SMALL = {"first_bytes": 8192, "segment_bytes": 16384}
ALL = {"bytes_max": 1 << 30, "count_max": 1 << 20}

_sequences = count(1)


def put(home: SpoolHome, payload: bytes, *, is_error: bool = False, kind: int = 1) -> bool:
    """Append to one of the two lanes."""
    return (home.errors if is_error else home.rest).append(payload, kind, next(_sequences))


def rest_of(home: SpoolHome | LeftSpool) -> SpoolReader:
    """The reader of what is no error."""
    return home.readers[1]


def take(reader: SpoolReader, count_max: int = 1 << 20) -> list[bytes]:
    return reader.take(bytes_max=1 << 30, count_max=count_max).payloads


def drain(reader: SpoolReader, count_max: int = 7) -> list[bytes]:
    """Take and acknowledge until nothing is left."""
    got: list[bytes] = []
    while payloads := take(reader, count_max):
        got += payloads
        reader.acknowledge(len(payloads))
    return got


def adopted(root: str) -> list[bytes]:
    """Everything that dead processes left, errors of each first; it is removed."""
    got: list[bytes] = []
    for left in orphans(root):
        for reader in left.readers:
            got += drain(reader)
        left.finish()
    return got


def left_behind(root: str, payloads, **options) -> Path:
    """Give the rest lane's directory of a spool whose writer has let go of it."""
    home = SpoolHome.create(root, **(SMALL | options))
    for payload in payloads:
        assert put(home, payload)
    home.close()
    return Path(home.rest.directory)
