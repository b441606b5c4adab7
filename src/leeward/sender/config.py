"""What one client is told: arguments first, then the environment, then the file. A frozen value, made once per `init`.

Promises  making it never raises: what cannot work gives a configuration that is off and says why in `problem`.
          The key appears in no `repr` and in no file name: `folder` holds its digest only.
"""

from __future__ import annotations

import os

from leeward.scrub.values import bounded_text
from leeward.sender import address
from leeward.sender.optout import is_true, opted_out
from leeward.settings import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final

__all__ = ["HOST_DEFAULT", "MODES", "WIRES", "Config", "configure"]

HOST_DEFAULT: Final = "http://127.0.0.1:5330"
MODES: Final = ("durable", "memory", "plain")
WIRES: Final = ("native", "posthog", "otlp")
POSTHOG_KEY: Final = "phc_"
APP_CHARS_MAX: Final = 100
KEY_CHARS_MAX: Final = 500


class Config:
    """See the module. `root` holds the spools of all destinations; empty without a disk to use."""

    __slots__ = (
        "_folder",
        "api_key",
        "app",
        "before_send",
        "debug",
        "device_id",
        "disabled",
        "explicit_root",
        "given",
        "host",
        "mode",
        "opted_out",
        "problem",
        "root",
        "sample_rate",
        "sample_rules",
        "watched",
        "wire",
    )

    _folder: str | None
    api_key: str
    host: str
    wire: str
    disabled: bool
    opted_out: bool  # by the person at this machine: what waits is deleted
    watched: bool  # nobody said `disabled=`: the person may still opt out while the program runs
    mode: str
    app: str
    root: str
    explicit_root: bool  # the caller's own choice, also of a network file system
    device_id: str | None  # None: the stored one; empty: none at all
    sample_rate: float
    sample_rules: Mapping[str, float] | None
    before_send: Callable[[dict[str, Any]], Any] | None
    debug: bool
    given: Mapping[str, Any]  # the arguments, for a child that looks at the environment anew
    problem: str

    def __init__(self, **fields: Any) -> None:
        for name, default in _DEFAULTS:
            object.__setattr__(self, name, fields.pop(name, default))
        if fields:
            raise TypeError(f"Config has no {', '.join(fields)}")
        object.__setattr__(self, "_folder", None)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Config is frozen: {name} cannot be set; call init() again")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Config is frozen: {name} cannot be deleted")

    def __repr__(self) -> str:
        key = "set" if self.api_key else "not set"
        host = repr(self.host) if self.usable else "?"
        return f"Config(host={host}, wire={self.wire!r}, api_key={key}, mode={self.mode!r}, disabled={self.disabled})"

    @property
    def usable(self) -> bool:
        """Whether there is somewhere to send to; if not, no switch can turn the client on."""
        return bool(self.api_key or self.wire == "otlp") and not self.problem

    @property
    def folder(self) -> str:
        """Where this destination's events wait, one for each wire, host, key and user; empty without a disk to use."""
        if self._folder is None:
            folder = f"{self.root}{os.sep}{_destination(self.wire, self.host, self.api_key)}" if self.root else ""
            object.__setattr__(self, "_folder", folder)
        return self._folder or ""


_DEFAULTS: Final[tuple[tuple[str, Any], ...]] = (
    ("api_key", ""),
    ("host", HOST_DEFAULT),
    ("wire", "native"),
    ("disabled", False),
    ("opted_out", False),
    ("watched", True),
    ("mode", "durable"),
    ("app", ""),
    ("root", ""),
    ("explicit_root", False),
    ("device_id", None),
    ("sample_rate", 1.0),
    ("sample_rules", None),
    ("before_send", None),
    ("debug", False),
    ("given", {}),
    ("problem", ""),
)


