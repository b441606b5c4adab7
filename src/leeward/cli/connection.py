"""Which server a command talks to, and with which key: options, environment, the running server, settings, first keys.

Promises  a key that was found on this machine goes to the server that it belongs to, never to another address.
"""

from __future__ import annotations

import json
import shlex
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from leeward.cli import running
from leeward.cli.api import Api, checked_address
from leeward.errors import ConfigError, LeewardError
from leeward.settings import find

if TYPE_CHECKING:
    from leeward.settings.load import Loaded

__all__ = ["FIRST_KEYS", "SCOPES", "Target", "first_keys", "load_settings", "loopback", "target_of"]

FIRST_KEYS: Final = "first-keys.json"
SCOPES: Final = ("write", "read", "chat", "admin")
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked for, not bound


def load_settings(
    options: Mapping[str, Any], config: str | None, environ: Mapping[str, str], *, references: bool = True
) -> Loaded:
    """Settings from options, environment and file; `references`: secrets are read from where `env:` and `file:` say.

    Raises:
        ConfigError: something in them is wrong.
    """
    from leeward.settings.load import load

    return load(options, environ, find.config_file(config, environ), references=references)


class Target(NamedTuple):
    """A server and a key: its address, its data directory if that is on this machine; `named`: the address was given."""

    url: str
    data_dir: Path | None
    named: bool
    key: str
    key_origin: str

    def api(self, scope: str) -> Api:
        """The server with the key that was given, else with the first key of this scope.

        LEEWARD_API_KEY is the client's, which only writes: the first key of this scope takes over where it may not.

        Raises:
            LeewardError: there is no key, or the address is none.
        """
        checked_address(self.url)
        if self.key:
            spare = self.first_key(scope) if self.key_origin == "LEEWARD_API_KEY" else None
            return Api(self.url, self.key, self.key_origin, spare)
        keys = first_keys(self.data_dir) if self.data_dir is not None else {}
        if scope not in keys:
            fix = f"give one of scope {scope} with --key KEY or LEEWARD_API_KEY=KEY"
            if self.data_dir is not None and not self.data_dir.exists():
                fix = f"leeward serve starts a server here and makes keys; or {fix}"
            elif self.data_dir is not None:
                made = f"leeward keys create --scope admin --data-dir {shlex.quote(str(self.data_dir))}"
                fix += f"; where there is none, stop the server, then: {made}"
            raise LeewardError(
                f"there is no key for {self.url}",
                code="no_key",
                where=str(self.data_dir / FIRST_KEYS) if self.data_dir else "--key or LEEWARD_API_KEY",
                fix=fix,
            )
        return Api(self.url, keys[scope], str(self.data_dir / FIRST_KEYS) if self.data_dir else "")

    def first_key(self, scope: str) -> tuple[str, str] | None:
        """The first key of this scope and where it lies; none if it cannot be had: there is another key to try."""
        if self.data_dir is None:
            return None
        try:
            key = first_keys(self.data_dir).get(scope)
        except ConfigError:
            return None
        return None if key is None else (key, str(self.data_dir / FIRST_KEYS))


def target_of(
    *, host: str | None, key: str | None, data_dir: str | None, config: str | None, environ: Mapping[str, str]
) -> Target:
    """Decide. Nothing is asked over the network.

    An address that was given wins; else the running server of the data directory that was given; else the address in
    the settings. Keys of this machine are used for its own servers only.
    """
    given = host or environ.get("LEEWARD_HOST") or ""
    token, origin = (key, "--key") if key else (environ.get("LEEWARD_API_KEY", ""), "LEEWARD_API_KEY")
    try:
        loaded = load_settings({"server.data_dir": data_dir}, config, environ, references=False)
    except ModuleNotFoundError:
        if given and token:
            return Target(given, None, True, token, origin)  # a machine that only sends and asks
        raise
    server, named = loaded.settings.server, loaded.origins["server.data_dir"] != "default"
    own = Target(_url(server.host, server.port), Path(server.data_dir), False, token, origin)
    if given:
        return Target(given, _local_directory(given, own, named=named, environ=environ), True, token, origin)
    assert own.data_dir is not None
    found = running.of_data_dir(own.data_dir, environ) or (None if named else running.on_port(server.port, environ))
    return own if found is None else own._replace(url=found.url, data_dir=Path(found.data_dir))


def _local_directory(given: str, own: Target, *, named: bool, environ: Mapping[str, str]) -> Path | None:
    """The data directory behind an address that was given, if its server is one of this machine."""
    if given.rstrip("/") == own.url:
        found = None if named else running.on_port(_port(given), environ)
        return own.data_dir if found is None else Path(found.data_dir)
    if not loopback(given):
        return None
    found = running.on_port(_port(given), environ)
    return own.data_dir if named else Path(found.data_dir) if found is not None else None


def first_keys(data_dir: Path) -> dict[str, str]:
    """The keys that the first start left for the owner, by scope; empty once the file is deleted.

    Raises:
        ConfigError: the file is there and cannot be read.
    """
    path = data_dir / FIRST_KEYS
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {scope: str(token) for scope, token in document.items() if scope in SCOPES}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not what leeward wrote"
        raise ConfigError(
            f"the first keys cannot be read: {reason.lower()}",
            code="first_keys_unreadable",
            where=str(path),
            fix="give a key with --key or LEEWARD_API_KEY",
        ) from None


def loopback(url: str) -> bool:
    """Whether an address, or a bare host name, stays on this machine."""
    name = url
    if "//" in url:
        try:
            name = urllib.parse.urlsplit(url).hostname or ""
        except ValueError:
            return False
    return name in {"localhost", "::1"} or _is_loopback_v4(name)


def _is_loopback_v4(name: str) -> bool:
    parts = name.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(part.isdigit() and int(part) < 256 for part in parts)


def _port(url: str) -> int:
    parts = urllib.parse.urlsplit(url)
    try:
        return parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return 0


def _url(host: str, port: int) -> str:
    name = _ANYWHERE.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
