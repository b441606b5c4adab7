"""Where events go that the server refused as a whole: a file that a person can read, and can send again.

Format    one JSON line per event: {"cause": "http_400", "event": {…as it was sent…}}
          What is no JSON (protobuf): {"cause": "http_400", "base64": "…"}
Limits    `QUARANTINE_BYTES_MAX`; what comes after that is dropped and counted. 0600, never through a symbolic link.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

__all__ = ["QUARANTINE_BYTES_MAX", "QUARANTINE_NAME", "clear", "set_aside"]

QUARANTINE_NAME: Final = "set-aside.jsonl"
QUARANTINE_BYTES_MAX: Final = 16 * 1024 * 1024


def set_aside(folder: str, events: Sequence[bytes], cause: str, *, bytes_max: int = QUARANTINE_BYTES_MAX) -> bool:
    """Append the events to the folder's file. False if there is no room for them, or the disk did not take them all."""
    head = b'{"cause":"' + cause.encode("ascii") + b'",'
    lines = b"".join([head + _member(event) + b"}\n" for event in events])
    path = os.path.join(folder, QUARANTINE_NAME)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_size + len(lines) > bytes_max:
            return False
        return os.write(descriptor, lines) == len(lines)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _member(event: bytes) -> bytes:
    """The event as a member of its line's object. An encoded JSON event holds no line end; protobuf may."""
    if event.startswith(b"{"):
        return b'"event":' + event
    from binascii import b2a_base64

    return b'"base64":"' + b2a_base64(event, newline=False) + b'"'


def clear(folder: str) -> int:
    """Delete the folder's file; how many events were in it."""
    path = os.path.join(folder, QUARANTINE_NAME)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return 0
    lines = 0
    try:
        while piece := os.read(descriptor, 1 << 20):
            lines += piece.count(b"\n")
        os.unlink(path)
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    return lines
