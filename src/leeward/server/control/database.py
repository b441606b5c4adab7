"""The control database as the server sees it: its own thread, and calls that can be awaited.

Promises  SQLAlchemy is imported on that thread, once `start` is called, so the listening socket need not wait for it.
          `keys.find` and `session` look in memory only. A change holds from the moment its call returns.
Limits    One call at a time. Until `start` has finished, no key is known: do not answer 401 before that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from leeward.clock import SystemClock
from leeward.errors import ConfigError, Unavailable
from leeward.server.access import Identity, KeyRing, Session, Sessions
from leeward.server.control.values import Key, Project, Started
from leeward.server.quotas import UNLIMITED, Quota

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.server.control.records import Records

__all__ = ["Control", "open_offline"]

Answer = TypeVar("Answer")


class Control:
    """Keys, projects and sessions. `keys` and `sessions` may be asked from any thread, the rest be awaited."""

    def __init__(self, clock: Clock) -> None:
        self.keys = KeyRing()
        self.sessions = Sessions(clock)
        self._clock = clock
        self._records: Records | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="leeward-control")

    def start(self, data_dir: Path) -> Future[Started]:
        """Begin to open the database of this directory, migrated and with first keys where there are none.

        Returns at once; the future says what was done, or raises ConfigError.
        """
        return self._thread.submit(self._open, data_dir)

    def stop(self) -> None:
        """Finish what was asked and close the database. Nothing may be asked afterwards."""
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def session(self, cookie: str) -> Session | None:
        """Return the session of this cookie, or None when there is none or its time is over. Memory only."""
        return self.sessions.find(cookie)

    async def create_project(self, name: str) -> Project:
        """Make a project. Raises ProtocolError (400, 409) or Unavailable."""
        return await self._ask(lambda records: records.create_project(name))

    async def list_projects(self) -> list[Project]:
        """Return all projects, by number."""
        return await self._ask(lambda records: records.list_projects())

    async def create_key(self, project: int, scope: str, name: str, quota: Quota = UNLIMITED) -> tuple[Key, str]:
        """Make a key; return it and its token, which nobody can read again. Raises ProtocolError (400, 404)."""
        return await self._ask(lambda records: records.create_key(project, scope, name, quota))

    async def list_keys(self, project: int | None = None) -> list[Key]:
        """Return all keys, revoked ones as well, the oldest first; of one project if it is named."""
        return await self._ask(lambda records: records.list_keys(project))

    async def revoke_key(self, key_id: str) -> Key | None:
        """Revoke a key and end its sessions, from the next request on; None if there is no such key."""
        return await self._ask(lambda records: records.revoke_key(key_id))

    async def set_quota(self, key_id: str, change: Callable[[Quota], Quota]) -> Key | None:
        """Change how much a key may do, from the next request on; None if there is no such key."""
        return await self._ask(lambda records: records.set_quota(key_id, change))

    async def create_sign_in_link(self, project: int = 1, scope: str = "read") -> str:
        """Make the secret of a link that signs one browser in, once, within 15 minutes."""
        return await self._ask(lambda records: records.create_sign_in_link(project, scope))

    async def redeem(self, secret: str) -> str | None:
        """Use a link up and return the cookie of a new session; None if it is unknown, expired or used."""
        return await self._ask(lambda records: records.redeem(secret))

    async def sign_in(self, identity: Identity) -> str | None:
        """Return the cookie of a new session for the holder of a key; None if the key was revoked a moment ago."""
        return await self._ask(lambda records: records.sign_in(identity))

    async def end_session(self, cookie: str) -> None:
        """End a session; nothing happens if there is none."""
        await self._ask(lambda records: records.end_session(cookie))

    async def _ask(self, question: Callable[[Records], Answer]) -> Answer:
        return await asyncio.wrap_future(self._thread.submit(self._answer, question))

    # On the thread

    def _open(self, data_dir: Path) -> Started:
        from leeward.server.control.records import Records  # noqa: PLC0415  SQLAlchemy, after the socket is bound

        self._records = Records(data_dir, clock=self._clock, keys=self.keys, sessions=self.sessions)
        return self._records.started

    def _answer(self, question: Callable[[Records], Answer]) -> Answer:
        if self._records is None:
            raise Unavailable("The control database is not open.", retry_after_s=1)
        return question(self._records)

    def _close(self) -> None:
        if self._records is not None:
            self._records.close()
            self._records = None


def open_offline(data_dir: Path) -> Records:
    """Open the database of a server that is not running, on the caller's thread; a context manager, never a new one.

    Raises ConfigError when there is no database, or a server holds it.
    """
    from leeward.server.control.opening import FILE_NAME  # noqa: PLC0415  SQLAlchemy, for the one command that needs it
    from leeward.server.control.records import Records  # noqa: PLC0415

    path = data_dir / FILE_NAME
    if not path.exists():
        raise ConfigError(
            "There is no control database here.",
            code="control_missing",
            where=str(path),
            fix="leeward serve makes one; or name the right directory with --data-dir",
        )
    return Records(data_dir, clock=SystemClock(), wait_s=0.5)
