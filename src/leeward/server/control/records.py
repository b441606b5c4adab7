"""Everything that the control database can do, one call each, on the one thread that opened it.

Promises  What a call has returned is on stable storage, and in memory: `keys` and `sessions` hold all that is valid, and
          are changed after the commit and before the call returns, so that a revocation holds from the next request.
          The first keys are in the owner's file before they are committed; a start that was interrupted in between
          finds no keys and makes them anew.
Limits    1,000 sessions, each of 7 days; the oldest gives way. A one-time link is good for 15 minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from leeward.errors import ConfigError, ProtocolError, Unavailable
from leeward.server.access import SCOPES, Identity, KeyRing, Session, Sessions, digest, new_key, new_secret
from leeward.server.control import keys as key_rows, opening, sessions as session_rows
from leeward.server.control.first_keys import FIRST_KEYS, write_first_keys
from leeward.server.control.values import Key, Project, Started
from leeward.server.quotas import UNLIMITED, Quota

if TYPE_CHECKING:
    from leeward.clock import Clock

__all__ = ["LINK_MS", "SESSIONS_MAX", "SESSION_MS", "Records"]

DEFAULT_PROJECT: Final = "default"
NAME_LENGTH_MAX: Final = 200
LINK_MS: Final = 15 * 60 * 1000
SESSION_MS: Final = 7 * 24 * 60 * 60 * 1000
SESSIONS_MAX: Final = 1000
WAIT_S: Final = 5.0  # for another owner of the file to let go: `leeward keys` holds it for a moment


class Records:
    """The open control database. Every method belongs to the thread that made it; `keys` and `sessions` to all."""

    def __init__(
        self,
        data_dir: Path,
        *,
        clock: Clock,
        keys: KeyRing | None = None,
        sessions: Sessions | None = None,
        wait_s: float = WAIT_S,
    ) -> None:
        """Open the database of this data directory and fill `keys` and `sessions` from it. Raises ConfigError."""
        self._clock = clock
        self.keys = KeyRing() if keys is None else keys
        self.sessions = Sessions(clock) if sessions is None else sessions
        self._connection, backup = opening.open_file(data_dir, wait_s=wait_s)
        try:
            with self._change() as connection:
                first_keys = self._first_start(connection, data_dir) if key_rows.is_empty(connection) else None
                session_rows.delete_expired(connection, clock.wall_ms())
        except BaseException:
            self.close()
            raise
        self.started = Started(first_keys, backup)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; another process may then open it."""
        opening.close(self._connection)

    # Projects and keys

    def create_project(self, name: str) -> Project:
        """Make a project. Raises ProtocolError (400, 409) or Unavailable."""
        name = _checked_name(name)
        with self._transaction() as connection:
            if any(project.name == name for project in key_rows.select_projects(connection)):
                raise ProtocolError(f"There is a project {name!r} already.", code="exists", status=409)
            return key_rows.insert_project(connection, name, self._clock.wall_ms())

    def list_projects(self) -> list[Project]:
        """Return all projects, by number."""
        with self._transaction() as connection:
            return key_rows.select_projects(connection)

    def create_key(self, project: int, scope: str, name: str, quota: Quota = UNLIMITED) -> tuple[Key, str]:
        """Make a key; return it and its token, which nobody can read again. Raises ProtocolError or Unavailable."""
        name = _checked_name(name)
        _check_scope(scope)
        token = new_key()
        with self._change() as connection:
            _check_project(connection, project)
            return key_rows.insert_key(connection, project, scope, name, token, self._clock.wall_ms(), quota), token

    def list_keys(self, project: int | None = None) -> list[Key]:
        """Return all keys, revoked ones as well, the oldest first; of one project if it is named."""
        with self._transaction() as connection:
            return key_rows.select_keys(connection, project)

    def revoke_key(self, key_id: str) -> Key | None:
        """Revoke a key and end the sessions signed in with it; None if there is no such key. Raises Unavailable."""
        with self._change() as connection:
            session_rows.delete_sessions_of(connection, key_id)
            return key_rows.revoke(connection, key_id, self._clock.wall_ms())

    def set_quota(self, key_id: str, change: Callable[[Quota], Quota]) -> Key | None:
        """Change how much a key may do; None if there is no such key. Raises Unavailable."""
        with self._change() as connection:
            key = key_rows.select_key(connection, key_id)
            return key and key_rows.set_quota(connection, key_id, change(key.quota))

    # Signing in

    def create_sign_in_link(self, project: int, scope: str) -> str:
        """Make the secret of a link that signs a browser in once. Raises ProtocolError or Unavailable."""
        _check_scope(scope)
        secret = new_secret()
        now_ms = self._clock.wall_ms()
        with self._transaction() as connection:
            _check_project(connection, project)
            session_rows.delete_expired(connection, now_ms)
            session_rows.insert_link(connection, digest(secret), project, scope, now_ms + LINK_MS)
        return secret

    def redeem(self, secret: str) -> str | None:
        """Use a link up and return the cookie of a new session; None if it is unknown, expired or used."""
        with self._change() as connection:
            link = session_rows.use_link(connection, digest(secret), self._clock.wall_ms())
            return None if link is None else self._new_session(connection, *link, key_id="")

    def sign_in(self, identity: Identity) -> str | None:
        """Return the cookie of a new session for the holder of a key; None if the key was revoked a moment ago."""
        with self._change() as connection:
            if not key_rows.is_valid(connection, identity.key_id):
                return None
            return self._new_session(connection, identity.project, identity.scope, key_id=identity.key_id)

    def end_session(self, cookie: str) -> None:
        """End a session; nothing happens if there is none. Raises Unavailable."""
        with self._change() as connection:
            session_rows.delete_session(connection, digest(cookie))

    # Inside

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._connection.begin():
                yield self._connection
        except DBAPIError as error:
            raise Unavailable(f"The control database cannot do this now: {error.orig}.") from error
        finally:
            opening.abandon_rest(self._connection)

    @contextmanager
    def _change(self) -> Iterator[Connection]:
        """A transaction on what is also held in memory: once it is committed, memory says the same."""
        with self._transaction() as connection:
            yield connection
            valid, live = key_rows.valid(connection), session_rows.live(connection)
        self.keys.replace(valid)
        self.sessions.replace(live)

    def _new_session(self, connection: Connection, project: int, scope: str, *, key_id: str) -> str:
        cookie = new_secret()
        now_ms = self._clock.wall_ms()
        session = Session(project, scope, key_id, now_ms, now_ms + SESSION_MS)
        session_rows.insert_session(connection, digest(cookie), session)
        session_rows.delete_beyond(connection, SESSIONS_MAX)
        return cookie

    def _first_start(self, connection: Connection, data_dir: Path) -> Path:
        """Make the first project with a key per scope; the file with the keys comes before the commit."""
        now_ms = self._clock.wall_ms()
        project = key_rows.insert_project(connection, DEFAULT_PROJECT, now_ms)
        tokens = {scope: new_key() for scope in SCOPES}
        for scope, token in tokens.items():
            key_rows.insert_key(connection, project.id, scope, f"first {scope} key", token, now_ms)
        try:
            return write_first_keys(data_dir, project.name, tokens)
        except OSError as error:
            raise ConfigError(
                f"The first keys cannot be written: {error.strerror}.",
                code="first_keys_unwritable",
                where=str(data_dir / FIRST_KEYS),
                fix="make room, or choose another data directory with --data-dir",
            ) from error


def _checked_name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        raise ProtocolError(
            f"A name is 1 to {NAME_LENGTH_MAX} printable characters.",
            code="invalid_name",
            details=(f"got {len(name)}",),
        )
    return name


def _check_scope(scope: str) -> None:
    if scope not in SCOPES:
        raise ProtocolError(f"There is no scope {scope[:40]!r}. Known: {', '.join(SCOPES)}.", code="invalid_scope")


def _check_project(connection: Connection, project: int) -> None:
    if not key_rows.project_exists(connection, project):
        raise ProtocolError(f"There is no project {project}.", code="unknown_project", status=404)
