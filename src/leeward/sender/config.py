"""What one client is told: arguments first, then the environment, then the file. A frozen value, made once per `init`.

Promises  making it never raises: what cannot work gives a configuration that is off and says why in `problem`.
          The key appears in no `repr` and in no file name: `folder` holds its digest only.
"""

from __future__ import annotations

import os

from leeward.settings import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

__all__ = ["HOST_DEFAULT", "MODES", "VERSION", "Config", "configure"]

VERSION: Final = "0.1.0"
HOST_DEFAULT: Final = "http://127.0.0.1:5330"
MODES: Final = ("durable", "memory")
WIRE: Final = "native"
TRUE: Final = frozenset({"1", "true", "yes", "on"})
APP_CHARS_MAX: Final = 100
KEY_CHARS_MAX: Final = 500


class Config:
    """See the module. `folder` is where this destination's events wait; empty in memory mode, or without a place."""

    __slots__ = ("api_key", "app", "debug", "disabled", "folder", "host", "mode", "problem")

    api_key: str
    host: str
    disabled: bool
    mode: str
    app: str
    folder: str
    debug: bool
    problem: str

    def __init__(
        self,
        *,
        api_key: str = "",
        host: str = HOST_DEFAULT,
        disabled: bool = False,
        mode: str = "durable",
        app: str = "",
        folder: str = "",
        debug: bool = False,
        problem: str = "",
    ) -> None:
        for name, value in (
            ("api_key", api_key),
            ("host", host),
            ("disabled", disabled),
            ("mode", mode),
            ("app", app),
            ("folder", folder),
            ("debug", debug),
            ("problem", problem),
        ):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Config is frozen: {name} cannot be set; call init() again")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Config is frozen: {name} cannot be deleted")

    def __repr__(self) -> str:
        key = "set" if self.api_key else "not set"
        return f"Config(host={self.host!r}, api_key={key}, mode={self.mode!r}, disabled={self.disabled})"

    @property
    def usable(self) -> bool:
        """Whether there is somewhere to send to; if not, no switch can turn the client on."""
        return bool(self.api_key) and not self.problem


def configure(
    environ: Mapping[str, str],
    *,
    api_key: str | None = None,
    host: str | None = None,
    disabled: bool | None = None,
    spool_dir: str | None = None,
    mode: str = "durable",
    app: str | None = None,
) -> Config:
    """Arguments, else the environment, else `[client]` of the configuration file, else the default."""
    problem = ""
    try:
        key = _text(api_key, environ.get("LEEWARD_API_KEY"))
        address = _text(host, environ.get("LEEWARD_HOST"), environ.get("TELEMETRY_API_URL"), HOST_DEFAULT).rstrip("/")
        problem = _problem(key, address, mode)
        off = not key or bool(problem) or (_opted_out(environ) if disabled is None else bool(disabled))
        root = _text(spool_dir, find.spool_dir(environ)) if mode == "durable" and key and not problem else ""
        return Config(
            api_key=key,
            host=address,
            disabled=off,
            mode=mode,
            app=_header_text(app or ""),
            folder=f"{root}{os.sep}{_destination(address, key)}" if root else "",
            debug=_is_true(environ.get("LEEWARD_DEBUG")),
            problem=problem,
        )
    except Exception as error:
        # Boundary: a wrong argument switches the client off; it does not end the program that passed it.
        return Config(disabled=True, problem=problem or f"the configuration cannot be read ({type(error).__name__})")


def _destination(host: str, key: str) -> str:
    """The name of the spool's folder: one for each wire, host, key and user. The key cannot be read from it."""
    from hashlib import sha256  # brings OpenSSL; a client without a key does not need it

    key_digest = sha256(key.encode()).hexdigest()
    digest = sha256(f"{WIRE}\n{host}\n{key_digest}".encode()).hexdigest()
    return f"{WIRE}-{digest[:32]}-{os.getuid() if hasattr(os, 'getuid') else 0}"


def _text(*candidates: object) -> str:
    for candidate in candidates:
        if candidate:
            return str(candidate).strip()
    return ""


def _problem(key: str, host: str, mode: str) -> str:
    """Why this cannot work, or empty. The key itself is never part of the sentence."""
    if mode not in MODES:
        return f"mode is {mode!r}; it can be {' or '.join(MODES)}"
    if len(key) > KEY_CHARS_MAX or not _is_header_text(key):
        return "api_key has characters that no key has"
    scheme, separator, rest = host.partition("://")
    if scheme.lower() not in {"http", "https"} or not separator or not rest or not _is_header_text(rest) or " " in rest:
        return f"host is {host[:100]!r}; it begins with http:// or https:// and a name"
    if "@" in rest:
        return "host holds a user name; the key belongs into api_key"
    return ""


def _opted_out(environ: Mapping[str, str]) -> bool:
    if _is_true(environ.get("LEEWARD_DISABLED")) or _is_true(environ.get("DO_NOT_TRACK")):
        return True
    said = environ.get("LEEWARD_CLIENT__DISABLED")  # the file's `[client] disabled`, said in the environment
    if said:
        return _is_true(said)
    path = find.config_file(None, environ)
    if path is None:
        return False
    import tomllib  # only who has a file pays for it

    with open(path, "rb") as file:
        section = tomllib.load(file).get("client", {})
    return section.get("disabled", False) is True


def _is_true(text: str | None) -> bool:
    return text is not None and text.strip().lower() in TRUE


def _is_header_text(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _header_text(text: str) -> str:
    """`name/1.2` as it may stand in a header; other characters become a hyphen."""
    return "".join(c if c.isascii() and c.isprintable() else "-" for c in str(text)[:APP_CHARS_MAX]).strip()