def configure(
    environ: Mapping[str, str],
    *,
    api_key: str | None = None,
    host: str | None = None,
    wire: str | None = None,
    sample_rate: float | None = None,
    sample_rules: Mapping[str, float] | None = None,
    disabled: bool | None = None,
    spool_dir: str | None = None,
    mode: str = "durable",
    app: str | None = None,
    device_id: str | bool | None = None,
    before_send: Callable[[dict[str, Any]], Any] | None = None,
) -> Config:
    """Arguments, else the environment, else `[client]` of the configuration file, else the default."""
    problem = ""
    given = {
        "api_key": api_key,
        "host": host,
        "wire": wire,
        "sample_rate": sample_rate,
        "sample_rules": sample_rules,
        "disabled": disabled,
        "spool_dir": spool_dir,
        "mode": mode,
        "app": app,
        "device_id": device_id,
        "before_send": before_send,
    }
    try:
        key = _text(api_key, environ.get("LEEWARD_API_KEY"))
        server = _text(host, environ.get("LEEWARD_HOST"), environ.get("TELEMETRY_API_URL"), HOST_DEFAULT).rstrip("/")
        chosen = wire or ("posthog" if key.startswith(POSTHOG_KEY) else "native")
        problem = _problem(key, server, mode, chosen, before_send)
        out = disabled is None and opted_out(environ)
        usable = bool(key or chosen == "otlp") and not problem
        root = _text(spool_dir, find.spool_dir(environ)) if mode == "durable" and usable else ""
        return Config(
            api_key=key,
            host=server,
            wire=chosen,
            disabled=out or bool(disabled) or not usable,
            opted_out=out,
            watched=disabled is None,
            mode=mode,
            app=_header_text(bounded_text(app)) if app else "",
            root=os.path.abspath(root) if root else "",  # a program may change its directory
            explicit_root=bool(spool_dir or environ.get("LEEWARD_SPOOL_DIR")),
            device_id="" if device_id is False else None if device_id in {None, True} else str(device_id),
            sample_rate=_rate(environ.get("LEEWARD_SAMPLE_RATE"), sample_rate),
            sample_rules=dict(sample_rules) if sample_rules else None,
            before_send=before_send,
            debug=is_true(environ.get("LEEWARD_DEBUG")),
            given=given,
            problem=problem,
        )
    except Exception as error:
        # Boundary: a wrong argument switches the client off; it does not end the program that passed it.
        return Config(disabled=True, problem=problem or f"the configuration cannot be read ({type(error).__name__})")


def _destination(wire: str, host: str, key: str) -> str:
    """The name of the spool's folder: one for each wire, host, key and user. The key cannot be read from it."""
    from hashlib import sha256  # brings OpenSSL; a client that is off does not need it

    key_digest = sha256(key.encode()).hexdigest()
    digest = sha256(f"{wire}\n{host}\n{key_digest}".encode()).hexdigest()
    return f"{wire}-{digest[:32]}-{os.getuid() if hasattr(os, 'getuid') else 0}"


def _text(*candidates: object) -> str:
    for candidate in candidates:
        if candidate:
            return str(candidate).strip()
    return ""


def _rate(said: str | None, given: object) -> float:
    """The argument, else what the environment says, else all; `sampling` says what is no rate."""
    from leeward.sender.sampling import rate_of

    return rate_of(said if given is None else given)


def _problem(key: str, host: str, mode: str, wire: str, before_send: object) -> str:
    """Why this cannot work, or empty. The key itself is never part of the sentence."""
    if mode not in MODES:
        return f"mode is {mode!r}; it can be {' or '.join(MODES)}"
    if wire not in WIRES:
        return f"wire is {wire!r}; it can be {' or '.join(WIRES)}"
    if before_send is not None and not callable(before_send):
        return "before_send cannot be called; it is a function that takes an event and returns it, or None"
    if len(key) > KEY_CHARS_MAX or not _is_header_text(key):
        return "api_key has characters that no key has"
    if "@" in host:
        return "host holds a user name; the key belongs into api_key"
    if not _is_header_text(host) or " " in host:
        return "host has characters that no address has; it begins with http:// or https:// and a name"
    try:
        address.parse(host)
    except ValueError as error:
        return f"host is none: {error}"  # it is not shown: keys are put into its place by mistake
    return ""


def _is_header_text(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _header_text(text: str) -> str:
    """`name/1.2` as it may stand in a header; other characters become a hyphen."""
    return "".join(c if c.isascii() and c.isprintable() else "-" for c in str(text)[:APP_CHARS_MAX]).strip()
