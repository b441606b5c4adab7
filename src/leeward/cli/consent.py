"""What says that the person at this machine wants no telemetry: `sender/optout` decides, here it gets a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from leeward.errors import ConfigError
from leeward.sender.optout import is_wanted, opted_out
from leeward.settings import find

__all__ = ["Off", "switched_off_by"]


class Off(NamedTuple):
    """What switches clients off, and how to take that back."""

    by: str
    fix: str


def switched_off_by(environ: Mapping[str, str]) -> Off | None:
    """The variable or the file that switches clients off; None if nothing does.

    Raises:
        ConfigError: the configuration file cannot be read, and a client that cannot read it is off.
    """
    path = find.config_file(None, environ)
    try:
        off = opted_out(environ)
    except (OSError, ValueError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no configuration"
        raise ConfigError(
            f"clients are off: their configuration file cannot be read: {reason.lower()}",
            where=str(path),
            fix="leeward config check says where it is wrong",
        ) from None
    if not off:
        return None
    for name in ("LEEWARD_DISABLED", "DO_NOT_TRACK", "LEEWARD_CLIENT__DISABLED"):
        if not is_wanted(environ.get(name)):
            return Off(name, f"unset {name}")
    return Off(f"disabled in [client] of {path}", f"take it out of {path}")
