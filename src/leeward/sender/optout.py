"""Whether the person at this machine does not want telemetry: environment first, then `[client]` of the file.

Read when a client is configured, in a forked child, and by the worker before it sends: at most once a second. A file
that cannot be read is no consent: then the client stays as it is, or off if it was never on.
"""

from __future__ import annotations

from leeward.sender.loading import LOADING
from leeward.settings import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

__all__ = ["LOOK_EVERY_S", "Watch", "is_true", "is_wanted", "opted_out"]

TRUE: Final = frozenset({"1", "true", "yes", "on"})
FALSE: Final = frozenset({"", "0", "false", "no", "off"})
LOOK_EVERY_S: Final = 1.0


def is_true(text: str | None) -> bool:
    """Whether an environment variable says yes."""
    return text is not None and text.strip().lower() in TRUE


def is_wanted(text: str | None) -> bool:
    """Whether a switch that turns something off leaves it on: what is not clearly a no is a yes to being left alone."""
    return text is None or text.strip().lower() in FALSE


def opted_out(environ: Mapping[str, str]) -> bool:
    """Whether environment or file say so. Raises OSError or ValueError for a file that cannot be read."""
    if not is_wanted(environ.get("LEEWARD_DISABLED")) or not is_wanted(environ.get("DO_NOT_TRACK")):
        return True
    said = environ.get("LEEWARD_CLIENT__DISABLED")  # the file's `[client] disabled`, said in the environment
    if said:
        return not is_wanted(said)
    path = find.config_file(None, environ)
    if path is None:
        return False
    with LOADING:
        import tomllib  # only who has a file pays for it

    with open(path, "rb") as file:
        section = tomllib.load(file).get("client", {})
    return not is_wanted(str(section.get("disabled", False)))


class Watch:
    """Looks again while the client runs."""

    __slots__ = ("_environ", "_looked_at_s")

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._looked_at_s: float | None = None

    def says_stop(self, now_s: float) -> bool:
        """Whether the person has opted out by now; looks at most once a second."""
        if self._looked_at_s is not None and now_s - self._looked_at_s < LOOK_EVERY_S:
            return False
        self._looked_at_s = now_s
        try:
            return opted_out(self._environ)
        except (OSError, ValueError, AttributeError):
            return False  # half written, or no file of ours: looked at again in a second
