"""This machine's random id for one user's telemetry: made once, kept in a file, forgotten on request.

Promises  nothing raises. The id says nothing about machine or person. `<root>/device-id` is 0600, appears whole or not at
          all, and is never read or written through a symbolic link; processes that start together agree on one id.
          Where it cannot be read or kept, this process has an id of its own in memory, and stays with it.
Limits    a file system without hard links cannot decide a race of first starts: the last one's id stays, and another
          may use its own until it ends. Calling this makes the folder and the file: whoever is opted out does not.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["DEVICE_ID_NAME", "device_id", "reset"]

DEVICE_ID_NAME: Final = "device-id"
ATTEMPTS_MAX: Final = 3  # each finds an id, or puts one where there was none
TEXT_BYTES_MAX: Final = 64

_READ: Final = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # Windows has neither
)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_remembered: dict[str, str] = {}  # by root: the ids that no file holds


def device_id(root: str) -> str:
    """The id kept under `root`, a new one if there is none. Without a root it is this process's own."""
    if root and root not in _remembered:
        try:
            return _kept(root)
        except (OSError, ValueError):  # ValueError: a path that no system can have
            return _remembered.setdefault(root, _new_id())
    return _remembered.setdefault(root, _new_id())


def reset(root: str) -> str:
    """Replace the id under `root` by a new one, from now on and for whoever comes later."""
    fresh = _new_id()
    if root:
        try:
            os.makedirs(root, 0o700, exist_ok=True)
            _replace(_written(root, fresh), os.path.join(root, DEVICE_ID_NAME))
        except (OSError, ValueError):
            _remembered[root] = fresh
        else:
            _remembered.pop(root, None)
    else:
        _remembered[root] = fresh
    return fresh


def _kept(root: str) -> str:
    path = os.path.join(root, DEVICE_ID_NAME)
    for _ in range(ATTEMPTS_MAX):
        found = _read(path)
        if found:
            return found
        if found is not None:
            _take_away(root, path)
        os.makedirs(root, 0o700, exist_ok=True)
        _publish(_written(root, _new_id()), path)
    raise FileExistsError(path)  # others write garbage as fast as we remove it


def _read(path: str) -> str | None:
    """The id in the file; empty if something else is there, None if nothing is."""
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError:
        if os.path.islink(path):
            return ""
        raise
    try:
        text = os.read(descriptor, TEXT_BYTES_MAX).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)
    return text if _is_id(text) else ""


def _take_away(root: str, path: str) -> None:
    """Remove what is no id. If another process put its id there in this moment, it is given back."""
    aside = _name_aside(root)
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return  # another process has removed it
    if _read(aside):
        _publish(aside, path)
    else:
        os.unlink(aside)


def _publish(aside: str, path: str) -> None:
    """Give the file its name, unless another has it already."""
    try:
        os.link(aside, path)
    except FileExistsError:
        pass  # another process was first: its id counts
    except (OSError, AttributeError):  # no hard links in this file system, or in this Python
        _replace(aside, path)
        return
    os.unlink(aside)


def _replace(aside: str, path: str) -> None:
    try:
        os.replace(aside, path)
    except OSError:
        os.unlink(aside)
        raise


def _written(root: str, text: str) -> str:
    """A new file with this id in it; its name."""
    aside = _name_aside(root)
    descriptor = os.open(aside, _CREATE, 0o600)
    try:
        os.write(descriptor, text.encode("ascii") + b"\n")
    except OSError:
        os.unlink(aside)
        raise
    finally:
        os.close(descriptor)
    return aside


def _name_aside(root: str) -> str:
    return os.path.join(root, f".{DEVICE_ID_NAME}-{os.urandom(8).hex()}")


def _new_id() -> str:
    """A random UUID (version 4); the module for it would cost more than the client."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return "-".join((raw[:4].hex(), raw[4:6].hex(), raw[6:8].hex(), raw[8:10].hex(), raw[10:].hex()))


def _is_id(text: str) -> bool:
    parts = text.split("-")
    return (
        [len(part) for part in parts] == [8, 4, 4, 4, 12]
        and all(character in "0123456789abcdef" for part in parts for character in part)
        and parts[2][0] == "4"
        and parts[3][0] in "89ab"
    )
