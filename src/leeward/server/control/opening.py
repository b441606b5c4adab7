"""Opens the control database's file: modes, pragmas, and a migration when one is due.

Promises  One owner: the file is locked for as long as the connection lives, against any other process and within this
          one, so what is held in memory cannot go stale. A commit is on stable storage (WAL, synchronous=FULL).
          The file is readable by its owner only. A migration is one transaction: interrupted, it has not happened and
          the next start repeats it; before it touches a database that is in use, a copy is put beside it.
          A database that a newer leeward wrote is refused, unchanged.
Limits    The copy of a revision replaces an earlier copy of the same revision. Alembic is imported only for a migration.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from leeward.errors import ConfigError
from leeward.server.control.first_keys import sync_directory
from leeward.server.control.tables import HEAD

__all__ = ["FILE_NAME", "Opened", "abandon_rest", "close", "open_file"]

FILE_NAME: Final = "control.db"

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_PRAGMAS: Final = (
    "PRAGMA locking_mode = EXCLUSIVE",  # before WAL: then the lock is taken when WAL is opened, and never given back
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
)


class Opened(NamedTuple):
    """An open database, and the copy that was made if it had to be migrated."""

    connection: Connection
    backup: Path | None


def open_file(data_dir: Path, *, wait_s: float, migrations: Path = _MIGRATIONS, head: str = HEAD) -> Opened:
    """Open `control.db` in this directory, made if missing, and bring it to `head`. Raises ConfigError.

    Waits up to `wait_s` seconds for another owner to let go.
    """
    path = data_dir / FILE_NAME
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(path)
        connection = _connect(path, wait_s)
    except (OSError, sqlite3.Error, DBAPIError) as error:
        _refuse(path, error)
    try:
        return Opened(connection, _migrate(connection, path, migrations, head))
    except (OSError, sqlite3.Error, DBAPIError) as error:
        close(connection)
        _refuse(path, error)
    except BaseException:
        close(connection)
        raise


def close(connection: Connection) -> None:
    """Close the one connection, which gives the file free."""
    connection.close()
    connection.engine.dispose()


def abandon_rest(connection: Connection) -> None:
    """Roll back what a failed COMMIT left open: SQLAlchemy takes such a transaction for ended, SQLite may not."""
    _driver(connection).rollback()


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _make_private(path: Path) -> None:
    """Make the file, or take others' rights from it, before SQLite opens it: its log takes over the file's mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    path.chmod(0o600)


def _connect(path: Path, wait_s: float) -> Connection:
    def connect() -> sqlite3.Connection:
        raw = sqlite3.connect(path, timeout=wait_s, isolation_level=None)
        try:
            for pragma in _PRAGMAS:
                raw.execute(pragma).close()
        except BaseException:
            raw.close()
            raise
        return raw

    engine = create_engine("sqlite://", creator=connect, poolclass=StaticPool)

    # The driver is told to leave transactions alone (isolation_level=None), because of its own it would begin none
    # before DDL; so each one begins here.
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine.connect()


def _migrate(connection: Connection, path: Path, migrations: Path, head: str) -> Path | None:
    """Bring the database to `head` if it is not there; return the copy made before, if there was anything to copy."""
    stored = _revision(connection)
    if stored == head:
        return None

    from alembic import command  # noqa: PLC0415  0.2 s and 12 MB that only a migration is worth
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    backup = None
    if stored is not None:
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if stored not in known:
            raise ConfigError(
                f"The control database was written by a newer leeward: its revision is {stored}, this one knows {head}.",
                code="control_newer",
                where=str(path),
                fix="install the newer leeward again, or restore a backup",
            )
        backup = _copy(connection, path, stored)
    command.upgrade(config, "head")
    return backup


def _revision(connection: Connection) -> str | None:
    """Return the revision that the database is at; None when it is new."""
    with connection.begin():
        known = connection.execute(
            text("SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'")
        ).scalar_one()
        if not known:
            return None
        revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return revision


def _copy(connection: Connection, path: Path, revision: str) -> Path:
    """Put a whole, synced copy of the database beside it. SQLite writes it: opening the file to copy it would, at its
    closing, drop the lock that this process holds on it.
    """
    backup = path.with_name(f"control-backup-{revision}.db")
    aside = backup.with_suffix(".db.new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        _driver(connection).execute("VACUUM INTO ?", (str(aside),)).close()
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    aside.replace(backup)
    sync_directory(path.parent)
    return backup


def _refuse(path: Path, error: OSError | sqlite3.Error | DBAPIError) -> NoReturn:
    """Say why the database cannot be opened, in the terms of whoever has to do something about it."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
        raise ConfigError(
            "The control database is in use by another leeward.",
            code="control_held",
            where=str(path),
            fix="stop the server that uses this data directory, or ask it over HTTP",
        ) from error
    reason = cause.strerror if isinstance(cause, OSError) else cause
    raise ConfigError(
        f"The control database cannot be opened: {reason}.",
        code="control_unreadable",
        where=str(path),
        fix="check the disk and the file's owner; restore a backup, or move the file aside to begin with new keys",
    ) from error
