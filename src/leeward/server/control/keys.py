"""Projects and keys, as rows: the statements, each on the connection of whoever holds the transaction."""

from __future__ import annotations

import secrets
import string
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from leeward.server.access import Identity, digest
from leeward.server.control import tables
from leeward.server.control.values import Key, Project
from leeward.server.quotas import UNLIMITED, Quota

__all__ = [
    "insert_key",
    "insert_project",
    "is_empty",
    "is_valid",
    "project_exists",
    "revoke",
    "select_key",
    "select_keys",
    "select_projects",
    "set_quota",
    "valid",
]

_ID_ALPHABET: Final = string.ascii_lowercase + string.digits
_QUOTA_COLUMNS: Final = {  # and the quota's fields
    "events_per_minute_max": "per_minute",
    "events_per_day_max": "per_day",
    "requests_per_minute_max": "requests_per_minute",
    "tokens_per_day_max": "tokens_per_day",
    "usd_per_day_max": "usd_per_day",
}
_COLUMNS: Final = [column for column in tables.keys.columns if column.name != "sha256"]


def is_empty(connection: Connection) -> bool:
    """Say whether there has never been a key: the first start is not done."""
    return connection.execute(select(func.count()).select_from(tables.keys)).scalar_one() == 0


def insert_project(connection: Connection, name: str, now_ms: int) -> Project:
    """Add a project; the database gives it its number, from 1."""
    number = connection.execute(
        insert(tables.projects).values(name=name, created_at=now_ms).returning(tables.projects.c.id)
    ).scalar_one()
    return Project(number, name, now_ms)


def project_exists(connection: Connection, project: int) -> bool:
    """Say whether a project has this number."""
    return connection.execute(select(tables.projects.c.id).where(tables.projects.c.id == project)).first() is not None


def select_projects(connection: Connection) -> list[Project]:
    """Return all projects, by number."""
    return [Project(*row) for row in connection.execute(select(tables.projects).order_by(tables.projects.c.id))]


def insert_key(
    connection: Connection,
    project: int,
    scope: str,
    name: str,
    token: str,
    now_ms: int,
    quota: Quota = UNLIMITED,
) -> Key:
    """Add a key; of the token, its digest and its last four characters are kept."""
    identifier = "k_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(12))
    key = Key(identifier, project, name, scope, token[-4:], now_ms, None, quota)
    connection.execute(
        insert(tables.keys).values(
            id=key.id,
            project_id=project,
            name=name,
            scope=scope,
            sha256=digest(token),
            last4=key.last4,
            created_at=now_ms,
            **_limits(quota),
        )
    )
    return key


def select_keys(connection: Connection, project: int | None = None) -> list[Key]:
    """Return all keys, revoked ones as well, the oldest first; of one project if it is named."""
    statement = select(*_COLUMNS).order_by(tables.keys.c.created_at, tables.keys.c.id)
    if project is not None:
        statement = statement.where(tables.keys.c.project_id == project)
    return [_key(row) for row in connection.execute(statement)]


def valid(connection: Connection) -> list[tuple[bytes, Identity]]:
    """Return what a key ring holds: digest and holder of every key that is not revoked."""
    columns = tables.keys.c
    rows = connection.execute(
        select(
            columns.sha256,
            columns.project_id,
            columns.scope,
            columns.id,
            columns.last4,
            *(columns[name] for name in _QUOTA_COLUMNS),
        ).where(columns.revoked_at.is_(None))
    )
    return [(row.sha256, _identity(row)) for row in rows]


def is_valid(connection: Connection, key_id: str) -> bool:
    """Say whether there is such a key and nobody has revoked it."""
    columns = tables.keys.c
    held = select(columns.id).where(columns.id == key_id, columns.revoked_at.is_(None))
    return connection.execute(held).first() is not None


def revoke(connection: Connection, key_id: str, now_ms: int) -> Key | None:
    """Revoke a key and return it; a key that was revoked before keeps its time. None if there is no such key."""
    connection.execute(
        update(tables.keys)
        .where(tables.keys.c.id == key_id, tables.keys.c.revoked_at.is_(None))
        .values(revoked_at=now_ms)
    )
    return select_key(connection, key_id)


def set_quota(connection: Connection, key_id: str, quota: Quota) -> Key | None:
    """Give a key other limits and return it. None if there is no such key."""
    connection.execute(update(tables.keys).where(tables.keys.c.id == key_id).values(**_limits(quota)))
    return select_key(connection, key_id)


def select_key(connection: Connection, key_id: str) -> Key | None:
    """Return a key, valid or revoked; None if there is no such key."""
    row = connection.execute(select(*_COLUMNS).where(tables.keys.c.id == key_id)).first()
    return None if row is None else _key(row)


def _key(row: Row[tuple[object, ...]]) -> Key:
    return Key(row.id, row.project_id, row.name, row.scope, row.last4, row.created_at, row.revoked_at, _quota(row))


def _identity(row: Row[*tuple[Any, ...]]) -> Identity:
    quota = _quota(row)
    return Identity(row.project_id, row.scope, row.id, row.last4, None if quota == UNLIMITED else quota)


def _quota(row: Row[*tuple[Any, ...]]) -> Quota:
    return Quota(**{field: getattr(row, name) for name, field in _QUOTA_COLUMNS.items()})


def _limits(quota: Quota) -> dict[str, float | None]:
    """A quota as columns."""
    return {name: getattr(quota, field) for name, field in _QUOTA_COLUMNS.items()}
