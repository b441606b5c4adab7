"""Where things are on this platform: the configuration file, the server's data, the client's spool.

The first place that applies wins; only the environment that is passed in is read, and nothing is created.
Standard library only and as light as the interpreter's own start: the client imports it.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

__all__ = ["FILE_NAME", "config_dir", "config_file", "data_dir", "spool_dir"]

FILE_NAME: Final = "leeward.toml"
APP_NAME: Final = "leeward"


def config_file(option: str | None, environ: Mapping[str, str]) -> str | None:
    """The configuration file: `--config`, `$LEEWARD_CONFIG`, `./leeward.toml`, the user's configuration directory.

    A file that was named is given back whether it exists or not, so that a misspelt name is refused and not passed
    over; the other two only if they are there.
    """
    named = option or environ.get("LEEWARD_CONFIG")
    if named:
        return named
    if os.path.isfile(FILE_NAME):  # noqa: PTH113 - pathlib costs an import on the client's path
        return FILE_NAME
    folder = config_dir(environ)
    if folder is not None:
        path = os.path.join(folder, FILE_NAME)  # noqa: PTH118 - as above
        if os.path.isfile(path):  # noqa: PTH113 - as above
            return path
    return None


def config_dir(environ: Mapping[str, str], platform: str = sys.platform) -> str | None:
    """The user's configuration directory for leeward; None if this user has no home."""
    return _user_dir(environ, platform, "XDG_CONFIG_HOME", (".config",), "APPDATA")


def data_dir(environ: Mapping[str, str], platform: str = sys.platform) -> str | None:
    """The user's data directory for leeward, where the server keeps its log and store; None without a home."""
    return _user_dir(environ, platform, "XDG_DATA_HOME", (".local", "share"), "LOCALAPPDATA")


def spool_dir(environ: Mapping[str, str], platform: str = sys.platform) -> str | None:
    """The root of the client's spool: `$LEEWARD_SPOOL_DIR`, else in the user's state directory; None without a home."""
    named = environ.get("LEEWARD_SPOOL_DIR")
    if named:
        return named
    folder = _user_dir(environ, platform, "XDG_STATE_HOME", (".local", "state"), "LOCALAPPDATA")
    return None if folder is None else _join(platform, folder, "spool")


def _user_dir(
    environ: Mapping[str, str], platform: str, xdg: str, default: tuple[str, ...], windows: str
) -> str | None:
    """The folder for leeward in one of the user's directories, by the platform's convention. A relative path is no place."""
    if platform == "win32":
        base = environ.get(windows)
        return _join(platform, base, APP_NAME) if base else None
    base = environ.get(xdg)
    if base and base.startswith("/") and platform != "darwin":
        return _join(platform, base, APP_NAME)
    home = environ.get("HOME")
    if not home or not home.startswith("/"):
        return None
    folders = ("Library", "Application Support") if platform == "darwin" else default
    return _join(platform, home, *folders, APP_NAME)


def _join(platform: str, first: str, *rest: str) -> str:
    separator = "\\" if platform == "win32" else "/"
    return separator.join((first.rstrip(separator), *rest))
